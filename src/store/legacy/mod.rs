//! A table of patients that another system keeps, in the shape of the blueprint's `PatientData`: read in the order of its encounter
//! ids, never written. It does not know which values are right: it hands on what the cells say.

mod sqlite;

use std::path::Path;

use async_trait::async_trait;
use csv::ByteRecord;

use super::azure_sql;
use crate::azure::identity::Identity;
use crate::config::SqlSettings;
use crate::error::{Error, Result};
use crate::schema::{Column, CsvColumn, csv_columns};

/// Where a table lies, in words that open nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The kind of database, and its server.
    pub server: String,
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

/// How many rows a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCount {
    /// All.
    pub rows: u64,
    /// Those without a readable encounter id. [`Legacy::page`] does not answer them.
    pub keyless: u64,
}

/// A place between two rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The encounter id of the row before.
    pub(super) key: i64,
    /// Rows of that id that lie before.
    pub(super) skip: u32,
}

impl Cursor {
    /// Before the first row.
    pub const START: Cursor = Cursor { key: i64::MIN, skip: 0 };

    /// Behind rows of these ids, which follow this place.
    pub(super) fn behind(self, keys: impl Iterator<Item = i64>) -> Cursor {
        keys.fold(self, |at, key| Cursor { key, skip: if key == at.key { at.skip + 1 } else { 1 } })
    }
}

/// Consecutive rows of a table.
#[derive(Debug)]
pub struct Page {
    /// The cells of each row, in the order of [`Legacy::columns`]; NULL is empty.
    pub rows: Vec<ByteRecord>,
    /// The place behind them.
    pub next: Cursor,
}

/// A table of patients that another system keeps.
#[async_trait]
pub trait Legacy: Send + Sync {
    /// Where it lies.
    fn origin(&self) -> &Origin;

    /// The columns that are read, named as in a CSV file's header.
    fn columns(&self) -> &[&'static str];

    /// The columns that are not, as the table names them.
    fn unused(&self) -> &[String];

    /// How many rows there are now.
    ///
    /// # Errors
    /// Unavailable, if the database does not answer; so for [`Legacy::page`].
    async fn count(&self) -> Result<RowCount>;

    /// At most `limit` rows behind `after`, by encounter id and then by every other column, so that the order is the same each time.
    async fn page(&self, after: Cursor, limit: u32) -> Result<Page>;
}

/// Opens the table `name` of the SQLite file at `path`, for reading only.
///
/// # Errors
/// Not found, if there is no such file or table; invalid, if `name` is no identifier, the file no database, or a column that an
/// encounter needs is missing; unavailable, if the file cannot be read.
pub async fn sqlite(path: &Path, name: &str) -> Result<Box<dyn Legacy>> {
    Ok(Box::new(sqlite::Table::open(path.to_owned(), identifier(name)?.to_owned()).await?))
}

/// Opens a table of an SQL Server, `NAME` or `SCHEMA.NAME`, for reading. `settings` say how to connect.
///
/// # Errors
/// Not found, if there is no such table or it is empty; invalid, if the connection string or the name cannot be used or a column that an
/// encounter needs is missing; unavailable, if the server cannot be reached.
pub async fn sql_server(settings: &SqlSettings, identity: &Identity, name: &str) -> Result<Box<dyn Legacy>> {
    Ok(Box::new(azure_sql::legacy::Table::open(settings, identity, name).await?))
}

/// A cell's text is at most this long, in bytes; a longer one is no value of ours.
pub(super) const CELL_BYTES_MAX: usize = 4096;

/// What stands for a cell that no rule accepts: it is not UTF-8.
pub(super) const UNREADABLE: &[u8] = &[0xff];

/// `name`, if it can be written into a statement: a letter or underscore, then letters, digits and underscores, at most 128.
pub(super) fn identifier(name: &str) -> Result<&str> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.len() <= 128 && name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Ok(name);
    }
    Err(Error::invalid("the table's name must be a letter, then letters, digits and underscores: correct --table"))
}

/// The columns of a table that are read, and those that are not.
pub(super) struct Columns {
    /// As the table names them.
    pub(super) names: Vec<String>,
    /// As a CSV file's header names them, in the same order.
    pub(super) headers: Vec<&'static str>,
    /// As the table names them.
    pub(super) unused: Vec<String>,
    /// The encounter id's name.
    pub(super) key: String,
}

/// Finds the columns of `table` among those that it has.
pub(super) fn columns(table: &str, present: Vec<String>) -> Result<Columns> {
    let known = |name: &str| csv_columns().iter().find(|column| is_named(column, name));
    let mut found = Columns { names: Vec::new(), headers: Vec::new(), unused: Vec::new(), key: String::new() };
    for name in present {
        match known(&name) {
            Some(column) if found.headers.contains(&column.header) => {
                return Err(Error::invalid(format!(
                    "the table {table} has the column {} under two names: drop one",
                    column.db_column
                )));
            }
            Some(column) => {
                if column.column == Column::EncounterId {
                    found.key.clone_from(&name);
                }
                found.names.push(name);
                found.headers.push(column.header);
            }
            None => found.unused.push(presentable(&name)),
        }
    }
    let missing = csv_columns().iter().filter(|column| column.required && !found.headers.contains(&column.header));
    let missing: Vec<_> = missing.map(|column| column.db_column).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    Err(Error::invalid(format!(
        "the table {table} lacks these columns of the blueprint's PatientData: {}; name another --table, or a view that has them",
        missing.join(", ")
    )))
}

fn is_named(column: &CsvColumn, name: &str) -> bool {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    is(column.db_column) || is(column.header) || column.synonyms.iter().any(|synonym| is(synonym))
}

/// A name that came from outside, fit to be shown.
pub(super) fn presentable(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_alphanumeric() || " _-.()#".contains(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_cannot_end_a_statement() {
        assert!(identifier("PatientData_2017").is_ok() && identifier("_t").is_ok());
        for name in ["", "1a", "a b", "a]", "a\"", "a;--", "dbo.a", "ä", &"a".repeat(129)] {
            assert!(identifier(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_cursor_counts_the_rows_of_its_id_across_pages() {
        let first = Cursor::START.behind([1, 2, 2].into_iter());
        assert_eq!(first, Cursor { key: 2, skip: 2 });
        assert_eq!(first.behind([2, 2].into_iter()), Cursor { key: 2, skip: 4 });
        assert_eq!(first.behind([2, 3].into_iter()), Cursor { key: 3, skip: 1 });
        assert_eq!(first.behind(std::iter::empty()), first);
    }
}
