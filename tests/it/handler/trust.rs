//! What the handler does not believe: addresses outside, identities nobody vouches for, settings nobody resolved.

use health_data_ai::config::SETTINGS;

use super::*;

#[test]
fn an_address_outside_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut handler =
        Handler::start(&state, &[("HDAI_BLOB_ACCOUNT_URL", "https://acct.blob.core.windows.net"), ("HDAI_BLOB_STORE", "local")]);
    let content = csv(folder.path(), 20, 1);
    // Something to find wherever a wrong address could lead.
    handler.drop_file("good.csv", &content);
    for place in ["good.csv", "blobs/good.csv", "blobs/other/good.csv", "blobs/trainingdata/%2e%2e/x.csv"] {
        std::fs::create_dir_all(state.join(place).parent().unwrap()).unwrap();
        std::fs::write(state.join(place), &content).unwrap();
    }
    let refused = [
        "https://other.blob.core.windows.net/trainingdata/good.csv",
        "https://acct.blob.core.windows.net.example.org/trainingdata/good.csv",
        "https://acct.blob.core.windows.net/other/good.csv",
        "https://acct.blob.core.windows.net/trainingdata-receipts/good.csv",
        "https://acct.blob.core.windows.net/TrainingData/good.csv",
        "http://acct.blob.core.windows.net/trainingdata/good.csv",
        "https://acct.blob.core.windows.net:8443/trainingdata/good.csv",
        "https://user:secret@acct.blob.core.windows.net/trainingdata/good.csv",
        "https://acct.blob.core.windows.net@example.org/trainingdata/good.csv",
        "https://example.org\\@acct.blob.core.windows.net/trainingdata/good.csv",
        "https://169.254.169.254/metadata/trainingdata/good.csv",
        "https://[::1]/acct/trainingdata/good.csv",
        "https://2130706433/trainingdata/good.csv",
        "https://0x7f.1/trainingdata/good.csv",
        "https://127.0.0.1/acct.blob.core.windows.net/trainingdata/good.csv",
        "https://acct.blob.core.windows.net/trainingdata/../good.csv",
        "https://acct.blob.core.windows.net/trainingdata/../../good.csv",
        "https://acct.blob.core.windows.net/trainingdata/%2e%2e/%2e%2e/good.csv",
        "https://acct.blob.core.windows.net/trainingdata/..%2f..%2fgood.csv",
        "https://acct.blob.core.windows.net/trainingdata/..%5cgood.csv",
        "https://acct.blob.core.windows.net/trainingdata/%2fgood.csv",
        "https://acct.blob.core.windows.net/trainingdata//good.csv",
        "https://acct.blob.core.windows.net/trainingdata/good.csv%00",
        "https://acct.blob.core.windows.net/trainingdata/good.csv%0d%0a",
        "https://acct.blob.core.windows.net/trainingdata/%ff",
        "https://acct.blob.core.windows.net/trainingdata/",
        "https://acct.blob.core.windows.net/%74rainingdata/good.csv",
        "https://acct.blob.core.windows.net/../trainingdata/good.csv",
        "file:///trainingdata/good.csv",
        "//acct.blob.core.windows.net/trainingdata/good.csv",
        "",
    ];
    for (index, uri) in refused.iter().enumerate() {
        let before = handler.count("audit");
        let reply = match index % 2 {
            0 => handler.done(BLOB, &deferred(uri)),
            _ => handler.done(BLOB, &inline(uri, &content)),
        };
        assert!(!reply["Logs"][0].as_str().unwrap().is_empty(), "{uri}");
        assert!(!reply.to_string().contains("secret"), "{uri}");
        handler.done(QUEUE, &queued(&json!({ "url": uri })));
        let outcomes = handler.rows(&format!("SELECT outcome, caller FROM audit ORDER BY seq LIMIT 9 OFFSET {before}"));
        assert_eq!(outcomes, [["refused", BLOB], ["refused", QUEUE]], "{uri}");
    }
    // A name that only decodes to dots a second time is a name; a query and a fragment are no part of one.
    handler.done(BLOB, &deferred("https://acct.blob.core.windows.net/trainingdata/%252e%252e/good.csv"));
    assert_eq!((handler.count("imports"), handler.count("PatientData")), (0, 0));
    handler.done(BLOB, &deferred("https://acct.blob.core.windows.net/trainingdata/good.csv?sig=x#y"));
    assert_eq!((handler.count("imports"), handler.count("PatientData")), (1, 20));
    handler.lives();
}

const TENANT: (&str, &str) = ("HDAI_ENTRA_TENANT_ID", "11111111-2222-3333-4444-555555555555");
const AUDIENCE: (&str, &str) = ("HDAI_ENTRA_AUDIENCES", "api://hdai");

#[test]
fn the_platforms_authentication_without_a_tenant_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let output = serve(&state, &[("WEBSITE_AUTH_ENABLED", "true")]).args(["--port", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("HDAI_ENTRA_TENANT_ID"));
    assert!(!state.exists());
}

#[test]
fn an_identity_counts_only_where_something_stands_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let claims = json!([{ "typ": "oid", "val": "5b54" }, { "typ": "tid", "val": TENANT.1 }, { "typ": "roles", "val": "Auditor" }]);
    let principal = json!({ "auth_typ": "aad", "claims": claims });
    let headers = [("x-ms-client-principal", BASE64_STANDARD.encode(principal.to_string()))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let wrapped = json!({ "Data": { "req": {
        "Url": "http://localhost:7071/api/audit", "Method": "GET", "Query": {}, "Params": {}, "Identities": [],
        "Headers": { headers[0].0: [headers[0].1] },
    } } });
    for (vars, expected) in [
        (&[][..], 401),
        (&[("WEBSITE_AUTH_ENABLED", "True"), TENANT, AUDIENCE][..], 200),
        (&[("WEBSITE_AUTH_ENABLED", "false")], 401),
    ] {
        let handler = Handler::start(folder.path(), vars);
        assert_eq!(handler.get("api/audit", &headers).status, expected, "{vars:?}");
        assert_eq!(handler.get("api/audit", &[]).status, 401, "{vars:?}");
        assert_eq!(handler.get("api/audit", &[headers[0], headers[0]]).status, 401, "two identities, {vars:?}");
        assert_eq!(handler.get("api/imports", &headers).status, expected, "{vars:?}");
        let reply = handler.done("Api", &wrapped);
        assert_eq!(reply["Outputs"]["res"]["statusCode"], expected, "{vars:?}");
    }
}

#[test]
fn an_unresolved_key_vault_reference_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let names = SETTINGS.iter().map(|setting| setting.name).chain(["WEBSITE_AUTH_ENABLED"]);
    for name in names {
        let state = folder.path().join(name);
        let vars = [(name, "@Microsoft.KeyVault(SecretUri=https://vault.example/secrets/s)")];
        let output = serve(&state, &vars).args(["--port", "0"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(name) && !text.contains("SecretUri"), "{text}");
        assert!(!state.exists(), "{name}: something was made before the settings were read");
    }
}

/// A page in a browser of this machine can send a body anywhere; it cannot hide that it does.
#[test]
fn a_trigger_is_not_called_by_a_web_page_or_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[]);
    let body = json!({ "Data": { "timer": { "IsPastDue": false } } }).to_string();
    for (headers, expected) in [
        ("Host: 127.0.0.1:80", "HTTP/1.1 200"),
        ("Host: localhost", "HTTP/1.1 200"),
        ("Host: evil.example", "HTTP/1.1 403"),
        ("Host: 127.0.0.1.evil.example", "HTTP/1.1 403"),
        ("Host: 127.0.0.1\r\nOrigin: https://evil.example", "HTTP/1.1 403"),
        ("Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site", "HTTP/1.1 403"),
    ] {
        let length = body.len();
        let request =
            format!("POST /PublishEvents HTTP/1.1\r\n{headers}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = raw(handler.port, request.as_bytes());
        assert!(answer.starts_with(expected), "{headers}: {answer}");
    }
}

#[test]
fn a_call_in_an_envelope_is_read_as_a_direct_one() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[]);
    let bearer = format!("Bearer {}", crate::support::token(&handler.folder, &["Auditor"], &[]));
    let outer = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    let ask = |url: &str, note: &str| {
        let headers = json!({ "authorization": [bearer], "x-note": [note], "x-azure-functions-invocationid": ["11111111-1111-4111-8111-111111111111"] });
        let call = json!({ "Data": { "req": { "Url": url, "Method": "GET", "Headers": headers } } });
        let headers = [("content-type", "application/json"), ("x-azure-functions-invocationid", outer)];
        let (status, _, text) = handler.ask(reqwest::Method::POST, "Api", &headers, call.to_string().into_bytes());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["Outputs"]["res"]["statusCode"].clone()
    };
    assert_eq!(ask("http://h/api/audit", "plain"), 200);
    assert_eq!(ask("http://h/api/audit", "Zo\u{eb}"), 200, "any text may be a header's");
    for path in ["/api/health/../audit", "/API/audit", "//api/audit", "/api/%61udit", "/audit", ""] {
        assert_eq!(ask(&format!("http://h{path}"), "plain"), 404, "{path}");
    }
    assert_eq!(ask("http://h/api/audit", "line\nbreak"), 400);
    assert_eq!(ask("no address", "plain"), 400);
    assert_eq!(handler.rows("SELECT DISTINCT correlation FROM audit"), [[outer]], "the host's word");
}
