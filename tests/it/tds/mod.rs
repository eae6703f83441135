//! A server for tests that speaks TDS 7.4 and 8.0 and executes the project's T-SQL by translating it to SQLite, so that the store runs
//! over the real driver, the wire, TLS, transactions, bulk loads and typed results where there is no SQL Server.
//!
//! It is not SQL Server, nor anything like it. It knows the statements, functions and types that the project uses, and answers the error
//! 50999 to all others: nothing is accepted that is not understood. What it cannot tell:
//! * locking: writers wait for each other, the whole database at a time; readers never wait. No deadlock of two rows happens here;
//! * the optimiser, statistics, plans, and so speed;
//! * languages: text sorts by code point, and case means Unicode's lower case;
//! * time zones: a `datetimeoffset` must be UTC;
//! * permissions: GRANT and DENY are accepted and do nothing.
//!
//! Where SQL Server is stricter than SQLite, so is it: text compares without case and trailing blanks unless a collation says otherwise
//! (trailing blanks never count), lengths and ranges are kept, integers overflow, a column of a GROUP BY must be grouped by. And where
//! servers differ it is stricter than each: a result's column needs an explicit type, and what the open server refuses is refused.

mod answer;
mod bulk;
mod call;
mod catalogue;
mod change;
mod condition;
mod control;
mod define;
mod definition;
mod engine;
mod error;
mod functions;
mod locks;
mod login;
mod packet;
mod query;
mod request;
mod scalar;
mod session;
mod statement;
mod tls;
mod tree;
mod types;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::control::Shared;
pub(crate) use self::control::{Action, BEGIN, BULK_ROWS, COMMIT, Faults, ROLLBACK};
pub(crate) use self::error::STRICT;
pub(crate) use self::tls::Certificates;

/// How a server is to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The one database.
    pub(crate) database: String,
    /// The one user, and the password.
    pub(crate) user: String,
    pub(crate) password: String,
    /// The access token that is let in; none lets any in.
    pub(crate) token: Option<String>,
    /// Call itself Babelfish 4.3, which refuses MERGE, CREATE OR ALTER, WAITFOR and NULLs without a type. They are refused in any case;
    /// off, the server says that it is Microsoft's.
    pub(crate) refuse_like_babelfish: bool,
    /// Describe NOT NULL columns by types of fixed length, as SQL Server does and Babelfish does not.
    pub(crate) fixed_length_types: bool,
    /// Send every login on to this host and port, as Azure's gateway does.
    pub(crate) redirect: Option<(String, u16)>,
    /// Where the database lies, to meet it again; none is a folder of its own that goes with the server.
    pub(crate) folder: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            database: "hdai".into(),
            user: "tester".into(),
            password: "Not-A-Secret-1".into(),
            token: None,
            refuse_like_babelfish: true,
            fixed_length_types: true,
            redirect: None,
            folder: None,
        }
    }
}

/// A running server. It ends with its handle.
pub(crate) struct Server {
    port: u16,
    authority: PathBuf,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    /// Last, so that it goes last.
    _folder: TempDir,
}

impl Server {
    /// Starts a server on a free port of 127.0.0.1, on threads of its own: it serves any number of tests and runtimes.
    pub(crate) fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Arc::new(Certificates::make());
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, &certificates.authority).unwrap();
        let database = options.folder.as_deref().unwrap_or(folder.path()).join("database.sqlite");
        // This switch waits for nobody: two first connections at once would refuse each other.
        rusqlite::Connection::open(&database).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
        let shared = Arc::new(Shared::new(options, database));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let sharing = shared.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(session::serve(tcp, sharing.clone(), certificates.clone()));
            }
        });
        Self { port, authority, shared, runtime: Some(runtime), _folder: folder }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The PEM file of the authority that signed the server's certificate (for `localhost` and 127.0.0.1).
    pub(crate) fn ca_file(&self) -> &Path {
        &self.authority
    }

    /// An ADO.NET connection string for the one user.
    pub(crate) fn connection_string(&self) -> String {
        let Options { database, user, password, .. } = &self.shared.options;
        format!("Server=tcp:localhost,{};Database={database};User Id={user};Password={password};Encrypt=True", self.port)
    }

    /// What goes wrong, and what was seen.
    pub(crate) fn faults(&self) -> Faults {
        Faults(self.shared.clone())
    }

    /// What the server did not understand so far, each with its statement. A test of our T-SQL wants this empty.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.faults().refusals()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
