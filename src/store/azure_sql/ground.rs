//! A schema made for a measurement or a test and for nothing else: a plain table for a bulk load alone, and the way to remove it all.

use tiberius::TokenRow;

use super::ddl::type_name;
use super::options::Options;
use super::pool::Pool;
use super::values::{integer, push_encounter};
use crate::azure::identity::Identity;
use crate::config::SqlSettings;
use crate::domain::Encounter;
use crate::error::{Error, Result};
use crate::store::columns::encounter_columns;

/// What such a schema's name begins with: only one of that name is ever removed.
pub const GROUND_PREFIX: &str = "hdai_b_";

/// The name of the plain table in the schema.
pub const PLAIN: &str = "Plain";

/// The record's tables and views, those that point at others first.
const OBJECTS: &[(&str, &str)] = &[
    ("TABLE", PLAIN),
    ("VIEW", "EncountersDeidentified"),
    ("TABLE", "rejects"),
    ("TABLE", "importparts"),
    ("TABLE", "imports"),
    ("TABLE", "datakeys"),
    ("TABLE", "assignments"),
    ("TABLE", "elevations"),
    ("TABLE", "findings"),
    ("TABLE", "survey"),
    ("TABLE", "outbox"),
    ("TABLE", "outbox_lease"),
    ("TABLE", "models"),
    ("TABLE", "audit"),
    ("TABLE", "audithead"),
    ("TABLE", "auditrecord"),
    ("TABLE", "auditanchors"),
    ("TABLE", "PatientData"),
    ("TABLE", "MetaData_Facilities"),
    ("TABLE", "schema_migrations"),
];

/// A schema made for a measurement.
pub struct Ground {
    pool: Pool,
    schema: String,
}

impl Ground {
    /// The schema of `settings`, which must begin with [`GROUND_PREFIX`]. [`super::AzureSql`] makes it when it migrates.
    ///
    /// # Errors
    /// Invalid, if the schema's name is another or the connection string cannot be used.
    pub async fn new(settings: &SqlSettings, identity: &Identity) -> Result<Self> {
        if !settings.schema.starts_with(GROUND_PREFIX) {
            return Err(Error::invalid(format!(
                "a measurement's schema must begin with {GROUND_PREFIX}: it is removed afterwards"
            )));
        }
        Ok(Self { pool: Pool::new(Options::resolve(settings, identity).await?, settings)?, schema: settings.schema.clone() })
    }

    /// Makes the plain table, empty: the columns of the patients' table with its key, and no other rule.
    ///
    /// # Errors
    /// Unavailable, if the server cannot be reached; so for the others.
    pub async fn empty_plain(&self) -> Result<()> {
        let columns = encounter_columns().iter().map(|column| {
            let null = if column.nullable { "NULL" } else { "NOT NULL" };
            format!("{} {} {null}", column.name, type_name(column.kind))
        });
        let (schema, columns) = (&self.schema, columns.collect::<Vec<_>>().join(", "));
        self.run(&format!("DROP TABLE IF EXISTS {schema}.{PLAIN}")).await?;
        self.run(&format!("CREATE TABLE {schema}.{PLAIN} ({columns}, CONSTRAINT PK_{schema}_{PLAIN} PRIMARY KEY (eid))")).await
    }

    /// Bulk-loads `rows` into the plain table, in one transaction; answers how many arrived.
    ///
    /// # Errors
    /// Unavailable, also if the load was cut off: it is not tried again.
    pub async fn bulk_alone(&self, rows: impl Iterator<Item = Encounter> + Send) -> Result<u64> {
        let rows = rows.map(|encounter| {
            let mut row = TokenRow::with_capacity(encounter_columns().len());
            push_encounter(&mut row, encounter_columns(), &encounter)?;
            Ok(row)
        });
        let mut attempts = self.pool.importing(None);
        let mut session = attempts.session().await?;
        let outcome = session.bulk(&format!("{}.{PLAIN}", self.schema), rows).await;
        let arrived = attempts.settle(session, outcome).await?;
        arrived.ok_or_else(|| Error::unavailable("the bulk load was cut off: measure again"))
    }

    /// Removes the schema and all that was made in it.
    ///
    /// # Errors
    /// Unavailable: then it is still there, and to be removed by hand.
    pub async fn remove(&self) -> Result<()> {
        if !self.exists().await? {
            return Ok(());
        }
        for (kind, name) in OBJECTS {
            self.run(&format!("DROP {kind} IF EXISTS {}.{name}", self.schema)).await?;
        }
        self.run(&format!("DROP SCHEMA {}", self.schema)).await
    }

    async fn exists(&self) -> Result<bool> {
        let sql = format!("SELECT CAST(SCHEMA_ID(N'{}') AS int) AS id", self.schema);
        let mut attempts = self.pool.reading();
        loop {
            let mut session = attempts.session().await?;
            let outcome = session.row(&sql, &[]).await;
            if let Some(row) = attempts.settle(session, outcome).await? {
                return Ok(row.as_ref().map(|row| integer(row, 0)).transpose()?.flatten().is_some());
            }
        }
    }

    async fn run(&self, sql: &str) -> Result<()> {
        let mut attempts = self.pool.importing(None);
        loop {
            let mut session = attempts.session().await?;
            let outcome = session.batch(sql).await;
            if attempts.settle(session, outcome).await?.is_some() {
                return Ok(());
            }
        }
    }
}
