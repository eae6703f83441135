//! Whose patients a caller reaches: facilities that are assigned, and break-glass, through the running handler.

use std::collections::BTreeSet;

use super::*;
use crate::main_job::blueprint_admission;

const ANN: &str = "aaaaaaaa-1111-4111-8111-111111111111";
const BEN: &str = "bbbbbbbb-2222-4222-8222-222222222222";
const CIO: &str = "cccccccc-3333-4333-8333-333333333333";
const SUE: &str = "dddddddd-4444-4444-8444-444444444444";
/// What somebody types, and what must be seen nowhere.
const TYPED: &str = "Zebulonqx Wyvernjk in bed 4 bleeds, ward B is unattended";

/// A hospital's handler where nobody reaches anybody before it is said.
struct Ward {
    key: Key,
    server: Server,
    folder: tempfile::TempDir,
}

impl Ward {
    fn new() -> Self {
        let key = Key::new("k1");
        Self { server: Server::start(&[&key]), key, folder: tempfile::tempdir().unwrap() }
    }

    fn start(&self, more: &[(&str, &str)]) -> Handler {
        start(self.folder.path(), &self.server, more)
    }

    fn token(&self, object: &str, roles: &[&str], more: Value) -> String {
        let mut more = more;
        more["oid"] = json!(object);
        self.key.sign(&claims(roles, more))
    }

    fn person(&self, object: &str, role: &str) -> String {
        self.token(object, &[role], json!({}))
    }
}

fn ask(handler: &Handler, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = handler.client.request(method.parse().unwrap(), handler.url(path)).bearer_auth(token);
    let request = if method == "GET" { request } else { request.header("content-type", "application/json").body(body.to_string()) };
    let answer = handler.send(request);
    (answer.status, answer.body)
}

fn get(handler: &Handler, token: &str, path: &str) -> Value {
    let (status, body) = ask(handler, token, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Admits to facility B, or another.
fn admit(handler: &Handler, token: &str, id: i64, facility: &str) -> (u16, Value) {
    let mut admission = blueprint_admission(id);
    admission["encounter"]["serviceProvider"] = json!({ "reference": format!("Organization/{facility}"), "display": facility });
    ask(handler, token, "POST", "api/PatientAdmissionFunc", &admission)
}

fn discharge(handler: &Handler, token: &str, id: i64) -> (u16, Value) {
    let body = json!({ "encounter": { "resourceType": "Encounter", "id": id, "period": { "end": "2026-10-08" } } });
    ask(handler, token, "PUT", "api/PatientDischargeFunc", &body)
}

fn assign(handler: &Handler, token: &str, whose: &str, facilities: Value) -> (u16, Value) {
    ask(handler, token, "PUT", &format!("api/assignments/{whose}"), &json!({ "facilities": facilities }))
}

fn break_glass(handler: &Handler, token: &str) -> (u16, Value) {
    ask(handler, token, "POST", "api/break-glass", &json!({ "reason": "emergency-treatment", "text": TYPED, "minutes": 30 }))
}

fn trail(handler: &Handler, action: &str) -> Vec<Vec<String>> {
    handler.rows(&format!("SELECT caller, outcome, detail FROM audit WHERE action = '{action}' ORDER BY seq"))
}

#[test]
fn a_care_line_manager_reaches_the_assigned_facilities_alone() {
    let ward = Ward::new();
    let handler = ward.start(&[]);
    let (ann, ben, sue) = (ward.person(ANN, MANAGER), ward.person(BEN, MANAGER), ward.person(SUE, SITE));
    let (status, body) = admit(&handler, &ann, 900_001, "B");
    assert_eq!(status, 403, "{body}");
    assert!(body["detail"].as_str().unwrap().contains("the facility B is not among yours"), "{body}");
    assert_eq!(get(&handler, &ann, "api/me")["facilities"], json!([]));
    // It counts at once, though the handler knew better a moment ago; an id is the same in either case.
    let (status, body) = assign(&handler, &sue, &ANN.to_uppercase(), json!(["B", "a", "B"]));
    assert_eq!((status, &body["caller"], &body["facilities"]), (200, &json!(ANN), &json!(["A", "B"])));
    assert_eq!(assign(&handler, &sue, BEN, json!(["C"])).0, 200);
    assert_eq!(admit(&handler, &ann, 900_001, "B").0, 201);
    assert_eq!(get(&handler, &ann, "api/me")["facilities"], json!(["A", "B"]));
    assert_eq!(admit(&handler, &ben, 900_001, "B").0, 403, "nor is a repeat answered");
    // Of another's patient nothing is told, not even that there is one.
    let (unknown, beyond) = (discharge(&handler, &ben, 900_009), discharge(&handler, &ben, 900_001));
    assert_eq!(unknown, beyond);
    assert_eq!(unknown.0, 404);
    assert!(unknown.1["detail"].as_str().unwrap().contains("no open encounter with this id in your facilities"), "{}", unknown.1);
    let told: Vec<_> = trail(&handler, "discharge");
    assert_eq!(told, [[BEN, "failure", ""], [BEN, "refused", "the facility is out of reach"]]);
    assert_eq!(trail(&handler, "admit")[0], [ANN, "refused", "the facility is out of reach"]);

    let listed = get(&handler, &sue, "api/assignments");
    assert_eq!(listed["assignments"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed["assignments"][1]["assignedBy"], SUE);
    let delete = |whose: &str| ask(&handler, &sue, "DELETE", &format!("api/assignments/{whose}"), &Value::Null).0;
    assert_eq!([delete(ANN), delete(ANN)], [200, 404]);
    assert_eq!(discharge(&handler, &ann, 900_001).0, 404);
    assert_eq!(assign(&handler, &sue, ANN, json!("all")).0, 200);
    assert_eq!(discharge(&handler, &ann, 900_001).0, 200);
    for wrong in [json!(["Z"]), json!(["AB"]), json!("every"), json!(7), json!([1])] {
        assert_eq!(assign(&handler, &sue, ANN, wrong.clone()).0, 400, "{wrong}");
    }
    assert_eq!(assign(&handler, &sue, "a%20b", json!("all")).0, 400);
    assert_eq!(assign(&handler, &ann, ANN, json!("all")).0, 403, "nobody but the site administrator");
    let assigned: Vec<_> = trail(&handler, "assign-facilities").into_iter().map(|event| event[2].clone()).collect();
    assert_eq!(assigned[0], format!("assigned to {ANN}: AB"));
    assert!(assigned.contains(&format!("taken from {ANN}")));
}

#[test]
fn two_handlers_on_one_record_see_each_others_assignments_within_seconds() {
    let ward = Ward::new();
    let (one, two) = (ward.start(&[]), ward.start(&[]));
    let ann = ward.person(ANN, MANAGER);
    let until = |handler: &Handler, id: i64, status: u16| {
        let begun = Instant::now();
        while admit(handler, &ann, id, "B").0 != status {
            assert!(begun.elapsed() < Duration::from_secs(15), "it is never seen");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    assert_eq!([admit(&one, &ann, 1, "B").0, admit(&two, &ann, 1, "B").0], [403, 403]);
    let sue = ward.person(SUE, SITE);
    assert_eq!(assign(&one, &sue, ANN, json!(["B"])).0, 200);
    assert_eq!(admit(&one, &ann, 1, "B").0, 201);
    until(&two, 2, 201);
    let said = |args: &[&str]| {
        let output = hdai(ward.folder.path()).arg("facilities").args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, listed) = said(&["assigned"]);
    assert!(code == Some(0) && listed.contains(&format!("{ANN}  B  by {SUE}")), "{listed}");
    assert_eq!(said(&["assign", "--caller", ANN, "--facility", "C", "--facility", "d"]).0, Some(0));
    until(&one, 3, 403);
    assert_eq!(said(&["unassign", "--caller", ANN]).0, Some(0));
    assert_eq!(said(&["unassign", "--caller", ANN]).0, Some(1));
    assert_eq!(said(&["assign", "--caller", ANN, "--facility", "Z"]).0, Some(1));
    assert_eq!(said(&["assign", "--caller", ANN]).0, Some(2));
    assert_eq!(said(&["assign", "--caller", ANN, "--all", "--facility", "A"]).0, Some(2));
}

#[test]
fn broken_glass_opens_other_facilities_loudly_and_the_auditor_sees_what_was_done() {
    let ward = Ward::new();
    let handler = ward.start(&[("HDAI_LOG", "trace")]);
    let (ben, sue, auditor) = (ward.person(BEN, MANAGER), ward.person(SUE, SITE), ward.person(ANN, AUDITOR));
    assert_eq!(assign(&handler, &sue, BEN, json!(["C"])).0, 200);
    assert_eq!(admit(&handler, &ben, 1, "B").0, 403);
    let (status, broken) = break_glass(&handler, &ben);
    assert_eq!((status, &broken["runs"], &broken["purposeOfUse"]), (201, &json!(true), &json!("ETREAT")), "{broken}");
    let (id, path) = (broken["id"].as_str().unwrap(), format!("api/break-glass/{}", broken["id"].as_str().unwrap()));
    let (status, again) = break_glass(&handler, &ben);
    assert_eq!((status, &again["id"], &again["until"]), (200, &broken["id"], &broken["until"]));
    assert_eq!(get(&handler, &ben, "api/me")["elevation"]["id"], id);
    assert_eq!(get(&handler, &ben, "api/me")["facilities"], "all");
    assert_eq!([admit(&handler, &ben, 1, "B").0, admit(&handler, &ben, 2, "C").0, discharge(&handler, &ben, 1).0], [201, 201, 200]);
    assert_eq!(ask(&handler, &ward.person(CIO, CMIO), "DELETE", &path, &Value::Null).0, 404, "it is another's");
    assert_eq!(ask(&handler, &ben, "DELETE", &path, &Value::Null).0, 200);
    assert_eq!(ask(&handler, &ben, "DELETE", &path, &Value::Null).0, 404);
    assert_eq!([admit(&handler, &ben, 3, "B").0, discharge(&handler, &ben, 2).0], [403, 200]);

    // What needed it ends with its mark; what did not has none.
    let mark = format!("break-glass {id}");
    let marked: Vec<_> = trail(&handler, "admit").into_iter().map(|event| event[2].ends_with(&mark)).collect();
    assert_eq!(marked, [false, true, false, false]);
    let list = get(&handler, &auditor, "api/break-glass");
    let listed = &list["elevations"][0];
    assert_eq!((&listed["caller"], &listed["events"], &listed["runs"]), (&json!(BEN), &json!(2), &json!(false)), "{list}");
    assert_eq!(listed["reason"], "emergency-treatment");
    assert!(!list.to_string().contains("Zebulonqx"), "a list has no words");
    let one = get(&handler, &auditor, &path);
    assert_eq!(one["text"], TYPED);
    let done: Vec<_> = one["trail"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(done, ["discharge", "admit"]);
    let reads = trail(&handler, "read-audit");
    assert_eq!(reads, [[ANN, "success", "list of break-glass"], [ANN, "success", &format!("text of {mark}")]]);
    let details: Vec<_> = trail(&handler, "break-glass").into_iter().map(|event| event[2].clone()).collect();
    assert_eq!(details[0], format!("begun {id}: emergency-treatment, 30 minutes"));
    assert_eq!(details[1..3], [format!("runs already: {id}"), format!("ended {id}")]);

    let log = handler.log();
    assert_eq!(log.matches("alert.break_glass").count(), 1, "once for each that begins");
    let mut outputs = vec![log, format!("{:?}", handler.rows("SELECT detail, roles, correlation FROM audit"))];
    for name in ["hdai.db", "hdai.db-wal"] {
        outputs.push(String::from_utf8_lossy(&std::fs::read(ward.folder.path().join(name)).unwrap_or_default()).into_owned());
    }
    for (place, output) in outputs.iter().enumerate() {
        for canary in ["Zebulonqx", "Wyvernjk", "unattended", "Planted Canary"] {
            assert!(!output.contains(canary), "{canary} is in output {place}");
        }
    }
    // A rotation leaves nothing under the key before, and the words can still be read.
    let words = || handler.rows("SELECT words FROM elevations")[0][0].clone();
    let before = words();
    assert!(hdai(ward.folder.path()).args(["keys", "rotate"]).status().unwrap().success());
    assert_ne!(words()[..20], before[..20]);
    assert_eq!(get(&handler, &auditor, &path)["text"], TYPED);
    let shown = hdai(ward.folder.path()).args(["break-glass", "show", id]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains(TYPED));
}

#[test]
fn whoever_may_not_break_the_glass_is_refused() {
    let ward = Ward::new();
    let handler = ward.start(&[("HDAI_BREAK_GLASS_MINUTES_MAX", "90")]);
    let callers = [
        ("site administrator", ward.person(ANN, SITE)),
        ("analyst", ward.person(ANN, ANALYST)),
        ("scientist", ward.person(ANN, SCIENTIST)),
        ("auditor", ward.person(ANN, AUDITOR)),
        ("a program", ward.token(ANN, &[MANAGER], json!({ "scp": null, "idtyp": "app" }))),
        ("by SMART scopes", ward.token(ANN, &[MANAGER], json!({ "scp": "user/*.cruds" }))),
    ];
    for (what, token) in &callers {
        assert_eq!(break_glass(&handler, token).0, 403, "{what}");
    }
    assert_eq!(handler.count("elevations"), 0);
    assert_eq!(trail(&handler, "break-glass").len(), callers.len());

    let ann = ward.person(ANN, MANAGER);
    let good = json!({ "reason": "patient-safety", "text": TYPED, "minutes": 90 });
    for (member, wrong) in [
        ("reason", json!("Zebulonqx")),
        ("reason", json!(null)),
        ("text", json!("Zebulonqx")),
        ("text", json!("Zebulonqx".repeat(60))),
        ("text", json!("         \n\n       ")),
        ("text", json!(["Zebulonqx", 1])),
        ("minutes", json!(0)),
        ("minutes", json!(91)),
        ("minutes", json!(-1)),
        ("minutes", json!("Zebulonqx")),
        ("Zebulonqx", json!(1)),
    ] {
        let mut body = good.clone();
        body[member] = wrong.clone();
        let (status, answer) = ask(&handler, &ann, "POST", "api/break-glass", &body);
        assert_eq!(status, 400, "{member} {wrong}: {answer}");
        assert!(!answer.to_string().contains("Zebulonqx"), "{answer}");
    }
    for turn in 0..10 {
        let (status, broken) = ask(&handler, &ann, "POST", "api/break-glass", &good);
        assert_eq!(status, 201, "{turn}: {broken}");
        let path = format!("api/break-glass/{}", broken["id"].as_str().unwrap());
        assert_eq!(ask(&handler, &ann, "DELETE", &path, &Value::Null).0, 200);
    }
    assert_eq!(ask(&handler, &ann, "POST", "api/break-glass", &good).0, 409, "ten a day");
    assert!(!handler.log().contains("Zebulonqx"));
}

#[test]
fn an_elevation_outlives_a_kill_and_its_role_does_not_outlive_its_withdrawal() {
    let ward = Ward::new();
    let mut handler = ward.start(&[]);
    let officer = ward.person(CIO, CMIO);
    let actions = |handler: &Handler, token: &str| get(handler, token, "api/me")["actions"].to_string();
    assert!(!actions(&handler, &officer).contains("read-patients"));
    let (status, broken) = break_glass(&handler, &officer);
    assert_eq!(status, 201);
    handler.child.kill().unwrap();
    handler.child.wait().unwrap();
    let handler = ward.start(&[]);
    assert_eq!(get(&handler, &officer, "api/me")["elevation"]["id"], broken["id"]);
    assert!(actions(&handler, &officer).contains("read-patients"));
    assert_eq!(trail(&handler, "break-glass").len(), 1);
    // The same person without the role, by a program, or by an app with scopes has none of it.
    let narrow = json!({ "scp": "user/*.rs" });
    for token in [ward.person(CIO, AUDITOR), ward.token(CIO, &[CMIO], narrow), ward.token(CIO, &[CMIO], json!({ "idtyp": "app" }))]
    {
        let me = get(&handler, &token, "api/me");
        assert_eq!(me["elevation"], Value::Null, "{me}");
        assert!(!me["actions"].to_string().contains("read-patients"), "{me}");
    }
    assert_eq!(admit(&handler, &officer, 1, "B").0, 403, "it reads, and no more");
    let ended = hdai(ward.folder.path()).args(["break-glass", "end", broken["id"].as_str().unwrap()]).status().unwrap();
    assert!(ended.success());
    let begun = Instant::now();
    while get(&handler, &officer, "api/me")["elevation"] != Value::Null {
        assert!(begun.elapsed() < Duration::from_secs(15), "its end is never seen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn whoever_is_signed_in_is_told_who_they_are() {
    let ward = Ward::new();
    let handler = ward.start(&[("WEBSITE_AUTH_ENABLED", "true"), ("HDAI_LOG", "trace")]);
    let me = get(&handler, &ward.person(ANN, AUDITOR), "api/me");
    assert_eq!((&me["id"], &me["name"], &me["tenant"]), (&json!(ANN), &json!("Planted Canary"), &json!(TENANT)));
    assert_eq!((&me["roles"], &me["proof"], &me["program"]), (&json!([AUDITOR]), &json!("entra-token"), &json!(false)));
    assert_eq!((&me["facilities"], &me["elevation"]), (&Value::Null, &Value::Null));
    assert_eq!(me["actions"], json!(["read-imports", "read-audit", "checkpoint-audit"]));
    let program = ward.token(ANN, &[MANAGER], json!({ "scp": null, "idtyp": "app", "name": null, "preferred_username": null }));
    let me = get(&handler, &program, "api/me");
    assert_eq!((&me["program"], &me["name"], &me["facilities"]), (&json!(true), &Value::Null, &json!([])));
    let (status, _, body) = call(&handler, "GET", "/api/me", &[("x-ms-client-principal", principal(OBJECT, TENANT, MANAGER))]);
    assert_eq!((status, body.contains("\"proof\":\"entra\"")), (200, true), "{body}");
    assert_eq!(call(&handler, "GET", "/api/me", &[]).0, 401);
    assert!(!handler.log().contains("Planted"));
    assert_eq!(handler.count("audit"), 0, "nobody is told of anybody else");
}

#[test]
fn patients_are_read_by_reach_and_the_trail_marks_what_needed_an_elevation() {
    let ward = Ward::new();
    let handler = ward.start(&[]);
    let (ann, ben, sue) = (ward.person(ANN, MANAGER), ward.person(BEN, MANAGER), ward.person(SUE, SITE));
    let officer = ward.person(CIO, CMIO);
    assert_eq!(assign(&handler, &sue, ANN, json!("all")).0, 200);
    assert_eq!(assign(&handler, &sue, BEN, json!(["C", "D"])).0, 200);
    for (id, facility) in [(1, "B"), (2, "C"), (3, "B")] {
        assert_eq!(admit(&handler, &ann, id, facility).0, 201);
    }
    let ids = |token: &str, query: &str| -> Vec<i64> {
        let page = get(&handler, token, &format!("api/patients?{query}"));
        page["patients"].as_array().unwrap().iter().map(|patient| patient["encounterId"].as_i64().unwrap()).collect()
    };
    let status = |token: &str, path: &str| ask(&handler, token, "GET", path, &Value::Null).0;
    assert_eq!(ids(&ben, "limit=9"), [2], "one's own");
    assert_eq!(
        [status(&ben, "api/patients?facility=B"), status(&ben, "api/patients/1"), status(&ben, "api/patients/2")],
        [403, 404, 200]
    );
    let (beyond, unknown) =
        (ask(&handler, &ben, "GET", "api/patients/1", &Value::Null), ask(&handler, &ben, "GET", "api/patients/99", &Value::Null));
    assert_eq!(beyond, unknown, "whether there is one is not told");
    // Nor by a name that cannot be decrypted: only whom it is about learns of that.
    handler.database().execute("UPDATE PatientData SET FirstName = LastName WHERE eid = 3", []).unwrap();
    assert_eq!(ask(&handler, &ben, "GET", "api/patients/3", &Value::Null), unknown);

    assert_eq!(status(&officer, "api/patients"), 403);
    let broken = [break_glass(&handler, &ben), break_glass(&handler, &officer)];
    assert_eq!([broken[0].0, broken[1].0], [201, 201]);
    let since = handler.rows("SELECT max(seq) FROM audit")[0][0].clone();
    assert_eq!(ids(&ben, "limit=9"), [3, 2, 1], "beyond one's own");
    assert_eq!(ids(&ben, "facility=D"), [0_i64; 0]);
    assert_eq!(ids(&ben, "facility=E"), [0_i64; 0]);
    assert_eq!(
        [status(&ben, "api/patients/99"), status(&ben, "api/patients?cursor=junk"), status(&ben, "api/patients/1")],
        [404, 400, 200]
    );
    assert_eq!(ids(&officer, "facility=C"), [2]);
    let events = handler.rows(&format!(
        "SELECT ifnull(encounter, 0), caller, detail FROM audit WHERE action = 'read-patients' AND seq > {since} ORDER BY seq"
    ));
    let told: Vec<_> = events
        .iter()
        .map(|event| (event[0].as_str(), event[2].split("; ").next().unwrap(), event[2].contains("break-glass")))
        .collect();
    assert_eq!(
        told,
        [
            ("3", "list", true),
            ("2", "list", false),
            ("1", "list", true),
            ("0", "list of nobody", false),
            ("0", "list of nobody", true),
            ("99", "no such encounter", false),
            ("0", "not a cursor of this route", false),
            ("1", "one", true),
            ("2", "list", true),
        ]
    );
    assert_eq!(events[8][1], CIO, "whose role alone reads nobody");
    let listed = get(&handler, &ward.person(SUE, AUDITOR), "api/break-glass");
    let counts: BTreeSet<_> = listed["elevations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["caller"].clone().to_string(), one["events"].as_u64()))
        .collect();
    assert_eq!(counts, BTreeSet::from([(json!(BEN).to_string(), Some(4)), (json!(CIO).to_string(), Some(1))]));
}

#[test]
fn of_more_assignments_than_an_answer_holds_the_next_are_told_of() {
    let ward = Ward::new();
    let handler = ward.start(&[]);
    handler
        .database()
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001)
             INSERT INTO assignments SELECT printf('caller-%05d', i), 'A', 'sue', '2026-01-01T00:00:00.000000Z' FROM n",
            [],
        )
        .unwrap();
    let page = get(&handler, &ward.person(SUE, SITE), "api/assignments?limit=5000");
    assert_eq!((page["assignments"].as_array().unwrap().len(), &page["next"]), (1_000, &json!("caller-01000")));
}

#[test]
fn whoever_hangs_up_at_once_has_broken_the_glass_as_loudly_as_others() {
    const CALLERS: usize = 20;
    let ward = Ward::new();
    let mut handler = ward.start(&[]);
    let body = json!({ "reason": "emergency-treatment", "text": TYPED, "minutes": 30 }).to_string();
    for number in 0..CALLERS {
        let token = ward.person(&format!("caller-{number}"), MANAGER);
        let head = format!("POST /api/break-glass HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).unwrap();
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    }
    let told = || [trail(&handler, "break-glass").len(), handler.log().matches("alert.break_glass").count()];
    let begun = std::time::Instant::now();
    while told() != [CALLERS; 2] {
        assert!(begun.elapsed() < Duration::from_secs(60), "the trail and the alerts: {:?}", told());
        std::thread::sleep(Duration::from_millis(20));
    }
    handler.lives();
}
