//! The TDS server for tests, driven by the plain driver.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use chrono::{DateTime, FixedOffset, NaiveDate};
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, IntoSql, Query, Row, SqlBulkCopyOption, TokenRow};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

use crate::tds::{Action, BEGIN, BULK_ROWS, COMMIT, Options, ROLLBACK, STRICT, Server};

type Connection = Client<Compat<TcpStream>>;

fn config(server: &Server) -> Config {
    let mut config = Config::from_ado_string(&server.connection_string()).unwrap();
    config.encryption(EncryptionLevel::Required);
    config.trust_cert_ca(server.ca_file().to_str().unwrap());
    config
}

async fn connect(config: Config) -> tiberius::Result<Connection> {
    let tcp = TcpStream::connect(config.get_addr()).await?;
    tcp.set_nodelay(true)?;
    Client::connect(config, tcp.compat_write()).await
}

async fn client(server: &Server) -> Connection {
    connect(config(server)).await.unwrap()
}

async fn run(client: &mut Connection, sql: &str) -> tiberius::Result<()> {
    client.simple_query(sql).await?.into_results().await.map(drop)
}

async fn row(client: &mut Connection, sql: &str) -> Row {
    client.simple_query(sql).await.unwrap().into_row().await.unwrap().unwrap()
}

async fn count(client: &mut Connection, table: &str) -> i64 {
    let sql = format!("SELECT CAST(COUNT_BIG(*) AS bigint) AS n FROM {table}");
    row(client, &sql).await.get::<i64, _>("n").unwrap()
}

fn token_row(columns: impl IntoIterator<Item = ColumnData<'static>>) -> TokenRow<'static> {
    let mut row = TokenRow::new();
    columns.into_iter().for_each(|column| row.push(column));
    row
}

#[track_caller]
fn number<T>(result: tiberius::Result<T>) -> u32 {
    match result {
        Ok(_) => panic!("expected an error of the server"),
        Err(error) => error.code().unwrap_or_else(|| panic!("no error of the server: {error}")),
    }
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn instant() -> DateTime<FixedOffset> {
    "2026-11-22T06:30:15.123456+00:00".parse().unwrap()
}

#[tokio::test]
async fn logins_and_certificates() {
    let server = Server::start(Options::default());
    assert_eq!(row(&mut client(&server).await, "SELECT N'ä' AS letter").await.get::<&str, _>("letter"), Some("ä"));
    let mut wrong = config(&server);
    wrong.authentication(AuthMethod::sql_server("tester", "wrong"));
    assert_eq!(number(connect(wrong).await), 18_456);
    let mut elsewhere = config(&server);
    elsewhere.database("other");
    assert_eq!(number(connect(elsewhere).await), 4060);
    let other = Server::start(Options::default());
    let mut stranger = Config::from_ado_string(&server.connection_string()).unwrap();
    stranger.encryption(EncryptionLevel::Required);
    stranger.trust_cert_ca(other.ca_file().to_str().unwrap());
    let refused = connect(stranger).await.err().unwrap().to_string();
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[tokio::test]
async fn tokens_strict_tls_and_redirects() {
    let server = Server::start(Options::default());
    let mut strict = config(&server);
    strict.encryption(EncryptionLevel::Strict);
    strict.authentication(AuthMethod::aad_token("a-token-of-ours"));
    let mut strict = connect(strict).await.unwrap();
    assert_eq!(row(&mut strict, "SELECT 7 AS n").await.get::<i32, _>(0), Some(7));
    let mut usual = config(&server);
    usual.authentication(AuthMethod::aad_token("another"));
    connect(usual).await.unwrap();
    assert_eq!(server.faults().tokens(), ["a-token-of-ours", "another"]);

    let gateway = Server::start(Options { redirect: Some(("localhost".into(), server.port())), ..Options::default() });
    match connect(config(&gateway)).await {
        Err(tiberius::error::Error::Routing { host, port }) => assert_eq!((host.as_str(), port), ("localhost", server.port())),
        other => panic!("not sent on: {:?}", other.err()),
    }
}

const EVERY: &str = "CREATE TABLE dbo.Every (id int NOT NULL PRIMARY KEY, flag bit NULL, small smallint NULL, whole int NULL, long bigint NULL, \
    number float NULL, word nvarchar(50) NULL, words nvarchar(max) NULL, day date NULL, at datetimeoffset(7) NULL, bytes varbinary(max) NULL, \
    few varbinary(10) NULL, sure bit NOT NULL, surely bigint NOT NULL, exact float NOT NULL)";

fn long_text() -> String {
    "Ünï𝄞 ".repeat(3000)
}

fn every(id: i32, null: bool) -> TokenRow<'static> {
    let keep = |value: ColumnData<'static>, none: ColumnData<'static>| if null { none } else { value };
    let text = |text: String| ColumnData::String(Some(Cow::Owned(text)));
    let bytes = |size: usize| ColumnData::Binary(Some(Cow::Owned((0..size).map(|n| n as u8).collect())));
    let columns = [
        ColumnData::I32(Some(id)),
        keep(ColumnData::Bit(Some(true)), ColumnData::Bit(None)),
        keep(ColumnData::I16(Some(-7)), ColumnData::I16(None)),
        keep(ColumnData::I32(Some(i32::MIN)), ColumnData::I32(None)),
        keep(ColumnData::I64(Some(i64::MAX)), ColumnData::I64(None)),
        keep(ColumnData::F64(Some(0.1)), ColumnData::F64(None)),
        keep(text("O'Neil 𝄞 ".into()), ColumnData::String(None)),
        keep(text(long_text()), ColumnData::String(None)),
        keep(day("9999-12-31").into_sql(), None::<NaiveDate>.into_sql()),
        keep(instant().into_sql(), None::<DateTime<FixedOffset>>.into_sql()),
        keep(bytes(65_000), ColumnData::Binary(None)),
        keep(bytes(10), ColumnData::Binary(None)),
        ColumnData::Bit(Some(false)),
        ColumnData::I64(Some(-1)),
        ColumnData::F64(Some(f64::MIN_POSITIVE)),
    ];
    token_row(columns)
}

fn check_every(row: &Row, null: bool) {
    fn maybe<T>(null: bool, value: T) -> Option<T> {
        (!null).then_some(value)
    }
    let (long, bytes): (String, Vec<u8>) = (long_text(), (0..65_000).map(|n| n as u8).collect());
    assert_eq!(row.get::<bool, _>("flag"), maybe(null, true));
    assert_eq!(row.get::<i16, _>("small"), maybe(null, -7));
    assert_eq!(row.get::<i32, _>("whole"), maybe(null, i32::MIN));
    assert_eq!(row.get::<i64, _>("long"), maybe(null, i64::MAX));
    assert_eq!(row.get::<f64, _>("number"), maybe(null, 0.1));
    assert_eq!(row.get::<&str, _>("word"), maybe(null, "O'Neil 𝄞 "));
    assert_eq!(row.get::<&str, _>("words"), maybe(null, long.as_str()));
    assert_eq!(row.get::<NaiveDate, _>("day"), maybe(null, day("9999-12-31")));
    assert_eq!(row.get::<DateTime<FixedOffset>, _>("at"), maybe(null, instant()));
    assert_eq!(row.get::<&[u8], _>("bytes"), maybe(null, bytes.as_slice()));
    assert_eq!(row.get::<&[u8], _>("few"), maybe(null, &bytes[..10]));
    assert_eq!(row.get::<bool, _>("sure"), Some(false));
    assert_eq!(row.get::<i64, _>("surely"), Some(-1));
    assert_eq!(row.get::<f64, _>("exact"), Some(f64::MIN_POSITIVE));
}

#[tokio::test]
async fn every_type_through_a_bulk_load_at_both_ends_of_the_packet_size() {
    for (size, fixed) in [(4096, true), (32_767, true), (512, false)] {
        let server = Server::start(Options { fixed_length_types: fixed, ..Options::default() });
        let mut config = config(&server);
        config.packet_size(size);
        let mut client = connect(config).await.unwrap();
        run(&mut client, EVERY).await.unwrap();
        let options = SqlBulkCopyOption::CheckConstraints.into();
        let mut load = client.bulk_insert_with_options("dbo.Every", &["*"], options, &[]).await.unwrap();
        for id in 0..20 {
            load.send(every(id, id % 2 == 1)).await.unwrap();
        }
        assert_eq!(load.finalize().await.unwrap().total(), 20);
        let rows = client.simple_query("SELECT * FROM dbo.Every ORDER BY id").await.unwrap().into_first_result().await.unwrap();
        assert_eq!(rows.len(), 20);
        for (id, row) in (0..).zip(&rows) {
            assert_eq!(row.get::<i32, _>("id"), Some(id));
            check_every(row, id % 2 == 1);
        }
        assert_eq!(server.refusals(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn every_type_as_a_parameter_and_no_null_without_a_type() {
    let server = Server::start(Options::default());
    let mut client = client(&server).await;
    run(&mut client, EVERY).await.unwrap();
    let list = (1..=15).map(|n| format!("@P{n}")).collect::<Vec<_>>().join(", ");
    let mut insert = Query::new(format!("INSERT INTO dbo.Every VALUES ({list})"));
    for value in every(1, false) {
        insert.bind(value);
    }
    assert_eq!(insert.execute(&mut client).await.unwrap().total(), 1);
    check_every(&row(&mut client, "SELECT * FROM dbo.Every").await, false);
    let mut nulls = Query::new("SELECT @P1 AS a, @P2 AS b, @P3 AS c, @P4 AS d");
    nulls.bind(None::<i32>);
    nulls.bind(None::<i64>);
    nulls.bind(None::<f64>);
    nulls.bind(None::<bool>);
    let row = nulls.query(&mut client).await.unwrap().into_row().await.unwrap().unwrap();
    assert_eq!((row.get::<i32, _>(0), row.get::<i64, _>(1), row.get::<f64, _>(2), row.get::<bool, _>(3)), (None, None, None, None));
    let mut untyped = Query::new("SELECT @P1 AS a");
    untyped.bind(None::<&str>);
    assert_eq!(number(untyped.execute(&mut client).await), STRICT as u32);
    assert_eq!(server.refusals().len(), 1);
}

#[tokio::test]
async fn transactions_end_as_they_should() {
    let server = Server::start(Options::default());
    let mut client = client(&server).await;
    run(
        &mut client,
        "CREATE TABLE dbo.T (id int NOT NULL CONSTRAINT PK_T PRIMARY KEY, word nvarchar(5) NULL CHECK (word <> N'no'))",
    )
    .await
    .unwrap();
    for (commit, rows) in [(true, 1), (false, 1)] {
        client.begin_transaction().await.unwrap();
        client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&i32::from(!commit)]).await.unwrap();
        if commit {
            client.commit_transaction().await.unwrap()
        } else {
            client.rollback_transaction().await.unwrap()
        }
        assert_eq!(count(&mut client, "dbo.T").await, rows);
    }
    // An error leaves the transaction open, unless it was told otherwise.
    client.begin_transaction().await.unwrap();
    client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&2]).await.unwrap();
    assert_eq!(number(client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&2]).await), 2627);
    client.commit_transaction().await.unwrap();
    assert_eq!(count(&mut client, "dbo.T").await, 2);
    run(&mut client, "SET XACT_ABORT ON").await.unwrap();
    client.begin_transaction().await.unwrap();
    client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&3]).await.unwrap();
    assert_eq!(number(client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&3]).await), 2627);
    assert_eq!(number(client.commit_transaction().await), 3902);
    assert_eq!(count(&mut client, "dbo.T").await, 2);
    // The rules of the data, and what the messages quote.
    for (sql, wanted) in [
        ("INSERT INTO dbo.T (id, word) VALUES (9, N'no')", 547),
        ("INSERT INTO dbo.T (id, word) VALUES (NULL, N'a')", 515),
        ("INSERT INTO dbo.T (id, word) VALUES (9, N'too long')", 2628),
        ("INSERT INTO dbo.T (id) VALUES (2147483647 + 1)", 8115),
        ("SELECT CAST(1 / 0 AS int) AS n", 8134),
        ("SELECT word FROM dbo.Missing", 208),
        ("SELECT missing FROM dbo.T", 207),
    ] {
        assert_eq!(number(run(&mut client, sql).await), wanted, "{sql}");
    }
    let quoting = run(&mut client, "INSERT INTO dbo.T (id, word) VALUES (9, N'a secret')").await.err().unwrap();
    assert!(quoting.to_string().contains("a secret"), "the message quotes, as SQL Server's does");
    // A lost connection takes its work along.
    client.begin_transaction().await.unwrap();
    client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&4]).await.unwrap();
    drop(client);
    assert_eq!(count(&mut self::client(&server).await, "dbo.T").await, 2);
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[tokio::test]
async fn text_compares_as_on_the_server() {
    let server = Server::start(Options::default());
    let mut client = client(&server).await;
    run(&mut client, "CREATE TABLE dbo.W (word nvarchar(20) NOT NULL CONSTRAINT PK_W PRIMARY KEY)").await.unwrap();
    run(&mut client, "INSERT INTO dbo.W (word) VALUES (N'Ärger')").await.unwrap();
    assert_eq!(number(run(&mut client, "INSERT INTO dbo.W (word) VALUES (N'ÄRGER  ')").await), 2627);
    for (condition, found) in [
        ("word = N'ärger '", 1),
        ("word COLLATE Latin1_General_BIN2 = N'ärger'", 0),
        ("word COLLATE Latin1_General_BIN2 = N'Ärger '", 1),
        ("CONCAT(word, N'.') COLLATE Latin1_General_BIN2 = N'Ärger .'", 0),
        ("word IN (N'x', N'ÄRGER')", 1),
        ("word LIKE N'är%[a-r]'", 1),
    ] {
        assert_eq!(count(&mut client, &format!("dbo.W WHERE {condition}")).await, found, "{condition}");
    }
}

#[tokio::test]
async fn an_application_lock_is_one_at_a_time() {
    let server = Server::start(Options::default());
    let (mut one, mut two) = (client(&server).await, client(&server).await);
    let lock = |milliseconds: u32| {
        format!(
            "DECLARE @r int; EXEC @r = sp_getapplock @Resource = N'x', @LockMode = 'Exclusive', @LockOwner = 'Transaction', \
             @LockTimeout = {milliseconds}; SELECT CAST(@r AS int) AS r"
        )
    };
    one.begin_transaction().await.unwrap();
    two.begin_transaction().await.unwrap();
    assert_eq!(row(&mut one, &lock(0)).await.get::<i32, _>("r"), Some(0));
    assert_eq!(row(&mut two, &lock(50)).await.get::<i32, _>("r"), Some(-1));
    let text = lock(10_000);
    let waiting = tokio::spawn(async move { row(&mut two, &text).await.get::<i32, _>("r") });
    tokio::time::sleep(Duration::from_millis(100)).await;
    one.commit_transaction().await.unwrap();
    assert_eq!(waiting.await.unwrap(), Some(1));
}

async fn deliver(server: &Server) -> tiberius::Result<(u64, u64)> {
    let mut client = connect(config(server)).await?;
    client.begin_transaction().await?;
    run(&mut client, "CREATE TABLE #s (id int NOT NULL PRIMARY KEY, word nvarchar(20) NOT NULL, day date NULL)").await?;
    let mut load = client.bulk_insert_with_options("#s", &["*"], SqlBulkCopyOption::CheckConstraints.into(), &[]).await?;
    for id in 0..500 {
        let word = ColumnData::String(Some(format!("new {id}").into()));
        load.send(token_row([ColumnData::I32(Some(id)), word, None::<NaiveDate>.into_sql()])).await?;
    }
    load.finalize().await?;
    let lock = "DECLARE @r int; EXEC @r = sp_getapplock @Resource = N'deliver', @LockMode = N'Exclusive', @LockOwner = N'Transaction', \
        @LockTimeout = 60000; SELECT @r AS r";
    assert!(row(&mut client, lock).await.get::<i32, _>(0).unwrap() >= 0);
    let update = "UPDATE p SET word = s.word FROM dbo.P AS p JOIN #s AS s ON s.id = p.id WHERE EXISTS (SELECT s.word, s.day EXCEPT SELECT p.word, p.day)";
    let changed = client.execute(update, &[]).await?.total();
    let insert = "INSERT INTO dbo.P (id, word, day) SELECT s.id, s.word, s.day FROM #s AS s WHERE NOT EXISTS (SELECT 1 FROM dbo.P AS p WHERE p.id = s.id)";
    let stored = client.execute(insert, &[]).await?.total();
    client.commit_transaction().await?;
    Ok((changed, stored))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_deliveries_at_once_store_once() {
    let server = std::sync::Arc::new(Server::start(Options::default()));
    let mut client = client(&server).await;
    run(&mut client, "CREATE TABLE dbo.P (id int NOT NULL PRIMARY KEY, word nvarchar(20) NOT NULL, day date NULL)").await.unwrap();
    run(&mut client, "INSERT INTO dbo.P (id, word) VALUES (3, N'old'), (4, N'new 4')").await.unwrap();
    let deliveries: Vec<_> = (0..16)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { deliver(&server).await.unwrap() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(delivery.await.unwrap());
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes.pop(), Some((1, 498)));
    assert_eq!(outcomes, [(0, 0); 15]);
    assert_eq!(count(&mut client, "dbo.P").await, 500);
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[tokio::test]
async fn ten_thousand_rows_by_bulk() {
    let server = Server::start(Options::default());
    let mut client = client(&server).await;
    run(&mut client, "CREATE TABLE #t (id int NOT NULL, word nvarchar(10) NULL)").await.unwrap();
    let mut load = client.bulk_insert_with_options("#t", &["*"], SqlBulkCopyOption::CheckConstraints.into(), &[]).await.unwrap();
    for id in 0..10_000 {
        load.send(token_row([ColumnData::I32(Some(id)), ColumnData::String(None)])).await.unwrap();
    }
    assert_eq!(load.finalize().await.unwrap().total(), 10_000);
    let sum = row(&mut client, "SELECT CAST(SUM(id) AS bigint) AS n, CAST(COUNT(word) AS int) AS words FROM #t").await;
    assert_eq!((sum.get::<i64, _>(0), sum.get::<i32, _>(1)), (Some(49_995_000), Some(0)));
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let server = Server::start(Options::default());
    let mut client = client(&server).await;
    run(&mut client, "CREATE TABLE dbo.T (id int NOT NULL PRIMARY KEY, word nvarchar(5) NULL, n float NULL)").await.unwrap();
    let refused = [
        "MERGE dbo.T AS t USING dbo.T AS s ON t.id = s.id WHEN MATCHED THEN DELETE;",
        "CREATE OR ALTER VIEW dbo.V AS SELECT id FROM dbo.T",
        "WAITFOR DELAY '00:00:01'",
        "SELECT COUNT(*) AS n FROM dbo.T",
        "SELECT id + 1 AS n FROM dbo.T",
        "SELECT id FROM dbo.T WITH (HOLDLOCK)",
        "SELECT id FROM dbo.T WHERE word = 1",
        "SELECT TOP (id) id FROM dbo.T",
        "SELECT CAST(GETDATE() AS date) AS d",
        "CREATE TABLE dbo.M (m money NULL)",
        "CREATE UNIQUE INDEX u ON dbo.T (word)",
        "SELECT id FROM dbo.T LIMIT 1 BY id",
    ];
    for sql in refused {
        let error = run(&mut client, sql).await;
        assert!(error.is_err(), "accepted: {sql}");
    }
    assert!(server.refusals().len() >= refused.len() - 1, "{:#?}", server.refusals());
    for (sql, wanted) in [
        ("SELECT word FROM dbo.T GROUP BY id", 8120),
        ("SELECT id FROM dbo.T WHERE word", 4145),
        ("SELECT x.id FROM (SELECT id FROM dbo.T ORDER BY id) AS x", 1033),
        ("SELECT id FROM dbo.T ORDER BY id OFFSET 0 ROWS FETCH NEXT 0 ROWS ONLY", 10_744),
        ("THROW 50001, N'ours', 1", 50_001),
    ] {
        assert_eq!(number(run(&mut client, sql).await), wanted, "{sql}");
    }
}

#[tokio::test]
async fn schemas_views_identity_and_branches() {
    let server = Server::start(Options::default());
    let mut client = client(&server).await;
    run(&mut client, "IF SCHEMA_ID(N'one') IS NULL EXEC(N'CREATE SCHEMA one')").await.unwrap();
    run(&mut client, "CREATE SCHEMA two").await.unwrap();
    for schema in ["one", "two"] {
        let create = format!(
            "IF OBJECT_ID(N'{schema}.T', N'U') IS NULL CREATE TABLE {schema}.T (seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_T PRIMARY KEY, \
             word nvarchar(5) NOT NULL CONSTRAINT UQ_T UNIQUE, day date NULL)"
        );
        run(&mut client, &create).await.unwrap();
        run(&mut client, &create).await.unwrap();
    }
    let inserted =
        row(&mut client, "INSERT INTO one.T (word, day) OUTPUT inserted.seq VALUES (N'a', CAST('2024-02-29' AS date))").await;
    assert_eq!(inserted.get::<i64, _>("seq"), Some(1));
    assert_eq!((count(&mut client, "one.T").await, count(&mut client, "two.T").await), (1, 0));
    assert_eq!(number(run(&mut client, "INSERT INTO one.T (seq, word) VALUES (5, N'b')").await), 544);
    run(&mut client, "CREATE VIEW one.V AS SELECT CAST(YEAR(day) AS int) AS y, word FROM one.T").await.unwrap();
    assert_eq!(row(&mut client, "SELECT y, word FROM one.V").await.get::<i32, _>("y"), Some(2024));
    run(&mut client, "CREATE TRIGGER one.G ON one.T AFTER UPDATE, DELETE AS BEGIN THROW 50001, N'append only', 1; END;")
        .await
        .unwrap();
    assert_eq!(number(run(&mut client, "DELETE FROM one.T").await), 50_001);
    assert_eq!(number(run(&mut client, "DROP SCHEMA one").await), 3729);
    run(&mut client, "DROP VIEW one.V; DROP TABLE one.T; DROP TABLE IF EXISTS one.T; DROP SCHEMA one").await.unwrap();
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[tokio::test]
async fn faults_happen_where_they_were_asked_for() {
    let server = Server::start(Options::default());
    let faults = server.faults();
    let mut client = client(&server).await;
    run(&mut client, "CREATE TABLE dbo.T (id int NOT NULL PRIMARY KEY)").await.unwrap();
    faults.on("INSERT", 2, Action::error(1205));
    client.begin_transaction().await.unwrap();
    client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&1]).await.unwrap();
    assert_eq!(number(client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&2]).await), 1205);
    assert_eq!(number(client.rollback_transaction().await), 3903);
    assert_eq!(count(&mut client, "dbo.T").await, 0);

    for (action, kept) in [(Action::CloseBefore, 0), (Action::CloseAfter, 1)] {
        let mut client = self::client(&server).await;
        faults.on(COMMIT, 1, action);
        client.begin_transaction().await.unwrap();
        client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&7]).await.unwrap();
        assert!(client.commit_transaction().await.is_err());
        assert_eq!(count(&mut self::client(&server).await, "dbo.T").await, kept);
    }
    for place in [BEGIN, ROLLBACK] {
        faults.on(place, 1, Action::error(40_501));
        client.begin_transaction().await.err().inspect(|error| assert_eq!(error.code(), Some(40_501)));
        let _ = client.rollback_transaction().await;
    }
    faults.on(BULK_ROWS, 1, Action::error(40_197));
    let mut load = client.bulk_insert_with_options("dbo.T", &["*"], SqlBulkCopyOption::CheckConstraints.into(), &[]).await.unwrap();
    load.send(token_row([ColumnData::I32(Some(8))])).await.unwrap();
    assert_eq!(number(load.finalize().await), 40_197);

    faults.refuse_logins(2, 40_613);
    assert_eq!(number(connect(config(&server)).await), 40_613);
    assert_eq!(number(connect(config(&server)).await), 40_613);
    connect(config(&server)).await.unwrap();
    assert!(faults.connections() >= 6);
    assert!(faults.statements().iter().any(|text| text == "INSERT INTO dbo.T (id) VALUES (@P1)"));
}

#[tokio::test]
async fn delays_attentions_and_kills() {
    let server = Server::start(Options::default());
    let faults = server.faults();
    let mut client = client(&server).await;
    faults.on("SELECT 1", 1, Action::Delay(Duration::from_secs(20)));
    let start = Instant::now();
    let hanging =
        tokio::time::timeout(Duration::from_millis(200), async { client.simple_query("SELECT 1 AS n").await?.into_row().await });
    assert!(hanging.await.is_err());
    client.cancel_query().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(row(&mut client, "SELECT 5 AS n").await.get::<i32, _>("n"), Some(5));

    run(&mut client, "CREATE TABLE dbo.T (id int NOT NULL)").await.unwrap();
    client.begin_transaction().await.unwrap();
    client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&1]).await.unwrap();
    let me = i64::from(row(&mut client, "SELECT @@SPID AS me").await.get::<i16, _>("me").unwrap());
    assert!(faults.sessions().contains(&(me as u64)));
    assert!(faults.kill(me as u64));
    assert!(client.execute("INSERT INTO dbo.T (id) VALUES (@P1)", &[&2]).await.is_err());
    assert_eq!(count(&mut self::client(&server).await, "dbo.T").await, 0);
    assert!(!faults.kill(1));
}
