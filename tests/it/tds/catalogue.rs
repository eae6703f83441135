//! What the database holds: tables, their columns with T-SQL types, keys, schemas. Kept in tables of the SQLite file, so that every
//! connection sees it and a rollback takes it back; what is temporary is kept in the temporary database of its connection.

use std::cell::Cell;

use rusqlite::{Connection, OptionalExtension, params};

use super::error::{Outcome, SqlError, from_sqlite, strict};
use super::types::Type;

/// How text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collation {
    Default,
    Binary,
}

impl Collation {
    pub(super) fn parse(name: &str) -> Outcome<Self> {
        match name.to_ascii_lowercase().as_str() {
            "latin1_general_bin2" => Ok(Self::Binary),
            "database_default" => Ok(Self::Default),
            _ => Err(strict(format!("the collation {name} is not understood"))),
        }
    }

    pub(super) fn sqlite(self) -> &'static str {
        match self {
            Self::Default => super::functions::ANY_CASE,
            Self::Binary => super::functions::BINARY,
        }
    }
}

/// A column of a table, view or derived table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) nullable: bool,
    pub(super) identity: bool,
    pub(super) has_default: bool,
    pub(super) collation: Collation,
}

/// `schema.name`, or `#name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectName {
    pub(super) schema: String,
    pub(super) name: String,
}

impl ObjectName {
    pub(super) fn is_temporary(&self) -> bool {
        self.name.starts_with('#')
    }

    /// The SQLite database that it lies in.
    pub(super) fn home(&self) -> &'static str {
        if self.is_temporary() { "temp" } else { "main" }
    }

    /// Its name in SQLite.
    pub(super) fn stored(&self) -> String {
        if self.is_temporary() { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }

    /// Its name in a statement of SQLite.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", self.home(), quote(&self.stored()))
    }
}

/// An identifier in a statement of SQLite.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The catalogue as one connection sees it.
pub(super) struct Catalogue {
    pub(super) connection: Connection,
    /// In a transaction: is the write lock of the database ours already?
    locked: Cell<bool>,
}

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS {home}._tds_objects (name TEXT PRIMARY KEY COLLATE NOCASE, kind TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {home}._tds_columns (object TEXT NOT NULL COLLATE NOCASE, ordinal INT NOT NULL, name TEXT NOT NULL,
  type TEXT NOT NULL, nullable INT NOT NULL, identity INT NOT NULL, has_default INT NOT NULL, binary_order INT NOT NULL,
  PRIMARY KEY (object, ordinal));
CREATE TABLE IF NOT EXISTS {home}._tds_keys (object TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE,
  columns TEXT NOT NULL COLLATE NOCASE, number INT NOT NULL);
CREATE TABLE IF NOT EXISTS {home}._tds_references (object TEXT NOT NULL COLLATE NOCASE, refers TEXT NOT NULL COLLATE NOCASE);
CREATE TABLE IF NOT EXISTS {home}._tds_schemas (name TEXT PRIMARY KEY COLLATE NOCASE);
CREATE TABLE IF NOT EXISTS {home}._tds_lock (n INT);
";

impl Catalogue {
    pub(super) fn open(connection: Connection) -> rusqlite::Result<Self> {
        // A login waits for no writer, so nothing is written where all is there.
        if !connection.prepare("SELECT 1 FROM main.sqlite_schema WHERE name = '_tds_lock'")?.exists([])? {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            connection.execute_batch(&TABLES.replace("{home}", "main"))?;
            connection.execute_batch("INSERT OR IGNORE INTO main._tds_schemas VALUES ('dbo'); COMMIT")?;
        }
        connection.execute_batch(&TABLES.replace("{home}", "temp"))?;
        Ok(Self { connection, locked: Cell::new(false) })
    }

    /// To be called when a transaction ends.
    pub(super) fn unlocked(&self) {
        self.locked.set(false);
    }

    /// In a transaction, waits for the write lock before anything of the database is read: SQLite cannot turn a reader into a writer
    /// once another has written.
    pub(super) fn lock(&self) -> Outcome<()> {
        if self.connection.is_autocommit() || self.locked.get() {
            return Ok(());
        }
        self.connection.execute("UPDATE main._tds_lock SET n = n", []).map_err(|error| self.error(&error, ""))?;
        self.locked.set(true);
        Ok(())
    }

    fn reach(&self, object: &ObjectName) -> Outcome<()> {
        if object.is_temporary() { Ok(()) } else { self.lock() }
    }

    /// The kind of an object, `U` or `V`, if it is there.
    pub(super) fn kind(&self, object: &ObjectName) -> Outcome<Option<String>> {
        self.reach(object)?;
        let sql = format!("SELECT kind FROM {}._tds_objects WHERE name = ?1", object.home());
        self.run(|connection| connection.prepare_cached(&sql)?.query_row([object.stored()], |row| row.get(0)).optional())
    }

    /// The columns of a table or view that must be there.
    pub(super) fn columns(&self, object: &ObjectName) -> Outcome<Vec<Column>> {
        if self.kind(object)?.is_none() {
            return Err(SqlError::new(208, 16, format!("Invalid object name '{}'.", object.stored())));
        }
        let sql = format!(
            "SELECT name, type, nullable, identity, has_default, binary_order FROM {}._tds_columns WHERE object = ?1 ORDER BY ordinal",
            object.home()
        );
        let found = self.run(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([object.stored()], |row| {
                let kind: String = row.get(1)?;
                let binary: bool = row.get(5)?;
                Ok((row.get(0)?, kind, row.get(2)?, row.get(3)?, row.get(4)?, binary))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let column = |(name, kind, nullable, identity, has_default, binary): (String, String, bool, bool, bool, bool)| {
            let collation = if binary { Collation::Binary } else { Collation::Default };
            Ok(Column { name, kind: Type::parse(&kind)?, nullable, identity, has_default, collation })
        };
        found.into_iter().map(column).collect()
    }

    /// Enters an object.
    pub(super) fn add(&self, object: &ObjectName, kind: &str, columns: &[Column]) -> Outcome<()> {
        self.require_schema(object)?;
        if self.kind(object)?.is_some() {
            return Err(SqlError::new(2714, 16, format!("There is already an object named '{}' in the database.", object.name)));
        }
        let home = object.home();
        self.run(|connection| {
            connection.execute(&format!("INSERT INTO {home}._tds_objects VALUES (?1, ?2)"), params![object.stored(), kind])?;
            Ok(())
        })?;
        self.add_columns(object, columns, 0)
    }

    /// Enters more columns of an object.
    pub(super) fn add_columns(&self, object: &ObjectName, columns: &[Column], from: usize) -> Outcome<()> {
        let sql = format!("INSERT INTO {}._tds_columns VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", object.home());
        self.run(|connection| {
            for (ordinal, c) in (from..).zip(columns) {
                let binary = c.collation == Collation::Binary;
                let values =
                    params![object.stored(), ordinal as i64, c.name, c.kind.name(), c.nullable, c.identity, c.has_default, binary];
                connection.prepare_cached(&sql)?.execute(values)?;
            }
            Ok(())
        })
    }

    /// Gives a column another type.
    pub(super) fn retype(&self, object: &ObjectName, column: &str, kind: Type) -> Outcome<()> {
        let sql = format!("UPDATE {}._tds_columns SET type = ?3 WHERE object = ?1 AND name = ?2", object.home());
        self.run(|c| c.execute(&sql, params![object.stored(), column, kind.name()])).map(drop)
    }

    fn require_schema(&self, object: &ObjectName) -> Outcome<()> {
        if object.is_temporary() || self.schema(&object.schema)?.is_some() {
            return Ok(());
        }
        Err(SqlError::new(2760, 16, format!("The specified schema name \"{}\" does not exist.", object.schema)))
    }

    /// The id of a schema.
    pub(super) fn schema(&self, name: &str) -> Outcome<Option<i64>> {
        self.lock()?;
        self.run(|c| c.query_row("SELECT rowid FROM main._tds_schemas WHERE name = ?1", [name], |row| row.get(0)).optional())
    }

    /// Enters a key: the error number of its violation is 2627 for a constraint, 2601 for an index.
    pub(super) fn add_key(&self, object: &ObjectName, name: &str, columns: &[String], number: i32) -> Outcome<()> {
        let sql = format!("INSERT INTO {}._tds_keys VALUES (?1, ?2, ?3, ?4)", object.home());
        self.run(|c| c.execute(&sql, params![object.stored(), name, columns.join(","), number])).map(drop)
    }

    /// Forgets an object. The caller drops it in SQLite.
    pub(super) fn remove(&self, object: &ObjectName) -> Outcome<()> {
        let home = object.home();
        let refers: Option<String> = self.run(|c| {
            let sql = format!("SELECT object FROM {home}._tds_references WHERE refers = ?1 AND object <> ?1");
            c.query_row(&sql, [object.stored()], |row| row.get(0)).optional()
        })?;
        if refers.is_some() {
            let text = format!("Could not drop object '{}' because it is referenced by a FOREIGN KEY constraint.", object.stored());
            return Err(SqlError::new(3726, 16, text));
        }
        for (table, column) in [("objects", "name"), ("columns", "object"), ("keys", "object"), ("references", "object")] {
            let sql = format!("DELETE FROM {home}._tds_{table} WHERE {column} = ?1");
            self.run(|c| c.execute(&sql, [object.stored()]))?;
        }
        Ok(())
    }

    /// Runs something on the connection.
    pub(super) fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Outcome<T> {
        work(&self.connection).map_err(|error| self.error(&error, ""))
    }

    /// SQLite's error in SQL Server's numbers.
    pub(super) fn error(&self, error: &rusqlite::Error, quoted: &str) -> SqlError {
        from_sqlite(error, quoted, |columns| self.broken_key(columns))
    }

    /// SQLite tells a broken key as `table.column, table.column`.
    fn broken_key(&self, told: &str) -> (i32, String) {
        let columns: Vec<&str> = told.split(", ").map(|column| column.rsplit('.').next().unwrap_or_default()).collect();
        let object = told.split(", ").next().and_then(|first| first.rsplit_once('.')).map_or("", |(object, _)| object);
        let find = |home: &str| {
            let sql = format!("SELECT number, name FROM {home}._tds_keys WHERE object = ?1 AND columns = ?2");
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            self.connection.query_row(&sql, params![object, columns.join(",")], row)
        };
        let (number, name): (i32, String) = find("temp").or_else(|_| find("main")).unwrap_or((2627, "(unnamed)".into()));
        let what = match number {
            2601 => format!("Cannot insert duplicate key row in object '{object}' with unique index '{name}'"),
            _ => format!("Violation of key constraint '{name}'. Cannot insert duplicate key in object '{object}'"),
        };
        (number, what)
    }
}
