//! What is planted, and the detector that looks for it.

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine};

/// A kind of planted value, so that a place may be allowed to hold one kind and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Id,
    Day,
    Text,
    Token,
    File,
}

/// Each value, in every notation that it is planted in or that the program might write it in.
pub(super) const PLANTED: &[(Kind, &[&str])] = &[
    (Kind::Name, &["Zebulonqx"]),
    (Kind::Name, &["Quixotedv"]),
    (Kind::Name, &["Wyvernjk"]),
    (Kind::Id, &["918273645", "918,273,645", "918273646"]),
    (Kind::Id, &["MRN-77417741"]),
    (Kind::Day, &["1931-03-07", "3/7/1931", "03/07/1931", "19310307", "1931-3-7", "7.3.1931"]),
    (Kind::Day, &["1931-03-19", "3/19/1931", "03/19/1931", "19310319"]),
    (Kind::Text, &["77.7701377"]),
    (Kind::Text, &["Grumblewort"]),
    (Kind::Token, &["Tokenqvx"]),
    (Kind::File, &["smythe-jonquil"]),
];

pub(super) const FIRST: &str = PLANTED[0].1[0];
pub(super) const MIDDLE: &str = PLANTED[1].1[0];
pub(super) const LAST: &str = PLANTED[2].1[0];
pub(super) const ID: i64 = 918_273_645;
pub(super) const MRN: &str = PLANTED[4].1[0];
pub(super) const DAY: &str = PLANTED[5].1[0];
pub(super) const END: &str = PLANTED[6].1[0];
pub(super) const ODD: &str = PLANTED[7].1[0];
pub(super) const TEXT: &str = PLANTED[8].1[0];
pub(super) const TOKEN: &str = PLANTED[9].1[0];
pub(super) const FILE: &str = PLANTED[10].1[0];

/// Everything planted in one text, that is no JSON.
pub(super) fn everything() -> String {
    PLANTED.iter().flat_map(|(_, notations)| *notations).copied().collect::<Vec<_>>().join("~")
}

/// Whatever of the planted values is in `bytes`, but for kinds that may be there: plain, in another case, or in base64.
pub(super) fn found(bytes: &[u8], allowed: &[Kind]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lower = text.to_ascii_lowercase();
    let mut leaks = Vec::new();
    for (kind, notations) in PLANTED.iter().filter(|(kind, _)| !allowed.contains(kind)) {
        for notation in *notations {
            let place = lower.find(&notation.to_ascii_lowercase()).or_else(|| {
                // Long values alone: of a short one too little is left between its neighbours.
                encoded(notation).into_iter().filter(|form| form.len() >= 8).find_map(|form| text.find(&form))
            });
            if let Some(at) = place {
                let near: String = text[..at].chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
                leaks.push(format!("{kind:?} {notation} after {near:?}"));
            }
        }
    }
    leaks
}

/// What of `value` shows in base64, wherever it begins in the encoded text.
fn encoded(value: &str) -> Vec<String> {
    let forms = (0..3).flat_map(|offset| {
        let shifted = [vec![0; offset], value.as_bytes().to_vec()].concat();
        // The characters that its neighbours share are cut off.
        let (from, until) = ((offset * 4).div_ceil(3), shifted.len() * 8 / 6);
        [BASE64_STANDARD_NO_PAD.encode(&shifted), BASE64_URL_SAFE_NO_PAD.encode(&shifted)].map(|text| text[from..until].to_owned())
    });
    forms.collect()
}

/// Fails if `bytes`, called `what`, hold a planted value of a kind that may not be there.
#[track_caller]
pub(super) fn holds_none(what: &str, bytes: impl AsRef<[u8]>, allowed: &[Kind]) {
    let leaks = found(bytes.as_ref(), allowed);
    assert!(leaks.is_empty(), "{what}: {leaks:#?}");
}

#[test]
fn the_detector_finds_what_is_planted_however_it_is_written() {
    for (kind, notations) in PLANTED {
        for notation in *notations {
            let said = format!("a line that says {notation}, among others");
            let shouted = said.to_ascii_uppercase();
            for text in [&said, &shouted] {
                assert!(!found(text.as_bytes(), &[]).is_empty(), "{text}");
                assert_eq!(found(text.as_bytes(), &[*kind]), Vec::<String>::new());
            }
            let binary = [&[0xff, 0x00][..], notation.as_bytes(), &[0xfe]].concat();
            assert!(!found(&binary, &[]).is_empty(), "{notation} among bytes that are no text");
            for before in ["", "a", "ab"] {
                let hidden = BASE64_STANDARD.encode(format!("{before}{notation} and more"));
                assert!(notation.len() < 9 || !found(hidden.as_bytes(), &[]).is_empty(), "{notation} in {hidden}");
            }
        }
    }
    assert_eq!(found(b"a clean line of 2026-11-22 about encounter 17", &[]), Vec::<String>::new());
    assert!(found(everything().as_bytes(), &[]).len() >= PLANTED.len());
}
