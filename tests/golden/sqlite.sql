-- IDENTITY
SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)

-- WRITE_AHEAD_LOG
PRAGMA journal_mode = WAL

-- ON_WRITERS
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

-- ON_READERS
PRAGMA query_only = ON;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 0;
PRAGMA cache_size = -8192;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;

-- HAS_MIGRATIONS
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'

-- MIGRATIONS
SELECT number, name, checksum FROM schema_migrations ORDER BY number

-- RECORD_MIGRATION
INSERT INTO schema_migrations (number, name, checksum, applied) VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))

-- ALL_FACILITIES
SELECT Id, Name, Capacity FROM MetaData_Facilities ORDER BY Id

-- SAVE_FACILITY
INSERT INTO MetaData_Facilities (Id, Name, Capacity) VALUES (?1, ?2, ?3)
ON CONFLICT (Id) DO UPDATE SET Name = excluded.Name, Capacity = excluded.Capacity
WHERE Name IS NOT excluded.Name OR Capacity IS NOT excluded.Capacity

-- UPSERT_ENCOUNTER
INSERT INTO PatientData (FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, importid) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32)
ON CONFLICT (eid) DO UPDATE SET FirstName = coalesce(excluded.FirstName, PatientData.FirstName), MiddleName = coalesce(excluded.MiddleName, PatientData.MiddleName), LastName = coalesce(excluded.LastName, PatientData.LastName), vdate = excluded.vdate, rcount = excluded.rcount, gender = excluded.gender, dialysisrenalendstage = excluded.dialysisrenalendstage, asthma = excluded.asthma, irondef = excluded.irondef, pneum = excluded.pneum, substancedependence = excluded.substancedependence, psychologicaldisordermajor = excluded.psychologicaldisordermajor, depress = excluded.depress, psychother = excluded.psychother, fibrosisandother = excluded.fibrosisandother, malnutrition = excluded.malnutrition, hemo = excluded.hemo, hematocrit = excluded.hematocrit, neutrophils = excluded.neutrophils, sodium = excluded.sodium, glucose = excluded.glucose, bloodureanitro = excluded.bloodureanitro, creatinine = excluded.creatinine, bmi = excluded.bmi, pulse = excluded.pulse, respiration = excluded.respiration, secondarydiagnosisnonicd9 = excluded.secondarydiagnosisnonicd9, discharged = CASE WHEN excluded.discharged IS NULL AND excluded.vdate = PatientData.vdate THEN PatientData.discharged ELSE excluded.discharged END, facid = excluded.facid, lengthofstay = CASE WHEN excluded.discharged IS NULL AND excluded.vdate = PatientData.vdate THEN PatientData.lengthofstay ELSE excluded.lengthofstay END, importid = excluded.importid
WHERE (PatientData.FirstName IS NOT coalesce(excluded.FirstName, PatientData.FirstName) OR PatientData.MiddleName IS NOT coalesce(excluded.MiddleName, PatientData.MiddleName) OR PatientData.LastName IS NOT coalesce(excluded.LastName, PatientData.LastName) OR PatientData.vdate IS NOT excluded.vdate OR PatientData.rcount IS NOT excluded.rcount OR PatientData.gender IS NOT excluded.gender OR PatientData.dialysisrenalendstage IS NOT excluded.dialysisrenalendstage OR PatientData.asthma IS NOT excluded.asthma OR PatientData.irondef IS NOT excluded.irondef OR PatientData.pneum IS NOT excluded.pneum OR PatientData.substancedependence IS NOT excluded.substancedependence OR PatientData.psychologicaldisordermajor IS NOT excluded.psychologicaldisordermajor OR PatientData.depress IS NOT excluded.depress OR PatientData.psychother IS NOT excluded.psychother OR PatientData.fibrosisandother IS NOT excluded.fibrosisandother OR PatientData.malnutrition IS NOT excluded.malnutrition OR PatientData.hemo IS NOT excluded.hemo OR PatientData.hematocrit IS NOT excluded.hematocrit OR PatientData.neutrophils IS NOT excluded.neutrophils OR PatientData.sodium IS NOT excluded.sodium OR PatientData.glucose IS NOT excluded.glucose OR PatientData.bloodureanitro IS NOT excluded.bloodureanitro OR PatientData.creatinine IS NOT excluded.creatinine OR PatientData.bmi IS NOT excluded.bmi OR PatientData.pulse IS NOT excluded.pulse OR PatientData.respiration IS NOT excluded.respiration OR PatientData.secondarydiagnosisnonicd9 IS NOT excluded.secondarydiagnosisnonicd9 OR PatientData.discharged IS NOT CASE WHEN excluded.discharged IS NULL AND excluded.vdate = PatientData.vdate THEN PatientData.discharged ELSE excluded.discharged END OR PatientData.facid IS NOT excluded.facid OR PatientData.lengthofstay IS NOT CASE WHEN excluded.discharged IS NULL AND excluded.vdate = PatientData.vdate THEN PatientData.lengthofstay ELSE excluded.lengthofstay END) AND NOT (PatientData.importid IS NULL AND (PatientData.vdate <> excluded.vdate OR PatientData.facid <> excluded.facid OR PatientData.gender <> excluded.gender))

-- ADMITTED_ANOTHER
SELECT 1 FROM PatientData WHERE eid = ?1 AND importid IS NULL AND (vdate <> ?2 OR facid <> ?3 OR gender <> ?4)

-- ENCOUNTER_EXISTS
SELECT 1 FROM PatientData WHERE eid = ?1

-- INSERT_ADMISSION
INSERT INTO PatientData (FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, predlengthofstay, predictedstaydays, predictedlow80, predictedhigh80, predictedlow90, predictedhigh90, modelversion, prediction) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39)

-- DISCHARGE
UPDATE PatientData SET discharged = ?2, lengthofstay = ?3 WHERE eid = ?1 AND discharged IS NULL AND vdate <= ?2

-- ENCOUNTER
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM PatientData WHERE eid = ?1

-- ENCOUNTERS
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM PatientData WHERE eid > ?1 ORDER BY eid LIMIT ?2

-- DISCHARGED_ENCOUNTERS
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM PatientData WHERE eid > ?1 AND discharged IS NOT NULL ORDER BY eid LIMIT ?2

-- UNPREDICTED_ENCOUNTERS
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM PatientData WHERE eid > ?1 AND discharged IS NULL AND prediction IS NULL ORDER BY eid LIMIT ?2

-- SAVE_PREDICTION
UPDATE PatientData SET predlengthofstay = ?2, predictedstaydays = ?3, predictedlow80 = ?4, predictedhigh80 = ?5, predictedlow90 = ?6, predictedhigh90 = ?7, modelversion = ?8, prediction = ?9 WHERE eid = ?1 AND prediction IS NULL

-- TOTALS
SELECT count(*), count(discharged), count(*) - count(importid) FROM PatientData

-- CENSUS
SELECT f.Id, f.Name, f.Capacity,
  (SELECT count(*) FROM PatientData p WHERE p.discharged IS NULL AND p.facid = f.Id AND p.vdate <= ?1),
  (SELECT count(*) FROM PatientData p WHERE p.discharged IS NULL AND p.facid = f.Id AND p.vdate <= ?1
    AND date(p.vdate, p.predlengthofstay || ' days') <= ?2),
  coalesce(d.leavers, 0)
FROM MetaData_Facilities f
LEFT JOIN (SELECT facid, count(*) AS leavers FROM PatientData WHERE discharged = ?1 GROUP BY facid) d ON d.facid = f.Id
ORDER BY f.Id

-- STAYS
SELECT facid, vdate, discharged, lengthofstay, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo FROM PatientData WHERE vdate <= ?1

-- DELETE_FINDINGS
DELETE FROM findings

-- DELETE_SURVEY
DELETE FROM survey

-- INSERT_SURVEY
INSERT INTO survey (one, found, firstweek, lastweek, charted, uncharted) VALUES (1, ?1, ?2, ?3, ?4, ?5)

-- INSERT_FINDING
INSERT INTO findings (ordinal, facid, condition, direction, firstweek, lastweek, stays, meandays, expecteddays, averagedays, limitdays) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)

-- SURVEY
SELECT found, firstweek, lastweek, charted, uncharted FROM survey

-- FINDINGS
SELECT ordinal, facid, condition, direction, firstweek, lastweek, stays, meandays, expecteddays, averagedays, limitdays FROM findings ORDER BY ordinal LIMIT ?1

-- IMPORT
SELECT id, account, container, name, etag, state, attempt, checkpoint, rowsread, stored, updated, unchanged, rejected, failure, extracolumns, sha256, firstline, lastline, started, finished FROM imports WHERE id = ?1

-- IMPORTS
SELECT id, account, container, name, etag, state, attempt, checkpoint, rowsread, stored, updated, unchanged, rejected, failure, extracolumns, sha256, firstline, lastline, started, finished FROM imports ORDER BY seq DESC LIMIT ?1

-- BEGIN_IMPORT
INSERT INTO imports (id, account, container, name, etag, state, attempt, checkpoint, rowsread, stored, updated, unchanged, rejected, rejectskept, failure, extracolumns, sha256, started) VALUES (?1, ?2, ?3, ?4, ?5, 'running', 1, 0, 0, 0, 0, 0, 0, 0, '', '', '', ?6)

-- TAKE_OVER_IMPORT
UPDATE imports SET attempt = attempt + 1, state = 'running', failure = '', finished = NULL WHERE id = ?1 AND state <> 'done'

-- CLOSE_REPLACED_IMPORTS
UPDATE imports SET state = 'failed', failure = 'the file was replaced by a newer version', finished = ?5 WHERE account = ?1 AND container = ?2 AND name = ?3 AND etag <> ?4 AND state = 'running'

-- FENCE
SELECT state = 'running' AND attempt = ?2, checkpoint, rejectskept FROM imports WHERE id = ?1

-- ADVANCE_IMPORT
UPDATE imports SET checkpoint = checkpoint + ?8, rowsread = rowsread + ?2, stored = stored + ?3, updated = updated + ?4, unchanged = unchanged + ?5, rejected = rejected + ?6, rejectskept = rejectskept + ?7 WHERE id = ?1

-- FINISH_IMPORT
UPDATE imports SET state = ?3, sha256 = ?4, extracolumns = ?5, failure = ?6, finished = ?7, firstline = ?8, lastline = ?9 WHERE id = ?1 AND state = 'running' AND attempt = ?2

-- PLAN_IMPORT
UPDATE imports SET sha256 = ?3, extracolumns = ?4, firstline = ?5, lastline = ?6 WHERE id = ?1 AND state = 'running' AND attempt = ?2 AND checkpoint = 0

-- INSERT_PART
INSERT INTO importparts (importid, part, headerfrom, headerto, frombyte, tobyte, firstline, datarows, attempt, checkpoint, done) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0)

-- PARTS_LEFT
SELECT part FROM importparts WHERE importid = ?1 AND done = 0 ORDER BY part

-- PART
SELECT part, headerfrom, headerto, frombyte, tobyte, firstline, datarows, attempt, checkpoint FROM importparts WHERE importid = ?1 AND part = ?2

-- TAKE_PART
UPDATE importparts SET attempt = attempt + 1 WHERE importid = ?1 AND part = ?2 AND done = 0

-- FENCE_PART
SELECT coalesce(i.state = 'running' AND p.attempt = ?3 AND p.done = 0, 0), coalesce(p.checkpoint, 0), i.rejectskept FROM imports i LEFT JOIN importparts p ON p.importid = i.id AND p.part = ?2 WHERE i.id = ?1

-- ADVANCE_PART
UPDATE importparts SET checkpoint = checkpoint + ?3 WHERE importid = ?1 AND part = ?2

-- FINISH_PART
UPDATE importparts SET done = 1 WHERE importid = ?1 AND part = ?2 AND attempt = ?3 AND done = 0 AND checkpoint = datarows

-- CLOSE_IMPORT
UPDATE imports SET state = ?2, failure = ?3, finished = ?4 WHERE id = ?1 AND state = 'running'

-- INSERT_REJECT
INSERT INTO rejects (importid, line, ordinal, columnname, rule, remedy) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (importid, line, ordinal) DO NOTHING

-- REJECTS
SELECT line, columnname, rule, remedy FROM rejects WHERE importid = ?1 ORDER BY line, ordinal LIMIT ?3 OFFSET ?2

-- INSERT_MODEL
INSERT INTO models (version, trained, trainingrows, schemafingerprint, metrics, promoted, reason, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- MODEL_EXISTS
SELECT 1 FROM models WHERE version = ?1

-- CHAMPION_VERSION
SELECT version FROM models WHERE promoted = 1 ORDER BY seq DESC LIMIT 1

-- CHAMPION
SELECT version, trained, trainingrows, schemafingerprint, metrics, promoted, reason, bytes FROM models WHERE promoted = 1 ORDER BY seq DESC LIMIT 1

-- MODELS
SELECT version, trained, trainingrows, schemafingerprint, metrics, promoted, reason FROM models ORDER BY seq DESC LIMIT ?1

-- ADVANCE_CHAIN
UPDATE audithead SET place = place + 1 WHERE chain = ?1 RETURNING place, hash

-- CHAIN_HASH
UPDATE audithead SET hash = ?2 WHERE chain = ?1

-- AUDIT_HEADS
SELECT chain, place, hash FROM audithead ORDER BY chain

-- INSERT_AUDIT
INSERT INTO audit (at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail, chain, place, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)

-- AUDIT_PAGE
SELECT seq, at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail FROM audit WHERE seq < ?1 AND (?2 = '' OR caller = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR outcome = ?4) AND at >= ?5 AND at < ?6 ORDER BY seq DESC LIMIT ?7

-- AUDIT_ABOUT
SELECT seq, at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail FROM audit WHERE seq < ?1 AND (?2 = '' OR caller = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR outcome = ?4) AND at >= ?5 AND at < ?6 AND encounter = ?8 ORDER BY seq DESC LIMIT ?7

-- AUDIT_BY_CALLER
SELECT seq, at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail FROM audit WHERE seq < ?1 AND (?2 = '' OR caller = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR outcome = ?4) AND at >= ?5 AND at < ?6 AND caller = ?8 ORDER BY seq DESC LIMIT ?7

-- AUDIT_BY_ACTION
SELECT seq, at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail FROM audit WHERE seq < ?1 AND (?2 = '' OR caller = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR outcome = ?4) AND at >= ?5 AND at < ?6 AND action = ?8 ORDER BY seq DESC LIMIT ?7

-- AUDIT_WHEN
SELECT seq, at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail FROM audit WHERE +seq < ?1 AND (?2 = '' OR caller = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR outcome = ?4) AND at >= ?5 AND at < ?6 ORDER BY seq DESC LIMIT ?7

-- AUDIT_CHAIN
SELECT seq, place, hash, at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail FROM audit WHERE chain = ?1 AND place >= ?2 AND (place > ?2 OR seq > ?3) ORDER BY place, seq LIMIT ?4

-- AUDIT_UNCHAINED
SELECT count(*) FILTER (WHERE a.place IS NULL AND a.seq < f.seq) AS before, count(*) FILTER (WHERE a.place IS NOT NULL OR a.seq > f.seq) AS since, min(a.seq) FILTER (WHERE a.place IS NOT NULL OR a.seq > f.seq) AS firstsince FROM audit a, (SELECT coalesce(min(seq), 9223372036854775807) AS seq FROM audit WHERE place >= 1) f WHERE a.place IS NULL OR a.place < 1 OR a.chain NOT IN (SELECT chain FROM audithead)

-- AUDIT_RECORD
SELECT id, retentionyears, newest, newestname, newesttext FROM auditrecord

-- AUDIT_ANCHORS
SELECT chain, place, hash, checkpointname FROM auditanchors ORDER BY chain, place, seq

-- SAVE_CHECKPOINT
UPDATE auditrecord SET newest = ?2, newestname = ?3, newesttext = ?4 WHERE newest = ?1 AND id = ?5

-- RENEW_RECORD
UPDATE auditrecord SET id = ?2, newest = 0, newestname = '', newesttext = '' WHERE id = ?1

-- RAISE_RETENTION
UPDATE auditrecord SET retentionyears = ?1 WHERE retentionyears < ?1

-- IS_ANCHORED
SELECT 1 FROM auditanchors WHERE chain = ?1 AND place >= ?2

-- INSERT_ANCHOR
INSERT INTO auditanchors (chain, place, hash, checkpointname) VALUES (?1, ?2, ?3, ?4)

-- PURGE_AUDIT
DELETE FROM audit WHERE chain = ?1 AND place > ?2 AND place <= ?3

-- INSERT_ANNOUNCEMENT
INSERT INTO outbox (id, fact, subject, at, lease) VALUES (?1, ?2, ?3, ?4, '')

-- ANNOUNCEMENT_WAITS
SELECT 1 FROM outbox LIMIT 1

-- OUTBOX_LEASE
SELECT lease, until, failures FROM outbox_lease

-- TAKE_OUTBOX_LEASE
UPDATE outbox_lease SET lease = ?1, until = ?2

-- LEASE_ANNOUNCEMENTS
UPDATE outbox SET lease = ?1 WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT ?2)

-- LEASED_ANNOUNCEMENTS
SELECT id, fact, subject, at FROM outbox WHERE lease = ?1 ORDER BY seq

-- PUBLISHED_ANNOUNCEMENTS
DELETE FROM outbox WHERE lease = ?1

-- AGED_ANNOUNCEMENTS
DELETE FROM outbox WHERE at < ?1 AND lease <> ''

-- END_OUTBOX_LEASE
UPDATE outbox_lease SET until = ?2, failures = ?3 WHERE lease = ?1

-- DATA_KEYS
SELECT id, wrapped, wrappedby, state, created FROM datakeys ORDER BY created, id

-- CURRENT_DATA_KEY
SELECT id FROM datakeys WHERE state = 'current'

-- AGE_DATA_KEY
UPDATE datakeys SET state = 'old' WHERE state = 'current'

-- INSERT_DATA_KEY
INSERT INTO datakeys (id, wrapped, wrappedby, state, created) VALUES (?1, ?2, ?3, ?4, ?5)

-- NOTE_PLAIN_NAMES
INSERT INTO datakeys (id, wrapped, wrappedby, state, created) SELECT 'plain', x'', '', 'old', ?1 WHERE EXISTS (SELECT 1 FROM PatientData)

-- RETIRE_DATA_KEY
UPDATE datakeys SET state = 'retired' WHERE id = ?1 AND state = 'old'

-- REWRAP_DATA_KEY
UPDATE datakeys SET wrapped = ?2, wrappedby = ?3 WHERE id = ?1 AND wrappedby = ?4

-- NAMES_NOT_UNDER
SELECT eid, FirstName, MiddleName, LastName FROM PatientData WHERE eid > ?1 AND (substr(FirstName, 1, 23) <> ?2 OR substr(MiddleName, 1, 23) <> ?2 OR substr(LastName, 1, 23) <> ?2) ORDER BY eid LIMIT ?3

-- REPLACE_NAME
UPDATE PatientData SET FirstName = ?2, MiddleName = ?3, LastName = ?4 WHERE eid = ?1 AND FirstName IS ?5 AND MiddleName IS ?6 AND LastName IS ?7

-- ASSIGN
INSERT INTO assignments (caller, facilities, assignedby, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (caller) DO UPDATE SET facilities = excluded.facilities, assignedby = excluded.assignedby, at = excluded.at

-- UNASSIGN
DELETE FROM assignments WHERE caller = ?1

-- ASSIGNMENTS
SELECT caller, facilities, assignedby, at FROM assignments WHERE caller > ?1 ORDER BY caller LIMIT ?2

-- ASSIGNED
SELECT facilities FROM assignments WHERE caller = ?1

-- NEWEST_ELEVATION
SELECT id, caller, roles, reason, began, until, ended, events FROM elevations WHERE caller = ?1 AND ended IS NULL ORDER BY began DESC LIMIT 1

-- ELEVATIONS_SINCE
SELECT count(*) AS elevations FROM elevations WHERE caller = ?1 AND began > ?2

-- INSERT_ELEVATION
INSERT INTO elevations (id, caller, roles, reason, words, began, until, events) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)

-- END_ELEVATION
UPDATE elevations SET ended = ?2 WHERE id = ?1 AND ended IS NULL AND until > ?2 AND (?3 = '' OR caller = ?3)

-- ELEVATIONS
SELECT id, caller, roles, reason, began, until, ended, events FROM elevations ORDER BY seq DESC LIMIT ?1

-- ELEVATION
SELECT id, caller, roles, reason, began, until, ended, events, words FROM elevations WHERE id = ?1

-- COUNT_UNDER_ELEVATION
UPDATE elevations SET events = events + 1 WHERE id = ?1

-- WORDS_NOT_UNDER
SELECT id, words FROM elevations WHERE id > ?1 AND substr(words, 1, 23) <> ?2 ORDER BY id LIMIT ?3

-- REPLACE_WORDS
UPDATE elevations SET words = ?3 WHERE id = ?1 AND words = ?2

-- REWRITE_FILE
VACUUM

-- TRUNCATE_LOG
PRAGMA wal_checkpoint(TRUNCATE)

-- PATIENTS_OPEN
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM PatientData WHERE eid IN (
  SELECT eid FROM PatientData INDEXED BY PatientData_open WHERE discharged IS NULL AND instr(?1, facid) > 0
  AND vdate >= ?2 AND vdate <= ?3 AND eid < ?4 ORDER BY eid DESC LIMIT ?5)
ORDER BY eid DESC

-- PATIENTS_DISCHARGED
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM PatientData WHERE discharged IS NOT NULL AND instr(?1, facid) > 0
  AND vdate >= ?2 AND vdate <= ?3 AND eid < ?4
ORDER BY eid DESC LIMIT ?5

-- EXPECTED_DISCHARGES
SELECT facid, CASE WHEN predlengthofstay IS NULL THEN -2 WHEN due < 0 THEN -1 WHEN due > ?2 THEN ?2 + 1 ELSE due END AS due,
  count(*) AS encounters
FROM (SELECT facid, predlengthofstay, CAST(julianday(vdate) - julianday(?1) AS INTEGER) + predlengthofstay AS due
  FROM PatientData INDEXED BY PatientData_open WHERE discharged IS NULL AND vdate <= ?1)
GROUP BY 1, 2 ORDER BY 1, 2

-- ACCURACY
SELECT facid, count(*) AS stays, sum(abs(lengthofstay - predictedstaydays)) AS off, sum(lengthofstay - predictedstaydays) AS longer,
  sum(abs(lengthofstay - predictedstaydays) <= 1) AS withinday,
  sum(lengthofstay BETWEEN predictedlow80 AND predictedhigh80) AS inside80,
  sum(lengthofstay BETWEEN predictedlow90 AND predictedhigh90) AS inside90
FROM PatientData WHERE predictedstaydays IS NOT NULL AND discharged >= ?1 AND discharged <= ?2
GROUP BY facid ORDER BY facid

-- NEWEST_PREDICTIONS
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM PatientData WHERE predictedstaydays IS NOT NULL ORDER BY vdate DESC, eid DESC LIMIT ?1

-- ROW_SURVEY
SELECT eid, substr(vdate, 1, 4), facid, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo FROM PatientData ORDER BY eid

-- ENCOUNTERS_BETWEEN
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM PatientData WHERE eid >= ?1 AND eid <= ?2 ORDER BY eid LIMIT ?3

-- SCHEMA
-- The ledger of migrations.
CREATE TABLE IF NOT EXISTS schema_migrations (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL, -- SHA-256 of the migration's statements without comments and line breaks
  applied TEXT NOT NULL
) STRICT;


-- Migration 0001-record
CREATE TABLE MetaData_Facilities (
  Id TEXT PRIMARY KEY CHECK (length(Id) = 1),
  Name TEXT NOT NULL,
  Capacity INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE PatientData (
  FirstName TEXT, -- First given name.
  MiddleName TEXT, -- Further given names.
  LastName TEXT, -- Family name.
  eid INTEGER PRIMARY KEY CHECK (eid >= 1), -- Encounter id: a whole number from 1 to 2147483647.
  vdate TEXT NOT NULL, -- Admission date.
  rcount TEXT, -- Readmissions in the past 180 days: 0 to 4, then 5+.
  gender TEXT NOT NULL, -- Administrative gender: F, M, O or U.
  dialysisrenalendstage INTEGER, -- End-stage renal failure on dialysis during the encounter.
  asthma INTEGER, -- Asthma during the encounter.
  irondef INTEGER, -- Iron deficiency during the encounter.
  pneum INTEGER, -- Pneumonia during the encounter.
  substancedependence INTEGER, -- Substance dependence during the encounter.
  psychologicaldisordermajor INTEGER, -- Major psychological disorder during the encounter.
  depress INTEGER, -- Depression during the encounter.
  psychother INTEGER, -- Other psychological disorder during the encounter.
  fibrosisandother INTEGER, -- Fibrosis and other during the encounter.
  malnutrition INTEGER, -- Malnutrition during the encounter.
  hemo INTEGER, -- Disorder of the haematopoietic system during the encounter.
  hematocrit REAL, -- Average hematocrit during the encounter.
  neutrophils REAL, -- Average neutrophils during the encounter, in the unit the blueprint codes.
  sodium REAL, -- Average sodium during the encounter.
  glucose REAL, -- Average glucose during the encounter.
  bloodureanitro REAL, -- Average blood urea nitrogen during the encounter.
  creatinine REAL, -- Average creatinine during the encounter.
  bmi REAL, -- Average body mass index during the encounter.
  pulse INTEGER, -- Average pulse during the encounter.
  respiration REAL, -- Average respiration during the encounter.
  secondarydiagnosisnonicd9 INTEGER, -- Number of secondary diagnoses that carry no ICD-9 code.
  discharged TEXT, -- Discharge date; empty while the patient is in the hospital.
  facid TEXT NOT NULL, -- Facility id, one letter of the facilities table.
  lengthofstay INTEGER, -- Length of stay in whole days; empty while it is unknown.
  predlengthofstay INTEGER, -- Predicted stay in whole days, at least 1.
  predictedstaydays REAL, -- Predicted stay in days.
  predictedlow80 REAL, -- Lower end of the 80 % interval, days.
  predictedhigh80 REAL, -- Upper end of the 80 % interval, days.
  predictedlow90 REAL, -- Lower end of the 90 % interval, days.
  predictedhigh90 REAL, -- Upper end of the 90 % interval, days.
  modelversion TEXT, -- The model that predicted.
  prediction TEXT, -- The whole prediction with its reasons, JSON.
  importid TEXT, -- The import that stored or last changed the row; NULL if it was admitted.
  CHECK (discharged >= vdate)
) STRICT;

CREATE INDEX PatientData_open ON PatientData (facid, vdate, predlengthofstay, discharged) WHERE discharged IS NULL;

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

-- Migration 0002-facilities
INSERT INTO MetaData_Facilities (Id, Name, Capacity) VALUES ('A', 'General Medicine 3 West', 75) ON CONFLICT (Id) DO NOTHING;
INSERT INTO MetaData_Facilities (Id, Name, Capacity) VALUES ('B', 'Pulmonary 2 West', 80) ON CONFLICT (Id) DO NOTHING;
INSERT INTO MetaData_Facilities (Id, Name, Capacity) VALUES ('C', 'General Medicine 3 South', 30) ON CONFLICT (Id) DO NOTHING;
INSERT INTO MetaData_Facilities (Id, Name, Capacity) VALUES ('D', 'Geriatrics 2 East', 100) ON CONFLICT (Id) DO NOTHING;
INSERT INTO MetaData_Facilities (Id, Name, Capacity) VALUES ('E', 'Behavioral 1 East', 95) ON CONFLICT (Id) DO NOTHING;

-- Migration 0003-anomalies
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

-- Migration 0004-audit-chain
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

-- Migration 0005-outbox
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

-- Migration 0006-import-parts
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

-- Migration 0007-datakeys
CREATE TABLE datakeys (
  id TEXT PRIMARY KEY,
  wrapped BLOB NOT NULL,
  wrappedby TEXT NOT NULL, -- the key that wraps it, with its version
  state TEXT NOT NULL CHECK (state IN ('current', 'old', 'retired')),
  created TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX datakeys_current ON datakeys (state) WHERE state = 'current'; -- there is one

-- Migration 0008-access
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

-- Migration 0009-reads
CREATE INDEX PatientData_predicted ON PatientData (vdate) WHERE predictedstaydays IS NOT NULL;
CREATE INDEX PatientData_judged ON PatientData (discharged, facid, lengthofstay, predictedstaydays, predictedlow80,
  predictedhigh80, predictedlow90, predictedhigh90) WHERE predictedstaydays IS NOT NULL;

-- Migration 0010-audit-retention
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

