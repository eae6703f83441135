//! The schema of the record in T-SQL: what each migration says. `PatientData` is a loop over the columns of the blueprint, and keeps its
//! types; its clinical columns may be NULL here, because a missing value stays missing.

use std::fmt::Write as _;

use crate::domain::facility;
use crate::domain::patient::NAME_CHARS_MAX;
use crate::schema::Column;
use crate::store::columns::{
    EncounterColumn, FACILITIES, IMPORT_ID, PATIENTS, PREDICTION_COLUMNS, Type, encounter_columns, is_name, name_columns,
};

/// One numbered change of the schema.
pub(super) struct Migration {
    /// From 1, without gaps.
    pub(super) number: i64,
    /// What it brings.
    pub(super) name: &'static str,
    /// Its batches: what `GO` stands between.
    pub(super) batches: Vec<Batch>,
}

/// Statements that are sent together.
pub(super) struct Batch {
    /// The statements.
    pub(super) text: String,
    /// Is it left out on a server that is not Microsoft's?
    pub(super) microsoft_only: bool,
}

/// Every migration, in order, for the tables of `schema`. One that was released never changes again: its checksum is in every database
/// it made.
pub(super) fn migrations(schema: &str) -> Vec<Migration> {
    let batch = |text: String| Batch { text, microsoft_only: false };
    let place = |text: &str| batch(text.replace("{s}", schema));
    vec![
        Migration {
            number: 1,
            name: "0001-record",
            batches: vec![
                batch(patients(schema)),
                place(LEDGER),
                place(MODELS),
                place(AUDIT),
                Batch { microsoft_only: true, ..place(AUDIT_TRIGGER) },
            ],
        },
        Migration { number: 2, name: "0002-facilities", batches: vec![batch(facilities(schema))] },
        Migration { number: 3, name: "0003-anomalies", batches: vec![place(ANOMALIES)] },
        Migration { number: 4, name: "0004-deidentified", batches: vec![batch(deidentified(schema))] },
        Migration { number: 5, name: "0005-audit-chain", batches: vec![place(AUDIT_CHAIN), place(AUDIT_CHAIN_INDEXES)] },
        Migration { number: 6, name: "0006-outbox", batches: vec![place(OUTBOX)] },
        Migration { number: 7, name: "0007-import-parts", batches: vec![place(IMPORT_PARTS)] },
        Migration { number: 8, name: "0008-datakeys", batches: vec![place(DATA_KEYS), batch(wider_names(schema))] },
        Migration { number: 9, name: "0009-access", batches: vec![place(ACCESS)] },
        Migration { number: 10, name: "0010-reads", batches: vec![batch(reads(schema))] },
        Migration {
            number: 11,
            name: "0011-audit-retention",
            batches: vec![
                place(AUDIT_RETENTION),
                place(AUDIT_INDEXES),
                Batch { microsoft_only: true, ..place("DROP TRIGGER {s}.audit_is_append_only;\n") },
                Batch { microsoft_only: true, ..place(AUDIT_UPDATE_TRIGGER) },
                Batch { microsoft_only: true, ..place(AUDIT_DELETE_TRIGGER) },
                Batch { microsoft_only: true, ..place(ANCHOR_TRIGGER) },
            ],
        },
    ]
}

/// The table that remembers what ran. It is made before any migration.
pub(super) fn schema_migrations(schema: &str) -> String {
    format!(
        "CREATE TABLE {schema}.schema_migrations (\n  number int NOT NULL CONSTRAINT PK_schema_migrations PRIMARY KEY,\n  \
         name nvarchar(100) NOT NULL,\n  \
         checksum nvarchar(64) NOT NULL, -- SHA-256 of the migration's statements without comments and line breaks\n  \
         applied datetimeoffset(7) NOT NULL\n);\n"
    )
}

/// What T-SQL calls a column's type.
pub(super) fn type_name(kind: Type) -> String {
    match kind {
        Type::Text(units) => format!("nvarchar({units})"),
        Type::LongText => "nvarchar(max)".into(),
        Type::Integer => "int".into(),
        Type::Real => "float".into(),
        Type::Date => "date".into(),
    }
}

/// The clustered key is the encounter's id, as in the blueprint: a batch in the order of its ids appends, and a page of training rows is
/// a range of the table.
fn patients(schema: &str) -> String {
    let mut text = format!(
        "CREATE TABLE {schema}.{FACILITIES} (\n  Id nvarchar(1) NOT NULL CONSTRAINT PK_{FACILITIES} PRIMARY KEY CHECK (Id <> N''),\n  \
         Name nvarchar(200) NOT NULL,\n  Capacity int NOT NULL\n);\n\n"
    );
    // Writing to a string cannot fail.
    let _ = writeln!(text, "CREATE TABLE {schema}.{PATIENTS} (");
    for EncounterColumn { name, kind, nullable, doc, column } in encounter_columns() {
        // As it was; a later migration makes room for encrypted names.
        let kind = if is_name(*column) { &Type::Text(NAME_CHARS_MAX) } else { kind };
        let rule = match (*name, nullable) {
            ("eid", _) => format!("NOT NULL CONSTRAINT PK_{PATIENTS} PRIMARY KEY CHECK (eid >= 1)"),
            (_, false) => "NOT NULL".to_owned(),
            (_, true) => "NULL".to_owned(),
        };
        let _ = writeln!(text, "  {name} {} {rule}, -- {doc}", type_name(*kind));
    }
    for (name, kind, doc) in PREDICTION_COLUMNS.into_iter().chain([IMPORT_ID]) {
        let _ = writeln!(text, "  {name} {} NULL, -- {doc}", type_name(kind));
    }
    let _ = writeln!(text, "  CHECK (discharged >= vdate)\n);\n");
    // The only index beside the primary key: imports must be fast. It holds the few open encounters, so a row that comes with its
    // discharge date never touches it. `discharged` is in it only because the server would look it up in the table otherwise.
    let _ = writeln!(
        text,
        "CREATE INDEX {PATIENTS}_open ON {schema}.{PATIENTS} (facid, vdate) INCLUDE (predlengthofstay, discharged) WHERE discharged IS NULL;"
    );
    text
}

/// Imports and their rejects. Every delivery looks an import up by its `id`, hence unique; `seq` orders them by their beginning.
const LEDGER: &str = "\
CREATE TABLE {s}.imports (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_imports PRIMARY KEY,
  id nvarchar(32) NOT NULL CONSTRAINT UQ_imports_id UNIQUE,
  filekey nvarchar(64) NOT NULL, -- SHA-256 of account, container and name, whatever the version of the file
  account nvarchar(max) NOT NULL,
  container nvarchar(max) NOT NULL,
  name nvarchar(max) NOT NULL,
  etag nvarchar(max) NOT NULL,
  [state] nvarchar(10) NOT NULL CHECK ([state] IN (N'running', N'done', N'failed')),
  attempt int NOT NULL, -- deliveries that began work; only the newest may commit
  [checkpoint] bigint NOT NULL, -- data rows of the file whose fate is committed
  rowsread bigint NOT NULL,
  stored bigint NOT NULL,
  updated bigint NOT NULL,
  unchanged bigint NOT NULL,
  rejected bigint NOT NULL,
  rejectskept bigint NOT NULL, -- rows of this import in rejects, which is capped
  failure nvarchar(max) NOT NULL,
  extracolumns nvarchar(max) NOT NULL,
  sha256 nvarchar(64) NOT NULL,
  started datetimeoffset(7) NOT NULL,
  finished datetimeoffset(7) NULL,
  operation nvarchar(32) NOT NULL, -- the newest batch, to ask for when the answer to its commit was lost
  CHECK (rowsread = stored + updated + unchanged + rejected)
);

CREATE INDEX imports_file ON {s}.imports (filekey);

CREATE TABLE {s}.rejects (
  importid nvarchar(32) NOT NULL REFERENCES {s}.imports (id),
  line bigint NOT NULL,
  ordinal int NOT NULL, -- a row may break several rules
  columnname nvarchar(max) NOT NULL,
  [rule] nvarchar(max) NOT NULL,
  remedy nvarchar(max) NOT NULL,
  CONSTRAINT PK_rejects PRIMARY KEY (importid, line, ordinal) -- also the order in which they are read
);
";

/// There are few: the newest promoted one is found without an index of its own.
const MODELS: &str = "\
CREATE TABLE {s}.models (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_models PRIMARY KEY,
  [version] nvarchar(100) NOT NULL CONSTRAINT UQ_models_version UNIQUE,
  trained datetimeoffset(7) NOT NULL,
  trainingrows bigint NOT NULL,
  schemafingerprint nvarchar(64) NOT NULL,
  metrics nvarchar(max) NOT NULL,
  promoted bit NOT NULL,
  reason nvarchar(max) NOT NULL,
  bytes varbinary(max) NOT NULL
);
";

/// The trail of who did what. What a caller names itself has no limit of ours, so that no event is ever too long to be kept.
const AUDIT: &str = "\
CREATE TABLE {s}.audit (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_audit PRIMARY KEY,
  [at] datetimeoffset(7) NOT NULL,
  caller nvarchar(max) NOT NULL,
  roles nvarchar(max) NOT NULL,
  proof nvarchar(20) NOT NULL,
  correlation nvarchar(max) NOT NULL,
  [action] nvarchar(50) NOT NULL,
  outcome nvarchar(20) NOT NULL,
  encounter int NULL,
  detail nvarchar(max) NOT NULL,
  operation nvarchar(32) NOT NULL DEFAULT N'' -- to ask for when the answer to a commit was lost
);
";

/// The trail is never changed, by whomever; where the trigger is left out, the roles deny it.
const AUDIT_TRIGGER: &str = "\
CREATE TRIGGER {s}.audit_is_append_only ON {s}.audit AFTER UPDATE, DELETE AS
BEGIN
  THROW 50001, N'the audit trail is append-only', 1;
END;
";

/// What makes a change of the trail show: each event carries a hash of itself and of the one before it in its chain. There are
/// [`super::audit::CHAINS`] chains, so that instances which write at once seldom wait for each other.
const AUDIT_CHAIN: &str = "\
ALTER TABLE {s}.audit ADD origin nvarchar(100) NOT NULL CONSTRAINT DF_audit_origin DEFAULT N''; -- address that the call came from
ALTER TABLE {s}.audit ADD chain int NULL; -- NULL in events from before the chains
ALTER TABLE {s}.audit ADD place bigint NULL; -- number in the chain, from 1
ALTER TABLE {s}.audit ADD hash nvarchar(64) NULL; -- SHA-256 of the event, its place and the hash before it

CREATE TABLE {s}.audithead (
  chain int NOT NULL CONSTRAINT PK_audithead PRIMARY KEY,
  place bigint NOT NULL, -- of the newest event
  hash nvarchar(64) NOT NULL
);

INSERT INTO {s}.audithead (chain, place, hash)
VALUES (0, 0, N''), (1, 0, N''), (2, 0, N''), (3, 0, N''), (4, 0, N''), (5, 0, N''), (6, 0, N''), (7, 0, N'');
";

/// In a batch of their own: a batch is compiled whole, before its columns are there.
const AUDIT_CHAIN_INDEXES: &str = "\
CREATE UNIQUE INDEX audit_chain ON {s}.audit (chain, place) WHERE place IS NOT NULL;
CREATE INDEX audit_encounter ON {s}.audit (encounter) WHERE encounter IS NOT NULL;
";

/// The newest look at the stays over time, and its findings; the next look takes their place.
const ANOMALIES: &str = "\
CREATE TABLE {s}.survey (
  one int NOT NULL CONSTRAINT PK_survey PRIMARY KEY CHECK (one = 1), -- there is one
  found datetimeoffset(7) NOT NULL,
  firstweek date NULL, -- Monday of the first week that was looked at
  lastweek date NULL,
  charted bigint NOT NULL,
  uncharted bigint NOT NULL,
  CHECK (firstweek <= lastweek)
);

CREATE TABLE {s}.findings (
  ordinal int NOT NULL CONSTRAINT PK_findings PRIMARY KEY, -- latest first
  facid nvarchar(1) NOT NULL,
  [condition] nvarchar(100) NULL, -- a column of PatientData; NULL for every patient
  direction nvarchar(10) NOT NULL CHECK (direction IN (N'rise', N'decline')),
  firstweek date NOT NULL,
  lastweek date NOT NULL,
  stays bigint NOT NULL CHECK (stays >= 1),
  meandays float NOT NULL,
  expecteddays float NOT NULL,
  averagedays float NOT NULL,
  limitdays float NOT NULL,
  CHECK (firstweek <= lastweek)
);
";

/// Announcements that wait to be published, and the one lease under which they are.
const OUTBOX: &str = "\
CREATE TABLE {s}.outbox (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_outbox PRIMARY KEY, -- the order in which they are published
  id nvarchar(64) NOT NULL CONSTRAINT UQ_outbox_id UNIQUE,
  fact nvarchar(50) NOT NULL,
  subject nvarchar(200) NOT NULL, -- the id of what the fact is about
  [at] datetimeoffset(7) NOT NULL,
  lease nvarchar(64) NOT NULL -- the newest lease that took it; empty before the first
);

CREATE INDEX outbox_leased ON {s}.outbox (lease);

CREATE TABLE {s}.outbox_lease (
  one int NOT NULL CONSTRAINT PK_outbox_lease PRIMARY KEY CHECK (one = 1), -- there is one
  lease nvarchar(64) NOT NULL,
  until datetimeoffset(7) NOT NULL,
  failures int NOT NULL -- attempts in a row that failed
);

INSERT INTO {s}.outbox_lease (one, lease, until, failures) VALUES (1, N'', CAST('2000-01-01T00:00:00+00:00' AS datetimeoffset(7)), 0);
";

/// The parts of large files, and where the data rows of a file lie. A part repeats where the header lies, so that one row says all that
/// work on it needs.
const IMPORT_PARTS: &str = "\
ALTER TABLE {s}.imports ADD firstline bigint NOT NULL CONSTRAINT DF_imports_firstline DEFAULT 0; -- of the file's data rows, 0: none or not known
ALTER TABLE {s}.imports ADD lastline bigint NOT NULL CONSTRAINT DF_imports_lastline DEFAULT 0;

CREATE TABLE {s}.importparts (
  importid nvarchar(32) NOT NULL REFERENCES {s}.imports (id),
  part int NOT NULL, -- from 0, in file order
  headerfrom bigint NOT NULL, -- bytes of the file: from the first of them to the one behind the last
  headerto bigint NOT NULL,
  frombyte bigint NOT NULL,
  tobyte bigint NOT NULL,
  firstline bigint NOT NULL,
  datarows bigint NOT NULL,
  attempt int NOT NULL, -- deliveries that began work; only the newest may commit
  [checkpoint] bigint NOT NULL, -- rows of the part whose fate is committed
  done bit NOT NULL,
  operation nvarchar(32) NOT NULL, -- the newest batch, to ask for when the answer to its commit was lost
  CONSTRAINT PK_importparts PRIMARY KEY (importid, part),
  CHECK ([checkpoint] <= datarows)
);
";

/// Facilities that the site has changed since stay as they are.
fn facilities(schema: &str) -> String {
    let mut text = String::new();
    for facility in facility::seed() {
        let (id, name, capacity) = (facility.id, facility.name.replace('\'', "''"), facility.capacity);
        let _ = writeln!(
            text,
            "INSERT INTO {schema}.{FACILITIES} (Id, Name, Capacity) SELECT N'{id}', N'{name}', {capacity} \
             WHERE NOT EXISTS (SELECT 1 FROM {schema}.{FACILITIES} WHERE Id = N'{id}');"
        );
    }
    text
}

/// The keys that names are encrypted with, each wrapped by a key that is not here.
const DATA_KEYS: &str = "\
CREATE TABLE {s}.datakeys (
  id nvarchar(32) NOT NULL CONSTRAINT PK_datakeys PRIMARY KEY,
  wrapped varbinary(max) NOT NULL,
  wrappedby nvarchar(400) NOT NULL, -- the key that wraps it, with its version
  [state] nvarchar(10) NOT NULL CHECK ([state] IN (N'current', N'old', N'retired')),
  created datetimeoffset(7) NOT NULL
);

CREATE UNIQUE INDEX datakeys_current ON {s}.datakeys ([state]) WHERE [state] = N'current'; -- there is one
";

/// Whose patients a caller reaches: facilities that are assigned, and elevations (break-glass).
const ACCESS: &str = "\
CREATE TABLE {s}.assignments (
  caller nvarchar(128) NOT NULL CONSTRAINT PK_assignments PRIMARY KEY, -- Entra object id, lower case
  facilities nvarchar(100) NOT NULL, -- their letters in order; * for all
  assignedby nvarchar(128) NOT NULL,
  [at] datetimeoffset(7) NOT NULL
);

CREATE TABLE {s}.elevations (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_elevations PRIMARY KEY, -- the order in which they began
  id nvarchar(32) NOT NULL CONSTRAINT UQ_elevations_id UNIQUE,
  caller nvarchar(128) NOT NULL, -- Entra object id, lower case
  roles nvarchar(400) NOT NULL,
  reason nvarchar(50) NOT NULL,
  words nvarchar(4000) NOT NULL, -- encrypted
  began datetimeoffset(7) NOT NULL,
  until datetimeoffset(7) NOT NULL,
  ended datetimeoffset(7) NULL, -- when somebody ended it before
  events bigint NOT NULL, -- of the audit trail that needed it
  CHECK (until > began)
);

CREATE INDEX elevations_caller ON {s}.elevations (caller, began);
";

/// How long the trail is kept, what is left of events whose time was over, and what its checkpoints say of whose they are.
const AUDIT_RETENTION: &str = "\
CREATE TABLE {s}.auditrecord (
  one int NOT NULL CONSTRAINT PK_auditrecord PRIMARY KEY CHECK (one = 1), -- there is one
  id nvarchar(36) NOT NULL, -- the record's, in its checkpoints
  retentionyears int NOT NULL CHECK (retentionyears >= 6 AND retentionyears <= 30), -- 45 CFR 164.316(b)(2)(i) asks for six
  newest bigint NOT NULL, -- number of the newest checkpoint; 0 for none
  newestname nvarchar(400) NOT NULL,
  newesttext nvarchar(max) NOT NULL
);

INSERT INTO {s}.auditrecord (one, id, retentionyears, newest, newestname, newesttext)
VALUES (1, LOWER(CAST(NEWID() AS nvarchar(36))), 7, 0, N'', N'');

CREATE TABLE {s}.auditanchors (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_auditanchors PRIMARY KEY,
  chain int NOT NULL,
  place bigint NOT NULL, -- of the last event that was removed
  hash nvarchar(64) NOT NULL, -- its hash
  checkpointname nvarchar(400) NOT NULL -- the signed checkpoint that holds both
);

ALTER TABLE {s}.audit ALTER COLUMN caller nvarchar(400) NOT NULL;
";

/// For the questions: who, what, when. A caller's id has at most 128 characters.
const AUDIT_INDEXES: &str = "\
CREATE INDEX audit_caller ON {s}.audit (caller, seq);
CREATE INDEX audit_action ON {s}.audit ([action], seq);
CREATE INDEX audit_at ON {s}.audit ([at]);
";

const AUDIT_UPDATE_TRIGGER: &str = "\
CREATE TRIGGER {s}.audit_is_never_changed ON {s}.audit AFTER UPDATE AS
BEGIN
  THROW 50001, N'the audit trail is append-only', 1;
END;
";

/// A chain's beginning goes only below an anchor, and when its time is over by the server's clock.
const AUDIT_DELETE_TRIGGER: &str = "\
CREATE TRIGGER {s}.audit_is_kept ON {s}.audit AFTER DELETE AS
BEGIN
  IF EXISTS (SELECT 1 FROM deleted AS d WHERE NOT EXISTS (SELECT 1 FROM {s}.auditanchors AS a CROSS JOIN {s}.auditrecord AS r
    WHERE a.chain = d.chain AND a.place >= d.place AND DATEDIFF(day, d.[at], SYSDATETIMEOFFSET()) > r.retentionyears * 365 + r.retentionyears / 4 + 1))
  BEGIN
    THROW 50001, N'an audit event is kept until its time is over', 1;
  END;
END;
";

const ANCHOR_TRIGGER: &str = "\
CREATE TRIGGER {s}.anchor_is_append_only ON {s}.auditanchors AFTER UPDATE, DELETE AS
BEGIN
  THROW 50001, N'the audit trail is append-only', 1;
END;
";

/// Room for encrypted names. No index, check or view holds these columns, so the server changes its catalogue alone.
fn wider_names(schema: &str) -> String {
    let mut text = String::new();
    for column in name_columns() {
        let _ = writeln!(text, "ALTER TABLE {schema}.{PATIENTS} ALTER COLUMN {} {} NULL;", column.name, type_name(column.kind));
    }
    text
}

/// Predictions are looked for by the day of admission, and judged by the day of discharge. A row of an import has none and touches neither.
fn reads(schema: &str) -> String {
    format!(
        "CREATE INDEX {PATIENTS}_predicted ON {schema}.{PATIENTS} (vdate) INCLUDE (predictedstaydays) WHERE predictedstaydays IS NOT NULL;\n\
         CREATE INDEX {PATIENTS}_judged ON {schema}.{PATIENTS} (discharged, facid) INCLUDE (lengthofstay, predictedstaydays,\n  \
         predictedlow80, predictedhigh80, predictedlow90, predictedhigh90) WHERE predictedstaydays IS NOT NULL;\n"
    )
}

/// What a data scientist may see: no id, no name, no day.
fn deidentified(schema: &str) -> String {
    let kept = |column: &&EncounterColumn| {
        matches!(column.column, Column::Gender | Column::Facility | Column::Clinical(_) | Column::LengthOfStay)
    };
    let mut text = format!("CREATE VIEW {schema}.{DEIDENTIFIED} AS\nSELECT CAST(YEAR(vdate) AS int) AS admissionyear");
    for column in encounter_columns().iter().filter(kept) {
        let _ = write!(text, ", {}", column.name);
    }
    let _ = writeln!(text, ", predlengthofstay\nFROM {schema}.{PATIENTS};");
    text
}

/// The view without anything that names a patient.
pub(super) const DEIDENTIFIED: &str = "EncountersDeidentified";
