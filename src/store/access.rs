//! Whose patients a caller reaches, as the record keeps it: facilities that are assigned, and elevations (break-glass). Each method is one
//! atomic fact, as [`super::Store`]'s are.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::{Assignment, AuditEvent, Elevation, Standing};
use crate::error::Result;

/// What [`Access::break_glass`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The elevation runs from now on.
    Now,
    /// Another one of the caller's runs; here it is, without its words.
    Runs(Box<Elevation>),
    /// The caller has had as many as are allowed.
    TooMany,
}

/// What [`Access::end_elevation`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedElevation {
    /// It is over now.
    Now,
    /// None of this id runs, or it is another caller's.
    Unknown,
}

/// Assignments and elevations. The words of an elevation are answered by [`Access::elevation`] alone.
#[async_trait]
pub trait Access: Send + Sync {
    /// Puts an assignment in the place of the one before, with the audit event, in one transaction.
    async fn assign(&self, assignment: &Assignment, audit: &AuditEvent) -> Result<()>;

    /// Takes a caller's assignment away, with the audit event (a failure, if there is none), in one transaction; answers whether there was
    /// one.
    async fn unassign(&self, caller: &str, audit: &AuditEvent) -> Result<bool>;

    /// The assignments by caller, at most `limit` after the caller `after`.
    async fn assignments(&self, after: &str, limit: u32) -> Result<Vec<Assignment>>;

    /// What is said of the reach of one caller, by its [`crate::domain::elevation::caller_key`].
    async fn standing(&self, caller: &str) -> Result<Standing>;

    /// Begins an elevation, unless one of its caller runs at its beginning or `most` of the caller's began after `since`; with the audit
    /// event, in one transaction, whatever comes of it ([`Broken`] says what the event becomes). At once by several callers, or by one, it
    /// is one after the other.
    async fn break_glass(&self, elevation: &Elevation, since: DateTime<Utc>, most: u32, audit: &AuditEvent) -> Result<Broken>;

    /// Ends an elevation that runs at `at`, if it is `holder`'s (`None`: whosever it is), with the audit event, in one transaction.
    async fn end_elevation(&self, id: &str, holder: Option<&str>, at: DateTime<Utc>, audit: &AuditEvent) -> Result<EndedElevation>;

    /// The newest elevations, newest first, without their words.
    async fn elevations(&self, limit: u32) -> Result<Vec<Elevation>>;

    /// One elevation with its words.
    async fn elevation(&self, id: &str) -> Result<Option<Elevation>>;
}
