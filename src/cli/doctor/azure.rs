//! The looks at Azure, or at a server of one's own: database, storage account, vault, identity.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::redirect::Policy;
use tokio::net::TcpStream;

use super::clock::Clocks;
use super::{Finding, Patient};
use crate::azure::identity::{Identity, Kind};
use crate::azure::{identity as entra, vault as key_vault};
use crate::blob::Blobs as _;
use crate::blob::azure::{Access, AzureBlobs};
use crate::config::{BlobSettings, Config, SETTINGS, SqlConnection, SqlSettings};
use crate::error::{Error, Result};
use crate::store::azure_sql::{self, AzureSql, Login, Options, Probe};

pub(super) const DATABASE_REMEDY: &str = "check the server's name and port in the connection string, that the server runs, its firewall \
     or private endpoint, and that this identity is a user of the database (docs/azure-sql.md)";
pub(super) const ACCOUNT_REMEDY: &str = "check HDAI_BLOB_ACCOUNT_URL, the account's firewall or private endpoint, and the DNS here";
pub(super) const STORAGE_REMEDY: &str = "make the container, and give this identity the role Storage Blob Data Contributor on it \
     (docs/storage.md)";
pub(super) const VAULT_REMEDY: &str = "give this identity the role Key Vault Secrets User, and check the vault's firewall";
pub(super) const KEYS_REMEDY: &str = "give this identity the role Key Vault Crypto Service Encryption User on the key, and check the vault's \
     firewall; or see the line of the database";
pub(super) const IDENTITY_REMEDY: &str = "give the app a managed identity, or sign in with `az login` on a developer's machine";

/// Longest wait for a connection that nothing was sent over yet.
const TCP_LIMIT: Duration = Duration::from_secs(4);

/// The database server.
pub(super) async fn database(settings: &SqlSettings, identity: &Identity) -> Finding {
    const PART: &str = "database";
    let options = match Options::resolve(settings, identity).await {
        Ok(options) => options,
        Err(error) => {
            return Finding::failed(PART, error.to_string(), "correct the connection string, or see the line of the vault");
        }
    };
    let server = format!("{}:{}", options.host, options.port);
    if let Err(why) = knock(&options.host, options.port).await {
        return Finding::failed(PART, format!("SQL server {server}, database {}: {why}", options.database), DATABASE_REMEDY);
    }
    let probe = match azure_sql::probe(settings, identity).await {
        Ok(probe) => probe,
        Err(error) => return Finding::failed(PART, format!("SQL server {server}: {error}"), DATABASE_REMEDY),
    };
    schema(settings, identity, &describe(&probe)).await
}

/// Does anybody listen?
async fn knock(host: &str, port: u16) -> Result<(), String> {
    match tokio::time::timeout(TCP_LIMIT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(cause)) => Err(format!("cannot be reached ({cause})")),
        Err(_) => Err(format!("no connection within {} s", TCP_LIMIT.as_secs())),
    }
}

fn describe(probe: &Probe) -> String {
    let kind = match (&probe.babelfish, probe.azure) {
        (Some(version), _) => format!("Babelfish {version}"),
        (None, true) => "Azure SQL".into(),
        (None, false) => format!("SQL Server {}", probe.version),
    };
    format!(
        "{kind} at {}, database {}, as {} (user {}), {}, connected in {} ms, round trip {:.1} ms",
        probe.host,
        probe.database,
        probe.login,
        probe.user,
        if probe.strict { "TDS 8.0 with TLS" } else { "encrypted with TLS" },
        probe.connected.as_millis(),
        probe.round_trip.as_secs_f64() * 1e3
    )
}

async fn schema(settings: &SqlSettings, identity: &Identity, found: &str) -> Finding {
    const PART: &str = "database";
    let pending = async { AzureSql::open(settings, identity).await?.pending().await };
    match pending.await {
        Ok(pending) if pending.is_empty() => Finding::ok(PART, format!("{found}; schema {} current", settings.schema)),
        Ok(pending) => Finding::warning(
            PART,
            format!("{found}; migrations to come in schema {}: {}", settings.schema, pending.join(", ")),
            "run `hdai migrate`, or give its script to the database's owner (docs/azure-sql.md)",
        ),
        Err(error) => Finding::failed(PART, format!("{found}; schema {}: {error}", settings.schema), "do what the line says"),
    }
}

/// Notes the database's clock.
pub(super) async fn database_clock(patient: &Patient, clocks: &Clocks) -> Finding {
    const PART: &str = "clock";
    let Some(settings) = &patient.config.sql else { return Finding::not_configured(PART, "") };
    match azure_sql::server_time(settings, &patient.identity).await {
        Ok(told) => {
            clocks.note("the database", told);
            Finding::ok(PART, "")
        }
        Err(_) => Finding::failed(PART, "", ""),
    }
}

/// The container of the storage account, read as the imports read it: a blob that nobody has is asked for.
pub(super) async fn storage(settings: &BlobSettings, patient: &Patient) -> Finding {
    const PART: &str = "storage";
    const NOBODYS: &str = "hdai-doctor-asks-for-a-blob-that-is-not-there";
    let container = &patient.config.import_container;
    let who = match Access::of(settings) {
        Ok(Some(Access::Signature(_))) => "a shared access signature".to_owned(),
        Ok(Some(_)) => "the emulator's own account".to_owned(),
        Ok(None) => kind(&patient.identity),
        Err(error) => return Finding::failed(PART, error.to_string(), ACCOUNT_REMEDY),
    };
    let place = format!("container {container} of {}", settings.account_url);
    let asked = async { AzureBlobs::open(settings, &patient.identity)?.open(container, NOBODYS).await };
    match asked.await {
        Ok(_) => Finding::ok(PART, format!("{place}, may be read as {who}")),
        Err(error) => Finding::failed(PART, format!("{place}, asked as {who}: {error}"), STORAGE_REMEDY),
    }
}

/// The storage account that imports may come from, if it is another than the local default.
pub(super) async fn account(config: &Config, clocks: &Clocks) -> Finding {
    const PART: &str = "storage account";
    let url = config.account_url.as_str();
    let default = SETTINGS.iter().any(|setting| setting.name == "HDAI_BLOB_ACCOUNT_URL" && setting.default == url);
    if default {
        return Finding::not_configured(PART, "HDAI_BLOB_ACCOUNT_URL is the local default; files lie in the embedded folder");
    }
    let client = reqwest::Client::builder().redirect(Policy::none()).timeout(Duration::from_secs(8)).build();
    let asked = match client {
        Ok(client) => client.get(url).send().await.map_err(reqwest::Error::without_url),
        Err(cause) => Err(cause),
    };
    let answer = match asked {
        Ok(answer) => answer,
        Err(cause) => {
            return Finding::failed(PART, format!("{url}: {}", Error::unavailable("no answer").caused_by(cause)), ACCOUNT_REMEDY);
        }
    };
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    clocks.note_date("the storage account", header("date"));
    let found = format!("{url} answers with HTTP status {}", answer.status().as_u16());
    if header("x-ms-request-id").or(header("x-ms-version")).is_none() {
        return Finding::warning(PART, format!("{found}, but not as a storage account does"), ACCOUNT_REMEDY);
    }
    match answer.status().is_server_error() {
        true => Finding::warning(PART, found, "look again later"),
        // Nobody is signed in here: a refusal shows that the service is there.
        false => Finding::ok(PART, format!("{found}, as a storage account does to a stranger")),
    }
}

/// The vault that holds the connection string.
pub(super) async fn vault(patient: &Patient) -> Finding {
    const PART: &str = "vault";
    let Some(SqlSettings { connection: SqlConnection::Vault(url), .. }) = &patient.config.sql else {
        return Finding::not_configured(PART, "HDAI_SQL_CONNECTION_SECRET is not set");
    };
    let secret = async { key_vault::secret(entra::credential(&patient.identity)?, url).await };
    match secret.await {
        Err(error) => Finding::failed(PART, error.to_string(), VAULT_REMEDY),
        Ok(secret) => match Options::parse(&secret, &patient.identity) {
            Ok(_) => {
                Finding::ok(PART, format!("the secret can be read as {}, and it is a connection string", kind(&patient.identity)))
            }
            Err(error) => Finding::failed(PART, error.to_string(), "put a right connection string into the secret"),
        },
    }
}

fn kind(identity: &Identity) -> String {
    let kind = match identity.kind {
        Kind::Managed => "the managed identity",
        Kind::Workload => "the workload identity",
        Kind::Developer => "the developer who is signed in",
    };
    identity.client_id.as_ref().map_or_else(|| kind.to_owned(), |client| format!("{kind} {client}"))
}

/// The identity, if anything configured needs one.
pub(super) async fn identity(patient: &Patient) -> Finding {
    const PART: &str = "identity";
    let for_files = patient.config.blob.as_ref().is_some_and(|settings| matches!(Access::of(settings), Ok(None)));
    let (service, scope) = match patient.config.sql.is_none() && for_files {
        true => ("Storage", "https://storage.azure.com/.default"),
        false => ("Azure SQL", "https://database.windows.net/.default"),
    };
    let identity = match &patient.config.sql {
        None if patient.identity.kind == Kind::Developer && !for_files => {
            return Finding::not_configured(PART, "nothing that is configured needs one");
        }
        Some(SqlSettings { connection: SqlConnection::Text(text), .. }) => {
            match Options::parse(text, &patient.identity).map(|options| options.login) {
                Ok(Login::Sql { .. }) => return Finding::not_configured(PART, "the connection string names a user and a password"),
                Ok(Login::Entra(named)) if named.kind != Kind::default() || named.client_id.is_some() => named,
                _ => patient.identity.clone(),
            }
        }
        _ => patient.identity.clone(),
    };
    let token = async {
        let credential = entra::credential(&identity)?;
        entra::token(&*credential, &identity, scope).await
    };
    match token.await {
        Err(error) => Finding::failed(PART, format!("{}: {error}", kind(&identity)), IDENTITY_REMEDY),
        Ok(token) => {
            let minutes = token.valid.as_secs() / 60;
            let who = claims(token.secret.reveal());
            Finding::ok(PART, format!("{}, {who}; a token for {service} that ends in {minutes} min", kind(&identity)))
        }
    }
}

/// Whom a token names, from its payload. Nothing else of it is shown.
fn claims(token: &str) -> String {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok());
    let payload: serde_json::Value = payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default();
    let plain = |text: &str| text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let claim = |name: &str| payload[name].as_str().filter(|text| plain(text)).map(str::to_owned);
    let parts = [("object", claim("oid")), ("app", claim("appid").or(claim("azp"))), ("tenant", claim("tid"))];
    let known: Vec<String> = parts.into_iter().filter_map(|(name, id)| Some(format!("{name} {}", id?))).collect();
    if known.is_empty() { "whom it names is not said".into() } else { known.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_whom_it_names_and_no_more() {
        let payload = r#"{"oid":"0a-1b","appid":"2c","tid":"3d","name":"Canary","unique_name":"canary@x"}"#;
        let token = format!("eyJ0.{}.s1gn", URL_SAFE_NO_PAD.encode(payload));
        assert_eq!(claims(&token), "object 0a-1b, app 2c, tenant 3d");
        for opaque in ["", "opaque", "a.b.c", &format!("a.{}.c", URL_SAFE_NO_PAD.encode(r#"{"oid":"<script>"}"#))] {
            assert_eq!(claims(opaque), "whom it names is not said");
        }
    }
}
