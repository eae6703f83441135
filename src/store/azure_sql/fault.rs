//! What went wrong in the database, in words that say what to do. A server's message can quote a patient's value, so none leaves here:
//! only its number does.

use std::fmt;

use tiberius::error::Error as DriverError;

use super::retry;
use crate::error::Error;

/// An error inside a piece of database work: the driver's, or one of ours.
pub(super) enum Fault {
    /// The driver's or the server's.
    Sql(DriverError),
    /// One of ours, complete; trying again would not help.
    Own(Error),
    /// One of ours, complete; trying again may help.
    Away(Error),
    /// A statement took longer than it may.
    Late,
}

/// What a piece of database work answers.
pub(super) type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// The server's error number.
    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Fault::Sql(error) => error.code(),
            Fault::Own(_) | Fault::Away(_) | Fault::Late => None,
        }
    }

    /// May the same work, done again on a new connection, succeed?
    pub(super) fn is_transient(&self, importing: bool) -> bool {
        match self {
            Fault::Sql(DriverError::Server(error)) => {
                retry::transient(error.code()).is_some() || (importing && error.code() == retry::BABELFISH_OTHER)
            }
            Fault::Sql(DriverError::Io { .. } | DriverError::Tls(_) | DriverError::Protocol(_)) | Fault::Away(_) | Fault::Late => {
                true
            }
            Fault::Sql(_) | Fault::Own(_) => false,
        }
    }

    /// Did another session store the same key first?
    pub(super) fn is_duplicate_key(&self) -> bool {
        matches!(self.number(), Some(2601 | 2627))
    }

    /// Did the server refuse who we say we are? (Login failed; disabled; password ended; password must be changed.)
    pub(super) fn is_login_refused(&self) -> bool {
        matches!(self.number(), Some(18456 | 18470 | 18487 | 18488))
    }

    /// Was the connection cut off, so that others may have been, too?
    pub(super) fn is_cut_off(&self) -> bool {
        match self {
            Fault::Sql(DriverError::Server(error)) => error.class() >= 20,
            Fault::Sql(DriverError::Io { .. } | DriverError::Tls(_) | DriverError::Protocol(_)) | Fault::Away(_) => true,
            Fault::Sql(_) | Fault::Own(_) | Fault::Late => false,
        }
    }

    /// What it is, for a log: no text of the server's.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Fault::Sql(DriverError::Server(_)) => "refused by the server",
            Fault::Sql(DriverError::Io { .. } | DriverError::Tls(_)) => "connection lost",
            Fault::Sql(DriverError::Protocol(_)) => "answer not understood",
            Fault::Sql(_) => "value not understood",
            Fault::Own(_) => "ours",
            Fault::Away(_) => "not reached",
            Fault::Late => "no answer in time",
        }
    }
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        Fault::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Own(error)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Own(error) | Fault::Away(error) => fmt::Debug::fmt(error, f),
            Fault::Sql(_) | Fault::Late => {
                f.debug_struct("Fault").field("name", &self.name()).field("number", &self.number()).finish()
            }
        }
    }
}

/// What a server's refusal means here, and what cures it. Anything not in this table and not transient is a fault of a statement.
const REFUSALS: [(u32, &str); 18] = [
    (
        18456,
        "refused the identity or the password: create a contained user for this identity (see the roles script), or correct the login",
    ),
    (18470, "says that the login is disabled: enable it"),
    (18452, "wants another kind of login: check Authentication in the connection string"),
    (40532, "does not know this identity: create a contained user for it (see the roles script)"),
    (40615, "does not let this address in: add it to the server's firewall or use a private endpoint"),
    (47073, "is closed to the public network: connect from its virtual network or through a private endpoint"),
    (916, "does not let this identity into the database: create a contained user for it (see the roles script)"),
    (229, "does not grant this identity what it needs: run the grants of the roles script for its role"),
    (230, "does not grant this identity a column that it needs: run the grants of the roles script for its role"),
    (262, "does not let this identity create tables: migrate with an identity that may"),
    (208, "has not the table that a statement names: migrate it first (`hdai migrate`)"),
    (207, "has not the column that a statement names: migrate it first (`hdai migrate`)"),
    (2628, "was given a text that is longer than its column: the row was not checked against the schema first"),
    (8152, "was given a text that is longer than its column: the row was not checked against the schema first"),
    (515, "was given no value for a column that needs one: a fault of this program"),
    (547, "was given a value that breaks a constraint: a fault of this program"),
    (1105, "is full: make it larger"),
    (40544, "has reached its size: make it larger"),
];

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = match fault {
            Fault::Own(error) | Fault::Away(error) => return error,
            Fault::Late => {
                return Error::unavailable(
                    "the database did not answer in time; if it happens again, look for blocked sessions, or raise \
                     HDAI_SQL_COMMAND_SECONDS or HDAI_SQL_IMPORT_SECONDS",
                );
            }
            Fault::Sql(error) => error,
        };
        match error {
            DriverError::Server(error) => {
                let numbers = format!("SQL error {}, state {}", error.code(), error.state());
                if let Some((_, words)) = REFUSALS.iter().find(|(number, _)| *number == error.code()) {
                    return Error::internal(format!("the database {words} ({numbers})"));
                }
                if let Some(meaning) = retry::transient(error.code()) {
                    return Error::unavailable(format!("the database is not available: {meaning} ({numbers}); try again later"));
                }
                if matches!(error.code(), 2601 | 2627) {
                    return Error::unavailable(format!("another call stored the same key first ({numbers}); try again"));
                }
                Error::internal(format!(
                    "the database refused a statement ({numbers}); the number is explained in Microsoft's list of errors"
                ))
            }
            DriverError::Io { kind, .. } => {
                Error::unavailable(format!("the connection to the database was lost ({kind}); try again later"))
            }
            DriverError::Tls(_) | DriverError::Protocol(_) => {
                Error::unavailable("the connection to the database was lost (its answer was not understood); try again later")
            }
            DriverError::BulkInput(_) => {
                Error::internal("a row does not fit the columns of its table: the row was not checked against the schema first")
            }
            _ => Error::internal(
                "the database sent a value that this program cannot read; find out what else writes to the database",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_refusal_is_in_one_table_only() {
        for (place, (number, words)) in REFUSALS.iter().enumerate() {
            assert!(retry::transient(*number).is_none(), "{number} is transient");
            assert!(REFUSALS.iter().skip(place + 1).all(|(other, _)| other != number), "{number} twice");
            assert!(words.contains(':') && !words.ends_with('.'), "{words}");
        }
    }

    #[test]
    fn what_a_lost_connection_says_is_not_repeated() {
        let fault = Fault::Sql(DriverError::Io { kind: ErrorKind::ConnectionReset, message: "SECRET".into() });
        assert!(fault.is_transient(false) && fault.is_cut_off());
        assert!(!format!("{fault:?}").contains("SECRET"));
        let error = Error::from(fault);
        assert!(error.is_transient() && !error.to_string().contains("SECRET"), "{error}");
        let error = Error::from(Fault::Sql(DriverError::BulkInput("SECRET".into())));
        assert!(error.kind() == Kind::Internal && !error.to_string().contains("SECRET"), "{error}");
    }

    #[test]
    fn a_late_statement_may_be_tried_again_and_names_the_setting() {
        assert!(Fault::Late.is_transient(false) && !Fault::Late.is_cut_off());
        assert!(Error::from(Fault::Late).message().contains("HDAI_SQL_COMMAND_SECONDS"));
    }

    #[test]
    fn our_own_error_is_final() {
        assert!(!Fault::from(Error::unavailable("no")).is_transient(true));
        assert!(Fault::Away(Error::unavailable("no")).is_transient(false));
    }
}
