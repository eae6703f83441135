//! A call ends before the host ends it: what is still to do is answered 503, and not cut off.

use std::path::Path;

use super::*;

fn default_call_seconds() -> u64 {
    let setting = health_data_ai::config::SETTINGS.iter().find(|setting| setting.name == "HDAI_CALL_SECONDS_MAX").unwrap();
    setting.default.parse().unwrap()
}

#[test]
fn the_call_limit_lies_below_the_functions_timeout() {
    let host = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("host.json")).unwrap();
    let host: Value = serde_json::from_slice(&host).unwrap();
    let parts: Vec<u64> = host["functionTimeout"].as_str().unwrap().split(':').map(|part| part.parse().unwrap()).collect();
    let [hours, minutes, seconds] = parts[..] else { panic!("{parts:?}") };
    let timeout = hours * 3_600 + minutes * 60 + seconds;
    // With room for what follows the last row: the receipt, the tags, the answer.
    assert!(default_call_seconds() + 120 <= timeout, "{} s of {timeout}", default_call_seconds());
}
