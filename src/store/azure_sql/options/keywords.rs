//! The keywords of a connection string and their other names.

use std::time::Duration;

use connection_string::AdoNetString;

use super::refused;
use crate::error::{Error, Result};

/// A keyword that decides something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Server,
    Database,
    User,
    Password,
    Authentication,
    IntegratedSecurity,
    Encrypt,
    TrustServerCertificate,
    HostNameInCertificate,
    ConnectTimeout,
    CommandTimeout,
    ApplicationName,
    ApplicationIntent,
    ColumnEncryption,
    /// What `SqlClient` writes by default, or what only its own pool and retries read.
    Ignored,
}

/// Every name that `SqlClient` knows for a keyword, lower case; the first is the one in messages.
const NAMES: [(Keyword, &[&str]); 15] = [
    (Keyword::Server, &["server", "data source", "address", "addr", "network address"]),
    (Keyword::Database, &["database", "initial catalog"]),
    (Keyword::User, &["user id", "uid", "user", "userid"]),
    (Keyword::Password, &["password", "pwd"]),
    (Keyword::Authentication, &["authentication"]),
    (Keyword::IntegratedSecurity, &["integrated security", "trusted_connection", "integratedsecurity"]),
    (Keyword::Encrypt, &["encrypt"]),
    (Keyword::TrustServerCertificate, &["trustservercertificate", "trust server certificate"]),
    (Keyword::HostNameInCertificate, &["hostnameincertificate", "host name in certificate"]),
    (Keyword::ConnectTimeout, &["connect timeout", "connection timeout", "timeout", "connecttimeout"]),
    (Keyword::CommandTimeout, &["command timeout", "commandtimeout"]),
    (Keyword::ApplicationName, &["application name", "app", "applicationname"]),
    (Keyword::ApplicationIntent, &["applicationintent", "application intent"]),
    (Keyword::ColumnEncryption, &["column encryption setting", "columnencryption"]),
    (
        Keyword::Ignored,
        &[
            "multipleactiveresultsets",
            "multiple active result sets",
            "persist security info",
            "persistsecurityinfo",
            "pooling",
            "min pool size",
            "max pool size",
            "pool blocking period",
            "poolblockingperiod",
            "load balance timeout",
            "connection lifetime",
            "connect retry count",
            "connectretrycount",
            "connect retry interval",
            "connectretryinterval",
            "enlist",
            "packet size",
            "workstation id",
            "wsid",
            "type system version",
            "multisubnetfailover",
            "multi subnet failover",
            "ip address preference",
            "ipaddresspreference",
            "current language",
        ],
    ),
];

/// The keywords of one connection string and their values, empty ones left out.
pub(super) struct Words(Vec<(Keyword, String)>);

impl Words {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// Invalid: the text is no connection string, or has a keyword that is not known or stands there twice.
    pub(super) fn read(text: &str) -> Result<Self> {
        if !plainly_quoted(text) {
            return Err(Error::invalid(
                "the connection string cannot be used: quotes may only enclose a whole value, and must not be inside one; braces neither",
            ));
        }
        // The parser's own message is left out: it can quote a character of a value.
        let pairs: AdoNetString = text.parse().map_err(|_| {
            Error::invalid(
                "the connection string cannot be read: write KEYWORD=VALUE;KEYWORD=VALUE in ASCII, and put a value that holds ; or = in \
                 double quotes",
            )
        })?;
        let mut sorted: Vec<_> = pairs.iter().collect();
        sorted.sort();
        let mut words = Vec::new();
        for (name, value) in sorted {
            let keyword = keyword(name).ok_or_else(|| unknown(name))?;
            if keyword != Keyword::Ignored && words.iter().any(|(other, _)| *other == keyword) {
                return Err(refused(title(keyword), "is there twice, under two names: remove one"));
            }
            words.push((keyword, value.trim().to_owned()));
        }
        words.retain(|(_, value)| !value.is_empty());
        Ok(Self(words))
    }

    /// The value of `keyword`.
    pub(super) fn get(&self, keyword: Keyword) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == keyword).map(|(_, value)| value.as_str())
    }

    /// The value of `keyword` as yes or no.
    pub(super) fn flag(&self, keyword: Keyword) -> Result<Option<bool>> {
        match self.get(keyword).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "yes" | "sspi") => Ok(Some(true)),
            Some("false" | "no") => Ok(Some(false)),
            Some(_) => Err(refused(title(keyword), "must be True or False")),
        }
    }

    /// The value of `keyword` in whole seconds, from 1 to `most`.
    pub(super) fn seconds(&self, keyword: Keyword, most: u64) -> Result<Option<Duration>> {
        let Some(text) = self.get(keyword) else { return Ok(None) };
        match text.parse() {
            Ok(seconds) if (1..=most).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(refused(title(keyword), &format!("must be a number of seconds from 1 to {most}"))),
        }
    }

    /// Refuses what would be harmful to ignore.
    pub(super) fn harmless_only(&self) -> Result<()> {
        match self.get(Keyword::ApplicationIntent) {
            Some(intent) if !intent.eq_ignore_ascii_case("readwrite") => {
                return Err(refused("ApplicationIntent", "must be ReadWrite: the record is written to"));
            }
            _ => {}
        }
        match self.get(Keyword::ColumnEncryption) {
            Some(setting) if !setting.eq_ignore_ascii_case("disabled") => {
                Err(refused("Column Encryption Setting", "must be Disabled: Always Encrypted is not supported"))
            }
            _ => Ok(()),
        }
    }
}

fn keyword(name: &str) -> Option<Keyword> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(keyword, _)| *keyword)
}

fn title(keyword: Keyword) -> &'static str {
    NAMES.iter().find(|(other, _)| *other == keyword).and_then(|(_, names)| names.first()).copied().unwrap_or("a keyword")
}

/// A piece of a value that was not quoted can stand where a keyword should: only what looks like a keyword is repeated.
fn unknown(name: &str) -> Error {
    let plain = name.len() <= 40 && name.chars().all(|c| c.is_ascii_lowercase() || c == ' ' || c == '_');
    match plain {
        true => refused(&format!("the keyword `{name}`"), "is not known: remove it"),
        false => refused("a keyword", "is not known; if it is part of a value, put that value in double quotes"),
    }
}

/// The parser takes quotes inside a value for a part that is quoted and drops them, and halves no doubled ones: a password would
/// change without a word. So a quote is let through only where a value begins or ends, and braces, which ADO.NET does not have, never.
fn plainly_quoted(text: &str) -> bool {
    text.char_indices().all(|(at, c)| match c {
        '{' | '}' => false,
        '"' | '\'' => {
            let (before, after) = (text.get(..at).unwrap_or(""), text.get(at + 1..).unwrap_or("").trim_start());
            before.trim_end().ends_with('=') || after.is_empty() || after.starts_with(';')
        }
        _ => true,
    })
}
