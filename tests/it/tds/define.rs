//! CREATE, ALTER and DROP, executed: in SQLite, and in the catalogue.

use rusqlite::types::Value;
use sqlparser::ast::Expr;

use super::catalogue::{Column, ObjectName, quote};
use super::engine::Engine;
use super::error::{Outcome, SqlError, strict, through_sqlite};
use super::query::named;
use super::scalar::{Source, Translator, Variables, conversion};
use super::statement::{Constraint, NewColumn, Rule, Statement};
use super::types::Type;

impl Engine {
    pub(super) fn define(&mut self, statement: &Statement) -> Outcome<()> {
        self.atomically(|engine| match statement {
            Statement::CreateTable { table, columns, constraints } => engine.create_table(table, columns, constraints),
            Statement::AddColumn { table, column, constraints } => engine.add_column(table, column, constraints),
            Statement::AlterColumn { table, column } => engine.widen_column(table, column),
            Statement::CreateIndex { name, table, unique, columns, include, condition } => {
                let all = engine.catalogue.columns(table)?;
                for column in columns.iter().map(|(name, _)| name).chain(include) {
                    find(&all, column)?;
                }
                if *unique && condition.is_none() {
                    require_not_null(&all, columns.iter().map(|(name, _)| name))?;
                }
                let filter = match condition {
                    Some(condition) => {
                        let none = Variables::new();
                        let source = Source::bare(&table.name, all);
                        format!(
                            " WHERE {}",
                            Translator::new(&engine.catalogue, engine.facts(), &none).over(source).condition(condition)?
                        )
                    }
                    None => String::new(),
                };
                let keys: Vec<_> = columns.iter().map(|(name, down)| quote(name) + if *down { " DESC" } else { "" }).collect();
                let index = format!("{}.{}", table.home(), quote(&format!("{}.{name}", table.stored())));
                let each = if *unique { "UNIQUE " } else { "" };
                engine.sql(&format!("CREATE {each}INDEX {index} ON {} ({}){filter}", quote(&table.stored()), keys.join(", ")))?;
                if *unique {
                    let names: Vec<_> = columns.iter().map(|(name, _)| name.clone()).collect();
                    engine.catalogue.add_key(table, name, &names, 2601)?;
                }
                Ok(())
            }
            Statement::CreateView { view, columns, query } => {
                let none = Variables::new();
                let translated = Translator::new(&engine.catalogue, engine.facts(), &none).query(query, true)?;
                let mut outputs = translated.columns;
                if !columns.is_empty() && columns.len() != outputs.len() {
                    return Err(SqlError::new(8158, 16, "The view has more or fewer columns than were specified."));
                }
                outputs.iter_mut().zip(columns).for_each(|(output, name)| output.column.name.clone_from(name));
                let all = named(outputs)?;
                let names: Vec<_> = all.iter().map(|column| quote(&column.name)).collect();
                engine.catalogue.add(view, "V", &all)?;
                engine.sql(&format!("CREATE VIEW {} ({}) AS {}", view.quoted(), names.join(", "), translated.sql))
            }
            Statement::CreateSchema(name) => {
                if engine.catalogue.schema(name)?.is_some() {
                    return Err(SqlError::new(2714, 16, format!("There is already an object named '{name}' in the database.")));
                }
                engine.catalogue.run(|c| c.execute("INSERT INTO main._tds_schemas VALUES (?1)", [name])).map(drop)
            }
            Statement::CreateTrigger { name, table, events, condition, number, message } => {
                engine.create_trigger(name, table, (events, condition.as_ref()), number, message)
            }
            Statement::DropTrigger(name) => engine.drop_trigger(name),
            Statement::DropTables { tables, kind, if_exists } => engine.drop_tables(tables, *kind, *if_exists),
            Statement::DropSchema { name, if_exists } => engine.drop_schema(name, *if_exists),
            Statement::DropIndex { name, table } => {
                engine.catalogue.columns(table)?;
                engine.sql(&format!("DROP INDEX {}.{}", table.home(), quote(&format!("{}.{name}", table.stored()))))
            }
            _ => Err(strict("a statement that is not understood")),
        })
    }

    fn create_trigger(
        &self,
        name: &str,
        table: &ObjectName,
        (events, condition): (&[String], Option<&Expr>),
        number: &str,
        message: &str,
    ) -> Outcome<()> {
        let columns = self.catalogue.columns(table)?;
        let when = condition.map(|condition| self.about_deleted(&columns, condition)).transpose()?.unwrap_or_default();
        let error = SqlError::new(number.parse().map_err(|_| strict("the number of THROW"))?, 16, message);
        for event in events {
            let name = quote(&format!("{}.{name}.{event}", table.stored()));
            let told = through_sqlite(&error).to_string().replace('\'', "''");
            let body = format!("BEGIN SELECT RAISE(ABORT, '{told}'); END");
            self.sql(&format!("CREATE TRIGGER main.{name} AFTER {event} ON {} {when} {body}", quote(&table.stored())))?;
        }
        Ok(())
    }

    /// A condition on the rows of `deleted` as one on SQLite's OLD, which is one row.
    fn about_deleted(&self, columns: &[Column], condition: &Expr) -> Outcome<String> {
        let deleted = ObjectName { schema: "dbo".into(), name: "deleted".into() };
        self.catalogue.add(&deleted, "U", columns)?;
        let none = Variables::new();
        let sql = Translator::new(&self.catalogue, self.facts(), &none).condition(condition);
        self.catalogue.remove(&deleted)?;
        let all = columns.iter().map(|column| format!("OLD.{0} AS {0}", quote(&column.name))).collect::<Vec<_>>().join(", ");
        Ok(format!("WHEN {}", sql?.replace(&deleted.quoted(), &format!("(SELECT {all})"))))
    }

    fn drop_trigger(&self, name: &str) -> Outcome<()> {
        let names: Vec<String> = self.catalogue.run(|c| {
            let sql = "SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND instr(name, ?1) > 0";
            c.prepare(sql)?.query_map([format!(".{name}.")], |row| row.get(0))?.collect()
        })?;
        if names.is_empty() {
            return Err(SqlError::new(3701, 11, format!("Cannot drop the trigger '{name}', because it does not exist.")));
        }
        names.iter().try_for_each(|name| self.sql(&format!("DROP TRIGGER main.{}", quote(name))))
    }

    fn sql(&self, sql: &str) -> Outcome<()> {
        self.catalogue.run(|connection| connection.execute_batch(sql))
    }

    fn create_table(&mut self, table: &ObjectName, new: &[NewColumn], constraints: &[Constraint]) -> Outcome<()> {
        let primary = constraints.iter().find_map(|constraint| match &constraint.rule {
            Rule::Primary(columns) => Some(columns.as_slice()),
            _ => None,
        });
        let in_primary = |name: &str| primary.is_some_and(|columns| columns.iter().any(|column| column.eq_ignore_ascii_case(name)));
        let mut columns = Vec::new();
        for column in new {
            if in_primary(&column.name) && column.nullable == Some(true) {
                return Err(SqlError::new(8111, 16, "Cannot define PRIMARY KEY constraint on nullable column."));
            }
            let nullable = column.nullable.unwrap_or(true) && !in_primary(&column.name) && !column.identity;
            columns.push(Column {
                name: column.name.clone(),
                kind: column.kind,
                nullable,
                identity: column.identity,
                has_default: column.default.is_some(),
                collation: column.collation,
            });
        }
        self.catalogue.add(table, "U", &columns)?;
        let mut parts = Vec::new();
        for (column, new) in columns.iter().zip(new) {
            parts.push(self.column_sql(column, new)?);
        }
        for (place, constraint) in constraints.iter().enumerate() {
            parts.push(self.constraint_sql(table, &columns, constraint, place)?);
        }
        self.sql(&format!("CREATE TABLE {} ({})", table.quoted(), parts.join(", ")))
    }

    fn column_sql(&self, column: &Column, new: &NewColumn) -> Outcome<String> {
        let name = quote(&column.name);
        if column.identity {
            return Ok(format!("{name} INTEGER PRIMARY KEY AUTOINCREMENT"));
        }
        let mut sql = format!("{name} {} COLLATE {}", column.kind.storage(), column.collation.sqlite());
        if !column.nullable {
            sql += " NOT NULL";
        }
        if let Some(default) = &new.default {
            let none = Variables::new();
            let value = Translator::new(&self.catalogue, self.facts(), &none).scalar(default)?;
            sql += &format!(" DEFAULT ({})", conversion(&value, column.kind, Some(&column.name))?);
        }
        Ok(sql)
    }

    fn constraint_sql(&self, table: &ObjectName, columns: &[Column], constraint: &Constraint, place: usize) -> Outcome<String> {
        let name = constraint.name.clone().unwrap_or_else(|| format!("unnamed_{}_{place}", table.name.trim_start_matches('#')));
        let list = |names: &[String]| names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        let rule = match &constraint.rule {
            Rule::Primary(keys) | Rule::Unique(keys) => {
                keys.iter().try_for_each(|key| find(columns, key).map(drop))?;
                require_not_null(columns, keys.iter())?;
                self.catalogue.add_key(table, &name, keys, 2627)?;
                format!("UNIQUE ({})", list(keys))
            }
            Rule::Check(check) => {
                let none = Variables::new();
                let source = Source::bare(&table.name, columns.to_vec());
                format!("CHECK ({})", Translator::new(&self.catalogue, self.facts(), &none).over(source).condition(check)?)
            }
            Rule::Foreign { columns: own, table: other, refers, cascade } => {
                if table.is_temporary() {
                    return Err(strict("a FOREIGN KEY of a temporary table: SQL Server ignores it"));
                }
                own.iter().try_for_each(|key| find(columns, key).map(drop))?;
                let others = if other == table { columns.to_vec() } else { self.catalogue.columns(other)? };
                refers.iter().try_for_each(|key| find(&others, key).map(drop))?;
                let values = [table.stored(), other.stored()];
                self.catalogue.run(|c| c.execute("INSERT INTO main._tds_references VALUES (?1, ?2)", values))?;
                let cascade = if *cascade { " ON DELETE CASCADE" } else { "" };
                format!("FOREIGN KEY ({}) REFERENCES {} ({}){cascade}", list(own), quote(&other.stored()), list(refers))
            }
        };
        Ok(format!("CONSTRAINT {} {rule}", quote(&name)))
    }

    fn add_column(&mut self, table: &ObjectName, new: &NewColumn, constraints: &[Constraint]) -> Outcome<()> {
        let all = self.catalogue.columns(table)?;
        let nullable = new.nullable.unwrap_or(true);
        if !constraints.is_empty() || new.identity || !nullable && new.default.is_none() {
            return Err(strict("ALTER TABLE … ADD of a column with a constraint, or NOT NULL without a DEFAULT"));
        }
        let (kind, collation) = (new.kind, new.collation);
        let column =
            Column { name: new.name.clone(), kind, nullable, identity: false, has_default: new.default.is_some(), collation };
        let sql = self.column_sql(&column, new)?;
        self.catalogue.add_columns(table, &[column], all.len())?;
        self.sql(&format!("ALTER TABLE {} ADD COLUMN {sql}", table.quoted()))
    }

    /// A text column made wider, which SQL Server does in its catalogue alone, or one of any length given one. Nothing may depend on the column: each server allows something
    /// else there.
    fn widen_column(&mut self, table: &ObjectName, new: &NewColumn) -> Outcome<()> {
        let all = self.catalogue.columns(table)?;
        let column = find(&all, &new.name)?;
        let fits = match (column.kind, new.kind) {
            (Type::Text(Some(before)), Type::Text(Some(after))) => before <= after,
            (Type::Text(None), Type::Text(Some(after))) => self.catalogue.run(|c| {
                let sql = format!("SELECT coalesce(max(length({})), 0) <= ?1 FROM {}", quote(&column.name), table.quoted());
                c.query_row(&sql, [after], |row| row.get(0))
            })?,
            _ => false,
        };
        if !fits || Some(column.nullable) != new.nullable || column.collation != new.collation {
            return Err(strict("ALTER COLUMN that does more than make a text wider"));
        }
        let name = quote(&column.name);
        let dependent: i64 = self.catalogue.run(|c| {
            let sql = "SELECT count(*) FROM main.sqlite_schema WHERE instr(sql, ?1) > 0 AND (type = 'view' OR type = 'index' AND tbl_name = ?2)";
            c.query_row(sql, [&name, &table.stored()], |row| row.get(0))
        })?;
        if dependent > 0 {
            return Err(SqlError::new(
                4922,
                16,
                format!("ALTER TABLE ALTER COLUMN {} failed because one or more objects access this column.", column.name),
            ));
        }
        self.catalogue.retype(table, &column.name, new.kind)
    }

    fn drop_tables(&mut self, tables: &[ObjectName], kind: char, if_exists: bool) -> Outcome<()> {
        for table in tables {
            match self.catalogue.kind(table)? {
                None if if_exists => continue,
                Some(found) if found == kind.to_string() => {}
                _ => {
                    let text =
                        format!("Cannot drop '{}', because it does not exist or you do not have permission.", table.stored());
                    return Err(SqlError::new(3701, 11, text));
                }
            }
            self.catalogue.remove(table)?;
            let what = if kind == 'U' { "TABLE" } else { "VIEW" };
            self.sql(&format!("DROP {what} {}", table.quoted()))?;
        }
        Ok(())
    }

    fn drop_schema(&mut self, name: &str, if_exists: bool) -> Outcome<()> {
        if self.catalogue.schema(name)?.is_none() {
            return if if_exists { Ok(()) } else { Err(SqlError::new(15_151, 16, format!("Cannot drop the schema '{name}'."))) };
        }
        let inside = format!("{name}.");
        let count: i64 = self.catalogue.run(|c| {
            let sql = "SELECT count(*) FROM main._tds_objects WHERE substr(name, 1, length(?1)) = ?1 COLLATE NOCASE";
            c.query_row(sql, [Value::Text(inside)], |row| row.get(0))
        })?;
        if count > 0 {
            return Err(SqlError::new(
                3729,
                16,
                format!("Cannot drop schema '{name}' because it is being referenced by objects in it."),
            ));
        }
        self.catalogue.run(|c| c.execute("DELETE FROM main._tds_schemas WHERE name = ?1", [name])).map(drop)
    }
}

fn find<'c>(columns: &'c [Column], name: &str) -> Outcome<&'c Column> {
    let found = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| SqlError::new(1911, 16, format!("Column name '{name}' does not exist in the target table.")))
}

/// SQL Server lets one NULL into a unique column and SQLite any number.
fn require_not_null<'n>(columns: &[Column], mut names: impl Iterator<Item = &'n String>) -> Outcome<()> {
    names.try_for_each(|name| match find(columns, name)?.nullable {
        true => Err(strict(format!("a unique key over the nullable column {name}"))),
        false => Ok(()),
    })
}
