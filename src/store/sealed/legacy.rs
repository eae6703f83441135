//! A table of patients that may be a record of ours, as the source of a copy: its names are opened on the way, or it is refused.

use std::sync::Arc;

use async_trait::async_trait;
use csv::ByteRecord;

use super::Sealed;
use super::cipher::{Field, Place, key_of};
use crate::domain::EncounterId;
use crate::error::{Error, Result};
use crate::schema::{Column, csv_columns};
use crate::store::legacy::{Cursor, Legacy, Origin, Page, RowCount};

struct Opened {
    table: Box<dyn Legacy>,
    /// `None`: its keys are not at hand.
    record: Option<Arc<Sealed>>,
    /// Where a row has its encounter id, and the parts of its name.
    id: Option<usize>,
    fields: Vec<(usize, Field)>,
}

/// `table` with its names in plain text. If its names are encrypted they are opened with the keys of `record`, in which it lies; without one the
/// first such name is an error (invalid), so that none is taken for a patient's.
pub fn opened_table(table: Box<dyn Legacy>, record: Option<Arc<Sealed>>) -> Box<dyn Legacy> {
    let place = |wanted: Column| {
        let header = csv_columns().iter().find(|column| column.column == wanted)?.header;
        table.columns().iter().position(|column| *column == header)
    };
    let parts = [(Column::First, Field::First), (Column::Middle, Field::Middle), (Column::Last, Field::Last)];
    let fields = parts.into_iter().filter_map(|(column, field)| Some((place(column)?, field))).collect();
    let id = place(Column::EncounterId);
    Box::new(Opened { id, fields, table, record })
}

impl Opened {
    fn locked(&self) -> Error {
        let Origin { server, database, table } = self.table.origin();
        Error::invalid(format!(
            "the names in {server}, {database}, table {table} are encrypted by this program, and their keys are not at hand: give the key file or the \
             URL of the Key Vault key that wraps them (--names-key); nothing was copied"
        ))
    }

    async fn open(&self, row: ByteRecord) -> Result<ByteRecord> {
        let text = |place: usize| row.get(place).and_then(|cell| std::str::from_utf8(cell).ok());
        let id = self.id.and_then(text).and_then(|cell| cell.trim().parse().ok()).and_then(EncounterId::new);
        let sealed = |(place, _): &(usize, Field)| text(*place).is_some_and(|form| key_of(form).is_some());
        let Some(id) = id.filter(|_| self.fields.iter().any(sealed)) else { return Ok(row) };
        let mut cells: Vec<_> = row.iter().map(<[u8]>::to_vec).collect();
        for (place, field) in &self.fields {
            let Some((form, key)) = text(*place).and_then(|form| Some((form, key_of(form)?))) else { continue };
            let Some(record) = &self.record else { return Err(self.locked()) };
            let ciphers = record.keyring.of(std::iter::once(key)).await?;
            if let (Some(cipher), Some(cell)) = (ciphers.get(key), cells.get_mut(*place)) {
                *cell = cipher.open(Place::Name(id, *field), form)?.into_bytes();
            }
        }
        Ok(ByteRecord::from(cells))
    }
}

#[async_trait]
impl Legacy for Opened {
    fn origin(&self) -> &Origin {
        self.table.origin()
    }

    fn columns(&self) -> &[&'static str] {
        self.table.columns()
    }

    fn unused(&self) -> &[String] {
        self.table.unused()
    }

    async fn count(&self) -> Result<RowCount> {
        self.table.count().await
    }

    async fn page(&self, after: Cursor, limit: u32) -> Result<Page> {
        let Page { rows, next } = self.table.page(after, limit).await?;
        let mut opened = Vec::with_capacity(rows.len());
        for row in rows {
            opened.push(self.open(row).await?);
        }
        Ok(Page { rows: opened, next })
    }
}
