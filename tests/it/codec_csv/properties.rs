//! What holds for every file and every encounter.

use std::fmt::Write as _;
use std::io::{self, Read};

use chrono::Days;
use health_data_ai::codec::csv::{REJECTS_PER_ROW_MAX, Reader, Rows, split};
use health_data_ai::domain::encounter::STAY_DAYS_MAX;
use health_data_ai::domain::import::LineSpan;
use health_data_ai::domain::patient::name_fits;
use health_data_ai::domain::{Clinical, Encounter, EncounterId, Gender, PersonName, Phi, facility};
use health_data_ai::schema::{Feature, Shape, csv_columns};
use proptest::prelude::*;

use super::{day, facilities, header, read, row, write};

/// Gives its bytes in pieces of the sizes listed, over and over.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: &'a [usize],
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.next % self.sizes.len()].min(out.len()).min(self.bytes.len());
        self.next += 1;
        out[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

fn name_part() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"[A-Za-zÀ-ž'" ,;-]{0,20}"#.prop_map(|name| name.trim().to_owned()),
        r"\PC{0,50}".prop_map(|name| name.trim().to_owned()).prop_filter("as short as its column", |name| name_fits(name))
    ]
}

fn clinical_value(feature: Feature) -> BoxedStrategy<Option<f64>> {
    let value = match feature.spec().shape {
        Shape::Readmissions => (0..=5_u8).prop_map(f64::from).boxed(),
        Shape::Condition => (0..=1_u8).prop_map(f64::from).boxed(),
        Shape::Measurement(m) if m.whole => (m.possible.0..=m.possible.1).prop_map(f64::trunc).boxed(),
        Shape::Measurement(m) => (m.possible.0..=m.possible.1).boxed(),
    };
    prop::option::weighted(0.8, value).boxed()
}

fn encounter() -> impl Strategy<Value = Encounter> {
    let clinical = Feature::all().map(clinical_value).collect::<Vec<_>>();
    let names = (name_part(), name_part(), name_part());
    let stay = prop::option::of(0..=STAY_DAYS_MAX.unsigned_abs());
    let place = (0..Gender::ALL.len(), 0..facility::SEED.len());
    (1..=i32::MAX, names, place, 0..100_000_u64, stay, clinical).prop_map(|(id, names, place, admitted, stay, values)| {
        let admitted = day(1900, 1, 1) + Days::new(admitted);
        let mut clinical = Clinical::default();
        for (feature, value) in Feature::all().zip(values) {
            clinical.set(feature, value);
        }
        Encounter {
            id: EncounterId::new(i64::from(id)).unwrap(),
            name: PersonName::new(names.0, names.1, names.2),
            gender: Gender::ALL[place.0],
            facility: facilities()[place.1],
            admitted: Phi::new(admitted),
            clinical,
            discharged: Phi::new(stay.map(|days| admitted + Days::new(days))),
        }
    })
}

/// Bytes that look like the inside of a CSV file.
fn csv_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![4 => Just(b','), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(b'"'), 3 => b'0'..=b'9', 2 => any::<u8>()];
    prop::collection::vec(byte, 0..600)
}

fn row_of(encounter: &Encounter) -> Vec<u8> {
    let text = write(std::slice::from_ref(encounter));
    let header = header();
    text.strip_prefix(&header).unwrap().trim_start().as_bytes().to_vec()
}

/// Every row of a file, and where they lie.
fn all<R: Read>(mut reader: Reader<R>) -> (Rows, Option<LineSpan>) {
    let mut all = Rows::default();
    while let Some(rows) = reader.read_batch(7).unwrap() {
        all.rows += rows.rows;
        all.rejected_rows += rows.rejected_rows;
        all.encounters.extend(rows.encounters);
        all.lines.extend(rows.lines);
        all.rejects.extend(rows.rejects);
    }
    (all, reader.lines())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn encounters_come_back_as_written(encounters in prop::collection::vec(encounter(), 0..8)) {
        let rows = read(write(&encounters).as_bytes()).unwrap();
        prop_assert_eq!(&rows.rejects, &[]);
        prop_assert!(rows.encounters == encounters);
    }

    #[test]
    fn the_order_of_columns_changes_nothing(
        encounters in prop::collection::vec(encounter(), 1..4),
        order in Just((0..csv_columns().len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let text = write(&encounters);
        let mut shuffled = csv::Writer::from_writer(Vec::new());
        for record in csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes()).into_records() {
            let record = record.unwrap();
            shuffled.write_record(order.iter().map(|place| &record[*place])).unwrap();
        }
        prop_assert!(read(&shuffled.into_inner().unwrap()[..]).unwrap().encounters == encounters);
    }

    #[test]
    fn the_pieces_in_which_a_file_arrives_change_nothing(tail in csv_bytes(), sizes in prop::collection::vec(1_usize..40, 1..10)) {
        let text = [format!("\u{feff}{}\r\n{}\r\n", header(), row(&[])).as_bytes(), &tail].concat();
        let whole = read(&text[..]).unwrap();
        let pieces = read(Pieces { bytes: &text, sizes: &sizes, next: 0 }).unwrap();
        prop_assert!(whole.encounters == pieces.encounters);
        prop_assert_eq!(whole.rejects, pieces.rejects);
        prop_assert_eq!((whole.rows, whole.rejected_rows), (pieces.rows, pieces.rejected_rows));
    }

    /// Quotes, line ends of every kind, blank lines and rubbish: every part reads as the whole file does, line numbers included.
    #[test]
    fn a_file_in_parts_is_the_file(
        start in prop::sample::select(vec!["", "\u{feff}", "\n\r\n", "\u{feff}\r \r"]),
        header_end in prop::sample::select(vec!["\n", "\r\n", "\r", "\r\r\n\n"]),
        rows in prop::collection::vec(prop_oneof![
            3 => encounter().prop_map(|encounter| row_of(&encounter)),
            2 => csv_bytes(),
            1 => prop::sample::select(vec![&b"\n"[..], b"\r\n\r\n", b"\"a\nb\",1\n", b"\"\"\r", b" \n", b"\xef\xbb\xbf,\n"]).prop_map(<[u8]>::to_vec),
        ], 0..12),
        (part_bytes, parts_max) in (1_u64..2_000, 1_usize..30),
        sizes in prop::collection::vec(1_usize..400, 1..10),
    ) {
        let text = [start.as_bytes(), header().as_bytes(), header_end.as_bytes(), &rows.concat()].concat();
        let whole = all(Reader::new(&text[..], &facilities()).unwrap());
        let found = split(Pieces { bytes: &text, sizes: &sizes, next: 0 }, part_bytes, parts_max).unwrap();
        prop_assert!(found.parts.len() <= parts_max);
        let mut together = Rows::default();
        let mut lines: Option<LineSpan> = None;
        let mut end = None;
        for part in &found.parts {
            prop_assert!(end.is_none_or(|end| end == part.bytes.start), "no byte lies between two parts");
            end = Some(part.bytes.end);
            let cut = |range: &std::ops::Range<u64>| &text[range.start as usize..range.end as usize];
            let bytes = [cut(&found.header), cut(&part.bytes)].concat();
            let reader = Reader::further_down(Pieces { bytes: &bytes, sizes: &sizes, next: 0 }, part.first_line, &facilities()).unwrap();
            let (rows, span) = all(reader);
            let span = span.unwrap();
            prop_assert_eq!((rows.rows, span.first), (part.rows, part.first_line));
            lines = Some(LineSpan { first: lines.map_or(span.first, |lines| lines.first), last: span.last });
            together.rows += rows.rows;
            together.rejected_rows += rows.rejected_rows;
            together.encounters.extend(rows.encounters);
            together.lines.extend(rows.lines);
            together.rejects.extend(rows.rejects);
        }
        prop_assert!(end.is_none_or(|end| end == text.len() as u64));
        prop_assert!(together.encounters == whole.0.encounters);
        prop_assert_eq!(&together.rejects, &whole.0.rejects);
        prop_assert_eq!((together.lines, together.rows, together.rejected_rows), (whole.0.lines, whole.0.rows, whole.0.rejected_rows));
        prop_assert_eq!((lines, found.lines), (whole.1, whole.1));
    }

    #[test]
    fn any_bytes_are_read_to_their_end_and_every_row_has_a_fate(bytes in csv_bytes(), raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&raw[..]);
        let text = [format!("{}\n", header()).as_bytes(), &bytes].concat();
        let rows = read(&text[..]).unwrap();
        prop_assert_eq!(rows.rows, rows.encounters.len() as u64 + rows.rejected_rows);
        prop_assert!(rows.rejects.len() as u64 >= rows.rejected_rows);
        prop_assert!(rows.rejects.len() as u64 <= rows.rejected_rows * REJECTS_PER_ROW_MAX as u64);
        prop_assert_eq!(Reader::new(&text[..], &facilities()).unwrap().skip(u64::MAX).unwrap(), rows.rows);
    }

    #[test]
    fn a_reject_never_holds_text_of_the_file(place in 0..csv_columns().len(), noise in "[A-Za-z0-9+/.-]{0,8}", twice in any::<bool>()) {
        let canary = format!("q7Zk{noise}");
        let mut text = format!("{}\n{}\n", header(), row(&[(csv_columns()[place].column, &canary)]));
        if twice {
            write!(text, "{canary},{canary}\n\"{canary}").unwrap();
        }
        for reject in read(text.as_bytes()).unwrap().rejects {
            let shown = format!("{reject:?}");
            prop_assert!(!shown.contains("q7Zk"));
        }
        let error = read(format!("{canary},{canary}\n").as_bytes()).unwrap_err();
        let shown = format!("{error:?} {error}");
        prop_assert!(!shown.contains("q7Zk"));
    }
}
