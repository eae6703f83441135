//! Experiments through the command line: the committed files on generated encounters, and what a data scientist's mistakes meet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::support::{generate, hdai};

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments").join(name)
}

fn experiment(folder: &Path, args: &[&str]) -> Output {
    hdai(folder).arg("experiment").args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn ran(folder: &Path, file: &Path, data: Option<&Path>) -> Value {
    let mut args = vec!["run", text(file), "--format", "json"];
    args.extend(data.iter().flat_map(|data| ["--data", text(data)]));
    let output = experiment(folder, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit 1 and one line of error.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = experiment(folder, args);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty() && message.starts_with("hdai: ") && message.lines().count() == 1, "{message}");
    message
}

fn results(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder.join("experiments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The CSV with the readmission count made to follow two other columns.
fn planted(folder: &Path, csv: &Path) -> PathBuf {
    let content = fs::read_to_string(csv).unwrap();
    let mut lines = content.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| head.iter().position(|header| *header == name).unwrap();
    let (readmissions, pulse, hematocrit) = (column("rcount"), column("pulse"), column("hematocrit"));
    let mut out = head.join(",");
    for line in lines {
        let mut cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), head.len());
        let number = |column: usize| cells[column].parse::<f64>().unwrap();
        let class = match (number(pulse) > 75.0, number(hematocrit) > 12.0) {
            (true, _) => "5+",
            (false, true) => "0",
            (false, false) => "2",
        };
        cells[readmissions] = class;
        out.push('\n');
        out.push_str(&cells.join(","));
    }
    let path = folder.join("planted.csv");
    fs::write(&path, out).unwrap();
    path
}

#[test]
fn length_of_stay_runs_on_the_record_as_on_its_file_and_beats_the_mean() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let csv = generate(folder, 2_000, 11);
    assert!(hdai(folder).arg("import").arg(&csv).output().unwrap().status.success());
    for name in ["length-of-stay.toml", "length-of-stay-linear.toml"] {
        let report = ran(folder, &committed(name), None);
        assert_eq!(report["beats_baseline"], true, "{report}");
        assert_eq!((&report["rows"], &report["target"]), (&2_000.into(), &"stay_days".into()));
        assert!(report["metrics"]["r2"]["mean"].as_f64().unwrap() > 0.85, "{report}");
    }
    let from_record = results(folder);
    assert_eq!(from_record.len(), 2);
    for name in ["length-of-stay.toml", "length-of-stay-linear.toml"] {
        ran(folder, &committed(name), Some(&csv));
    }
    assert_eq!(results(folder), from_record, "the same encounters and seed give the same bytes");

    let audit = hdai(folder).args(["experiment", "compare"]).output().unwrap();
    let table = String::from_utf8(audit.stdout).unwrap();
    let place = |what: &str| table.find(what).unwrap_or_else(|| panic!("no {what:?} in {table}"));
    assert_eq!(table.matches("Target ").count(), 1);
    assert!(place("  length-of-stay  ") < place("  length-of-stay-linear  "), "best first: {table}");

    let db = rusqlite::Connection::open(folder.join("hdai.db")).unwrap();
    let events = |like: &str| -> i64 {
        db.query_row("SELECT count(*) FROM audit WHERE action = 'train' AND detail LIKE ?1", [like], |row| row.get(0)).unwrap()
    };
    assert_eq!(events("experiment length-of-stay-%"), 4);
}

#[test]
fn readmissions_are_found_where_they_can_be_and_the_baseline_stands_where_they_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let csv = generate(folder, 2_000, 12);
    let file = committed("readmissions.toml");
    // The generator draws readmissions independently of all that is known at admission (docs/synthetic-model.md).
    let report = ran(folder, &file, Some(&csv));
    assert_eq!(report["beats_baseline"], false, "{report}");
    assert!(report["verdict"].as_str().unwrap().contains("not below"), "{report}");

    let report = ran(folder, &file, Some(&planted(folder, &csv)));
    assert_eq!(report["beats_baseline"], true, "{report}");
    let figure = |of: &str, metric: &str| report[of][metric]["mean"].as_f64().unwrap();
    for metric in ["accuracy", "balanced_accuracy", "macro_f1"] {
        assert!(figure("metrics", metric) > figure("baseline", metric) + 0.2, "{metric}: {report}");
    }
    assert!(figure("metrics", "log_loss") < figure("baseline", "log_loss"));
    assert_eq!(report["classes"], serde_json::json!(["0", "1", "2", "3", "4", "5+"]));
    let confusion: u64 =
        report["confusion"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(confusion, 2_000);
    assert_eq!(results(folder).len(), 1, "the same file's result was replaced");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for entry in fs::read_dir(folder.join("experiments")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[test]
fn targets_are_never_ranked_together() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let csv = generate(folder, 300, 13);
    let (stay, class) = (committed("length-of-stay-linear.toml"), committed("readmissions.toml"));
    let message = refused(folder, &["compare"]);
    assert!(message.contains("no experiment has run yet"), "{message}");
    ran(folder, &stay, Some(&csv));
    let message = refused(folder, &["compare", text(&stay), text(&class)]);
    assert!(message.contains("readmissions has not run"), "{message}");
    ran(folder, &class, Some(&generate(folder, 300, 14)));
    let output = experiment(folder, &["compare"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.matches("Target ").count(), 2, "{table}");
    assert!(table.contains("Target stay_days, by rmse") && table.contains("as class, by log_loss"), "{table}");
    let output = experiment(folder, &["compare", "--format", "json", text(&class)]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["name"], "readmissions");

    fs::write(folder.join("experiments/foreign.json"), "{}").unwrap();
    let message = refused(folder, &["compare"]);
    assert!(message.contains("foreign.json") && message.contains("run its experiment again"), "{message}");
}

#[test]
fn results_on_other_encounters_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (stay, again) = (committed("length-of-stay-linear.toml"), folder.join("again.toml"));
    let other = fs::read_to_string(&stay).unwrap().replace("\"length-of-stay-linear\"", "\"again\"");
    fs::write(&again, other).unwrap();
    ran(folder, &stay, Some(&generate(folder, 300, 15)));
    let args = ["run", text(&stay), "--data"];
    let output = experiment(folder, &[&args[..], &[text(&generate(folder, 300, 16))]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("was replaced"));
    ran(folder, &again, Some(&generate(folder, 300, 15)));
    let table = String::from_utf8(experiment(folder, &["compare"]).stdout).unwrap();
    assert!(table.contains("ran on different encounters"), "{table}");
}

#[test]
fn a_mistake_ends_with_exit_1_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("mine.toml");
    let good = fs::read_to_string(committed("readmissions.toml")).unwrap();
    for (from, to, expected) in [
        ("folds = 5", "flods = 5", "unknown field `flods`"),
        ("\"facility\"]", "\"ward\"]", "there is no input \"ward\""),
        ("\"facility\"]", "\"rcount\"]", "rcount is the target, so it cannot be an input"),
        ("\"facility\"]", "\"lengthofstay\"]", "can never be an input"),
        ("\"facility\"]", "\"discharged\"]", "can never be an input"),
        ("boosted_trees", "deep_learning", "unknown variant `deep_learning`"),
        ("missing_indicator", "logarithm", "unknown variant `logarithm`"),
        ("boosted_trees", "product", "does not belong to this kind"),
    ] {
        assert!(good.contains(from));
        fs::write(&file, good.replace(from, to)).unwrap();
        let message = refused(folder, &["run", text(&file)]);
        assert!(message.contains(expected) && message.contains("mine.toml"), "{message}");
    }
    assert!(refused(folder, &["run", "nowhere.toml"]).contains("nowhere.toml cannot be read"));
    let message = refused(folder, &["run", text(&committed("readmissions.toml"))]);
    assert!(message.contains("5 folds need at least 10 encounters"), "the record is empty: {message}");
    let message = refused(folder, &["run", text(&committed("readmissions.toml")), "--data", text(&generate(folder, 4, 1))]);
    assert!(message.contains("lower `folds`"), "{message}");
    assert!(!folder.join("experiments").exists(), "nothing is kept of what did not run");
}
