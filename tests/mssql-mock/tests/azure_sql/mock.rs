//! The mock, scripted. It logs each statement before it looks for an answer: the script listens to that log and puts the next answer in
//! place at that moment. A test runs on one thread, so the log of one test is its own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use mssql_mock_tds::{
    ColumnDefinition, ColumnValue, ConnectionStore, MockTdsServer, QueryRegistry, QueryResponse, Row, SqlDataType, TerminalError,
    create_test_identity,
};
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::certificates::Identity;

/// What every connection says first.
const SESSION: &str = "SET XACT_ABORT ON; SET LOCK_TIMEOUT 30000;";

/// What a connection is asked to show that it lives.
const ALIVE: &str = "SELECT CAST(1 AS int) AS alive";

/// What a mock and its client said, and what the mock will answer.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    answers: VecDeque<QueryResponse>,
    registries: Vec<Arc<tokio::sync::Mutex<QueryRegistry>>>,
    statements: Vec<String>,
    unscripted: usize,
    log: String,
}

impl Script {
    /// A script whose next questions "who are you" get `answers`, the last one again and again. It listens while the guard lives.
    pub fn new(answers: impl IntoIterator<Item = QueryResponse>) -> (Self, DefaultGuard) {
        let script = Self::default();
        script.0.lock().unwrap().answers = answers.into_iter().collect();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(script.clone()));
        (script, guard)
    }

    /// The statements that mocks received.
    pub fn statements(&self) -> Vec<String> {
        self.0.lock().unwrap().statements.clone()
    }

    /// What anyone but a mock logged.
    pub fn log(&self) -> String {
        self.0.lock().unwrap().log.clone()
    }

    /// How many statements no script knew, since the last call.
    pub fn unscripted(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().unscripted)
    }
}

/// A statement that no script knew fails its test.
impl Drop for Inner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.unscripted, 0, "a statement was not scripted: {:?}", self.statements);
        }
    }
}

impl<S: Subscriber> Layer<S> for Script {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut inner = self.0.lock().unwrap();
        if !event.metadata().target().starts_with("mssql_mock_tds") {
            inner.log.push_str(&format!("{} {}\n", event.metadata().target(), text.0));
            return;
        }
        inner.unscripted += usize::from(text.0.contains("No registered response"));
        let Some((_, said)) = text.0.split_once("Executing SQL from ") else { return };
        let statement = said.split_once(": ").map_or(said, |(_, statement)| statement).trim_end().to_owned();
        if statement.contains("ProductVersion") {
            let next = match inner.answers.len() {
                0 => None,
                1 => inner.answers.front().cloned(),
                _ => inner.answers.pop_front(),
            };
            if let Some(next) = next {
                for registry in &inner.registries {
                    registry.try_lock().unwrap().register(statement.clone(), next.clone());
                }
            }
        }
        inner.statements.push(statement);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

/// How a mock speaks.
pub enum Speech<'a> {
    /// TDS 7.4: TLS after the first message.
    Tls(&'a Identity),
    /// TDS 8.0: TLS before it.
    Strict(&'a Identity),
    /// No TLS at all.
    Plain,
    /// No TLS, and every login is sent to this port of `localhost`.
    Redirect(u16),
}

/// Starts a mock; answers its port and what it knows of its connections.
pub async fn start(speech: Speech<'_>, script: &Script) -> (u16, Arc<tokio::sync::Mutex<ConnectionStore>>) {
    let identity = |identity: &Identity| create_test_identity(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    let anywhere = "127.0.0.1:0";
    let server = match speech {
        Speech::Tls(it) => MockTdsServer::new_with_tls(anywhere, Some(identity(it))).await,
        Speech::Strict(it) => MockTdsServer::new_with_strict_tls(anywhere, identity(it)).await,
        Speech::Plain => MockTdsServer::new(anywhere).await,
        Speech::Redirect(port) => MockTdsServer::new_with_redirection(anywhere, "localhost", port).await,
    }
    .unwrap();
    let (port, registry, store) = (server.local_addr().port(), server.query_registry(), server.connection_store());
    for statement in [SESSION, ALIVE] {
        registry.lock().await.register(statement, QueryResponse::select_one());
    }
    script.0.lock().unwrap().registries.push(registry);
    tokio::spawn(server.run());
    (port, store)
}

/// The answer of a server that is well.
pub fn well() -> QueryResponse {
    let text = |name: &str| ColumnDefinition::new(name, SqlDataType::NVarChar);
    let value = |value: &str| ColumnValue::NVarChar(value.into());
    QueryResponse::new(
        vec![
            text("version"),
            ColumnDefinition::new("edition", SqlDataType::Int),
            ColumnDefinition::new("babelfish", SqlDataType::NVarCharMax),
            text("databasename"),
            text("loginname"),
            text("username"),
        ],
        vec![Row::new(vec![
            value("16.0.0.0"),
            ColumnValue::Int(5),
            ColumnValue::NVarCharMaxNull,
            value("record"),
            value("hdai-app"),
            value("hdai-app"),
        ])],
    )
}

/// A refusal, in words that quote a value.
pub fn refusal(number: u32, class: u8) -> QueryResponse {
    QueryResponse::error_only(TerminalError::new(number, class, "The duplicate key value is (S3CRET)."))
}
