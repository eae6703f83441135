//! Who calls: the `Authorization` and `X-MS-CLIENT-PRINCIPAL` headers of a stranger.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use health_data_ai::domain::{Caller, Role};
use health_data_ai::error::{Error, Kind};
use health_data_ai::sign_in::{Presented, Refused, SignIn, development};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::{CANARY, Target, Verdict, must, quiet};

const TENANT: &str = "development";

/// The issuer, what it signs with, and the sign-in that trusts it.
struct Door {
    key: development::Key,
    signing: EcdsaKeyPair,
    sign_in: SignIn,
    runtime: Runtime,
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

impl Door {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = development::Key::open(folder.path()).unwrap();
        let pkcs8 = BASE64_STANDARD.decode(std::fs::read(folder.path().join("sign-in.key")).unwrap()).unwrap();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
        let sign_in = SignIn::new(true, Some(key.verifier()), Some(TENANT.to_owned()));
        Self { key, signing, sign_in, runtime: Builder::new_current_thread().build().unwrap() }
    }

    fn token(&self) -> String {
        self.key.issue(&Role::ALL, &["user/*.rs".to_owned()], now(), 5).unwrap()
    }

    fn sign(&self, signed: &str) -> String {
        let signature = self.signing.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn ask(&self, authorizations: &[&[u8]], principals: &[&[u8]]) -> Result<Caller, Refused> {
        let presented =
            Presented { authorizations: authorizations.to_vec(), principals: principals.to_vec(), ..Presented::default() };
        self.runtime.block_on(self.sign_in.caller(&presented, String::new(), now()))
    }
}

/// A refusal is the caller's fault, and its words can stand in a header.
fn refused(refused: Refused) -> Verdict {
    let error = Error::from(refused);
    let challenge = refused.challenge();
    must(error.kind() == Kind::Unauthenticated, "a bad identity is a fault of ours")?;
    must(challenge.is_ascii() && !challenge.chars().any(char::is_control), "a challenge that no header can hold")?;
    quiet(&format!("{refused:?}{error}{error:?}{challenge}"))
}

/// A second opinion; `None` where a member that nobody looks at holds what [`Value`] cannot: 1e400, or no UTF-8.
fn read(json: &[u8]) -> Option<Value> {
    serde_json::from_slice(json).ok()
}

fn words() -> Vec<String> {
    let claims = [
        "alg",
        "none",
        "ES256",
        "HS256",
        "RS256",
        "kid",
        "crit",
        "jwk",
        "jku",
        "x5u",
        "typ",
        "iss",
        "aud",
        "exp",
        "nbf",
        "tid",
        "oid",
        "azp",
        "idtyp",
        "app",
        "roles",
        "scp",
        "groups",
        "_claim_names",
        "role_typ",
        "claims",
        "val",
        "user/*.cruds",
        "system/*.rs",
        "Bearer ",
        "bearer\t",
        ".",
        "==",
        TENANT,
        "urn:hdai:development",
        "1800000060",
        "-1",
    ];
    claims.map(str::to_owned).into_iter().chain(Role::ALL.map(|role| role.name().to_owned())).collect()
}

#[test]
fn a_bearer_header_that_nobody_signed_lets_nobody_in() {
    let door = Door::open();
    let token = door.token();
    let parts: Vec<&str> = token.split('.').collect();
    let none = BASE64_URL_SAFE_NO_PAD.encode("{\"alg\":\"none\",\"kid\":\"q7zkanarienvogel\"}");
    let seeds = [
        format!("Bearer {token}"),
        format!("bearer  {token} "),
        format!("Bearer {none}.{}.", parts[1]),
        format!("Bearer {none}.{}.{}", parts[1], parts[2]),
        format!("Basic {}", BASE64_STANDARD.encode(CANARY)),
        format!("Bearer {CANARY}"),
    ];
    let seeds = seeds.map(String::into_bytes).to_vec();
    let signed = format!("{}.{}", parts[0], parts[1]);
    let target = Target { name: "bearer", inputs: 10_000, seeds, words: words() };
    target.hold(move |input| match door.ask(&[input], &[]) {
        Err(why) => refused(why),
        Ok(caller) => {
            let text = std::str::from_utf8(input).map_err(|_| "a token that is no text")?;
            let token = text.split_once(' ').ok_or("a header without a token")?.1.trim();
            must(token.rsplit_once('.').is_some_and(|(read, _)| read == signed), "somebody whom nobody signed for")?;
            must(caller.id == development::OBJECT_ID && caller.roles == Role::ALL, "somebody else than the one signed for")
        }
    });
}

/// The key is the issuer's, the words are anybody's: what a compromised or careless issuer can say.
#[test]
fn a_signed_token_grants_what_its_claims_say_and_nothing_more() {
    let door = Door::open();
    let token = door.token();
    let text = |part: &str| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let parts: Vec<String> = token.split('.').take(2).map(text).collect();
    let more = format!("{{\"groups\":[\"{CANARY}\"],\"appid\":\"{CANARY}\",");
    let seeds = vec![parts.join("\n"), parts.join("\n").replacen("\n{", &format!("\n{more}"), 1)];
    let seeds = seeds.into_iter().map(String::into_bytes).collect();
    let target = Target { name: "claims", inputs: 6_000, seeds, words: words() };
    target.hold(move |input| {
        let (header, claims) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
        let claims = claims.strip_prefix(b"\n").unwrap_or(claims);
        let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let bearer = format!("Bearer {}", door.sign(&signed));
        let caller = match door.ask(&[bearer.as_bytes()], &[]) {
            Err(why) => return refused(why),
            Ok(caller) => caller,
        };
        let (Some(claims), Some(header)) = (read(claims), read(header)) else { return Ok(()) };
        must(header["alg"] == "ES256" && header.get("crit").is_none_or(Value::is_null), "an algorithm that is not ours")?;
        must(claims["tid"].as_str().is_some_and(|tid| tid.eq_ignore_ascii_case(TENANT)), "a caller of another tenant")?;
        must(claims["exp"].as_i64().is_some_and(|exp| exp > now().timestamp() - 60), "a caller of the past")?;
        must(claims["nbf"].as_i64().is_some_and(|nbf| nbf <= now().timestamp() + 60), "a caller of the future")?;
        must(
            claims["oid"].as_str() == Some(&caller.id) && caller.id.bytes().all(|byte| byte.is_ascii_graphic()),
            "another caller",
        )?;
        let said = |role: &Role| match &claims["roles"] {
            Value::Array(roles) => roles.iter().any(|said| said == role.name()),
            one => one == role.name(),
        };
        must(caller.roles.iter().all(said), "a role that was not granted")
    });
}

#[test]
fn a_principal_that_can_be_read_is_the_one_it_names() {
    let door = Door::open();
    let token = format!("Bearer {}", door.token());
    let claim = |typ: &str, val: &str| json!({ "typ": typ, "val": val });
    let mut claims =
        vec![claim("oid", development::OBJECT_ID), claim("tid", TENANT), claim("name", CANARY), claim("scp", "user/*.rs")];
    claims.extend(Role::ALL.map(|role| claim("roles", role.name())));
    let person = json!({ "auth_typ": "aad", "role_typ": "custom/role", "claims": claims });
    let program =
        json!({ "claims": [claim("oid", CANARY), claim("tid", TENANT), claim("idtyp", "app"), claim("custom/role", "Auditor")] });
    let mut seeds: Vec<Vec<u8>> = [person, program].iter().map(|principal| principal.to_string().into_bytes()).collect();
    // Encoded already: mutations then strike the base64.
    seeds.push(BASE64_STANDARD.encode(&seeds[0]).into_bytes());
    let target = Target { name: "principal", inputs: 6_000, seeds, words: words() };
    target.hold(move |input| {
        let (padded, bare) = (BASE64_STANDARD.encode(input), BASE64_URL_SAFE_NO_PAD.encode(input));
        let one = door.ask(&[], &[padded.as_bytes()]);
        must(one == door.ask(&[], &[bare.as_bytes()]), "the alphabet changes who calls")?;
        door.ask(&[], &[input]).map_or_else(refused, |_| Ok(()))?;
        // Beside a good token it must name the token's object, and adds nothing.
        match door.ask(&[token.as_bytes()], &[padded.as_bytes()]) {
            Ok(both) => {
                must(both.id == development::OBJECT_ID && one.as_ref().is_ok_and(|one| one.id == both.id), "two callers in one")?
            }
            Err(why) => refused(why)?,
        }
        let caller = match one {
            Ok(caller) => caller,
            Err(why) => return refused(why),
        };
        let Some(principal) = read(input) else { return Ok(()) };
        let says = |value: &str| principal["claims"].as_array().into_iter().flatten().any(|claim| claim["val"] == value);
        must(caller.tenant.as_deref() == Some(TENANT), "a caller of another tenant")?;
        must(says(&caller.id) && caller.id.bytes().all(|byte| byte.is_ascii_graphic()), "another caller")?;
        must(caller.roles.iter().all(|role| says(role.name())), "a role that was not granted")
    });
}
