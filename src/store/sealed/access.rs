//! Assignments and elevations: the words of an elevation may hold anything, and are encrypted as names are.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Sealed;
use super::cipher::{Place, key_of};
use crate::domain::{Assignment, AuditEvent, Elevation, Phi, Standing};
use crate::error::{Error, Result};
use crate::store::access::{Access, Broken, EndedElevation};

impl Sealed {
    /// The stored words of the elevation `id` in plain text.
    pub(super) async fn opened_words(&self, id: &str, stored: &Phi<String>) -> Result<Phi<String>> {
        let Some(key) = key_of(stored.reveal()) else { return Ok(stored.clone()) };
        let ciphers = self.keyring.of(std::iter::once(key)).await?;
        let cipher = ciphers.get(key).ok_or_else(|| Error::internal("a data key is not at hand"))?;
        cipher.open(Place::Elevation(id), stored.reveal()).map(Phi::new)
    }
}

#[async_trait]
impl Access for Sealed {
    async fn break_glass(&self, elevation: &Elevation, since: DateTime<Utc>, most: u32, audit: &AuditEvent) -> Result<Broken> {
        let cipher = self.keyring.current().await?;
        let words = Phi::new(cipher.seal(Place::Elevation(&elevation.id), elevation.words.reveal())?);
        self.inner.break_glass(&Elevation { words, ..elevation.clone() }, since, most, audit).await
    }

    async fn elevation(&self, id: &str) -> Result<Option<Elevation>> {
        let Some(elevation) = self.inner.elevation(id).await? else { return Ok(None) };
        Ok(Some(Elevation { words: self.opened_words(id, &elevation.words).await?, ..elevation }))
    }

    // From here on nothing has words in it.

    async fn assign(&self, assignment: &Assignment, audit: &AuditEvent) -> Result<()> {
        self.inner.assign(assignment, audit).await
    }

    async fn unassign(&self, caller: &str, audit: &AuditEvent) -> Result<bool> {
        self.inner.unassign(caller, audit).await
    }

    async fn assignments(&self, after: &str, limit: u32) -> Result<Vec<Assignment>> {
        self.inner.assignments(after, limit).await
    }

    async fn standing(&self, caller: &str) -> Result<Standing> {
        self.inner.standing(caller).await
    }

    async fn end_elevation(&self, id: &str, holder: Option<&str>, at: DateTime<Utc>, audit: &AuditEvent) -> Result<EndedElevation> {
        self.inner.end_elevation(id, holder, at, audit).await
    }

    async fn elevations(&self, limit: u32) -> Result<Vec<Elevation>> {
        self.inner.elevations(limit).await
    }
}
