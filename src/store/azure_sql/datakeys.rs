//! Data keys, and names that go from one key to another.

use tiberius::{ColumnData, Row, TokenRow};

use super::audit;
use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::{NAMES, Statements};
use super::values::{bytes, instant, number, optional_text, text, text_cell};
use crate::domain::{AuditEvent, EncounterId, PersonName};
use crate::store::columns::unreadable;
use crate::store::datakeys::{DataKey, KeyState, Renaming};

/// Every data key, oldest first.
pub(super) async fn all(session: &mut Session, sql: &Statements) -> Outcome<Vec<DataKey>> {
    let read = |row: &Row| -> Outcome<DataKey> {
        Ok(DataKey {
            id: text(row, "id")?.to_owned(),
            wrapped: bytes(row, "wrapped")?,
            wrapped_by: text(row, "wrappedby")?.to_owned(),
            state: KeyState::parse(text(row, "state")?).ok_or_else(|| unreadable("state of a data key"))?,
            created: instant(row, "created")?,
        })
    };
    session.rows(&sql.data_keys, &[]).await?.iter().map(read).collect()
}

/// Makes `key` the current one in the place of `after`. Whoever loses a race is tried again and finds another one.
pub(super) async fn add(
    session: &mut Session,
    sql: &Statements,
    key: &DataKey,
    after: Option<&str>,
    event: Option<&AuditEvent>,
) -> Outcome<bool> {
    let row = session.row(&sql.current_data_key, &[]).await?;
    let current = row.as_ref().map(|row| text(row, 0)).transpose()?;
    if current != after {
        return Ok(current == Some(key.id.as_str()));
    }
    match after {
        Some(after) => {
            if session.execute(&sql.age_data_key, &[Parameter::Text(after)]).await? == 0 {
                return Ok(false);
            }
        }
        None => {
            session.execute(&sql.note_plain_names, &[Parameter::Bytes(&[]), Parameter::Instant(key.created)]).await?;
        }
    }
    let values = [
        Parameter::Text(&key.id),
        Parameter::Bytes(&key.wrapped),
        Parameter::Text(&key.wrapped_by),
        Parameter::Text(KeyState::Current.name()),
        Parameter::Instant(key.created),
    ];
    session.execute(&sql.insert_data_key, &values).await?;
    if let Some(event) = event {
        audit::append(session, sql, event).await?;
    }
    Ok(true)
}

/// Retires those of `ids` that are old.
pub(super) async fn retire(session: &mut Session, sql: &Statements, ids: &[String], event: &AuditEvent) -> Outcome<u64> {
    let mut retired = 0;
    for id in ids {
        retired += session.execute(&sql.retire_data_key, &[Parameter::Text(id)]).await?;
    }
    audit::append(session, sql, event).await?;
    Ok(retired)
}

/// Puts another wrapping in the place of the one by `from`.
pub(super) async fn rewrap(
    session: &mut Session,
    sql: &Statements,
    key: &DataKey,
    from: &str,
    event: &AuditEvent,
) -> Outcome<bool> {
    let values =
        [Parameter::Text(&key.id), Parameter::Bytes(&key.wrapped), Parameter::Text(&key.wrapped_by), Parameter::Text(from)];
    let rewrapped = session.execute(&sql.rewrap_data_key, &values).await? > 0;
    audit::append_as(session, sql, event, rewrapped).await?;
    Ok(rewrapped)
}

/// Names with a part that is not under `prefix`.
pub(super) async fn not_under(
    session: &mut Session,
    sql: &Statements,
    prefix: &str,
    after: Option<EncounterId>,
    limit: u32,
) -> Outcome<Vec<(EncounterId, PersonName)>> {
    let from = Parameter::Int(Some(after.map_or(0, EncounterId::get)));
    let rows = session.rows(&sql.names_not_under, &[from, Parameter::Text(prefix), Parameter::Long(Some(limit.into()))]).await?;
    let read = |row: &Row| -> Outcome<(EncounterId, PersonName)> {
        let part = |place: usize| optional_text(row, place).map(Option::unwrap_or_default);
        let id = EncounterId::new(number(row, 0)?).ok_or_else(|| unreadable("encounter id"))?;
        Ok((id, PersonName::new(part(1)?, part(2)?, part(3)?)))
    };
    rows.iter().map(read).collect()
}

/// Puts names into another form where they are still as they were.
pub(super) async fn replace(session: &mut Session, sql: &Statements, renamings: &[Renaming]) -> Outcome<u64> {
    let row = |Renaming { id, from, to }: &Renaming| {
        let mut row = TokenRow::with_capacity(7);
        row.push(ColumnData::I32(Some(id.get())));
        for part in [&from.first, &from.middle, &from.last, &to.first, &to.middle, &to.last] {
            row.push(match part.reveal().as_str() {
                "" => ColumnData::String(None),
                text => text_cell(text),
            });
        }
        row
    };
    let rows: Vec<_> = renamings.iter().map(row).collect();
    session.batch(&sql.create_names).await?;
    session.bulk(NAMES, rows.into_iter().map(Ok)).await?;
    let replaced = session.execute(&sql.replace_names, &[]).await?;
    session.batch(&sql.drop_temporary).await?;
    Ok(replaced)
}
