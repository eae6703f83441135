//! Files that no repetition makes better: recorded once with words, answered 200, in little memory.

use super::*;

/// How a file ends.
enum End {
    /// Failed, and the reason holds this.
    Failed(&'static str),
    /// Done with so many rows stored and rejected.
    Done(u64, u64),
}

/// More than any of them needs, and less than the largest of them holds.
#[cfg(target_os = "linux")]
const PEAK_BYTES: u64 = 90 * 1024 * 1024;

#[test]
fn a_poison_file_is_recorded_once_with_words_and_in_little_memory() {
    let site = Site::new("poison");
    let handler = site.handler(&[]);
    let good = file(10, 1, 1);
    let header = good.split_inclusive(|byte| *byte == b'\n').next().unwrap();
    let with = |rest: &[u8]| [header, rest].concat();
    let junk: Vec<u8> = (0..3_000_000_u64).map(|place| draw(1, place, 256) as u8).collect();
    let nul = {
        let mut rows: Vec<u8> = good.clone();
        let at = rows.len() - 20;
        rows[at] = 0;
        rows
    };
    let long = vec![b'x'; 100 << 20];
    let quoted = [b"\"".as_slice(), &vec![b'\n'; 5 << 20]].concat();
    let files = [
        ("empty.csv", Vec::new(), End::Failed("empty")),
        ("header.csv", header.to_vec(), End::Done(0, 0)),
        ("other.csv", b"first,second\n1,2\n".to_vec(), End::Failed("column")),
        ("twice.csv", [header.trim_ascii_end(), b",", header].concat(), End::Failed("column")),
        ("junk.csv", junk.clone(), End::Failed("UTF-8")),
        ("junk-rows.csv", with(&junk), End::Done(0, u64::MAX)),
        ("zeros.csv", vec![0; 1_000_000], End::Failed("longer than")),
        ("utf16.csv", [0xff, 0xfe, b'e', 0].repeat(100), End::Failed("UTF-16")),
        ("nul.csv", nul, End::Done(9, 1)),
        ("line.csv", long.clone(), End::Failed("longer than")),
        ("row.csv", with(&long), End::Failed("longer than")),
        ("open-quote.csv", with(&quoted), End::Failed("longer than")),
        ("rejects.csv", with(&b"x\n".repeat(1_000_000)), End::Done(0, 1_000_000)),
    ];
    for (name, content, end) in &files {
        site.drop_blob(name, content);
        let reply = handler.done(BLOB, &site.call(name));
        assert!(reply["Outputs"]["trainingRequest"].is_null() || matches!(end, End::Done(1.., _)), "{name}");
        let entry = site.ledger(&site.record()).remove(0);
        assert_eq!((entry.source.name.as_str(), entry.attempt), (*name, 1), "{name}");
        match end {
            End::Failed(words) => {
                assert_eq!(entry.state, State::Failed, "{name}");
                assert!(entry.failure.contains(words), "{name}: {}", entry.failure);
            }
            End::Done(stored, rejected) => {
                assert_eq!((entry.state, entry.counts.stored), (State::Done, *stored), "{name}: {}", entry.failure);
                assert!(*rejected == u64::MAX || entry.counts.rejected == *rejected, "{name}: {:?}", entry.counts);
            }
        }
        site.receipt_is_true(&entry, content);
        #[cfg(target_os = "linux")]
        assert!(peak_bytes(handler.child.id()) < PEAK_BYTES, "{name}: {} bytes", peak_bytes(handler.child.id()));
    }
    assert_eq!(handler.count("imports"), files.len());
    // What is poison to one file is none to the next.
    site.drop_blob("good.csv", &good);
    handler.done(BLOB, &site.call("good.csv"));
    assert_eq!(site.ledger(&site.record()).remove(0).counts.read, 10);
}
