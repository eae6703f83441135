-- open_server
SELECT CAST(SERVERPROPERTY('babelfishversion') AS nvarchar(50)) AS version

-- schema_exists
SELECT CAST(SCHEMA_ID(N'dbo') AS int) AS id

-- create_schema
CREATE SCHEMA dbo

-- create_ledger
CREATE TABLE dbo.schema_migrations (
  number int NOT NULL CONSTRAINT PK_schema_migrations PRIMARY KEY,
  name nvarchar(100) NOT NULL,
  checksum nvarchar(64) NOT NULL, -- SHA-256 of the migration's statements without comments and line breaks
  applied datetimeoffset(7) NOT NULL
);

-- has_migrations
SELECT CAST(OBJECT_ID(N'dbo.schema_migrations') AS int) AS id

-- migrations
SELECT number, name, checksum FROM dbo.schema_migrations ORDER BY number

-- record_migration
INSERT INTO dbo.schema_migrations (number, name, checksum, applied) VALUES (@P1, @P2, @P3, SYSDATETIMEOFFSET())

-- lock_migrations
DECLARE @result int;
EXEC @result = sp_getapplock @Resource = N'hdai-migrations-dbo', @LockMode = N'Exclusive', @LockOwner = N'Transaction', @LockTimeout = 60000;
SELECT CAST(@result AS int) AS result

-- all_facilities
SELECT Id, Name, Capacity FROM dbo.MetaData_Facilities ORDER BY Id

-- update_facility
UPDATE dbo.MetaData_Facilities SET Name = @P2, Capacity = @P3
WHERE Id = @P1 AND (CONCAT(Name, N'.') COLLATE Latin1_General_BIN2 <> CONCAT(@P2, N'.') COLLATE Latin1_General_BIN2 OR Capacity <> @P3)

-- insert_facility
INSERT INTO dbo.MetaData_Facilities (Id, Name, Capacity)
SELECT @P1, @P2, @P3 WHERE NOT EXISTS (SELECT 1 FROM dbo.MetaData_Facilities WHERE Id = @P1)

-- insert_admission
INSERT INTO dbo.PatientData (FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, predlengthofstay, predictedstaydays, predictedlow80, predictedhigh80, predictedlow90, predictedhigh90, modelversion, prediction)
VALUES (NULLIF(@P1 COLLATE Latin1_General_BIN2, N''), NULLIF(@P2 COLLATE Latin1_General_BIN2, N''), NULLIF(@P3 COLLATE Latin1_General_BIN2, N''), @P4, @P5, NULLIF(@P6 COLLATE Latin1_General_BIN2, N''), @P7, @P8, @P9, @P10, @P11, @P12, @P13, @P14, @P15, @P16, @P17, @P18, @P19, @P20, @P21, @P22, @P23, @P24, @P25, @P26, @P27, @P28, CAST(NULLIF(@P29, N'') AS date), @P30, @P31, @P32, @P33, @P34, @P35, @P36, @P37, NULLIF(@P38 COLLATE Latin1_General_BIN2, N''), NULLIF(@P39 COLLATE Latin1_General_BIN2, N''))

-- discharge
UPDATE dbo.PatientData SET discharged = @P2, lengthofstay = DATEDIFF(day, vdate, @P2)
WHERE eid = @P1 AND discharged IS NULL AND vdate = @P3 AND facid = @P4

-- encounter
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM dbo.PatientData WHERE eid = @P1

-- encounters
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM dbo.PatientData WHERE eid > @P1
ORDER BY eid OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY

-- discharged_encounters
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM dbo.PatientData WHERE eid > @P1 AND discharged IS NOT NULL
ORDER BY eid OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY

-- unpredicted_encounters
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM dbo.PatientData WHERE eid > @P1 AND discharged IS NULL AND prediction IS NULL
ORDER BY eid OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY

-- totals
SELECT CAST(COUNT_BIG(*) AS bigint) AS encounters, CAST(COUNT_BIG(discharged) AS bigint) AS discharged, CAST(COUNT_BIG(importid) AS bigint) AS imported FROM dbo.PatientData

-- census
SELECT f.Id AS Id, f.Name AS Name, f.Capacity AS Capacity, CAST(COALESCE(o.occupied, 0) AS bigint) AS occupied,
  CAST(COALESCE(o.leaving, 0) AS bigint) AS leaving, CAST(COALESCE(d.leavers, 0) AS bigint) AS leavers
FROM dbo.MetaData_Facilities AS f
LEFT JOIN (SELECT facid, COUNT_BIG(*) AS occupied,
    SUM(CASE WHEN DATEDIFF(day, vdate, @P2) >= predlengthofstay THEN 1 ELSE 0 END) AS leaving
  FROM dbo.PatientData WHERE discharged IS NULL AND vdate <= @P1 GROUP BY facid) AS o ON o.facid = f.Id
LEFT JOIN (SELECT facid, COUNT_BIG(*) AS leavers FROM dbo.PatientData WHERE discharged = @P1 GROUP BY facid) AS d
  ON d.facid = f.Id
ORDER BY f.Id

-- create_predictions
IF OBJECT_ID(N'tempdb..#predictions') IS NOT NULL DROP TABLE #predictions;
CREATE TABLE #predictions (eid int NOT NULL PRIMARY KEY, predlengthofstay int, predictedstaydays float, predictedlow80 float, predictedhigh80 float, predictedlow90 float, predictedhigh90 float, modelversion nvarchar(100), prediction nvarchar(max))

-- save_predictions
UPDATE p SET predlengthofstay = s.predlengthofstay, predictedstaydays = s.predictedstaydays, predictedlow80 = s.predictedlow80, predictedhigh80 = s.predictedhigh80, predictedlow90 = s.predictedlow90, predictedhigh90 = s.predictedhigh90, modelversion = s.modelversion, prediction = s.prediction
FROM dbo.PatientData AS p JOIN #predictions AS s ON s.eid = p.eid
WHERE p.prediction IS NULL

-- admission_weeks
SELECT CAST(x.weeknumber AS bigint) AS weeknumber, CAST(COUNT_BIG(*) AS bigint) AS admissions
FROM (SELECT DATEDIFF(day, CAST('0001-01-01' AS date), vdate) / 7 AS weeknumber FROM dbo.PatientData WHERE vdate <= @P1) AS x
GROUP BY x.weeknumber ORDER BY x.weeknumber

-- stay_weeks
SELECT x.facid, CAST(x.weeknumber AS bigint) AS weeknumber, CAST(COUNT_BIG(*) AS bigint) AS stays, CAST(SUM(x.days) AS bigint) AS days,
  CAST(SUM(x.days * x.days) AS bigint) AS squares,
  CAST(SUM(CASE WHEN x.dialysisrenalendstage = 1 THEN 1 ELSE 0 END) AS bigint) AS stays1, CAST(SUM(CASE WHEN x.dialysisrenalendstage = 1 THEN x.days ELSE 0 END) AS bigint) AS days1, CAST(SUM(CASE WHEN x.dialysisrenalendstage = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares1, 
  CAST(SUM(CASE WHEN x.asthma = 1 THEN 1 ELSE 0 END) AS bigint) AS stays2, CAST(SUM(CASE WHEN x.asthma = 1 THEN x.days ELSE 0 END) AS bigint) AS days2, CAST(SUM(CASE WHEN x.asthma = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares2, 
  CAST(SUM(CASE WHEN x.irondef = 1 THEN 1 ELSE 0 END) AS bigint) AS stays3, CAST(SUM(CASE WHEN x.irondef = 1 THEN x.days ELSE 0 END) AS bigint) AS days3, CAST(SUM(CASE WHEN x.irondef = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares3, 
  CAST(SUM(CASE WHEN x.pneum = 1 THEN 1 ELSE 0 END) AS bigint) AS stays4, CAST(SUM(CASE WHEN x.pneum = 1 THEN x.days ELSE 0 END) AS bigint) AS days4, CAST(SUM(CASE WHEN x.pneum = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares4, 
  CAST(SUM(CASE WHEN x.substancedependence = 1 THEN 1 ELSE 0 END) AS bigint) AS stays5, CAST(SUM(CASE WHEN x.substancedependence = 1 THEN x.days ELSE 0 END) AS bigint) AS days5, CAST(SUM(CASE WHEN x.substancedependence = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares5, 
  CAST(SUM(CASE WHEN x.psychologicaldisordermajor = 1 THEN 1 ELSE 0 END) AS bigint) AS stays6, CAST(SUM(CASE WHEN x.psychologicaldisordermajor = 1 THEN x.days ELSE 0 END) AS bigint) AS days6, CAST(SUM(CASE WHEN x.psychologicaldisordermajor = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares6, 
  CAST(SUM(CASE WHEN x.depress = 1 THEN 1 ELSE 0 END) AS bigint) AS stays7, CAST(SUM(CASE WHEN x.depress = 1 THEN x.days ELSE 0 END) AS bigint) AS days7, CAST(SUM(CASE WHEN x.depress = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares7, 
  CAST(SUM(CASE WHEN x.psychother = 1 THEN 1 ELSE 0 END) AS bigint) AS stays8, CAST(SUM(CASE WHEN x.psychother = 1 THEN x.days ELSE 0 END) AS bigint) AS days8, CAST(SUM(CASE WHEN x.psychother = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares8, 
  CAST(SUM(CASE WHEN x.fibrosisandother = 1 THEN 1 ELSE 0 END) AS bigint) AS stays9, CAST(SUM(CASE WHEN x.fibrosisandother = 1 THEN x.days ELSE 0 END) AS bigint) AS days9, CAST(SUM(CASE WHEN x.fibrosisandother = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares9, 
  CAST(SUM(CASE WHEN x.malnutrition = 1 THEN 1 ELSE 0 END) AS bigint) AS stays10, CAST(SUM(CASE WHEN x.malnutrition = 1 THEN x.days ELSE 0 END) AS bigint) AS days10, CAST(SUM(CASE WHEN x.malnutrition = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares10, 
  CAST(SUM(CASE WHEN x.hemo = 1 THEN 1 ELSE 0 END) AS bigint) AS stays11, CAST(SUM(CASE WHEN x.hemo = 1 THEN x.days ELSE 0 END) AS bigint) AS days11, CAST(SUM(CASE WHEN x.hemo = 1 THEN x.days * x.days ELSE 0 END) AS bigint) AS squares11
FROM (SELECT facid, DATEDIFF(day, CAST('0001-01-01' AS date), discharged) / 7 AS weeknumber, CAST(lengthofstay AS bigint) AS days, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo
  FROM dbo.PatientData WHERE vdate <= @P1 AND discharged <= @P1 AND lengthofstay IS NOT NULL) AS x
WHERE x.weeknumber >= @P2
GROUP BY x.facid, x.weeknumber

-- delete_findings
DELETE FROM dbo.findings

-- delete_survey
DELETE FROM dbo.survey

-- insert_survey
INSERT INTO dbo.survey (one, found, firstweek, lastweek, charted, uncharted)
VALUES (1, @P1, CAST(NULLIF(@P2, N'') AS date), CAST(NULLIF(@P3, N'') AS date), @P4, @P5)

-- insert_finding
INSERT INTO dbo.findings (ordinal, facid, [condition], direction, firstweek, lastweek, stays, meandays, expecteddays, averagedays, limitdays)
VALUES (@P1, @P2, NULLIF(@P3, N''), @P4, @P5, @P6, @P7, @P8, @P9, @P10, @P11)

-- survey
SELECT found, firstweek, lastweek, charted, uncharted FROM dbo.survey

-- findings
SELECT ordinal, facid, [condition], direction, firstweek, lastweek, stays, meandays, expecteddays, averagedays, limitdays FROM dbo.findings ORDER BY ordinal OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY

-- import
SELECT id, account, container, name, etag, [state], attempt, [checkpoint], rowsread, stored, updated, unchanged, rejected, failure, extracolumns, sha256, firstline, lastline, started, finished FROM dbo.imports WHERE id = @P1

-- imports
SELECT id, account, container, name, etag, [state], attempt, [checkpoint], rowsread, stored, updated, unchanged, rejected, failure, extracolumns, sha256, firstline, lastline, started, finished FROM dbo.imports ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY

-- begin_import
INSERT INTO dbo.imports (id, filekey, account, container, name, etag, [state], attempt, [checkpoint], rowsread, stored, updated, unchanged, rejected, rejectskept, failure, extracolumns, sha256, started, operation)
VALUES (@P1, @P2, @P3, @P4, @P5, @P6, N'running', 1, 0, 0, 0, 0, 0, 0, 0, N'', N'', N'', @P7, N'')

-- take_over_import
UPDATE dbo.imports SET attempt = attempt + 1, [state] = N'running', failure = N'', finished = NULL
WHERE id = @P1 AND [state] <> N'done'

-- close_replaced_imports
UPDATE dbo.imports SET [state] = N'failed', failure = N'the file was replaced by a newer version', finished = @P3
WHERE filekey = @P2 AND id <> @P1 AND [state] = N'running'

-- finish_import
UPDATE dbo.imports SET [state] = @P3, sha256 = @P4, extracolumns = @P5, failure = @P6, finished = @P7, firstline = @P8, lastline = @P9
WHERE id = @P1 AND [state] = N'running' AND attempt = @P2

-- create_staging
IF OBJECT_ID(N'tempdb..#staging') IS NOT NULL DROP TABLE #staging;
CREATE TABLE #staging (turn int NOT NULL, line bigint NOT NULL, ordinal int NOT NULL, FirstName nvarchar(300), MiddleName nvarchar(300), LastName nvarchar(300), eid int NOT NULL, vdate date NOT NULL, rcount nvarchar(5), gender nvarchar(1) NOT NULL, dialysisrenalendstage int, asthma int, irondef int, pneum int, substancedependence int, psychologicaldisordermajor int, depress int, psychother int, fibrosisandother int, malnutrition int, hemo int, hematocrit float, neutrophils float, sodium float, glucose float, bloodureanitro float, creatinine float, bmi float, pulse int, respiration float, secondarydiagnosisnonicd9 int, discharged date, facid nvarchar(1) NOT NULL, lengthofstay int, PRIMARY KEY (turn, eid))

-- lock_imports
DECLARE @result int;
EXEC @result = sp_getapplock @Resource = N'hdai-import-dbo', @LockMode = N'Exclusive', @LockOwner = N'Transaction', @LockTimeout = @P1;
SELECT CAST(@result AS int) AS result

-- fence
UPDATE dbo.imports SET [checkpoint] = [checkpoint]
WHERE id = @P1 AND [state] = N'running' AND attempt = @P2 AND [checkpoint] = @P3

-- rejects_kept
SELECT rejectskept FROM dbo.imports WHERE id = @P1

-- import_new
INSERT INTO dbo.PatientData (FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, importid)
SELECT s.FirstName, s.MiddleName, s.LastName, s.eid, s.vdate, s.rcount, s.gender, s.dialysisrenalendstage, s.asthma, s.irondef, s.pneum, s.substancedependence, s.psychologicaldisordermajor, s.depress, s.psychother, s.fibrosisandother, s.malnutrition, s.hemo, s.hematocrit, s.neutrophils, s.sodium, s.glucose, s.bloodureanitro, s.creatinine, s.bmi, s.pulse, s.respiration, s.secondarydiagnosisnonicd9, s.discharged, s.facid, s.lengthofstay, @P2 FROM #staging AS s
WHERE s.turn = @P1 AND NOT EXISTS (SELECT 1 FROM dbo.PatientData AS p WHERE p.eid = s.eid)

-- import_changed
UPDATE p SET FirstName = COALESCE(s.FirstName COLLATE Latin1_General_BIN2, p.FirstName COLLATE Latin1_General_BIN2), MiddleName = COALESCE(s.MiddleName COLLATE Latin1_General_BIN2, p.MiddleName COLLATE Latin1_General_BIN2), LastName = COALESCE(s.LastName COLLATE Latin1_General_BIN2, p.LastName COLLATE Latin1_General_BIN2), vdate = s.vdate, rcount = s.rcount, gender = s.gender, dialysisrenalendstage = s.dialysisrenalendstage, asthma = s.asthma, irondef = s.irondef, pneum = s.pneum, substancedependence = s.substancedependence, psychologicaldisordermajor = s.psychologicaldisordermajor, depress = s.depress, psychother = s.psychother, fibrosisandother = s.fibrosisandother, malnutrition = s.malnutrition, hemo = s.hemo, hematocrit = s.hematocrit, neutrophils = s.neutrophils, sodium = s.sodium, glucose = s.glucose, bloodureanitro = s.bloodureanitro, creatinine = s.creatinine, bmi = s.bmi, pulse = s.pulse, respiration = s.respiration, secondarydiagnosisnonicd9 = s.secondarydiagnosisnonicd9, discharged = CASE WHEN s.discharged IS NULL AND s.vdate = p.vdate THEN p.discharged ELSE s.discharged END, facid = s.facid, lengthofstay = CASE WHEN s.discharged IS NULL AND s.vdate = p.vdate THEN p.lengthofstay ELSE s.lengthofstay END, importid = @P2
FROM dbo.PatientData AS p JOIN #staging AS s ON s.eid = p.eid
WHERE s.turn = @P1 AND NOT ((p.importid IS NULL AND (p.vdate <> s.vdate OR p.facid COLLATE Latin1_General_BIN2 <> s.facid COLLATE Latin1_General_BIN2 OR p.gender COLLATE Latin1_General_BIN2 <> s.gender COLLATE Latin1_General_BIN2)))
  AND EXISTS (SELECT CONCAT(COALESCE(s.FirstName COLLATE Latin1_General_BIN2, p.FirstName COLLATE Latin1_General_BIN2), N'.') COLLATE Latin1_General_BIN2, CONCAT(COALESCE(s.MiddleName COLLATE Latin1_General_BIN2, p.MiddleName COLLATE Latin1_General_BIN2), N'.') COLLATE Latin1_General_BIN2, CONCAT(COALESCE(s.LastName COLLATE Latin1_General_BIN2, p.LastName COLLATE Latin1_General_BIN2), N'.') COLLATE Latin1_General_BIN2, s.vdate, CONCAT(s.rcount, N'.') COLLATE Latin1_General_BIN2, CONCAT(s.gender, N'.') COLLATE Latin1_General_BIN2, s.dialysisrenalendstage, s.asthma, s.irondef, s.pneum, s.substancedependence, s.psychologicaldisordermajor, s.depress, s.psychother, s.fibrosisandother, s.malnutrition, s.hemo, s.hematocrit, s.neutrophils, s.sodium, s.glucose, s.bloodureanitro, s.creatinine, s.bmi, s.pulse, s.respiration, s.secondarydiagnosisnonicd9, CASE WHEN s.discharged IS NULL AND s.vdate = p.vdate THEN p.discharged ELSE s.discharged END, CONCAT(s.facid, N'.') COLLATE Latin1_General_BIN2, CASE WHEN s.discharged IS NULL AND s.vdate = p.vdate THEN p.lengthofstay ELSE s.lengthofstay END EXCEPT SELECT CONCAT(p.FirstName, N'.') COLLATE Latin1_General_BIN2, CONCAT(p.MiddleName, N'.') COLLATE Latin1_General_BIN2, CONCAT(p.LastName, N'.') COLLATE Latin1_General_BIN2, p.vdate, CONCAT(p.rcount, N'.') COLLATE Latin1_General_BIN2, CONCAT(p.gender, N'.') COLLATE Latin1_General_BIN2, p.dialysisrenalendstage, p.asthma, p.irondef, p.pneum, p.substancedependence, p.psychologicaldisordermajor, p.depress, p.psychother, p.fibrosisandother, p.malnutrition, p.hemo, p.hematocrit, p.neutrophils, p.sodium, p.glucose, p.bloodureanitro, p.creatinine, p.bmi, p.pulse, p.respiration, p.secondarydiagnosisnonicd9, p.discharged, CONCAT(p.facid, N'.') COLLATE Latin1_General_BIN2, p.lengthofstay )

-- import_refused
SELECT s.ordinal, s.line FROM #staging AS s JOIN dbo.PatientData AS p ON p.eid = s.eid
WHERE s.turn = @P1 AND (p.importid IS NULL AND (p.vdate <> s.vdate OR p.facid COLLATE Latin1_General_BIN2 <> s.facid COLLATE Latin1_General_BIN2 OR p.gender COLLATE Latin1_General_BIN2 <> s.gender COLLATE Latin1_General_BIN2)) ORDER BY s.ordinal

-- create_rejects
IF OBJECT_ID(N'tempdb..#rejects') IS NOT NULL DROP TABLE #rejects;
CREATE TABLE #rejects (place int NOT NULL PRIMARY KEY, line bigint NOT NULL, ordinal int NOT NULL, columnname nvarchar(max) NOT NULL, [rule] nvarchar(max) NOT NULL, remedy nvarchar(max) NOT NULL)

-- keep_rejects
INSERT INTO dbo.rejects (importid, line, ordinal, columnname, [rule], remedy)
SELECT @P1, r.line, r.ordinal, r.columnname, r.[rule], r.remedy FROM #rejects AS r
WHERE NOT EXISTS (SELECT 1 FROM dbo.rejects AS k WHERE k.importid = @P1 AND k.line = r.line AND k.ordinal = r.ordinal)
ORDER BY r.place OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY

-- advance_import
UPDATE dbo.imports SET [checkpoint] = [checkpoint] + @P9, rowsread = rowsread + @P2, stored = stored + @P3, updated = updated + @P4, unchanged = unchanged + @P5, rejected = rejected + @P6, rejectskept = rejectskept + @P7, operation = @P8 WHERE id = @P1

-- drop_temporary
IF OBJECT_ID(N'tempdb..#staging') IS NOT NULL DROP TABLE #staging;
IF OBJECT_ID(N'tempdb..#rejects') IS NOT NULL DROP TABLE #rejects;
IF OBJECT_ID(N'tempdb..#predictions') IS NOT NULL DROP TABLE #predictions;
IF OBJECT_ID(N'tempdb..#names') IS NOT NULL DROP TABLE #names;
IF OBJECT_ID(N'tempdb..#events') IS NOT NULL DROP TABLE #events

-- rejects
SELECT line, columnname, [rule], remedy FROM dbo.rejects WHERE importid = @P1
ORDER BY line, ordinal OFFSET @P2 ROWS FETCH NEXT @P3 ROWS ONLY

-- plan_import
UPDATE dbo.imports SET sha256 = @P2, extracolumns = @P3, firstline = @P4, lastline = @P5 WHERE id = @P1

-- insert_part
INSERT INTO dbo.importparts (importid, part, headerfrom, headerto, frombyte, tobyte, firstline, datarows, attempt, [checkpoint], done, operation)
VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, @P8, 0, 0, 0, N'')

-- parts_left
SELECT part FROM dbo.importparts WHERE importid = @P1 AND done = 0 ORDER BY part

-- part
SELECT part, headerfrom, headerto, frombyte, tobyte, firstline, datarows, attempt, [checkpoint] FROM dbo.importparts WHERE importid = @P1 AND part = @P2

-- lock_import
UPDATE dbo.imports SET [checkpoint] = [checkpoint] WHERE id = @P1 AND [state] = N'running'

-- take_part
UPDATE dbo.importparts SET attempt = attempt + 1 WHERE importid = @P1 AND part = @P2 AND done = 0

-- fence_part
UPDATE dbo.importparts SET [checkpoint] = [checkpoint]
WHERE importid = @P1 AND part = @P2 AND attempt = @P3 AND [checkpoint] = @P4 AND done = 0

-- advance_part
UPDATE dbo.importparts SET [checkpoint] = [checkpoint] + @P3, operation = @P4
WHERE importid = @P1 AND part = @P2

-- finish_part
UPDATE dbo.importparts SET done = 1
WHERE importid = @P1 AND part = @P2 AND attempt = @P3 AND done = 0 AND [checkpoint] = datarows

-- fail_part
UPDATE dbo.importparts SET done = 0 WHERE importid = @P1 AND part = @P2 AND attempt = @P3 AND done = 0

-- close_import
UPDATE dbo.imports SET [state] = @P2, failure = @P3, finished = @P4 WHERE id = @P1 AND [state] = N'running'

-- part_witness
SELECT CAST(1 AS int) AS committed FROM dbo.importparts WHERE operation = @P1

-- import_witness
SELECT CAST(1 AS int) AS committed FROM dbo.imports WHERE operation = @P1

-- insert_model
INSERT INTO dbo.models ([version], trained, trainingrows, schemafingerprint, metrics, promoted, reason, bytes)
VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, @P8)

-- model_exists
SELECT CAST(1 AS int) AS taken FROM dbo.models WHERE [version] = @P1

-- champion_version
SELECT [version] FROM dbo.models WHERE promoted = 1 ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY

-- champion
SELECT [version], trained, trainingrows, schemafingerprint, metrics, promoted, reason, bytes FROM dbo.models WHERE promoted = 1
ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY

-- models
SELECT [version], trained, trainingrows, schemafingerprint, metrics, promoted, reason FROM dbo.models ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY

-- advance_chain
UPDATE dbo.audithead SET place = place + 1 OUTPUT INSERTED.place, INSERTED.hash WHERE chain = @P1

-- chain_hash
UPDATE dbo.audithead SET hash = @P2 WHERE chain = @P1

-- audit_heads
SELECT chain, place, hash FROM dbo.audithead ORDER BY chain

-- insert_audit
INSERT INTO dbo.audit ([at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail, operation, chain, place, hash)
VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, @P8, @P9, @P10, @P11, @P12, @P13, @P14)

-- audit_page
SELECT seq, [at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail FROM dbo.audit
WHERE seq < @P1 AND (@P2 = N'' OR CONCAT(caller, N'.') COLLATE Latin1_General_BIN2 = CONCAT(@P2, N'.') COLLATE Latin1_General_BIN2) AND (@P3 = N'' OR [action] = @P3)
  AND (@P4 = N'' OR outcome = @P4) AND [at] >= @P5 AND [at] <= @P6
ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P7 ROWS ONLY

-- audit_about
SELECT seq, [at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail FROM dbo.audit
WHERE seq < @P1 AND (@P2 = N'' OR CONCAT(caller, N'.') COLLATE Latin1_General_BIN2 = CONCAT(@P2, N'.') COLLATE Latin1_General_BIN2) AND (@P3 = N'' OR [action] = @P3)
  AND (@P4 = N'' OR outcome = @P4) AND [at] >= @P5 AND [at] <= @P6 AND encounter = @P8
ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P7 ROWS ONLY

-- audit_by_caller
SELECT seq, [at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail FROM dbo.audit
WHERE seq < @P1 AND (@P2 = N'' OR CONCAT(caller, N'.') COLLATE Latin1_General_BIN2 = CONCAT(@P2, N'.') COLLATE Latin1_General_BIN2) AND (@P3 = N'' OR [action] = @P3)
  AND (@P4 = N'' OR outcome = @P4) AND [at] >= @P5 AND [at] <= @P6 AND caller = @P8
ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P7 ROWS ONLY

-- audit_by_action
SELECT seq, [at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail FROM dbo.audit
WHERE seq < @P1 AND (@P2 = N'' OR CONCAT(caller, N'.') COLLATE Latin1_General_BIN2 = CONCAT(@P2, N'.') COLLATE Latin1_General_BIN2) AND (@P3 = N'' OR [action] = @P3)
  AND (@P4 = N'' OR outcome = @P4) AND [at] >= @P5 AND [at] <= @P6 AND [action] = @P8
ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P7 ROWS ONLY

-- audit_chain
SELECT seq, place, hash, [at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail FROM dbo.audit
WHERE chain = @P1 AND place >= @P2 AND (place > @P2 OR seq > @P3)
ORDER BY place, seq OFFSET 0 ROWS FETCH NEXT @P4 ROWS ONLY

-- audit_unchained
SELECT CAST(COUNT_BIG(CASE WHEN a.place IS NULL AND a.seq < f.firstseq THEN 1 END) AS bigint) AS unchained,
  CAST(COUNT_BIG(CASE WHEN a.place IS NOT NULL OR a.seq > f.firstseq THEN 1 END) AS bigint) AS since,
  CAST(MIN(CASE WHEN a.place IS NOT NULL OR a.seq > f.firstseq THEN a.seq END) AS bigint) AS firstsince
FROM dbo.audit AS a CROSS JOIN (SELECT COALESCE(MIN(seq), CAST(9223372036854775807 AS bigint)) AS firstseq FROM dbo.audit
  WHERE place >= 1) AS f
WHERE a.place IS NULL OR a.place < 1 OR NOT EXISTS (SELECT 1 FROM dbo.audithead AS h WHERE h.chain = a.chain)

-- audit_record
SELECT id, retentionyears, newest, newestname, newesttext FROM dbo.auditrecord

-- audit_anchors
SELECT chain, place, hash, checkpointname FROM dbo.auditanchors ORDER BY chain, place, seq

-- save_checkpoint
UPDATE dbo.auditrecord SET newest = @P2, newestname = @P3, newesttext = @P4
WHERE newest = @P1 AND id COLLATE Latin1_General_BIN2 = @P5 COLLATE Latin1_General_BIN2

-- renew_record
UPDATE dbo.auditrecord SET id = @P2, newest = 0, newestname = N'', newesttext = N''
WHERE id COLLATE Latin1_General_BIN2 = @P1 COLLATE Latin1_General_BIN2

-- raise_retention
UPDATE dbo.auditrecord SET retentionyears = @P1 WHERE retentionyears < @P1

-- is_anchored
SELECT CAST(1 AS int) AS anchored FROM dbo.auditanchors WHERE chain = @P1 AND place >= @P2

-- insert_anchor
INSERT INTO dbo.auditanchors (chain, place, hash, checkpointname)
SELECT e.chain, e.place, e.hash, @P4 FROM dbo.audit AS e CROSS JOIN dbo.auditrecord AS r
WHERE e.chain = @P1 AND e.place = @P2 AND e.hash = @P3 AND DATEDIFF(day, e.[at], SYSDATETIMEOFFSET()) > r.retentionyears * 365 + r.retentionyears / 4 + 1

-- events_kept
SELECT CAST(COUNT_BIG(*) AS bigint) AS kept FROM dbo.audit AS e CROSS JOIN dbo.auditrecord AS r
WHERE e.chain = @P1 AND e.place >= 1 AND e.place <= @P2 AND NOT (DATEDIFF(day, e.[at], SYSDATETIMEOFFSET()) > r.retentionyears * 365 + r.retentionyears / 4 + 1)

-- purge_audit
DELETE FROM dbo.audit WHERE chain = @P1 AND place > @P2 AND place <= @P3

-- insert_announcement
INSERT INTO dbo.outbox (id, fact, subject, [at], lease) VALUES (@P1, @P2, @P3, @P4, N'')

-- announcement_waits
SELECT CAST(1 AS int) AS waits FROM dbo.outbox ORDER BY seq OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY

-- take_outbox_lease
UPDATE dbo.outbox_lease SET lease = @P1, until = @P3 WHERE until <= @P2 OR lease = @P1

-- outbox_lease
SELECT until, failures FROM dbo.outbox_lease

-- lease_announcements
UPDATE dbo.outbox SET lease = @P1
WHERE seq IN (SELECT seq FROM dbo.outbox ORDER BY seq OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY)

-- leased_announcements
SELECT id, fact, subject, [at] FROM dbo.outbox WHERE lease = @P1 ORDER BY seq

-- published_announcements
DELETE FROM dbo.outbox WHERE lease = @P1

-- aged_announcements
DELETE FROM dbo.outbox WHERE [at] < @P1 AND lease <> N''

-- end_outbox_lease
UPDATE dbo.outbox_lease SET until = @P2, failures = @P3 WHERE lease = @P1

-- data_keys
SELECT id, wrapped, wrappedby, [state], created FROM dbo.datakeys ORDER BY created, id

-- current_data_key
SELECT id FROM dbo.datakeys WHERE [state] = N'current'

-- age_data_key
UPDATE dbo.datakeys SET [state] = N'old' WHERE id = @P1 AND [state] = N'current'

-- insert_data_key
INSERT INTO dbo.datakeys (id, wrapped, wrappedby, [state], created) VALUES (@P1, @P2, @P3, @P4, @P5)

-- note_plain_names
INSERT INTO dbo.datakeys (id, wrapped, wrappedby, [state], created)
SELECT N'plain', @P1, N'', N'old', @P2 WHERE EXISTS (SELECT 1 FROM dbo.PatientData)

-- retire_data_key
UPDATE dbo.datakeys SET [state] = N'retired' WHERE id = @P1 AND [state] = N'old'

-- rewrap_data_key
UPDATE dbo.datakeys SET wrapped = @P2, wrappedby = @P3 WHERE id = @P1 AND wrappedby COLLATE Latin1_General_BIN2 = @P4 COLLATE Latin1_General_BIN2

-- names_not_under
SELECT eid, FirstName, MiddleName, LastName FROM dbo.PatientData WHERE eid > @P1 AND (LEFT(FirstName, 23) COLLATE Latin1_General_BIN2 <> @P2 COLLATE Latin1_General_BIN2 OR LEFT(MiddleName, 23) COLLATE Latin1_General_BIN2 <> @P2 COLLATE Latin1_General_BIN2 OR LEFT(LastName, 23) COLLATE Latin1_General_BIN2 <> @P2 COLLATE Latin1_General_BIN2)
ORDER BY eid OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY

-- create_names
IF OBJECT_ID(N'tempdb..#names') IS NOT NULL DROP TABLE #names;
CREATE TABLE #names (eid int NOT NULL PRIMARY KEY, wasFirstName nvarchar(300), wasMiddleName nvarchar(300), wasLastName nvarchar(300), nowFirstName nvarchar(300), nowMiddleName nvarchar(300), nowLastName nvarchar(300))

-- replace_names
UPDATE p SET FirstName = s.nowFirstName, MiddleName = s.nowMiddleName, LastName = s.nowLastName
FROM dbo.PatientData AS p JOIN #names AS s ON s.eid = p.eid
WHERE CONCAT(p.FirstName, N'.') COLLATE Latin1_General_BIN2 = CONCAT(s.wasFirstName, N'.') COLLATE Latin1_General_BIN2 AND CONCAT(p.MiddleName, N'.') COLLATE Latin1_General_BIN2 = CONCAT(s.wasMiddleName, N'.') COLLATE Latin1_General_BIN2 AND CONCAT(p.LastName, N'.') COLLATE Latin1_General_BIN2 = CONCAT(s.wasLastName, N'.') COLLATE Latin1_General_BIN2

-- update_assignment
UPDATE dbo.assignments SET facilities = @P2, assignedby = @P3, [at] = @P4 WHERE caller = @P1

-- insert_assignment
INSERT INTO dbo.assignments (caller, facilities, assignedby, [at]) VALUES (@P1, @P2, @P3, @P4)

-- unassign
DELETE FROM dbo.assignments WHERE caller = @P1

-- assignments
SELECT caller, facilities, assignedby, [at] FROM dbo.assignments WHERE caller COLLATE Latin1_General_BIN2 > @P1 COLLATE Latin1_General_BIN2
ORDER BY caller COLLATE Latin1_General_BIN2 OFFSET 0 ROWS FETCH NEXT @P2 ROWS ONLY

-- assigned
SELECT facilities FROM dbo.assignments WHERE caller = @P1

-- lock_elevations
DECLARE @result int;
EXEC @result = sp_getapplock @Resource = N'hdai-elevations-dbo', @LockMode = N'Exclusive', @LockOwner = N'Transaction', @LockTimeout = 10000;
SELECT CAST(@result AS int) AS result

-- newest_elevation
SELECT id, caller, roles, reason, began, until, ended, events FROM dbo.elevations WHERE caller = @P1 AND ended IS NULL
ORDER BY began DESC OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY

-- elevations_since
SELECT CAST(COUNT_BIG(*) AS bigint) AS elevations FROM dbo.elevations WHERE caller = @P1 AND began > @P2

-- insert_elevation
INSERT INTO dbo.elevations (id, caller, roles, reason, words, began, until, events)
VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, 0)

-- end_elevation
UPDATE dbo.elevations SET ended = @P2
WHERE id = @P1 AND ended IS NULL AND until > @P2 AND (@P3 = N'' OR caller = @P3)

-- elevations
SELECT id, caller, roles, reason, began, until, ended, events FROM dbo.elevations ORDER BY seq DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY

-- elevation
SELECT id, caller, roles, reason, began, until, ended, events, words FROM dbo.elevations WHERE id = @P1

-- count_under_elevation
UPDATE dbo.elevations SET events = events + @P2 WHERE id = @P1

-- words_not_under
SELECT id, words FROM dbo.elevations WHERE id > @P1 AND LEFT(words, 23) COLLATE Latin1_General_BIN2 <> @P2 COLLATE Latin1_General_BIN2
ORDER BY id OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY

-- replace_words
UPDATE dbo.elevations SET words = @P3 WHERE id = @P1 AND words COLLATE Latin1_General_BIN2 = @P2 COLLATE Latin1_General_BIN2

-- audit_witness
SELECT CAST(1 AS int) AS committed FROM dbo.audit
WHERE seq > COALESCE((SELECT MAX(seq) FROM dbo.audit), 0) - 100000 AND operation = @P1

-- advance_chain_by
UPDATE dbo.audithead SET place = place + @P2 OUTPUT INSERTED.place, INSERTED.hash WHERE chain = @P1

-- create_events
IF OBJECT_ID(N'tempdb..#events') IS NOT NULL DROP TABLE #events;
CREATE TABLE #events (place bigint NOT NULL PRIMARY KEY, [at] nvarchar(40) NOT NULL, caller nvarchar(max) NOT NULL, roles nvarchar(max) NOT NULL, proof nvarchar(20) NOT NULL, correlation nvarchar(max) NOT NULL, origin nvarchar(100) NOT NULL, [action] nvarchar(50) NOT NULL, outcome nvarchar(20) NOT NULL, encounter int NULL, detail nvarchar(max) NOT NULL, hash nvarchar(64) NOT NULL)

-- insert_events
INSERT INTO dbo.audit ([at], caller, roles, proof, correlation, origin, [action], outcome, encounter, detail, operation, chain, place, hash)
SELECT CAST(e.[at] AS datetimeoffset(7)), e.caller, e.roles, e.proof, e.correlation, e.origin, e.[action], e.outcome, e.encounter, e.detail, @P1, @P2, e.place, e.hash FROM #events AS e
ORDER BY e.place OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY

-- patients_open
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM dbo.PatientData WHERE eid IN (
  SELECT eid FROM dbo.PatientData WHERE discharged IS NULL AND @P1 COLLATE Latin1_General_BIN2 LIKE CONCAT(N'%', facid, N'%') COLLATE Latin1_General_BIN2
  AND vdate >= @P2 AND vdate <= @P3 AND eid < @P4
  ORDER BY eid DESC OFFSET 0 ROWS FETCH NEXT @P5 ROWS ONLY)
ORDER BY eid DESC

-- patients_discharged
SELECT FirstName, MiddleName, LastName, eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM dbo.PatientData WHERE eid IN (
  SELECT eid FROM dbo.PatientData WHERE discharged IS NOT NULL AND @P1 COLLATE Latin1_General_BIN2 LIKE CONCAT(N'%', facid, N'%') COLLATE Latin1_General_BIN2
  AND vdate >= @P2 AND vdate <= @P3 AND eid < @P4
  ORDER BY eid DESC OFFSET 0 ROWS FETCH NEXT @P5 ROWS ONLY)
ORDER BY eid DESC

-- expected_discharges
SELECT y.facid, CAST(y.due AS bigint) AS due, CAST(COUNT_BIG(*) AS bigint) AS encounters
FROM (SELECT x.facid, CASE WHEN x.due IS NULL THEN CAST(-2 AS bigint) WHEN x.due < 0 THEN CAST(-1 AS bigint)
    WHEN x.due > @P2 THEN @P2 + 1 ELSE x.due END AS due
  FROM (SELECT facid, CAST(DATEDIFF(day, @P1, vdate) + predlengthofstay AS bigint) AS due
    FROM dbo.PatientData WHERE discharged IS NULL AND vdate <= @P1) AS x) AS y
GROUP BY y.facid, y.due ORDER BY y.facid, y.due

-- accuracy
SELECT facid, CAST(COUNT_BIG(*) AS bigint) AS stays, CAST(SUM(ABS(lengthofstay - predictedstaydays)) AS float) AS offdays,
  CAST(SUM(lengthofstay - predictedstaydays) AS float) AS longerdays,
  CAST(SUM(CASE WHEN ABS(lengthofstay - predictedstaydays) <= 1 THEN 1 ELSE 0 END) AS bigint) AS withinday,
  CAST(SUM(CASE WHEN predictedlow80 <= lengthofstay AND lengthofstay <= predictedhigh80 THEN 1 ELSE 0 END) AS bigint) AS inside80,
  CAST(SUM(CASE WHEN predictedlow90 <= lengthofstay AND lengthofstay <= predictedhigh90 THEN 1 ELSE 0 END) AS bigint) AS inside90
FROM dbo.PatientData WHERE predictedstaydays IS NOT NULL AND discharged >= @P1 AND discharged <= @P2
GROUP BY facid ORDER BY facid

-- newest_predictions
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay, prediction FROM dbo.PatientData WHERE predictedstaydays IS NOT NULL
ORDER BY vdate DESC, eid DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY

-- row_survey
SELECT x.admissionyear, x.facid, x.gender, CAST(COUNT_BIG(*) AS bigint) AS encounters, 
  CAST(SUM(CASE WHEN x.dialysisrenalendstage = 1 THEN 1 ELSE 0 END) AS bigint) AS condition1, 
  CAST(SUM(CASE WHEN x.asthma = 1 THEN 1 ELSE 0 END) AS bigint) AS condition2, 
  CAST(SUM(CASE WHEN x.irondef = 1 THEN 1 ELSE 0 END) AS bigint) AS condition3, 
  CAST(SUM(CASE WHEN x.pneum = 1 THEN 1 ELSE 0 END) AS bigint) AS condition4, 
  CAST(SUM(CASE WHEN x.substancedependence = 1 THEN 1 ELSE 0 END) AS bigint) AS condition5, 
  CAST(SUM(CASE WHEN x.psychologicaldisordermajor = 1 THEN 1 ELSE 0 END) AS bigint) AS condition6, 
  CAST(SUM(CASE WHEN x.depress = 1 THEN 1 ELSE 0 END) AS bigint) AS condition7, 
  CAST(SUM(CASE WHEN x.psychother = 1 THEN 1 ELSE 0 END) AS bigint) AS condition8, 
  CAST(SUM(CASE WHEN x.fibrosisandother = 1 THEN 1 ELSE 0 END) AS bigint) AS condition9, 
  CAST(SUM(CASE WHEN x.malnutrition = 1 THEN 1 ELSE 0 END) AS bigint) AS condition10, 
  CAST(SUM(CASE WHEN x.hemo = 1 THEN 1 ELSE 0 END) AS bigint) AS condition11
FROM (SELECT CAST(YEAR(vdate) AS int) AS admissionyear, facid, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo FROM dbo.PatientData) AS x
GROUP BY x.admissionyear, x.facid, x.gender

-- row_buckets
SELECT CAST(x.bucket AS int) AS bucket FROM (SELECT eid / 128 AS bucket FROM dbo.PatientData) AS x
GROUP BY x.bucket ORDER BY x.bucket

-- encounters_between
SELECT eid, vdate, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, discharged, facid, lengthofstay FROM dbo.PatientData WHERE eid >= @P1 AND eid <= @P2
ORDER BY eid OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY

-- script
SET XACT_ABORT ON;
SET NOCOUNT ON;
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO
BEGIN TRANSACTION;
GO
CREATE TABLE dbo.schema_migrations (
  number int NOT NULL CONSTRAINT PK_schema_migrations PRIMARY KEY,
  name nvarchar(100) NOT NULL,
  checksum nvarchar(64) NOT NULL, -- SHA-256 of the migration's statements without comments and line breaks
  applied datetimeoffset(7) NOT NULL
);
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.MetaData_Facilities (
  Id nvarchar(1) NOT NULL CONSTRAINT PK_MetaData_Facilities PRIMARY KEY CHECK (Id <> N''),
  Name nvarchar(200) NOT NULL,
  Capacity int NOT NULL
);

CREATE TABLE dbo.PatientData (
  FirstName nvarchar(50) NULL, -- First given name.
  MiddleName nvarchar(50) NULL, -- Further given names.
  LastName nvarchar(50) NULL, -- Family name.
  eid int NOT NULL CONSTRAINT PK_PatientData PRIMARY KEY CHECK (eid >= 1), -- Encounter id: a whole number from 1 to 2147483647.
  vdate date NOT NULL, -- Admission date.
  rcount nvarchar(5) NULL, -- Readmissions in the past 180 days: 0 to 4, then 5+.
  gender nvarchar(1) NOT NULL, -- Administrative gender: F, M, O or U.
  dialysisrenalendstage int NULL, -- End-stage renal failure on dialysis during the encounter.
  asthma int NULL, -- Asthma during the encounter.
  irondef int NULL, -- Iron deficiency during the encounter.
  pneum int NULL, -- Pneumonia during the encounter.
  substancedependence int NULL, -- Substance dependence during the encounter.
  psychologicaldisordermajor int NULL, -- Major psychological disorder during the encounter.
  depress int NULL, -- Depression during the encounter.
  psychother int NULL, -- Other psychological disorder during the encounter.
  fibrosisandother int NULL, -- Fibrosis and other during the encounter.
  malnutrition int NULL, -- Malnutrition during the encounter.
  hemo int NULL, -- Disorder of the haematopoietic system during the encounter.
  hematocrit float NULL, -- Average hematocrit during the encounter.
  neutrophils float NULL, -- Average neutrophils during the encounter, in the unit the blueprint codes.
  sodium float NULL, -- Average sodium during the encounter.
  glucose float NULL, -- Average glucose during the encounter.
  bloodureanitro float NULL, -- Average blood urea nitrogen during the encounter.
  creatinine float NULL, -- Average creatinine during the encounter.
  bmi float NULL, -- Average body mass index during the encounter.
  pulse int NULL, -- Average pulse during the encounter.
  respiration float NULL, -- Average respiration during the encounter.
  secondarydiagnosisnonicd9 int NULL, -- Number of secondary diagnoses that carry no ICD-9 code.
  discharged date NULL, -- Discharge date; empty while the patient is in the hospital.
  facid nvarchar(1) NOT NULL, -- Facility id, one letter of the facilities table.
  lengthofstay int NULL, -- Length of stay in whole days; empty while it is unknown.
  predlengthofstay int NULL, -- Predicted stay in whole days, at least 1.
  predictedstaydays float NULL, -- Predicted stay in days.
  predictedlow80 float NULL, -- Lower end of the 80 % interval, days.
  predictedhigh80 float NULL, -- Upper end of the 80 % interval, days.
  predictedlow90 float NULL, -- Lower end of the 90 % interval, days.
  predictedhigh90 float NULL, -- Upper end of the 90 % interval, days.
  modelversion nvarchar(100) NULL, -- The model that predicted.
  prediction nvarchar(max) NULL, -- The whole prediction with its reasons, JSON.
  importid nvarchar(32) NULL, -- The import that stored or last changed the row; NULL if it was admitted.
  CHECK (discharged >= vdate)
);

CREATE INDEX PatientData_open ON dbo.PatientData (facid, vdate) INCLUDE (predlengthofstay, discharged) WHERE discharged IS NULL;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.imports (
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

CREATE INDEX imports_file ON dbo.imports (filekey);

CREATE TABLE dbo.rejects (
  importid nvarchar(32) NOT NULL REFERENCES dbo.imports (id),
  line bigint NOT NULL,
  ordinal int NOT NULL, -- a row may break several rules
  columnname nvarchar(max) NOT NULL,
  [rule] nvarchar(max) NOT NULL,
  remedy nvarchar(max) NOT NULL,
  CONSTRAINT PK_rejects PRIMARY KEY (importid, line, ordinal) -- also the order in which they are read
);
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.models (
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
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.audit (
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
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
-- Leave this batch out where the server is not Microsoft's.
CREATE TRIGGER dbo.audit_is_append_only ON dbo.audit AFTER UPDATE, DELETE AS
BEGIN
  THROW 50001, N'the audit trail is append-only', 1;
END;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (1, N'0001-record', N'd11c22965314c30cea482b776dfa1164f162d1802542fe86b5a0cc81c3102502', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.MetaData_Facilities (Id, Name, Capacity) SELECT N'A', N'General Medicine 3 West', 75 WHERE NOT EXISTS (SELECT 1 FROM dbo.MetaData_Facilities WHERE Id = N'A');
INSERT INTO dbo.MetaData_Facilities (Id, Name, Capacity) SELECT N'B', N'Pulmonary 2 West', 80 WHERE NOT EXISTS (SELECT 1 FROM dbo.MetaData_Facilities WHERE Id = N'B');
INSERT INTO dbo.MetaData_Facilities (Id, Name, Capacity) SELECT N'C', N'General Medicine 3 South', 30 WHERE NOT EXISTS (SELECT 1 FROM dbo.MetaData_Facilities WHERE Id = N'C');
INSERT INTO dbo.MetaData_Facilities (Id, Name, Capacity) SELECT N'D', N'Geriatrics 2 East', 100 WHERE NOT EXISTS (SELECT 1 FROM dbo.MetaData_Facilities WHERE Id = N'D');
INSERT INTO dbo.MetaData_Facilities (Id, Name, Capacity) SELECT N'E', N'Behavioral 1 East', 95 WHERE NOT EXISTS (SELECT 1 FROM dbo.MetaData_Facilities WHERE Id = N'E');
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (2, N'0002-facilities', N'eb5d69f9f7a16cc7d41d7f21fba4beee09f8cce155f5041990e5afa520a9de60', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.survey (
  one int NOT NULL CONSTRAINT PK_survey PRIMARY KEY CHECK (one = 1), -- there is one
  found datetimeoffset(7) NOT NULL,
  firstweek date NULL, -- Monday of the first week that was looked at
  lastweek date NULL,
  charted bigint NOT NULL,
  uncharted bigint NOT NULL,
  CHECK (firstweek <= lastweek)
);

CREATE TABLE dbo.findings (
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
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (3, N'0003-anomalies', N'd314eafca5ae9c9bcd046a3c9aab5957d25e8804489c568ed045830e3dc271ef', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE VIEW dbo.EncountersDeidentified AS
SELECT CAST(YEAR(vdate) AS int) AS admissionyear, rcount, gender, dialysisrenalendstage, asthma, irondef, pneum, substancedependence, psychologicaldisordermajor, depress, psychother, fibrosisandother, malnutrition, hemo, hematocrit, neutrophils, sodium, glucose, bloodureanitro, creatinine, bmi, pulse, respiration, secondarydiagnosisnonicd9, facid, lengthofstay, predlengthofstay
FROM dbo.PatientData;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (4, N'0004-deidentified', N'57f34877f0185ca1a97d501425f6e56d225f0755c83f92eb29ba12bc6fa6373d', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
ALTER TABLE dbo.audit ADD origin nvarchar(100) NOT NULL CONSTRAINT DF_audit_origin DEFAULT N''; -- address that the call came from
ALTER TABLE dbo.audit ADD chain int NULL; -- NULL in events from before the chains
ALTER TABLE dbo.audit ADD place bigint NULL; -- number in the chain, from 1
ALTER TABLE dbo.audit ADD hash nvarchar(64) NULL; -- SHA-256 of the event, its place and the hash before it

CREATE TABLE dbo.audithead (
  chain int NOT NULL CONSTRAINT PK_audithead PRIMARY KEY,
  place bigint NOT NULL, -- of the newest event
  hash nvarchar(64) NOT NULL
);

INSERT INTO dbo.audithead (chain, place, hash)
VALUES (0, 0, N''), (1, 0, N''), (2, 0, N''), (3, 0, N''), (4, 0, N''), (5, 0, N''), (6, 0, N''), (7, 0, N'');
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE UNIQUE INDEX audit_chain ON dbo.audit (chain, place) WHERE place IS NOT NULL;
CREATE INDEX audit_encounter ON dbo.audit (encounter) WHERE encounter IS NOT NULL;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (5, N'0005-audit-chain', N'7954d6192d8fe7ff1e22d94a2b5c9737f20a0072a4eefa8edd7134e9428f12a0', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.outbox (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_outbox PRIMARY KEY, -- the order in which they are published
  id nvarchar(64) NOT NULL CONSTRAINT UQ_outbox_id UNIQUE,
  fact nvarchar(50) NOT NULL,
  subject nvarchar(200) NOT NULL, -- the id of what the fact is about
  [at] datetimeoffset(7) NOT NULL,
  lease nvarchar(64) NOT NULL -- the newest lease that took it; empty before the first
);

CREATE INDEX outbox_leased ON dbo.outbox (lease);

CREATE TABLE dbo.outbox_lease (
  one int NOT NULL CONSTRAINT PK_outbox_lease PRIMARY KEY CHECK (one = 1), -- there is one
  lease nvarchar(64) NOT NULL,
  until datetimeoffset(7) NOT NULL,
  failures int NOT NULL -- attempts in a row that failed
);

INSERT INTO dbo.outbox_lease (one, lease, until, failures) VALUES (1, N'', CAST('2000-01-01T00:00:00+00:00' AS datetimeoffset(7)), 0);
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (6, N'0006-outbox', N'2e4f5f0ca5ef5172d0713435868273497ecfc724a5ef51c8cb6ef6710bb91913', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
ALTER TABLE dbo.imports ADD firstline bigint NOT NULL CONSTRAINT DF_imports_firstline DEFAULT 0; -- of the file's data rows, 0: none or not known
ALTER TABLE dbo.imports ADD lastline bigint NOT NULL CONSTRAINT DF_imports_lastline DEFAULT 0;

CREATE TABLE dbo.importparts (
  importid nvarchar(32) NOT NULL REFERENCES dbo.imports (id),
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
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (7, N'0007-import-parts', N'837a211cb2d77c46b8082860ac48e6e96c1528fea1df638acaff95ea6638a6c7', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.datakeys (
  id nvarchar(32) NOT NULL CONSTRAINT PK_datakeys PRIMARY KEY,
  wrapped varbinary(max) NOT NULL,
  wrappedby nvarchar(400) NOT NULL, -- the key that wraps it, with its version
  [state] nvarchar(10) NOT NULL CHECK ([state] IN (N'current', N'old', N'retired')),
  created datetimeoffset(7) NOT NULL
);

CREATE UNIQUE INDEX datakeys_current ON dbo.datakeys ([state]) WHERE [state] = N'current'; -- there is one
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
ALTER TABLE dbo.PatientData ALTER COLUMN FirstName nvarchar(300) NULL;
ALTER TABLE dbo.PatientData ALTER COLUMN MiddleName nvarchar(300) NULL;
ALTER TABLE dbo.PatientData ALTER COLUMN LastName nvarchar(300) NULL;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (8, N'0008-datakeys', N'21b55e4a9ea9edc69fc351b30fe49f58aa5264546a05711672a48acdab0d9a68', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.assignments (
  caller nvarchar(128) NOT NULL CONSTRAINT PK_assignments PRIMARY KEY, -- Entra object id, lower case
  facilities nvarchar(100) NOT NULL, -- their letters in order; * for all
  assignedby nvarchar(128) NOT NULL,
  [at] datetimeoffset(7) NOT NULL
);

CREATE TABLE dbo.elevations (
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

CREATE INDEX elevations_caller ON dbo.elevations (caller, began);
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (9, N'0009-access', N'439e78cba773d3ba95b69528cb3d4c3956c9e1e46b59a3b7fdc9e96a54115065', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE INDEX PatientData_predicted ON dbo.PatientData (vdate) INCLUDE (predictedstaydays) WHERE predictedstaydays IS NOT NULL;
CREATE INDEX PatientData_judged ON dbo.PatientData (discharged, facid) INCLUDE (lengthofstay, predictedstaydays,
  predictedlow80, predictedhigh80, predictedlow90, predictedhigh90) WHERE predictedstaydays IS NOT NULL;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (10, N'0010-reads', N'234e1ce21b92310c5deee7448983571652b28e585bef939dc7613d66a2e07d0f', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE TABLE dbo.auditrecord (
  one int NOT NULL CONSTRAINT PK_auditrecord PRIMARY KEY CHECK (one = 1), -- there is one
  id nvarchar(36) NOT NULL, -- the record's, in its checkpoints
  retentionyears int NOT NULL CHECK (retentionyears >= 6 AND retentionyears <= 30), -- 45 CFR 164.316(b)(2)(i) asks for six
  newest bigint NOT NULL, -- number of the newest checkpoint; 0 for none
  newestname nvarchar(400) NOT NULL,
  newesttext nvarchar(max) NOT NULL
);

INSERT INTO dbo.auditrecord (one, id, retentionyears, newest, newestname, newesttext)
VALUES (1, LOWER(CAST(NEWID() AS nvarchar(36))), 7, 0, N'', N'');

CREATE TABLE dbo.auditanchors (
  seq bigint IDENTITY(1,1) NOT NULL CONSTRAINT PK_auditanchors PRIMARY KEY,
  chain int NOT NULL,
  place bigint NOT NULL, -- of the last event that was removed
  hash nvarchar(64) NOT NULL, -- its hash
  checkpointname nvarchar(400) NOT NULL -- the signed checkpoint that holds both
);

ALTER TABLE dbo.audit ALTER COLUMN caller nvarchar(400) NOT NULL;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
CREATE INDEX audit_caller ON dbo.audit (caller, seq);
CREATE INDEX audit_action ON dbo.audit ([action], seq);
CREATE INDEX audit_at ON dbo.audit ([at]);
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
-- Leave this batch out where the server is not Microsoft's.
DROP TRIGGER dbo.audit_is_append_only;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
-- Leave this batch out where the server is not Microsoft's.
CREATE TRIGGER dbo.audit_is_never_changed ON dbo.audit AFTER UPDATE AS
BEGIN
  THROW 50001, N'the audit trail is append-only', 1;
END;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
-- Leave this batch out where the server is not Microsoft's.
CREATE TRIGGER dbo.audit_is_kept ON dbo.audit AFTER DELETE AS
BEGIN
  IF EXISTS (SELECT 1 FROM deleted AS d WHERE NOT EXISTS (SELECT 1 FROM dbo.auditanchors AS a CROSS JOIN dbo.auditrecord AS r
    WHERE a.chain = d.chain AND a.place >= d.place AND DATEDIFF(day, d.[at], SYSDATETIMEOFFSET()) > r.retentionyears * 365 + r.retentionyears / 4 + 1))
  BEGIN
    THROW 50001, N'an audit event is kept until its time is over', 1;
  END;
END;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
-- Leave this batch out where the server is not Microsoft's.
CREATE TRIGGER dbo.anchor_is_append_only ON dbo.auditanchors AFTER UPDATE, DELETE AS
BEGIN
  THROW 50001, N'the audit trail is append-only', 1;
END;
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
INSERT INTO dbo.schema_migrations (number, name, checksum, applied)
VALUES (11, N'0011-audit-retention', N'2628b7d055f36be7669ac14f5dc639e3fb816a74df3c49c4d8197f9b07410414', SYSDATETIMEOFFSET());
GO
IF @@TRANCOUNT = 0 SET NOEXEC ON;
GO
COMMIT TRANSACTION;
GO
SET NOEXEC OFF;
GO

