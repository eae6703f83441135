//! The table in an SQLite file, whose columns may be of any type.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use csv::ByteRecord;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};

use super::{CELL_BYTES_MAX, Columns, Cursor, Legacy, Origin, Page, RowCount, UNREADABLE, columns, presentable};
use crate::error::{Error, Result};

const BUSY_WAIT: Duration = Duration::from_secs(30);

/// A sort must not spill patients into a temporary file.
const PRAGMAS: &str = "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF;";

/// The table.
pub(super) struct Table {
    connection: Arc<Mutex<Connection>>,
    path: PathBuf,
    origin: Origin,
    columns: Columns,
    count_sql: Arc<str>,
    page_sql: Arc<str>,
}

impl Table {
    pub(super) async fn open(path: PathBuf, name: String) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || Self::open_here(&path, &name)).await;
        opened.map_err(|_| Error::internal("the source's thread stopped"))?
    }

    fn open_here(path: &Path, name: &str) -> Result<Self> {
        let missing = |cause| Error::not_found(format!("there is no file {}: correct --from", path.display())).caused_by(cause);
        let path = path.canonicalize().map_err(missing)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = || -> rusqlite::Result<_> {
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY_WAIT)?;
            connection.execute_batch(PRAGMAS)?;
            let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
            let table: Option<String> = connection.query_row(sql, [name], |row| row.get(0)).optional()?;
            let present = texts(&connection, "SELECT name FROM pragma_table_info(?1)", table.as_deref().unwrap_or_default())?;
            Ok((connection, table, present))
        };
        let (connection, table, present) = opened().map_err(|error| failed(&path, error))?;
        let Some(table) = table else { return Err(no_table(&connection, &path, name)) };
        let columns = columns(&table, present)?;
        let (from, eid) = (quoted(&table), quoted(&columns.key));
        let sql = format!("SELECT 1 FROM {from} WHERE typeof({eid}) NOT IN ('integer', 'null') LIMIT 1");
        let mixed = connection.prepare(&sql).and_then(|mut any| any.exists([])).map_err(|error| failed(&path, error))?;
        // As it stands the column's index can serve; text must be compared as the number that it writes.
        let key = if mixed { format!("CAST({eid} AS INTEGER)") } else { eid.clone() };
        let cells = columns.names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            origin: Origin { server: "sqlite".into(), database: path.display().to_string(), table },
            count_sql: format!("SELECT count(*), count(*) - count({eid}) FROM {from}").into(),
            page_sql: format!(
                "SELECT {key}, {cells} FROM {from} WHERE {eid} IS NOT NULL AND {key} >= ?1 ORDER BY {key}, {cells} LIMIT ?2 OFFSET ?3"
            )
            .into(),
            path,
            columns,
        })
    }

    async fn read<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let task = tokio::task::spawn_blocking(move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner)));
        let answer = task.await.map_err(|_| Error::internal("the source's thread stopped"))?;
        answer.map_err(|error| failed(&self.path, error))
    }
}

#[async_trait]
impl Legacy for Table {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn columns(&self) -> &[&'static str] {
        &self.columns.headers
    }

    fn unused(&self) -> &[String] {
        &self.columns.unused
    }

    async fn count(&self) -> Result<RowCount> {
        let sql = Arc::clone(&self.count_sql);
        let (rows, keyless) = self
            .read(move |connection| connection.query_row(&sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))))
            .await?;
        Ok(RowCount { rows: rows.unsigned_abs(), keyless: keyless.unsigned_abs() })
    }

    async fn page(&self, after: Cursor, limit: u32) -> Result<Page> {
        let sql = Arc::clone(&self.page_sql);
        let width = self.columns.names.len();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query((after.key, limit, after.skip))?;
            let (mut rows, mut keys) = (Vec::new(), Vec::new());
            while let Some(row) = found.next()? {
                keys.push(row.get::<_, i64>(0)?);
                rows.push(cells(row, width)?);
            }
            Ok(Page { rows, next: after.behind(keys.into_iter()) })
        })
        .await
    }
}

fn cells(row: &Row<'_>, width: usize) -> rusqlite::Result<ByteRecord> {
    let mut record = ByteRecord::with_capacity(256, width);
    for place in 1..=width {
        match row.get_ref(place)? {
            ValueRef::Null => record.push_field(b""),
            ValueRef::Integer(number) => record.push_field(number.to_string().as_bytes()),
            ValueRef::Real(number) => record.push_field(number.to_string().as_bytes()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes.len() <= CELL_BYTES_MAX => record.push_field(bytes),
            ValueRef::Text(_) | ValueRef::Blob(_) => record.push_field(UNREADABLE),
        }
    }
    Ok(record)
}

fn texts(connection: &Connection, sql: &str, parameter: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(sql)?;
    statement.query_map([parameter], |row| row.get(0))?.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn no_table(connection: &Connection, path: &Path, name: &str) -> Error {
    let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> ?1 ORDER BY name LIMIT 20";
    let there = texts(connection, sql, "sqlite_").unwrap_or_default();
    let there =
        if there.is_empty() { "none".into() } else { there.iter().map(|name| presentable(name)).collect::<Vec<_>>().join(", ") };
    Error::not_found(format!("there is no table {name} in {}: correct --table; its tables: {there}", path.display()))
}

/// SQLite's own messages name tables and columns, never values.
fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let file = path.display();
    let outer = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::invalid(format!("{file} is no SQLite database: correct --from")),
        Some(ErrorCode::DatabaseCorrupt) => Error::invalid(format!("{file} is damaged: restore a backup of it and read that")),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::unavailable(format!("{file} is held by another process: stop it, or read a copy of the file"))
        }
        _ => Error::unavailable(format!("{file} cannot be read: give this account read access to it, or read a copy of the file")),
    };
    outer.caused_by(error)
}
