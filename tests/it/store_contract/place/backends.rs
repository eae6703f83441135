//! The kinds of places: an SQLite file, a TDS server of our own in this process, a schema of a server that is given.

pub(in crate::store_contract) mod sqlite {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use health_data_ai::store::sqlite::Sqlite;

    use super::super::{Handle, NewPlace, Place};

    /// Always there.
    pub(in crate::store_contract) fn new() -> Option<NewPlace> {
        Some(place)
    }

    fn place() -> Place {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let open = move || -> BoxFuture<'static, Handle> {
            let folder = Arc::clone(&folder);
            Box::pin(
                async move { Handle { store: Arc::new(Sqlite::open(folder.path().join("record.db")).unwrap()), _kept: folder } },
            )
        };
        Place { cases: 40, open: Box::new(open) }
    }
}

pub(in crate::store_contract) mod azure_sql {
    use std::collections::BTreeSet;
    use std::ops::Deref;
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use health_data_ai::azure::identity::Identity;
    use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
    use health_data_ai::store::azure_sql::{AzureSql, statements};

    use super::super::super::azure_sql_text::batches;
    use super::super::{Handle, NewPlace, Place};
    use crate::tds::{BEGIN, BULK_ROWS, COMMIT, Options, ROLLBACK, Server};

    /// Always there.
    pub(in crate::store_contract) fn new() -> Option<NewPlace> {
        Some(place)
    }

    /// A server of its own. At its end it must have understood everything, and everything it was sent must be one of the statements that
    /// are made when a store is opened: none is made of data.
    pub(in crate::store_contract) struct Watched(Server);

    impl Watched {
        pub(in crate::store_contract) fn start(options: Options) -> Self {
            Self(Server::start(options))
        }

        pub(in crate::store_contract) fn settings(&self) -> SqlSettings {
            let connection = SqlConnection::Text(Secret::new(self.0.connection_string()));
            SqlSettings { ca_file: Some(self.0.ca_file().to_owned()), ..SqlSettings::new(connection) }
        }

        pub(in crate::store_contract) async fn open(&self) -> AzureSql {
            AzureSql::open(&self.settings(), &Identity::default()).await.unwrap()
        }

        /// The texts it was sent that are not known before there is any data.
        pub(in crate::store_contract) fn unknown_statements(&self) -> Vec<String> {
            let mut known: BTreeSet<String> = BTreeSet::new();
            for (_, text) in statements("dbo") {
                known.extend(batches(&text).into_iter().map(|batch| batch.trim().to_owned()));
            }
            known.extend([BEGIN, COMMIT, ROLLBACK, BULK_ROWS, "SELECT 1"].map(str::to_owned));
            // The driver's own words around a bulk load, which name a table of ours and its columns.
            let bulk = |text: &str| {
                let rest = text.strip_prefix("SELECT TOP 0 * FROM #").or_else(|| text.strip_prefix("INSERT BULK #"));
                rest.is_some_and(|rest| ["staging", "rejects", "predictions"].iter().any(|table| rest.starts_with(table)))
            };
            // What a connection begins with: a number out of the settings.
            let opening = |text: &str| text.starts_with("SET XACT_ABORT ON; SET LOCK_TIMEOUT ");
            let seen = self.0.faults().statements().into_iter();
            seen.filter(|text| !known.contains(text.trim()) && !bulk(text) && !opening(text)).collect()
        }
    }

    impl Deref for Watched {
        type Target = Server;

        fn deref(&self) -> &Server {
            &self.0
        }
    }

    impl Drop for Watched {
        #[allow(clippy::print_stderr, reason = "whoever reads a failure wants to know what the server did not understand")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("refused by the server: {:#?}", self.0.refusals());
            } else {
                assert_eq!(self.0.refusals(), Vec::<String>::new(), "the server did not understand this");
                assert_eq!(self.unknown_statements(), Vec::<String>::new(), "a statement was made of data");
            }
        }
    }

    fn place() -> Place {
        let server = Arc::new(Watched::start(Options::default()));
        let open = move || -> BoxFuture<'static, Handle> {
            let server = Arc::clone(&server);
            Box::pin(async move { Handle { store: Arc::new(server.open().await), _kept: server } })
        };
        Place { cases: 20, open: Box::new(open) }
    }
}

pub(in crate::store_contract) mod server {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use health_data_ai::azure::identity::{self, Identity};
    use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
    use health_data_ai::store::azure_sql::{AzureSql, Login, Options};
    use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
    use tokio::net::TcpStream;
    use tokio_util::compat::TokioAsyncWriteCompatExt;

    use super::super::{Handle, NewPlace, Place, runtime};

    const CONNECTION: &str = "HDAI_TEST_SQL";
    const CA: &str = "HDAI_TEST_SQL_CA";

    fn variable(name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.into_string().unwrap()).filter(|value| !value.is_empty())
    }

    /// There if a server is named.
    pub(in crate::store_contract) fn new() -> Option<NewPlace> {
        variable(CONNECTION).map(|_| place as NewPlace)
    }

    fn settings(schema: &str) -> SqlSettings {
        let connection = SqlConnection::Text(Secret::new(variable(CONNECTION).unwrap()));
        SqlSettings {
            schema: schema.to_owned(),
            ca_file: variable(CA).map(Into::into),
            pool_max: 4,
            ..SqlSettings::new(connection)
        }
    }

    /// A schema of its own, which goes when the last handle on it does.
    struct Schema(String);

    impl Drop for Schema {
        fn drop(&mut self) {
            let name = self.0.clone();
            // A runtime cannot be entered from within another one.
            let dropping = std::thread::spawn(move || runtime().block_on(drop_schema(&name)));
            if dropping.join().is_err() && !std::thread::panicking() {
                panic!("the schema {} is still there; drop it by hand", self.0);
            }
        }
    }

    fn place() -> Place {
        let schema = Arc::new(Schema(format!("hdai_t_{}", uuid::Uuid::new_v4().simple())));
        let open = move || -> BoxFuture<'static, Handle> {
            let schema = Arc::clone(&schema);
            Box::pin(async move {
                let store = AzureSql::open(&settings(&schema.0), &Identity::default()).await.unwrap();
                Handle { store: Arc::new(store), _kept: schema }
            })
        };
        Place { cases: 6, open: Box::new(open) }
    }

    async fn drop_schema(schema: &str) {
        let text = Secret::new(variable(CONNECTION).unwrap());
        let options = Options::parse(&text, &Identity::default()).unwrap();
        let mut config = Config::new();
        config.host(&options.host);
        config.port(options.port);
        config.database(&options.database);
        config.encryption(if options.strict { EncryptionLevel::Strict } else { EncryptionLevel::Required });
        match (options.trust_certificate, variable(CA)) {
            (true, _) => config.trust_cert(),
            (false, Some(ca)) => config.trust_cert_ca(ca),
            (false, None) => {}
        }
        config.authentication(match &options.login {
            Login::Sql { user, password } => AuthMethod::sql_server(user, password.reveal()),
            Login::Entra(identity) => {
                let credential = identity::credential(identity).unwrap();
                let token = identity::token(&*credential, identity, "https://database.windows.net/.default").await.unwrap();
                AuthMethod::aad_token(token.secret.reveal())
            }
        });
        let tcp = TcpStream::connect(config.get_addr()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut client = Client::connect(config, tcp.compat_write()).await.unwrap();
        let objects = [
            ("VIEW", "EncountersDeidentified"),
            ("TABLE", "rejects"),
            ("TABLE", "imports"),
            ("TABLE", "findings"),
            ("TABLE", "survey"),
            ("TABLE", "models"),
            ("TABLE", "audit"),
            ("TABLE", "PatientData"),
            ("TABLE", "MetaData_Facilities"),
            ("TABLE", "schema_migrations"),
        ];
        for (kind, name) in objects {
            client.simple_query(format!("DROP {kind} IF EXISTS {schema}.{name}")).await.unwrap().into_results().await.unwrap();
        }
        let known = format!("SELECT CAST(SCHEMA_ID(N'{schema}') AS int) AS id");
        let known = client.simple_query(known).await.unwrap().into_row().await.unwrap();
        if known.and_then(|row| row.get::<i32, _>(0)).is_some() {
            client.simple_query(format!("DROP SCHEMA {schema}")).await.unwrap().into_results().await.unwrap();
        }
    }
}
