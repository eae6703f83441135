//! What the server answers when something goes wrong: SQL Server's numbers where it has one, [`STRICT`] where this server is at its end.

use rusqlite::ffi;

/// The number of every error that says: this server does not know that. It is none of SQL Server's.
pub(crate) const STRICT: i32 = 50_999;

/// An ERROR token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlError {
    pub(crate) number: i32,
    pub(crate) class: u8,
    pub(crate) state: u8,
    pub(crate) message: String,
}

pub(super) type Outcome<T> = Result<T, SqlError>;

impl SqlError {
    pub(crate) fn new(number: i32, class: u8, message: impl Into<String>) -> Self {
        Self { number, class, state: 1, message: message.into() }
    }

    /// Does the batch go on after it, if `XACT_ABORT` is off? Errors of the data end their statement, others the whole batch.
    pub(super) fn spares_the_batch(&self) -> bool {
        matches!(self.number, 515 | 547 | 2601 | 2627 | 2628 | 8115 | 8134 | 220 | 1222 | 544)
    }
}

/// This server does not understand `what`; SQL Server might.
pub(super) fn strict(what: impl Into<String>) -> SqlError {
    SqlError::new(STRICT, 16, format!("test server: {}", what.into()))
}

impl From<sqlparser::parser::ParserError> for SqlError {
    fn from(error: sqlparser::parser::ParserError) -> Self {
        strict(format!("cannot parse: {error}"))
    }
}

const MARK: char = '\u{1}';

/// An error that passes through SQLite, out of one of our functions.
pub(super) fn through_sqlite(error: &SqlError) -> rusqlite::Error {
    let text = format!("{MARK}{}{MARK}{}{MARK}{}", error.number, error.class, error.message);
    rusqlite::Error::UserFunctionError(text.into())
}

/// What SQLite said, in SQL Server's numbers. `quoted` is what SQL Server would quote of the data in its message.
pub(super) fn from_sqlite(error: &rusqlite::Error, quoted: &str, key: impl FnOnce(&str) -> (i32, String)) -> SqlError {
    let (code, text) = match error {
        rusqlite::Error::SqliteFailure(failure, text) => (failure.extended_code, text.clone().unwrap_or_default()),
        rusqlite::Error::SqlInputError { error, msg, sql, .. } => (error.extended_code, format!("{msg} in {sql}")),
        other => (0, other.to_string()),
    };
    let mut parts = text.splitn(4, MARK).skip(1);
    if let (Some(number), Some(class), Some(message)) = (parts.next(), parts.next(), parts.next())
        && let (Ok(number), Ok(class)) = (number.parse(), class.parse())
    {
        return SqlError::new(number, class, message);
    }
    let rest = || text.split_once(": ").map_or("", |(_, rest)| rest).to_owned();
    match code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            let (number, what) = key(&rest());
            SqlError::new(number, 14, format!("{what}. The duplicate key value is ({quoted})."))
        }
        ffi::SQLITE_CONSTRAINT_NOTNULL => {
            let column = rest();
            let column = column.rsplit('.').next().unwrap_or_default().to_owned();
            SqlError::new(515, 16, format!("Cannot insert the value NULL into column '{column}'; column does not allow nulls."))
        }
        ffi::SQLITE_CONSTRAINT_CHECK => {
            SqlError::new(547, 16, format!("The statement conflicted with the CHECK constraint \"{}\".", rest()))
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => SqlError::new(547, 16, "The statement conflicted with a FOREIGN KEY constraint."),
        ffi::SQLITE_INTERRUPT => SqlError::new(0, 11, "interrupted"),
        code if code & 0xff == ffi::SQLITE_BUSY || code & 0xff == ffi::SQLITE_LOCKED => {
            SqlError::new(1205, 13, "Transaction was deadlocked on lock resources and has been chosen as the deadlock victim.")
        }
        _ => strict(format!("the storage said: {text}")),
    }
}
