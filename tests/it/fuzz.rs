//! Mutational fuzzing of everything that decodes what strangers send, on the stable toolchain and with no coverage feedback.
//!
//! Input n of a target is made from seed n alone, so a failure is repeated with `HDAI_FUZZ_SEED=n HDAI_FUZZ_INPUTS=1`; its input lies in
//! `fuzz/` below the target folder. A run is as long as its number of inputs, never as long as a clock says.

mod deliveries;
mod files;
mod messages;
mod mutate;
mod sign_in;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use mutate::Mutator;

/// Stands in inputs where a value stands, as a word and as a number; no error may show it.
const CANARY: &str = "q7zkanarienvogel";
const CANARY_NUMBER: &str = "918273645";

/// No input of this size takes the slowest machine a second; one that takes this long hangs.
const HANG: Duration = Duration::from_secs(120);

/// What an input did wrong.
type Verdict = Result<(), String>;

/// What is fed to one decoder, and what must hold for every input.
struct Target {
    name: &'static str,
    /// Inputs of an ordinary run.
    inputs: u64,
    seeds: Vec<Vec<u8>>,
    /// The format's own words.
    words: Vec<String>,
}

enum Told {
    Begun(u64),
    Wrong(u64, String),
}

impl Target {
    /// Holds `property` against every input, and panics with the seed of the first that it does not hold for.
    #[expect(clippy::disallowed_methods, reason = "how long a run is, is the test's own matter and no setting of the app")]
    fn hold(self, property: impl Fn(&[u8]) -> Verdict + Send + 'static) {
        let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let first = setting("HDAI_FUZZ_SEED").unwrap_or_default();
        let inputs = setting("HDAI_FUZZ_INPUTS").unwrap_or(self.inputs);
        self.run(first, inputs, property);
    }

    fn run(self, first: u64, inputs: u64, property: impl Fn(&[u8]) -> Verdict + Send + 'static) {
        let mutator = Mutator::new(self.seeds, self.words);
        let again = mutator.clone();
        let (tell, told) = channel();
        // Not joined: a thread that hangs must not hang the test that says so.
        std::thread::spawn(move || {
            for seed in first..first.saturating_add(inputs) {
                let input = mutator.input(seed);
                let begun = tell.send(Told::Begun(seed));
                let verdict = catch_unwind(AssertUnwindSafe(|| property(&input))).unwrap_or_else(|_| Err("it panicked".to_owned()));
                let ended = verdict.map_or_else(|why| tell.send(Told::Wrong(seed, why)), |()| Ok(()));
                if begun.is_err() || ended.is_err() {
                    return;
                }
            }
        });
        let (mut last, mut begun) = (first, 0);
        loop {
            match told.recv_timeout(HANG) {
                Ok(Told::Begun(seed)) => (last, begun) = (seed, begun + 1),
                Ok(Told::Wrong(seed, why)) => fail(self.name, seed, &again.input(seed), &why),
                Err(RecvTimeoutError::Timeout) => fail(self.name, last, &again.input(last), "it takes too long"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        assert_eq!(begun, inputs, "{}", self.name);
    }
}

fn fail(target: &str, seed: u64, input: &[u8], why: &str) -> ! {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{target}-{seed}"));
    std::fs::write(&file, input).unwrap();
    panic!("{target}: {why}; the input lies in {}, again with HDAI_FUZZ_SEED={seed} HDAI_FUZZ_INPUTS=1", file.display());
}

/// `rule` as a verdict.
fn must(rule: bool, why: &str) -> Verdict {
    if rule { Ok(()) } else { Err(why.to_owned()) }
}

/// Nothing of an input stands in what is shown.
fn quiet(shown: &str) -> Verdict {
    let loud = shown.contains(CANARY) || shown.contains(CANARY_NUMBER);
    if loud { Err(format!("a value of the input is shown: {shown}")) } else { Ok(()) }
}

fn sample(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-data").join(path)).unwrap()
}

#[test]
fn the_same_seed_makes_the_same_input_and_most_seeds_make_a_new_one() {
    let mutator = Mutator::new(vec![b"{\"id\":1,\"name\":\"a b\"}".to_vec()], vec!["id".to_owned()]);
    let inputs: Vec<Vec<u8>> = (0..500).map(|seed| mutator.input(seed)).collect();
    assert!((0..500).all(|seed| mutator.input(seed) == inputs[seed as usize]));
    let different: std::collections::BTreeSet<&Vec<u8>> = inputs.iter().collect();
    assert!(different.len() > 400, "{}", different.len());
    let holds = |what: &[u8]| inputs.iter().any(|input| input.windows(what.len()).any(|window| window == what));
    assert!(holds(CANARY.as_bytes()) && holds(CANARY_NUMBER.as_bytes()) && holds(b"[[[[[[[["));
    assert!(inputs.iter().any(|input| std::str::from_utf8(input).is_err()));
}

#[test]
#[should_panic(expected = "HDAI_FUZZ_SEED=")]
fn a_property_that_does_not_hold_is_told_with_its_seed() {
    let target = Target { name: "self-test", inputs: 500, seeds: vec![b"a,b".to_vec()], words: Vec::new() };
    target.run(0, 500, |input| must(input.first() != Some(&b'['), "planted"));
}
