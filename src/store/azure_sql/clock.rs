//! What time it is for the database, for a comparison with this machine's clock.

use chrono::{DateTime, Utc};

use super::fault::Outcome;
use super::options::Options;
use super::pool::{Pool, Session};
use super::values::instant;
use crate::azure::identity::Identity;
use crate::config::SqlSettings;
use crate::error::{Error, Result};

/// The database's clock, asked over a connection of its own.
///
/// # Errors
/// As for [`super::probe`].
pub async fn server_time(settings: &SqlSettings, identity: &Identity) -> Result<DateTime<Utc>> {
    let pool = Pool::new(Options::resolve(settings, identity).await?, settings)?;
    let mut attempts = pool.reading();
    loop {
        let mut session = attempts.session().await?;
        let outcome = ask(&mut session).await;
        if let Some(told) = attempts.settle(session, outcome).await? {
            return Ok(told);
        }
    }
}

async fn ask(session: &mut Session) -> Outcome<DateTime<Utc>> {
    let row = session.row("SELECT CAST(SYSDATETIMEOFFSET() AS datetimeoffset(7)) AS told", &[]).await?;
    instant(&row.ok_or_else(|| Error::internal("the database does not tell the time"))?, "told")
}
