//! Facts on their way to an Event Grid topic: the real handler, a real receiver, and everything that can go wrong between them.

use std::collections::BTreeSet;

use super::*;
use crate::main_job::blueprint_admission;
use crate::topic::{Mood, Topic};

const NAMES: [&str; 3] = ["Zebulonqx", "Quixotedv", "Wyvernjk"];

/// Whoever calls here has no facilities of their own.
const ALL_REACH_ALL: (&str, &str) = ("HDAI_UNASSIGNED_CARE_LINE_MANAGERS", "all");

fn start(folder: &Path, topic: &Topic, more: &[(&str, &str)]) -> Handler {
    let endpoint = topic.endpoint();
    let own = [
        ALL_REACH_ALL,
        PLATFORM[0],
        PLATFORM[1],
        PLATFORM[2],
        ("HDAI_TOPIC_ENDPOINT", endpoint.as_str()),
        ("HDAI_TOPIC_KEY", "k3y+/Canary="),
    ];
    Handler::start(folder, &[&own, more].concat())
}

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const PLATFORM: [(&str, &str); 3] =
    [("WEBSITE_AUTH_ENABLED", "true"), ("HDAI_ENTRA_TENANT_ID", TENANT), ("HDAI_ENTRA_AUDIENCES", "api://hdai")];

impl Handler {
    fn call_api(&self, method: &str, path: &str, body: &Value) -> u16 {
        let claims = json!([
            { "typ": "oid", "val": "5b54" }, { "typ": "tid", "val": TENANT }, { "typ": "roles", "val": "CareLineManager" }
        ]);
        let principal = BASE64_STANDARD.encode(json!({ "auth_typ": "aad", "claims": claims }).to_string());
        let request = self.client.request(method.parse().unwrap(), self.url(path)).header("x-ms-client-principal", principal);
        self.send(request.header("content-type", "application/json").body(body.to_string())).status
    }

    fn admit(&self, id: i64) -> u16 {
        let mut admission = blueprint_admission(id);
        admission["patient"]["name"] = json!([{ "family": NAMES[2], "given": [NAMES[0], NAMES[1]] }]);
        self.call_api("POST", "api/PatientAdmissionFunc", &admission)
    }

    fn discharge(&self, id: i64) -> u16 {
        let body = json!({ "encounter": { "resourceType": "Encounter", "id": id, "period": { "end": "2026-10-08" } } });
        self.call_api("PUT", "api/PatientDischargeFunc", &body)
    }

    fn timer(&self) -> String {
        let reply = self.done("PublishEvents", &json!({ "Data": { "timer": { "IsPastDue": false } } }));
        reply["Logs"][0].as_str().unwrap().to_owned()
    }

    fn waiting(&self) -> usize {
        self.count("outbox")
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn every_fact_is_published_once_with_ids_only() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Topic::start(Mood::Accepts);
    let handler = start(&folder.path().join("state"), &topic, &[("HDAI_TOPIC_SOURCE", "/wards/north")]);
    handler.drop_file("Canaryfile.csv", &csv(folder.path(), 300, 1));
    // Twice each: the second is a repeat.
    let mut training = Value::Null;
    for _ in 0..2 {
        let reply = handler.done(BLOB, &deferred(&uri("Canaryfile.csv")));
        if training.is_null() {
            training = queued(&reply["Outputs"]["trainingRequest"]);
        }
        handler.done("TrainLengthOfStay", &training);
    }
    assert_eq!([handler.admit(900_001), handler.admit(900_001)], [201, 200]);
    let mut other = blueprint_admission(900_001);
    other["patient"]["gender"] = json!("male");
    assert_eq!(handler.call_api("POST", "api/PatientAdmissionFunc", &other), 409);
    assert_eq!([handler.discharge(900_001), handler.discharge(900_001), handler.discharge(900_009)], [200, 200, 404]);
    handler.drop_file("bad.csv", b"not,a,header\n1,2,3\n");
    handler.done(BLOB, &deferred(&uri("bad.csv")));
    assert_eq!(handler.admit(900_002), 201);

    topic.await_facts(5);
    assert_eq!(handler.timer(), "0 events published, nothing waits");
    assert_eq!(handler.waiting(), 0);
    let import = handler.rows("SELECT id FROM imports WHERE state = 'done'")[0][0].clone();
    let model = handler.rows("SELECT version FROM models")[0][0].clone();
    let expected = [
        format!("import.completed imports/{import}"),
        format!("model.trained models/{model}"),
        "patient.admitted encounters/900001".into(),
        "patient.discharged encounters/900001".into(),
        "patient.admitted encounters/900002".into(),
    ];
    assert_eq!(topic.facts(), expected);
    let events = topic.accepted();
    let ids: BTreeSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), expected.len());
    let data = [
        json!({ "importId": import }),
        json!({ "modelVersion": model }),
        json!({ "encounterId": 900_001 }),
        json!({ "encounterId": 900_001 }),
        json!({ "encounterId": 900_002 }),
    ];
    for (event, data) in events.iter().zip(data) {
        assert_eq!(event["data"], data);
        assert_eq!((&event["specversion"], &event["source"]), (&json!("1.0"), &json!("/wards/north")));
        let members: Vec<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["data", "datacontenttype", "id", "source", "specversion", "subject", "time", "type"]);
    }
    for post in topic.posts() {
        assert!(post.head.starts_with("post /api/events?api-version=2018-01-01 http/1.1\r\n"), "{}", post.head);
        assert!(post.head.contains("content-type: application/cloudevents-batch+json; charset=utf-8\r\n"), "{}", post.head);
        assert!(post.head.contains("aeg-sas-key: k3y+/canary=\r\n") && !post.head.contains("authorization"), "{}", post.head);
        let body = post.body.to_lowercase();
        for canary in NAMES.map(str::to_lowercase).iter().map(String::as_str).chain(["canaryfile", "gender", "female", "2026-10-0"])
        {
            assert!(!body.contains(canary), "{canary} in {body}");
        }
    }
    assert!(!handler.log().contains("k3y+"));
}

#[test]
fn without_a_topic_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[ALL_REACH_ALL, PLATFORM[0], PLATFORM[1], PLATFORM[2]]);
    assert_eq!((handler.admit(900_001), handler.discharge(900_001)), (201, 200));
    assert_eq!(handler.waiting(), 0);
    assert_eq!(handler.timer(), "no topic is configured");
}

#[test]
fn a_topic_that_is_ill_gets_exactly_what_was_committed_later_and_in_order() {
    for mood in [Mood::Says(500), Mood::Says(429), Mood::Closes, Mood::Asks(3), Mood::Hangs] {
        let folder = tempfile::tempdir().unwrap();
        let topic = Topic::start(mood);
        let handler = start(folder.path(), &topic, &[]);
        let begun = Instant::now();
        for id in 900_001..900_004 {
            assert_eq!((handler.admit(id), handler.discharge(id)), (201, 200));
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{mood:?} held admissions up for {:?}", begun.elapsed());
        topic.await_posts(1);
        let first = topic.posts()[0].at;
        topic.be(Mood::Accepts);
        topic.await_facts(6);
        let expected =
            (900_001..900_004).flat_map(|id| ["admitted", "discharged"].map(|what| format!("patient.{what} encounters/{id}")));
        assert_eq!(topic.facts(), expected.collect::<Vec<_>>(), "{mood:?}");
        let again = topic.posts().iter().find(|post| post.mood == Mood::Accepts).unwrap().at;
        let least = if mood == Mood::Asks(3) { 3.0 } else { 2.0 };
        assert!((again - first).as_secs_f64() >= least * 0.99, "{mood:?}: the pause was {:?}", again - first);
        topic.until(|_| (handler.waiting() == 0).then_some(()));
        topic.until(|_| handler.log().contains("accepts our events again").then_some(()));
        assert!(handler.log().contains("topic.failed"), "{}", handler.log());
        // The events that came later are the ones that were tried first.
        let ids = |events: Vec<Value>| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
        let tried = ids(topic.posts()[0].events());
        assert_eq!(tried, ids(topic.accepted())[..tried.len()], "{mood:?}");
    }
}

#[test]
fn a_topic_that_refuses_is_told_to_operators_and_not_hammered() {
    for (status, remedy) in [
        (400, "CloudEventSchemaV1_0"),
        (401, "HDAI_TOPIC_KEY"),
        (403, "EventGrid Data Sender"),
        (404, "HDAI_TOPIC_ENDPOINT"),
        (413, "HDAI_TOPIC_SOURCE"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let topic = Topic::start(Mood::Says(status));
        let handler = start(folder.path(), &topic, &[]);
        assert_eq!(handler.admit(900_001), 201);
        topic.await_posts(1);
        topic.until(|_| handler.log().contains("topic.failed").then_some(()));
        assert!(handler.log().contains(remedy) && !handler.log().contains("k3y+"), "{}", handler.log());
        // Neither commits, nor the timer, nor another instance shorten the pause.
        let second = start(folder.path(), &topic, &[]);
        for id in 900_002..900_006 {
            assert_eq!((handler.admit(id), second.admit(id + 100)), (201, 201));
            assert!(handler.timer().starts_with("0 events published, more at ") && second.timer().contains("more at"));
        }
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(topic.posts().len(), 1, "{status}");
        assert_eq!(handler.waiting(), 9, "{status}");
        let pause = "SELECT CAST((julianday(until) - julianday('now')) * 86400 AS INTEGER) FROM outbox_lease";
        let pause: i64 = handler.rows(pause)[0][0].parse().unwrap();
        assert!((280..=380).contains(&pause), "{pause}");
    }
}

#[test]
fn a_handler_that_is_killed_before_it_published_leaves_it_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Topic::start(Mood::Hangs);
    let handler = start(folder.path(), &topic, &[]);
    assert_eq!(handler.admit(900_001), 201);
    topic.await_posts(1);
    handler.kill();
    topic.be(Mood::Accepts);
    // The dead one's lease runs out.
    let begun = Instant::now();
    let next = start(folder.path(), &topic, &[]);
    assert_eq!(next.admit(900_002), 201);
    assert!(next.timer().contains("more at"));
    topic.await_facts(2);
    assert!(begun.elapsed() < Duration::from_secs(75), "{:?}", begun.elapsed());
    assert_eq!(topic.facts(), ["patient.admitted encounters/900001", "patient.admitted encounters/900002"]);
    topic.until(|_| (next.waiting() == 0).then_some(()));
}

/// Two handlers that admit and discharge at once, while a slow topic is told: everything comes once, an admission before its discharge.
fn two_handlers(topic: &Topic, handlers: [Handler; 2]) {
    const EACH: i64 = 15;
    std::thread::scope(|scope| {
        for (number, handler) in (0..).zip(&handlers) {
            scope.spawn(move || {
                for id in 0..EACH {
                    let id = 900_000 + number * 1_000 + id;
                    assert_eq!((handler.admit(id), handler.discharge(id)), (201, 200));
                }
            });
        }
    });
    topic.await_facts(60);
    // Whatever came twice would have come by now.
    std::thread::sleep(Duration::from_secs(1));
    assert!(handlers.iter().any(|handler| handler.timer() == "0 events published, nothing waits"));
    let facts = topic.facts();
    assert_eq!(facts.len(), 60);
    assert_eq!(facts.iter().collect::<BTreeSet<_>>().len(), 60, "something came twice");
    for (place, fact) in facts.iter().enumerate() {
        if let Some(encounter) = fact.strip_prefix("patient.discharged ") {
            let admitted = facts.iter().position(|other| *other == format!("patient.admitted {encounter}")).unwrap();
            assert!(admitted < place, "{encounter} left before it came");
        }
    }
}

#[test]
fn two_handlers_at_once_lose_nothing_repeat_nothing_and_keep_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Topic::start(Mood::Slow(150));
    let handlers = [(); 2].map(|()| start(folder.path(), &topic, &[]));
    two_handlers(&topic, handlers);
}

#[test]
fn two_handlers_over_one_sql_database_do_so_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = crate::tds::Server::start(crate::tds::Options::default());
    let topic = Topic::start(Mood::Slow(150));
    let (connection, authority) = (server.connection_string(), server.ca_file().display().to_string());
    let vars = [("HDAI_SQL_CONNECTION", connection.as_str()), ("HDAI_SQL_CA_FILE", authority.as_str())];
    let one = start(&folder.path().join("one"), &topic, &vars);
    // Names are encrypted with keys that one key file wraps.
    std::fs::create_dir_all(folder.path().join("other")).unwrap();
    std::fs::copy(folder.path().join("one/data.key"), folder.path().join("other/data.key")).unwrap();
    let other = start(&folder.path().join("other"), &topic, &vars);
    two_handlers(&topic, [one, other]);
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[test]
fn what_was_never_accepted_is_given_up_after_its_time_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Topic::start(Mood::Closes);
    let handler = start(folder.path(), &topic, &[]);
    assert_eq!(handler.admit(900_001), 201);
    topic.await_posts(1);
    topic.until(|_| handler.log().contains("topic.failed").then_some(()));
    // As if it had been there for eight days.
    handler.database().execute("UPDATE outbox SET at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-8 days')", []).unwrap();
    assert_eq!(handler.admit(900_002), 201);
    topic.until(|_| handler.log().contains("topic.dropped").then_some(()));
    topic.be(Mood::Accepts);
    topic.await_facts(1);
    assert_eq!(topic.facts(), ["patient.admitted encounters/900002"]);
}

#[test]
fn the_apps_identity_sends_when_there_is_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Topic::start(Mood::Accepts);
    let tokens = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tokens.local_addr().unwrap().port();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let noted = asked.clone();
    std::thread::spawn(move || {
        for stream in tokens.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            noted.lock().unwrap().push_str(&String::from_utf8_lossy(&request[..length]));
            let body =
                json!({ "access_token": "t0ken.Canary", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer" });
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let endpoint = format!("http://127.0.0.1:{port}/msi/token");
    let vars = [("HDAI_TOPIC_KEY", ""), ("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "h")];
    let handler = start(folder.path(), &topic, &vars);
    assert_eq!(handler.admit(900_001), 201);
    topic.await_facts(1);
    let post = topic.posts().remove(0);
    assert!(post.head.contains("authorization: bearer t0ken.canary\r\n") && !post.head.contains("aeg-sas-key"), "{}", post.head);
    assert!(asked.lock().unwrap().contains("eventgrid.azure.net"), "{}", asked.lock().unwrap());
    assert!(!handler.log().contains("t0ken"));
}
