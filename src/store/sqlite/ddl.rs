//! The schema of the record in SQLite: what each migration says. `PatientData` is a loop over the columns of the blueprint.

use std::fmt::Write as _;

use crate::domain::facility;
use crate::store::columns::{EncounterColumn, FACILITIES, IMPORT_ID, PATIENTS, PREDICTION_COLUMNS, Type, encounter_columns};

/// One numbered change of the schema.
pub(super) struct Migration {
    /// From 1, without gaps.
    pub(super) number: i64,
    /// What it brings.
    pub(super) name: &'static str,
    /// Its statements.
    pub(super) sql: String,
}

/// Every migration, in order. One that was released never changes again: its checksum is in every database it made.
pub(super) fn migrations() -> Vec<Migration> {
    vec![
        Migration { number: 1, name: "0001-record", sql: record() },
        Migration { number: 2, name: "0002-facilities", sql: facilities() },
        Migration { number: 3, name: "0003-anomalies", sql: ANOMALIES.to_owned() },
        Migration { number: 4, name: "0004-audit-chain", sql: AUDIT_CHAIN.to_owned() },
        Migration { number: 5, name: "0005-outbox", sql: OUTBOX.to_owned() },
        Migration { number: 6, name: "0006-import-parts", sql: IMPORT_PARTS.to_owned() },
        Migration { number: 7, name: "0007-datakeys", sql: DATA_KEYS.to_owned() },
        Migration { number: 8, name: "0008-access", sql: ACCESS.to_owned() },
        Migration { number: 9, name: "0009-reads", sql: reads() },
        Migration { number: 10, name: "0010-audit-retention", sql: AUDIT_RETENTION.to_owned() },
    ]
}

/// The names of all migrations, in order.
pub fn migration_names() -> Vec<String> {
    migrations().into_iter().map(|migration| migration.name.to_owned()).collect()
}

/// The whole schema, as a new database gets it.
pub fn ddl() -> String {
    let mut text = format!("-- The ledger of migrations.\n{SCHEMA_MIGRATIONS}\n");
    for migration in migrations() {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n-- Migration {}\n{}", migration.name, migration.sql);
    }
    text
}

/// The table that remembers what ran. It is made before any migration.
pub(super) const SCHEMA_MIGRATIONS: &str = "\
CREATE TABLE IF NOT EXISTS schema_migrations (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL, -- SHA-256 of the migration's statements without comments and line breaks
  applied TEXT NOT NULL
) STRICT;
";

fn record() -> String {
    [patients(), LEDGER.to_owned(), MODELS_AND_AUDIT.to_owned()].concat()
}

/// `eid` is the rowid: a batch in the order of its ids appends, and a page of training rows is a range of the table itself.
fn patients() -> String {
    let mut text = format!(
        "CREATE TABLE {FACILITIES} (\n  Id TEXT PRIMARY KEY CHECK (length(Id) = 1),\n  Name TEXT NOT NULL,\n  Capacity INTEGER NOT NULL\n) STRICT, WITHOUT ROWID;\n\n"
    );
    let _ = writeln!(text, "CREATE TABLE {PATIENTS} (");
    for EncounterColumn { name, kind, nullable, doc, .. } in encounter_columns() {
        let rule = match (*name, nullable) {
            ("eid", _) => " PRIMARY KEY CHECK (eid >= 1)",
            (_, false) => " NOT NULL",
            (_, true) => "",
        };
        let _ = writeln!(text, "  {name} {}{rule}, -- {doc}", sqlite_type(*kind));
    }
    for (name, kind, doc) in PREDICTION_COLUMNS {
        let _ = writeln!(text, "  {name} {}, -- {doc}", sqlite_type(kind));
    }
    let (name, kind, doc) = IMPORT_ID;
    let _ = writeln!(text, "  {name} {}, -- {doc}", sqlite_type(kind));
    let _ = writeln!(text, "  CHECK (discharged >= vdate)\n) STRICT;\n");
    // The only index beside the primary key: imports must be fast. It holds the few open encounters, so a row that comes with its
    // discharge date never touches it. The census of open encounters is answered from it alone; `discharged` is in it only because
    // SQLite would look it up in the table otherwise.
    let _ = writeln!(
        text,
        "CREATE INDEX {PATIENTS}_open ON {PATIENTS} (facid, vdate, predlengthofstay, discharged) WHERE discharged IS NULL;\n"
    );
    text
}

fn sqlite_type(kind: Type) -> &'static str {
    match kind {
        Type::Text(_) | Type::LongText | Type::Date => "TEXT",
        Type::Integer => "INTEGER",
        Type::Real => "REAL",
    }
}

/// Imports and their rejects. `id` of an import is looked up by every delivery, hence unique; `seq` orders them by their beginning.
const LEDGER: &str = "\
CREATE TABLE imports (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  account TEXT NOT NULL,
  container TEXT NOT NULL,
  name TEXT NOT NULL,
  etag TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  attempt INTEGER NOT NULL, -- deliveries that began work; only the newest may commit
  checkpoint INTEGER NOT NULL, -- data rows of the file whose fate is committed
  rowsread INTEGER NOT NULL,
  stored INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  unchanged INTEGER NOT NULL,
  rejected INTEGER NOT NULL,
  rejectskept INTEGER NOT NULL, -- rows of this import in rejects, which is capped
  failure TEXT NOT NULL,
  extracolumns TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  started TEXT NOT NULL,
  finished TEXT,
  CHECK (rowsread = stored + updated + unchanged + rejected)
) STRICT;

CREATE TABLE rejects (
  importid TEXT NOT NULL REFERENCES imports (id),
  line INTEGER NOT NULL,
  ordinal INTEGER NOT NULL, -- a row may break several rules
  columnname TEXT NOT NULL,
  rule TEXT NOT NULL,
  remedy TEXT NOT NULL,
  PRIMARY KEY (importid, line, ordinal) -- also the order in which they are read
) STRICT, WITHOUT ROWID;

";

/// Models, and the trail of who did what. The model's bytes come last, so that reading the rest does not walk them.
const MODELS_AND_AUDIT: &str = "\
CREATE TABLE models (
  seq INTEGER PRIMARY KEY,
  version TEXT NOT NULL UNIQUE,
  trained TEXT NOT NULL,
  trainingrows INTEGER NOT NULL,
  schemafingerprint TEXT NOT NULL,
  metrics TEXT NOT NULL,
  promoted INTEGER NOT NULL CHECK (promoted IN (0, 1)),
  reason TEXT NOT NULL,
  bytes BLOB NOT NULL
) STRICT;

-- The champion is the newest promoted model; asked for before every admission.
CREATE INDEX models_promoted ON models (seq) WHERE promoted = 1;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, -- a number is never used again, so a gap shows
  at TEXT NOT NULL,
  caller TEXT NOT NULL,
  roles TEXT NOT NULL,
  proof TEXT NOT NULL,
  correlation TEXT NOT NULL,
  action TEXT NOT NULL,
  outcome TEXT NOT NULL,
  encounter INTEGER,
  detail TEXT NOT NULL
) STRICT;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
";

/// The newest look at the stays over time, and its findings; the next look takes their place.
const ANOMALIES: &str = "\
CREATE TABLE survey (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one
  found TEXT NOT NULL,
  firstweek TEXT, -- Monday of the first week that was looked at
  lastweek TEXT,
  charted INTEGER NOT NULL,
  uncharted INTEGER NOT NULL,
  CHECK (firstweek <= lastweek)
) STRICT;

CREATE TABLE findings (
  ordinal INTEGER PRIMARY KEY, -- latest first
  facid TEXT NOT NULL,
  condition TEXT, -- a column of PatientData; NULL for every patient
  direction TEXT NOT NULL CHECK (direction IN ('rise', 'decline')),
  firstweek TEXT NOT NULL,
  lastweek TEXT NOT NULL,
  stays INTEGER NOT NULL CHECK (stays >= 1),
  meandays REAL NOT NULL,
  expecteddays REAL NOT NULL,
  averagedays REAL NOT NULL,
  limitdays REAL NOT NULL,
  CHECK (firstweek <= lastweek)
) STRICT;
";

/// What makes a change of the trail show: each event carries a hash of itself and of the one before it. SQLite has one writer, so one
/// chain is enough.
const AUDIT_CHAIN: &str = "\
ALTER TABLE audit ADD COLUMN origin TEXT NOT NULL DEFAULT ''; -- address that the call came from
ALTER TABLE audit ADD COLUMN chain INTEGER; -- NULL in events from before the chain
ALTER TABLE audit ADD COLUMN place INTEGER; -- number in the chain, from 1
ALTER TABLE audit ADD COLUMN hash TEXT; -- SHA-256 of the event, its place and the hash before it

CREATE TRIGGER audit_is_chained BEFORE INSERT ON audit WHEN NEW.place IS NULL OR NEW.place < 1 OR NEW.hash IS NULL BEGIN
  SELECT RAISE(ABORT, 'an audit event must stand in the chain: is an older version of the program at work?');
END;

CREATE UNIQUE INDEX audit_chain ON audit (chain, place) WHERE place IS NOT NULL;
CREATE INDEX audit_encounter ON audit (encounter) WHERE encounter IS NOT NULL;

CREATE TABLE audithead (
  chain INTEGER PRIMARY KEY,
  place INTEGER NOT NULL, -- of the newest event
  hash TEXT NOT NULL
) STRICT;

INSERT INTO audithead (chain, place, hash) VALUES (0, 0, '');
";

/// Announcements that wait to be published, and the one lease under which they are.
const OUTBOX: &str = "\
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they are published
  id TEXT NOT NULL UNIQUE,
  fact TEXT NOT NULL,
  subject TEXT NOT NULL, -- the id of what the fact is about
  at TEXT NOT NULL,
  lease TEXT NOT NULL -- the newest lease that took it; empty before the first
) STRICT;

CREATE TABLE outbox_lease (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one
  lease TEXT NOT NULL,
  until TEXT NOT NULL,
  failures INTEGER NOT NULL -- attempts in a row that failed
) STRICT;

INSERT INTO outbox_lease (one, lease, until, failures) VALUES (1, '', '2000-01-01T00:00:00.000000000Z', 0);
";

/// The parts of large files, and where the data rows of a file lie. A part repeats where the header lies, so that one row says all that
/// work on it needs.
const IMPORT_PARTS: &str = "\
ALTER TABLE imports ADD COLUMN firstline INTEGER NOT NULL DEFAULT 0; -- of the file's data rows, 0: none or not known
ALTER TABLE imports ADD COLUMN lastline INTEGER NOT NULL DEFAULT 0;

CREATE TABLE importparts (
  importid TEXT NOT NULL REFERENCES imports (id),
  part INTEGER NOT NULL, -- from 0, in file order
  headerfrom INTEGER NOT NULL, -- bytes of the file: from the first of them to the one behind the last
  headerto INTEGER NOT NULL,
  frombyte INTEGER NOT NULL,
  tobyte INTEGER NOT NULL,
  firstline INTEGER NOT NULL,
  datarows INTEGER NOT NULL,
  attempt INTEGER NOT NULL, -- deliveries that began work; only the newest may commit
  checkpoint INTEGER NOT NULL, -- rows of the part whose fate is committed
  done INTEGER NOT NULL CHECK (done IN (0, 1)),
  PRIMARY KEY (importid, part),
  CHECK (checkpoint <= datarows)
) STRICT, WITHOUT ROWID;
";

/// The keys that names are encrypted with, each wrapped by a key that is not here.
const DATA_KEYS: &str = "\
CREATE TABLE datakeys (
  id TEXT PRIMARY KEY,
  wrapped BLOB NOT NULL,
  wrappedby TEXT NOT NULL, -- the key that wraps it, with its version
  state TEXT NOT NULL CHECK (state IN ('current', 'old', 'retired')),
  created TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX datakeys_current ON datakeys (state) WHERE state = 'current'; -- there is one
";

/// Whose patients a caller reaches: facilities that are assigned, and elevations (break-glass).
const ACCESS: &str = "\
CREATE TABLE assignments (
  caller TEXT PRIMARY KEY, -- Entra object id, lower case
  facilities TEXT NOT NULL, -- their letters in order; * for all
  assignedby TEXT NOT NULL,
  at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE elevations (
  seq INTEGER PRIMARY KEY, -- the order in which they began
  id TEXT NOT NULL UNIQUE,
  caller TEXT NOT NULL, -- Entra object id, lower case
  roles TEXT NOT NULL,
  reason TEXT NOT NULL,
  words TEXT NOT NULL, -- encrypted
  began TEXT NOT NULL,
  until TEXT NOT NULL,
  ended TEXT, -- when somebody ended it before
  events INTEGER NOT NULL, -- of the audit trail that needed it
  CHECK (until > began)
) STRICT;

CREATE INDEX elevations_caller ON elevations (caller, began);
";

/// Predictions are looked for by the day of admission, and judged by the day of discharge. A row of an import has none and touches neither.
fn reads() -> String {
    format!(
        "CREATE INDEX {PATIENTS}_predicted ON {PATIENTS} (vdate) WHERE predictedstaydays IS NOT NULL;\n\
         CREATE INDEX {PATIENTS}_judged ON {PATIENTS} (discharged, facid, lengthofstay, predictedstaydays, predictedlow80,\n  \
         predictedhigh80, predictedlow90, predictedhigh90) WHERE predictedstaydays IS NOT NULL;\n"
    )
}

/// How long the trail is kept, what is left of events whose time was over, and what its checkpoints say of whose they are. A chain's
/// beginning goes only below an anchor, an anchor stands only on an event whose time is over, and the clock is the database's. The indexes
/// are for the questions: who, what, when.
const AUDIT_RETENTION: &str = "\
CREATE TABLE auditrecord (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one
  id TEXT NOT NULL, -- the record's, in its checkpoints
  retentionyears INTEGER NOT NULL CHECK (retentionyears BETWEEN 6 AND 30), -- 45 CFR 164.316(b)(2)(i) asks for six
  newest INTEGER NOT NULL, -- number of the newest checkpoint; 0 for none
  newestname TEXT NOT NULL,
  newesttext TEXT NOT NULL
) STRICT;

INSERT INTO auditrecord (one, id, retentionyears, newest, newestname, newesttext) VALUES (1, lower(hex(randomblob(16))), 7, 0, '', '');

CREATE TABLE auditanchors (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  chain INTEGER NOT NULL,
  place INTEGER NOT NULL, -- of the last event that was removed
  hash TEXT NOT NULL, -- its hash
  checkpointname TEXT NOT NULL -- the signed checkpoint that holds both
) STRICT;

CREATE TRIGGER auditrecord_stays BEFORE DELETE ON auditrecord BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;

CREATE TRIGGER anchor_is_never_changed BEFORE UPDATE ON auditanchors BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;

CREATE TRIGGER anchor_is_never_deleted BEFORE DELETE ON auditanchors BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;

CREATE TRIGGER anchor_stands_on_an_event_whose_time_is_over BEFORE INSERT ON auditanchors
WHEN NOT EXISTS (SELECT 1 FROM audit e, auditrecord r WHERE e.chain = NEW.chain AND e.place = NEW.place AND e.hash = NEW.hash
  AND e.at < strftime('%Y-%m-%dT%H:%M:%f', 'now', '-' || r.retentionyears || ' years')) BEGIN
  SELECT RAISE(ABORT, 'an audit event is kept until its time is over');
END;

DROP TRIGGER audit_is_never_deleted;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
WHEN NOT EXISTS (SELECT 1 FROM auditanchors a, auditrecord r WHERE a.chain = OLD.chain AND a.place >= OLD.place
  AND OLD.at < strftime('%Y-%m-%dT%H:%M:%f', 'now', '-' || r.retentionyears || ' years')) BEGIN
  SELECT RAISE(ABORT, 'an audit event is kept until its time is over');
END;

CREATE INDEX audit_caller ON audit (caller);
CREATE INDEX audit_action ON audit (action);
CREATE INDEX audit_at ON audit (at);
";

/// Facilities that the site has changed since stay as they are.
fn facilities() -> String {
    let mut text = String::new();
    for facility in facility::seed() {
        let _ = writeln!(
            text,
            "INSERT INTO {FACILITIES} (Id, Name, Capacity) VALUES ('{}', '{}', {}) ON CONFLICT (Id) DO NOTHING;",
            facility.id,
            facility.name.replace('\'', "''"),
            facility.capacity
        );
    }
    text
}
