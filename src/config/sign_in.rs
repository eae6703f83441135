//! Whom the handler believes: the settings of signing in.

use std::net::IpAddr;

use super::{BlobSettings, SqlConnection, SqlSettings};
use crate::error::{Error, Result};

/// Whom the handler believes. All closed: every call that needs a caller is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInSettings {
    /// The platform's authentication stands in front (`WEBSITE_AUTH_ENABLED`): its identity headers count.
    pub platform: bool,
    /// Tokens of this tenant are validated here.
    pub entra: Option<EntraSettings>,
    /// Tokens of the development issuer.
    pub development: Development,
}

/// Whether the development issuer signs, and is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Development {
    /// Nothing speaks of Azure: whoever may read the folder of local state may sign in.
    Allowed,
    /// This variable speaks of Azure.
    Refused(&'static str),
}

/// Most audiences.
const AUDIENCES_MAX: usize = 10;

/// A Microsoft Entra ID tenant and this app in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntraSettings {
    /// The tenant's id, a GUID in lower case.
    pub tenant: String,
    /// What a token's `aud` may be: the app's client id and its application ID URI.
    pub audiences: Vec<String>,
    /// What a token's `iss` may be: the tenant's, in the words of both token versions.
    pub issuers: Vec<String>,
    /// Where the tenant's signing keys are published.
    pub keys_url: String,
}

impl EntraSettings {
    /// Whether the keys come from this machine: a test, never Azure.
    pub fn keys_are_local(&self) -> bool {
        self.keys_url.starts_with("http://")
    }
}

/// Reads the settings of a tenant. `in_azure` forbids keys without TLS.
pub(super) fn entra(text: &dyn Fn(&str) -> Result<String>, in_azure: bool) -> Result<Option<EntraSettings>> {
    let (tenant, audiences) = (text("HDAI_ENTRA_TENANT_ID")?, text("HDAI_ENTRA_AUDIENCES")?);
    let tenant = tenant.trim().to_ascii_lowercase();
    let audiences: Vec<String> = audiences.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if tenant.is_empty() {
        return match audiences.is_empty() {
            true => Ok(None),
            false => Err(Error::invalid("the setting HDAI_ENTRA_AUDIENCES is of no use without HDAI_ENTRA_TENANT_ID: set both")),
        };
    }
    let parts = tenant.split('-').map(str::len);
    if !parts.eq([8, 4, 4, 4, 12]) || !tenant.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return Err(Error::invalid(
            "the setting HDAI_ENTRA_TENANT_ID must be one tenant's id, a GUID: neither a domain nor `common`",
        ));
    }
    if audiences.is_empty() || audiences.len() > AUDIENCES_MAX {
        return Err(Error::invalid(
            "the setting HDAI_ENTRA_AUDIENCES must name the app's client id and its application ID URI, with a comma between",
        ));
    }
    let address = |name: &str| -> Result<String> {
        let url = text(name)?.trim().trim_end_matches('/').to_owned();
        let local = url.strip_prefix("http://").is_some_and(is_this_machine) && !in_azure;
        if !(url.is_empty() || url.starts_with("https://") || local) || url.contains(['?', '#', '@']) {
            return Err(Error::invalid(format!("the setting {name} must be an https address without a query")));
        }
        Ok(url)
    };
    let authority = address("HDAI_ENTRA_AUTHORITY")?;
    let keys_url = match address("HDAI_ENTRA_KEYS_URL")? {
        url if url.is_empty() => format!("{authority}/{tenant}/discovery/v2.0/keys"),
        url => url,
    };
    // The first version's issuer has a host of its own, which China's cloud has too.
    let first = if authority.ends_with(".cn") { "https://sts.chinacloudapi.cn" } else { "https://sts.windows.net" };
    let issuers = vec![format!("{authority}/{tenant}/v2.0"), format!("{first}/{tenant}/")];
    Ok(Some(EntraSettings { tenant, audiences, issuers, keys_url }))
}

/// Whether `rest`, an address after its scheme, is of this machine.
fn is_this_machine(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    is_loopback(host)
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What else than [`super::AZURE_MARKS`] tells that this process acts in Azure: the endpoint of a managed identity, a workload's token.
const IDENTITY_MARKS: [&str; 5] =
    ["IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AzureWebJobsStorage__accountName"];

/// Our own settings that name something in the cloud when they are https.
const CLOUD_URLS: [&str; 4] = ["HDAI_BLOB_ACCOUNT_URL", "HDAI_QUEUE_URL", "HDAI_TOPIC_ENDPOINT", "HDAI_DATA_KEY_URL"];

/// Whether the development issuer may be used beside these settings.
pub(super) fn development(
    lookup: &dyn Fn(&str) -> Option<String>,
    platform: bool,
    entra: bool,
    blob: Option<&BlobSettings>,
    sql: Option<&SqlSettings>,
) -> Development {
    let marks = super::AZURE_MARKS.into_iter().chain(IDENTITY_MARKS);
    if let Some(mark) = marks.into_iter().find(|mark| lookup(mark).is_some()) {
        return Development::Refused(mark);
    }
    let https = |name: &&str| lookup(name).is_some_and(|url| url.trim().to_ascii_lowercase().starts_with("https://"));
    if let Some(name) = CLOUD_URLS.into_iter().find(https) {
        return Development::Refused(name);
    }
    let sql_elsewhere = sql.is_some_and(|sql| match &sql.connection {
        SqlConnection::Text(text) => !names_this_machine_only(text.reveal()),
        SqlConnection::Vault(_) => true,
    });
    let others = [
        (platform, "WEBSITE_AUTH_ENABLED"),
        (entra, "HDAI_ENTRA_TENANT_ID"),
        (sql_elsewhere, "HDAI_SQL_CONNECTION"),
        (blob.is_some_and(|blob| blob.account_url.starts_with("https://")), "HDAI_BLOB_ACCOUNT_URL"),
    ];
    match others.into_iter().find(|(present, _)| *present) {
        Some((_, name)) => Development::Refused(name),
        None => Development::Allowed,
    }
}

/// Whether every server that a connection string names is this machine. What cannot be read so is another machine.
fn names_this_machine_only(connection: &str) -> bool {
    const SERVER: [&str; 5] = ["server", "data source", "addr", "address", "network address"];
    let pairs = connection.split(';').filter_map(|pair| pair.split_once('='));
    let mut servers = pairs.filter(|(key, _)| SERVER.contains(&key.trim().to_ascii_lowercase().as_str())).map(|(_, value)| {
        let value = value.trim();
        let host = value.strip_prefix("tcp:").unwrap_or(value);
        is_loopback(host.split([',', '\\']).next().unwrap_or_default().trim())
    });
    servers.next() == Some(true) && servers.all(|local| local)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const TENANT: (&str, &str) = ("HDAI_ENTRA_TENANT_ID", "11111111-2222-3333-4444-55555555AAAA");
    const AUDIENCES: (&str, &str) = ("HDAI_ENTRA_AUDIENCES", "api://hdai, 5b5450db-eb26-4c1a-981c-ba1d25f0483d");

    fn with(vars: &[(&str, &str)]) -> Result<SignInSettings> {
        Config::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
            .map(|config| config.sign_in)
    }

    #[test]
    fn a_tenant_has_issuers_of_both_versions_and_its_own_keys() {
        let entra = with(&[TENANT, AUDIENCES]).unwrap().entra.unwrap();
        let tenant = "11111111-2222-3333-4444-55555555aaaa";
        assert_eq!(entra.audiences, ["api://hdai", "5b5450db-eb26-4c1a-981c-ba1d25f0483d"]);
        assert_eq!(
            entra.issuers,
            [format!("https://login.microsoftonline.com/{tenant}/v2.0"), format!("https://sts.windows.net/{tenant}/")]
        );
        assert_eq!(entra.keys_url, format!("https://login.microsoftonline.com/{tenant}/discovery/v2.0/keys"));
        let china = with(&[TENANT, AUDIENCES, ("HDAI_ENTRA_AUTHORITY", "https://login.partner.microsoftonline.cn/")]).unwrap();
        assert!(china.entra.unwrap().issuers[1].starts_with("https://sts.chinacloudapi.cn/"));
    }

    #[test]
    fn a_tenant_that_cannot_be_used_is_refused_by_name() {
        let keys = |url| ("HDAI_ENTRA_KEYS_URL", url);
        for (vars, named) in [
            (&[TENANT][..], "HDAI_ENTRA_AUDIENCES"),
            (&[AUDIENCES], "HDAI_ENTRA_TENANT_ID"),
            (&[("WEBSITE_AUTH_ENABLED", "true")], "HDAI_ENTRA_TENANT_ID"),
            (&[("HDAI_ENTRA_TENANT_ID", "common"), AUDIENCES], "HDAI_ENTRA_TENANT_ID"),
            (&[("HDAI_ENTRA_TENANT_ID", "hospital.onmicrosoft.com"), AUDIENCES], "HDAI_ENTRA_TENANT_ID"),
            (&[TENANT, AUDIENCES, keys("http://login.example/keys")], "HDAI_ENTRA_KEYS_URL"),
            (&[TENANT, AUDIENCES, keys("http://127.0.0.1.example/keys")], "HDAI_ENTRA_KEYS_URL"),
            (&[TENANT, AUDIENCES, keys("http://127.0.0.1:1@login.example/keys")], "HDAI_ENTRA_KEYS_URL"),
            (&[TENANT, AUDIENCES, keys("http://127.0.0.1:1/keys"), ("WEBSITE_SITE_NAME", "app")], "HDAI_ENTRA_KEYS_URL"),
            (&[TENANT, AUDIENCES, ("HDAI_ENTRA_AUTHORITY", "http://login.example")], "HDAI_ENTRA_AUTHORITY"),
        ] {
            let message = with(vars).unwrap_err().to_string();
            assert!(message.contains(named), "{named}: {message}");
        }
        assert!(with(&[TENANT, AUDIENCES, keys("http://127.0.0.1:9000/keys")]).is_ok());
        assert!(with(&[TENANT, AUDIENCES, keys("http://[::1]:9000/keys")]).is_ok());
    }

    #[test]
    fn the_development_issuer_is_refused_by_everything_that_speaks_of_azure() {
        assert_eq!(with(&[]).unwrap().development, Development::Allowed);
        for mark in super::super::AZURE_MARKS.into_iter().chain(IDENTITY_MARKS) {
            assert_eq!(with(&[(mark, "true")]).unwrap().development, Development::Refused(mark));
        }
        let platform = [("WEBSITE_AUTH_ENABLED", "true"), TENANT, AUDIENCES];
        assert_eq!(with(&platform).unwrap().development, Development::Refused("WEBSITE_AUTH_ENABLED"));
        let sql = |text| with(&[("HDAI_SQL_CONNECTION", text)]).unwrap().development;
        for elsewhere in [
            "Server=tcp:h.database.windows.net,1433;Database=d;Authentication=Active Directory Default",
            "Server=localhost;Server=h.database.windows.net;Database=d",
            "Data Source=localhost.example;Database=d",
            "Server=\"localhost;x\";Data Source='h.database.windows.net';Database=d",
            "Database=d",
        ] {
            assert_eq!(sql(elsewhere), Development::Refused("HDAI_SQL_CONNECTION"), "{elsewhere}");
        }
        for here in ["Server=localhost,1433;Database=d;UID=sa;PWD=x", "data source = tcp:127.0.0.1,1433;Database=d"] {
            assert_eq!(sql(here), Development::Allowed, "{here}");
        }
        let blob = ("HDAI_BLOB_ACCOUNT_URL", "https://acct.blob.core.windows.net");
        assert_eq!(with(&[blob]).unwrap().development, Development::Refused("HDAI_BLOB_ACCOUNT_URL"));
        assert_eq!(with(&[("HDAI_BLOB_STORE", "azure")]).unwrap().development, Development::Allowed, "the emulator");
        assert_eq!(with(&[TENANT, AUDIENCES]).unwrap().development, Development::Refused("HDAI_ENTRA_TENANT_ID"));
    }
}
