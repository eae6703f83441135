//! Every statement that this module runs, once. The list is also what `tests/golden/sqlite.sql` holds, so that a change of a
//! statement is seen in review.

use std::sync::LazyLock;

use super::ddl;
use crate::schema::Feature;
use crate::store::columns::{
    EncounterColumn, FACILITIES, IMPORT_ID, PATIENTS, PREDICTION_COLUMNS, SEALED_PREFIX_CHARS, encounter_columns, name_columns,
    nameless_columns,
};
use crate::store::datakeys::PLAIN;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(super) static $name: LazyLock<String> = LazyLock::new(|| String::from($text));)*

        /// Every statement by name, for the golden file.
        pub fn statements() -> Vec<(&'static str, String)> {
            let mut all = vec![$((stringify!($name), $name.clone()),)*];
            all.push(("SCHEMA", ddl::ddl()));
            all
        }
    };
}

/// Every commit is on the disk before it is answered. No memory map: a failing disk must be an error, not a SIGBUS. Temporary
/// tables stay in memory: a spill file would hold patient data where nobody looks for it. What is written over or deleted leaves no bytes in the
/// file: a name's older form would be read there with a key that was retired.
pub(super) const WRITER_PRAGMAS: &str = "\
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 0;
PRAGMA cache_size = -16384;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA secure_delete = ON;
";

/// A reader cannot write, whatever it is asked.
pub(super) const READER_PRAGMAS: &str = "\
PRAGMA query_only = ON;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 0;
PRAGMA cache_size = -8192;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
";

const IMPORT_COLUMNS: &str = "id, account, container, name, etag, state, attempt, checkpoint, rowsread, stored, updated, unchanged, \
     rejected, failure, extracolumns, sha256, firstline, lastline, started, finished";

const PART_COLUMNS: &str = "part, headerfrom, headerto, frombyte, tobyte, firstline, datarows, attempt, checkpoint";

const MODEL_COLUMNS: &str = "version, trained, trainingrows, schemafingerprint, metrics, promoted, reason";

const AUDIT_COLUMNS: &str = "at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail";

const FINDING_COLUMNS: &str = "ordinal, facid, condition, direction, firstweek, lastweek, stays, meandays, expecteddays, \
     averagedays, limitdays";

const ELEVATION_COLUMNS: &str = "id, caller, roles, reason, began, until, ended, events";

statements! {
    /// On opening: whose file it is, and whether there is anything in it.
    IDENTITY = "SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)";
    /// Answers the mode it reached.
    WRITE_AHEAD_LOG = "PRAGMA journal_mode = WAL";
    ON_WRITERS = WRITER_PRAGMAS;
    ON_READERS = READER_PRAGMAS;
    HAS_MIGRATIONS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'";
    MIGRATIONS = "SELECT number, name, checksum FROM schema_migrations ORDER BY number";
    RECORD_MIGRATION = "INSERT INTO schema_migrations (number, name, checksum, applied) \
        VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))";

    ALL_FACILITIES = format!("SELECT Id, Name, Capacity FROM {FACILITIES} ORDER BY Id");

    SAVE_FACILITY = format!("INSERT INTO {FACILITIES} (Id, Name, Capacity) VALUES (?1, ?2, ?3)\n\
        ON CONFLICT (Id) DO UPDATE SET Name = excluded.Name, Capacity = excluded.Capacity\n\
        WHERE Name IS NOT excluded.Name OR Capacity IS NOT excluded.Capacity");

    /// One row of an import. The prediction of an admission stays; a row that says nothing new is not written at all.
    UPSERT_ENCOUNTER = upsert();
    /// Does the id belong to another encounter, one that was admitted? An import never writes over a patient on a ward.
    ADMITTED_ANOTHER = format!(
        "SELECT 1 FROM {PATIENTS} WHERE eid = ?1 AND {} IS NULL AND (vdate <> ?2 OR facid <> ?3 OR gender <> ?4)", IMPORT_ID.0);
    ENCOUNTER_EXISTS = format!("SELECT 1 FROM {PATIENTS} WHERE eid = ?1");
    INSERT_ADMISSION = {
        let names = || encounter_columns().iter().map(|c| c.name).chain(PREDICTION_COLUMNS.iter().map(|c| c.0));
        format!("INSERT INTO {PATIENTS} ({}) VALUES ({})", join(names()), places(names().count()))
    };
    DISCHARGE = format!("UPDATE {PATIENTS} SET discharged = ?2, lengthofstay = ?3 WHERE eid = ?1 AND discharged IS NULL AND vdate <= ?2");
    ENCOUNTER = format!("SELECT {}, prediction FROM {PATIENTS} WHERE eid = ?1", names(encounter_columns()));
    ENCOUNTERS = format!("SELECT {} FROM {PATIENTS} WHERE eid > ?1 ORDER BY eid LIMIT ?2", names(encounter_columns()));
    DISCHARGED_ENCOUNTERS = format!(
        "SELECT {} FROM {PATIENTS} WHERE eid > ?1 AND discharged IS NOT NULL ORDER BY eid LIMIT ?2", names(nameless_columns()));
    UNPREDICTED_ENCOUNTERS = format!(
        "SELECT {} FROM {PATIENTS} WHERE eid > ?1 AND discharged IS NULL AND prediction IS NULL ORDER BY eid LIMIT ?2",
        names(nameless_columns()));
    SAVE_PREDICTION = {
        let set = PREDICTION_COLUMNS.iter().zip(2..).map(|(column, place)| format!("{} = ?{place}", column.0));
        format!("UPDATE {PATIENTS} SET {} WHERE eid = ?1 AND prediction IS NULL", join(set))
    };
    TOTALS = format!("SELECT count(*), count(discharged), count(*) - count({}) FROM {PATIENTS}", IMPORT_ID.0);
    /// The first two counts are answered from the index of open encounters, the third from one pass over the table.
    CENSUS = format!(
        "SELECT f.Id, f.Name, f.Capacity,\n  \
           (SELECT count(*) FROM {PATIENTS} p WHERE p.discharged IS NULL AND p.facid = f.Id AND p.vdate <= ?1),\n  \
           (SELECT count(*) FROM {PATIENTS} p WHERE p.discharged IS NULL AND p.facid = f.Id AND p.vdate <= ?1\n    \
             AND date(p.vdate, p.predlengthofstay || ' days') <= ?2),\n  \
           coalesce(d.leavers, 0)\n\
         FROM {FACILITIES} f\n\
         LEFT JOIN (SELECT facid, count(*) AS leavers FROM {PATIENTS} WHERE discharged = ?1 GROUP BY facid) d ON d.facid = f.Id\n\
         ORDER BY f.Id");

    /// One pass over the table, summed as the rows go by. There is no index to group by, and SQLite would sort a copy of every row in
    /// memory to do it itself. The conditions come last, in the order of the clinical table.
    STAYS = format!(
        "SELECT facid, vdate, discharged, lengthofstay, {} FROM {PATIENTS} WHERE vdate <= ?1",
        join(Feature::conditions().map(|feature| feature.spec().name)));
    DELETE_FINDINGS = "DELETE FROM findings";
    DELETE_SURVEY = "DELETE FROM survey";
    INSERT_SURVEY = "INSERT INTO survey (one, found, firstweek, lastweek, charted, uncharted) VALUES (1, ?1, ?2, ?3, ?4, ?5)";
    INSERT_FINDING = format!("INSERT INTO findings ({FINDING_COLUMNS}) VALUES ({})", places(11));
    SURVEY = "SELECT found, firstweek, lastweek, charted, uncharted FROM survey";
    FINDINGS = format!("SELECT {FINDING_COLUMNS} FROM findings ORDER BY ordinal LIMIT ?1");

    IMPORT = format!("SELECT {IMPORT_COLUMNS} FROM imports WHERE id = ?1");
    IMPORTS = format!("SELECT {IMPORT_COLUMNS} FROM imports ORDER BY seq DESC LIMIT ?1");
    BEGIN_IMPORT = "INSERT INTO imports (id, account, container, name, etag, state, attempt, checkpoint, rowsread, stored, updated, \
        unchanged, rejected, rejectskept, failure, extracolumns, sha256, started) \
        VALUES (?1, ?2, ?3, ?4, ?5, 'running', 1, 0, 0, 0, 0, 0, 0, 0, '', '', '', ?6)";
    TAKE_OVER_IMPORT = "UPDATE imports SET attempt = attempt + 1, state = 'running', failure = '', finished = NULL \
        WHERE id = ?1 AND state <> 'done'";
    CLOSE_REPLACED_IMPORTS = "UPDATE imports SET state = 'failed', failure = 'the file was replaced by a newer version', finished = ?5 \
        WHERE account = ?1 AND container = ?2 AND name = ?3 AND etag <> ?4 AND state = 'running'";
    FENCE = "SELECT state = 'running' AND attempt = ?2, checkpoint, rejectskept FROM imports WHERE id = ?1";
    /// The checkpoint of a file in parts stays at its beginning: each part has its own.
    ADVANCE_IMPORT = "UPDATE imports SET checkpoint = checkpoint + ?8, rowsread = rowsread + ?2, stored = stored + ?3, \
        updated = updated + ?4, unchanged = unchanged + ?5, rejected = rejected + ?6, rejectskept = rejectskept + ?7 WHERE id = ?1";
    FINISH_IMPORT = "UPDATE imports SET state = ?3, sha256 = ?4, extracolumns = ?5, failure = ?6, finished = ?7, \
        firstline = ?8, lastline = ?9 WHERE id = ?1 AND state = 'running' AND attempt = ?2";

    PLAN_IMPORT = "UPDATE imports SET sha256 = ?3, extracolumns = ?4, firstline = ?5, lastline = ?6 \
        WHERE id = ?1 AND state = 'running' AND attempt = ?2 AND checkpoint = 0";
    INSERT_PART = format!("INSERT INTO importparts (importid, {PART_COLUMNS}, done) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0)");
    PARTS_LEFT = "SELECT part FROM importparts WHERE importid = ?1 AND done = 0 ORDER BY part";
    PART = format!("SELECT {PART_COLUMNS} FROM importparts WHERE importid = ?1 AND part = ?2");
    TAKE_PART = "UPDATE importparts SET attempt = attempt + 1 WHERE importid = ?1 AND part = ?2 AND done = 0";
    FENCE_PART = "SELECT coalesce(i.state = 'running' AND p.attempt = ?3 AND p.done = 0, 0), coalesce(p.checkpoint, 0), i.rejectskept \
        FROM imports i LEFT JOIN importparts p ON p.importid = i.id AND p.part = ?2 WHERE i.id = ?1";
    ADVANCE_PART = "UPDATE importparts SET checkpoint = checkpoint + ?3 WHERE importid = ?1 AND part = ?2";
    FINISH_PART = "UPDATE importparts SET done = 1 \
        WHERE importid = ?1 AND part = ?2 AND attempt = ?3 AND done = 0 AND checkpoint = datarows";
    CLOSE_IMPORT = "UPDATE imports SET state = ?2, failure = ?3, finished = ?4 WHERE id = ?1 AND state = 'running'";
    INSERT_REJECT = "INSERT INTO rejects (importid, line, ordinal, columnname, rule, remedy) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
        ON CONFLICT (importid, line, ordinal) DO NOTHING";
    REJECTS = "SELECT line, columnname, rule, remedy FROM rejects WHERE importid = ?1 ORDER BY line, ordinal LIMIT ?3 OFFSET ?2";

    INSERT_MODEL = format!("INSERT INTO models ({MODEL_COLUMNS}, bytes) VALUES ({})", places(8));
    MODEL_EXISTS = "SELECT 1 FROM models WHERE version = ?1";
    CHAMPION_VERSION = "SELECT version FROM models WHERE promoted = 1 ORDER BY seq DESC LIMIT 1";
    CHAMPION = format!("SELECT {MODEL_COLUMNS}, bytes FROM models WHERE promoted = 1 ORDER BY seq DESC LIMIT 1");
    MODELS = format!("SELECT {MODEL_COLUMNS} FROM models ORDER BY seq DESC LIMIT ?1");

    ADVANCE_CHAIN = "UPDATE audithead SET place = place + 1 WHERE chain = ?1 RETURNING place, hash";
    CHAIN_HASH = "UPDATE audithead SET hash = ?2 WHERE chain = ?1";
    AUDIT_HEADS = "SELECT chain, place, hash FROM audithead ORDER BY chain";
    INSERT_AUDIT = format!("INSERT INTO audit ({AUDIT_COLUMNS}, chain, place, hash) VALUES ({})", places(13));
    AUDIT_PAGE = audit_page("", "");
    /// By the index of encounters.
    AUDIT_ABOUT = audit_page("", " AND encounter = ?8");
    /// By the index of callers.
    AUDIT_BY_CALLER = audit_page("", " AND caller = ?8");
    /// By the index of actions.
    AUDIT_BY_ACTION = audit_page("", " AND action = ?8");
    /// By the index of times; `+` keeps the planner from walking the whole trail backwards instead.
    AUDIT_WHEN = audit_page("+", "");
    AUDIT_CHAIN = format!("SELECT seq, place, hash, {AUDIT_COLUMNS} FROM audit \
        WHERE chain = ?1 AND place >= ?2 AND (place > ?2 OR seq > ?3) ORDER BY place, seq LIMIT ?4");
    AUDIT_UNCHAINED = "SELECT count(*) FILTER (WHERE a.place IS NULL AND a.seq < f.seq) AS before, \
        count(*) FILTER (WHERE a.place IS NOT NULL OR a.seq > f.seq) AS since, \
        min(a.seq) FILTER (WHERE a.place IS NOT NULL OR a.seq > f.seq) AS firstsince \
        FROM audit a, (SELECT coalesce(min(seq), 9223372036854775807) AS seq FROM audit WHERE place >= 1) f \
        WHERE a.place IS NULL OR a.place < 1 OR a.chain NOT IN (SELECT chain FROM audithead)";
    AUDIT_RECORD = "SELECT id, retentionyears, newest, newestname, newesttext FROM auditrecord";
    AUDIT_ANCHORS = "SELECT chain, place, hash, checkpointname FROM auditanchors ORDER BY chain, place, seq";
    SAVE_CHECKPOINT = "UPDATE auditrecord SET newest = ?2, newestname = ?3, newesttext = ?4 WHERE newest = ?1 AND id = ?5";
    RENEW_RECORD = "UPDATE auditrecord SET id = ?2, newest = 0, newestname = '', newesttext = '' WHERE id = ?1";
    RAISE_RETENTION = "UPDATE auditrecord SET retentionyears = ?1 WHERE retentionyears < ?1";
    IS_ANCHORED = "SELECT 1 FROM auditanchors WHERE chain = ?1 AND place >= ?2";
    INSERT_ANCHOR = "INSERT INTO auditanchors (chain, place, hash, checkpointname) VALUES (?1, ?2, ?3, ?4)";
    PURGE_AUDIT = "DELETE FROM audit WHERE chain = ?1 AND place > ?2 AND place <= ?3";

    INSERT_ANNOUNCEMENT = "INSERT INTO outbox (id, fact, subject, at, lease) VALUES (?1, ?2, ?3, ?4, '')";
    ANNOUNCEMENT_WAITS = "SELECT 1 FROM outbox LIMIT 1";
    OUTBOX_LEASE = "SELECT lease, until, failures FROM outbox_lease";
    TAKE_OUTBOX_LEASE = "UPDATE outbox_lease SET lease = ?1, until = ?2";
    LEASE_ANNOUNCEMENTS = "UPDATE outbox SET lease = ?1 WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT ?2)";
    LEASED_ANNOUNCEMENTS = "SELECT id, fact, subject, at FROM outbox WHERE lease = ?1 ORDER BY seq";
    PUBLISHED_ANNOUNCEMENTS = "DELETE FROM outbox WHERE lease = ?1";
    /// Those that were never on their way are not given up.
    AGED_ANNOUNCEMENTS = "DELETE FROM outbox WHERE at < ?1 AND lease <> ''";
    END_OUTBOX_LEASE = "UPDATE outbox_lease SET until = ?2, failures = ?3 WHERE lease = ?1";

    DATA_KEYS = "SELECT id, wrapped, wrappedby, state, created FROM datakeys ORDER BY created, id";
    CURRENT_DATA_KEY = "SELECT id FROM datakeys WHERE state = 'current'";
    AGE_DATA_KEY = "UPDATE datakeys SET state = 'old' WHERE state = 'current'";
    INSERT_DATA_KEY = "INSERT INTO datakeys (id, wrapped, wrappedby, state, created) VALUES (?1, ?2, ?3, ?4, ?5)";
    /// Names that a program without encryption has left.
    NOTE_PLAIN_NAMES = format!("INSERT INTO datakeys (id, wrapped, wrappedby, state, created) \
        SELECT '{PLAIN}', x'', '', 'old', ?1 WHERE EXISTS (SELECT 1 FROM {PATIENTS})");
    RETIRE_DATA_KEY = "UPDATE datakeys SET state = 'retired' WHERE id = ?1 AND state = 'old'";
    REWRAP_DATA_KEY = "UPDATE datakeys SET wrapped = ?2, wrappedby = ?3 WHERE id = ?1 AND wrappedby = ?4";
    NAMES_NOT_UNDER = {
        let others: Vec<_> = name_columns().map(|c| format!("substr({}, 1, {SEALED_PREFIX_CHARS}) <> ?2", c.name)).collect();
        format!("SELECT eid, {} FROM {PATIENTS} WHERE eid > ?1 AND ({}) ORDER BY eid LIMIT ?3",
            join(name_columns().map(|c| c.name)), others.join(" OR "))
    };
    REPLACE_NAME = {
        let set = name_columns().zip(2..).map(|(c, place)| format!("{} = ?{place}", c.name));
        let there: Vec<_> = name_columns().zip(5..).map(|(c, place)| format!("{} IS ?{place}", c.name)).collect();
        format!("UPDATE {PATIENTS} SET {} WHERE eid = ?1 AND {}", join(set), there.join(" AND "))
    };
    ASSIGN = "INSERT INTO assignments (caller, facilities, assignedby, at) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (caller) DO UPDATE SET facilities = excluded.facilities, assignedby = excluded.assignedby, at = excluded.at";
    UNASSIGN = "DELETE FROM assignments WHERE caller = ?1";
    ASSIGNMENTS = "SELECT caller, facilities, assignedby, at FROM assignments WHERE caller > ?1 ORDER BY caller LIMIT ?2";
    ASSIGNED = "SELECT facilities FROM assignments WHERE caller = ?1";
    NEWEST_ELEVATION = format!("SELECT {ELEVATION_COLUMNS} FROM elevations WHERE caller = ?1 AND ended IS NULL ORDER BY began DESC LIMIT 1");
    ELEVATIONS_SINCE = "SELECT count(*) AS elevations FROM elevations WHERE caller = ?1 AND began > ?2";
    INSERT_ELEVATION = "INSERT INTO elevations (id, caller, roles, reason, words, began, until, events) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)";
    END_ELEVATION = "UPDATE elevations SET ended = ?2 WHERE id = ?1 AND ended IS NULL AND until > ?2 AND (?3 = '' OR caller = ?3)";
    ELEVATIONS = format!("SELECT {ELEVATION_COLUMNS} FROM elevations ORDER BY seq DESC LIMIT ?1");
    ELEVATION = format!("SELECT {ELEVATION_COLUMNS}, words FROM elevations WHERE id = ?1");
    COUNT_UNDER_ELEVATION = "UPDATE elevations SET events = events + 1 WHERE id = ?1";
    WORDS_NOT_UNDER = format!(
        "SELECT id, words FROM elevations WHERE id > ?1 AND substr(words, 1, {SEALED_PREFIX_CHARS}) <> ?2 ORDER BY id LIMIT ?3");
    REPLACE_WORDS = "UPDATE elevations SET words = ?3 WHERE id = ?1 AND words = ?2";
    REWRITE_FILE = "VACUUM";
    /// Answers whether somebody was in the way.
    TRUNCATE_LOG = "PRAGMA wal_checkpoint(TRUNCATE)";

    /// Who is in the hospital is found in the index of open encounters alone, and only the page is looked up.
    PATIENTS_OPEN = format!(
        "SELECT {}, prediction FROM {PATIENTS} WHERE eid IN (\n  \
           SELECT eid FROM {PATIENTS} INDEXED BY {PATIENTS}_open WHERE discharged IS NULL AND instr(?1, facid) > 0\n  \
           AND vdate >= ?2 AND vdate <= ?3 AND eid < ?4 ORDER BY eid DESC LIMIT ?5)\n\
         ORDER BY eid DESC", names(encounter_columns()));
    PATIENTS_DISCHARGED = format!(
        "SELECT {}, prediction FROM {PATIENTS} WHERE discharged IS NOT NULL AND instr(?1, facid) > 0\n  \
           AND vdate >= ?2 AND vdate <= ?3 AND eid < ?4\n\
         ORDER BY eid DESC LIMIT ?5", names(encounter_columns()));
    /// From the index of open encounters alone.
    EXPECTED_DISCHARGES = format!(
        "SELECT facid, CASE WHEN predlengthofstay IS NULL THEN -2 WHEN due < 0 THEN -1 WHEN due > ?2 THEN ?2 + 1 ELSE due END AS due,\n  \
           count(*) AS encounters\n\
         FROM (SELECT facid, predlengthofstay, CAST(julianday(vdate) - julianday(?1) AS INTEGER) + predlengthofstay AS due\n  \
           FROM {PATIENTS} INDEXED BY {PATIENTS}_open WHERE discharged IS NULL AND vdate <= ?1)\n\
         GROUP BY 1, 2 ORDER BY 1, 2");
    ACCURACY = format!(
        "SELECT facid, count(*) AS stays, sum(abs(lengthofstay - predictedstaydays)) AS off, sum(lengthofstay - predictedstaydays) AS longer,\n  \
           sum(abs(lengthofstay - predictedstaydays) <= 1) AS withinday,\n  \
           sum(lengthofstay BETWEEN predictedlow80 AND predictedhigh80) AS inside80,\n  \
           sum(lengthofstay BETWEEN predictedlow90 AND predictedhigh90) AS inside90\n\
         FROM {PATIENTS} WHERE predictedstaydays IS NOT NULL AND discharged >= ?1 AND discharged <= ?2\n\
         GROUP BY facid ORDER BY facid");
    NEWEST_PREDICTIONS = format!(
        "SELECT {}, prediction FROM {PATIENTS} WHERE predictedstaydays IS NOT NULL ORDER BY vdate DESC, eid DESC LIMIT ?1",
        names(nameless_columns()));
    /// One pass over the table, counted as the rows go by: see `STAYS`. The conditions come last, in the order of the clinical table.
    ROW_SURVEY = format!(
        "SELECT eid, substr(vdate, 1, 4), facid, gender, {} FROM {PATIENTS} ORDER BY eid",
        join(Feature::conditions().map(|feature| feature.spec().name)));
    ENCOUNTERS_BETWEEN = format!(
        "SELECT {} FROM {PATIENTS} WHERE eid >= ?1 AND eid <= ?2 ORDER BY eid LIMIT ?3", names(nameless_columns()));
}

/// An empty text stands for any caller, action or outcome.
fn audit_page(hint: &str, which: &str) -> String {
    format!(
        "SELECT seq, {AUDIT_COLUMNS} FROM audit WHERE {hint}seq < ?1 AND (?2 = '' OR caller = ?2) AND (?3 = '' OR action = ?3) \
         AND (?4 = '' OR outcome = ?4) AND at >= ?5 AND at < ?6{which} ORDER BY seq DESC LIMIT ?7"
    )
}

/// Columns are bound in the order of [`encounter_columns`], then the import's id.
fn upsert() -> String {
    let columns = encounter_columns();
    let import = IMPORT_ID.0;
    let others = || columns.iter().map(|c| c.name).filter(|name| *name != "eid");
    let set = join(others().map(|name| format!("{name} = {}", incoming(name))).chain([format!("{import} = excluded.{import}")]));
    let another = format!(
        "{PATIENTS}.{import} IS NULL AND ({PATIENTS}.vdate <> excluded.vdate OR {PATIENTS}.facid <> excluded.facid \
         OR {PATIENTS}.gender <> excluded.gender)"
    );
    let differs: Vec<_> = others().map(|name| format!("{PATIENTS}.{name} IS NOT {}", incoming(name))).collect();
    format!(
        "INSERT INTO {PATIENTS} ({}, {import}) VALUES ({})\nON CONFLICT (eid) DO UPDATE SET {set}\nWHERE ({}) AND NOT ({another})",
        names(columns),
        places(columns.len() + 1),
        differs.join(" OR ")
    )
}

/// What an import makes of a column of a row that is there. The columns that a file may leave out erase nothing when they are empty: a
/// file without names must not take the patients' names, nor one without discharges reopen their stays (unless it is another stay).
fn incoming(name: &str) -> String {
    match name {
        "FirstName" | "MiddleName" | "LastName" => format!("coalesce(excluded.{name}, {PATIENTS}.{name})"),
        "discharged" | "lengthofstay" => {
            format!(
                "CASE WHEN excluded.discharged IS NULL AND excluded.vdate = {PATIENTS}.vdate THEN {PATIENTS}.{name} ELSE excluded.{name} END"
            )
        }
        _ => format!("excluded.{name}"),
    }
}

fn names(columns: &[EncounterColumn]) -> String {
    join(columns.iter().map(|column| column.name))
}

fn places(count: usize) -> String {
    join((1..=count).map(|place| format!("?{place}")))
}

fn join(parts: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(part.as_ref());
    }
    text
}
