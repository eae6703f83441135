//! A blob's address: account, container and name, read from and written to a URL.
//! It does not judge whether the address is one that this system may open: that is configuration's matter.

use std::fmt;
use std::net::Ipv4Addr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// What a path keeps in the clear in a blob's URL; everything else of a name is percent-encoded. `/` separates folders.
const NAME_ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Where a blob lies. Hospitals name files after patients, so `Debug` leaves the name out.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobUrl {
    /// The account's address without a trailing slash: `https://acct.blob.core.windows.net`, or with the account as the first
    /// path segment where the host is an IP address or `localhost`: `http://127.0.0.1:10000/devstoreaccount1`.
    pub account_url: String,
    /// The container.
    pub container: String,
    /// The blob's name, percent-decoded; `/` separates folders.
    pub name: String,
}

impl BlobUrl {
    /// Reads an `http` or `https` blob URL. A query (a shared access signature, a snapshot) and a fragment are dropped. `None` if a
    /// part is missing, the name is not UTF-8 or holds a control character, or the address carries credentials. The `dfs` endpoint
    /// that hierarchical accounts put into their events is read as the `blob` endpoint of the same account.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "https" && scheme != "http" {
            return None;
        }
        let rest = rest.split(['?', '#']).next()?;
        let (authority, path) = rest.split_once('/')?;
        if authority.is_empty() || !authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte)) {
            return None;
        }
        let authority = authority.to_ascii_lowercase();
        // Only right behind the account: an address that is written and read again must stay the same.
        let authority = blob_endpoint(&authority).unwrap_or(authority);
        let (account_url, path) = if has_account_in_path(&authority) {
            let (account, path) = path.split_once('/')?;
            if account.is_empty() || !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return None;
            }
            (format!("{scheme}://{authority}/{account}"), path)
        } else {
            (format!("{scheme}://{authority}"), path)
        };
        let (container, name) = path.split_once('/')?;
        let name = percent_decode_str(name).decode_utf8().ok()?.into_owned();
        let container_ok =
            !container.is_empty() && container.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-$".contains(&byte));
        if !container_ok || name.is_empty() || name.chars().any(char::is_control) {
            return None;
        }
        Some(Self { account_url, container: container.to_owned(), name })
    }
}

impl fmt::Debug for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobUrl").field("container", &self.container).finish_non_exhaustive()
    }
}

impl fmt::Display for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account_url.trim_end_matches('/');
        write!(f, "{account}/{}/{}", self.container, utf8_percent_encode(&self.name, NAME_ENCODED))
    }
}

/// The `blob` endpoint of the account whose `dfs` endpoint this is: `ACCOUNT.dfs.core.…`, or `ACCOUNT.zNN.dfs.storage.…` where the name
/// server has zones.
fn blob_endpoint(authority: &str) -> Option<String> {
    let (account, rest) = authority.split_once('.')?;
    if let Some(suffix) = rest.strip_prefix("dfs.core.") {
        return Some(format!("{account}.blob.core.{suffix}"));
    }
    let (zone, rest) = rest.split_once('.')?;
    let is_zone =
        zone.strip_prefix('z').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let suffix = rest.strip_prefix("dfs.storage.").filter(|_| is_zone)?;
    Some(format!("{account}.{zone}.blob.storage.{suffix}"))
}

fn has_account_in_path(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(_) => return true,
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_styles_are_read() {
        let cloud = BlobUrl::parse("https://Acct.blob.core.windows.net/incoming/2026/11/a%20b.csv?sv=1").unwrap();
        assert_eq!(cloud.account_url, "https://acct.blob.core.windows.net");
        assert_eq!((cloud.container.as_str(), cloud.name.as_str()), ("incoming", "2026/11/a b.csv"));
        assert_eq!(cloud.to_string(), "https://acct.blob.core.windows.net/incoming/2026/11/a%20b.csv");
        let local = BlobUrl::parse("http://127.0.0.1:10000/devstoreaccount1/trainingdata/a.csv").unwrap();
        assert_eq!(local.account_url, "http://127.0.0.1:10000/devstoreaccount1");
        assert_eq!((local.container.as_str(), local.name.as_str()), ("trainingdata", "a.csv"));
    }

    #[test]
    fn the_dfs_endpoint_of_an_event_is_the_same_account() {
        let url = BlobUrl::parse("https://acct.dfs.core.windows.net/incoming/a.csv").unwrap();
        assert_eq!(url.account_url, "https://acct.blob.core.windows.net");
        let zoned = BlobUrl::parse("https://acct.z01.dfs.storage.azure.net/incoming/a.csv").unwrap();
        assert_eq!(zoned.account_url, "https://acct.z01.blob.storage.azure.net");
        for other in [
            "https://acct.zone.dfs.storage.azure.net",
            "https://acct.dfs.storage.azure.net",
            "https://acct.z.dfs.storage.azure.net",
        ] {
            assert_eq!(BlobUrl::parse(&format!("{other}/incoming/a.csv")).unwrap().account_url, other);
        }
        let twice = BlobUrl::parse("https://acct.dfs.core.dfs.core.windows.net/incoming/a.csv").unwrap();
        assert_eq!(BlobUrl::parse(&twice.to_string()), Some(twice));
    }

    #[test]
    fn what_is_not_a_blob_url_is_refused() {
        for url in [
            "",
            "acct/incoming/a.csv",
            "file:///etc/passwd",
            "ftp://acct/incoming/a.csv",
            "https://user@acct.blob.core.windows.net/incoming/a.csv",
            "https://acct.blob.core.windows.net/incoming",
            "https://acct.blob.core.windows.net/incoming/",
            "https://acct.blob.core.windows.net/%2e%2e/a.csv",
            "https://acct.blob.core.windows.net/incoming/%ff",
            "https://acct.blob.core.windows.net/incoming/a%00b",
            "http://127.0.0.1:10000/trainingdata/a.csv",
            "http://127.0.0.1:10000/dev\nstore/trainingdata/a.csv",
            "http://[::1]/dev%0astore/trainingdata/a.csv",
        ] {
            assert_eq!(BlobUrl::parse(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(url in any::<String>()) {
            let _ = BlobUrl::parse(&url);
        }

        #[test]
        fn a_name_survives_the_journey(name in "[^\\p{Cc}]{1,40}") {
            let url = BlobUrl { account_url: "http://127.0.0.1:10000/devstoreaccount1".into(), container: "trainingdata".into(), name };
            prop_assert_eq!(BlobUrl::parse(&url.to_string()), Some(url));
        }
    }
}
