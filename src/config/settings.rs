//! The only list of settings, and the documents made of it.

/// A setting: an environment variable here, an app setting in Azure.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// Its value when it is not set; empty for "none".
    pub default: &'static str,
    /// What it decides, and its unit.
    pub doc: &'static str,
}

const fn setting(name: &'static str, default: &'static str, doc: &'static str) -> Setting {
    Setting { name, default, doc }
}

/// Settings that the Functions host reads, for the sample file.
pub const HOST_SETTINGS: [(&str, &str); 3] = [
    ("FUNCTIONS_WORKER_RUNTIME", "Custom"),
    ("AzureWebJobsStorage", "UseDevelopmentStorage=true"),
    ("ImportStorage", "UseDevelopmentStorage=true"),
];

/// Every setting, in the order of the documents.
pub const SETTINGS: &[Setting] = &[
    setting(
        "HDAI_FOLDER",
        "hdai-data",
        "Folder of all local state (database, containers, queues) when no Azure resource is configured.",
    ),
    setting(
        "HDAI_BLOB_ACCOUNT_URL",
        "http://127.0.0.1:10000/devstoreaccount1",
        "URL of the storage account that imports may come from; a payload that names another account is refused.",
    ),
    setting(
        "HDAI_BLOB_STORE",
        "",
        "Where the files lie: `azure`, in that account; `local`, in HDAI_FOLDER. Empty: `azure` if the account's URL is https or \
         HDAI_BLOB_SAS is set, `local` otherwise.",
    ),
    setting(
        "HDAI_BLOB_SAS",
        "",
        "Shared access signature of the account, instead of the app's identity; a secret. The emulator's own account needs none.",
    ),
    setting("HDAI_IMPORT_CONTAINER", "trainingdata", "Container that imports may come from."),
    setting("HDAI_IMPORT_BYTES_MAX", "10737418240", "Largest file that is imported, in bytes."),
    setting("HDAI_BODY_BYTES_MAX", "1048576", "Largest body of an admission, a discharge or another call, in bytes."),
    setting(
        "HDAI_TRIGGER_BYTES_MAX",
        "67108864",
        "Largest body of a trigger's call (an inline blob is in it, in base64), in bytes.",
    ),
    setting("HDAI_CALL_SECONDS_MAX", "900", "Longest work on one trigger call, in seconds; below the host's functionTimeout."),
    setting("HDAI_TRAINING_SEED", "20260101", "Seed of everything random in training."),
    setting(
        "HDAI_CELL_MIN",
        "11",
        "Smallest count that a report shows to whoever does not care for the patients; smaller ones are suppressed.",
    ),
    setting(
        "HDAI_SQL_CONNECTION",
        "",
        "ADO.NET connection string of the Azure SQL database that keeps the record. Empty: an SQLite file in HDAI_FOLDER.",
    ),
    setting(
        "HDAI_SQL_CONNECTION_SECRET",
        "",
        "URL of the Key Vault secret that holds the connection string, instead of HDAI_SQL_CONNECTION.",
    ),
    setting("HDAI_SQL_SCHEMA", "dbo", "Schema of the database that the tables lie in."),
    setting("HDAI_SQL_CA_FILE", "", "PEM file of certificate authorities that may vouch for the SQL server, beside the system's."),
    setting("HDAI_SQL_POOL_MAX", "16", "Most connections to the database that one instance holds."),
    setting("HDAI_SQL_IDLE_SECONDS", "300", "How long a connection to the database may lie idle, in seconds."),
    setting("HDAI_SQL_LIFETIME_SECONDS", "1800", "How old a connection to the database may become, in seconds."),
    setting("HDAI_SQL_WAIT_SECONDS", "15", "Longest wait for a free connection before a call is refused, in seconds."),
    setting("HDAI_SQL_COMMAND_SECONDS", "30", "Longest wait for the database's answer to one statement, in seconds."),
    setting("HDAI_SQL_IMPORT_SECONDS", "600", "The same for the statements of an import, a migration and a copy, in seconds."),
    setting(
        "HDAI_RECEIPT_KEY",
        "",
        "Key that receipts are signed with: 32 bytes or more in base64, in Azure a Key Vault reference. Empty: a key file in HDAI_FOLDER.",
    ),
    setting(
        "HDAI_ALERT_MASS_ACCESS",
        "100",
        "Patients' records that one caller touches on one instance within ten minutes before an alert is logged; 0 for never.",
    ),
    setting(
        "HDAI_ALERT_REFUSALS",
        "5",
        "Actions refused to one caller on one instance within ten minutes before an alert is logged; 0 for never.",
    ),
    setting(
        "HDAI_OFF_HOURS",
        "20-6",
        "Hours, UTC, in which work other than the care of patients is logged as an alert, from-to; `none` for never.",
    ),
    setting(
        "HDAI_TOPIC_ENDPOINT",
        "",
        "Endpoint of the Event Grid topic that is told of imports, models, admissions and discharges. Empty: nobody is told.",
    ),
    setting("HDAI_TOPIC_KEY", "", "Access key of that topic, in Azure a Key Vault reference. Empty: the app's identity sends."),
    setting(
        "HDAI_TOPIC_SOURCE",
        "/health-data-ai",
        "What the events name as their source; one of its own for each app of a topic.",
    ),
    setting(
        "HDAI_IMPORT_SUFFIXES",
        "",
        "Endings of the names that an event brings in, separated by commas, for example `.csv,.csv.gz`. Empty: every name.",
    ),
    setting(
        "HDAI_ENTRA_TENANT_ID",
        "",
        "Id of the Microsoft Entra ID tenant whose tokens are validated here. Empty: none are, and only WEBSITE_AUTH_ENABLED, which the \
         platform sets, or the development issuer lets anyone in.",
    ),
    setting(
        "HDAI_ENTRA_AUDIENCES",
        "",
        "What a token may be for: the app's client id and its application ID URI, with a comma between.",
    ),
    setting("HDAI_ENTRA_AUTHORITY", "https://login.microsoftonline.com", "Entra's address; another one in a sovereign cloud."),
    setting("HDAI_ENTRA_KEYS_URL", "", "Where the tenant's signing keys are published. Empty: as the authority publishes them."),
    setting(
        "HDAI_BODY_SECONDS_MAX",
        "60",
        "Longest wait for the whole body of an admission, a discharge or another call, in seconds.",
    ),
    setting(
        "HDAI_QUEUE_URL",
        "",
        "URL of the queue service with the app's queues (`AzureWebJobsStorage`), for `hdai imports replay`. Empty: the local host's queues.",
    ),
    setting(
        "HDAI_QUEUE_SAS",
        "",
        "Shared access signature of that queue service, instead of an identity; a secret. The emulator's own account needs none.",
    ),
    setting(
        "HDAI_IMPORT_PART_BYTES",
        "268435456",
        "A CSV file larger than this is imported in parts of about this many bytes, by several instances side by side; at least 65536.",
    ),
    setting(
        "HDAI_DATA_KEY_URL",
        "",
        "URL of the Key Vault key (RSA) that wraps the keys which names are encrypted with. Empty: a key file in HDAI_FOLDER.",
    ),
    setting(
        "HDAI_UNASSIGNED_CARE_LINE_MANAGERS",
        "",
        "Whose patients a care line manager reaches to whom no facility is assigned: `all` or `none`. Empty: `all` where nothing speaks of \
         Azure, `none` elsewhere.",
    ),
    setting(
        "HDAI_BREAK_GLASS_MINUTES_MAX",
        "240",
        "Longest time that somebody may reach patients by break-glass, in minutes, at most 1440.",
    ),
    setting(
        "HDAI_PSEUDONYM_KEY",
        "",
        "Key that pseudonyms of encounters and cursors are made with: 32 bytes or more in base64, in Azure a Key Vault reference; another key \
         makes other pseudonyms. Empty: a key file in HDAI_FOLDER.",
    ),
    setting(
        "HDAI_ALERT_EXPORT_ROWS",
        "10000",
        "Encounters without names that one caller reads on one instance within ten minutes before an alert is logged; 0 for never.",
    ),
    setting(
        "HDAI_BODIES_BYTES_MAX",
        "268435456",
        "Most bytes of bodies under way at once in one instance: of the API's calls, and as many of the triggers'. What is more is answered 503.",
    ),
    setting(
        "HDAI_CONNECTIONS_MAX",
        "768",
        "Most connections at once; below the process's limit of open files. When one more comes, the one that waits longest for a call ends.",
    ),
    setting(
        "HDAI_HEAD_SECONDS_MAX",
        "90",
        "Longest wait for the whole head of the next call on a connection, in seconds; above the minute that the Functions host keeps an idle one.",
    ),
    setting(
        "HDAI_ANSWER_SECONDS_MAX",
        "120",
        "Longest wait until a caller has taken an answer, in seconds; then its connection ends.",
    ),
    setting(
        "HDAI_FAILURES_MAX",
        "60",
        "Failed sign-ins of one origin in a minute, after which its further ones are answered 429. Whoever signs in well is never refused.",
    ),
    setting(
        "HDAI_REFUSALS_MAX",
        "30",
        "Actions refused to one caller on one instance within ten minutes, after which further ones are answered 429 and told in the trail as \
         a sum; 0 for never.",
    ),
    setting(
        "HDAI_CALLER_RATE",
        "100",
        "Calls a second that one caller may make on one instance in the long run; 0 for any number.",
    ),
    setting("HDAI_CALLER_BURST", "1000", "Calls that one caller may make on one instance at once, before that rate counts."),
    setting("HDAI_CALLER_CALLS", "64", "Calls of one caller that may be under way on one instance; further ones are answered 429."),
    setting(
        "HDAI_ALERT_TRAIL_PAGES",
        "30",
        "Pages of the audit trail that one caller reads on one instance within ten minutes before an alert is logged; 0 for never.",
    ),
    setting(
        "HDAI_AUDIT_RETENTION_YEARS",
        "7",
        "Years that audit events are kept, 6 to 30: `hdai audit purge` removes none that is younger, nor does the database.",
    ),
    setting(
        "HDAI_LOG",
        "info",
        "Log filter, as tracing's EnvFilter reads it, for example `info,health_data_ai=debug`. Of dependencies only warnings are logged whatever it says.",
    ),
];

/// The text of `local.settings.sample.json`.
pub fn sample_settings() -> String {
    let mut values = serde_json::Map::new();
    for (name, value) in HOST_SETTINGS {
        values.insert(name.into(), value.into());
    }
    for setting in SETTINGS {
        values.insert(setting.name.into(), setting.default.into());
    }
    let sample = serde_json::json!({ "IsEncrypted": false, "Values": values });
    format!("{sample:#}\n")
}

/// The settings as a Markdown table, for the documents.
pub fn settings_table() -> String {
    let mut table = String::from("| setting | default | what it decides |\n|---|---|---|\n");
    for setting in SETTINGS {
        table.push_str(&format!("| `{}` | `{}` | {} |\n", setting.name, setting.default, setting.doc));
    }
    table
}
