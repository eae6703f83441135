//! The settings, and the configuration they make. It does not read the environment itself: the edge hands in a look-up.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::alert::AlertRules;
use crate::error::{Error, Result};

mod audit;
mod edge;
mod private_file;
mod reach;
mod settings;
mod sign_in;
mod topic;

pub use self::audit::{AUDIT_YEARS_LEAST, AUDIT_YEARS_MOST};
pub use self::edge::EdgeSettings;
pub use self::private_file::{make_key_file, read_key_file};
pub use self::reach::Unassigned;
pub use self::settings::{HOST_SETTINGS, SETTINGS, Setting, sample_settings, settings_table};
pub use self::sign_in::{Development, EntraSettings, SignInSettings};
pub use self::topic::TopicSettings;

/// Variables that tell a plan of Azure's: every Functions app has a site name; the others are App Service's, Flex Consumption's and
/// Container Apps' (functions-host, `EnvironmentExtensions`). `CONTAINER_NAME` is left out: other systems set it too.
const AZURE_MARKS: [&str; 5] =
    ["WEBSITE_SITE_NAME", "WEBSITE_INSTANCE_ID", "WEBSITE_POD_NAME", "LEGION_SERVICE_HOST", "CONTAINER_APP_NAME"];

/// Smallest `HDAI_IMPORT_PART_BYTES`: less is not worth a message.
const PART_BYTES_LEAST: u64 = 64 * 1024;

/// Largest `HDAI_BODY_BYTES_MAX`: what the message decoder reads.
const BODY_BYTES_MOST: usize = 4 * 1024 * 1024;

/// The configuration of one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Port that the Functions host chose, when one started us.
    pub port: Option<u16>,
    /// Folder of all local state.
    pub folder: PathBuf,
    /// Storage account that imports may come from, without a trailing slash.
    pub account_url: String,
    /// The storage account as the place of the files, if they are not in the folder.
    pub blob: Option<BlobSettings>,
    /// Container that imports may come from.
    pub import_container: String,
    /// Largest file that is imported, in bytes.
    pub import_bytes_max: u64,
    /// A CSV file larger than this is imported in parts of about this many bytes.
    pub import_part_bytes: u64,
    /// Largest body of a call, in bytes.
    pub body_bytes_max: usize,
    /// Longest wait for the whole body of a call.
    pub body_time_max: Duration,
    /// Largest body of a trigger's call, in bytes.
    pub trigger_bytes_max: usize,
    /// Longest work on one trigger call, in seconds.
    pub call_seconds_max: u64,
    /// Seed of training.
    pub training_seed: u64,
    /// Smallest count that a report shows.
    pub cell_min: u64,
    /// Whom we believe when a call comes in.
    pub sign_in: SignInSettings,
    /// Whether one of Azure's variables is set.
    pub in_azure: bool,
    /// Where the record lies, if not in the folder.
    pub sql: Option<SqlSettings>,
    /// What receipts are signed with, in base64; `None` for the key file.
    pub receipt_key: Option<Secret>,
    /// What pseudonyms and cursors are made with, in base64; `None` for the key file.
    pub pseudonym_key: Option<Secret>,
    /// What in the audit trail is logged as an alert.
    pub alerts: AlertRules,
    /// How long audit events are kept, in years: [`AUDIT_YEARS_LEAST`] to [`AUDIT_YEARS_MOST`].
    pub audit_retention_years: u32,
    /// The Event Grid topic that is told of facts, if there is one.
    pub topic: Option<TopicSettings>,
    /// Endings of the names that an event brings in, in lower case; none for every name.
    pub import_suffixes: Vec<String>,
    /// The queue service that keeps the app's queues, if it is not the local host.
    pub queues: Option<QueueSettings>,
    /// The Key Vault key that wraps the keys of the names, `https://VAULT.vault.azure.net/keys/NAME[/VERSION]`; `None` for the key file.
    pub data_key_url: Option<String>,
    /// Whose patients a care line manager reaches to whom no facility is assigned.
    pub unassigned: Unassigned,
    /// Longest time of an elevation (break-glass), in minutes.
    pub break_glass_minutes_max: u32,
    /// What callers may ask of the HTTP edge.
    pub edge: EdgeSettings,
    /// Actions refused to one caller within ten minutes before further ones are only counted; 0 for never.
    pub refusals_max: u32,
    /// Log filter.
    pub log: String,
}

/// A text that opens something; it has no `Debug` of its own content.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The storage account that keeps the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSettings {
    /// Its URL, without a trailing slash: https, or http where it is an emulator on this machine.
    pub account_url: String,
    /// A shared access signature, if that is what lets us in.
    pub signature: Option<Secret>,
}

/// The queue service that keeps the app's queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// Its URL, without a trailing slash: https, or http where it is an emulator on this machine.
    pub service_url: String,
    /// A shared access signature, if that is what lets us in.
    pub signature: Option<Secret>,
}

/// Where the connection string of the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlConnection {
    /// Here: an ADO.NET connection string.
    Text(Secret),
    /// In this Key Vault secret, `https://VAULT.vault.azure.net/secrets/NAME[/VERSION]`.
    Vault(String),
}

/// The Azure SQL database that keeps the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlSettings {
    /// Its connection string.
    pub connection: SqlConnection,
    /// The schema of the tables: a letter, then letters, digits and underscores.
    pub schema: String,
    /// Further certificate authorities, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Most connections.
    pub pool_max: u32,
    /// Longest idle time of a connection.
    pub idle: Duration,
    /// Longest life of a connection.
    pub lifetime: Duration,
    /// Longest wait for a free connection.
    pub wait: Duration,
    /// Longest wait for the answer to a statement.
    pub command: Duration,
    /// The same for imports, migrations and copies.
    pub import: Duration,
}

impl SqlSettings {
    /// The settings of [`SETTINGS`] that stand when only the connection is known.
    pub fn new(connection: SqlConnection) -> Self {
        Self {
            connection,
            schema: "dbo".into(),
            ca_file: None,
            pool_max: 16,
            idle: Duration::from_secs(300),
            lifetime: Duration::from_secs(1800),
            wait: Duration::from_secs(15),
            command: Duration::from_secs(30),
            import: Duration::from_secs(600),
        }
    }
}

impl Config {
    /// Reads every setting through `lookup` (a variable's name to its value).
    ///
    /// # Errors
    /// Names the first setting that cannot be used, and what it must be; never its value.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = |name: &str| -> Result<String> {
            let value = match lookup(name).filter(|value| !value.trim().is_empty()) {
                Some(value) => value,
                None => SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default).to_owned(),
            };
            if value.starts_with("@Microsoft.KeyVault(") {
                return Err(Error::invalid(format!(
                    "the setting {name} is an unresolved Key Vault reference: give the app's identity access to the secret and restart"
                )));
            }
            Ok(value)
        };
        // Also those that nothing below asks for.
        SETTINGS.iter().try_for_each(|setting| text(setting.name).map(drop))?;
        let number = |name: &str| -> Result<u64> {
            text(name)?.trim().parse::<u64>().map_err(|_| Error::invalid(format!("the setting {name} must be a whole number")))
        };
        let flag = |name: &str| -> Result<bool> {
            match text(name)?.trim().to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(true),
                "" | "false" | "0" => Ok(false),
                _ => Err(Error::invalid(format!("the setting {name} must be true or false"))),
            }
        };
        let size = |name: &str| -> Result<usize> {
            usize::try_from(number(name)?).map_err(|_| Error::invalid(format!("the setting {name} is too large for this machine")))
        };
        let port =
            match lookup("FUNCTIONS_CUSTOMHANDLER_PORT") {
                None => None,
                Some(port) => Some(port.trim().parse::<u16>().map_err(|_| {
                    Error::invalid("the setting FUNCTIONS_CUSTOMHANDLER_PORT must be a port number from 0 to 65535")
                })?),
            };
        let platform = flag("WEBSITE_AUTH_ENABLED")?;
        let in_azure = AZURE_MARKS.iter().any(|mark| lookup(mark).is_some());
        let entra = sign_in::entra(&text, in_azure)?;
        // Whoever the platform lets in is only known by object and tenant: one tenant must be ours.
        if platform && entra.is_none() {
            return Err(Error::invalid(
                "the setting HDAI_ENTRA_TENANT_ID must name the tenant whose people the platform's authentication lets in",
            ));
        }
        let body_bytes_max = match size("HDAI_BODY_BYTES_MAX")? {
            most @ 0..=BODY_BYTES_MOST => most,
            _ => return Err(Error::invalid(format!("the setting HDAI_BODY_BYTES_MAX must be at most {BODY_BYTES_MOST}"))),
        };
        let import_part_bytes = number("HDAI_IMPORT_PART_BYTES")?;
        if import_part_bytes < PART_BYTES_LEAST {
            return Err(Error::invalid(format!("the setting HDAI_IMPORT_PART_BYTES must be at least {PART_BYTES_LEAST}")));
        }
        let trigger_bytes_max = size("HDAI_TRIGGER_BYTES_MAX")?;
        let refusals_max = u32::try_from(number("HDAI_REFUSALS_MAX")?)
            .map_err(|_| Error::invalid(format!("the setting HDAI_REFUSALS_MAX must be at most {}", u32::MAX)))?;
        let account_url = text("HDAI_BLOB_ACCOUNT_URL")?.trim().trim_end_matches('/').to_ascii_lowercase();
        let blob = blob_settings(&text, &account_url)?;
        let sql = sql_settings(&text, &number)?;
        let development = sign_in::development(&lookup, platform, entra.is_some(), blob.as_ref(), sql.as_ref());
        Ok(Self {
            port,
            folder: PathBuf::from(text("HDAI_FOLDER")?),
            blob,
            account_url,
            import_container: text("HDAI_IMPORT_CONTAINER")?.trim().to_owned(),
            import_bytes_max: number("HDAI_IMPORT_BYTES_MAX")?,
            import_part_bytes,
            body_bytes_max,
            body_time_max: Duration::from_secs(number("HDAI_BODY_SECONDS_MAX")?.max(1)),
            trigger_bytes_max,
            call_seconds_max: number("HDAI_CALL_SECONDS_MAX")?.max(1),
            training_seed: number("HDAI_TRAINING_SEED")?,
            cell_min: number("HDAI_CELL_MIN")?,
            sign_in: SignInSettings { platform, entra, development },
            in_azure,
            sql,
            receipt_key: Some(text("HDAI_RECEIPT_KEY")?).filter(|key| !key.is_empty()).map(Secret::new),
            pseudonym_key: Some(text("HDAI_PSEUDONYM_KEY")?).filter(|key| !key.is_empty()).map(Secret::new),
            alerts: audit::alerts(&text, &number)?,
            audit_retention_years: audit::years(&number)?,
            topic: topic::read(&text)?,
            import_suffixes: topic::suffixes(&text("HDAI_IMPORT_SUFFIXES")?)?,
            queues: queue_settings(&text)?,
            data_key_url: Some(text("HDAI_DATA_KEY_URL")?.trim().to_owned()).filter(|url| !url.is_empty()),
            unassigned: reach::unassigned(&text, development)?,
            break_glass_minutes_max: reach::minutes_max(&number)?,
            edge: edge::read(&number, body_bytes_max.max(trigger_bytes_max))?,
            refusals_max,
            log: text("HDAI_LOG")?,
        })
    }

    /// The database of the embedded default.
    pub fn database_path(&self) -> PathBuf {
        self.folder.join("hdai.db")
    }

    /// The receipts' signing key of the embedded default.
    pub fn receipt_key_path(&self) -> PathBuf {
        self.folder.join("receipt.key")
    }

    /// The pseudonyms' key of the embedded default.
    pub fn pseudonym_key_path(&self) -> PathBuf {
        self.folder.join("pseudonym.key")
    }

    /// What wraps the keys of the names in the embedded default.
    pub fn data_key_path(&self) -> PathBuf {
        self.folder.join("data.key")
    }

    /// The folder whose subfolders are the containers of the embedded default.
    pub fn blob_root(&self) -> PathBuf {
        self.folder.join("blobs")
    }
}

fn blob_settings(text: &dyn Fn(&str) -> Result<String>, account_url: &str) -> Result<Option<BlobSettings>> {
    let signature = text("HDAI_BLOB_SAS")?;
    let signature = (!signature.is_empty()).then(|| Secret::new(signature));
    let azure = match text("HDAI_BLOB_STORE")?.trim() {
        "azure" => true,
        "local" if signature.is_some() => {
            return Err(Error::invalid("the setting HDAI_BLOB_SAS is of no use with HDAI_BLOB_STORE=local: remove one"));
        }
        "local" => false,
        "" => account_url.starts_with("https://") || signature.is_some(),
        _ => return Err(Error::invalid("the setting HDAI_BLOB_STORE must be azure or local")),
    };
    if account_url.contains(['?', '#', '@']) {
        return Err(Error::invalid(
            "the setting HDAI_BLOB_ACCOUNT_URL must be the account's address alone: a signature goes into HDAI_BLOB_SAS",
        ));
    }
    if !azure {
        return Ok(None);
    }
    if !is_plain_on_this_machine(account_url) && !account_url.starts_with("https://") {
        return Err(Error::invalid("the setting HDAI_BLOB_ACCOUNT_URL must be https, unless it is an emulator on this machine"));
    }
    Ok(Some(BlobSettings { account_url: account_url.to_owned(), signature }))
}

/// Is it http to this very machine, where an emulator may answer?
fn is_plain_on_this_machine(url: &str) -> bool {
    url.strip_prefix("http://").is_some_and(|rest| {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
    })
}

fn queue_settings(text: &dyn Fn(&str) -> Result<String>) -> Result<Option<QueueSettings>> {
    let service_url = text("HDAI_QUEUE_URL")?.trim().trim_end_matches('/').to_ascii_lowercase();
    let signature = text("HDAI_QUEUE_SAS")?;
    if service_url.is_empty() {
        return match signature.is_empty() {
            true => Ok(None),
            false => Err(Error::invalid("the setting HDAI_QUEUE_SAS is of no use without HDAI_QUEUE_URL: set both, or remove it")),
        };
    }
    if !service_url.starts_with("https://") && !is_plain_on_this_machine(&service_url) {
        return Err(Error::invalid("the setting HDAI_QUEUE_URL must be https, unless it is an emulator on this machine"));
    }
    if service_url.contains(['?', '#', '@']) {
        return Err(Error::invalid(
            "the setting HDAI_QUEUE_URL must be the service's address alone: a signature goes into HDAI_QUEUE_SAS",
        ));
    }
    Ok(Some(QueueSettings { service_url, signature: (!signature.is_empty()).then(|| Secret::new(signature)) }))
}

fn sql_settings(text: &dyn Fn(&str) -> Result<String>, number: &dyn Fn(&str) -> Result<u64>) -> Result<Option<SqlSettings>> {
    let (here, vault) = (text("HDAI_SQL_CONNECTION")?, text("HDAI_SQL_CONNECTION_SECRET")?);
    let connection = match (here.is_empty(), vault.is_empty()) {
        (true, true) => return Ok(None),
        (false, true) => SqlConnection::Text(Secret::new(here)),
        (true, false) => SqlConnection::Vault(vault.trim().to_owned()),
        (false, false) => {
            return Err(Error::invalid(
                "the settings HDAI_SQL_CONNECTION and HDAI_SQL_CONNECTION_SECRET exclude each other: remove one",
            ));
        }
    };
    let schema = text("HDAI_SQL_SCHEMA")?.trim().to_owned();
    let plain = schema.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if schema.len() > 64 || !plain || !schema.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(Error::invalid(
            "the setting HDAI_SQL_SCHEMA must be a letter, then letters, digits and underscores, at most 64",
        ));
    }
    let seconds = |name: &str, most: u64| -> Result<Duration> {
        match number(name)? {
            seconds if (1..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            _ => Err(Error::invalid(format!("the setting {name} must be from 1 to {most}"))),
        }
    };
    let pool_max = match number("HDAI_SQL_POOL_MAX")? {
        most @ 1..=1000 => most as u32,
        _ => return Err(Error::invalid("the setting HDAI_SQL_POOL_MAX must be from 1 to 1000")),
    };
    let ca_file = text("HDAI_SQL_CA_FILE")?;
    Ok(Some(SqlSettings {
        connection,
        schema,
        ca_file: (!ca_file.is_empty()).then(|| PathBuf::from(ca_file)),
        pool_max,
        idle: seconds("HDAI_SQL_IDLE_SECONDS", 86_400)?,
        lifetime: seconds("HDAI_SQL_LIFETIME_SECONDS", 86_400)?,
        wait: seconds("HDAI_SQL_WAIT_SECONDS", 600)?,
        command: seconds("HDAI_SQL_COMMAND_SECONDS", 3600)?,
        import: seconds("HDAI_SQL_IMPORT_SECONDS", 86_400)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &'static [(&'static str, &'static str)]) -> Result<Config> {
        Config::from_vars(move |name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn nothing_set_is_the_embedded_default_that_trusts_no_header() {
        let config = with(&[]).unwrap();
        assert!(!config.sign_in.platform && config.sign_in.entra.is_none() && !config.in_azure);
        assert_eq!(config.database_path(), PathBuf::from("hdai-data/hdai.db"));
        assert_eq!(config.port, None);
        assert_eq!(config.blob, None);
    }

    #[test]
    fn the_files_lie_where_the_settings_say() {
        let at =
            |vars: &'static [(&'static str, &'static str)]| with(vars).unwrap().blob.map(|blob| (blob.account_url, blob.signature));
        const CLOUD: (&str, &str) = ("HDAI_BLOB_ACCOUNT_URL", "https://Acct.blob.core.windows.net/");
        let acct = || "https://acct.blob.core.windows.net".to_owned();
        let emulator = || "http://127.0.0.1:10000/devstoreaccount1".to_owned();
        let signature = || Some(Secret::new("sv=1&sig=S"));
        assert_eq!(with(&[CLOUD]).unwrap().blob, Some(BlobSettings { account_url: acct(), signature: None }));
        assert_eq!(with(&[CLOUD, ("HDAI_BLOB_STORE", "local")]).unwrap().blob, None);
        assert_eq!(at(&[("HDAI_BLOB_STORE", "azure")]), Some((emulator(), None)));
        assert_eq!(at(&[("HDAI_BLOB_SAS", "sv=1&sig=S")]), Some((emulator(), signature())));
        for (refused, named) in [
            (&[("HDAI_OFF_HOURS", "20-24")][..], "HDAI_OFF_HOURS"),
            (&[("HDAI_BLOB_STORE", "s3")], "HDAI_BLOB_STORE"),
            (&[("HDAI_BLOB_STORE", "local"), ("HDAI_BLOB_SAS", "sig=s3cret")], "HDAI_BLOB_SAS"),
            (
                &[("HDAI_BLOB_STORE", "azure"), ("HDAI_BLOB_ACCOUNT_URL", "http://acct.blob.core.windows.net")],
                "HDAI_BLOB_ACCOUNT_URL",
            ),
            (&[("HDAI_BLOB_ACCOUNT_URL", "https://acct.blob.core.windows.net?sig=s3cret")], "HDAI_BLOB_ACCOUNT_URL"),
            (&[("HDAI_BLOB_STORE", "azure"), ("HDAI_BLOB_ACCOUNT_URL", "http://localhost.example/a")], "HDAI_BLOB_ACCOUNT_URL"),
        ] {
            let message = Config::from_vars(|name| refused.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
                .unwrap_err()
                .to_string();
            assert!(message.contains(named) && !message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_its_value_is_not_shown() {
        for vars in [
            &[("HDAI_IMPORT_BYTES_MAX", "s3cret")][..],
            &[("WEBSITE_AUTH_ENABLED", "s3cret")],
            &[("HDAI_ENTRA_TENANT_ID", "s3cret")],
            &[("HDAI_IMPORT_PART_BYTES", "65535")],
            &[("HDAI_UNASSIGNED_CARE_LINE_MANAGERS", "s3cret")],
            &[("HDAI_BREAK_GLASS_MINUTES_MAX", "0")],
            &[("FUNCTIONS_CUSTOMHANDLER_PORT", "s3cret")],
        ] {
            let message = Config::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
                .unwrap_err()
                .to_string();
            assert!(message.contains(vars[0].0) && !message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn an_unresolved_key_vault_reference_stops_the_start() {
        let message =
            with(&[("HDAI_BLOB_ACCOUNT_URL", "@Microsoft.KeyVault(SecretUri=https://v/secrets/s)")]).unwrap_err().to_string();
        assert!(message.contains("HDAI_BLOB_ACCOUNT_URL") && !message.contains("SecretUri"), "{message}");
    }
}
