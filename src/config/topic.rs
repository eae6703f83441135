//! The settings of events: the topic that is told of facts, and the names that an event brings in.

use super::{Secret, is_plain_on_this_machine};
use crate::error::{Error, Result};

/// The Event Grid topic that is told of facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Where events are posted to: https, or http where it is an emulator on this machine.
    pub endpoint: String,
    /// The topic's access key; `None`: the app's identity sends.
    pub key: Option<Secret>,
    /// What the events name as their source.
    pub source: String,
}

/// Longest source: every event carries it, and a batch of them has a limit.
const SOURCE_BYTES_MAX: usize = 256;

pub(super) fn read(text: &dyn Fn(&str) -> Result<String>) -> Result<Option<TopicSettings>> {
    let endpoint = text("HDAI_TOPIC_ENDPOINT")?.trim().to_owned();
    let key = text("HDAI_TOPIC_KEY")?.trim().to_owned();
    if endpoint.is_empty() {
        return match key.is_empty() {
            true => Ok(None),
            false => {
                Err(Error::invalid("the setting HDAI_TOPIC_KEY is of no use without HDAI_TOPIC_ENDPOINT: set that, or remove it"))
            }
        };
    }
    let lower = endpoint.to_ascii_lowercase();
    if !lower.starts_with("https://") && !is_plain_on_this_machine(&lower) {
        return Err(Error::invalid("the setting HDAI_TOPIC_ENDPOINT must be https, unless it is an emulator on this machine"));
    }
    if endpoint.contains(['?', '#', '@']) || endpoint.chars().any(char::is_whitespace) {
        return Err(Error::invalid(
            "the setting HDAI_TOPIC_ENDPOINT must be the topic's endpoint alone, as `az eventgrid topic show --query endpoint` prints it",
        ));
    }
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible(&key) {
        return Err(Error::invalid("the setting HDAI_TOPIC_KEY must be one of the topic's two keys, as it was copied"));
    }
    let source = text("HDAI_TOPIC_SOURCE")?.trim().to_owned();
    if !visible(&source) || source.len() > SOURCE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the setting HDAI_TOPIC_SOURCE must be a URI reference of at most {SOURCE_BYTES_MAX} characters"
        )));
    }
    Ok(Some(TopicSettings { endpoint, key: (!key.is_empty()).then(|| Secret::new(key)), source }))
}

pub(super) fn suffixes(text: &str) -> Result<Vec<String>> {
    let suffixes: Vec<String> =
        text.split(',').map(|suffix| suffix.trim().to_lowercase()).filter(|suffix| !suffix.is_empty()).collect();
    match suffixes.is_empty() && !text.trim().is_empty() {
        true => Err(Error::invalid("the setting HDAI_IMPORT_SUFFIXES names no ending: write for example .csv,.csv.gz")),
        false => Ok(suffixes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn with(vars: &[(&str, &str)]) -> Result<Config> {
        Config::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_topic_is_https_or_on_this_machine() {
        assert_eq!(with(&[]).unwrap().topic, None);
        let endpoint = "https://t.westeurope-1.eventgrid.azure.net/api/events";
        let topic = with(&[("HDAI_TOPIC_ENDPOINT", endpoint)]).unwrap().topic.unwrap();
        assert_eq!((topic.endpoint.as_str(), topic.key, topic.source.as_str()), (endpoint, None, "/health-data-ai"));
        let topic = with(&[("HDAI_TOPIC_ENDPOINT", "http://127.0.0.1:9/x"), ("HDAI_TOPIC_KEY", "s3cret")]).unwrap().topic.unwrap();
        assert!(topic.key.is_some() && !format!("{topic:?}").contains("s3cret"));
        let long = "x".repeat(300);
        for (vars, named) in [
            (&[("HDAI_TOPIC_ENDPOINT", "http://t.example/s3cret")][..], "HDAI_TOPIC_ENDPOINT"),
            (&[("HDAI_TOPIC_ENDPOINT", "http://localhost.example/s3cret")], "HDAI_TOPIC_ENDPOINT"),
            (&[("HDAI_TOPIC_ENDPOINT", "https://u:s3cret@t.example/")], "HDAI_TOPIC_ENDPOINT"),
            (&[("HDAI_TOPIC_ENDPOINT", "https://t.example/?key=s3cret")], "HDAI_TOPIC_ENDPOINT"),
            (&[("HDAI_TOPIC_KEY", "s3cret")], "HDAI_TOPIC_KEY"),
            (&[("HDAI_TOPIC_ENDPOINT", endpoint), ("HDAI_TOPIC_KEY", "s3cret\nx")], "HDAI_TOPIC_KEY"),
            (&[("HDAI_TOPIC_ENDPOINT", endpoint), ("HDAI_TOPIC_SOURCE", &long)], "HDAI_TOPIC_SOURCE"),
        ] {
            let message = with(vars).unwrap_err().to_string();
            assert!(message.contains(named) && !message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn endings_are_a_list_in_lower_case() {
        assert!(with(&[]).unwrap().import_suffixes.is_empty());
        assert_eq!(with(&[("HDAI_IMPORT_SUFFIXES", " .CSV, .csv.gz,")]).unwrap().import_suffixes, [".csv", ".csv.gz"]);
        assert!(with(&[("HDAI_IMPORT_SUFFIXES", " , ")]).is_err());
    }
}
