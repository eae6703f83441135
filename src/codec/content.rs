//! What a dropped file holds, told by its first bytes and never by its name; and its rows, unpacked on the way. Nothing is unpacked to a
//! disk, one layer is all that is unpacked, and no archive may unpack to more than it plausibly holds.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use zip::read::read_zipfile_from_stream;
use zip::result::ZipError;

use crate::error::{Error, Result};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Rows of text, or text that the CSV reader will refuse with its own words.
    Csv,
    /// FHIR resources, one JSON object a line.
    FhirNdjson,
    /// One FHIR resource or Bundle in JSON.
    FhirJson,
    /// HL7 v2 messages, alone or in a batch (`FHS`, `BHS`).
    Hl7v2,
}

/// How much a file may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes at most.
    pub bytes_max: u64,
}

/// Bytes that tell what a file is.
pub const HEAD_BYTES: usize = 4096;
/// A byte of an archive may stand for this many. Encounters in CSV reach about ten; only a bomb needs more.
const RATIO_MAX: u64 = 200;
/// Below this, no ratio is suspicious.
const UNSUSPICIOUS_BYTES: u64 = 1024 * 1024;
const UNUSUAL_ARCHIVE: &str = "the archive cannot be unpacked: it is damaged, encrypted, or packed in an unusual way; pack one CSV file with plain zip or gzip";

/// Tells what the first bytes of a file (unpacked) are.
pub fn recognise(head: &[u8]) -> Content {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let message = head.strip_prefix(b"\x0b").unwrap_or(head);
    if [b"MSH|".as_slice(), b"FHS|", b"BHS|"].iter().any(|segment| message.starts_with(segment)) {
        return Content::Hl7v2;
    }
    if !head.starts_with(b"{") {
        return Content::Csv;
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or(head);
    let one_object_a_line = line.len() < head.len() && line.trim_ascii_end().ends_with(b"}");
    if one_object_a_line { Content::FhirNdjson } else { Content::FhirJson }
}

/// Is a file with these first [`HEAD_BYTES`] CSV as it lies there? Only such a file can be read from anywhere but its beginning.
pub fn is_plain_csv(head: &[u8]) -> bool {
    !is_packed(head) && recognise(head) == Content::Csv
}

fn is_packed(head: &[u8]) -> bool {
    matches!(head, [0x1f, 0x8b, ..] | [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..])
}

/// Unpacks `input` if it is packed (gzip, or a zip archive of one file), and hands the text to `work`, with what it is.
///
/// # Errors
/// What `work` answers; `Invalid`, if the file cannot be unpacked, unpacks to too much, is packed twice, or is an archive of several files
/// or of names that lead out of it. An error of `input` itself comes through `work`.
pub fn unpacked<T>(input: impl Read, limits: Limits, work: impl FnOnce(Content, &mut dyn Read) -> Result<T>) -> Result<T> {
    let packed = Rc::new(Cell::new(0));
    let mut input = Counted { input, bytes: Rc::clone(&packed) };
    let head = head(&mut input)?;
    let mut whole = io::Cursor::new(head.clone()).chain(input);
    match head.as_slice() {
        [0x1f, 0x8b, ..] => read_packed(MultiGzDecoder::new(whole), &packed, limits, work),
        [b'P', b'K', 3, 4, ..] => one_of_archive(&mut whole, &packed, limits, work),
        [b'P', b'K', 5, 6, ..] => Err(Error::invalid("the archive is empty: put one file of encounters into it")),
        _ => work(recognise(&head), &mut whole),
    }
}

fn head(input: &mut impl Read) -> Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    input
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(|cause| Error::unavailable("the file cannot be read; deliver it again").caused_by(cause))?;
    Ok(head)
}

/// The archive is read as a stream, from its first entry on.
fn one_of_archive<T>(
    archive: &mut impl Read,
    packed: &Rc<Cell<u64>>,
    limits: Limits,
    work: impl FnOnce(Content, &mut dyn Read) -> Result<T>,
) -> Result<T> {
    let mut work = Some(work);
    let mut answer = None;
    while let Some(entry) = read_zipfile_from_stream(archive).map_err(between_entries)? {
        let Some(name) = entry.name().ok().filter(|name| is_inside(name) && !entry.is_symlink()) else {
            return Err(Error::invalid("the archive holds a name that leads out of it: pack one CSV file without folders"));
        };
        if entry.is_dir() || name.starts_with("__MACOSX/") || name.ends_with(".DS_Store") {
            continue;
        }
        let Some(work) = work.take() else {
            return Err(Error::invalid(
                "the archive holds several files: drop one file in each archive (the rows of the first one are stored)",
            ));
        };
        answer = Some(read_packed(entry, packed, limits, work)?);
    }
    answer.ok_or_else(|| Error::invalid("the archive holds no file: put one file of encounters into it"))
}

/// What keeps the next entry from being read. A fault of the input is none of the file's.
fn between_entries(error: ZipError) -> Error {
    match error {
        ZipError::Io(cause) if !is_damage(cause.kind()) => {
            Error::unavailable("the file cannot be read; deliver it again").caused_by(cause)
        }
        _ => Error::invalid(UNUSUAL_ARCHIVE),
    }
}

/// Decompressors tell damage by these kinds; any other is the input's own.
fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Unsupported
    )
}

/// Does a name stay inside its archive, on any system?
fn is_inside(name: &str) -> bool {
    !name.starts_with('/') && !name.contains(['\\', ':', '\0']) && name.split('/').all(|part| part != "..")
}

/// Reads what `unpacker` gives, under guard.
fn read_packed<T>(
    unpacker: impl Read,
    packed: &Rc<Cell<u64>>,
    limits: Limits,
    work: impl FnOnce(Content, &mut dyn Read) -> Result<T>,
) -> Result<T> {
    let fault = Rc::new(RefCell::new(None));
    let mut guarded = Guarded { unpacker, bytes: 0, packed: Rc::clone(packed), limits, fault: Rc::clone(&fault) };
    let answer = head(&mut guarded).and_then(|head| {
        if is_packed(&head) {
            return Err(Error::invalid("the file is packed twice: pack the CSV file itself"));
        }
        let content = recognise(&head);
        let mut whole = io::Cursor::new(head).chain(&mut guarded);
        let answer = work(content, &mut whole)?;
        // The checksum stands at the end.
        io::copy(&mut whole, &mut io::sink())
            .map_err(|cause| Error::unavailable("the file's end cannot be read; deliver it again").caused_by(cause))?;
        Ok(answer)
    });
    // The reader's own fault says more than what its reader made of it.
    let fault = fault.borrow_mut().take();
    fault.map_or(answer, Err)
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

/// Unpacks as long as it is plausible.
struct Guarded<R> {
    unpacker: R,
    bytes: u64,
    packed: Rc<Cell<u64>>,
    limits: Limits,
    fault: Rc<RefCell<Option<Error>>>,
}

impl<R> Guarded<R> {
    fn fail(&self, error: Error) -> io::Error {
        *self.fault.borrow_mut() = Some(error);
        io::Error::other("the file cannot be unpacked")
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fault.borrow().is_some() {
            return Err(io::Error::other("the file cannot be unpacked"));
        }
        let read = match self.unpacker.read(buffer) {
            Ok(read) => read,
            // The archive's reader tells a method that it does not know only here.
            Err(error)
                if error.kind() == io::ErrorKind::Unsupported && error.get_ref().is_some_and(|cause| cause.is::<ZipError>()) =>
            {
                return Err(self.fail(Error::invalid(UNUSUAL_ARCHIVE)));
            }
            Err(error) if is_damage(error.kind()) => {
                return Err(self.fail(Error::invalid("the packed file is damaged or cut off: pack it again and drop it again")));
            }
            Err(error) => return Err(error),
        };
        self.bytes += read as u64;
        if self.bytes > self.limits.bytes_max {
            let bytes_max = self.limits.bytes_max;
            return Err(self.fail(Error::invalid(format!(
                "the file unpacks to more than {bytes_max} bytes: split it, or raise HDAI_IMPORT_BYTES_MAX"
            ))));
        }
        if self.bytes > UNSUSPICIOUS_BYTES && self.bytes / RATIO_MAX > self.packed.get() {
            return Err(self.fail(Error::invalid(format!(
                "the file unpacks to more than {RATIO_MAX} times its size, as no file of encounters does: drop it unpacked"
            ))));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    const LIMITS: Limits = Limits { bytes_max: 64 * 1024 * 1024 };

    fn read(input: &[u8]) -> Result<(Content, Vec<u8>)> {
        unpacked(input, LIMITS, |content, reader| {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).map_err(|cause| Error::unavailable("unread").caused_by(cause))?;
            Ok((content, text))
        })
    }

    fn refusal(input: &[u8]) -> String {
        let error = read(input).expect_err("it was taken");
        assert_eq!(error.kind(), crate::error::Kind::Invalid, "{error}");
        error.to_string()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn files_are_told_by_what_is_in_them() {
        for (head, content) in [
            (&b"eid,vdate\n1,2\n"[..], Content::Csv),
            (b"", Content::Csv),
            (b"\xef\xbb\xbfeid,vdate\n", Content::Csv),
            (b"{\"resourceType\":\"Patient\"}\n{\"resourceType\":\"Encounter\"}\n", Content::FhirNdjson),
            (b"{\n  \"resourceType\": \"Bundle\"\n}", Content::FhirJson),
            (b"{\"resourceType\":\"Bundle\"}", Content::FhirJson),
            (b"MSH|^~\\&|A", Content::Hl7v2),
            (b"\x0bMSH|^~\\&|A", Content::Hl7v2),
            (b"FHS|^~\\&|", Content::Hl7v2),
            (b"\nBHS|^~\\&|", Content::Hl7v2),
            (b"PK\x05\x04", Content::Csv),
        ] {
            assert_eq!(recognise(head), content, "{}", String::from_utf8_lossy(head));
            assert_eq!(read(head).unwrap(), (content, head.to_vec()));
            assert_eq!(read(&gzip(head)).unwrap(), (content, head.to_vec()), "in gzip");
            assert_eq!(read(&archive(&[("__MACOSX/._a.csv", b"x"), ("a.csv", head)])).unwrap(), (content, head.to_vec()), "in zip");
        }
    }

    #[test]
    fn a_large_text_comes_out_as_it_went_in() {
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|n| format!("{n},{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let two = [gzip(&text[..1_000_000]), gzip(&text[1_000_000..])].concat();
        assert!(read(&two).unwrap().1 == text, "gzip may have several members");
        assert!(read(&archive(&[("folder/encounters.csv", &text)])).unwrap().1 == text);
    }

    #[test]
    fn bombs_are_refused_before_they_burst() {
        let zeros = vec![b'0'; 32 * 1024 * 1024];
        assert!(refusal(&gzip(&zeros)).contains("200 times"));
        assert!(refusal(&archive(&[("a.csv", &zeros)])).contains("200 times"));
        let small = Limits { bytes_max: 1000 };
        let error =
            unpacked(&gzip(&[b'x'; 1001])[..], small, |_, reader| Ok(io::copy(reader, &mut io::sink()).is_ok())).err().unwrap();
        assert!(error.message().contains("1000 bytes"), "{error}");
    }

    #[test]
    fn tricks_are_refused() {
        for name in ["../a.csv", "/etc/a.csv", "a/../../b.csv", "..\\a.csv", "C:\\a.csv"] {
            // The writer puts such names right, so they are put wrong again: same length, and no checksum covers a name.
            let honest = "n".repeat(name.len());
            let mut bytes = archive(&[(honest.as_str(), b"eid")]);
            while let Some(at) = bytes.windows(name.len()).position(|window| window == honest.as_bytes()) {
                bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
            }
            let message = refusal(&bytes);
            assert!(message.contains("leads out of it") && !message.contains("a.csv"), "{name}: {message}");
        }
        assert!(refusal(&archive(&[("a.csv", b"eid"), ("b.csv", b"eid")])).contains("several files"));
        assert!(refusal(&archive(&[])).contains("empty"));
        assert!(refusal(&archive(&[("folder/.DS_Store", b"")])).contains("no file"));
        assert!(refusal(&gzip(&gzip(b"eid"))).contains("packed twice"));
        assert!(refusal(&archive(&[("a.gz", &gzip(b"eid"))])).contains("packed twice"));
    }

    #[test]
    fn a_cut_off_or_damaged_file_is_never_taken_for_whole() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(|n| format!("{},{n}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        for whole in [gzip(&text), archive(&[("a.csv", &text)])] {
            for cut in [whole.len() / 3, whole.len() / 2] {
                assert!(refusal(&whole[..cut]).contains("damaged"), "cut at {cut}");
            }
            let mut altered = whole.clone();
            altered[whole.len() / 2] ^= 0x55;
            assert!(refusal(&altered).contains("damaged"));
        }
    }

    /// Windows packs what is larger than 2 GiB by Deflate64.
    #[test]
    fn an_archive_packed_by_a_method_that_is_not_read_is_refused_for_good() {
        for method in [1_u8, 6, 9, 10, 12, 14, 93, 95, 98] {
            let mut bytes = archive(&[("a.csv", b"eid,vdate\n")]);
            bytes[8] = method;
            assert!(refusal(&bytes).contains("unusual way"), "method {method}");
        }
    }

    #[test]
    fn a_broken_input_is_not_the_files_fault() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the stream failed"))
            }
        }
        // Between the entry and the archive's directory, too.
        let archive = archive(&[("a.csv", b"eid,vdate\n")]);
        let entry = archive.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        for cut in [entry, entry + 2] {
            let error = unpacked(archive[..cut].chain(Broken), LIMITS, |_, reader| {
                io::copy(reader, &mut io::sink()).map_err(|cause| Error::unavailable("unread").caused_by(cause))
            });
            assert_eq!(error.err().unwrap().kind(), crate::error::Kind::Unavailable, "cut at {cut}");
        }
        let whole = gzip(&(0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>());
        let input = whole[..whole.len() / 2].chain(Broken);
        let error = unpacked(input, LIMITS, |_, reader| {
            io::copy(reader, &mut io::sink()).map_err(|cause| Error::unavailable("unread").caused_by(cause))
        });
        assert_eq!(error.err().unwrap().kind(), crate::error::Kind::Unavailable);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            magic in prop_oneof![Just(vec![]), Just(vec![0x1f, 0x8b, 8]), Just(b"PK\x03\x04".to_vec())],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = read(&[magic, rest].concat());
        }
    }
}
