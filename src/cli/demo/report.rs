//! What the demo tells at the end: tables for a person, or one JSON object.

use std::path::Path;

use chrono::{DateTime, NaiveDate};
use serde_json::{Value, json};

use super::Format;
use crate::cli::thousands;
use crate::error::{Error, Result};

/// One answered call.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) facility: String,
    pub(super) body: Value,
}

impl Answered {
    pub(super) fn went_well(&self) -> bool {
        matches!(self.status, 200 | 201)
    }
}

/// All that happened. A single step leaves the rest null or empty.
#[derive(Default)]
pub(super) struct Story {
    pub(super) import: Value,
    pub(super) imported: Value,
    pub(super) model: Value,
    pub(super) admitted: Vec<Answered>,
    pub(super) after_admissions: Value,
    pub(super) discharged: Vec<Answered>,
    pub(super) peak_resident_bytes: Option<u64>,
}

impl Story {
    pub(super) fn all_went_well(&self) -> bool {
        self.admitted.iter().chain(&self.discharged).all(Answered::went_well)
    }

    /// Holds the numbers of the blueprint's demo: all rows in, ten more after the admissions, six discharged.
    pub(super) fn check(&self, rows: u64) -> Result<()> {
        let wanted = [
            ("imported", &self.imported["encounters"], rows),
            ("stored after the admissions", &self.after_admissions["encounters"], rows + self.admitted.len() as u64),
        ];
        for (what, found, expected) in wanted {
            if found.as_u64() != Some(expected) {
                return Err(Error::internal(format!("{what}: expected {expected} encounters, the record says {found}")));
            }
        }
        if !self.all_went_well() {
            return Err(Error::internal("a call of the demo was refused: the table shows which"));
        }
        Ok(())
    }

    pub(super) fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Json => say!("{}", self.json()),
            Format::Table => self.print_tables(),
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let discharged = self.discharged.iter().filter(|answer| answer.went_well()).count();
        json!({
            "imported": self.imported["encounters"],
            "stored_after_admissions": self.after_admissions["encounters"],
            "discharged": discharged,
            "import_rows_per_second": self.import_seconds().map(|seconds| (self.rows_read() as f64 / seconds).round()),
            "peak_resident_bytes": self.peak_resident_bytes,
            "admissions": self.admitted.iter().map(|answer| &answer.body).collect::<Vec<_>>(),
            "discharges": self.discharged.iter().map(|answer| &answer.body).collect::<Vec<_>>(),
            "model": { "version": self.model["version"], "r2": self.metric("r2"), "mae": self.metric("mae"), "rows": self.model["rows"] },
        })
    }

    fn rows_read(&self) -> u64 {
        self.import["rows"]["read"].as_u64().unwrap_or(0)
    }

    fn import_seconds(&self) -> Option<f64> {
        let time = |name: &str| DateTime::parse_from_rfc3339(self.import[name].as_str()?).ok();
        let milliseconds = (time("finished")? - time("started")?).num_milliseconds().max(1);
        Some(milliseconds as f64 / 1_000.0)
    }

    /// A holdout metric of the champion.
    fn metric(&self, name: &str) -> Option<f64> {
        self.model["report"]["evaluation"][name].as_f64()
    }

    fn print_tables(&self) {
        if !self.admitted.is_empty() {
            say!("\nAdmitted");
            let head =
                ["encounter", "patient", "facility", "admitted", "predicted", "80 % interval", "leaves about", "main reasons"];
            print_table(&head, &self.admitted.iter().map(admission_row).collect::<Vec<_>>());
        }
        if !self.discharged.is_empty() {
            say!("\nDischarged");
            let head = ["encounter", "patient", "discharged", "stayed", "predicted", "off by"];
            print_table(&head, &self.discharged.iter().map(discharge_row).collect::<Vec<_>>());
        }
        if !self.model.is_null() {
            let of = |name: &str| self.metric(name).map_or("?".to_owned(), |value| format!("{value:.3}"));
            say!("\nModel {}", self.model["version"].as_str().unwrap_or("?"));
            say!("  holdout R² {}, mean absolute error {} days, within a day {}", of("r2"), of("mae"), of("within_one_day"));
            say!(
                "  trained on {} synthetic encounters; real hospitals are far harder to predict",
                thousands(self.model["rows"].as_u64().unwrap_or(0))
            );
        }
        if let Some(seconds) = self.import_seconds() {
            let rows = self.rows_read();
            say!("\nImport");
            say!("  {} rows in {seconds:.1} s, {} rows/s", thousands(rows), thousands((rows as f64 / seconds) as u64));
            if let Some(bytes) = self.peak_resident_bytes {
                say!("  handler's peak memory, training included: {} MB", bytes / 1_000_000);
            }
        }
        if !self.after_admissions.is_null() {
            let count = |totals: &Value| thousands(totals["encounters"].as_u64().unwrap_or(0));
            say!(
                "\nEncounters: {} -> {} -> {} discharged",
                count(&self.imported),
                count(&self.after_admissions),
                self.discharged.len()
            );
        }
    }
}

fn admission_row(answer: &Answered) -> Vec<String> {
    let body = &answer.body;
    if !answer.went_well() {
        return refused_row(answer);
    }
    let prediction = &body["prediction"];
    let days = |value: &Value| value.as_f64().map_or("-".to_owned(), |days| format!("{days:.1}"));
    let predicted = |text: String| if prediction.is_null() { "no model yet".to_owned() } else { text };
    let reasons = prediction["contributions"].as_array().into_iter().flatten().take(2).map(|contribution| {
        format!("{} {:+.1}", contribution["factor"].as_str().unwrap_or("?"), contribution["days"].as_f64().unwrap_or(0.0))
    });
    vec![
        body["encounterId"].to_string(),
        text(&body["name"]),
        answer.facility.clone(),
        date(&body["admittedOn"]),
        predicted(format!("{} days", days(&prediction["days"]))),
        predicted(format!("{} to {}", days(&prediction["interval80"]["low"]), days(&prediction["interval80"]["high"]))),
        date(&prediction["predictedDischarge"]),
        reasons.collect::<Vec<_>>().join(", "),
    ]
}

fn discharge_row(answer: &Answered) -> Vec<String> {
    let body = &answer.body;
    if !answer.went_well() {
        return refused_row(answer);
    }
    let predicted = body["prediction"]["days"].as_f64();
    let off = body["predictionErrorDays"].as_f64();
    vec![
        body["encounterId"].to_string(),
        text(&body["name"]),
        date(&body["dischargedOn"]),
        format!("{} {}", body["daysStayed"], if body["daysStayed"] == 1 { "day" } else { "days" }),
        predicted.map_or("-".to_owned(), |days| format!("{days:.1} days")),
        off.map_or("-".to_owned(), |days| format!("{days:+.1}")),
    ]
}

fn refused_row(answer: &Answered) -> Vec<String> {
    vec![format!("refused with {}: {}", answer.status, text(&answer.body["detail"]))]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn date(value: &Value) -> String {
    let text = text(value);
    match text.get(..10).map(|day| NaiveDate::parse_from_str(day, "%Y-%m-%d")) {
        Some(Ok(day)) => day.format("%a %d %b").to_string(),
        _ => text,
    }
}

fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() == head.len()).map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    say!("{}", line(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()));
    say!("  {}", "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
    for row in rows {
        say!("{}", line(row));
    }
}

/// What to try next.
pub(super) fn print_next(folder: &Option<&Path>) {
    say!("\nNext");
    match folder {
        Some(folder) => {
            let folder = folder.display();
            say!("  hdai host --folder {folder}                  go on with this record on http://127.0.0.1:7071");
            say!("  hdai train --folder {folder} --report        train again and read the whole report");
        }
        None => say!("  hdai demo --folder my-hospital               the same, and keep everything in my-hospital"),
    }
    say!("  hdai generate --rows 1000 --out more.csv     make your own file, then: hdai import more.csv --train");
    say!("  hdai schema                                  every column, its unit and its limits");
}
