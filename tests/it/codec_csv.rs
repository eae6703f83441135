//! CSV in and out, and the synthetic encounters that the repository ships in it.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions marked as tests as such, not what they call")]

mod properties;

use std::io::{self, Read};
use std::path::PathBuf;

use chrono::NaiveDate;
use health_data_ai::codec::csv::{REJECTS_PER_ROW_MAX, ROW_BYTES_MAX, Reader, Rows, Writer, read_facilities, write_facilities};
use health_data_ai::domain::encounter::STAY_DAYS_MAX;
use health_data_ai::domain::import::Reject;
use health_data_ai::domain::{Clinical, Encounter, FacilityId, Gender, PersonName, Phi, facility};
use health_data_ai::error::{Kind, Result};
use health_data_ai::schema::{Column, FEATURES, Feature, Shape, csv_columns};
use health_data_ai::synthetic;
use sha2::{Digest, Sha256};

fn facilities() -> Vec<FacilityId> {
    facility::seed().into_iter().map(|facility| facility.id).collect()
}

fn read(input: impl Read) -> Result<Rows> {
    let mut reader = Reader::new(input, &facilities())?;
    let mut all = Rows::default();
    while let Some(rows) = reader.read_batch(7)? {
        all.encounters.extend(rows.encounters);
        all.rejects.extend(rows.rejects);
        all.rejected_rows += rows.rejected_rows;
        all.rows += rows.rows;
    }
    Ok(all)
}

fn refusal(input: &[u8]) -> String {
    let error = read(input).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    error.message().to_owned()
}

fn write(encounters: &[Encounter]) -> String {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for encounter in encounters {
        writer.write(encounter).unwrap();
    }
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

fn header() -> String {
    csv_columns().iter().map(|column| column.header).collect::<Vec<_>>().join(",")
}

fn header_of(column: Column) -> &'static str {
    csv_columns().iter().find(|c| c.column == column).unwrap().header
}

/// A good cell for every column: a stay of six days.
fn good(column: Column) -> String {
    match column {
        Column::First => "Velo1".into(),
        Column::Middle => "Q".into(),
        Column::Last => "Tamiro2".into(),
        Column::EncounterId => "42".into(),
        Column::Admitted => "5/25/2012".into(),
        Column::Gender => "F".into(),
        Column::Discharged => "5/31/2012".into(),
        Column::Facility => "B".into(),
        Column::LengthOfStay => "6".into(),
        Column::Clinical(feature) => match feature.spec().shape {
            Shape::Readmissions | Shape::Condition => "1".into(),
            Shape::Measurement(m) => format!("{}", f64::midpoint(m.plausible.0, m.plausible.1).floor()),
        },
    }
}

/// A row of good cells, with some replaced.
fn row(cells: &[(Column, &str)]) -> String {
    csv_columns()
        .iter()
        .map(|column| {
            let replaced = cells.iter().find(|(replaced, _)| *replaced == column.column);
            replaced.map_or_else(|| good(column.column), |(_, cell)| (*cell).to_owned())
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn read_row(cells: &[(Column, &str)]) -> Rows {
    read(format!("{}\n{}\n", header(), row(cells)).as_bytes()).unwrap()
}

fn accepted(cells: &[(Column, &str)]) -> Encounter {
    let rows = read_row(cells);
    assert_eq!(rows.rejects, [], "{cells:?}");
    rows.encounters[0].clone()
}

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

#[test]
fn a_row_is_read_by_the_names_of_its_columns() {
    let found = accepted(&[]);
    assert_eq!(found.id.get(), 42);
    assert_eq!(found.name, PersonName::new("Velo1", "Q", "Tamiro2"));
    assert_eq!((found.gender, found.facility.letter()), (Gender::Female, 'B'));
    assert_eq!((*found.admitted.reveal(), *found.discharged.reveal()), (day(2012, 5, 25), Some(day(2012, 5, 31))));
    assert_eq!(found.clinical.missing().count(), 0);
    for feature in Feature::all() {
        assert_eq!(found.clinical.get(feature), good(Column::Clinical(feature)).parse().ok(), "{feature:?}");
    }
}

#[test]
fn synonyms_case_blanks_and_unknown_columns_in_a_header_are_understood() {
    let mut names: Vec<String> = csv_columns()
        .iter()
        .map(|column| format!(" {} ", column.synonyms.first().unwrap_or(&column.header).to_uppercase()))
        .collect();
    names.extend(["Ward\u{7} nurse".to_owned(), String::new(), "x".repeat(500)]);
    let text = format!("\u{feff}{}\r\n{},a,b,c\r\n", names.join(","), row(&[]));
    let mut reader = Reader::new(text.as_bytes(), &facilities()).unwrap();
    assert_eq!(reader.extra_columns()[0], "Ward? nurse");
    assert_eq!(reader.extra_columns()[1], format!("(column {} without a name)", csv_columns().len() + 2));
    assert_eq!(reader.extra_columns()[2].len(), 64);
    assert_eq!(reader.read_batch(10).unwrap().unwrap().encounters, [accepted(&[])]);
    assert!(reader.read_batch(10).unwrap().is_none());

    let many = format!("{},{}\n", header(), vec!["more"; 100].join(","));
    assert_eq!(Reader::new(many.as_bytes(), &[]).unwrap().extra_columns().len(), 33);
}

#[test]
fn a_header_that_misses_or_repeats_columns_is_one_error_that_names_them_all() {
    let columns = csv_columns();
    let message = refusal(b"First,Middle,Last\nSmithers,B,C\n");
    for column in columns {
        assert_eq!(message.contains(column.header), column.required && column.column != Column::First, "{message}");
    }
    let twice = format!("{},{},LOS\n", header(), header_of(Column::EncounterId));
    let message = refusal(twice.as_bytes());
    assert!(message.contains(header_of(Column::EncounterId)) && message.contains(header_of(Column::LengthOfStay)), "{message}");
    assert!(refusal(header().replace(',', ";").as_bytes()).contains("separated by commas"));

    let optional: Vec<_> = columns.iter().filter(|column| column.required).map(|column| column.header).collect();
    let cells: Vec<_> = columns.iter().filter(|column| column.required).map(|column| good(column.column)).collect();
    let rows = read(format!("{}\n{}", optional.join(","), cells.join(",")).as_bytes()).unwrap();
    assert_eq!((rows.encounters[0].name.clone(), rows.encounters[0].discharged), (PersonName::default(), Phi::new(None)));
}

#[test]
fn a_file_without_header_is_refused_without_an_echo_of_its_cells() {
    let message = refusal(row(&[]).as_bytes());
    for cell in ["Velo1", "Tamiro2", "5/25/2012", "42"] {
        assert!(!message.contains(cell), "{message}");
    }
}

#[test]
fn what_is_not_a_csv_file_is_one_clear_error() {
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"\xef\xbb\xbf").contains("empty"));
    assert!(refusal(b"\r\n\n \n").contains("empty"));
    let utf16: Vec<u8> = header().encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refusal(&[&[0xff, 0xfe], utf16.as_slice()].concat()).contains("UTF-16"));
    assert!(refusal(&[0xfe, 0xff, 0, b'e']).contains("UTF-16"));
    assert!(refusal(&utf16).contains("not UTF-8"));
    assert!(refusal(b"PK\x03\x04\x14\x00\x06\x00,\n").contains("not UTF-8"));
    assert!(refusal(b"caf\xe9,eid\n").contains("not UTF-8"));
    assert_eq!(read(header().as_bytes()).unwrap().rows, 0);
    assert_eq!(read(format!("{}\r\n\r\n", header()).as_bytes()).unwrap().rows, 0);
}

#[test]
fn a_row_without_end_is_refused_before_it_fills_the_memory() {
    let error = Reader::new(io::repeat(b'a'), &[]).unwrap_err();
    assert!(error.message().contains("line 1"), "{error}");
    let start = format!("{}\n{}\n\n\"", header(), row(&[]));
    let mut reader = Reader::new(start.as_bytes().chain(io::repeat(b'\n')), &facilities()).unwrap();
    assert_eq!(reader.read_batch(1).unwrap().unwrap().rows, 1);
    assert!(reader.read_batch(1).unwrap_err().message().contains("line 4"));
    assert_eq!(reader.read_batch(1).unwrap_err().kind(), Kind::Invalid, "a failed reader must not look like one at its end");

    // The last length that is accepted, then the first that is not; the line end counts.
    let padding = ROW_BYTES_MAX - row(&[]).len() - 2;
    for (bytes, fits) in [(padding, true), (padding + 1, false)] {
        let text = format!("{},note\r\n{},{}\r\n{},\r\n", header(), row(&[]), "x".repeat(bytes), row(&[]));
        assert_eq!(read(text.as_bytes()).is_ok(), fits);
    }
}

#[test]
fn an_input_that_fails_is_worth_another_try() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    assert!(Reader::new(Broken, &[]).unwrap_err().is_transient());
    let start = format!("{}\n1,", header());
    let mut reader = Reader::new(start.as_bytes().chain(Broken), &[]).unwrap();
    assert!(reader.read_batch(1).unwrap_err().is_transient());
    assert!(reader.read_batch(1).unwrap_err().is_transient(), "a failed reader must not look like one at its end");
}

#[test]
fn a_reject_names_the_line_its_row_starts_on() {
    let bad = row(&[(Column::EncounterId, "x")]);
    let good_note = row(&[]);
    for end in ["\n", "\r\n", "\r"] {
        let text = [
            format!("{},note", header()),                         // 1
            format!("{bad},"),                                    // 2
            String::new(),                                        // 3
            "  \t".into(),                                        // 4
            format!("{good_note},\"a{end}{end}b \"\"c\"\", d\""), // 5 to 7
            format!("{bad},\"a{end}b\""),                         // 8 to 9
            String::new(),                                        // 10
            String::new(),                                        // 11
            format!("{bad},"),                                    // 12
        ]
        .join(end);
        let rows = read(text.as_bytes()).unwrap();
        let lines: Vec<_> = rows.rejects.iter().map(|reject| reject.line).collect();
        assert_eq!((rows.rows, rows.rejected_rows, lines), (4, 3, vec![2, 8, 12]), "{end:?}");

        let mut reader = Reader::new(text.as_bytes(), &facilities()).unwrap();
        assert_eq!(reader.skip(3).unwrap(), 3);
        let rest = reader.read_batch(100).unwrap().unwrap();
        assert_eq!((rest.rows, rest.rejects[0].line), (1, 12), "{end:?}");
        assert_eq!(reader.skip(3).unwrap(), 0);
        assert_eq!(Reader::new(text.as_bytes(), &facilities()).unwrap().skip(100).unwrap(), 4);
    }
}

#[test]
fn every_broken_rule_rejects_the_row_under_its_column_and_never_shows_the_value() {
    let far = "9".repeat(30);
    let long = "Y".repeat(51);
    let mut cases: Vec<(Column, &str)> = vec![
        (Column::First, &long),
        (Column::Middle, "\"Line\nend\""),
        (Column::Last, "Be\u{1b}ll"),
        (Column::Gender, "Xx"),
        (Column::Facility, "Z"),
        (Column::Facility, "BB"),
        (Column::Facility, ""),
        (Column::LengthOfStay, "6.5"),
        (Column::LengthOfStay, "3651"),
        (Column::LengthOfStay, "-1"),
        (Column::LengthOfStay, "7"),
        (Column::LengthOfStay, "six"),
        (Column::Discharged, "5/24/2012"),
        (Column::Discharged, "5/31/2032"),
        (Column::Discharged, "tomorrow"),
    ];
    cases.extend(["", "NA", "0", "-7", "2147483648", "7.0", "x7", "7 7", &far].map(|bad| (Column::EncounterId, bad)));
    cases.extend(["", "?", "5/25/1899", "2200-01-01", "2/30/2012", "25/5/2012", "soon"].map(|bad| (Column::Admitted, bad)));
    for spec in &FEATURES {
        let bad: &[&str] = match spec.shape {
            Shape::Readmissions => &["6", "5.5", "-1", "4.0", "many", "+5"],
            Shape::Condition => &["2", "0.5", "maybe", "-1", "1e999"],
            Shape::Measurement(_) => &["high", "inf", "-inf", "1e999", "-1", "99999999", "1,5", "0x10", "1 2", "+", "."],
        };
        for bad in bad.iter().filter(|bad| !bad.contains(',')) {
            cases.push((Column::Clinical(spec.feature), bad));
        }
    }
    for (column, cell) in cases {
        let rows = read_row(&[(column, cell)]);
        // One wrong date makes the days disagree as well, so more than one column may be named.
        assert_eq!((rows.rows, rows.rejected_rows, rows.encounters.len()), (1, 1, 0), "{column:?} {cell}");
        // A discharge date far off is told under that date; days that disagree, under the days.
        assert!(rows.rejects.iter().any(|reject| reject.column == header_of(column)), "{column:?} {cell}: {:?}", rows.rejects);
        for Reject { line, rule, remedy, .. } in &rows.rejects {
            assert_eq!(*line, 2);
            assert!(!rule.is_empty() && !remedy.is_empty());
            assert!(cell.len() < 3 || !rule.contains(cell) && !remedy.contains(cell), "{rule} {remedy}");
        }
    }
    let latin1 = row(&[]).replace("Velo1", "Ren\u{1}").into_bytes().into_iter().map(|byte| if byte == 1 { 0xe9 } else { byte });
    let rows = read(&[format!("{}\n", header()).into_bytes(), latin1.collect()].concat()[..]).unwrap();
    assert_eq!((rows.rejected_rows, rows.rejects[0].column.as_str()), (1, header_of(Column::First)));
}

#[test]
fn a_row_with_too_few_or_too_many_values_is_rejected_and_its_neighbours_are_not() {
    let text = format!("{}\n{}\n1,2,3\n{},,\n{}\n", header(), row(&[]), row(&[]), row(&[]));
    let rows = read(text.as_bytes()).unwrap();
    assert_eq!((rows.rows, rows.encounters.len(), rows.rejected_rows), (4, 2, 2));
    assert!(rows.rejects.iter().all(|reject| reject.column == "row"));
}

#[test]
fn an_open_quote_cannot_swallow_rows_without_a_word() {
    let text = format!("{},note\n{},\"said so\n{},\n{},fine\"\n{},\n", header(), row(&[]), row(&[]), row(&[]), row(&[]));
    let rows = read(text.as_bytes()).unwrap();
    assert_eq!((rows.rows, rows.encounters.len(), rows.rejects[0].line), (2, 1, 2));
    assert!(rows.rejects[0].rule.contains("line 4"), "{:?}", rows.rejects);

    let text = format!("{}\n\"{}\n{}\n{}\n", header(), row(&[]), row(&[]), row(&[]));
    let rows = read(text.as_bytes()).unwrap();
    assert_eq!((rows.rows, rows.rejects[0].line), (1, 2));
    assert!(rows.rejects[0].rule.contains("line 4"), "{:?}", rows.rejects);
}

#[test]
fn a_row_that_breaks_everything_leaves_a_bounded_number_of_rejects() {
    let text = format!("{}\n{}\n", header(), vec!["bad"; csv_columns().len()].join(","));
    let rows = read(text.as_bytes()).unwrap();
    assert_eq!((rows.rejects.len(), rows.rejected_rows), (REJECTS_PER_ROW_MAX, 1));
}

#[test]
fn a_missing_clinical_value_stays_missing() {
    for word in ["", "  ", "NA", "n/a", "NULL", "NaN", "nan", "?", "\"\""] {
        let cells: Vec<_> = Feature::all().map(|feature| (Column::Clinical(feature), word)).collect();
        assert_eq!(accepted(&cells).clinical, Clinical::default(), "{word:?}");
        assert_eq!(accepted(&[(Column::Gender, word)]).gender, Gender::Unknown);
        let open = accepted(&[(Column::Discharged, word), (Column::LengthOfStay, word)]);
        assert_eq!(open.discharged, Phi::new(None));
    }
    assert_eq!(accepted(&[(Column::Last, "Null")]).name.last.reveal(), "Null", "a surname, not a missing value");
}

#[test]
fn values_are_understood_in_the_ways_hospitals_write_them() {
    let value = |feature, cell| accepted(&[(Column::Clinical(feature), cell)]).clinical.get(feature);
    for (cell, expected) in [("0", 0.0), ("4", 4.0), ("5", 5.0), ("5+", 5.0), (" 3 ", 3.0), ("\"2\"", 2.0)] {
        assert_eq!(value(Feature::Readmissions, cell), Some(expected), "{cell}");
    }
    for (cell, expected) in [("yes", 1.0), ("TRUE", 1.0), ("1.0", 1.0), ("No", 0.0), ("false", 0.0), ("-0", 0.0)] {
        assert_eq!(value(Feature::Pneumonia, cell), Some(expected), "{cell}");
    }
    for (cell, expected) in [("137.80", 137.8), ("\"1.378e2\"", 137.8), ("+137.8", 137.8), ("0", 0.0)] {
        assert_eq!(value(Feature::Sodium, cell), Some(expected), "{cell}");
    }
    assert!(value(Feature::Sodium, "-0.0").unwrap().is_sign_positive());
    assert_eq!(accepted(&[(Column::Last, "\" O'Neil, \"\"Jo\"\" \"")]).name.last.reveal(), "O'Neil, \"Jo\"");
    assert_eq!(accepted(&[(Column::Facility, "b")]).facility.letter(), 'B');
    assert_eq!(accepted(&[(Column::EncounterId, "2147483647")]).id.get(), i32::MAX);
}

#[test]
fn the_discharge_date_and_the_days_are_derived_from_each_other() {
    let from = |discharged, days| accepted(&[(Column::Discharged, discharged), (Column::LengthOfStay, days)]);
    for encounter in [from("2012-05-31", ""), from("", "6"), from("NA", "6.0"), from("5/31/12", "6")] {
        assert_eq!((encounter.discharged, encounter.stay_days()), (Phi::new(Some(day(2012, 5, 31))), Some(6)));
    }
    assert_eq!(from("5/25/2012", "").stay_days(), Some(0));
    assert_eq!(i64::from(from("", "3650").stay_days().unwrap()), STAY_DAYS_MAX);
    let late = read_row(&[(Column::Admitted, "12/31/2199"), (Column::Discharged, ""), (Column::LengthOfStay, "6")]);
    assert_eq!(late.rejects[0].column, header_of(Column::LengthOfStay));
}

#[test]
fn facilities_come_back_as_written_and_a_bad_list_is_refused_as_a_whole() {
    let mut bytes = Vec::new();
    write_facilities(&mut bytes, &facility::seed()).unwrap();
    assert_eq!(read_facilities(&bytes[..]).unwrap(), facility::seed());
    assert_eq!(read_facilities(&b"\xef\xbb\xbfname,ID,capacity,note\r\n\"West, 3\",a,75,x\r\n"[..]).unwrap()[0].name, "West, 3");
    for (bad, word) in [
        ("Id,Name\n", "Capacity"),
        ("Capacity,Id,Name,id\n", "once"),
        ("Capacity,Id,Name\n1,A\n", "one value"),
        ("Capacity,Id,Name\n1,A,x\n\n1,a,y\n", "line 4"),
        ("Capacity,Id,Name\n1,AB,x\n", "letter"),
        ("Capacity,Id,Name\n-1,A,x\n", "beds"),
        ("Capacity,Id,Name\n1,A, \n", "Name"),
    ] {
        let error = read_facilities(bad.as_bytes()).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.message().contains(word), "{bad}: {error}");
    }
}

#[test]
fn the_sample_data_is_what_the_generator_gives_and_holds_no_reject() {
    let options = synthetic::Options { rows: 1000, seed: 1, first_id: 1 };
    let encounters: Vec<_> = synthetic::encounters(&options).unwrap().collect();
    let text = write(&encounters);
    golden("encounters.csv", &text);
    let mut facilities = Vec::new();
    write_facilities(&mut facilities, &facility::seed()).unwrap();
    golden("facilities.csv", std::str::from_utf8(&facilities).unwrap());
    let rows = read(text.as_bytes()).unwrap();
    assert_eq!((rows.encounters == encounters, rows.rejects), (true, vec![]));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let options = synthetic::Options { rows: 5000, seed: 42, first_id: 100_001 };
    let text = write(&synthetic::encounters(&options).unwrap().collect::<Vec<_>>());
    let hash: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hash, "8cede5a46ec101ca60573db3a4f5f960ea925669b508bb92c6511cac4466ee3f",
        "if the model changed on purpose, so does this hash"
    );
    assert_eq!(read(text.as_bytes()).unwrap().rejected_rows, 0);
}

/// Compares with a file of `sample-data`, or writes it when `UPDATE` is set.
fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sample-data").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "sample-data/{name} differs from the generator: run the tests with UPDATE=1 and look at the difference"
    );
}
