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

/// The embedded record with its names encrypted, as the program opens it.
pub(in crate::store_contract) mod sealed {
    use std::sync::Arc;

    use chrono::Utc;
    use futures_util::future::BoxFuture;
    use health_data_ai::store::sealed::{KeyFile, Sealed};
    use health_data_ai::store::sqlite::Sqlite;

    use super::super::{Handle, NewPlace, Place};

    /// Always there.
    pub(in crate::store_contract) fn new() -> Option<NewPlace> {
        Some(place)
    }

    #[expect(clippy::disallowed_methods, reason = "a key's day")]
    fn place() -> Place {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let open = move || -> BoxFuture<'static, Handle> {
            let folder = Arc::clone(&folder);
            Box::pin(async move {
                let inner = Arc::new(Sqlite::open(folder.path().join("record.db")).unwrap());
                let key = Arc::new(KeyFile::new(folder.path().join("data.key")));
                Handle { store: Arc::new(Sealed::new(inner, key, Utc::now)), _kept: folder }
            })
        };
        Place { cases: 20, open: Box::new(open) }
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
                rest.is_some_and(|rest| {
                    ["staging", "rejects", "predictions", "names", "events"].iter().any(|table| rest.starts_with(table))
                })
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
    use std::sync::{Arc, OnceLock};

    use futures_util::future::BoxFuture;
    use health_data_ai::azure::identity::Identity;
    use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
    use health_data_ai::store::azure_sql::{AzureSql, GROUND_PREFIX, Ground};

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
        let connection = SqlConnection::Text(Secret::new(connection()));
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
        let schema = Arc::new(Schema(format!("{GROUND_PREFIX}{}", uuid::Uuid::new_v4().simple())));
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
        Ground::new(&settings(schema), &Identity::default()).await.unwrap().remove().await.unwrap();
    }

    /// The connection string with a server of this machine in it: a password goes to no other. A server elsewhere (a container with an
    /// address of its own) is reached through a forwarder on loopback; its certificate's name must then be said in the string.
    fn connection() -> String {
        static STRING: OnceLock<String> = OnceLock::new();
        let forwarded = || {
            let text = variable(CONNECTION).unwrap();
            let is_server = |key: &str| ["server", "data source", "address", "addr"].contains(&key.trim().to_lowercase().as_str());
            let part = text.split(';').find(|part| part.split_once('=').is_some_and(|(key, _)| is_server(key)));
            let Some((part, address)) = part.and_then(|part| Some((part, part.split_once('=')?.1.trim()))) else { return text };
            let address = address.strip_prefix("tcp:").unwrap_or(address);
            let (host, port) = address.split_once(',').unwrap_or((address, "1433"));
            let here = ["localhost", "(local)", ".", "127.0.0.1", "::1"].contains(&host.trim()) || host.starts_with("127.");
            if here || !text.to_lowercase().contains("password") && !text.to_lowercase().contains("pwd") {
                return text;
            }
            let port = forward(format!("{}:{}", host.trim(), port.trim()));
            text.replace(part, &format!("Server=tcp:localhost,{port}"))
        };
        STRING.get_or_init(forwarded).clone()
    }

    /// Carries what comes to a port of loopback to `target`, as long as the tests run.
    fn forward(target: String) -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let Ok(there) = std::net::TcpStream::connect(&target) else { continue };
                for (mut from, mut to) in [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        port
    }
}
