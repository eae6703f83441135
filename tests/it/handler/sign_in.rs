//! Signing in, against the real handler: every kind of caller at every route, and an issuer whose keys change, do not come, or are asked
//! for too often.

mod access;
mod issuer;
mod keys;
mod limits;

use health_data_ai::domain::Role;
use health_data_ai::domain::access::may;
use health_data_ai::http::ROUTES;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use reqwest::header::HeaderMap;

use self::issuer::{CLIENT, Key, OBJECT, Server, TENANT, claims, first_version, now, principal};
use super::*;
use crate::support::{ROLES, token};

const SITE: &str = "SiteAdministrator";
const ANALYST: &str = "DatabaseAnalyst";
const SCIENTIST: &str = "DataScientist";
const CMIO: &str = "ChiefMedicalInformationOfficer";
const MANAGER: &str = "CareLineManager";
const AUDITOR: &str = "Auditor";
const EVERYONE: &[&str] = &["everyone"];
const SIGNED_IN: &[&str] = &["whoever is signed in"];

/// Every route: who may call it, and what a caller who may is answered (an empty message, an empty record). Written by hand, so that a
/// change of the table in `domain::access` or of the route list is a change here too.
const ROWS: &[(&str, &str, &[&str], u16)] = &[
    ("GET", "/api/health", EVERYONE, 200),
    ("GET", "/api/openapi.json", EVERYONE, 200),
    ("POST", "/api/PatientAdmissionFunc", &[MANAGER], 400),
    ("PUT", "/api/PatientDischargeFunc", &[MANAGER], 400),
    ("GET", "/api/imports", &[SITE, ANALYST, SCIENTIST, AUDITOR], 200),
    ("GET", "/api/imports/{id}", &[SITE, ANALYST, SCIENTIST, AUDITOR], 404),
    ("GET", "/api/imports/{id}/rejects", &[SITE, ANALYST, SCIENTIST, AUDITOR], 404),
    ("GET", "/api/census", &[CMIO, MANAGER], 200),
    ("GET", "/api/totals", &[CMIO, MANAGER], 200),
    ("GET", "/api/anomalies", &[SCIENTIST, CMIO, MANAGER], 200),
    ("GET", "/api/models", &[SCIENTIST, CMIO, MANAGER], 200),
    ("GET", "/api/models/champion", &[SCIENTIST, CMIO, MANAGER], 404),
    ("GET", "/api/audit", &[AUDITOR], 200),
    ("GET", "/api/me", SIGNED_IN, 200),
    ("GET", "/api/assignments", &[SITE], 200),
    ("PUT", "/api/assignments/{id}", &[SITE], 400),
    ("DELETE", "/api/assignments/{id}", &[SITE], 404),
    ("POST", "/api/break-glass", &[CMIO, MANAGER], 400),
    ("DELETE", "/api/break-glass/{id}", &[CMIO, MANAGER], 404),
    ("GET", "/api/break-glass", &[AUDITOR], 200),
    ("GET", "/api/break-glass/{id}", &[AUDITOR], 404),
    ("GET", "/api/patients", &[MANAGER], 200),
    ("GET", "/api/patients/{id}", &[MANAGER], 404),
    ("GET", "/api/predictions", &[CMIO], 200),
    ("GET", "/api/encounters", &[SCIENTIST], 200),
];
const VERBS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A caller: the headers, and either the role they prove or the reason why they prove none.
struct Caller {
    what: String,
    headers: Vec<(&'static str, String)>,
    proves: Result<&'static str, &'static str>,
}

fn caller(what: impl Into<String>, token: &str, proves: Result<&'static str, &'static str>) -> Caller {
    Caller { what: what.into(), headers: vec![("authorization", format!("Bearer {token}"))], proves }
}

/// Callers who prove a role.
fn believed(key: &Key) -> Vec<Caller> {
    let mut callers: Vec<Caller> =
        ROLES.into_iter().map(|role| caller(role, &key.sign(&claims(&[role], json!({}))), Ok(role))).collect();
    callers.push(caller("version 1", &key.sign(&claims(&[AUDITOR], first_version())), Ok(AUDITOR)));
    let just_ended = json!({ "exp": now() - 30, "nbf": now() - 3600 });
    callers.push(caller("within the skew", &key.sign(&claims(&[AUDITOR], just_ended)), Ok(AUDITOR)));
    let several = claims(&["Nobody", AUDITOR, "auditor"], json!({ "groups": [MANAGER], "hasgroups": true }));
    callers.push(caller("groups and unknown roles beside", &key.sign(&several), Ok(AUDITOR)));
    let overage =
        json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": { "endpoint": "https://graph.example" } } });
    callers.push(caller("groups alone, too many", &key.sign(&claims(&[], overage)), Ok("no role")));
    callers.push(caller("no roles claim", &key.sign(&claims(&[], json!({ "roles": null, "name": MANAGER }))), Ok("no role")));
    let program = json!({ "scp": null, "idtyp": "app" });
    callers.push(caller("a program", &key.sign(&claims(&[AUDITOR], program.clone())), Ok(AUDITOR)));
    callers.push(caller("a program with a person's role", &key.sign(&claims(&[SITE], program.clone())), Ok("no role")));
    callers.push(caller("system scopes alone", &key.sign(&claims(&["system/*.cruds"], program)), Ok("no role")));
    callers.push(caller("patient scopes", &key.sign(&claims(&[AUDITOR], json!({ "scp": "patient/*.rs" }))), Ok("no role")));
    let mut lower = caller("lower case scheme", "", Ok(AUDITOR));
    lower.headers = vec![("authorization", format!("bearer {}", key.sign(&claims(&[AUDITOR], json!({})))))];
    callers.push(lower);
    let header = ("x-ms-client-principal", principal(OBJECT, TENANT, MANAGER));
    callers.push(Caller { what: "the platform's principal".into(), headers: vec![header.clone()], proves: Ok(MANAGER) });
    let companions = [("x-ms-client-principal-id", OBJECT.to_uppercase()), ("x-ms-client-principal-idp", "aad".into())];
    let with_companions = [header.clone()].into_iter().chain(companions).collect();
    callers.push(Caller { what: "the principal and its companions".into(), headers: with_companions, proves: Ok(MANAGER) });
    let mut both = caller("token and principal of one caller", &key.sign(&claims(&[AUDITOR], json!({}))), Ok(AUDITOR));
    both.headers.push(header);
    callers.push(both);
    callers
}

/// Callers who prove nothing, and why.
fn refused(key: &Key, folder: &Path) -> Vec<Caller> {
    let good = claims(&[MANAGER], json!({}));
    let token_of = |more: Value| key.sign(&claims(&[MANAGER], more));
    let plain = |headers: Vec<(&'static str, String)>, what: &str, why| Caller { what: what.into(), headers, proves: Err(why) };
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let principal_of = |object: &str, tenant: &str| ("x-ms-client-principal", principal(object, tenant, MANAGER));
    let forged = Key::new(key.id).sign(&good);
    let other_provider = {
        let text = BASE64_STANDARD.decode(principal(OBJECT, TENANT, MANAGER)).unwrap();
        let text = String::from_utf8(text).unwrap().replace("\"aad\"", "\"google\"");
        ("x-ms-client-principal", BASE64_STANDARD.encode(text))
    };
    let mut no_kid = key.header();
    no_kid.kid = None;
    let mut critical = key.header();
    critical.crit = Some(vec!["b64".into()]);
    let hmac = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.id.to_owned());
        encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let unsigned = {
        let part = |value: Value| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(json!({ "alg": "none", "typ": "JWT", "kid": key.id })), part(good.clone()))
    };
    let genuine = key.sign(&good);
    let mut altered = genuine.clone();
    let middle = genuine.find('.').unwrap() + 40;
    let other = if &genuine[middle..=middle] == "A" { "B" } else { "A" };
    altered.replace_range(middle..=middle, other);
    let other_tenant = "66666666-2222-3333-4444-555555555555";
    let mut stripped = genuine.clone();
    stripped.truncate(genuine.rfind('.').unwrap() + 1);
    vec![
        plain(vec![], "nobody", "no-credentials"),
        caller("expired", &token_of(json!({ "exp": now() - 120 })), Err("expired")),
        caller("not yet valid", &token_of(json!({ "nbf": now() + 600 })), Err("not-yet-valid")),
        caller("without an end", &token_of(json!({ "exp": null })), Err("malformed")),
        caller("forged with another key", &forged, Err("signature")),
        caller("altered", &altered, Err("signature")),
        caller("without its signature", &stripped, Err("signature")),
        caller("another audience", &token_of(json!({ "aud": "api://other" })), Err("audience")),
        caller("without an audience", &token_of(json!({ "aud": null })), Err("audience")),
        caller("another issuer", &token_of(json!({ "iss": "https://login.example/v2.0" })), Err("issuer")),
        caller("without an issuer", &token_of(json!({ "iss": null })), Err("issuer")),
        caller("another tenant", &token_of(json!({ "tid": other_tenant })), Err("tenant")),
        caller("without a tenant", &token_of(json!({ "tid": null })), Err("tenant")),
        caller("an ID token", &token_of(json!({ "azp": null, "nonce": "n" })), Err("no-access-token")),
        caller("without an object id", &token_of(json!({ "oid": null })), Err("no-object-id")),
        caller("another RSA algorithm", &key.sign_with(Header { alg: Algorithm::RS512, ..key.header() }, &good), Err("algorithm")),
        caller("alg none", &unsigned, Err("algorithm")),
        caller("HS256 with the public key", &hmac(key.modulus().as_bytes()), Err("algorithm")),
        caller("HS256 with the published key", &hmac(key.published().to_string().as_bytes()), Err("algorithm")),
        caller("without a key id", &key.sign_with(no_kid, &good), Err("no-key-id")),
        caller("an unknown key id", &Key::new("unknown").sign(&good), Err("unknown-key")),
        caller("a critical extension", &key.sign_with(critical, &good), Err("critical-extension")),
        caller("the development issuer's", &token(folder, &[MANAGER], &[]), Err("algorithm")),
        caller("junk", "junk", Err("malformed")),
        caller("junk in three parts", "a.b.c", Err("malformed")),
        caller("too long", &"A".repeat(17 * 1024), Err("too-long")),
        plain(vec![("authorization", "Basic dXNlcjpwYXNz".into())], "another scheme", "scheme"),
        plain(vec![("authorization", "Bearer ".into())], "an empty token", "scheme"),
        plain(vec![bearer(&genuine), bearer(&genuine)], "two tokens", "several-credentials"),
        plain(vec![bearer(&genuine), bearer("junk")], "a token and junk", "several-credentials"),
        plain(vec![principal_of(OBJECT, other_tenant)], "another tenant's principal", "tenant"),
        plain(vec![principal_of(OBJECT, TENANT), principal_of(OBJECT, TENANT)], "two principals", "several-credentials"),
        plain(vec![("x-ms-client-principal", "%%%".into())], "a broken principal", "principal-unreadable"),
        plain(vec![other_provider], "another provider's principal", "another-provider"),
        plain(
            vec![principal_of(OBJECT, TENANT), ("x-ms-client-principal-idp", "google".into())],
            "a principal that another provider vouches for",
            "another-provider",
        ),
        plain(
            vec![principal_of(OBJECT, TENANT), ("x-ms-client-principal-id", CLIENT.into())],
            "a principal beside another's id",
            "token-and-principal-disagree",
        ),
        plain(vec![bearer(&genuine), principal_of(CLIENT, TENANT)], "another object's principal", "token-and-principal-disagree"),
        plain(
            vec![bearer(&genuine), principal_of(OBJECT, other_tenant)],
            "its principal of another tenant",
            "token-and-principal-disagree",
        ),
        plain(vec![bearer("junk"), principal_of(OBJECT, TENANT)], "junk beside a good principal", "malformed"),
    ]
}

fn call(handler: &Handler, method: &str, path: &str, headers: &[(&'static str, String)]) -> (u16, HeaderMap, String) {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = handler.client.request(method.clone(), handler.url(path.trim_start_matches('/')));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if method != Method::GET {
        request = request.header("content-type", "application/json").body("{}");
    }
    handler.runtime.block_on(async {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone(), answer.text().await.unwrap())
    })
}

/// A handler that no number of calls makes impatient; `limits` tests the other kind.
const PATIENT: [(&str, &str); 3] = [("HDAI_FAILURES_MAX", "1000000"), ("HDAI_REFUSALS_MAX", "0"), ("HDAI_CALLER_RATE", "0")];

/// A handler behind App Service authentication that also validates tokens itself.
fn start(folder: &Path, server: &Server, more: &[(&str, &str)]) -> Handler {
    let vars = server.vars();
    let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
    Handler::start(folder, &vars)
}

#[test]
fn every_caller_meets_every_route_as_the_table_says() {
    let rows: Vec<(&str, &str)> = ROWS.iter().map(|(method, path, ..)| (*method, *path)).collect();
    let routes: Vec<(&str, &str)> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    assert_eq!(routes, rows, "a route was added or taken away: say here who may call it");

    let folder = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let server = Server::start(&[&key]);
    let more = [("WEBSITE_AUTH_ENABLED", "true"), PATIENT[0], PATIENT[1], PATIENT[2]];
    let handler = start(folder.path(), &server, &more);
    let mut calls = 0;
    for caller in believed(&key).into_iter().chain(refused(&key, folder.path())) {
        for (route, (_, path, may_call, done)) in ROUTES.iter().zip(ROWS) {
            let open = *may_call == EVERYONE;
            // A path may have several methods, each with a row of its own.
            let others = |verb: &&&str| **verb == route.method || !ROWS.iter().any(|row| row.0 == **verb && row.1 == *path);
            for verb in VERBS.iter().filter(others) {
                let concrete = path.replace("{id}", "00000000000000000000000000000000");
                let (status, headers, body) = call(&handler, verb, &concrete, &caller.headers);
                let expected = match (*verb == route.method, caller.proves) {
                    (false, _) => 405,
                    (true, _) if open => *done,
                    (true, Err(_)) => 401,
                    (true, Ok(role)) if may_call.contains(&role) || *may_call == SIGNED_IN => *done,
                    (true, Ok(_)) => 403,
                };
                assert_eq!(status, expected, "{} {verb} {path}: {body}", caller.what);
                calls += 1;
                if [401, 403].contains(&status) {
                    let challenge = headers["www-authenticate"].to_str().unwrap();
                    let error = match (status, caller.proves) {
                        (403, _) => "insufficient_scope",
                        (_, Err("no-credentials")) => "",
                        (_, Err("several-credentials" | "scheme")) => "invalid_request",
                        _ => "invalid_token",
                    };
                    assert!(
                        challenge.starts_with("Bearer realm=\"hdai\"") && challenge.contains(error),
                        "{}: {challenge}",
                        caller.what
                    );
                    assert_eq!(challenge.contains("error="), !error.is_empty(), "{}: {challenge}", caller.what);
                    assert_eq!(headers["content-type"], "application/problem+json");
                    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], status);
                }
            }
            // The list above and the table that enforces are one.
            if let (Some(action), Some(role)) = (route.action, caller.proves.ok().and_then(Role::parse)) {
                assert_eq!(may(role, action), may_call.contains(&role.name()), "{role} {path}");
            }
        }
    }
    assert!(calls > 4_000, "{calls}");
    // Every refusal by role is in the trail, with who it was and how that was proven; a call without a caller is not.
    let refused = handler.rows("SELECT DISTINCT caller, proof FROM audit WHERE outcome = 'refused' ORDER BY proof");
    assert_eq!(refused, [[OBJECT, "entra"], [OBJECT, "entra-token"]]);
}

#[test]
fn a_refusal_is_told_by_its_reason_and_never_by_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let server = Server::start(&[&key]);
    let handler = start(folder.path(), &server, &[("WEBSITE_AUTH_ENABLED", "true"), ("HDAI_LOG", "trace"), PATIENT[0]]);
    let callers = refused(&key, folder.path());
    for caller in &callers {
        assert_eq!(call(&handler, "GET", "/api/census", &caller.headers).0, 401, "{}", caller.what);
    }
    for caller in believed(&key) {
        call(&handler, "GET", "/api/census", &caller.headers);
    }
    let log = handler.log();
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let reasons: Vec<&str> =
        events.iter().filter(|event| event["event"] == "auth.failed").map(|event| event["reason"].as_str().unwrap()).collect();
    let expected: Vec<&str> = callers.iter().map(|caller| caller.proves.unwrap_err()).collect();
    assert_eq!(reasons, expected);
    for caller in callers.iter().chain(&believed(&key)) {
        for (_, value) in &caller.headers {
            // The parts of a token, but for those that any token has.
            for part in value.split([' ', '.']).filter(|part| part.len() > 20) {
                assert!(!log.contains(part), "{}: a part of its token is in the log", caller.what);
            }
        }
    }
    assert!(!log.contains("Canary") && !log.contains("canary"), "a name of a token is in the log");

    // A flood of them is told once; who has a token is not locked out.
    for _ in 0..100 {
        assert_eq!(call(&handler, "GET", "/api/census", &[("authorization", "Bearer junk".into())]).0, 401);
    }
    let manager = [("authorization", format!("Bearer {}", key.sign(&claims(&[MANAGER], json!({})))))];
    assert_eq!(call(&handler, "GET", "/api/census", &manager).0, 200);
    let log = handler.log();
    let of = |event: &str| {
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|told| told["event"] == event && told["reason"] == "malformed").count()
    };
    assert_eq!((of("auth.failed"), of("auth.flood")), (20, 1));
}

#[test]
fn scopes_narrow_what_a_role_allows() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[]);
    let status = |roles: &[&str], scopes: &[&str], method: &str, path: &str| {
        let bearer = [("authorization", format!("Bearer {}", token(folder.path(), roles, scopes)))];
        let (status, _, body) = call(&handler, method, path, &bearer);
        (status, status == 403 && body.contains("the token's scopes do not allow the action"))
    };
    let admission = "/api/PatientAdmissionFunc";
    assert_eq!(status(&[MANAGER], &[], "POST", admission), (400, false));
    assert_eq!(status(&[MANAGER], &["user/Encounter.c"], "POST", admission), (400, false));
    assert_eq!(status(&[MANAGER], &["user/Encounter.c"], "GET", "/api/census"), (403, true));
    assert_eq!(status(&[MANAGER], &["user/*.rs"], "POST", admission), (403, true));
    assert_eq!(status(&[MANAGER], &["user/*.rs"], "GET", "/api/census").0, 200);
    assert_eq!(status(&[MANAGER], &["patient/*.cruds", "launch/patient"], "GET", "/api/census"), (403, true));
    assert_eq!(status(&[MANAGER], &["patient/*.rs", "user/Encounter.s"], "GET", "/api/census").0, 200);
    // A scope gives nothing that the role does not.
    assert_eq!(status(&[AUDITOR], &["user/*.cruds"], "POST", admission), (403, false));
    assert_eq!(status(&[AUDITOR], &["user/*.cruds"], "GET", "/api/audit").0, 200);
}

#[test]
fn the_development_issuer_ends_where_azure_begins() {
    let folder = tempfile::tempdir().unwrap();
    let bearer = [("authorization", format!("Bearer {}", token(folder.path(), &[MANAGER], &[])))];
    assert_eq!(call(&Handler::start(folder.path(), &[]), "GET", "/api/census", &bearer).0, 200);
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(call(&Handler::start(elsewhere.path(), &[]), "GET", "/api/census", &bearer).0, 401, "another folder's key");
    let tenant = [("HDAI_ENTRA_TENANT_ID", TENANT), ("HDAI_ENTRA_AUDIENCES", CLIENT)];
    for (name, value, more) in [
        ("WEBSITE_AUTH_ENABLED", "true", &tenant[..]),
        ("WEBSITE_SITE_NAME", "app", &[]),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token", &[]),
    ] {
        // The key is still in the folder.
        let vars = [&[(name, value)], more].concat();
        let handler = Handler::start(folder.path(), &vars);
        assert_eq!(call(&handler, "GET", "/api/census", &bearer).0, 401, "{name}");
        let output = hdai(folder.path()).args(["token", "--role", MANAGER]).envs(vars.iter().copied()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{name}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(name));
    }
    for wrong in [&["token"][..], &["token", "--role", "auditor"], &["token", "--role", AUDITOR, "--minutes", "1441"]] {
        assert!(!hdai(folder.path()).args(wrong).output().unwrap().status.success(), "{wrong:?}");
    }
}

#[test]
fn answers_are_not_kept_nor_framed_nor_guessed_at() {
    let folder = tempfile::tempdir().unwrap();
    for (vars, secure) in [(&[][..], false), (&[("WEBSITE_SITE_NAME", "app")], true)] {
        let handler = Handler::start(folder.path(), vars);
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/api/health"),
            ("GET", "/api/census"),
            ("POST", "/api/PatientAdmissionFunc"),
            ("DELETE", "/api/audit"),
            ("GET", "/api/none"),
            ("GET", "/none"),
            ("POST", "/PublishEvents"),
            ("POST", "/Nothing"),
        ] {
            let (_, headers, _) = call(&handler, method, path, &[]);
            let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(of("cache-control"), Some("no-store"), "{path}");
            assert_eq!(of("x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(of("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"), "{path}");
            assert_eq!(of("referrer-policy"), Some("no-referrer"), "{path}");
            // Plain HTTP on this machine promises no TLS.
            assert_eq!(of("strict-transport-security").is_some(), secure, "{path}");
            assert_eq!(of("server"), None);
        }
    }
}
