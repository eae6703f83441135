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

pub(in crate::store_contract) mod server {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use health_data_ai::azure::identity::Identity;
    use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
    use health_data_ai::store::azure_sql::AzureSql;
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
        SqlSettings { schema: schema.to_owned(), ca_file: variable(CA).map(Into::into), pool_max: 4, ..SqlSettings::new(connection) }
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
        let mut config = Config::from_ado_string(&variable(CONNECTION).unwrap()).unwrap();
        config.encryption(EncryptionLevel::Required);
        if let Some(ca) = variable(CA) {
            config.trust_cert_ca(ca);
        }
        if let Some(token) = variable("HDAI_TEST_SQL_TOKEN") {
            config.authentication(AuthMethod::aad_token(token));
        }
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
