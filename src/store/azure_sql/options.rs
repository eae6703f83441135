//! An ADO.NET connection string, read.

use std::time::Duration;

use crate::config::Secret;
use crate::error::Result;

/// What a connection string says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host name, without a protocol.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// How we prove who we are.
    pub login: Login,
    /// TDS 8.0 (`Encrypt=Strict`); otherwise encryption is still required.
    pub strict: bool,
    /// Any certificate passes; local hosts only.
    pub trust_certificate: bool,
    /// The name in the certificate, if it is another than `host`.
    pub certificate_host: Option<String>,
    /// Longest time to connect and log in.
    pub connect: Duration,
}

/// How we prove who we are.
#[derive(Debug, Clone)]
pub enum Login {
    /// A Microsoft Entra token of our identity (see `azure::identity`).
    Entra(crate::azure::identity::Identity),
    /// User and password; local servers only.
    Sql {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

impl Options {
    /// Reads a connection string.
    ///
    /// # Errors
    /// Invalid, naming the keyword and never a value.
    pub fn parse(text: &Secret) -> Result<Self> {
        let _ = text;
        todo!()
    }
}
