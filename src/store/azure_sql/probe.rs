//! What one look at a database tells: for `hdai doctor`, and for tests of the way in. It reads no table.

use std::time::{Duration, Instant};

use super::fault::{Fault, Outcome};
use super::options::Options;
use super::pool::{Pool, Session};
use crate::azure::identity::Identity;
use crate::config::SqlSettings;
use crate::error::{Error, Result};

/// What the server says of itself and of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its host, as the connection string names it.
    pub host: String,
    /// The database that we are in.
    pub database: String,
    /// The server's version, for example `16.0.1000.6`.
    pub version: String,
    /// True for an Azure SQL database.
    pub azure: bool,
    /// Babelfish's version, if the server is that open one.
    pub babelfish: Option<String>,
    /// Who we are to the server.
    pub login: String,
    /// Who we are in the database.
    pub user: String,
    /// TDS 8.0: TLS before the first byte of the protocol. Otherwise TLS begins after the first message; there is no third way.
    pub strict: bool,
    /// From nothing to the first answer: token, network, TLS, login, and the waits between attempts if there was more than one.
    pub connected: Duration,
    /// One more question and its answer.
    pub round_trip: Duration,
}

/// The question. `SERVERPROPERTY` answers `sql_variant`, which is cast so that its type is known.
const ABOUT: &str = "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version, \
    CAST(SERVERPROPERTY('EngineEdition') AS int) AS edition, \
    CAST(SERVERPROPERTY('babelfishversion') AS nvarchar(128)) AS babelfish, \
    CAST(DB_NAME() AS nvarchar(128)) AS databasename, \
    CAST(SUSER_SNAME() AS nvarchar(128)) AS loginname, \
    CAST(USER_NAME() AS nvarchar(128)) AS username";

/// `EngineEdition` of an Azure SQL database.
const AZURE_SQL_DATABASE: i32 = 5;

/// Whoever looks waits for the answer: no attempt begins later than this after the first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the database that `settings` name, as `identity` unless they name another, and asks it about itself. Tries again for
/// ten seconds where that may help. The connection is closed.
///
/// # Errors
/// Those of [`Options::resolve`]; unavailable or internal, with what to do, if the server cannot be reached or does not let us in.
pub async fn probe(settings: &SqlSettings, identity: &Identity) -> Result<Probe> {
    let options = Options::resolve(settings, identity).await?;
    let (host, strict) = (options.host.clone(), options.strict);
    let pool = Pool::new(options, settings)?;
    let begun = Instant::now();
    let mut attempts = pool.reading().within(PATIENCE);
    loop {
        let mut session = attempts.session().await?;
        let outcome = look(&mut session, &host, strict, begun).await;
        if let Some(probe) = attempts.settle(session, outcome).await? {
            return Ok(probe);
        }
    }
}

async fn look(session: &mut Session, host: &str, strict: bool, begun: Instant) -> Outcome<Probe> {
    let row = session
        .batch_rows(ABOUT)
        .await?
        .into_iter()
        .next()
        .ok_or_else(|| unexplained("answers a question about itself with nothing"))?;
    let connected = begun.elapsed();
    let asked = Instant::now();
    session.ping().await?;
    let round_trip = asked.elapsed();
    let text = |column: &str| row.try_get::<&str, _>(column).map(|text| text.map(str::to_owned));
    let known = |column: &str| text(column)?.ok_or_else(|| unexplained("does not say what it is"));
    Ok(Probe {
        host: host.to_owned(),
        database: known("databasename")?,
        version: known("version")?,
        azure: row.try_get::<i32, _>("edition")? == Some(AZURE_SQL_DATABASE),
        babelfish: text("babelfish")?,
        login: known("loginname")?,
        user: known("username")?,
        strict,
        connected,
        round_trip,
    })
}

fn unexplained(what: &str) -> Fault {
    Fault::Own(Error::internal(format!("the database server {what}; is it an SQL Server?")))
}
