//! The settings: all that are wrong at once, and those that nothing reads.

use super::Finding;
use crate::config::{Config, SETTINGS};
use crate::error::{Error, Result};

/// Variables of ours that are no settings of a running system.
const OTHERS: [&str; 2] = ["HDAI_TEST_SQL", "HDAI_TEST_SQL_CA"];

/// Reads the settings. One that is wrong is named, and the other looks go on with its default. `set` are the names of all variables.
///
/// # Errors
/// The first error that names no setting.
pub(super) fn read(lookup: impl Fn(&str) -> Option<String>, set: impl Iterator<Item = String>) -> Result<(Config, Finding)> {
    let mut wrong: Vec<(&str, Error)> = Vec::new();
    loop {
        let left = |name: &str| if wrong.iter().any(|(known, _)| *known == name) { None } else { lookup(name) };
        match Config::from_vars(left) {
            Ok(config) => return Ok((config, finding(&wrong, set))),
            Err(error) => match named(&error, &wrong) {
                Some(name) => wrong.push((name, error)),
                None => return Err(error),
            },
        }
    }
}

/// The setting that an error names. Some names begin with another's: the longest one is meant.
fn named(error: &Error, wrong: &[(&str, Error)]) -> Option<&'static str> {
    let others = ["FUNCTIONS_CUSTOMHANDLER_PORT", "WEBSITE_AUTH_ENABLED"];
    let names = SETTINGS.iter().map(|setting| setting.name).chain(others);
    let new = names.filter(|name| error.message().contains(name) && wrong.iter().all(|(known, _)| known != name));
    new.max_by_key(|name| name.len())
}

fn finding(wrong: &[(&str, Error)], set: impl Iterator<Item = String>) -> Finding {
    let known = |name: &str| SETTINGS.iter().any(|setting| setting.name == name) || OTHERS.contains(&name);
    let mut set: Vec<String> = set.filter(|name| name.starts_with("HDAI_")).collect();
    set.sort();
    let unknown: Vec<&str> = set.iter().map(String::as_str).filter(|name| !known(name)).collect();
    if !wrong.is_empty() {
        let messages: Vec<&str> = wrong.iter().map(|(_, error)| error.message()).collect();
        return Finding::failed(
            "settings",
            messages.join("; "),
            "correct them (docs/settings.md lists all); until then the lines below go by the defaults of the wrong ones",
        );
    }
    if !unknown.is_empty() {
        let found = format!("nothing reads {}", unknown.join(", "));
        return Finding::warning("settings", found, "check the spelling (docs/settings.md lists all settings), or remove them");
    }
    match set.len() {
        0 => Finding::ok("settings", "none is set: the embedded default"),
        count => Finding::ok("settings", format!("{count} set, all can be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    fn looked(vars: &[(&str, &str)]) -> (Config, Finding) {
        let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        read(lookup, vars.iter().map(|(name, _)| (*name).to_owned())).unwrap()
    }

    #[test]
    fn every_wrong_setting_is_named_and_no_value_is_shown() {
        let (config, finding) = looked(&[
            ("HDAI_SQL_CONNECTION", "s3cret"),
            ("HDAI_SQL_CONNECTION_SECRET", "s3cret"),
            ("HDAI_CELL_MIN", "s3cret"),
            ("FUNCTIONS_CUSTOMHANDLER_PORT", "s3cret"),
        ]);
        assert_eq!(finding.state, State::Failed);
        for name in ["HDAI_SQL_CONNECTION_SECRET", "HDAI_CELL_MIN", "FUNCTIONS_CUSTOMHANDLER_PORT"] {
            assert!(finding.found.contains(name), "{}", finding.found);
        }
        assert!(!finding.found.contains("s3cret"));
        assert_eq!(config.cell_min, looked(&[]).0.cell_min);
    }

    #[test]
    fn a_misspelt_setting_is_a_warning() {
        let (_, finding) = looked(&[("HDAI_FOLDR", "/srv"), ("HDAI_TEST_SQL", "x")]);
        assert_eq!(finding.state, State::Warning);
        assert!(finding.found.contains("HDAI_FOLDR") && !finding.found.contains("HDAI_TEST_SQL"));
    }
}
