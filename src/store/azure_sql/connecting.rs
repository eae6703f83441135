//! Where connections come from: a connection string that stays, or the one that the Key Vault holds now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connect::Connector;
use super::connection::Connection;
use super::fault::{Fault, Outcome};
use super::options::Options;
use crate::azure::cached_secret::CachedSecret;
use crate::azure::identity::Identity;
use crate::config::{Secret, SqlSettings};
use crate::error::{Error, Kind, Result};

/// Where connections come from.
pub(super) enum Connecting {
    /// A connection string that stays.
    Fixed(Box<Connector>),
    /// A secret that may change.
    Vault(Box<Rotating>),
}

impl Connecting {
    /// Longest time for one ordinary statement.
    pub(super) fn command(&self) -> Duration {
        match self {
            Connecting::Fixed(connector) => connector.command(),
            Connecting::Vault(rotating) => rotating.command(),
        }
    }

    /// A new connection, logged in and set up.
    pub(super) async fn connect(&self) -> Outcome<Connection> {
        match self {
            Connecting::Fixed(connector) => connector.connect().await,
            Connecting::Vault(rotating) => rotating.connect().await,
        }
    }
}

/// Connections by the connection string that the Key Vault holds now. Those that are open keep theirs until they are retired.
pub(super) struct Rotating {
    secret: CachedSecret,
    identity: Identity,
    settings: SqlSettings,
    current: Mutex<Option<(Secret, Arc<Connector>)>>,
}

impl Rotating {
    /// Reads the connection string for the first time; connects to nothing.
    ///
    /// # Errors
    /// Those of [`CachedSecret::get`] and of [`Options::parse`].
    pub(super) async fn open(secret: CachedSecret, identity: &Identity, settings: &SqlSettings) -> Result<Self> {
        let rotating = Self { secret, identity: identity.clone(), settings: settings.clone(), current: Mutex::default() };
        rotating.connector(rotating.secret.get().await?)?;
        Ok(rotating)
    }

    fn command(&self) -> Duration {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map_or(self.settings.command, |(_, connector)| connector.command())
    }

    async fn connect(&self) -> Outcome<Connection> {
        let secret = self.secret.get().await.map_err(away)?;
        match self.connector(secret.clone())?.connect().await {
            Err(fault) if fault.is_login_refused() => match self.secret.other_than(&secret).await {
                Some(other) => {
                    tracing::info!(
                        "the database refused the login, and the Key Vault holds another connection string: it is tried"
                    );
                    self.connector(other)?.connect().await
                }
                None => Err(fault),
            },
            connected => connected,
        }
    }

    /// The connector of this connection string.
    fn connector(&self, secret: Secret) -> Result<Arc<Connector>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = current.as_ref().filter(|(known, _)| *known == secret) {
            return Ok(connector.clone());
        }
        let connector = Arc::new(Connector::new(Options::parse(&secret, &self.identity)?, &self.settings)?);
        if current.is_some() {
            tracing::info!("the database's connection string has changed in the Key Vault; new connections use it");
        }
        *current = Some((secret, connector.clone()));
        Ok(connector)
    }
}

/// A vault that is away may be back soon; a secret that has ended stays so.
fn away(error: Error) -> Fault {
    match error.kind() {
        Kind::Unavailable => Fault::Away(error),
        _ => Fault::Own(error),
    }
}
