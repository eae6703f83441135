//! One connection: statements in, rows out. A parameter has a type that its statement's column takes, and text, days and instants are
//! never NULL: the driver sends their NULL as a type that the open server refuses. A statement that needs one says `NULLIF(@P1, N'')`.

use std::future::Future;
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, NaiveDate, SubsecRound, Utc};
use tiberius::{Client, ColumnData, IntoSql, Row, SqlBulkCopyOption, ToSql, TokenRow};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::Compat;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::fault::{Fault, Outcome};
use crate::error::Error;

/// A parameter of a statement, `@P1` and so on. It holds patient data and so has no `Debug`.
#[derive(Clone, Copy)]
pub(super) enum Parameter<'a> {
    /// `int`.
    Int(Option<i32>),
    /// `bigint`.
    Long(Option<i64>),
    /// `float`; finite.
    Real(Option<f64>),
    /// `bit`.
    Flag(bool),
    /// `nvarchar`.
    Text(&'a str),
    /// `date`, of the years 1 to 9999.
    Day(NaiveDate),
    /// `datetimeoffset(7)`, UTC, cut to whole microseconds, of the years 1 to 9999.
    Instant(DateTime<Utc>),
    /// `varbinary(max)`.
    Bytes(&'a [u8]),
}

/// Largest text or bytes in one parameter: the driver writes a length of 32 bits and doubles the text's.
const PARAMETER_BYTES_MAX: usize = 1 << 30;

impl Parameter<'_> {
    /// The driver would send a year that the server has not, a number that is none and a text that is too long, garbled or by panicking.
    fn check(&self) -> Result<(), Error> {
        let in_range = |year: i32| (1..=9999).contains(&year);
        let fits = match self {
            Parameter::Int(_) | Parameter::Long(_) | Parameter::Flag(_) => true,
            Parameter::Real(number) => number.is_none_or(f64::is_finite),
            Parameter::Text(text) => text.len() <= PARAMETER_BYTES_MAX,
            Parameter::Bytes(bytes) => bytes.len() <= PARAMETER_BYTES_MAX,
            Parameter::Day(day) => in_range(day.year()),
            Parameter::Instant(instant) => in_range(instant.year()),
        };
        match fits {
            true => Ok(()),
            false => Err(Error::invalid("a value lies outside of what the database holds; check it against the schema first")),
        }
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> ColumnData<'_> {
        match *self {
            Parameter::Int(number) => ColumnData::I32(number),
            Parameter::Long(number) => ColumnData::I64(number),
            Parameter::Real(number) => ColumnData::F64(number),
            Parameter::Flag(flag) => ColumnData::Bit(Some(flag)),
            Parameter::Text(text) => text.into_sql(),
            Parameter::Day(day) => day.into_sql(),
            // A `DateTime<Utc>` would go as a datetime2.
            Parameter::Instant(instant) => instant.trunc_subsecs(6).fixed_offset().into_sql(),
            Parameter::Bytes(bytes) => bytes.into_sql(),
        }
    }
}

/// The smallest question.
const ALIVE: &str = "SELECT CAST(1 AS int) AS alive";

/// One connection.
pub(super) struct Connection {
    client: Client<Compat<TcpStream>>,
    /// Longest time for one statement, its rows read.
    limit: Duration,
    /// When it should be replaced by a new one.
    retire: Instant,
    /// When it was last given back in order.
    used: Instant,
}

impl Connection {
    pub(super) fn new(client: Client<Compat<TcpStream>>, limit: Duration, retire: Instant) -> Self {
        Self { client, limit, retire, used: Instant::now() }
    }

    /// Sets the longest time for one statement.
    pub(super) fn allow(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// When it should be replaced by a new one.
    pub(super) fn retire(&self) -> Instant {
        self.retire
    }

    /// When it was last given back in order.
    pub(super) fn used(&self) -> Instant {
        self.used
    }

    /// Notes that it was given back in order.
    pub(super) fn rest(&mut self) {
        self.used = Instant::now();
    }

    /// Makes it as if it had been given back so long ago.
    #[cfg(test)]
    pub(super) fn lay_idle(&mut self, time: Duration) {
        self.used = Instant::now().checked_sub(time).unwrap();
    }

    /// Asks the server for a sign of life.
    pub(super) async fn ping(&mut self) -> Outcome<()> {
        self.batch(ALIVE).await
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> Outcome<()> {
        driven(self.limit, self.client.begin_transaction()).await
    }

    /// Commits it.
    pub(super) async fn commit(&mut self) -> Outcome<()> {
        driven(self.limit, self.client.commit_transaction()).await
    }

    /// Runs a batch without parameters (DDL, temporary tables, several statements) and reads all its results away.
    pub(super) async fn batch(&mut self, sql: &str) -> Outcome<()> {
        self.batch_rows(sql).await.map(|_| ())
    }

    /// The rows of a batch without parameters, first result set.
    pub(super) async fn batch_rows(&mut self, sql: &str) -> Outcome<Vec<Row>> {
        let client = &mut self.client;
        driven(self.limit, async move { client.simple_query(sql).await?.into_first_result().await }).await
    }

    /// The rows of one statement, first result set.
    pub(super) async fn rows(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Outcome<Vec<Row>> {
        let parameters = bound(parameters)?;
        let client = &mut self.client;
        driven(self.limit, async move { client.query(sql, &parameters).await?.into_first_result().await }).await
    }

    /// The first row, if there is one.
    pub(super) async fn row(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Outcome<Option<Row>> {
        Ok(self.rows(sql, parameters).await?.into_iter().next())
    }

    /// Runs one statement; answers how many rows it touched.
    pub(super) async fn execute(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Outcome<u64> {
        let parameters = bound(parameters)?;
        let client = &mut self.client;
        driven(self.limit, async move { Ok(client.execute(sql, &parameters).await?.total()) }).await
    }

    /// Bulk-loads `rows` into all columns of `table` (a name of ours), with its constraints checked; answers how many arrived. An error
    /// leaves the connection in the middle of the load: only closing it helps, and that is what the pool does.
    pub(super) async fn bulk(
        &mut self,
        table: &str,
        rows: impl Iterator<Item = Outcome<TokenRow<'static>>> + Send,
    ) -> Outcome<u64> {
        let client = &mut self.client;
        let load = async move {
            let checked = SqlBulkCopyOption::CheckConstraints.into();
            let mut request = client.bulk_insert_with_options(table, &["*"], checked, &[]).await?;
            let mut sent = 0_u64;
            for row in rows {
                request.send(row?).await?;
                sent += 1;
            }
            Ok((sent, request.finalize().await?.total()))
        };
        let (sent, arrived) =
            timeout(self.limit, load.with_subscriber(Dispatch::none())).await.unwrap_or_else(|_| Err(Fault::Late))?;
        match sent == arrived {
            true => Ok(arrived),
            false => {
                Err(Error::internal(format!("{sent} rows were bulk-loaded and the database counts {arrived}; nothing was stored"))
                    .into())
            }
        }
    }
}

fn bound<'p>(parameters: &'p [Parameter<'_>]) -> Result<Vec<&'p dyn ToSql>, Error> {
    parameters.iter().map(|parameter| parameter.check().map(|()| parameter as &dyn ToSql)).collect()
}

/// Runs `work` of the driver within `limit`, all its rows included. The driver logs the server's messages and, at its lowest level, rows:
/// both hold patients' values, so it gets no subscriber whatever the log filter says.
pub(super) async fn driven<T>(limit: Duration, work: impl Future<Output = tiberius::Result<T>>) -> Outcome<T> {
    match timeout(limit, work.with_subscriber(Dispatch::none())).await {
        Ok(answer) => answer.map_err(Fault::Sql),
        Err(_) => Err(Fault::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, 1, 1).unwrap()
    }

    #[test]
    fn no_parameter_is_a_null_of_no_type() {
        let instant = day(2026).and_hms_nano_opt(1, 2, 3, 123_456_789).unwrap().and_utc();
        for parameter in [
            Parameter::Int(None),
            Parameter::Long(None),
            Parameter::Real(None),
            Parameter::Flag(false),
            Parameter::Text(""),
            Parameter::Day(day(1)),
            Parameter::Instant(instant),
            Parameter::Bytes(&[]),
        ] {
            assert!(parameter.check().is_ok());
            let typed = matches!(
                parameter.to_sql(),
                ColumnData::I32(_)
                    | ColumnData::I64(_)
                    | ColumnData::F64(_)
                    | ColumnData::Bit(Some(_))
                    | ColumnData::String(Some(_))
                    | ColumnData::Date(Some(_))
                    | ColumnData::DateTimeOffset(Some(_))
                    | ColumnData::Binary(Some(_))
            );
            assert!(typed);
        }
    }

    #[test]
    fn an_instant_goes_with_its_offset_in_whole_microseconds() {
        let instant = day(2026).and_hms_nano_opt(1, 2, 3, 123_456_789).unwrap().and_utc();
        match Parameter::Instant(instant).to_sql() {
            ColumnData::DateTimeOffset(Some(sent)) => {
                assert_eq!(sent.offset(), 0);
                assert_eq!(sent.datetime2().time().scale(), 7);
                assert_eq!(sent.datetime2().time().increments(), ((3600 + 2 * 60 + 3) * 10_000_000) + 1_234_560);
            }
            _ => panic!("another type"),
        }
    }

    #[test]
    fn what_the_driver_would_garble_is_refused() {
        assert!(Parameter::Day(day(9999)).check().is_ok());
        for parameter in [Parameter::Day(day(0)), Parameter::Day(day(10_000)), Parameter::Real(Some(f64::NAN))] {
            assert!(parameter.check().is_err());
        }
        let early = day(0).and_hms_opt(0, 0, 0).unwrap().and_utc();
        assert!(Parameter::Instant(early).check().is_err());
    }

    #[tokio::test]
    async fn a_statement_has_its_time_and_no_more() {
        let late = driven(Duration::from_millis(10), std::future::pending::<tiberius::Result<()>>()).await;
        assert!(matches!(late, Err(fault) if fault.is_transient(false)));
    }

    #[tokio::test]
    async fn what_the_driver_logs_is_not_logged() {
        let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || Shared(writer.clone())).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        driven(Duration::from_secs(1), async {
            tracing::error!("The duplicate key value is (SECRET).");
            tokio::task::yield_now().await;
            tracing::error!("The duplicate key value is (SECRET).");
            Ok(())
        })
        .await
        .unwrap();
        tracing::info!("ours");
        let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ours") && !text.contains("SECRET"), "{text}");
    }

    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
