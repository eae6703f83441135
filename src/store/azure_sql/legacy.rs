//! A table of patients in an SQL Server of another system. It is asked in plain T-SQL that names the table and its columns and holds no
//! value; the columns are those that one row of it shows, so that nothing depends on a catalogue.

use async_trait::async_trait;
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};
use csv::ByteRecord;
use tiberius::{ColumnData, ColumnType, FromSql, Row};

use super::connection::Parameter;
use super::fault::Outcome;
use super::options::Options;
use super::pool::{Pool, Session};
use super::values::{count, number};
use crate::azure::identity::Identity;
use crate::config::SqlSettings;
use crate::error::{Error, Result};
use crate::store::legacy::{CELL_BYTES_MAX, Columns, Cursor, Legacy, Origin, Page, RowCount, UNREADABLE, columns, identifier};

/// The server's number for a table that does not exist or may not be seen.
const NO_SUCH_OBJECT: u32 = 208;

/// The table.
pub(in crate::store) struct Table {
    pool: Pool,
    origin: Origin,
    columns: Columns,
    count_sql: String,
    page_sql: String,
}

impl Table {
    /// Connects, and reads a row of the table `name` (`dbo` unless it says another schema) to learn its columns.
    pub(in crate::store) async fn open(settings: &SqlSettings, identity: &Identity, name: &str) -> Result<Self> {
        let (schema, table) = name.split_once('.').unwrap_or(("dbo", name));
        let from = format!("[{}].[{}]", identifier(schema)?, identifier(table)?);
        let options = Options::resolve_source(settings, identity).await?;
        let server = format!("mssql://{}:{}", options.host, options.port);
        let origin = Origin { server, database: options.database.clone(), table: format!("{schema}.{table}") };
        let pool = Pool::new(options, settings)?;
        let row = first_row(&pool, &from, &origin).await?;
        let shown = row.columns();
        let columns = columns(&origin.table, shown.iter().map(|column| column.name().to_owned()).collect())?;
        let kind = |name: &str| shown.iter().find(|column| column.name() == name).map(tiberius::Column::column_type);
        if let Some(name) = columns.names.iter().find(|name| kind(name).is_some_and(is_binary)) {
            return Err(Error::invalid(format!(
                "the column {name} of the table {} holds bytes: if it is Always Encrypted this program cannot read it; name a view without \
                 it, or one of a decrypted copy, with --table",
                origin.table
            )));
        }
        let eid = format!("[{}]", columns.key);
        let key = if kind(&columns.key).is_some_and(is_whole) { eid } else { format!("TRY_CAST({eid} AS bigint)") };
        let cells = columns.names.iter().map(|name| format!("[{name}]")).collect::<Vec<_>>().join(", ");
        let rest = columns.names.iter().filter(|name| **name != columns.key).map(|name| format!(", [{name}]")).collect::<String>();
        Ok(Self {
            pool,
            count_sql: format!("SELECT CAST(COUNT_BIG(*) AS bigint) AS n, CAST(COUNT_BIG({key}) AS bigint) AS withkey FROM {from}"),
            page_sql: format!(
                "SELECT CAST({key} AS bigint) AS rowkey, {cells} FROM {from} WHERE {key} >= @P1 ORDER BY {key}{rest} \
                 OFFSET @P2 ROWS FETCH NEXT @P3 ROWS ONLY"
            ),
            origin,
            columns,
        })
    }

    async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let mut attempts = self.pool.reading();
        loop {
            let mut session = attempts.session().await?;
            let outcome = session.rows(sql, parameters).await;
            if let Some(rows) = attempts.settle(session, outcome).await? {
                return Ok(rows);
            }
        }
    }
}

async fn first_row(pool: &Pool, from: &str, origin: &Origin) -> Result<Row> {
    let sql = format!("SELECT TOP 1 * FROM {from}");
    let mut attempts = pool.reading();
    let row = loop {
        let mut session: Session = attempts.session().await?;
        let outcome = session.row(&sql, &[]).await;
        if outcome.as_ref().is_err_and(|fault| fault.number() == Some(NO_SUCH_OBJECT)) {
            return Err(Error::not_found(format!(
                "there is no table {} in the database {}, or this login may not read it: correct --table, or grant SELECT on it",
                origin.table, origin.database
            )));
        }
        if let Some(row) = attempts.settle(session, outcome).await? {
            break row;
        }
    };
    row.ok_or_else(|| Error::not_found(format!("the table {} is empty: there is nothing to migrate", origin.table)))
}

fn is_binary(kind: ColumnType) -> bool {
    matches!(kind, ColumnType::BigVarBin | ColumnType::BigBinary | ColumnType::Image)
}

fn is_whole(kind: ColumnType) -> bool {
    matches!(kind, ColumnType::Int1 | ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 | ColumnType::Intn)
}

#[async_trait]
impl Legacy for Table {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn columns(&self) -> &[&'static str] {
        &self.columns.headers
    }

    fn unused(&self) -> &[String] {
        &self.columns.unused
    }

    async fn count(&self) -> Result<RowCount> {
        let rows = self.rows(&self.count_sql, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::internal("the table's rows could not be counted"))?;
        let counted = || -> Outcome<(u64, u64)> { Ok((count(row, "n")?, count(row, "withkey")?)) };
        let (rows, with_key) = counted()?;
        Ok(RowCount { rows, keyless: rows.saturating_sub(with_key) })
    }

    async fn page(&self, after: Cursor, limit: u32) -> Result<Page> {
        let (key, skip, limit) = (Some(after.key), Some(after.skip.into()), Some(limit.max(1).into()));
        let found = self.rows(&self.page_sql, &[Parameter::Long(key), Parameter::Long(skip), Parameter::Long(limit)]).await?;
        let keys = found.iter().map(|row| number(row, 0)).collect::<Outcome<Vec<i64>>>()?;
        let rows = found.iter().map(cells).collect::<Result<_>>()?;
        Ok(Page { rows, next: after.behind(keys.into_iter()) })
    }
}

/// The cells behind the first, which is the key.
fn cells(row: &Row) -> Result<ByteRecord> {
    let mut record = ByteRecord::with_capacity(256, row.len());
    for (_, value) in row.cells().skip(1) {
        match cell(value)? {
            Some(text) if text.len() <= CELL_BYTES_MAX => record.push_field(text.as_bytes()),
            Some(_) => record.push_field(UNREADABLE),
            None => record.push_field(b""),
        }
    }
    Ok(record)
}

/// A value as a CSV file would write it; `None` for NULL. A type that no column of ours has becomes a text that no rule accepts.
fn cell(value: &ColumnData<'static>) -> Result<Option<String>> {
    let day = |day: NaiveDate| day.format("%Y-%m-%d").to_string();
    let unreadable = |_| Error::unavailable("the table holds a date that cannot be read: find it, and set it right there");
    Ok(match value {
        ColumnData::U8(number) => number.map(|number| number.to_string()),
        ColumnData::I16(number) => number.map(|number| number.to_string()),
        ColumnData::I32(number) => number.map(|number| number.to_string()),
        ColumnData::I64(number) => number.map(|number| number.to_string()),
        ColumnData::F32(number) => number.map(|number| number.to_string()),
        ColumnData::F64(number) => number.map(|number| number.to_string()),
        ColumnData::Bit(flag) => flag.map(|flag| u8::from(flag).to_string()),
        ColumnData::String(text) => text.as_deref().map(str::to_owned),
        ColumnData::Numeric(number) => number.map(|number| number.to_string()),
        ColumnData::Date(_) => NaiveDate::from_sql(value).map_err(unreadable)?.map(day),
        ColumnData::DateTime(_) | ColumnData::SmallDateTime(_) | ColumnData::DateTime2(_) => {
            NaiveDateTime::from_sql(value).map_err(unreadable)?.map(|at| day(at.date()))
        }
        // The day where it was written.
        ColumnData::DateTimeOffset(_) => {
            DateTime::<FixedOffset>::from_sql(value).map_err(unreadable)?.map(|at| day(at.date_naive()))
        }
        ColumnData::Binary(None) | ColumnData::Guid(None) | ColumnData::Time(None) | ColumnData::Xml(None) => None,
        _ => Some("\u{0}".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use tiberius::IntoSql;

    use super::*;

    #[test]
    fn values_of_every_type_read_as_a_csv_file_writes_them() {
        let day = NaiveDate::from_ymd_opt(2012, 5, 3).unwrap();
        let near_midnight = DateTime::parse_from_rfc3339("2012-05-03T23:30:00-08:00").unwrap();
        for (value, text) in [
            (ColumnData::U8(Some(1)), Some("1")),
            (ColumnData::I32(Some(-7)), Some("-7")),
            (ColumnData::I64(None), None),
            (ColumnData::F32(Some(7.3)), Some("7.3")),
            (ColumnData::F64(Some(12.0)), Some("12")),
            (ColumnData::Bit(Some(true)), Some("1")),
            (ColumnData::Numeric(Some(tiberius::numeric::Numeric::new_with_scale(7250, 2))), Some("72.50")),
            (ColumnData::String(Some(Cow::Borrowed("5+"))), Some("5+")),
            (day.into_sql(), Some("2012-05-03")),
            (near_midnight.into_sql(), Some("2012-05-03")),
            (ColumnData::Date(None), None),
            (ColumnData::Binary(Some(Cow::Borrowed(&[1]))), Some("\u{0}")),
        ] {
            assert_eq!(cell(&value).unwrap().as_deref(), text);
        }
    }
}
