//! From options to a connection: the token, the network, TLS, the login, the gateway's redirects.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::TokenCredential;
use tiberius::error::Error as DriverError;
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use uuid::Uuid;

use super::connection::{Connection, driven};
use super::fault::{Fault, Outcome};
use super::options::{Login, Options, is_local};
use crate::azure::identity;
use crate::config::SqlSettings;
use crate::error::{Error, Result};

/// What a token for Azure SQL is asked for.
const SCOPE: &str = "https://database.windows.net/.default";

/// A connection whose token ends sooner than this is not used again.
const TOKEN_LEFT_MIN: Duration = Duration::from_secs(300);

/// SQL Server's limit for an encrypted connection. A packet then also fits in one TLS record, and there are few enough packets that
/// the open server's fault with a load whose end is split over two of them (it is retried) stays rare.
const PACKET_BYTES: u32 = 16_383;

/// Most redirects in a row; Azure's gateway sends one.
const REDIRECTS_MAX: usize = 3;

/// A transaction ends with its first error, as everywhere else; a lock is not waited for longer than a caller waits.
const SESSION: &str = "SET XACT_ABORT ON; SET LOCK_TIMEOUT 30000;";

/// Everything that a connection needs.
pub(super) struct Connector {
    options: Options,
    authorities: Option<Vec<u8>>,
    credential: Option<Arc<dyn TokenCredential>>,
    command: Duration,
    lifetime: Duration,
}

impl Connector {
    /// Reads the certificate authorities and builds the credential; connects to nothing.
    ///
    /// # Errors
    /// Invalid, if the file of authorities cannot be read; unavailable, if the environment has no such identity.
    pub(super) fn new(options: Options, settings: &SqlSettings) -> Result<Self> {
        let authorities = settings.ca_file.as_ref().map(authorities).transpose()?;
        if authorities.is_some() && options.trust_certificate {
            return Err(Error::invalid("HDAI_SQL_CA_FILE and TrustServerCertificate=True exclude each other: remove one"));
        }
        let credential = match &options.login {
            Login::Entra(identity) => Some(identity::credential(identity)?),
            Login::Sql { .. } => None,
        };
        let command = options.command.unwrap_or(settings.command);
        Ok(Self { options, authorities, credential, command, lifetime: settings.lifetime })
    }

    /// Longest time for one ordinary statement.
    pub(super) fn command(&self) -> Duration {
        self.command
    }

    /// A new connection, logged in and set up.
    pub(super) async fn connect(&self) -> Outcome<Connection> {
        let seconds = self.options.connect.as_secs();
        let late =
            || Fault::Away(Error::unavailable(format!("no token for the database came within {seconds} s; try again later")));
        let (login, token_left) = timeout(self.options.connect, self.authentication()).await.map_err(|_| late())??;
        match timeout(self.options.connect, self.log_in(login, token_left)).await {
            Ok(connected) => connected,
            Err(_) => Err(self.away(&format!("did not let us in within {seconds} s"))),
        }
    }

    async fn log_in(&self, login: AuthMethod, token_left: Option<Duration>) -> Outcome<Connection> {
        let mut target = (self.options.host.clone(), self.options.port);
        for _ in 0..=REDIRECTS_MAX {
            match self.knock(&target, login.clone()).await {
                Ok(mut client) => {
                    let set_up = async { client.simple_query(SESSION).await?.into_results().await };
                    driven(self.command, set_up).await?;
                    return Ok(Connection::new(client, self.command, self.retire(token_left)));
                }
                Err(Fault::Sql(DriverError::Routing { host, port })) => target = self.redirect(host, port)?,
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::Own(Error::unavailable(
            "the database server's gateway redirects in a circle: try again later, then ask its provider",
        )))
    }

    async fn authentication(&self) -> Outcome<(AuthMethod, Option<Duration>)> {
        match (&self.options.login, &self.credential) {
            (Login::Sql { user, password }, _) => Ok((AuthMethod::sql_server(user, password.reveal()), None)),
            (Login::Entra(identity), Some(credential)) => {
                let token = identity::token(credential.as_ref(), identity, SCOPE).await?;
                Ok((AuthMethod::aad_token(token.secret.reveal()), Some(token.valid)))
            }
            (Login::Entra(_), None) => Err(Fault::Own(Error::internal("the database's identity has no credential"))),
        }
    }

    /// One TCP connection, TLS and login.
    async fn knock(&self, target: &(String, u16), login: AuthMethod) -> Outcome<Client<Compat<TcpStream>>> {
        let config = self.config(target, login);
        let stream = TcpStream::connect((target.0.as_str(), target.1)).await.map_err(|error| self.away(&cannot(&error)))?;
        stream.set_nodelay(true).map_err(|error| self.away(&cannot(&error)))?;
        let client = Client::connect(config, stream.compat_write()).with_subscriber(Dispatch::none()).await;
        client.map_err(|error| match error {
            DriverError::Tls(reason) => Fault::Own(self.no_tls(&reason)),
            // TLS reports what the other side said of us as invalid data; a broken connection has other kinds.
            DriverError::Io { kind: ErrorKind::InvalidData, .. } => {
                Fault::Own(self.no_tls("the server speaks no TLS that we know"))
            }
            DriverError::Io { kind, .. } => self.away(&format!("broke the connection off at the login ({kind})")),
            DriverError::Protocol(reason) if reason.contains("encryption level") => {
                Fault::Own(self.no_tls("the server offers no encryption, and without it nothing is sent"))
            }
            DriverError::Protocol(_) => self.away("answered the login with something that is not TDS"),
            other => Fault::Sql(other),
        })
    }

    fn config(&self, (host, port): &(String, u16), login: AuthMethod) -> Config {
        let mut config = Config::new();
        config.host(host);
        config.port(*port);
        config.database(&self.options.database);
        config.application_name(&self.options.application);
        config.authentication(login);
        config.packet_size(PACKET_BYTES);
        // Both are ours: the one around everything here, the other around each whole statement.
        config.handshake_timeout(None);
        config.command_timeout(None);
        config.encryption(match self.options.strict {
            true => EncryptionLevel::Strict,
            false => EncryptionLevel::Required,
        });
        match (&self.authorities, self.options.trust_certificate) {
            (_, true) => config.trust_cert(),
            (Some(authorities), false) => config.trust_cert_ca_bundle(authorities.clone()),
            (None, false) => {}
        }
        if let Some(name) = &self.options.certificate_host {
            config.hostname_in_certificate(name);
        }
        config
    }

    /// Where a gateway sends us. What is allowed only on this machine does not travel to another.
    fn redirect(&self, host: String, port: u16) -> Outcome<(String, u16)> {
        let on_this_machine_only = self.options.trust_certificate || matches!(self.options.login, Login::Sql { .. });
        match on_this_machine_only && !is_local(&host) {
            true => Err(Fault::Own(Error::invalid(
                "the local database server redirects to another machine, where neither a password nor any certificate is accepted: \
                 connect to that machine itself",
            ))),
            false => Ok((host, port)),
        }
    }

    /// When a connection that is made now should be replaced: a little before its lifetime ends, by chance, so that not all go at
    /// once; and before its token ends.
    fn retire(&self, token_left: Option<Duration>) -> Instant {
        let chance = f64::from(Uuid::new_v4().as_u64_pair().1 as u16) / f64::from(u16::MAX);
        let life = self.lifetime.mul_f64(1.0 - 0.2 * chance);
        let token = token_left.map_or(life, |left| left.saturating_sub(TOKEN_LEFT_MIN));
        Instant::now() + life.min(token)
    }

    fn away(&self, what: &str) -> Fault {
        let Options { host, port, .. } = &self.options;
        Fault::Away(Error::unavailable(format!(
            "the database server {host}, port {port}, {what}; check Server in the connection string, that the server runs, and that its \
             firewall lets this address in"
        )))
    }

    fn no_tls(&self, reason: &str) -> Error {
        let Options { host, port, .. } = &self.options;
        // The driver adds advice about its own interface behind the first sentence.
        let reason = reason.split(". To connect anyway").next().unwrap_or_default().trim_end_matches('.');
        Error::unavailable(format!(
            "no secure connection to the database server {host}, port {port}: {reason}; name its certificate authority in \
             HDAI_SQL_CA_FILE, or the name in its certificate in HostNameInCertificate"
        ))
    }
}

fn cannot(error: &std::io::Error) -> String {
    format!("cannot be reached ({error})")
}

fn authorities(path: &PathBuf) -> Result<Vec<u8>> {
    let cause = |cause| Error::invalid("the file of the setting HDAI_SQL_CA_FILE cannot be read").caused_by(cause);
    let bytes = fs::read(path).map_err(cause)?;
    match bytes.windows(10).any(|window| window == b"-----BEGIN") {
        true => Ok(bytes),
        false => Err(Error::invalid("the file of the setting HDAI_SQL_CA_FILE holds no certificate in PEM form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::identity::Identity;
    use crate::config::{Secret, SqlConnection};

    fn connector(text: &str) -> Connector {
        let settings = SqlSettings::new(SqlConnection::Text(Secret::new(text)));
        Connector::new(Options::parse(&Secret::new(text), &Identity::default()).unwrap(), &settings).unwrap()
    }

    #[test]
    fn a_password_does_not_follow_a_redirect_to_another_machine() {
        let local = connector("Server=localhost;Database=d;UID=sa;PWD=x");
        assert!(local.redirect("127.0.0.1".into(), 1500).is_ok());
        assert!(local.redirect("db.example.org".into(), 1433).is_err());
        let trusting = connector("Server=localhost;Database=d;TrustServerCertificate=True");
        assert!(trusting.redirect("db.example.org".into(), 1433).is_err());
        let entra = connector("Server=db.example.org;Database=d");
        assert!(entra.redirect("worker.example.org".into(), 11_001).is_ok());
    }

    #[test]
    fn a_connection_is_retired_before_its_token_ends() {
        let connector = connector("Server=db.example.org;Database=d");
        let soon = connector.retire(Some(Duration::from_secs(600))).saturating_duration_since(Instant::now());
        assert!(soon <= Duration::from_secs(300) && soon > Duration::from_secs(290), "{soon:?}");
        assert!(connector.retire(Some(Duration::from_secs(10))) <= Instant::now());
        let life = connector.retire(None).saturating_duration_since(Instant::now()).as_secs();
        assert!((1435..=1800).contains(&life), "{life}");
    }

    #[test]
    fn a_file_without_a_certificate_is_no_authority() {
        let text = Secret::new("Server=localhost;Database=d");
        let mut settings = SqlSettings::new(SqlConnection::Text(text.clone()));
        settings.ca_file = Some("Cargo.toml".into());
        let options = Options::parse(&text, &Identity::default()).unwrap();
        assert!(Connector::new(options.clone(), &settings).is_err());
        settings.ca_file = Some("there/is/none.pem".into());
        assert!(Connector::new(options, &settings).is_err());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let fault = connector(&format!("Server=127.0.0.1,{port};Database=d;UID=sa;PWD=S3cr3t")).connect().await.err().unwrap();
        assert!(fault.is_transient(false));
        let message = Error::from(fault).to_string();
        assert!(message.contains(&format!("127.0.0.1, port {port}")) && !message.contains("S3cr3t"), "{message}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!("Server=127.0.0.1,{port};Database=d;UID=sa;PWD=x;Connect Timeout=1");
        let fault = connector(&text).connect().await.err().unwrap();
        assert!(Error::from(fault).to_string().contains("within 1 s"));
    }
}
