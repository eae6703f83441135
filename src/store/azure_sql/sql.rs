//! Every statement of the record in T-SQL, made once when a store is opened, from the schema's name and the columns alone: afterwards
//! nothing here is ever formatted, and no statement holds a value. `tests/golden/azure_sql.sql` shows them all.
//!
//! An optional text is given as `''` and an optional day as ISO text, and the statement makes them NULL: the driver's own NULL of those
//! types is refused by some servers. Text is compared byte for byte (`Latin1_General_BIN2`) wherever case or a collation of `tempdb`
//! could matter, and with a character after it (`CONCAT`) wherever trailing blanks could.

use super::{ddl, reads};
use crate::schema::Feature;
use crate::store::columns::{
    EncounterColumn, FACILITIES, IMPORT_ID, PATIENTS, PREDICTION_COLUMNS, SEALED_PREFIX_CHARS, Type, encounter_columns,
    name_columns, nameless_columns,
};
use crate::store::datakeys::PLAIN;

macro_rules! statements {
    ($schema:ident: $($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        /// The statements.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: String,)*
        }

        impl Statements {
            /// The statements for the tables of `schema`, a plain identifier.
            pub(super) fn new($schema: &str) -> Self {
                Self { $($name: String::from($text),)* }
            }

            /// Every statement by name, for the golden file.
            pub(super) fn all(&self) -> Vec<(&'static str, &str)> {
                vec![$((stringify!($name), self.$name.as_str()),)*]
            }
        }
    };
}

/// Every statement by name, as a store on `schema` runs it; then the schema itself, as a script. For the golden file.
pub fn statements(schema: &str) -> Vec<(&'static str, String)> {
    let statements = Statements::new(schema);
    let mut all: Vec<_> = statements.all().into_iter().map(|(name, text)| (name, text.to_owned())).collect();
    all.push(("script", super::migrations::script(schema)));
    all
}

/// The temporary table of an import's rows.
pub(super) const STAGING: &str = "#staging";
/// The temporary table of an import's rejects.
pub(super) const REJECTS: &str = "#rejects";
/// The temporary table of predictions on their way.
pub(super) const PREDICTIONS: &str = "#predictions";

/// The temporary table of names that are encrypted anew.
pub(super) const NAMES: &str = "#names";

/// The temporary table of audit events on their way.
pub(super) const EVENTS: &str = "#events";

pub(super) const EXACT: &str = "COLLATE Latin1_General_BIN2";

const IMPORT_COLUMNS: &str = "id, account, container, name, etag, [state], attempt, [checkpoint], rowsread, stored, updated, unchanged, \
     rejected, failure, extracolumns, sha256, firstline, lastline, started, finished";

const PART_COLUMNS: &str = "part, headerfrom, headerto, frombyte, tobyte, firstline, datarows, attempt, [checkpoint]";

const MODEL_COLUMNS: &str = "[version], trained, trainingrows, schemafingerprint, metrics, promoted, reason";

/// Is the time of the event `e` over, by what the record `r` says? In days, leap days among them: not every server knows how to go back by years.
const OVER: &str = "DATEDIFF(day, e.[at], SYSDATETIMEOFFSET()) > r.retentionyears * 365 + r.retentionyears / 4 + 1";

pub(super) const AUDIT_COLUMNS: &str = "[at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail";

const FINDING_COLUMNS: &str = "ordinal, facid, [condition], direction, firstweek, lastweek, stays, meandays, expecteddays, \
     averagedays, limitdays";

const ELEVATION_COLUMNS: &str = "id, caller, roles, reason, began, until, ended, events";

statements! { s:
    /// NULL on Microsoft's servers; another server that speaks T-SQL names itself here.
    open_server = "SELECT CAST(SERVERPROPERTY('babelfishversion') AS nvarchar(50)) AS version";
    schema_exists = format!("SELECT CAST(SCHEMA_ID(N'{s}') AS int) AS id");
    create_schema = format!("CREATE SCHEMA {s}");
    create_ledger = ddl::schema_migrations(s);
    has_migrations = format!("SELECT CAST(OBJECT_ID(N'{s}.schema_migrations') AS int) AS id");
    migrations = format!("SELECT number, name, checksum FROM {s}.schema_migrations ORDER BY number");
    record_migration = format!("INSERT INTO {s}.schema_migrations (number, name, checksum, applied) \
        VALUES (@P1, @P2, @P3, SYSDATETIMEOFFSET())");
    /// One instance migrates; it waits a minute for another to end. A negative result: it did not get the lock.
    lock_migrations = lock(&format!("hdai-migrations-{s}"), "60000");

    all_facilities = format!("SELECT Id, Name, Capacity FROM {s}.{FACILITIES} ORDER BY Id");
    update_facility = format!("UPDATE {s}.{FACILITIES} SET Name = @P2, Capacity = @P3\n\
        WHERE Id = @P1 AND (CONCAT(Name, N'.') {EXACT} <> CONCAT(@P2, N'.') {EXACT} OR Capacity <> @P3)");
    insert_facility = format!("INSERT INTO {s}.{FACILITIES} (Id, Name, Capacity)\n\
        SELECT @P1, @P2, @P3 WHERE NOT EXISTS (SELECT 1 FROM {s}.{FACILITIES} WHERE Id = @P1)");

    insert_admission = insert_admission(s);
    /// The day of admission and the facility are what the decision was made on.
    discharge = format!("UPDATE {s}.{PATIENTS} SET discharged = @P2, lengthofstay = DATEDIFF(day, vdate, @P2)\n\
        WHERE eid = @P1 AND discharged IS NULL AND vdate = @P3 AND facid = @P4");
    encounter = format!("SELECT {}, prediction FROM {s}.{PATIENTS} WHERE eid = @P1", names(encounter_columns()));
    encounters = page(s, encounter_columns(), "");
    discharged_encounters = page(s, nameless_columns(), " AND discharged IS NOT NULL");
    unpredicted_encounters = page(s, nameless_columns(), " AND discharged IS NULL AND prediction IS NULL");
    totals = format!("SELECT CAST(COUNT_BIG(*) AS bigint) AS encounters, CAST(COUNT_BIG(discharged) AS bigint) AS discharged, \
        CAST(COUNT_BIG({}) AS bigint) AS imported FROM {s}.{PATIENTS}", IMPORT_ID.0);
    /// Those in the hospital are counted in the index of open encounters alone, those who left today in one pass over the table.
    census = format!("SELECT f.Id AS Id, f.Name AS Name, f.Capacity AS Capacity, CAST(COALESCE(o.occupied, 0) AS bigint) AS occupied,\n  \
          CAST(COALESCE(o.leaving, 0) AS bigint) AS leaving, CAST(COALESCE(d.leavers, 0) AS bigint) AS leavers\n\
        FROM {s}.{FACILITIES} AS f\n\
        LEFT JOIN (SELECT facid, COUNT_BIG(*) AS occupied,\n    \
            SUM(CASE WHEN DATEDIFF(day, vdate, @P2) >= predlengthofstay THEN 1 ELSE 0 END) AS leaving\n  \
          FROM {s}.{PATIENTS} WHERE discharged IS NULL AND vdate <= @P1 GROUP BY facid) AS o ON o.facid = f.Id\n\
        LEFT JOIN (SELECT facid, COUNT_BIG(*) AS leavers FROM {s}.{PATIENTS} WHERE discharged = @P1 GROUP BY facid) AS d\n  \
          ON d.facid = f.Id\n\
        ORDER BY f.Id");

    create_predictions = create_temporary(PREDICTIONS, std::iter::once("eid int NOT NULL PRIMARY KEY".to_owned())
        .chain(PREDICTION_COLUMNS.iter().map(|(name, kind, _)| format!("{name} {}", ddl::type_name(*kind)))));
    save_predictions = format!("UPDATE p SET {}\nFROM {s}.{PATIENTS} AS p JOIN {PREDICTIONS} AS s ON s.eid = p.eid\n\
        WHERE p.prediction IS NULL", join(PREDICTION_COLUMNS.iter().map(|(name, ..)| format!("{name} = s.{name}"))));

    /// Weeks are counted from 0001-01-01, which was a Monday.
    admission_weeks = format!("SELECT CAST(x.weeknumber AS bigint) AS weeknumber, CAST(COUNT_BIG(*) AS bigint) AS admissions\n\
        FROM (SELECT {} AS weeknumber FROM {s}.{PATIENTS} WHERE vdate <= @P1) AS x\nGROUP BY x.weeknumber ORDER BY x.weeknumber", week("vdate"));
    /// The conditions come last, three sums each, in the order of the clinical table.
    stay_weeks = stay_weeks(s);
    delete_findings = format!("DELETE FROM {s}.findings");
    delete_survey = format!("DELETE FROM {s}.survey");
    insert_survey = format!("INSERT INTO {s}.survey (one, found, firstweek, lastweek, charted, uncharted)\n\
        VALUES (1, @P1, CAST(NULLIF(@P2, N'') AS date), CAST(NULLIF(@P3, N'') AS date), @P4, @P5)");
    insert_finding = format!("INSERT INTO {s}.findings ({FINDING_COLUMNS})\n\
        VALUES (@P1, @P2, NULLIF(@P3, N''), @P4, @P5, @P6, @P7, @P8, @P9, @P10, @P11)");
    survey = format!("SELECT found, firstweek, lastweek, charted, uncharted FROM {s}.survey");
    findings = format!("SELECT {FINDING_COLUMNS} FROM {s}.findings ORDER BY ordinal OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY");

    import = format!("SELECT {IMPORT_COLUMNS} FROM {s}.imports WHERE id = @P1");
    imports = format!("SELECT {IMPORT_COLUMNS} FROM {s}.imports ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY");
    begin_import = format!("INSERT INTO {s}.imports (id, filekey, account, container, name, etag, [state], attempt, [checkpoint], rowsread, \
        stored, updated, unchanged, rejected, rejectskept, failure, extracolumns, sha256, started, operation)\n\
        VALUES (@P1, @P2, @P3, @P4, @P5, @P6, N'running', 1, 0, 0, 0, 0, 0, 0, 0, N'', N'', N'', @P7, N'')");
    take_over_import = format!("UPDATE {s}.imports SET attempt = attempt + 1, [state] = N'running', failure = N'', finished = NULL\n\
        WHERE id = @P1 AND [state] <> N'done'");
    close_replaced_imports = format!("UPDATE {s}.imports SET [state] = N'failed', \
        failure = N'the file was replaced by a newer version', finished = @P3\n\
        WHERE filekey = @P2 AND id <> @P1 AND [state] = N'running'");
    finish_import = format!("UPDATE {s}.imports SET [state] = @P3, sha256 = @P4, extracolumns = @P5, failure = @P6, finished = @P7, \
        firstline = @P8, lastline = @P9\n\
        WHERE id = @P1 AND [state] = N'running' AND attempt = @P2");

    create_staging = create_staging();
    /// The set-based part of files that overlap, one after the other. Its parameter is the longest wait in milliseconds.
    lock_imports = lock(&format!("hdai-import-{s}"), "@P1");
    /// Changes nothing and locks the ledger's row: a take-over waits until the batch is committed or gone.
    fence = format!("UPDATE {s}.imports SET [checkpoint] = [checkpoint]\n\
        WHERE id = @P1 AND [state] = N'running' AND attempt = @P2 AND [checkpoint] = @P3");
    rejects_kept = format!("SELECT rejectskept FROM {s}.imports WHERE id = @P1");
    import_new = import_new(s);
    /// The prediction of an admission stays; a row that says nothing new is not written at all.
    import_changed = import_changed(s);
    /// Rows whose id belongs to another encounter, one that was admitted: an import never writes over a patient on a ward.
    import_refused = format!("SELECT s.ordinal, s.line FROM {STAGING} AS s JOIN {s}.{PATIENTS} AS p ON p.eid = s.eid\n\
        WHERE s.turn = @P1 AND {} ORDER BY s.ordinal", another());
    create_rejects = create_temporary(REJECTS, ["place int NOT NULL PRIMARY KEY", "line bigint NOT NULL", "ordinal int NOT NULL",
        "columnname nvarchar(max) NOT NULL", "[rule] nvarchar(max) NOT NULL", "remedy nvarchar(max) NOT NULL"].map(str::to_owned).into_iter());
    keep_rejects = format!("INSERT INTO {s}.rejects (importid, line, ordinal, columnname, [rule], remedy)\n\
        SELECT @P1, r.line, r.ordinal, r.columnname, r.[rule], r.remedy FROM {REJECTS} AS r\n\
        WHERE NOT EXISTS (SELECT 1 FROM {s}.rejects AS k WHERE k.importid = @P1 AND k.line = r.line AND k.ordinal = r.ordinal)\n\
        ORDER BY r.place OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY");
    /// The checkpoint of a file in parts stays at its beginning: each part has its own.
    advance_import = format!("UPDATE {s}.imports SET [checkpoint] = [checkpoint] + @P9, rowsread = rowsread + @P2, stored = stored + @P3, \
        updated = updated + @P4, unchanged = unchanged + @P5, rejected = rejected + @P6, rejectskept = rejectskept + @P7, \
        operation = @P8 WHERE id = @P1");
    /// What is known of patients stays in no temporary table.
    drop_temporary = [STAGING, REJECTS, PREDICTIONS, NAMES, EVENTS].map(drop_temporary).join(";\n");
    rejects = format!("SELECT line, columnname, [rule], remedy FROM {s}.rejects WHERE importid = @P1\n\
        ORDER BY line, ordinal OFFSET @P2 ROWS FETCH NEXT @P3 ROWS ONLY");

    plan_import = format!("UPDATE {s}.imports SET sha256 = @P2, extracolumns = @P3, firstline = @P4, lastline = @P5 WHERE id = @P1");
    insert_part = format!("INSERT INTO {s}.importparts (importid, {PART_COLUMNS}, done, operation)\n\
        VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, @P8, 0, 0, 0, N'')");
    parts_left = format!("SELECT part FROM {s}.importparts WHERE importid = @P1 AND done = 0 ORDER BY part");
    part = format!("SELECT {PART_COLUMNS} FROM {s}.importparts WHERE importid = @P1 AND part = @P2");
    /// Whoever writes a part locks the import's row first: so they wait for each other and never for each other's parts.
    lock_import = format!("UPDATE {s}.imports SET [checkpoint] = [checkpoint] WHERE id = @P1 AND [state] = N'running'");
    take_part = format!("UPDATE {s}.importparts SET attempt = attempt + 1 WHERE importid = @P1 AND part = @P2 AND done = 0");
    fence_part = format!("UPDATE {s}.importparts SET [checkpoint] = [checkpoint]\n\
        WHERE importid = @P1 AND part = @P2 AND attempt = @P3 AND [checkpoint] = @P4 AND done = 0");
    advance_part = format!("UPDATE {s}.importparts SET [checkpoint] = [checkpoint] + @P3, operation = @P4\n\
        WHERE importid = @P1 AND part = @P2");
    finish_part = format!("UPDATE {s}.importparts SET done = 1\n\
        WHERE importid = @P1 AND part = @P2 AND attempt = @P3 AND done = 0 AND [checkpoint] = datarows");
    /// Changes nothing; tells whether the attempt is still the newest.
    fail_part = format!("UPDATE {s}.importparts SET done = 0 WHERE importid = @P1 AND part = @P2 AND attempt = @P3 AND done = 0");
    close_import = format!("UPDATE {s}.imports SET [state] = @P2, failure = @P3, finished = @P4 WHERE id = @P1 AND [state] = N'running'");
    /// Was the batch of this operation committed? The table has a row a part of a large file, so no index is needed.
    part_witness = format!("SELECT CAST(1 AS int) AS committed FROM {s}.importparts WHERE operation = @P1");

    /// Was the batch of this operation committed?
    import_witness = format!("SELECT CAST(1 AS int) AS committed FROM {s}.imports WHERE operation = @P1");

    insert_model = format!("INSERT INTO {s}.models ({MODEL_COLUMNS}, bytes)\nVALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, @P8)");
    model_exists = format!("SELECT CAST(1 AS int) AS taken FROM {s}.models WHERE [version] = @P1");
    champion_version = format!("SELECT [version] FROM {s}.models WHERE promoted = 1 ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY");
    champion = format!("SELECT {MODEL_COLUMNS}, bytes FROM {s}.models WHERE promoted = 1\n\
        ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY");
    models = format!("SELECT {MODEL_COLUMNS} FROM {s}.models ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY");

    /// Locks the chain until the transaction ends. A transaction that does more afterwards touches only what it has locked before.
    advance_chain = format!("UPDATE {s}.audithead SET place = place + 1 OUTPUT INSERTED.place, INSERTED.hash WHERE chain = @P1");
    chain_hash = format!("UPDATE {s}.audithead SET hash = @P2 WHERE chain = @P1");
    audit_heads = format!("SELECT chain, place, hash FROM {s}.audithead ORDER BY chain");
    insert_audit = format!("INSERT INTO {s}.audit ({AUDIT_COLUMNS}, operation, chain, place, hash)\n\
        VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, @P8, @P9, @P10, @P11, @P12, @P13, @P14)");
    audit_page = audit_page(s, "");
    /// By the index of encounters.
    audit_about = audit_page(s, " AND encounter = @P8");
    /// By the index of callers, which knows no case; which caller it is exactly is looked at in the rows.
    audit_by_caller = audit_page(s, " AND caller = @P8");
    /// By the index of actions.
    audit_by_action = audit_page(s, " AND [action] = @P8");
    audit_chain = format!("SELECT seq, place, hash, {AUDIT_COLUMNS} FROM {s}.audit\n\
        WHERE chain = @P1 AND place >= @P2 AND (place > @P2 OR seq > @P3)\n\
        ORDER BY place, seq OFFSET 0 ROWS FETCH NEXT @P4 ROWS ONLY");
    audit_unchained = format!("SELECT CAST(COUNT_BIG(CASE WHEN a.place IS NULL AND a.seq < f.firstseq THEN 1 END) AS bigint) AS unchained,\n  \
          CAST(COUNT_BIG(CASE WHEN a.place IS NOT NULL OR a.seq > f.firstseq THEN 1 END) AS bigint) AS since,\n  \
          CAST(MIN(CASE WHEN a.place IS NOT NULL OR a.seq > f.firstseq THEN a.seq END) AS bigint) AS firstsince\n\
        FROM {s}.audit AS a CROSS JOIN (SELECT COALESCE(MIN(seq), CAST(9223372036854775807 AS bigint)) AS firstseq FROM {s}.audit\n  \
          WHERE place >= 1) AS f\n\
        WHERE a.place IS NULL OR a.place < 1 OR NOT EXISTS (SELECT 1 FROM {s}.audithead AS h WHERE h.chain = a.chain)");

    audit_record = format!("SELECT id, retentionyears, newest, newestname, newesttext FROM {s}.auditrecord");
    audit_anchors = format!("SELECT chain, place, hash, checkpointname FROM {s}.auditanchors ORDER BY chain, place, seq");
    save_checkpoint = format!("UPDATE {s}.auditrecord SET newest = @P2, newestname = @P3, newesttext = @P4\n\
        WHERE newest = @P1 AND id {EXACT} = @P5 {EXACT}");
    renew_record = format!("UPDATE {s}.auditrecord SET id = @P2, newest = 0, newestname = N'', newesttext = N''\n\
        WHERE id {EXACT} = @P1 {EXACT}");
    raise_retention = format!("UPDATE {s}.auditrecord SET retentionyears = @P1 WHERE retentionyears < @P1");
    is_anchored = format!("SELECT CAST(1 AS int) AS anchored FROM {s}.auditanchors WHERE chain = @P1 AND place >= @P2");
    /// Only on an event whose time is over, by the server's clock.
    insert_anchor = format!("INSERT INTO {s}.auditanchors (chain, place, hash, checkpointname)\n\
        SELECT e.chain, e.place, e.hash, @P4 FROM {s}.audit AS e CROSS JOIN {s}.auditrecord AS r\n\
        WHERE e.chain = @P1 AND e.place = @P2 AND e.hash = @P3 AND {OVER}");
    events_kept = format!("SELECT CAST(COUNT_BIG(*) AS bigint) AS kept FROM {s}.audit AS e CROSS JOIN {s}.auditrecord AS r\n\
        WHERE e.chain = @P1 AND e.place >= 1 AND e.place <= @P2 AND NOT ({OVER})");
    purge_audit = format!("DELETE FROM {s}.audit WHERE chain = @P1 AND place > @P2 AND place <= @P3");

    insert_announcement = format!("INSERT INTO {s}.outbox (id, fact, subject, [at], lease) VALUES (@P1, @P2, @P3, @P4, N'')");
    announcement_waits = format!("SELECT CAST(1 AS int) AS waits FROM {s}.outbox ORDER BY seq OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY");
    /// Whose lease it is already takes it again: the answer to the commit may have been lost.
    take_outbox_lease = format!("UPDATE {s}.outbox_lease SET lease = @P1, until = @P3 WHERE until <= @P2 OR lease = @P1");
    outbox_lease = format!("SELECT until, failures FROM {s}.outbox_lease");
    lease_announcements = format!("UPDATE {s}.outbox SET lease = @P1\n\
        WHERE seq IN (SELECT seq FROM {s}.outbox ORDER BY seq OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY)");
    leased_announcements = format!("SELECT id, fact, subject, [at] FROM {s}.outbox WHERE lease = @P1 ORDER BY seq");
    published_announcements = format!("DELETE FROM {s}.outbox WHERE lease = @P1");
    /// Those that were never on their way are not given up.
    aged_announcements = format!("DELETE FROM {s}.outbox WHERE [at] < @P1 AND lease <> N''");
    end_outbox_lease = format!("UPDATE {s}.outbox_lease SET until = @P2, failures = @P3 WHERE lease = @P1");

    data_keys = format!("SELECT id, wrapped, wrappedby, [state], created FROM {s}.datakeys ORDER BY created, id");
    current_data_key = format!("SELECT id FROM {s}.datakeys WHERE [state] = N'current'");
    age_data_key = format!("UPDATE {s}.datakeys SET [state] = N'old' WHERE id = @P1 AND [state] = N'current'");
    insert_data_key = format!("INSERT INTO {s}.datakeys (id, wrapped, wrappedby, [state], created) VALUES (@P1, @P2, @P3, @P4, @P5)");
    /// Names that a program without encryption has left.
    note_plain_names = format!("INSERT INTO {s}.datakeys (id, wrapped, wrappedby, [state], created)\n\
        SELECT N'{PLAIN}', @P1, N'', N'old', @P2 WHERE EXISTS (SELECT 1 FROM {s}.{PATIENTS})");
    retire_data_key = format!("UPDATE {s}.datakeys SET [state] = N'retired' WHERE id = @P1 AND [state] = N'old'");
    rewrap_data_key = format!("UPDATE {s}.datakeys SET wrapped = @P2, wrappedby = @P3 WHERE id = @P1 AND wrappedby {EXACT} = @P4 {EXACT}");
    names_not_under = names_not_under(s);
    create_names = create_temporary(NAMES, std::iter::once("eid int NOT NULL PRIMARY KEY".to_owned()).chain(
        ["was", "now"].into_iter().flat_map(|when| name_columns().map(move |c| format!("{when}{} {}", c.name, ddl::type_name(c.kind))))));
    replace_names = replace_names(s);

    update_assignment = format!("UPDATE {s}.assignments SET facilities = @P2, assignedby = @P3, [at] = @P4 WHERE caller = @P1");
    insert_assignment = format!("INSERT INTO {s}.assignments (caller, facilities, assignedby, [at]) VALUES (@P1, @P2, @P3, @P4)");
    unassign = format!("DELETE FROM {s}.assignments WHERE caller = @P1");
    assignments = format!("SELECT caller, facilities, assignedby, [at] FROM {s}.assignments WHERE caller {EXACT} > @P1 {EXACT}\n\
        ORDER BY caller {EXACT} OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY");
    assigned = format!("SELECT facilities FROM {s}.assignments WHERE caller = @P1");
    /// One elevation begins at a time.
    lock_elevations = lock(&format!("hdai-elevations-{s}"), "10000");
    newest_elevation = format!("SELECT {ELEVATION_COLUMNS} FROM {s}.elevations WHERE caller = @P1 AND ended IS NULL\n\
        ORDER BY began DESC OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY");
    elevations_since = format!("SELECT CAST(COUNT_BIG(*) AS bigint) AS elevations FROM {s}.elevations WHERE caller = @P1 AND began > @P2");
    insert_elevation = format!("INSERT INTO {s}.elevations (id, caller, roles, reason, words, began, until, events)\n\
        VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, 0)");
    end_elevation = format!("UPDATE {s}.elevations SET ended = @P2\n\
        WHERE id = @P1 AND ended IS NULL AND until > @P2 AND (@P3 = N'' OR caller = @P3)");
    elevations = format!("SELECT {ELEVATION_COLUMNS} FROM {s}.elevations ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY");
    elevation = format!("SELECT {ELEVATION_COLUMNS}, words FROM {s}.elevations WHERE id = @P1");
    count_under_elevation = format!("UPDATE {s}.elevations SET events = events + @P2 WHERE id = @P1");
    words_not_under = format!("SELECT id, words FROM {s}.elevations WHERE id > @P1 AND LEFT(words, {SEALED_PREFIX_CHARS}) {EXACT} <> @P2 {EXACT}\n\
        ORDER BY id OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY");
    replace_words = format!("UPDATE {s}.elevations SET words = @P3 WHERE id = @P1 AND words {EXACT} = @P2 {EXACT}");

    /// Was the event of this operation committed? It is among the newest, so no index is needed.
    audit_witness = format!("SELECT CAST(1 AS int) AS committed FROM {s}.audit\n\
        WHERE seq > COALESCE((SELECT MAX(seq) FROM {s}.audit), 0) - 100000 AND operation = @P1");

    /// As `advance_chain`, for several events; answers the place of the last one, and the hash before the first.
    advance_chain_by = format!("UPDATE {s}.audithead SET place = place + @P2 OUTPUT INSERTED.place, INSERTED.hash WHERE chain = @P1");
    create_events = create_temporary(EVENTS, reads::event_columns());
    insert_events = reads::insert_events(s);
    patients_open = reads::patients(s, "discharged IS NULL");
    patients_discharged = reads::patients(s, "discharged IS NOT NULL");
    expected_discharges = reads::expected_discharges(s);
    accuracy = reads::accuracy_sums(s);
    newest_predictions = reads::newest_predictions(s);
    row_survey = reads::row_survey(s);
    row_buckets = reads::row_buckets(s);
    encounters_between = reads::encounters_between(s);
}

/// An empty text stands for any caller, action or outcome.
fn audit_page(s: &str, which: &str) -> String {
    format!(
        "SELECT seq, {AUDIT_COLUMNS} FROM {s}.audit\n\
         WHERE seq < @P1 AND (@P2 = N'' OR CONCAT(caller, N'.') {EXACT} = CONCAT(@P2, N'.') {EXACT}) AND (@P3 = N'' OR [action] = @P3)\n  \
         AND (@P4 = N'' OR outcome = @P4) AND [at] >= @P5 AND [at] <= @P6{which}\n\
         ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P7 ROWS ONLY"
    )
}

fn lock(resource: &str, wait: &str) -> String {
    format!(
        "DECLARE @result int;\nEXEC @result = sp_getapplock @Resource = N'{resource}', @LockMode = N'Exclusive', \
         @LockOwner = N'Transaction', @LockTimeout = {wait};\nSELECT CAST(@result AS int) AS result"
    )
}

/// Parameters are the encounter's values, then the prediction's.
fn insert_admission(s: &str) -> String {
    let columns = encounter_columns().iter().map(|c| (c.name, c.kind, c.nullable));
    let columns: Vec<_> = columns.chain(PREDICTION_COLUMNS.iter().map(|(name, kind, _)| (*name, *kind, true))).collect();
    let values = columns.iter().zip(1..).map(|((_, kind, nullable), place)| match (kind, nullable) {
        // Under some collations whole alphabets weigh nothing and so equal an empty text.
        (Type::Text(_) | Type::LongText, true) => format!("NULLIF(@P{place} {EXACT}, N'')"),
        (Type::Date, true) => format!("CAST(NULLIF(@P{place}, N'') AS date)"),
        _ => format!("@P{place}"),
    });
    format!("INSERT INTO {s}.{PATIENTS} ({})\nVALUES ({})", join(columns.iter().map(|(name, ..)| name)), join(values))
}

fn page(s: &str, columns: &[EncounterColumn], which: &str) -> String {
    format!(
        "SELECT {} FROM {s}.{PATIENTS} WHERE eid > @P1{which}\nORDER BY eid OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY",
        names(columns)
    )
}

/// The form that was seen to work on the open server too.
fn drop_temporary(table: &str) -> String {
    format!("IF OBJECT_ID(N'tempdb..{table}') IS NOT NULL DROP TABLE {table}")
}

fn create_temporary(table: &str, columns: impl Iterator<Item = String>) -> String {
    format!("{};\nCREATE TABLE {table} ({})", drop_temporary(table), join(columns))
}

/// `turn` tells how often the row's id came before it in the batch: a row that comes twice is stored and then updated, in that order.
fn create_staging() -> String {
    let own = ["turn int NOT NULL", "line bigint NOT NULL", "ordinal int NOT NULL"].map(str::to_owned);
    let column =
        |c: &EncounterColumn| format!("{} {}{}", c.name, ddl::type_name(c.kind), if c.nullable { "" } else { " NOT NULL" });
    let columns = own.into_iter().chain(encounter_columns().iter().map(column)).chain(["PRIMARY KEY (turn, eid)".to_owned()]);
    create_temporary(STAGING, columns)
}

fn import_new(s: &str) -> String {
    let (columns, import) = (encounter_columns(), IMPORT_ID.0);
    format!(
        "INSERT INTO {s}.{PATIENTS} ({}, {import})\nSELECT {}, @P2 FROM {STAGING} AS s\n\
         WHERE s.turn = @P1 AND NOT EXISTS (SELECT 1 FROM {s}.{PATIENTS} AS p WHERE p.eid = s.eid)",
        names(columns),
        join(columns.iter().map(|c| format!("s.{}", c.name)))
    )
}

fn import_changed(s: &str) -> String {
    let others: Vec<_> = encounter_columns().iter().filter(|c| c.name != "eid").collect();
    let set = others.iter().map(|c| format!("{} = {}", c.name, incoming(c)));
    let set = join(set.chain([format!("{} = @P2", IMPORT_ID.0)]));
    let now = join(others.iter().map(|c| comparable(c, &incoming(c))));
    let before = join(others.iter().map(|c| comparable(c, &format!("p.{}", c.name))));
    format!(
        "UPDATE p SET {set}\nFROM {s}.{PATIENTS} AS p JOIN {STAGING} AS s ON s.eid = p.eid\n\
         WHERE s.turn = @P1 AND NOT ({})\n  AND EXISTS (SELECT {now} EXCEPT SELECT {before} )",
        another()
    )
}

/// Does the row `p` hold another encounter than `s` under its id, one that was admitted?
fn another() -> String {
    format!(
        "(p.{} IS NULL AND (p.vdate <> s.vdate OR p.facid {EXACT} <> s.facid {EXACT} OR p.gender {EXACT} <> s.gender {EXACT}))",
        IMPORT_ID.0
    )
}

/// What an import makes of a column of a row that is there. The columns that a file may leave out erase nothing when they are empty: a
/// file without names must not take the patients' names, nor one without discharges reopen their stays (unless it is another stay).
fn incoming(column: &EncounterColumn) -> String {
    let name = column.name;
    match name {
        "FirstName" | "MiddleName" | "LastName" => format!("COALESCE(s.{name} {EXACT}, p.{name} {EXACT})"),
        "discharged" | "lengthofstay" => {
            format!("CASE WHEN s.discharged IS NULL AND s.vdate = p.vdate THEN p.{name} ELSE s.{name} END")
        }
        _ => format!("s.{name}"),
    }
}

/// `value` so that any difference counts: case, and blanks at the end. No text of ours is empty, so NULL may become empty.
fn comparable(column: &EncounterColumn, value: &str) -> String {
    match column.kind {
        Type::Text(_) | Type::LongText => format!("CONCAT({value}, N'.') {EXACT}"),
        Type::Integer | Type::Real | Type::Date => value.to_owned(),
    }
}

fn names_not_under(s: &str) -> String {
    let others: Vec<_> =
        name_columns().map(|c| format!("LEFT({}, {SEALED_PREFIX_CHARS}) {EXACT} <> @P2 {EXACT}", c.name)).collect();
    format!(
        "SELECT eid, {} FROM {s}.{PATIENTS} WHERE eid > @P1 AND ({})\nORDER BY eid OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY",
        join(name_columns().map(|c| c.name)),
        others.join(" OR ")
    )
}

fn replace_names(s: &str) -> String {
    let set = name_columns().map(|c| format!("{0} = s.now{0}", c.name));
    let same = |c: &EncounterColumn| {
        format!("{} = {}", comparable(c, &format!("p.{}", c.name)), comparable(c, &format!("s.was{}", c.name)))
    };
    let there: Vec<_> = name_columns().map(same).collect();
    format!(
        "UPDATE p SET {}\nFROM {s}.{PATIENTS} AS p JOIN {NAMES} AS s ON s.eid = p.eid\nWHERE {}",
        join(set),
        there.join(" AND ")
    )
}

fn week(day: &str) -> String {
    format!("DATEDIFF(day, CAST('0001-01-01' AS date), {day}) / 7")
}

fn stay_weeks(s: &str) -> String {
    let names: Vec<_> = Feature::conditions().map(|feature| feature.spec().name).collect();
    let sums = names.iter().zip(1..).map(|(name, place)| {
        let sum = |value: &str| format!("CAST(SUM(CASE WHEN x.{name} = 1 THEN {value} ELSE 0 END) AS bigint)");
        format!("\n  {} AS stays{place}, {} AS days{place}, {} AS squares{place}", sum("1"), sum("x.days"), sum("x.days * x.days"))
    });
    format!(
        "SELECT x.facid, CAST(x.weeknumber AS bigint) AS weeknumber, CAST(COUNT_BIG(*) AS bigint) AS stays, CAST(SUM(x.days) AS bigint) AS days,\n  \
         CAST(SUM(x.days * x.days) AS bigint) AS squares,{}\n\
         FROM (SELECT facid, {} AS weeknumber, CAST(lengthofstay AS bigint) AS days, {}\n  \
         FROM {s}.{PATIENTS} WHERE vdate <= @P1 AND discharged <= @P1 AND lengthofstay IS NOT NULL) AS x\n\
         WHERE x.weeknumber >= @P2\nGROUP BY x.facid, x.weeknumber",
        join(sums),
        week("discharged"),
        join(names.iter())
    )
}

pub(super) fn names(columns: &[EncounterColumn]) -> String {
    join(columns.iter().map(|column| column.name))
}

pub(super) fn join(parts: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(part.as_ref());
    }
    text
}
