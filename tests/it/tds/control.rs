//! What a test may ask of a running server: faults, counts, what was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::Options;
use super::error::SqlError;
use super::locks::Locks;

/// What the faults call a Transaction Manager request or the rows of a bulk load, which have no text of their own.
pub(crate) const BEGIN: &str = "<begin transaction>";
pub(crate) const COMMIT: &str = "<commit transaction>";
pub(crate) const ROLLBACK: &str = "<rollback transaction>";
pub(crate) const BULK_ROWS: &str = "<bulk rows>";

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// The request is not executed; this is the answer. 1205 rolls the transaction back, as does any with `XACT_ABORT`.
    Error { number: i32, class: u8, state: u8, message: String },
    /// The request is executed this much later.
    Delay(Duration),
    /// The socket closes; nothing is executed and the transaction is rolled back.
    CloseBefore,
    /// The request is executed, then the socket closes without an answer.
    CloseAfter,
}

impl Action {
    /// An error of this number, class 16, state 1.
    pub(crate) fn error(number: i32) -> Self {
        Self::Error { number, class: 16, state: 1, message: format!("injected error {number}") }
    }

    pub(super) fn as_error(&self) -> Option<SqlError> {
        match self {
            Self::Error { number, class, state, message } => {
                Some(SqlError { number: *number, class: *class, state: *state, message: message.clone() })
            }
            _ => None,
        }
    }
}

struct Fault {
    contains: String,
    left: usize,
    action: Action,
}

/// A session as the test sees it.
pub(super) struct Seen {
    pub(super) kill: Arc<Notify>,
}

/// What all sessions of a server share.
pub(crate) struct Shared {
    pub(super) options: Options,
    pub(super) path: PathBuf,
    pub(super) locks: Locks,
    faults: Mutex<Vec<Fault>>,
    login_faults: Mutex<(usize, i32)>,
    /// The password now, if it is another than that of the options.
    password: Mutex<Option<String>>,
    refusals: Mutex<Vec<String>>,
    statements: Mutex<BTreeSet<String>>,
    tokens: Mutex<Vec<String>>,
    sessions: Mutex<BTreeMap<u64, Seen>>,
    opened: AtomicU64,
}

impl Shared {
    pub(super) fn new(options: Options, path: PathBuf) -> Self {
        Self {
            options,
            path,
            locks: Locks::default(),
            faults: Mutex::default(),
            login_faults: Mutex::default(),
            password: Mutex::default(),
            refusals: Mutex::default(),
            statements: Mutex::default(),
            tokens: Mutex::default(),
            sessions: Mutex::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// A TCP connection came; answers the number of its session.
    pub(super) fn opened(&self) -> u64 {
        50 + self.opened.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn has_password(&self, given: &str) -> bool {
        self.password.lock().unwrap().as_deref().unwrap_or(&self.options.password) == given
    }

    pub(super) fn refused(&self, message: &str, sql: &str) {
        self.refusals.lock().unwrap().push(format!("{message}\n    in: {sql}"));
    }

    pub(super) fn token(&self, token: String) {
        self.tokens.lock().unwrap().push(token);
    }

    /// The error that this login gets, if a test said so.
    pub(super) fn login_fault(&self) -> Option<i32> {
        let mut faults = self.login_faults.lock().unwrap();
        faults.0 = faults.0.checked_sub(1)?;
        Some(faults.1)
    }

    pub(super) fn arrived(&self, session: u64) -> Arc<Notify> {
        let kill = Arc::new(Notify::new());
        self.sessions.lock().unwrap().insert(session, Seen { kill: kill.clone() });
        kill
    }

    pub(super) fn left(&self, session: u64) {
        self.sessions.lock().unwrap().remove(&session);
    }

    /// Notes a request, and answers what is to go wrong with it.
    pub(super) fn request(&self, text: &str) -> Option<Action> {
        self.statements.lock().unwrap().insert(text.to_owned());
        let mut faults = self.faults.lock().unwrap();
        let mut due = None;
        for (place, fault) in faults.iter_mut().enumerate().filter(|(_, fault)| text.contains(&fault.contains)) {
            fault.left -= 1;
            if fault.left == 0 && due.is_none() {
                due = Some(place);
            }
        }
        let action = due.map(|place| faults.remove(place).action);
        faults.retain(|fault| fault.left > 0);
        action
    }
}

/// The test's handle.
pub(crate) struct Faults(pub(super) Arc<Shared>);

impl Faults {
    /// Has `action` happen to the `nth` (from 1) request from now on whose text contains `contains`, once.
    pub(crate) fn on(&self, contains: &str, nth: usize, action: Action) {
        assert!(nth > 0, "requests are counted from 1");
        self.0.faults.lock().unwrap().push(Fault { contains: contains.to_owned(), left: nth, action });
    }

    /// Refuses the next `times` logins with the error `number`.
    pub(crate) fn refuse_logins(&self, times: usize, number: i32) {
        *self.0.login_faults.lock().unwrap() = (times, number);
    }

    /// Gives the one user another password; who is logged in stays.
    pub(crate) fn change_password(&self, password: &str) {
        *self.0.password.lock().unwrap() = Some(password.to_owned());
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.0.opened.load(Ordering::SeqCst)
    }

    /// The sessions that are logged in now.
    pub(crate) fn sessions(&self) -> Vec<u64> {
        self.0.sessions.lock().unwrap().keys().copied().collect()
    }

    /// Closes a session's socket and rolls its work back; false if there is no such session.
    pub(crate) fn kill(&self, session: u64) -> bool {
        let sessions = self.0.sessions.lock().unwrap();
        sessions.get(&session).inspect(|seen| seen.kill.notify_one()).is_some()
    }

    /// The distinct texts of all requests so far.
    pub(crate) fn statements(&self) -> Vec<String> {
        self.0.statements.lock().unwrap().iter().cloned().collect()
    }

    /// The access tokens of all logins so far.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.0.tokens.lock().unwrap().clone()
    }

    /// What the server did not understand so far, with the statement.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.0.refusals.lock().unwrap().clone()
    }
}
