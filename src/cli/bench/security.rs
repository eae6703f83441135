//! What authentication, authorisation, encryption and audit cost of an admission, each beside the same work without it, in one run: SQLite
//! in a temporary folder, one caller, no model.

mod issuer;
mod replay;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use reqwest::{Method, StatusCode};
use serde::Serialize;

use super::admission::direct;
use super::names::named;
use crate::cli::{caller, generate, local, now, thousands};
use crate::codec::fhir;
use crate::config::Config;
use crate::domain::import::{ImportId, Source};
use crate::domain::{Action, AuditEvent, Encounter, Outcome, Role};
use crate::error::{Error, Result};
use crate::sign_in::development::Key;
use crate::sign_in::{Presented, SignIn};
use crate::store::sealed::{KeyFile, Sealed};
use crate::store::sqlite::Sqlite;
use crate::store::{Admitted, Batch, Step, Store};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Admissions for each line, one after the other
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    admissions: u32,
}

/// A part of an admission, in microseconds each: means of work that only computes, medians of what waits for the disk.
#[derive(Debug, Serialize)]
struct Part {
    what: &'static str,
    with_us: Option<f64>,
    without_us: Option<f64>,
    cost_us: f64,
    share: f64,
}

impl Part {
    /// Work that is nothing but the part.
    fn alone(what: &'static str, cost_us: f64) -> Self {
        Self { what, with_us: None, without_us: None, cost_us, share: f64::NAN }
    }

    fn beside(what: &'static str, (with, without): (f64, f64)) -> Self {
        Self { what, with_us: Some(with), without_us: Some(without), cost_us: with - without, share: f64::NAN }
    }
}

pub(super) async fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let scratch = local::Scratch::new("security")?;
    let today = now().date_naive();
    let patients = |first_id: i32| -> Result<Vec<Encounter>> {
        Ok(named(1, first_id, args.admissions)?.into_iter().map(|patient| generate::admit(patient, today)).collect())
    };
    let whole = over_http(config, &scratch, patients(1)?).await?;
    let stores = Stores::open(&scratch).await?;
    let patients = patients(1)?;
    let mut parts = signing_in(&scratch, args.admissions).await?;
    parts.push(Part::alone("authorisation: role check", role_check(args.admissions)));
    parts.push(Part::beside("encryption: names sealed", stores.sealing(&patients).await?));
    let admitted = stores.admissions(&patients).await?;
    let at = scratch.path();
    let replayed = replay::run(at.join("plain.db"), [at.join("with.db"), at.join("without.db")], &patients).await?;
    parts.push(Part::beside("audit: event and chain, in the transaction", replayed));
    let alone = stores.events_alone(&patients).await?;
    for part in &mut parts {
        part.share = part.cost_us / whole;
    }
    print(args, whole, &parts, admitted, alone);
    let report = serde_json::json!({
        "admissions": args.admissions, "whole_us": whole, "parts": parts, "event_alone_us": alone,
        "stored_us": { "names_encrypted": admitted.0, "names_plain": admitted.1 },
    });
    say!("\n{report}");
    Ok(ExitCode::SUCCESS)
}

fn print(args: &Args, whole: f64, parts: &[Part], admitted: (f64, f64), event_alone: f64) {
    say!("{} admissions a line, one after the other; microseconds each", thousands(args.admissions.into()));
    say!("{:<46} {:>9} {:>9} {:>9} {:>9}", "", "with", "without", "cost", "share");
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    for Part { what, with_us, without_us, cost_us, share } in parts {
        say!("{what:<46} {:>9} {:>9} {cost_us:>9.2} {:>7.2} %", cell(*with_us), cell(*without_us), share * 1e2);
    }
    // A call brings one token; the measured admissions brought the development issuer's, the second line.
    let paid: f64 = parts.iter().skip(1).map(|part| part.share).sum();
    say!("{:<46} {:>9} {:>9} {:>9.2} {:>7.2} %", "all four, with the development issuer's token", "", "", paid * whole, paid * 1e2);
    say!("{:<46} {whole:>9.1} {:>9} {:>9} {:>7.2} %", "the whole admission over HTTP", "-", "-", 1e2);
    say!("\nBeside them: an admission into the record, names encrypted {:.1} and plain {:.1};", admitted.0, admitted.1);
    say!("an audit event in a transaction of its own, as a refusal has it, {event_alone:.1}.");
}

/// A whole admission: HTTP, token, role, message, names, event, answer.
async fn over_http(config: &Config, scratch: &local::Scratch, patients: Vec<Encounter>) -> Result<f64> {
    let folder = scratch.path().join("served");
    crate::cli::create_private(&folder)?;
    let (running, _) = local::start_host(config, &folder).await?;
    let client = direct(&running, crate::cli::token::of_every_role(config, &folder)?)?;
    let mut times = Times::default();
    for patient in patients {
        let message = fhir::encode_blueprint_admission(&patient).to_string().into_bytes();
        let begun = Instant::now();
        let (status, _) = client.call(Method::POST, "api/PatientAdmissionFunc", Some(message)).await?;
        times.note(begun);
        if status != StatusCode::CREATED {
            return Err(Error::internal(format!("an admission was answered {status}")));
        }
    }
    running.stop().await;
    Ok(times.median())
}

/// A token judged: RSA (RS256) with keys that an issuer of Entra's kind publishes on this machine, and the development issuer's (ES256).
async fn signing_in(scratch: &local::Scratch, count: u32) -> Result<Vec<Part>> {
    let issuer = issuer::Issuer::start().await?;
    let key = Key::open(scratch.path())?;
    let own = SignIn::new(false, Some(key.verifier()), None);
    let token = key.issue(&Role::ALL, &[], now(), 60)?;
    Ok(vec![
        Part::alone(
            "authentication: a token of Entra's kind, RS256",
            judge(&issuer.sign_in()?, &issuer.token(now())?, count).await?,
        ),
        Part::alone("authentication: a development token, ES256", judge(&own, &token, count).await?),
    ])
}

async fn judge(sign_in: &SignIn, token: &str, count: u32) -> Result<f64> {
    let header = format!("Bearer {token}");
    let presented = Presented { authorizations: vec![header.as_bytes()], ..Presented::default() };
    let refused = |reason| Error::internal(format!("the token was refused: {reason:?}"));
    // The first call fetches the issuer's keys.
    sign_in.caller(&presented, String::new(), now()).await.map_err(refused)?;
    let begun = Instant::now();
    for _ in 0..count {
        black_box(sign_in.caller(black_box(&presented), String::new(), now()).await.map_err(refused)?);
    }
    Ok(micros(begun, count as usize))
}

/// Far too short to be timed alone.
const CHECKS_EACH: u32 = 100;

fn role_check(count: u32) -> f64 {
    let (caller, checks) = (caller(), count * CHECKS_EACH);
    let begun = Instant::now();
    for _ in 0..checks {
        black_box(black_box(&caller).may(black_box(Action::Admit)));
    }
    micros(begun, checks as usize)
}

/// A record with names encrypted, and one with names as they are.
struct Stores {
    sealed: Sealed,
    plain: Arc<Sqlite>,
}

impl Stores {
    async fn open(scratch: &local::Scratch) -> Result<Self> {
        let open = |name: &str| Sqlite::open(scratch.path().join(name)).map(Arc::new);
        let key = Arc::new(KeyFile::new(scratch.path().join("data.key")));
        let stores = Self { sealed: Sealed::new(open("sealed.db")?, key, now), plain: open("plain.db")? };
        for store in stores.both() {
            store.migrate().await?;
        }
        Ok(stores)
    }

    /// Encrypted and plain.
    fn both(&self) -> [&dyn Store; 2] {
        [&self.sealed, &*self.plain]
    }

    /// The names of a batch that the record turns away, for another delivery has taken the import over: sealing comes before that, and no
    /// row is written, so the difference is sealing alone.
    async fn sealing(&self, patients: &[Encounter]) -> Result<(f64, f64)> {
        let source = Source { account: "bench".into(), container: "bench".into(), name: "bench".into(), etag: "1".into() };
        let id = ImportId("0".repeat(32));
        let (encounters, lines) = (patients.to_vec(), vec![0; patients.len()]);
        let (rejects, rejected_rows) = (Vec::new(), 0);
        let batch = Batch { import: id.clone(), part: None, attempt: 1, after: 0, encounters, lines, rejects, rejected_rows };
        let mut each = [0.0; 2];
        for (store, each) in self.both().into_iter().zip(&mut each) {
            for _ in 0..2 {
                store.begin_import(&id, &source, now()).await?;
            }
            let begun = Instant::now();
            if store.import_batch(&batch).await? != Step::Superseded {
                return Err(Error::internal("a delivery that is over was taken"));
            }
            *each = micros(begun, patients.len());
        }
        Ok(each.into())
    }

    /// By turns, so that a busy moment falls on both.
    async fn admissions(&self, patients: &[Encounter]) -> Result<(f64, f64)> {
        let mut times = [Times::default(), Times::default()];
        for patient in patients {
            for (store, times) in self.both().into_iter().zip(&mut times) {
                let begun = Instant::now();
                let admitted = store.admit(patient, None, &admission(patient)).await?;
                times.note(begun);
                if admitted != Admitted::Now {
                    return Err(Error::internal("an admission was not new"));
                }
            }
        }
        Ok(times.map(|times| times.median()).into())
    }

    async fn events_alone(&self, patients: &[Encounter]) -> Result<f64> {
        let mut times = Times::default();
        for patient in patients {
            let begun = Instant::now();
            self.plain.append_audit(&admission(patient)).await?;
            times.note(begun);
        }
        Ok(times.median())
    }
}

fn admission(patient: &Encounter) -> AuditEvent {
    AuditEvent::new(&caller(), Action::Admit, Outcome::Success, now()).about(patient.id)
}

/// Microseconds of each of many.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn note(&mut self, begun: Instant) {
        self.0.push(micros(begun, 1));
    }

    fn median(mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn micros(begun: Instant, count: usize) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6 / count as f64
}
