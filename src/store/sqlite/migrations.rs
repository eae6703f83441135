//! Brings a database to the schema of this program, once, whoever comes first; refuses one that it cannot vouch for.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::ddl::{self, Migration};
use super::fault::Outcome;
use super::pool::APPLICATION_ID;
use super::sql;
use crate::error::Result;
use crate::store::rules::{Numbered, check_migrations, checksum};

/// Runs what has not run yet, in the caller's transaction; answers the names.
pub(super) fn migrate(transaction: &Transaction<'_>) -> Outcome<Vec<String>> {
    transaction.execute_batch(ddl::SCHEMA_MIGRATIONS)?;
    let migrations = ddl::migrations();
    let done = check(&applied(transaction)?, &migrations)?;
    let mut ran = Vec::new();
    for migration in migrations.iter().skip(done) {
        transaction.execute_batch(&migration.sql)?;
        transaction.execute(&sql::RECORD_MIGRATION, (migration.number, migration.name, checksum(&migration.sql)))?;
        ran.push(migration.name.to_owned());
    }
    if done == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(ran)
}

/// The names of what has not run yet.
pub(super) fn pending(connection: &Connection) -> Outcome<Vec<String>> {
    let migrations = ddl::migrations();
    let known: Option<i64> = connection.query_row(&sql::HAS_MIGRATIONS, [], |row| row.get(0)).optional()?;
    let done = if known.is_some() { check(&applied(connection)?, &migrations)? } else { 0 };
    Ok(migrations.into_iter().skip(done).map(|migration| migration.name.to_owned()).collect())
}

/// Refuses a database that a newer program, or a program with other migrations, has made. One without a schema passes.
pub(super) fn verify(connection: &Connection) -> Outcome<()> {
    let known: Option<i64> = connection.query_row(&sql::HAS_MIGRATIONS, [], |row| row.get(0)).optional()?;
    if known.is_some() {
        check(&applied(connection)?, &ddl::migrations())?;
    }
    Ok(())
}

fn applied(connection: &Connection) -> Outcome<Vec<Numbered>> {
    let mut statement = connection.prepare(&sql::MIGRATIONS)?;
    let rows = statement
        .query_map([], |row| Ok(Numbered { number: row.get("number")?, name: row.get("name")?, checksum: row.get("checksum")? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn check(applied: &[Numbered], migrations: &[Migration]) -> Result<usize> {
    let known = |migration: &Migration| Numbered {
        number: migration.number,
        name: migration.name.to_owned(),
        checksum: checksum(&migration.sql),
    };
    check_migrations(applied, &migrations.iter().map(known).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one_without_gaps() {
        for (place, migration) in (1..).zip(ddl::migrations()) {
            assert_eq!(migration.number, place, "{}", migration.name);
            assert!(migration.name.starts_with(&format!("{place:04}-")), "{}", migration.name);
        }
    }
}
