//! An ADO.NET connection string, read: what `Microsoft.Data.SqlClient` reads, less what would weaken a hospital's record.

use std::fmt;
use std::time::Duration;

use crate::azure::identity::{self, Identity};
use crate::azure::vault;
use crate::config::{Secret, SqlConnection, SqlSettings};
use crate::error::{Error, Result};

mod keywords;

use keywords::{Keyword, Words};

/// What a connection string says. Its `Debug` shows no value.
#[derive(Clone)]
pub struct Options {
    /// Host name or address, without a protocol.
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
    /// Longest time to connect and log in, redirects included; as long again for a token.
    pub connect: Duration,
    /// Longest wait for the answer to a statement, in the place of `HDAI_SQL_COMMAND_SECONDS`.
    pub command: Option<Duration>,
    /// What the server's lists of sessions call us.
    pub application: String,
}

/// How we prove who we are. Its `Debug` shows no value.
#[derive(Clone)]
pub enum Login {
    /// A Microsoft Entra token of this identity.
    Entra(Identity),
    /// User and password; for local servers, and for a source that rows are taken over from.
    Sql {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Options");
        shown.field("strict", &self.strict).field("trust_certificate", &self.trust_certificate).field("login", &self.login);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Entra(_) => "Entra",
            Login::Sql { .. } => "Sql",
        })
    }
}

/// How long a connection may take when the string does not say; the default of `SqlClient` itself.
const CONNECT: Duration = Duration::from_secs(15);

impl Options {
    /// The options that `settings` name, the connection string fetched from its Key Vault if it lies there. `identity` opens the vault,
    /// and the database too unless the string names another.
    ///
    /// # Errors
    /// Those of [`vault::secret`] and [`Options::parse`].
    pub async fn resolve(settings: &SqlSettings, identity: &Identity) -> Result<Self> {
        Self::read(&text(settings, identity).await?, identity, Passwords::Local)
    }

    /// [`Options::resolve`] for a server that is only read from, once, to take its rows over: an old server in the hospital may know
    /// passwords alone, so one is sent to another machine too. The connection is encrypted, and the certificate is checked.
    ///
    /// # Errors
    /// As [`Options::resolve`].
    pub(super) async fn resolve_source(settings: &SqlSettings, identity: &Identity) -> Result<Self> {
        Self::read(&text(settings, identity).await?, identity, Passwords::Anywhere)
    }

    /// Reads a connection string. `identity` is who logs in when the string names neither a user nor another identity.
    ///
    /// # Errors
    /// Invalid, naming the keyword and never a value.
    pub fn parse(text: &Secret, identity: &Identity) -> Result<Self> {
        Self::read(text, identity, Passwords::Local)
    }

    fn read(text: &Secret, identity: &Identity, passwords: Passwords) -> Result<Self> {
        let words = Words::read(text.reveal())?;
        let server = words.get(Keyword::Server).ok_or_else(|| missing("Server"))?;
        let (host, port) = address(server)?;
        let local = is_local(&host);
        let database = words.get(Keyword::Database).ok_or_else(|| missing("Database"))?.to_owned();
        let login = login(&words, identity, local || passwords == Passwords::Anywhere)?;
        if words.flag(Keyword::IntegratedSecurity)?.unwrap_or(false) {
            return Err(refused("Integrated Security", "is not supported: use Authentication=Active Directory Default"));
        }
        let trust_certificate = words.flag(Keyword::TrustServerCertificate)?.unwrap_or(false);
        if trust_certificate && !local {
            return Err(refused(
                "TrustServerCertificate",
                "is for local servers only: remove it, and name the server's certificate authority in HDAI_SQL_CA_FILE",
            ));
        }
        words.harmless_only()?;
        Ok(Self {
            strict: encryption(&words)?,
            trust_certificate,
            certificate_host: words.get(Keyword::HostNameInCertificate).map(str::to_owned),
            connect: words.seconds(Keyword::ConnectTimeout, 600)?.unwrap_or(CONNECT),
            command: words.seconds(Keyword::CommandTimeout, 86_400)?,
            application: words.get(Keyword::ApplicationName).unwrap_or("hdai").chars().take(128).collect(),
            host,
            port,
            database,
            login,
        })
    }
}

/// Which servers a password may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passwords {
    Local,
    Anywhere,
}

async fn text(settings: &SqlSettings, identity: &Identity) -> Result<Secret> {
    match &settings.connection {
        SqlConnection::Text(text) => Ok(text.clone()),
        SqlConnection::Vault(url) => vault::secret(identity::credential(identity)?, url).await,
    }
}

fn refused(keyword: &str, why: &str) -> Error {
    Error::invalid(format!("the connection string cannot be used: {keyword} {why}"))
}

fn missing(keyword: &str) -> Error {
    refused(keyword, "is missing")
}

/// Is `host` this machine, so that nothing travels over a network?
pub(super) fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Host and port of `Server`: `[tcp:]HOST[,PORT]`.
fn address(server: &str) -> Result<(String, u16)> {
    let rest = match server.split_once(':') {
        Some((protocol, rest)) if protocol.eq_ignore_ascii_case("tcp") => rest,
        Some((protocol, _)) if ["np", "lpc", "admin"].iter().any(|other| protocol.eq_ignore_ascii_case(other)) => {
            return Err(refused("Server", "must be reached over TCP: write tcp:HOST,PORT"));
        }
        _ => server,
    };
    if rest.contains('\\') {
        return Err(refused(
            "Server",
            "names an instance, which would be looked up without encryption: write HOST,PORT of the instance",
        ));
    }
    let (host, port) = match rest.split_once(',') {
        Some((host, port)) => (host.trim(), port.trim().parse::<u16>().ok().filter(|port| *port > 0)),
        None => (rest.trim(), Some(1433)),
    };
    let port = port.ok_or_else(|| refused("Server", "has a port that is not a number from 1 to 65535"))?;
    let host = match host {
        "." => "localhost",
        host if host.eq_ignore_ascii_case("(local)") => "localhost",
        host => host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host),
    };
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c)) {
        return Err(refused("Server", "must be a host name or an address, then a comma and the port"));
    }
    Ok((host.to_owned(), port))
}

/// Strict or not; encrypted in any case.
fn encryption(words: &Words) -> Result<bool> {
    match words.get(Keyword::Encrypt).map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "yes" | "mandatory") => Ok(false),
        Some("strict") => Ok(true),
        Some("false" | "no" | "optional") => {
            tracing::warn!("the connection string says Encrypt=False; the connection is encrypted all the same");
            Ok(false)
        }
        Some(_) => Err(refused("Encrypt", "must be True, Mandatory, Strict, False, Optional or No")),
    }
}

fn login(words: &Words, identity: &Identity, with_password: bool) -> Result<Login> {
    let user = words.get(Keyword::User);
    let password = words.get(Keyword::Password);
    let entra = |kind: identity::Kind| {
        if password.is_some() {
            return Err(refused("Password", "does not go with an Active Directory Authentication: remove it"));
        }
        Ok(Login::Entra(Identity { kind, client_id: user.map(str::to_owned).or_else(|| identity.client_id.clone()) }))
    };
    let sql = || match (user, password) {
        (Some(_), Some(_)) if !with_password => Err(refused(
            "Password",
            "is for local servers only: remove User ID and Password, and give the app's identity a contained user in the database",
        )),
        (Some(user), Some(password)) => Ok(Login::Sql { user: user.to_owned(), password: Secret::new(password) }),
        _ => Err(refused("User ID", "and Password go together: give both or neither")),
    };
    let said = words.get(Keyword::Authentication).map(|said| said.replace(' ', "").to_ascii_lowercase());
    match said.as_deref() {
        None if user.is_none() && password.is_none() => entra(identity.kind),
        None | Some("sqlpassword") => sql(),
        Some("activedirectorydefault") => entra(identity.kind),
        Some("activedirectorymanagedidentity" | "activedirectorymsi") => entra(identity::Kind::Managed),
        Some("activedirectoryworkloadidentity") => entra(identity::Kind::Workload),
        Some("activedirectoryserviceprincipal") => {
            Err(refused("Authentication", "by a client secret is not supported: use a managed or a workload identity"))
        }
        Some(other) if other.starts_with("activedirectory") => Err(refused(
            "Authentication",
            "needs a person at the keyboard or a person's password: use Active Directory Default, Managed Identity or Workload Identity",
        )),
        Some(_) => Err(refused(
            "Authentication",
            "must be Active Directory Default, Managed Identity or Workload Identity, or SqlPassword",
        )),
    }
}

#[cfg(test)]
mod tests;
