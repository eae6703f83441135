//! A file of encounters on its way into the record: its identity, its ledger entry and its rejects.

use std::fmt;
use std::ops::Range;

use chrono::{DateTime, Utc};

/// What one file is: the same four make the same import, however often it is delivered. Hospitals name files after patients, so `Debug`
/// leaves the name out; a log names the import by its id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The account's URL, without a trailing slash.
    pub account: String,
    /// The container.
    pub container: String,
    /// The blob's name within the container.
    pub name: String,
    /// The blob's entity tag, without quotes.
    pub etag: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("container", &self.container).field("etag", &self.etag).finish_non_exhaustive()
    }
}

/// An import's id: 32 hex digits derived from its [`Source`], so that a redelivery has the same id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImportId(pub String);

impl ImportId {
    /// Reads an id; `None`, if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 32 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for ImportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Begun and not finished.
    Running,
    /// Every row is stored or rejected.
    Done,
    /// The file itself cannot be read; a new delivery of the same bytes will not help.
    Failed,
}

impl State {
    /// The state's name in the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
        }
    }

    /// The state with this name.
    pub fn parse(name: &str) -> Option<State> {
        [State::Running, State::Done, State::Failed].into_iter().find(|state| state.name() == name)
    }
}

/// Rows, counted once however often the file was delivered. `read = stored + updated + unchanged + rejected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Data rows met.
    pub read: u64,
    /// New rows.
    pub stored: u64,
    /// Rows that were there with other values.
    pub updated: u64,
    /// Rows that were there with the same values.
    pub unchanged: u64,
    /// Rows that broke a rule.
    pub rejected: u64,
}

impl Counts {
    /// Adds another batch.
    pub fn add(&mut self, other: &Counts) {
        self.read += other.read;
        self.stored += other.stored;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.rejected += other.rejected;
    }

    /// Did this import change the record?
    pub fn changed_anything(&self) -> bool {
        self.stored + self.updated > 0
    }
}

/// A row that broke a rule: where, which rule, what to do. Never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Line of the file where the row starts, from 1.
    pub line: u64,
    /// The column, as the schema names it.
    pub column: String,
    /// The rule.
    pub rule: String,
    /// What to do.
    pub remedy: String,
}

/// An import's ledger entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its id.
    pub id: ImportId,
    /// Its file.
    pub source: Source,
    /// Where it stands.
    pub state: State,
    /// Deliveries that began work on it.
    pub attempt: u32,
    /// Data rows of the file whose fate is committed.
    pub checkpoint: u64,
    /// Its rows.
    pub counts: Counts,
    /// Why it failed, in words that name no value; empty otherwise.
    pub failure: String,
    /// Headers that the schema does not know, comma separated.
    pub extra_columns: String,
    /// SHA-256 of the file, hex; empty until the whole file was read.
    pub sha256: String,
    /// Where its data rows lie; `None` until the whole file was read, and for a file without rows.
    pub lines: Option<LineSpan>,
    /// First begun, UTC.
    pub started: DateTime<Utc>,
    /// Finished, UTC.
    pub finished: Option<DateTime<Utc>>,
}

/// The lines that a file's data rows take up, from 1; lines without a row may lie between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineSpan {
    /// The line that the first row starts on.
    pub first: u64,
    /// The line that the last row ends on.
    pub last: u64,
}

impl LineSpan {
    /// `before`, if there was something, and then these.
    pub fn after(before: Option<Self>, first: u64, last: u64) -> Self {
        Self { first: before.map_or(first, |before| before.first), last }
    }
}

/// Whole consecutive rows of a file, and what lies between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRange {
    /// Where they lie in the file; it begins with the first byte of a row.
    pub bytes: Range<u64>,
    /// The line that the first row starts on, from 1.
    pub first_line: u64,
    /// Data rows, at least one.
    pub rows: u64,
}

/// How a large file is imported in parts, by several instances side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Headers that the schema does not know.
    pub extra_columns: Vec<String>,
    /// Where the data rows lie.
    pub lines: Option<LineSpan>,
    /// Where the header lies in the file.
    pub header: Range<u64>,
    /// The parts, in file order. Together they hold every row once.
    pub parts: Vec<RowRange>,
}

/// A part of a file, as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0, in file order.
    pub number: u32,
    /// Where the file's header lies.
    pub header: Range<u64>,
    /// Its rows.
    pub range: RowRange,
    /// Deliveries that began work on it; only the newest may commit.
    pub attempt: u32,
    /// Rows of the part whose fate is committed.
    pub checkpoint: u64,
}
