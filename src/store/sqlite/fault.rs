//! What went wrong in SQLite, in words that say what to do. SQLite's own messages name tables and columns, never values.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::Error;

/// An error inside a piece of database work: SQLite's, or one of ours.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite's.
    Sql(rusqlite::Error),
    /// One of ours, complete.
    Own(Error),
}

/// What a piece of database work answers.
pub(super) type Outcome<T> = Result<T, Fault>;

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Own(error)
    }
}

impl Fault {
    /// Is the database locked by someone else?
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Fault::Sql(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)))
    }

    /// The error that leaves this module, naming the database file.
    pub(super) fn at(self, path: &Path) -> Error {
        let error = match self {
            Fault::Own(error) => return error,
            Fault::Sql(error) => error,
        };
        let file = path.display();
        let missing_schema = error.to_string().starts_with("no such ");
        let outer = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                Error::unavailable(format!("the database {file} is busy: another process holds it; try again"))
            }
            Some(ErrorCode::DiskFull) => {
                Error::unavailable(format!("the disk of the database {file} is full; free some space and try again"))
            }
            Some(ErrorCode::SystemIoFailure) => Error::unavailable(format!(
                "the disk of the database {file} failed, is full or over a quota; check the disk and its free space and try again"
            )),
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::AuthorizationForStatementDenied,
            ) => Error::unavailable(format!(
                "the database {file} cannot be opened for writing; give this account write access to the file and its folder"
            )),
            Some(ErrorCode::OutOfMemory) => Error::unavailable("memory ran out in the database; try again"),
            Some(ErrorCode::DatabaseCorrupt) => Error::internal(format!(
                "the database {file} is damaged; stop every process that uses it, keep a copy of the file, and restore the last backup"
            )),
            Some(ErrorCode::NotADatabase) => foreign(path),
            _ if missing_schema => {
                Error::unavailable(format!("the database {file} has no schema, or an older one; migrate it first"))
            }
            _ => Error::internal(format!("the database {file} refused a statement")),
        };
        // The others quote the value that did not fit.
        if matches!(error, rusqlite::Error::SqliteFailure(..)) { outer.caused_by(error) } else { outer }
    }
}

/// The file is there and is not ours.
pub(super) fn foreign(path: &Path) -> Error {
    Error::invalid(format!(
        "{} is not a database of Health Data AI and was left untouched; name another file, or one that does not exist yet",
        path.display()
    ))
}
