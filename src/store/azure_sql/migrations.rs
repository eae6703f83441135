//! Brings a database to the schema of this program, once, whichever instance comes first; refuses one that it cannot vouch for.

use std::fmt::Write as _;

use tiberius::Row;

use super::connection::Parameter;
use super::ddl::{self, Batch, Migration};
use super::fault::{Fault, Outcome};
use super::pool::Session;
use super::sql::Statements;
use super::values::{integer, number, optional_text, text};
use crate::error::Error;
use crate::store::rules::{Numbered, check_migrations, checksum};

/// The names of the migrations that have not run. It asks with SELECT alone.
pub(super) async fn pending(session: &mut Session, sql: &Statements, schema: &str) -> Outcome<Vec<&'static str>> {
    let done = done(session, sql).await?.unwrap_or_default();
    Ok(ddl::migrations(schema).iter().skip(done).map(|migration| migration.name).collect())
}

/// How many migrations have run; `None` if there is no ledger of them.
async fn done(session: &mut Session, sql: &Statements) -> Outcome<Option<usize>> {
    let ledger = session.row(&sql.has_migrations, &[]).await?;
    if ledger.map(|row| integer(&row, 0)).transpose()?.flatten().is_none() {
        return Ok(None);
    }
    let mut applied = Vec::new();
    for row in session.rows(&sql.migrations, &[]).await? {
        applied.push(Numbered {
            number: number(&row, "number")?,
            name: text(&row, "name")?.to_owned(),
            checksum: text(&row, "checksum")?.to_owned(),
        });
    }
    Ok(Some(check_migrations(&applied, &known())?))
}

/// What this program knows. A checksum is the same whatever the schema's name.
fn known() -> Vec<Numbered> {
    let numbered = |migration: &Migration| Numbered {
        number: migration.number,
        name: migration.name.to_owned(),
        checksum: checksum_of(migration),
    };
    ddl::migrations("dbo").iter().map(numbered).collect()
}

fn checksum_of(migration: &Migration) -> String {
    checksum(&migration.batches.iter().map(|batch| batch.text.as_str()).collect::<Vec<_>>().join("\n"))
}

/// Runs what has not run yet, in the session's transaction, alone among all instances; answers the names.
pub(super) async fn run(session: &mut Session, sql: &Statements, schema: &str) -> Outcome<Vec<String>> {
    take_lock(session, &sql.lock_migrations).await?;
    let done = match done(session, sql).await? {
        Some(done) => done,
        None => {
            make_ledger(session, sql).await.map_err(|fault| explain(fault, schema))?;
            0
        }
    };
    let open_server = match session.row(&sql.open_server, &[]).await? {
        Some(row) => optional_text(&row, 0)?.is_some(),
        None => false,
    };
    let mut ran = Vec::new();
    for (migration, Numbered { checksum, .. }) in ddl::migrations(schema).iter().zip(known()).skip(done) {
        for batch in migration.batches.iter().filter(|batch| !(batch.microsoft_only && open_server)) {
            session.batch(&batch.text).await.map_err(|fault| explain(fault, schema))?;
        }
        let number = Parameter::Long(Some(migration.number));
        let record = [number, Parameter::Text(migration.name), Parameter::Text(&checksum)];
        session.execute(&sql.record_migration, &record).await?;
        ran.push(migration.name.to_owned());
    }
    Ok(ran)
}

async fn make_ledger(session: &mut Session, sql: &Statements) -> Outcome<()> {
    let schema = session.row(&sql.schema_exists, &[]).await?;
    if schema.map(|row| integer(&row, 0)).transpose()?.flatten().is_none() {
        session.batch(&sql.create_schema).await?;
    }
    session.batch(&sql.create_ledger).await
}

/// Takes an application lock for the session's transaction.
pub(super) async fn take_lock(session: &mut Session, lock: &str) -> Outcome<()> {
    match is_taken(session.batch_rows(lock).await?.first())? {
        true => Ok(()),
        false => Err(Error::unavailable("the database is busy: another instance holds an application lock; try again").into()),
    }
}

/// Does the answer to a request for an application lock say that we have it?
pub(super) fn is_taken(answer: Option<&Row>) -> Outcome<bool> {
    Ok(matches!(answer.map(|row| number(row, 0)).transpose()?, Some(0..)))
}

/// Permission denied, in the words of several statements.
const DENIED: [u32; 7] = [229, 262, 297, 300, 1088, 2760, 15247];
/// There is already an object of that name.
const EXISTS: u32 = 2714;

/// Says what to do about what an administrator alone can put right.
fn explain(fault: Fault, schema: &str) -> Fault {
    match fault.number() {
        Some(code) if DENIED.contains(&code) => Error::unavailable(format!(
            "this identity may not change the schema (error {code}): let the database's owner run what `hdai migrate --script` prints"
        ))
        .into(),
        Some(EXISTS) => Error::conflict(format!(
            "the schema {schema} of the database holds tables of our names that no migration of ours made; set HDAI_SQL_SCHEMA to another \
             schema, and copy the rows with `hdai migrate-data`"
        ))
        .into(),
        _ => fault,
    }
}

/// One transaction. `sqlcmd` itself begins with `QUOTED_IDENTIFIER OFF`, and filtered indexes want it on.
const SCRIPT_HEAD: &str =
    "SET XACT_ABORT ON;\nSET NOCOUNT ON;\nSET QUOTED_IDENTIFIER ON;\nSET ANSI_NULLS ON;\nGO\nBEGIN TRANSACTION;\n";
/// An error rolls everything back; a tool that goes on with the next batch all the same executes none of them.
const SCRIPT_GUARD: &str = "GO\nIF @@TRANCOUNT = 0 SET NOEXEC ON;\n";
const SCRIPT_FOOT: &str = "GO\nCOMMIT TRANSACTION;\nGO\nSET NOEXEC OFF;\nGO\n";

/// Every migration as a script for `sqlcmd` or a query window, for a new database.
pub fn script(schema: &str) -> String {
    let names: Vec<_> = ddl::migrations(schema).iter().map(|migration| migration.name).collect();
    script_of(schema, &names)
}

/// The migrations of these names as a script, which does all or nothing. It leaves the same checksums as [`run`], which then finds nothing to do.
pub(super) fn script_of(schema: &str, names: &[&str]) -> String {
    let mut text = String::from(SCRIPT_HEAD);
    for (migration, Numbered { checksum, .. }) in ddl::migrations(schema).iter().zip(known()) {
        if !names.contains(&migration.name) {
            continue;
        }
        if migration.number == 1 {
            if schema != "dbo" {
                let _ = write!(text, "GO\nIF SCHEMA_ID(N'{schema}') IS NULL EXEC(N'CREATE SCHEMA {schema}');\n");
            }
            let _ = write!(text, "GO\n{}{SCRIPT_GUARD}", ddl::schema_migrations(schema));
        }
        for Batch { text: statements, microsoft_only } in &migration.batches {
            let note = if *microsoft_only { "-- Leave this batch out where the server is not Microsoft's.\n" } else { "" };
            let _ = write!(text, "GO\n{note}{statements}{SCRIPT_GUARD}");
        }
        let _ = write!(
            text,
            "GO\nINSERT INTO {schema}.schema_migrations (number, name, checksum, applied)\n\
             VALUES ({}, N'{}', N'{checksum}', SYSDATETIMEOFFSET());\n{SCRIPT_GUARD}",
            migration.number, migration.name
        );
    }
    text.push_str(SCRIPT_FOOT);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one_without_gaps() {
        for (place, migration) in (1..).zip(ddl::migrations("dbo")) {
            assert_eq!(migration.number, place, "{}", migration.name);
            assert!(migration.name.starts_with(&format!("{place:04}-")), "{}", migration.name);
        }
    }

    #[test]
    fn a_checksum_is_of_the_whole_migration() {
        let mut changed = ddl::migrations("dbo").remove(0);
        let before = checksum_of(&changed);
        changed.batches[3].text.push_str("DROP TABLE dbo.audit;");
        assert_ne!(checksum_of(&changed), before);
    }
}
