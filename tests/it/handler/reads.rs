//! What people of three roles read from the running handler: patients with names, predictions, encounters that name nobody.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, Days, NaiveDate, Utc};
use health_data_ai::domain::{
    Action, AuditEvent, Caller, Clinical, Encounter, EncounterId, FacilityId, Gender, Interval, Outcome, PersonName, Phi,
    Prediction,
};
use health_data_ai::schema::Feature;
use health_data_ai::store::Store;

use super::*;
use crate::support::{record, token};

const NAMES: [&str; 3] = ["Zebulonqx", "Quixotedv", "Wyvernjk"];
const FIRST: i64 = 700_001;

#[expect(clippy::disallowed_methods, reason = "the handler's day")]
fn today() -> NaiveDate {
    Utc::now().date_naive()
}

/// The first day of the quarter.
fn quarter() -> NaiveDate {
    let month = today().month();
    NaiveDate::from_ymd_opt(today().year(), month - (month - 1) % 3, 1).unwrap()
}

fn encounter(number: i64, facility: &str, admitted: NaiveDate, discharged: Option<NaiveDate>) -> Encounter {
    let mut clinical = Clinical::default();
    clinical.set(Feature::Glucose, Some(90.0 + (number % 50) as f64 / 4.0));
    Encounter {
        id: EncounterId::new(FIRST + number).unwrap(),
        name: PersonName::new(format!("{}{number}", NAMES[0]), NAMES[1], NAMES[2]),
        gender: if number % 2 == 0 { Gender::Female } else { Gender::Male },
        facility: FacilityId::parse(facility).unwrap(),
        admitted: Phi::new(admitted),
        clinical,
        discharged: Phi::new(discharged),
    }
}

/// Seventy open and forty discharged encounters of facility A, five open ones of B and one discharged one of C, with predictions, admitted in
/// the week up to `last`.
fn ward(last: NaiveDate) -> Vec<Encounter> {
    let encounter = |number: i64, facility: &str, stay: Option<u64>| {
        let admitted = last - Days::new((number % 7) as u64);
        encounter(number, facility, admitted, stay.map(|days| admitted + Days::new(days)))
    };
    let open = (0..70).map(|number| encounter(number, "A", None));
    let left = (70..110).map(|number| encounter(number, "A", Some(4)));
    let small = (110..115).map(|number| encounter(number, "B", None));
    open.chain(left).chain(small).chain([encounter(115, "C", Some(9))]).collect()
}

fn filled(folder: &Path, ward: &[Encounter]) {
    let prediction = Prediction {
        days: 5.0,
        interval80: Interval { low: 3.0, high: 7.0 },
        interval90: Interval { low: 2.0, high: 9.0 },
        model_version: "m-1".into(),
        baseline_days: 4.0,
        contributions: vec![],
        missing: vec!["one".into(), "two".into()],
        out_of_range: vec![],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    runtime.block_on(async {
        let store = record(folder);
        store.migrate().await.unwrap();
        for encounter in ward {
            let caller = Caller::command_line("c");
            let event = AuditEvent::new(&caller, Action::Admit, Outcome::Success, chrono::DateTime::UNIX_EPOCH);
            store.admit(encounter, Some(&prediction), &event.about(encounter.id)).await.unwrap();
        }
    });
}

struct Reply {
    status: u16,
    kind: String,
    link: String,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

fn ask(handler: &Handler, role: &str, path: &str, accept: &str) -> Reply {
    let bearer = token(&handler.folder, &[role], &[]);
    handler.runtime.block_on(async {
        let request = handler.client.get(handler.url(path)).bearer_auth(bearer).header("accept", accept);
        let response = request.send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (status, kind, link) = (response.status().as_u16(), header("content-type"), header("link"));
        Reply { status, kind, link, text: response.text().await.unwrap() }
    })
}

#[test]
fn a_care_line_manager_sees_patients_and_each_sight_is_in_the_trail() {
    let folder = tempfile::tempdir().unwrap();
    let ward = ward(today() - Days::new(20));
    filled(folder.path(), &ward);
    let handler = Handler::start(folder.path(), &[("HDAI_ALERT_MASS_ACCESS", "50")]);
    let list = |query: &str| ask(&handler, MANAGER, &format!("api/patients?{query}"), "*/*");
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("limit=30{cursor}"));
        assert_eq!(page.status, 200, "{}", page.text);
        let page = page.json();
        seen.extend(page["patients"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        assert!(!next.contains("7000"), "{next}");
        cursor = format!("&cursor={next}");
    }
    let mut open: Vec<_> = ward.iter().filter(|encounter| encounter.discharged.reveal().is_none()).collect();
    open.reverse();
    assert_eq!(seen.len(), open.len());
    for (shown, encounter) in seen.iter().zip(&open) {
        assert_eq!(shown["encounterId"], encounter.id.get());
        assert_eq!(shown["name"], encounter.name.display().reveal().as_str());
        assert_eq!(shown["days"], (today() - *encounter.admitted.reveal()).num_days());
        assert_eq!(shown["predictedDischarge"], (*encounter.admitted.reveal() + Days::new(5)).to_string());
        assert_eq!((&shown["predictedDays"], &shown["interval80"]["high"]), (&json!(5.0), &json!(7.0)));
    }
    assert_eq!(list("facility=B").json()["patients"].as_array().unwrap().len(), 5);
    let from = today() - Days::new(20);
    let left = list(&format!("status=discharged&admitted_from={from}&admitted_to={from}&limit=100")).json();
    let there =
        ward.iter().filter(|encounter| encounter.discharged.reveal().is_some() && *encounter.admitted.reveal() == from).count();
    assert!(there > 0 && left["patients"].as_array().unwrap().len() == there, "{left}");

    let one = ask(&handler, MANAGER, "api/patients/700003", "application/json").json();
    assert_eq!((&one["prediction"]["missing"], &one["clinical"]["glucose"]), (&json!(["one", "two"]), &json!(90.5)));
    let fhir = ask(&handler, MANAGER, "api/patients?limit=2", "application/fhir+json");
    assert_eq!((fhir.status, fhir.kind.as_str()), (200, "application/fhir+json"));
    let bundle = fhir.json();
    let kinds: Vec<_> = bundle["entry"].as_array().unwrap().iter().map(|e| e["resource"]["resourceType"].clone()).collect();
    assert_eq!(kinds, ["Patient", "Encounter", "RiskAssessment", "Patient", "Encounter", "RiskAssessment"]);
    assert_eq!(bundle["entry"][0]["resource"]["name"][0]["family"], NAMES[2]);
    let next = bundle["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").unwrap()["url"].clone();
    let second = ask(&handler, MANAGER, next.as_str().unwrap().trim_start_matches('/'), "application/fhir+json").json();
    assert_ne!(second["entry"][0], bundle["entry"][0], "the next page");
    let chart = ask(&handler, MANAGER, "api/patients/700003", "application/fhir+json").json();
    assert_eq!((&chart["type"], &chart["entry"][1]["resource"]["id"]), (&json!("collection"), &json!("700003")));

    // An id that is nobody's, and what can be no id: one answer.
    let nobody = ask(&handler, MANAGER, "api/patients/999999", "*/*");
    for odd in ["abc", "0", "-1", "99999999999999999999"] {
        let odd = ask(&handler, MANAGER, &format!("api/patients/{odd}"), "*/*");
        assert_eq!((odd.status, &odd.text), (404, &nobody.text));
    }
    let refused = ask(&handler, MANAGER, "api/patients/999999", "application/fhir+json");
    assert_eq!(refused.json()["resourceType"], "OperationOutcome");
    for odd in ["limit=x", "facility=AB", "status=gone", "admitted_from=22.11.2026", "cursor=junk", "cursor=700003"] {
        assert_eq!(list(odd).status, 400, "{odd}");
    }
    let failed =
        handler.rows("SELECT detail FROM audit WHERE action = 'read-patients' AND outcome = 'failure' AND encounter IS NULL");
    assert_eq!(
        failed.iter().filter(|row| row[0] == "the message breaks rules").count(),
        4,
        "each call is in the trail: {failed:?}"
    );
    assert_eq!(failed.iter().filter(|row| row[0] == "not a cursor of this route").count(), 2, "{failed:?}");
    assert_eq!(ask(&handler, CMIO, "api/patients", "*/*").status, 403);

    let who = hdai(folder.path()).args(["audit", "who", "700003"]).output().unwrap();
    let who = String::from_utf8_lossy(&who.stdout).into_owned();
    assert!(who.matches("read-patients").count() >= 3, "the list and the two sights of one: {who}");
    let verified = hdai(folder.path()).args(["audit", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let log = handler.log();
    assert!(log.contains("alert.mass_access"));
    for canary in NAMES.into_iter().chain(["700003", "999999"]) {
        assert!(!log.contains(canary), "{canary} is in the log");
    }
}

const MANAGER: &str = "CareLineManager";
const CMIO: &str = "ChiefMedicalInformationOfficer";
const SCIENTIST: &str = "DataScientist";

fn export(handler: &Handler) -> Vec<Value> {
    let (mut rows, mut path) = (Vec::new(), "api/encounters?limit=500".to_owned());
    loop {
        let page = ask(handler, SCIENTIST, &path, "*/*");
        assert_eq!((page.status, page.kind.as_str()), (200, "application/x-ndjson"), "{}", page.text);
        rows.extend(page.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        let Some(next) = page.link.strip_prefix("</").and_then(|link| link.strip_suffix(">; rel=\"next\"")) else { return rows };
        path = next.to_owned();
    }
}

#[test]
fn an_export_names_nobody_and_one_encounter_has_one_pseudonym() {
    let folder = tempfile::tempdir().unwrap();
    let ward = ward(quarter() - Days::new(10));
    filled(folder.path(), &ward);
    // Enough rows for several pages.
    let csv = generate(folder.path(), 1_500, 4);
    assert!(hdai(folder.path()).arg("import").arg(&csv).status().unwrap().success());
    let handler = Handler::start(folder.path(), &[("HDAI_ALERT_EXPORT_ROWS", "1000")]);
    let rows = export(&handler);
    let imported = std::fs::read_to_string(&csv).unwrap();
    let header: Vec<&str> = imported.lines().next().unwrap().split(',').collect();
    let place = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name)).unwrap();
    let records: Vec<Vec<&str>> = imported.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), ward.len() + records.len(), "each once");
    let pseudonyms: BTreeSet<&str> = rows.iter().map(|row| row["pseudonym"].as_str().unwrap()).collect();
    assert_eq!(pseudonyms.len(), rows.len());

    let mut secrets: BTreeSet<String> = NAMES.into_iter().map(str::to_owned).collect();
    for encounter in &ward {
        secrets.insert(encounter.id.get().to_string());
        secrets.extend(
            [Some(*encounter.admitted.reveal()), *encounter.discharged.reveal()].into_iter().flatten().map(|day| day.to_string()),
        );
    }
    for record in &records {
        secrets.extend([record[place("eid")].to_owned()].into_iter().filter(|id| id.len() > 4));
        let names = ["FirstName", "LastName"].map(|name| header.iter().position(|column| column.eq_ignore_ascii_case(name)));
        secrets.extend(names.into_iter().flatten().map(|at| record[at].to_owned()).filter(|name| name.len() > 3));
    }
    for row in &rows {
        let mut row = row.clone();
        row.as_object_mut().unwrap().remove("pseudonym");
        let texts: Vec<String> = row.as_object().unwrap().values().map(Value::to_string).collect();
        for text in texts {
            let text = text.trim_matches('"');
            assert!(!secrets.contains(text) && text.parse::<NaiveDate>().is_err(), "{text} is in the export");
        }
    }
    // Groups that can be told apart are not small.
    let mut groups: BTreeMap<String, u32> = BTreeMap::new();
    for row in &rows {
        *groups.entry(json!([row["admissionYear"], row["facility"], row["gender"]]).to_string()).or_default() += 1;
    }
    assert!(groups.values().all(|count| *count >= 11), "{groups:?}");
    let open = 75 + records.iter().filter(|record| record[place("discharged")].is_empty()).count();
    assert_eq!(rows.iter().filter(|row| row["stayDays"].is_null()).count(), open);

    // The list of the newest says neither where nor how long, nor which rows of the export they are.
    let report = ask(&handler, CMIO, "api/predictions?newest=100&days=2&back=365", "*/*");
    assert_eq!(report.status, 200, "{}", report.text);
    for name in NAMES {
        assert!(!report.text.contains(name));
    }
    let report = report.json();
    let newest: Vec<&str> = report["newest"].as_array().unwrap().iter().map(|one| one["pseudonym"].as_str().unwrap()).collect();
    assert_eq!(newest.len(), 100);
    assert!(newest.iter().all(|pseudonym| !pseudonyms.contains(pseudonym)), "a pseudonym of its own");
    assert!(newest.is_sorted(), "not in the order of admission");
    for one in report["newest"].as_array().unwrap() {
        let told: BTreeSet<&str> = one.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(told, BTreeSet::from(["interval80", "missingInputs", "predictedDays", "pseudonym"]));
        assert_eq!(one["missingInputs"], 2);
    }
    let facility =
        |letter: &str| report["facilities"].as_array().unwrap().iter().find(|f| f["facility"] == letter).unwrap().clone();
    assert_eq!((&facility("A")["open"], &facility("A")["judged"]["stays"]), (&json!(70), &json!(40)));
    assert_eq!(facility("A")["judged"]["biasDays"], json!(-1.0));
    assert_eq!((&facility("B")["open"], &facility("C")["judged"]["stays"]), (&Value::Null, &Value::Null), "small cells");
    assert_eq!(facility("A")["expected"].as_array().unwrap().len(), 3);
    for odd in ["back=31", "days=x"] {
        assert_eq!(ask(&handler, CMIO, &format!("api/predictions?{odd}"), "*/*").status, 400);
    }
    let census = ask(&handler, CMIO, "api/census", "*/*").json();
    let of_a = census["facilities"].as_array().unwrap().iter().find(|f| f["facility"] == "A").unwrap();
    assert_eq!((&of_a["occupied"], &of_a["expectedDischarges"]), (&json!(70), &Value::Null), "a sum of cells that are withheld");

    // A cursor of another route, an altered one.
    let patients = ask(&handler, MANAGER, "api/patients?limit=1", "*/*").json();
    let foreign = patients["next"].as_str().unwrap();
    for odd in [foreign, "junk", "700003"] {
        assert_eq!(ask(&handler, SCIENTIST, &format!("api/encounters?cursor={odd}"), "*/*").status, 400);
    }
    assert_eq!(ask(&handler, SCIENTIST, "api/encounters?format=xml", "*/*").status, 400);
    for (action, calls) in [("read-predictions", 2), ("read-rows", 1)] {
        let failed = format!("SELECT seq FROM audit WHERE action = '{action}' AND detail = 'the message breaks rules'");
        assert_eq!(handler.rows(&failed).len(), calls, "{action}");
    }
    let csv = ask(&handler, SCIENTIST, "api/encounters", "text/csv");
    assert!(csv.kind.starts_with("text/csv") && csv.text.starts_with("pseudonym,admissionYear,"), "{}", csv.kind);
    assert!(handler.log().contains("alert.export"));
    let noted = handler.rows("SELECT detail FROM audit WHERE action = 'read-rows' AND outcome = 'success'");
    let noted: usize = noted.iter().map(|row| row[0].strip_prefix("rows ").unwrap().parse::<usize>().unwrap()).sum();
    assert!(noted >= rows.len(), "{noted}");
    drop(handler);

    // The command line says the same, and another key other pseudonyms.
    let all = |key: Option<&str>| {
        let mut command = hdai(folder.path());
        let out = folder.path().join(format!("rows-{}.csv", key.is_some()));
        command.args(["rows", "--format", "csv", "--out"]).arg(&out);
        let status = command.envs(key.map(|key| ("HDAI_PSEUDONYM_KEY", key))).status().unwrap();
        assert!(status.success());
        let text = std::fs::read_to_string(out).unwrap();
        let found: BTreeSet<String> = text.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect();
        found
    };
    assert_eq!(all(None), pseudonyms.iter().map(|text| (*text).to_owned()).collect());
    let other = all(Some(&BASE64_STANDARD.encode([7; 32])));
    assert_eq!(other.len(), rows.len());
    assert!(other.iter().all(|pseudonym| !pseudonyms.contains(pseudonym.as_str())));
}

#[test]
fn what_comes_and_goes_in_this_quarter_is_not_in_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let before = quarter() - Days::new(3);
    let mut all = ward(quarter() - Days::new(10));
    let told = all.len();
    // One who left in this quarter, and two who came in it.
    all.push(encounter(200, "A", before, Some(quarter())));
    all.push(encounter(201, "A", quarter(), Some(quarter())));
    all.push(encounter(202, "A", today(), None));
    filled(folder.path(), &all);
    let handler = Handler::start(folder.path(), &[]);
    let rows = export(&handler);
    assert_eq!(rows.len(), told + 1);
    assert_eq!(rows.iter().filter(|row| row["stayDays"].is_null()).count(), 76, "who left is like those who stay");
    let discharge = json!({ "encounter": { "resourceType": "Encounter", "id": FIRST, "period": { "end": today().to_string() } } });
    let bearer = token(&handler.folder, &[MANAGER], &[]);
    let request = handler.client.put(handler.url("api/PatientDischargeFunc")).bearer_auth(bearer);
    let request = request.header("content-type", "application/json").body(discharge.to_string());
    assert_eq!(handler.send(request).status, 200);
    assert_eq!(export(&handler), rows, "another day tells nothing more");
}

#[test]
fn an_export_under_which_the_past_changes_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let csv = generate(folder.path(), 1_500, 4);
    assert!(hdai(folder.path()).arg("import").arg(&csv).status().unwrap().success());
    let first = Handler::start(folder.path(), &[]);
    let page = ask(&first, SCIENTIST, "api/encounters?limit=500", "*/*");
    let next = page.link.strip_prefix("</").and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap().to_owned();
    filled(folder.path(), &ward(quarter() - Days::new(10)));
    // The instance that began it knows what was there then; another one cannot tell which rows it has not shown.
    assert_eq!(ask(&first, SCIENTIST, &next, "*/*").status, 200);
    let second = Handler::start(folder.path(), &[]);
    let refused = ask(&second, SCIENTIST, &next, "*/*");
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains("begin it again"), "{}", refused.text);
    assert_eq!(export(&second).len(), 1_500 + 116);
    let failed = second.rows("SELECT detail FROM audit WHERE action = 'read-rows' AND outcome = 'failure'");
    assert_eq!(failed, [["the record changed under an export"]]);
}
