//! The T-SQL as text: every statement is in a golden file, parses, and says nothing that a server of the three refuses.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use health_data_ai::schema;
use health_data_ai::store::azure_sql::{roles, script, statements};
use sqlparser::ast::{Expr, SelectItem, SetExpr, Statement};
use sqlparser::dialect::MsSqlDialect;
use sqlparser::parser::Parser;

#[track_caller]
fn golden(path: &str, text: &str) {
    if std::env::var_os("UPDATE").as_deref() == Some(OsStr::new("1")) {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == text, "{path} differs from the code; run with UPDATE=1 and review the change");
}

#[test]
fn every_statement_is_in_the_golden_file() {
    let mut text = String::new();
    for (name, statement) in statements("dbo") {
        text.push_str(&format!("-- {name}\n{}\n\n", statement.trim_end()));
    }
    golden("tests/golden/azure_sql.sql", &text);
}

#[test]
fn the_roles_are_in_their_script() {
    golden("infra/sql/roles.sql", &roles("dbo"));
}

/// The batches of a script.
pub(super) fn batches(script: &str) -> Vec<String> {
    let mut batches = vec![String::new()];
    for line in script.lines() {
        match line.trim() {
            "GO" => batches.push(String::new()),
            _ => batches.last_mut().unwrap().extend([line, "\n"]),
        }
    }
    batches.retain(|batch| !batch.trim().is_empty());
    batches
}

/// Every text on its own: statements, and the batches of the scripts.
fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, text) in statements("dbo").into_iter().chain([("roles", roles("dbo"))]) {
        for (place, batch) in batches(&text).into_iter().enumerate() {
            texts.push((format!("{name} {place}"), batch));
        }
    }
    texts
}

/// How the texts begin that the parser cannot read, and why. The test server reads them all but the last ones itself.
const UNREADABLE: [(&str, &str); 5] = [
    ("ALTER COLUMN FirstName", "a column made wider"),
    ("ALTER COLUMN caller", "a column of any length given one"),
    ("DECLARE @result int;", "EXEC with a result"),
    ("GRANT VIEW DEFINITION", "a right of the server's alone"),
    ("FROM EXTERNAL PROVIDER", "an Entra user"),
];

#[test]
fn every_statement_parses() {
    let mut unreadable = BTreeSet::new();
    let mut excused = BTreeSet::new();
    for (name, text) in texts() {
        // The parser knows no variables of sqlcmd, and of FETCH a number alone.
        let text = text.replace("$(", "(").replace("FETCH NEXT @P", "FETCH NEXT 1");
        let Err(error) = Parser::parse_sql(&MsSqlDialect {}, &text) else { continue };
        match UNREADABLE.iter().find(|(start, _)| text.contains(start)) {
            Some((start, _)) => drop(excused.insert(*start)),
            None => drop(unreadable.insert(format!("{name}: {error}\n{text}"))),
        }
    }
    assert!(unreadable.is_empty(), "{}", unreadable.into_iter().collect::<Vec<_>>().join("\n"));
    assert_eq!(excused.len(), UNREADABLE.len(), "the parser has learned one of them: {excused:?}");
}

/// What no statement may hold: refused by the open server, or of no reliable meaning there.
const REFUSED: [&str; 38] = [
    "MERGE",
    "CREATE OR ALTER",
    "WAITFOR",
    "##",
    "SERIALIZABLE",
    "COLUMNSTORE",
    "ROWVERSION",
    "TIMESTAMP",
    "OPENROWSET",
    "BINARY_CHECKSUM",
    "APPROX_COUNT_DISTINCT",
    "GENERATE_SERIES",
    "PERCENTILE_CONT",
    "BIN2_UTF8",
    "SYSTEM_VERSIONING",
    "ALTER DATABASE",
    "SP_SPACEUSED",
    "SYS.DM_",
    "SP_EXECUTE_EXTERNAL_SCRIPT",
    "FORMAT(",
    "SECURITY POLICY",
    "MASKED",
    "CHANGE_TRACKING",
    "EXTERNAL DATA SOURCE",
    "DATABASE SCOPED",
    "TOP ",
    "TOP(",
    "DECIMAL",
    "NUMERIC",
    "MONEY",
    "UPDLOCK",
    "HOLDLOCK",
    "TABLOCK",
    "READPAST",
    "NOLOCK",
    "DATEADD",
    "DATETIME2",
    " TIME(",
];

#[test]
fn no_statement_says_what_a_server_refuses() {
    for (name, text) in statements("dbo") {
        let upper = text.to_ascii_uppercase();
        for refused in REFUSED {
            assert!(!upper.contains(refused), "{name} says {refused}");
        }
        let count = |word: &str| upper.matches(word).count();
        // Instants of less than full scale are stored wrongly by the driver's bulk load.
        assert_eq!(count("DATETIMEOFFSET"), count("DATETIMEOFFSET(7)") + count("SYSDATETIMEOFFSET()"), "{name}");
        // FETCH 0 is an error, and another number in the text would be a value.
        assert_eq!(count("FETCH NEXT"), count("FETCH NEXT @P") + count("FETCH NEXT 1 ROWS"), "{name}");
    }
}

/// The driver reads a column by the type that the server says it has, and servers differ in what they make of an expression.
#[test]
fn every_computed_column_has_a_type_and_a_name() {
    let mut computed = 0;
    for (name, text) in texts() {
        let Ok(parsed) = Parser::parse_sql(&MsSqlDialect {}, &text.replace("FETCH NEXT @P", "FETCH NEXT 1")) else { continue };
        for statement in parsed {
            let Statement::Query(query) = statement else { continue };
            let SetExpr::Select(select) = *query.body else { panic!("{name}: no plain SELECT") };
            for item in select.projection {
                match item {
                    SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                    | SelectItem::ExprWithAlias { expr: Expr::CompoundIdentifier(_), .. } => {}
                    SelectItem::ExprWithAlias { expr: Expr::Cast { .. }, .. } => computed += 1,
                    other => panic!("{name}: {other}"),
                }
            }
        }
    }
    assert!(computed > 40, "the test has stopped seeing anything: {computed}");
}

#[test]
fn the_schema_keeps_the_blueprints_columns_and_types() {
    let text = script("dbo");
    let table = text.split("CREATE TABLE dbo.PatientData (").nth(1).unwrap().split("\n);").next().unwrap();
    let types: Vec<(&str, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    for column in schema::csv_columns() {
        assert!(types.iter().any(|(name, _)| *name == column.db_column), "{}", column.db_column);
    }
    for expected in [
        ("FirstName", "nvarchar(50)"),
        ("MiddleName", "nvarchar(50)"),
        ("LastName", "nvarchar(50)"),
        ("eid", "int"),
        ("vdate", "date"),
        ("rcount", "nvarchar(5)"),
        ("gender", "nvarchar(1)"),
        ("asthma", "int"),
        ("hematocrit", "float"),
        ("pulse", "int"),
        ("respiration", "float"),
        ("secondarydiagnosisnonicd9", "int"),
        ("discharged", "date"),
        ("facid", "nvarchar(1)"),
        ("lengthofstay", "int"),
        ("predlengthofstay", "int"),
    ] {
        assert!(types.contains(&expected), "{expected:?}");
    }
}

#[test]
fn a_statement_differs_between_schemas_in_the_schemas_name_alone() {
    for ((name, one), (_, other)) in statements("first_one").into_iter().zip(statements("dbo")) {
        let renamed = one.replace("first_one", "dbo");
        let made = "GO\nIF SCHEMA_ID(N'dbo') IS NULL EXEC(N'CREATE SCHEMA dbo');\n";
        assert_eq!(renamed.contains(made), name == "script");
        assert_eq!(renamed.replace(made, ""), other, "{name}");
    }
}

#[test]
fn nobody_but_the_app_reads_patients_or_writes_the_trail() {
    let text = roles("dbo");
    let granted = |right: &str, table: &str| {
        let of = |line: &&str| line.starts_with("GRANT") && line.contains(right) && line.contains(&format!("dbo.{table} "));
        text.lines().filter(of).count()
    };
    assert_eq!((granted("SELECT", "PatientData"), granted("INSERT", "audit")), (1, 3), "the app's, the auditor's, the archivist's");
    assert_eq!((granted("UPDATE", "audit"), granted("DELETE", "audit"), granted("DELETE", "PatientData")), (0, 1, 0));
    assert!(text.contains("GRANT SELECT, INSERT, DELETE ON dbo.audit TO hdai_archivist;"));
    for role in ["app", "auditor"] {
        assert!(text.contains(&format!("DENY UPDATE, DELETE ON dbo.audit TO hdai_{role};")));
        assert!(text.contains(&format!("DENY INSERT, UPDATE, DELETE ON dbo.auditanchors TO hdai_{role};")));
    }
    assert_eq!(text.matches("DENY SELECT ON dbo.PatientData").count(), 4);
    assert_eq!(text.matches("FROM EXTERNAL PROVIDER").count(), 5);
    assert!(!text.contains("TO public;") && !text.contains("db_datareader") && !text.contains("db_owner"));
}
