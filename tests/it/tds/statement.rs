//! A batch, read into statements. Statements are read here, word by word; expressions and queries by `sqlparser`. What is not
//! written down here is an error.

use sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, TableWithJoins, Value};
use sqlparser::dialect::MsSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::catalogue::ObjectName;
use super::error::{Outcome, SqlError, strict};
use super::types::Type;

pub(super) use super::tree::{Constraint, NewColumn, Rule, Setting, Settings, Statement, Update};

/// Reads a whole batch. Nothing of it runs if a word of it is not understood.
pub(super) fn parse_batch(sql: &str) -> Outcome<Vec<Statement>> {
    let mut words = Words::read(sql)?;
    let mut statements = Vec::new();
    loop {
        while words.0.consume_token(&Token::SemiColon) {}
        if words.0.peek_token_ref().token == Token::EOF {
            break;
        }
        statements.push(words.statement()?);
    }
    let alone = |statement: &Statement| {
        matches!(statement, Statement::CreateView { .. } | Statement::CreateSchema(_) | Statement::CreateTrigger { .. })
    };
    if statements.len() > 1 && statements.iter().any(alone) {
        return Err(SqlError::new(111, 15, "'CREATE VIEW/SCHEMA/TRIGGER' must be the first statement in a query batch."));
    }
    Ok(statements)
}

/// Reads `@P1 nvarchar(4000),@P2 int`.
pub(super) fn parse_parameters(text: &str) -> Outcome<Vec<(String, Type)>> {
    let mut words = Words::read(text)?;
    let mut parameters = Vec::new();
    while words.0.peek_token_ref().token != Token::EOF {
        if !parameters.is_empty() {
            words.expect(&Token::Comma)?;
        }
        parameters.push((words.name()?, words.kind()?));
    }
    Ok(parameters)
}

pub(super) struct Words<'a>(pub(super) Parser<'a>);

impl Words<'_> {
    /// `sqlparser` takes no variable after FETCH NEXT, but a placeholder.
    fn read(sql: &str) -> Outcome<Self> {
        let tokens = Tokenizer::new(&MsSqlDialect {}, sql).tokenize_with_location();
        let mut tokens = tokens.map_err(|error| strict(format!("cannot read: {error}")))?;
        tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
        let word = |token: &TokenWithSpan| match &token.token {
            Token::Word(word) => word.value.to_ascii_uppercase(),
            _ => String::new(),
        };
        for place in 2..tokens.len() {
            let after_fetch = word(&tokens[place - 2]) == "FETCH" && matches!(word(&tokens[place - 1]).as_str(), "NEXT" | "FIRST");
            if let Token::Word(variable) = &tokens[place].token
                && after_fetch
                && variable.value.starts_with('@')
            {
                tokens[place].token = Token::Placeholder(variable.value.clone());
            }
        }
        Ok(Self(Parser::new(&MsSqlDialect {}).with_tokens_with_locations(tokens)))
    }

    /// The next word without quotes, in upper case.
    pub(super) fn peek(&self, place: usize) -> String {
        match &self.0.peek_nth_token_ref(place).token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    /// Takes these words, if they all come next.
    pub(super) fn take(&mut self, words: &str) -> bool {
        let count = words.split(' ').count();
        let all = words.split(' ').enumerate().all(|(place, word)| self.peek(place) == word);
        if all {
            (0..count).for_each(|_| self.0.advance_token());
        }
        all
    }

    pub(super) fn need(&mut self, words: &str) -> Outcome<()> {
        if self.take(words) { Ok(()) } else { Err(self.unexpected(words)) }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> SqlError {
        strict(format!("cannot parse: expected {wanted}, found {}", self.0.peek_token_ref()))
    }

    pub(super) fn expect(&mut self, token: &Token) -> Outcome<()> {
        Ok(self.0.expect_token(token).map(drop)?)
    }

    pub(super) fn name(&mut self) -> Outcome<String> {
        Ok(self.0.parse_identifier()?.value)
    }

    pub(super) fn object(&mut self) -> Outcome<ObjectName> {
        object_name(&self.0.parse_object_name(false)?)
    }

    pub(super) fn expression(&mut self) -> Outcome<Expr> {
        Ok(self.0.parse_expr()?)
    }

    pub(super) fn kind(&mut self) -> Outcome<Type> {
        Type::parse(&self.0.parse_data_type()?.to_string())
    }

    /// A list in parentheses.
    pub(super) fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        self.expect(&Token::LParen)?;
        let mut all = vec![one(self)?];
        while self.0.consume_token(&Token::Comma) {
            all.push(one(self)?);
        }
        self.expect(&Token::RParen)?;
        Ok(all)
    }

    pub(super) fn commas<T>(&mut self, mut one: impl FnMut(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.0.consume_token(&Token::Comma) {
            all.push(one(self)?);
        }
        Ok(all)
    }

    pub(super) fn statement(&mut self) -> Outcome<Statement> {
        let first = self.peek(0);
        match first.as_str() {
            "SELECT" => self.select(),
            "WITH" => Ok(Statement::Query(self.0.parse_query()?)),
            "INSERT" => self.insert(),
            "UPDATE" => self.update(),
            "DELETE" => self.delete(),
            "CREATE" => self.create(),
            "ALTER" => self.alter(),
            "DROP" => self.drop(),
            "IF" => self.branch(),
            "BEGIN" => self.begin(),
            "DECLARE" => self.declare(),
            "SET" => self.set(),
            "EXEC" | "EXECUTE" => self.execute(),
            "THROW" => self.throw(),
            "COMMIT" | "ROLLBACK" => {
                self.0.advance_token();
                let _ = self.take("TRANSACTION") || self.take("TRAN") || self.take("WORK");
                Ok(if first == "COMMIT" { Statement::Commit } else { Statement::Rollback })
            }
            "RETURN" => {
                self.0.advance_token();
                Ok(Statement::Return)
            }
            "GRANT" | "DENY" | "REVOKE" => Ok(self.permission()),
            _ => Err(strict(format!("the statement {} is not understood", self.0.peek_token_ref()))),
        }
    }

    fn select(&mut self) -> Outcome<Statement> {
        let query = self.0.parse_query()?;
        let assigned = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value.starts_with('@') => Some((alias.value.clone(), expr.clone())),
            _ => None,
        };
        match &*query.body {
            SetExpr::Select(select) if select.projection.iter().any(|item| assigned(item).is_some()) => {
                if !select.from.is_empty() || select.selection.is_some() {
                    return Err(strict("SELECT @a = … FROM …"));
                }
                let all: Option<Vec<_>> = select.projection.iter().map(assigned).collect();
                Ok(Statement::Assign(all.ok_or_else(|| strict("a SELECT that both assigns and answers"))?))
            }
            _ => Ok(Statement::Query(query)),
        }
    }

    fn insert(&mut self) -> Outcome<Statement> {
        if self.take("INSERT BULK") {
            return self.insert_bulk();
        }
        self.need("INSERT")?;
        self.take("INTO");
        let table = self.object()?;
        let has_columns = self.0.peek_token_ref().token == Token::LParen;
        let columns = if has_columns { Some(self.list(Self::name)?) } else { None };
        let output = self.output()?;
        if !matches!(self.peek(0).as_str(), "VALUES" | "SELECT" | "WITH") {
            return Err(self.unexpected("VALUES or SELECT"));
        }
        Ok(Statement::Insert { table, columns, output, source: self.0.parse_query()? })
    }

    fn insert_bulk(&mut self) -> Outcome<Statement> {
        let table = self.object()?;
        let columns = self.list(|words| Ok((words.name()?, words.kind()?)))?;
        let mut check = false;
        if self.take("WITH") {
            self.list(|words| match words.name()?.to_ascii_uppercase().as_str() {
                "CHECK_CONSTRAINTS" => {
                    check = true;
                    Ok(())
                }
                "TABLOCK" | "KEEP_NULLS" => Ok(()),
                other => Err(strict(format!("the bulk option {other}"))),
            })?;
        }
        Ok(Statement::InsertBulk { table, columns, check })
    }

    fn output(&mut self) -> Outcome<Vec<(Expr, Option<String>)>> {
        if !self.take("OUTPUT") {
            return Ok(Vec::new());
        }
        self.commas(|words| {
            let value = words.expression()?;
            let alias = if words.take("AS") { Some(words.name()?) } else { None };
            Ok((value, alias))
        })
    }

    fn update(&mut self) -> Outcome<Statement> {
        self.need("UPDATE")?;
        let target = self.object()?;
        self.need("SET")?;
        let assignments = self.commas(|words| {
            let column = words.0.parse_object_name(false)?;
            words.expect(&Token::Eq)?;
            let column = column.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone());
            Ok((column.ok_or_else(|| strict("the target of SET"))?, words.expression()?))
        })?;
        let output = self.output()?;
        let from = self.joined_tables()?;
        let condition = if self.take("WHERE") { Some(self.expression()?) } else { None };
        Ok(Statement::Update(Box::new(Update { target, assignments, output, from, condition })))
    }

    fn joined_tables(&mut self) -> Outcome<Vec<TableWithJoins>> {
        if self.take("FROM") { self.commas(|words| Ok(words.0.parse_table_and_joins()?)) } else { Ok(Vec::new()) }
    }

    fn delete(&mut self) -> Outcome<Statement> {
        self.need("DELETE")?;
        self.take("FROM");
        let target = self.object()?;
        let output = self.output()?;
        let from = self.joined_tables()?;
        let condition = if self.take("WHERE") { Some(self.expression()?) } else { None };
        Ok(Statement::Delete { target, output, from, condition })
    }

    fn branch(&mut self) -> Outcome<Statement> {
        self.need("IF")?;
        let condition = self.expression()?;
        let then = vec![self.statement()?];
        // The semicolon ends the statement after IF, and ELSE may still follow.
        let semicolon = self.0.peek_token_ref().token == Token::SemiColon && self.peek(1) == "ELSE";
        if semicolon {
            self.0.advance_token();
        }
        let otherwise = if self.take("ELSE") { vec![self.statement()?] } else { Vec::new() };
        Ok(Statement::If { condition, then, otherwise })
    }

    fn begin(&mut self) -> Outcome<Statement> {
        self.need("BEGIN")?;
        if self.take("TRANSACTION") || self.take("TRAN") {
            return Ok(Statement::Begin);
        }
        let mut inside = Vec::new();
        while !self.take("END") {
            if self.0.consume_token(&Token::SemiColon) {
                continue;
            }
            inside.push(self.statement()?);
        }
        Ok(Statement::Block(inside))
    }

    fn declare(&mut self) -> Outcome<Statement> {
        self.need("DECLARE")?;
        Ok(Statement::Declare(self.commas(|words| {
            let name = words.name()?;
            words.take("AS");
            let kind = words.kind()?;
            let start = if words.0.consume_token(&Token::Eq) { Some(words.expression()?) } else { None };
            Ok((name, kind, start))
        })?))
    }

    fn set(&mut self) -> Outcome<Statement> {
        self.need("SET")?;
        if self.peek(0).starts_with('@') {
            let name = self.name()?;
            self.expect(&Token::Eq)?;
            return Ok(Statement::Assign(vec![(name, self.expression()?)]));
        }
        if self.take("LOCK_TIMEOUT") {
            let below = self.0.consume_token(&Token::Minus);
            let milliseconds = self.0.parse_literal_uint()? as i64;
            return Ok(Statement::Set(Setting::LockTimeout(if below { -milliseconds } else { milliseconds })));
        }
        if self.take("TRANSACTION ISOLATION LEVEL READ COMMITTED") {
            return Ok(Statement::Set(Setting::Given));
        }
        let option = self.name()?.to_ascii_uppercase();
        let on = self.take("ON");
        if !on {
            self.need("OFF")?;
        }
        Ok(Statement::Set(match (option.as_str(), on) {
            ("XACT_ABORT", on) => Setting::AbortOnError(on),
            ("NOCOUNT", on) => Setting::NoCount(on),
            ("NOEXEC", on) => Setting::NoExec(on),
            (
                "ANSI_NULLS" | "ANSI_PADDING" | "ANSI_WARNINGS" | "QUOTED_IDENTIFIER" | "CONCAT_NULL_YIELDS_NULL" | "ARITHABORT",
                true,
            ) => Setting::Given,
            _ => return Err(strict(format!("SET {option}"))),
        }))
    }

    fn execute(&mut self) -> Outcome<Statement> {
        self.0.advance_token();
        if self.0.consume_token(&Token::LParen) {
            let text = self.expression()?;
            self.expect(&Token::RParen)?;
            return Ok(Statement::ExecuteText(text));
        }
        let mut into = None;
        if self.peek(0).starts_with('@') {
            into = Some(self.name()?);
            self.expect(&Token::Eq)?;
        }
        let procedure = self.object()?.name;
        let mut arguments = Vec::new();
        while !matches!(self.0.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            if !arguments.is_empty() {
                self.expect(&Token::Comma)?;
            }
            let named = self.peek(0).starts_with('@') && self.0.peek_nth_token_ref(1).token == Token::Eq;
            let name = if named { Some(self.name()?) } else { None };
            if named {
                self.expect(&Token::Eq)?;
            }
            arguments.push((name, self.expression()?));
        }
        Ok(Statement::Execute { into, procedure, arguments })
    }

    fn throw(&mut self) -> Outcome<Statement> {
        self.need("THROW")?;
        let number = self.expression()?;
        self.expect(&Token::Comma)?;
        let message = self.expression()?;
        self.expect(&Token::Comma)?;
        Ok(Statement::Throw(Box::new([number, message, self.expression()?])))
    }

    /// Takes everything up to the end of the statement.
    pub(super) fn permission(&mut self) -> Statement {
        while !matches!(self.0.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            self.0.advance_token();
        }
        Statement::Permission
    }
}

/// `name` or `schema.name`.
pub(super) fn object_name(name: &sqlparser::ast::ObjectName) -> Outcome<ObjectName> {
    let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts.as_deref() {
        Some([name]) => Ok(ObjectName { schema: "dbo".into(), name: name.value.clone() }),
        Some([schema, name]) if !name.value.starts_with('#') => {
            Ok(ObjectName { schema: schema.value.clone(), name: name.value.clone() })
        }
        _ => Err(strict(format!("the name {name} (schema.name is understood)"))),
    }
}

/// The name of an object in a literal: `OBJECT_ID(N'dbo.T')`.
pub(super) fn object_in_text(text: &str) -> Outcome<ObjectName> {
    let text = text.strip_prefix("tempdb..").unwrap_or(text);
    let mut words = Words::read(text)?;
    let name = words.object()?;
    words.expect(&Token::EOF)?;
    Ok(name)
}

/// The text of a literal.
pub(super) fn literal_text(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::NationalStringLiteral(text) | Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}
