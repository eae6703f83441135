//! Inputs from seeds: what line noise, a broken client and a patient adversary would make of them.

use std::ops::Range;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{CANARY, CANARY_NUMBER};

/// Longest input: more only costs time.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Words that trouble any format.
const WORDS: [&str; 24] = [
    CANARY,
    CANARY,
    CANARY_NUMBER,
    "null",
    "true",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "\r",
    "\n",
    "\r\n",
    ",",
    "{}",
    "[]",
    "é",
    "字",
    "-0",
    "1e400",
    "9223372036854775808",
    "0.1e-999",
    "../",
];

/// Makes inputs; the same one for the same seed.
#[derive(Clone)]
pub(super) struct Mutator {
    seeds: Arc<[Vec<u8>]>,
    words: Arc<[String]>,
}

impl Mutator {
    pub(super) fn new(seeds: Vec<Vec<u8>>, words: Vec<String>) -> Self {
        let words = words.into_iter().chain(WORDS.map(str::to_owned)).collect();
        Self { seeds: seeds.into(), words }
    }

    pub(super) fn input(&self, seed: u64) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut input = self.pick(&mut rng).to_vec();
        // Mostly few changes, so that most of the input still reads; sometimes a wreck.
        let changes = if rng.random_ratio(1, 8) { rng.random_range(0..=40) } else { rng.random_range(1..=4) };
        for _ in 0..changes {
            self.change(&mut input, &mut rng);
            input.truncate(INPUT_BYTES_MAX);
        }
        input
    }

    fn pick(&self, rng: &mut ChaCha8Rng) -> &[u8] {
        &self.seeds[rng.random_range(0..self.seeds.len())]
    }

    fn word(&self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        match rng.random_range(0..16) {
            0 => "9".repeat(rng.random_range(1..400)).into_bytes(),
            1 => ["[", "{\"a\":", "\"", "(", "{\"contained\":["][rng.random_range(0..5)]
                .repeat(rng.random_range(8..3_000))
                .into_bytes(),
            2 => [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf5", b"\xe5\xad", b"\xff\xfe"][rng.random_range(0..6)].to_vec(),
            3 => format!("{}{}", rng.random_range(-1_000_000..1_000_000_i64), ["", ".5", "e3", "e-9"][rng.random_range(0..4)])
                .into_bytes(),
            _ => self.words[rng.random_range(0..self.words.len())].clone().into_bytes(),
        }
    }

    fn change(&self, input: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        let at = rng.random_range(0..=input.len());
        let some = at..rng.random_range(at..=input.len().min(at + 200));
        match rng.random_range(0..14) {
            0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < input.len() => input[at] = rng.random(),
            2 => input.truncate(at),
            3 => drop(input.drain(some)),
            4 => {
                let again = input[some].repeat(rng.random_range(1..6));
                input.splice(at..at, again);
            }
            5 => {
                let other = self.pick(rng);
                let tail = other[rng.random_range(0..=other.len())..].to_vec();
                input.splice(at.., tail);
            }
            6 => {
                let moved: Vec<u8> = input.drain(some).collect();
                let to = rng.random_range(0..=input.len());
                input.splice(to..to, moved);
            }
            7 | 8 => drop(input.splice(at..at, self.word(rng))),
            9 => drop(input.splice(string_at(input, at), self.word(rng))),
            10 => drop(input.splice(string_at(input, at), CANARY.bytes())),
            _ => drop(input.splice(token_at(input, at), self.word(rng))),
        }
    }
}

/// The word or number around or before `at`.
fn token_at(input: &[u8], at: usize) -> Range<usize> {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+_".contains(byte);
    let end = at + input[at..].iter().take_while(|byte| inside(byte)).count();
    let start = at - input[..at].iter().rev().take_while(|byte| inside(byte)).count();
    start..end
}

/// What stands between the quotes or commas around `at`.
fn string_at(input: &[u8], at: usize) -> Range<usize> {
    let ends = |byte: &u8| b"\",\n".contains(byte);
    let end = at + input[at..].iter().take_while(|byte| !ends(byte)).count();
    let start = at - input[..at].iter().rev().take_while(|byte| !ends(byte)).count();
    start..end
}
