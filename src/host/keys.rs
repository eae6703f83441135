//! Function keys and webhook keys: made once, kept in the state folder for its owner's eyes only, and compared without leaking where
//! two keys differ. It does not know which request needs which key.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The keys of one state folder, in `keys.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// Opens everything, the administration included.
    pub master_key: String,
    /// Opens every HTTP function of level `function`.
    pub host_key: String,
    /// Opens one HTTP function each, by its name.
    #[serde(default)]
    pub function_keys: BTreeMap<String, String>,
    /// Opens `/runtime/webhooks/EventGrid`.
    pub eventgrid_extension: String,
    /// Opens `/runtime/webhooks/blobs`.
    pub blobs_extension: String,
}

impl Keys {
    /// Reads the keys in `state_dir`; makes those that are not there yet, with one for each of `functions`.
    pub(crate) fn open<'a>(state_dir: &Path, functions: impl Iterator<Item = &'a str>) -> Result<Keys> {
        let path = state_dir.join("keys.json");
        let existing = match fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice::<Keys>(&text).map_err(|_| {
                Error::invalid(format!("{} is damaged: remove it, and new keys are made at the next start", path.display()))
            })?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::unavailable(format!("{} cannot be read", path.display())).caused_by(error)),
        };
        let mut keys = match &existing {
            Some(keys) => keys.clone(),
            None => Keys {
                master_key: fresh(),
                host_key: fresh(),
                function_keys: BTreeMap::new(),
                eventgrid_extension: fresh(),
                blobs_extension: fresh(),
            },
        };
        for function in functions {
            keys.function_keys.entry(function.to_owned()).or_insert_with(fresh);
        }
        if existing.as_ref() != Some(&keys) {
            write(&path, &keys)
                .map_err(|error| Error::unavailable(format!("{} cannot be written", path.display())).caused_by(error))?;
        }
        Ok(keys)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// Whether `given` is one of `accepted`. Digests are compared, so that the time taken says nothing about a key.
pub(crate) fn is_one_of(given: &str, accepted: &[&str]) -> bool {
    let given = Sha256::digest(given.as_bytes());
    accepted.iter().fold(false, |found, key| found | (Sha256::digest(key.as_bytes()) == given))
}

/// 244 random bits.
fn fresh() -> String {
    let halves = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    URL_SAFE_NO_PAD.encode(halves.map(uuid::Uuid::into_bytes).concat())
}

/// Whole or not at all, and never readable by others.
fn write(path: &Path, keys: &Keys) -> std::io::Result<()> {
    let fresh = path.with_extension("json.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    serde_json::to_writer_pretty(&mut file, keys)?;
    file.flush()?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::open(dir.path(), ["A"].into_iter()).unwrap();
        let second = Keys::open(dir.path(), ["A", "B"].into_iter()).unwrap();
        assert_eq!(first.master_key, second.master_key);
        assert_eq!(first.function_keys["A"], second.function_keys["A"]);
        assert_eq!(Keys::open(dir.path(), ["A", "B"].into_iter()).unwrap(), second);
        assert_ne!(second.function_keys["A"], second.function_keys["B"]);
        assert!(!format!("{first:?}").contains(&first.master_key));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.path().join("keys.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(is_one_of(&first.host_key, &[&first.master_key, &first.host_key]));
        assert!(!is_one_of("", &[&first.master_key]));
    }
}
