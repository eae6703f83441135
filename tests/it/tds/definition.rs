//! CREATE, ALTER and DROP, read into statements.

use sqlparser::tokenizer::Token;

use super::catalogue::Collation;
use super::error::{Outcome, SqlError, strict};
use super::statement::{Constraint, NewColumn, Rule, Statement, Words, literal_text};

impl Words<'_> {
    pub(super) fn create(&mut self) -> Outcome<Statement> {
        self.need("CREATE")?;
        match self.peek(0).as_str() {
            "TABLE" => self.create_table(),
            "VIEW" => self.create_view(),
            "SCHEMA" => {
                self.need("SCHEMA")?;
                let name = self.name()?;
                if self.take("AUTHORIZATION") {
                    self.name()?;
                }
                Ok(Statement::CreateSchema(name))
            }
            "ROLE" => Ok(self.permission()),
            "TRIGGER" => self.create_trigger(),
            "OR" => Err(strict("CREATE OR ALTER: the open server refuses it")),
            "UNIQUE" | "INDEX" | "CLUSTERED" | "NONCLUSTERED" => self.create_index(),
            _ => Err(self.unexpected("something that can be created")),
        }
    }

    fn create_table(&mut self) -> Outcome<Statement> {
        self.need("TABLE")?;
        let table = self.object()?;
        let (mut columns, mut constraints) = (Vec::new(), Vec::new());
        self.list(|words| match words.peek(0).as_str() {
            "CONSTRAINT" | "PRIMARY" | "UNIQUE" | "CHECK" | "FOREIGN" => {
                constraints.push(words.constraint(None)?);
                Ok(())
            }
            _ => {
                let (column, own) = words.column()?;
                columns.push(column);
                constraints.extend(own);
                Ok(())
            }
        })?;
        Ok(Statement::CreateTable { table, columns, constraints })
    }

    fn column(&mut self) -> Outcome<(NewColumn, Vec<Constraint>)> {
        let name = self.name()?;
        let kind = self.kind()?;
        let collation = if self.take("COLLATE") { Collation::parse(&self.name()?)? } else { Collation::Default };
        let mut column = NewColumn { name, kind, nullable: None, identity: false, collation, default: None };
        let mut constraints = Vec::new();
        loop {
            if self.take("NOT NULL") {
                column.nullable = Some(false);
            } else if self.take("NULL") {
                column.nullable = Some(true);
            } else if self.take("IDENTITY") {
                let one = |words: &mut Self| Ok(words.0.parse_literal_uint()?);
                if self.0.peek_token_ref().token == Token::LParen && self.list(one)? != [1, 1] {
                    return Err(strict("IDENTITY that does not count 1, 2, 3"));
                }
                column.identity = true;
            } else if self.take("DEFAULT") || self.named_default() {
                column.default = Some(self.expression()?);
            } else if matches!(self.peek(0).as_str(), "CONSTRAINT" | "PRIMARY" | "UNIQUE" | "CHECK" | "REFERENCES") {
                constraints.push(self.constraint(Some(&column.name))?);
            } else {
                return Ok((column, constraints));
            }
        }
    }

    fn named_default(&mut self) -> bool {
        let named = self.peek(0) == "CONSTRAINT" && self.peek(2) == "DEFAULT";
        if named {
            (0..3).for_each(|_| self.0.advance_token());
        }
        named
    }

    /// A constraint of a table, or of the column that it stands behind.
    fn constraint(&mut self, column: Option<&str>) -> Outcome<Constraint> {
        let name = if self.take("CONSTRAINT") { Some(self.name()?) } else { None };
        let rule = if self.take("PRIMARY KEY") {
            Rule::Primary(self.key(column)?)
        } else if self.take("UNIQUE") {
            Rule::Unique(self.key(column)?)
        } else if self.take("CHECK") {
            self.expect(&Token::LParen)?;
            let check = self.expression()?;
            self.expect(&Token::RParen)?;
            Rule::Check(Box::new(check))
        } else {
            let columns = match column {
                Some(column) => vec![column.to_owned()],
                None => {
                    self.need("FOREIGN KEY")?;
                    self.list(Self::name)?
                }
            };
            self.need("REFERENCES")?;
            let table = self.object()?;
            let refers = self.list(Self::name)?;
            let cascade = self.take("ON DELETE CASCADE");
            Rule::Foreign { columns, table, refers, cascade }
        };
        Ok(Constraint { name, rule })
    }

    fn key(&mut self, column: Option<&str>) -> Outcome<Vec<String>> {
        let _ = self.take("CLUSTERED") || self.take("NONCLUSTERED");
        match column {
            Some(column) => Ok(vec![column.to_owned()]),
            None => Ok(self.list(Self::ordered)?.into_iter().map(|(name, _)| name).collect()),
        }
    }

    /// A column of an index: its name, and whether it is descending.
    fn ordered(&mut self) -> Outcome<(String, bool)> {
        let name = self.name()?;
        let descending = self.take("DESC");
        if !descending {
            self.take("ASC");
        }
        Ok((name, descending))
    }

    fn create_index(&mut self) -> Outcome<Statement> {
        let unique = self.take("UNIQUE");
        let _ = self.take("CLUSTERED") || self.take("NONCLUSTERED");
        self.need("INDEX")?;
        let name = self.name()?;
        self.need("ON")?;
        let table = self.object()?;
        let columns = self.list(Self::ordered)?;
        let include = if self.take("INCLUDE") { self.list(Self::name)? } else { Vec::new() };
        let condition = if self.take("WHERE") { Some(self.expression()?) } else { None };
        Ok(Statement::CreateIndex { name, table, unique, columns, include, condition })
    }

    fn create_view(&mut self) -> Outcome<Statement> {
        self.need("VIEW")?;
        let view = self.object()?;
        let columns = if self.0.peek_token_ref().token == Token::LParen { self.list(Self::name)? } else { Vec::new() };
        self.need("AS")?;
        Ok(Statement::CreateView { view, columns, query: self.0.parse_query()? })
    }

    fn create_trigger(&mut self) -> Outcome<Statement> {
        self.need("TRIGGER")?;
        let name = self.object()?.name;
        self.need("ON")?;
        let table = self.object()?;
        self.need("AFTER")?;
        let events = self.commas(|words| match words.name()?.to_ascii_uppercase() {
            event if matches!(event.as_str(), "INSERT" | "UPDATE" | "DELETE") => Ok(event),
            event => Err(strict(format!("a trigger AFTER {event}"))),
        })?;
        self.need("AS")?;
        let Statement::Block(body) = self.statement()? else { return Err(strict("a trigger without BEGIN and END")) };
        let (condition, thrown) = match body.as_slice() {
            [Statement::Throw(thrown)] => (None, thrown),
            [Statement::If { condition, then, otherwise }] if otherwise.is_empty() && events == ["DELETE"] => match then.as_slice()
            {
                [Statement::Block(inside)] => match inside.as_slice() {
                    [Statement::Throw(thrown)] => (Some(condition.clone()), thrown),
                    _ => return Err(strict("a trigger that does more than THROW")),
                },
                _ => return Err(strict("a trigger that does more than THROW")),
            },
            _ => return Err(strict("a trigger that does more than THROW")),
        };
        let [number, message, _] = &**thrown;
        let message = literal_text(message).ok_or_else(|| strict("THROW of what is no literal"))?.to_owned();
        Ok(Statement::CreateTrigger { name, table, events, condition, number: number.to_string(), message })
    }

    pub(super) fn alter(&mut self) -> Outcome<Statement> {
        self.need("ALTER")?;
        if self.peek(0) == "ROLE" {
            return Ok(self.permission());
        }
        self.need("TABLE")?;
        let table = self.object()?;
        if self.take("ALTER COLUMN") {
            let (column, constraints) = self.column()?;
            let stated = column.nullable.is_some() && column.default.is_none() && !column.identity && constraints.is_empty();
            return match stated {
                true => Ok(Statement::AlterColumn { table, column }),
                false => Err(strict("ALTER COLUMN without NULL or NOT NULL (a setting would decide), or with more than its type")),
            };
        }
        self.need("ADD")?;
        let (column, constraints) = self.column()?;
        Ok(Statement::AddColumn { table, column, constraints })
    }

    pub(super) fn drop(&mut self) -> Outcome<Statement> {
        self.need("DROP")?;
        let what = self.peek(0);
        self.0.advance_token();
        if what == "ROLE" {
            return Ok(self.permission());
        }
        let if_exists = self.take("IF EXISTS");
        match what.as_str() {
            "TABLE" | "VIEW" => {
                let mut tables = vec![self.object()?];
                while self.0.consume_token(&Token::Comma) {
                    tables.push(self.object()?);
                }
                Ok(Statement::DropTables { tables, kind: if what == "TABLE" { 'U' } else { 'V' }, if_exists })
            }
            "TRIGGER" if !if_exists => Ok(Statement::DropTrigger(self.object()?.name)),
            "SCHEMA" => Ok(Statement::DropSchema { name: self.name()?, if_exists }),
            "INDEX" if !if_exists => {
                let name = self.name()?;
                self.need("ON")?;
                Ok(Statement::DropIndex { name, table: self.object()? })
            }
            _ => Err(SqlError::new(50_999, 16, format!("test server: DROP {what} is not understood"))),
        }
    }
}
