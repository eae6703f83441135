//! INSERT, UPDATE and DELETE in SQLite's words.

use sqlparser::ast::{Expr, Query, SetExpr, TableWithJoins};

use super::catalogue::{Column, ObjectName, quote};
use super::error::{Outcome, SqlError, strict};
use super::query::{Output, Translated, table_factor};
use super::scalar::{Frame, Source, Translator, Typed, conversion};
use super::statement::Update;

/// The name of the rows that an UPDATE … FROM found.
const FOUND: &str = "tds_found";

type OutputList = [(Expr, Option<String>)];

impl Translator<'_> {
    pub(super) fn insert(
        &mut self,
        table: &ObjectName,
        names: Option<&[String]>,
        output: &OutputList,
        source: &Query,
    ) -> Outcome<Translated> {
        let all = self.catalogue.columns(table)?;
        let targets = match names {
            Some(names) => names.iter().map(|name| find(&all, name)).collect::<Outcome<Vec<_>>>()?,
            None => all.iter().filter(|column| !column.identity).cloned().collect(),
        };
        if let Some(column) = targets.iter().find(|column| column.identity) {
            let text = format!("Cannot insert explicit value for identity column '{}' in table '{}'.", column.name, table.name);
            return Err(SqlError::new(544, 16, text));
        }
        let list: Vec<_> = targets.iter().map(|column| quote(&column.name)).collect();
        let head = format!("INSERT INTO {} ({})", table.quoted(), list.join(", "));
        let sql = match &*source.body {
            SetExpr::Values(values) if !values.explicit_row && !values.value_keyword => {
                let mut rows = Vec::new();
                for row in &values.rows {
                    let row: Outcome<Vec<_>> = row.content.iter().map(|value| self.scalar(value)).collect();
                    rows.push(format!("({})", assigned(&row?, &targets)?.join(", ")));
                }
                format!("{head} VALUES {}", rows.join(", "))
            }
            _ => {
                let query = self.query(source, true)?;
                let places: Vec<_> = (0..query.columns.len()).map(|place| format!("c{place}")).collect();
                let values: Vec<_> =
                    places.iter().zip(&query.columns).map(|(place, output)| Typed::new(place, output.column.kind)).collect();
                let values = assigned(&values, &targets)?;
                format!("WITH {FOUND}({}) AS ({}) {head} SELECT {} FROM {FOUND}", places.join(", "), query.sql, values.join(", "))
            }
        };
        self.returning(sql, "inserted", output, all)
    }

    pub(super) fn update(&mut self, update: &Update) -> Outcome<Translated> {
        let (object, alias) = target(&update.target, &update.from)?;
        let all = self.catalogue.columns(&object)?;
        self.frames.push(Frame::default());
        let from = if update.from.is_empty() {
            let source = Source::new(&alias, all.clone());
            self.frames.last_mut().ok_or_else(|| strict("no frame"))?.sources.push(source);
            String::new()
        } else {
            self.from_clause(&update.from)?
        };
        let mut values = Vec::new();
        for (name, value) in &update.assignments {
            let column = find(&all, name)?;
            if column.identity {
                return Err(SqlError::new(8102, 16, format!("Cannot update identity column '{name}'.")));
            }
            let value = self.scalar(value)?;
            values.push((quote(&column.name), assigned(&[value], std::slice::from_ref(&column))?.remove(0)));
        }
        let condition = match &update.condition {
            Some(condition) => format!(" WHERE {}", self.condition(condition)?),
            None => String::new(),
        };
        self.frames.pop();
        let name = quote(&alias);
        let sql = if update.from.is_empty() {
            let set: Vec<_> = values.iter().map(|(column, value)| format!("{column} = {value}")).collect();
            format!("UPDATE {} AS {name} SET {}{condition}", object.quoted(), set.join(", "))
        } else {
            let found: Vec<_> = values.iter().zip(0..).map(|((_, value), place)| format!("{value} AS c{place}")).collect();
            let set: Vec<_> = values.iter().zip(0..).map(|((column, _), place)| format!("{column} = {FOUND}.c{place}")).collect();
            format!(
                "WITH {FOUND} AS MATERIALIZED (SELECT {name}._rowid_ AS place, {}{from}{condition}) \
                 UPDATE {} AS tds_target SET {} FROM {FOUND} WHERE tds_target._rowid_ = {FOUND}.place",
                found.join(", "),
                object.quoted(),
                set.join(", ")
            )
        };
        self.returning(sql, "inserted", &update.output, all)
    }

    pub(super) fn delete(
        &mut self,
        name: &ObjectName,
        output: &OutputList,
        from: &[TableWithJoins],
        condition: Option<&Expr>,
    ) -> Outcome<Translated> {
        let (object, alias) = target(name, from)?;
        let all = self.catalogue.columns(&object)?;
        self.frames.push(Frame::default());
        let inner = if from.is_empty() {
            let source = Source::new(&alias, all.clone());
            self.frames.last_mut().ok_or_else(|| strict("no frame"))?.sources.push(source);
            String::new()
        } else {
            self.from_clause(from)?
        };
        let condition = condition.map(|condition| self.condition(condition)).transpose()?;
        let condition = condition.map_or(String::new(), |condition| format!(" WHERE {condition}"));
        self.frames.pop();
        let sql = if from.is_empty() {
            format!("DELETE FROM {} AS {}{condition}", object.quoted(), quote(&alias))
        } else {
            format!("DELETE FROM {} WHERE _rowid_ IN (SELECT {}._rowid_{inner}{condition})", object.quoted(), quote(&alias))
        };
        self.returning(sql, "deleted", output, all)
    }

    fn returning(&mut self, sql: String, alias: &str, output: &OutputList, all: Vec<Column>) -> Outcome<Translated> {
        if output.is_empty() {
            return Ok(Translated { sql, columns: Vec::new() });
        }
        self.frames.push(Frame { sources: vec![Source::bare(alias, all)], ..Frame::default() });
        let (mut parts, mut columns) = (Vec::new(), Vec::new());
        for (value, name) in output {
            let typed = self.scalar(value)?;
            let Some(column) = typed.column.filter(|_| matches!(value, Expr::CompoundIdentifier(_))) else {
                return Err(strict(format!("OUTPUT {value}: columns of {alias} are understood")));
            };
            parts.push(typed.sql);
            let name = name.clone().unwrap_or_else(|| column.name.clone());
            columns.push(Output { column: Column { name, identity: false, ..column }, plain: true, explicit: true });
        }
        self.frames.pop();
        Ok(Translated { sql: format!("{sql} RETURNING {}", parts.join(", ")), columns })
    }
}

/// The table that UPDATE or DELETE changes, and the name by which the rest of the statement knows it.
fn target(name: &ObjectName, from: &[TableWithJoins]) -> Outcome<(ObjectName, String)> {
    if from.is_empty() {
        return Ok((name.clone(), name.name.clone()));
    }
    for table in from {
        for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
            let Ok((object, alias)) = table_factor(factor) else { continue };
            match alias {
                Some(alias) if alias.eq_ignore_ascii_case(&name.name) => return Ok((object, alias)),
                None if object == *name => return Ok((object.clone(), object.name)),
                _ => {}
            }
        }
    }
    Err(strict(format!("the target {} is not in FROM", name.name)))
}

fn find(columns: &[Column], name: &str) -> Outcome<Column> {
    let found = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).cloned();
    found.ok_or_else(|| SqlError::new(207, 16, format!("Invalid column name '{name}'.")))
}

/// The values as their columns take them.
fn assigned(values: &[Typed], columns: &[Column]) -> Outcome<Vec<String>> {
    if values.len() != columns.len() {
        return Err(SqlError::new(213, 16, "Column name or number of supplied values does not match table definition."));
    }
    values.iter().zip(columns).map(|(value, column)| conversion(value, column.kind, Some(&column.name))).collect()
}
