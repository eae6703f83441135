//! Faults on purpose: what goes wrong between a host and its handler, each behind a switch. None is on by default.
//! It does not know what a function does; it only decides which call meets which fault.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::app::{Function, Trigger};
use crate::error::{Error, Result};

/// How long a call runs before its handler is ended, if the switch does not say: long enough to be sent.
const AFTER: Duration = Duration::from_millis(20);
/// The longest delay, in milliseconds.
const DELAY_MS_MAX: u64 = 10 * 60 * 1000;
/// The most deliveries of one message: as many as a message has attempts.
const TIMES_MAX: u32 = 5;
/// The widest window of messages that are taken out of order.
const WINDOW_MAX: u32 = 1000;

/// A fault, written `NAME=VALUE` ([`FAULTS`] lists them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The handler is killed during a call: a crash, of which the third stops the host.
    Kill(Calls, Duration),
    /// The handler is replaced during a call, as after a function's timeout: every call in it fails, and it is not counted.
    Restart(Calls, Duration),
    /// The handler has done its work, and its answer is lost: the host sees a failure, and writes no output.
    Drop(Calls),
    /// The handler is not asked, and the host sees a failure.
    Fail(Calls),
    /// The handler is looked for only so long after each of its starts.
    ReadyDelay(Duration),
    /// A message that succeeded comes again, so often in all.
    Duplicate(u32),
    /// Each message is given to the handler so often at once.
    Concurrent(u32),
    /// The next message is any of the oldest so many.
    Reorder(u32),
}

/// The calls that a fault meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    which: Which,
    /// `None`: of every function that is not called over HTTP.
    function: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// This one, from 1.
    Nth(u64),
    /// So many in a hundred, at random.
    Percent(u32),
}

/// Every fault, for a help text: its form and what it does.
pub const FAULTS: [(&str, &str); 8] = [
    ("kill=CALL[,MS]", "SIGKILL the handler MS (20) milliseconds into the call; the third crash stops the host, as in Azure"),
    ("restart=CALL[,MS]", "replace the handler during the call, as after a function's timeout; not counted"),
    ("drop=CALL", "lose the handler's answer: its work is done and the host sees a failure"),
    ("fail=CALL", "fail the call without asking the handler"),
    ("ready-delay=MS", "look for the handler only so long after each of its starts"),
    ("duplicate=N", "deliver every message of a queue or container, and every event, N times one after the other"),
    ("concurrent=N", "deliver it N times at once"),
    ("reorder=N", "take any of the N oldest messages next, and an event batch in any order"),
];

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fault = |what: &str| Error::invalid(format!("a fault is written NAME=VALUE, and {what}"));
        let (name, value) = text.split_once('=').ok_or_else(|| fault("this one has no value"))?;
        let number = |text: &str, most: u64, of: &str| -> Result<u64> {
            let number = text.parse::<u64>().ok().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| fault(&format!("{of} of `{name}` must be a number from 1 to {most}")))
        };
        let times = |most: u32| number(value, most.into(), "the value").map(|times| u32::try_from(times).unwrap_or(most));
        let ms = |text: &str| number(text, DELAY_MS_MAX, "the milliseconds").map(Duration::from_millis);
        let calls = |text: &str| -> Result<Calls> {
            let (which, function) = match text.split_once('@') {
                Some((which, function)) => (which, Some(function.to_owned())),
                None => (text, None),
            };
            let which = match which.strip_suffix('%') {
                Some(percent) => Which::Percent(u32::try_from(number(percent, 100, "the percentage")?).unwrap_or(100)),
                None => Which::Nth(number(which, u64::MAX, "the call")?),
            };
            Ok(Calls { which, function })
        };
        // `CALL[,MS][@FUNCTION]`
        let timed = || -> Result<(Calls, Duration)> {
            let (head, function) = value.split_once('@').map_or((value, ""), |(head, function)| (head, function));
            let (which, after) = match head.split_once(',') {
                Some((which, after)) => (which, ms(after)?),
                None => (head, AFTER),
            };
            let at = if function.is_empty() { which.to_owned() } else { format!("{which}@{function}") };
            Ok((calls(&at)?, after))
        };
        Ok(match name {
            "kill" => timed().map(|(at, after)| Fault::Kill(at, after))?,
            "restart" => timed().map(|(at, after)| Fault::Restart(at, after))?,
            "drop" => Fault::Drop(calls(value)?),
            "fail" => Fault::Fail(calls(value)?),
            "ready-delay" => Fault::ReadyDelay(ms(value)?),
            "duplicate" => Fault::Duplicate(times(TIMES_MAX)?),
            "concurrent" => Fault::Concurrent(times(TIMES_MAX)?),
            "reorder" => Fault::Reorder(times(WINDOW_MAX)?),
            _ => return Err(fault(&format!("the names are {}", FAULTS.map(|(form, _)| form).join(", ")))),
        })
    }
}

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    Kill(Duration),
    Restart(Duration),
    Drop,
    Fail,
}

/// The faults of one host.
pub(crate) struct Faults {
    rules: Vec<Rule>,
    pub(crate) ready_delay: Duration,
    /// Deliveries of a message one after the other, at least 1.
    pub(crate) duplicate: u32,
    /// Deliveries of a message at once, at least 1.
    pub(crate) concurrent: u32,
    /// Messages that the next one is drawn from, at least 1.
    pub(crate) window: u32,
    draws: Mutex<ChaCha8Rng>,
}

struct Rule {
    calls: Calls,
    harm: Harm,
    seen: AtomicU64,
}

impl Faults {
    /// `seed` decides everything random.
    pub(crate) fn new(faults: &[Fault], seed: u64) -> Faults {
        let mut all = Faults {
            rules: Vec::new(),
            ready_delay: Duration::ZERO,
            duplicate: 1,
            concurrent: 1,
            window: 1,
            draws: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
        };
        for fault in faults {
            tracing::warn!(?fault, "a fault is switched on");
            let (calls, harm) = match fault {
                Fault::Kill(calls, after) => (calls, Harm::Kill(*after)),
                Fault::Restart(calls, after) => (calls, Harm::Restart(*after)),
                Fault::Drop(calls) => (calls, Harm::Drop),
                Fault::Fail(calls) => (calls, Harm::Fail),
                Fault::ReadyDelay(delay) => {
                    all.ready_delay = *delay;
                    continue;
                }
                Fault::Duplicate(times) => {
                    all.duplicate = *times;
                    continue;
                }
                Fault::Concurrent(times) => {
                    all.concurrent = *times;
                    continue;
                }
                Fault::Reorder(window) => {
                    all.window = *window;
                    continue;
                }
            };
            all.rules.push(Rule { calls: calls.clone(), harm, seen: AtomicU64::new(0) });
        }
        all
    }

    /// What the next call of `function` meets; every rule counts it, the first that applies wins.
    pub(crate) fn next_call(&self, function: &Function) -> Option<Harm> {
        let mut met = None;
        for rule in &self.rules {
            let concerns = match &rule.calls.function {
                Some(name) => name.eq_ignore_ascii_case(&function.name),
                None => !matches!(function.trigger, Trigger::Http { .. }),
            };
            if !concerns {
                continue;
            }
            let call = rule.seen.fetch_add(1, Ordering::Relaxed) + 1;
            let applies = match rule.calls.which {
                Which::Nth(nth) => call == nth,
                Which::Percent(percent) => self.draw() % 100 < u64::from(percent),
            };
            if applies && met.is_none() {
                met = Some(rule.harm);
            }
        }
        if let Some(harm) = met {
            tracing::warn!(function = function.name, ?harm, "a fault on purpose");
        }
        met
    }

    /// A random number.
    pub(crate) fn draw(&self) -> u64 {
        self.draws.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Puts `items` into a random order, if messages are to come out of order.
    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        if self.window > 1 {
            shuffle(items, || self.draw());
        }
    }
}

/// Every order equally likely, but for the bias of a remainder, which is none to speak of.
pub(crate) fn shuffle<T>(items: &mut [T], mut draw: impl FnMut() -> u64) {
    for last in (1..items.len()).rev() {
        let other = usize::try_from(draw() % (last as u64 + 1)).unwrap_or(last);
        items.swap(last, other);
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Function {
        Function {
            name: name.into(),
            binding: "item".into(),
            trigger: Trigger::EventGrid,
            queue_outputs: Vec::new(),
            http_output: None,
            pure_http: false,
        }
    }

    fn faults(texts: &[&str]) -> Faults {
        let parsed: Vec<Fault> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Faults::new(&parsed, 1)
    }

    #[test]
    fn a_fault_is_written_as_the_help_says() {
        assert_eq!(
            "kill=2,50@Train".parse::<Fault>().unwrap(),
            Fault::Kill(Calls { which: Which::Nth(2), function: Some("Train".into()) }, Duration::from_millis(50))
        );
        assert_eq!("drop=30%".parse::<Fault>().unwrap(), Fault::Drop(Calls { which: Which::Percent(30), function: None }));
        assert_eq!("ready-delay=300".parse::<Fault>().unwrap(), Fault::ReadyDelay(Duration::from_millis(300)));
        assert_eq!("concurrent=2".parse::<Fault>().unwrap(), Fault::Concurrent(2));
        for wrong in ["kill", "kill=", "kill=0", "kill=1,x", "drop=101%", "duplicate=6", "reorder=0", "burn=1", "drop=a@B"] {
            let error = wrong.parse::<Fault>().unwrap_err();
            assert!(error.message().contains("NAME=VALUE"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_rule_counts_the_calls_that_concern_it() {
        let faults = faults(&["drop=2@A", "fail=1"]);
        assert_eq!(faults.next_call(&function("a")), Some(Harm::Fail));
        assert_eq!(faults.next_call(&function("b")), None);
        assert_eq!(faults.next_call(&function("A")), Some(Harm::Drop));
        assert_eq!(faults.next_call(&function("A")), None);
    }

    #[test]
    fn random_faults_come_as_often_as_asked_and_from_the_seed() {
        let times = |texts: &[&str]| {
            let faults = faults(texts);
            (0..1000).map(|_| faults.next_call(&function("a")).is_some()).collect::<Vec<_>>()
        };
        let third = times(&["drop=30%"]);
        assert_eq!(third, times(&["drop=30%"]));
        let met = third.iter().filter(|met| **met).count();
        assert!((250..350).contains(&met), "{met} of 1000");
        assert!(times(&["drop=100%"]).iter().all(|met| *met) && times(&[]).iter().all(|met| !met));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let faults = faults(&["reorder=8"]);
        let mut items: Vec<u32> = (0..50).collect();
        faults.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
