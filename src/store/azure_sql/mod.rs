//! The record in an Azure SQL database (or SQL Server): what a hospital runs. Several instances share it.
//! It does not know where the connection string comes from, what a message looks like, or the clock.

mod connect;
mod connection;
mod fault;
mod options;
mod pool;
mod probe;
mod retry;
#[cfg(test)]
mod stub;

pub use self::options::{Login, Options};
pub use self::probe::{Probe, probe};
