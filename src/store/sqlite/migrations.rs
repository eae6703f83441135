//! Brings a database to the schema of this program, once, whoever comes first; refuses one that it cannot vouch for.

use rusqlite::{Connection, OptionalExtension, Transaction};
use sha2::{Digest, Sha256};

use super::ddl::{self, Migration};
use super::fault::Outcome;
use super::pool::APPLICATION_ID;
use super::sql;
use crate::error::{Error, Result};

/// A migration that ran on this database.
struct Applied {
    number: i64,
    name: String,
    checksum: String,
}

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

/// Refuses a database that a newer program, or a program with other migrations, has made. One without a schema passes.
pub(super) fn verify(connection: &Connection) -> Outcome<()> {
    let known: Option<i64> = connection.query_row(&sql::HAS_MIGRATIONS, [], |row| row.get(0)).optional()?;
    if known.is_some() {
        check(&applied(connection)?, &ddl::migrations())?;
    }
    Ok(())
}

fn applied(connection: &Connection) -> Outcome<Vec<Applied>> {
    let mut statement = connection.prepare(&sql::MIGRATIONS)?;
    let rows = statement
        .query_map([], |row| Ok(Applied { number: row.get("number")?, name: row.get("name")?, checksum: row.get("checksum")? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many of `migrations` are `applied`, if those are exactly the first ones.
fn check(applied: &[Applied], migrations: &[Migration]) -> Result<usize> {
    if let Some(newer) = applied.get(migrations.len()) {
        return Err(Error::conflict(format!(
            "the database is newer than this program: it has migration {} which this program does not know; install the newer program",
            newer.name
        )));
    }
    for (ran, migration) in applied.iter().zip(migrations) {
        if ran.number != migration.number || ran.checksum != checksum(&migration.sql) {
            return Err(Error::conflict(format!(
                "migration {} of the database is not the one this program has as {}: the database was made by a build with another \
                 schema; use that build, or begin a new database and import the files again",
                ran.name, migration.name
            )));
        }
    }
    Ok(applied.len())
}

/// SHA-256 of what SQLite makes of `sql`: comments and layout may change, statements may not.
fn checksum(sql: &str) -> String {
    let mut hash = Sha256::new();
    for word in sql.lines().flat_map(|line| line.split("--").next().unwrap_or_default().split_whitespace()) {
        hash.update(word);
        hash.update(" ");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_follows_statements_and_not_comments() {
        assert_eq!(checksum("CREATE TABLE a (\n  b, -- why\n  c);"), checksum("CREATE TABLE a ( b,\n\n c);"));
        assert_ne!(checksum("CREATE TABLE a (b);"), checksum("CREATE TABLE a (c);"));
    }

    #[test]
    fn migrations_are_numbered_from_one_without_gaps() {
        for (place, migration) in (1..).zip(ddl::migrations()) {
            assert_eq!(migration.number, place, "{}", migration.name);
            assert!(migration.name.starts_with(&format!("{place:04}-")), "{}", migration.name);
        }
    }
}
