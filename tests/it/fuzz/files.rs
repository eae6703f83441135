//! Dropped files: what they are recognised as, what they unpack to, and the rows of CSV.

use std::io::{self, Read, Write as _};
use std::ops::Range;

use flate2::{Compression, write::GzEncoder};
use health_data_ai::codec::content::{Content, HEAD_BYTES, Limits, is_plain_csv, recognise, unpacked};
use health_data_ai::codec::csv::{REJECTS_PER_ROW_MAX, Reader, Rows, Writer, read_facilities, split, write_facilities};
use health_data_ai::domain::import::LineSpan;
use health_data_ai::error::{Error, Kind, Result};
use health_data_ai::schema::csv_columns;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::messages::facilities;
use super::{CANARY, Target, Verdict, must, quiet, sample};

fn plain(rows: usize) -> Vec<u8> {
    sample("encounters.csv").split_inclusive(|byte| *byte == b'\n').take(rows + 1).flatten().copied().collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zip(names: &[&str], text: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
    for name in names {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Every row, and where the rows lie.
fn all(mut reader: Reader<impl Read>) -> Result<(Rows, Option<LineSpan>)> {
    let mut all = Rows::default();
    while let Some(rows) = reader.read_batch(5)? {
        all.rows += rows.rows;
        all.rejected_rows += rows.rejected_rows;
        all.encounters.extend(rows.encounters);
        all.lines.extend(rows.lines);
        all.rejects.extend(rows.rejects);
    }
    Ok((all, reader.lines()))
}

fn refused(error: &Error) -> Verdict {
    must(error.kind() == Kind::Invalid, &format!("a bad file is not called invalid: {error}"))?;
    quiet(&format!("{error} {error:?}"))
}

fn same(one: &(Rows, Option<LineSpan>), other: &(Rows, Option<LineSpan>)) -> bool {
    let counts = |rows: &Rows| (rows.rows, rows.rejected_rows);
    one.1 == other.1
        && counts(&one.0) == counts(&other.0)
        && one.0.lines == other.0.lines
        && one.0.encounters == other.0.encounters
        && one.0.rejects == other.0.rejects
}

#[test]
fn a_csv_file_is_read_to_its_end_written_back_the_same_and_cut_into_parts_that_are_the_whole() {
    let header = csv_columns().iter().map(|column| column.header).collect::<Vec<_>>().join(",");
    let long = format!("{header}\n{CANARY},\"{}\n", "a\"\"b\r\n".repeat(2_000));
    let odd = [b"\xef\xbb\xbf\r\n", &plain(3)[..], b"\r\r", &plain(1)].concat();
    let seeds = vec![plain(12), plain(1), header.into_bytes(), odd, long.into_bytes()];
    let columns = csv_columns().iter().map(|column| column.header.to_owned());
    let cells =
        ["\"\"", "\",\"", "\"\n", "2/29/2012", "31.12.2012", "2012-05-13", "=cmd|' /C calc'!A0", ";", "\t", "5+", "NaN", "inf"];
    let target = Target { name: "csv", inputs: 1_500, seeds, words: columns.chain(cells.map(str::to_owned)).collect() };
    target.hold(|input| {
        let facilities = facilities();
        let cut = split(input, 700, 6);
        let read = Reader::new(input, &facilities).and_then(all);
        let whole = match read {
            Ok(whole) => whole,
            Err(error) => {
                must(cut.is_err(), "parts of a file that is no file")?;
                return refused(&error);
            }
        };
        let rows = &whole.0;
        must(rows.rows == rows.encounters.len() as u64 + rows.rejected_rows, "a row without a fate")?;
        must(rows.rejects.len() as u64 <= rows.rejected_rows * REJECTS_PER_ROW_MAX as u64, "more rejects than are promised")?;
        quiet(&format!("{:?}", rows.rejects))?;
        let skipped = Reader::new(input, &facilities).and_then(|mut reader| reader.skip(u64::MAX));
        must(skipped.ok() == Some(rows.rows), "passing over rows counts them differently")?;
        let mut writer = Writer::new(Vec::new()).unwrap();
        rows.encounters.iter().try_for_each(|encounter| writer.write(encounter)).map_err(|error| error.to_string())?;
        let again = Reader::new(&writer.finish().unwrap()[..], &facilities).and_then(all).map_err(|error| error.to_string())?;
        must(again.0.encounters == rows.encounters, "what was written reads differently")?;
        parts_are_the_whole(input, &cut.map_err(|error| error.to_string())?, &whole)
    });
}

fn parts_are_the_whole(input: &[u8], cut: &health_data_ai::codec::csv::Split, whole: &(Rows, Option<LineSpan>)) -> Verdict {
    must(cut.parts.len() <= 6 && cut.lines == whole.1, "more parts or other lines than there are")?;
    let bytes = |range: &Range<u64>| &input[range.start as usize..range.end as usize];
    let mut together = (Rows::default(), None);
    let mut end = None;
    for part in &cut.parts {
        must(end.is_none_or(|end| end == part.bytes.start), "bytes between two parts")?;
        end = Some(part.bytes.end);
        let text = [bytes(&cut.header), bytes(&part.bytes)].concat();
        let read = Reader::further_down(&text[..], part.first_line, &facilities()).and_then(all);
        let (rows, lines) = read.map_err(|error| format!("a part cannot be read: {error}"))?;
        let lines = lines.ok_or("a part without rows")?;
        must((rows.rows, lines.first) == (part.rows, part.first_line), "a part holds other rows than it says")?;
        together.1 = Some(LineSpan::after(together.1, lines.first, lines.last));
        together.0.rows += rows.rows;
        together.0.rejected_rows += rows.rejected_rows;
        together.0.encounters.extend(rows.encounters);
        together.0.lines.extend(rows.lines);
        together.0.rejects.extend(rows.rejects);
    }
    must(end.is_none_or(|end| end == input.len() as u64), "bytes behind the last part")?;
    must(same(&together, whole), "the parts are not the whole")
}

#[test]
fn a_list_of_facilities_is_read_the_same_again_or_refused_without_its_values() {
    let words = ["Id", "Name", "Capacity", "\"\"", "4294967296", "AA"].map(str::to_owned).to_vec();
    let target = Target { name: "facilities", inputs: 10_000, seeds: vec![sample("facilities.csv")], words };
    target.hold(|input| match read_facilities(input) {
        Err(error) => refused(&error),
        Ok(facilities) => {
            let mut text = Vec::new();
            write_facilities(&mut text, &facilities).map_err(|error| error.to_string())?;
            let again = read_facilities(&text[..]).map_err(|error| format!("what was written is refused: {error}"))?;
            must(again == facilities, "what was written reads differently")
        }
    });
}

const LIMITS: Limits = Limits { bytes_max: 256 * 1024 };

fn open(input: &[u8]) -> Result<(Content, Vec<u8>)> {
    unpacked(input, LIMITS, |content, reader| {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).map_err(|cause| Error::invalid("unread").caused_by(cause))?;
        Ok((content, text))
    })
}

#[test]
fn a_file_is_told_by_what_it_holds_and_unpacks_to_no_more_than_it_may() {
    let text = plain(4);
    let bomb = vec![b'0'; 2 * 1024 * 1024];
    let seeds = vec![
        text.clone(),
        gzip(&text),
        [gzip(&text), gzip(CANARY.as_bytes())].concat(),
        gzip(&bomb),
        zip(&[&format!("{CANARY}.csv")], &text),
        zip(&[&format!("{CANARY}/"), "a.csv", "b.csv"], CANARY.as_bytes()),
        zip(&[], b""),
        sample("admit/admit_100001.json"),
        format!("MSH|^~\\&|{CANARY}\rPID|1\r").into_bytes(),
    ];
    let words =
        ["MSH|", "FHS|", "\u{b}BHS|", "{\"a\":1}\n", "PK\u{3}\u{4}", "PK\u{5}\u{6}", "PK\u{7}\u{8}", "\u{1f}", "../a", "C:\\a"];
    let mut words = words.map(str::to_owned).to_vec();
    words.push("\u{0}".repeat(16));
    let target = Target { name: "content", inputs: 3_000, seeds, words };
    target.hold(|input| {
        let head = &input[..input.len().min(HEAD_BYTES)];
        match open(input) {
            Err(error) => {
                must(!is_plain_csv(head), "plain text is refused")?;
                refused(&error)?;
            }
            Ok((content, text)) => {
                must(recognise(&text[..text.len().min(HEAD_BYTES)]) == content, "recognised as something else")?;
                must(text.len() <= input.len().max(LIMITS.bytes_max as usize), "more than a file may hold")?;
                must(!is_plain_csv(head) || (content == Content::Csv && text == input), "plain text is altered")?;
            }
        }
        // Whatever it holds comes out of an archive as it went in; an archive in an archive does not.
        let plain = matches!(open(input), Ok((_, text)) if text == input);
        for packed in [gzip(input), zip(&["a.csv"], input)] {
            match open(&packed) {
                Ok((_, text)) => must(plain && text == input, "an archive holds something else than was put in")?,
                Err(error) => must(!plain, "what was packed cannot be unpacked").and_then(|()| refused(&error))?,
            }
        }
        Ok(())
    });
}
