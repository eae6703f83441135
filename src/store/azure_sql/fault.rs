//! What went wrong in the database, in words that say what to do. A server's message can quote a patient's value, so none leaves here:
//! only its number does.

use crate::error::Error;

/// An error inside a piece of database work: the driver's, or one of ours.
pub(super) enum Fault {
    /// The driver's or the server's.
    Sql(tiberius::error::Error),
    /// One of ours, complete.
    Own(Error),
}

/// What a piece of database work answers.
pub(super) type Outcome<T> = Result<T, Fault>;

impl From<tiberius::error::Error> for Fault {
    fn from(error: tiberius::error::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Own(error)
    }
}
