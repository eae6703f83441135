//! One connection: statements in, rows out. A parameter has a type that its statement's column takes, and text, days and instants are
//! never NULL: the driver sends their NULL as a type that the open server refuses. A statement that needs one says `NULLIF(@P1, N'')`.

use chrono::{DateTime, NaiveDate, Utc};
use tiberius::{Row, TokenRow};

use super::fault::Outcome;

/// A parameter of a statement, `@P1` and so on. It holds patient data and so has no `Debug`.
#[derive(Clone, Copy)]
pub(super) enum Parameter<'a> {
    /// `int`.
    Int(Option<i32>),
    /// `bigint`.
    Long(Option<i64>),
    /// `float`.
    Real(Option<f64>),
    /// `bit`.
    Flag(bool),
    /// `nvarchar`.
    Text(&'a str),
    /// `date`.
    Day(NaiveDate),
    /// `datetimeoffset(7)`, UTC, cut to whole microseconds.
    Instant(DateTime<Utc>),
    /// `varbinary(max)`.
    Bytes(&'a [u8]),
}

/// One connection.
pub(super) struct Connection {}

impl Connection {
    /// Runs a batch without parameters (DDL, temporary tables, several statements) and reads all its results away.
    pub(super) async fn batch(&mut self, sql: &str) -> Outcome<()> {
        let _ = sql;
        todo!()
    }

    /// The rows of a batch without parameters, first result set.
    pub(super) async fn batch_rows(&mut self, sql: &str) -> Outcome<Vec<Row>> {
        let _ = sql;
        todo!()
    }

    /// The rows of one statement, first result set.
    pub(super) async fn rows(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Outcome<Vec<Row>> {
        let _ = (sql, parameters);
        todo!()
    }

    /// The first row, if there is one.
    pub(super) async fn row(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Outcome<Option<Row>> {
        Ok(self.rows(sql, parameters).await?.into_iter().next())
    }

    /// Runs one statement; answers how many rows it touched.
    pub(super) async fn execute(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Outcome<u64> {
        let _ = (sql, parameters);
        todo!()
    }

    /// Bulk-loads `rows` into all columns of `table` (a name of ours), with its constraints checked; answers how many arrived.
    pub(super) async fn bulk(
        &mut self,
        table: &str,
        rows: impl Iterator<Item = Outcome<TokenRow<'static>>> + Send,
    ) -> Outcome<u64> {
        let _ = (table, rows);
        todo!()
    }
}
