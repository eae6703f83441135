//! Staging: the folder that `func start`, a zip deployment and this host take, made from the app's sources and the executable.
//! It does not know what the functions do.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// The app's sources: relative paths and their texts, `host.json` and `functions/<Name>/function.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources(Vec<(String, String)>);

/// `host.json` and the function folders as they were when this program was built, so that it works without its repository.
pub fn embedded() -> Sources {
    macro_rules! files {
        ($($path:literal),* $(,)?) => { vec![$(($path.to_owned(), include_str!(concat!("../../", $path)).to_owned())),*] };
    }
    Sources(files![
        "functions/Api/function.json",
        "functions/AuditCheckpoint/function.json",
        "functions/ImportPart/function.json",
        "functions/PatientAdmissionFunc/function.json",
        "functions/PatientDataBulkImport/function.json",
        "functions/PatientDataEvents/function.json",
        "functions/PatientDataImport/function.json",
        "functions/PatientDischargeFunc/function.json",
        "functions/PublishEvents/function.json",
        "functions/TrainLengthOfStay/function.json",
        "functions/TrainLengthOfStaySchedule/function.json",
        "host.json",
    ])
}

/// Reads the sources from a folder that holds `host.json` and `functions/`.
pub fn from_dir(dir: &Path) -> Result<Sources> {
    let unreadable = |error| Error::not_found(format!("the app's sources in {} cannot be read", dir.display())).caused_by(error);
    let mut files = vec![("host.json".to_owned(), fs::read_to_string(dir.join("host.json")).map_err(unreadable)?)];
    for entry in fs::read_dir(dir.join("functions")).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let file = entry.path().join("function.json");
        if file.is_file() {
            let name = format!("functions/{}/function.json", entry.file_name().to_string_lossy());
            files.push((name, fs::read_to_string(file).map_err(unreadable)?));
        }
    }
    files.sort();
    Ok(Sources(files))
}

impl Sources {
    /// The relative paths and texts, in the order of the paths.
    pub fn files(&self) -> &[(String, String)] {
        &self.0
    }

    /// The same sources with the text at `path` replaced, or added.
    #[must_use]
    pub fn with(mut self, path: &str, text: impl Into<String>) -> Self {
        self.0.retain(|(known, _)| known != path);
        self.0.push((path.to_owned(), text.into()));
        self.0.sort();
        self
    }
}

/// Makes the staged app in `out`: `host.json`, `<Name>/function.json`, and `binary` under the name that `host.json` gives it, as a
/// hard link where that is possible and a copy where not, with mode 0755. Files of earlier stagings are replaced, function
/// folders that the sources no longer hold are removed, and anything else in `out` (`local.settings.json`) stays.
pub fn stage(sources: &Sources, binary: &Path, out: &Path) -> Result<()> {
    let failed =
        |what: &str, error: std::io::Error| Error::internal(format!("staging into {}: {what}", out.display())).caused_by(error);
    fs::create_dir_all(out).map_err(|error| failed("the folder cannot be made", error))?;
    remove_stale_functions(sources, out).map_err(|error| failed("an old function folder cannot be removed", error))?;
    for (path, text) in sources.files() {
        let target = out.join(staged_path(path)?);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(|error| failed("a function folder cannot be made", error))?;
        }
        fs::write(&target, text).map_err(|error| failed("a file cannot be written", error))?;
    }
    let target = out.join(executable_name(sources)?);
    place(binary, &target).map_err(|error| failed("the executable cannot be placed", error))
}

/// `functions/<Name>/function.json` becomes `<Name>/function.json`.
fn staged_path(path: &str) -> Result<PathBuf> {
    let staged = PathBuf::from(path.strip_prefix("functions/").unwrap_or(path));
    let plain = staged.components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(staged) } else { Err(Error::invalid("an app source's path must be relative and without `..`")) }
}

fn executable_name(sources: &Sources) -> Result<PathBuf> {
    let fault = || Error::invalid("host.json names no relative `customHandler.description.defaultExecutablePath`");
    let (_, text) = sources.files().iter().find(|(path, _)| path == "host.json").ok_or_else(fault)?;
    let host: Value = serde_json::from_str(text).map_err(|_| Error::invalid("host.json is not JSON"))?;
    let name = host.pointer("/customHandler/description/defaultExecutablePath").and_then(Value::as_str).unwrap_or_default();
    let name = PathBuf::from(name);
    let plain = name.components().count() > 0 && name.components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(name) } else { Err(fault()) }
}

fn remove_stale_functions(sources: &Sources, out: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        let name = format!("functions/{}/function.json", entry.file_name().to_string_lossy());
        let stale = entry.path().join("function.json").is_file() && !sources.files().iter().any(|(path, _)| *path == name);
        if stale {
            fs::remove_file(entry.path().join("function.json"))?;
            fs::remove_dir(entry.path())?;
        }
    }
    Ok(())
}

fn place(binary: &Path, target: &Path) -> std::io::Result<()> {
    // Through a temporary name, so that a handler still running from `target` keeps its own file.
    let fresh = target.with_extension("staging");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let binary = binary.canonicalize()?;
    if target.canonicalize().is_ok_and(|existing| existing == binary) {
        return Ok(());
    }
    // A hard link shares its mode with the original: link only what is already executable, and never change the original.
    if !(is_executable(&binary)? && fs::hard_link(&binary, &fresh).is_ok()) {
        fs::copy(&binary, &fresh)?;
        make_executable(&fresh)?;
    }
    // Renaming one hard link over another of the same file does nothing and leaves both.
    fs::rename(&fresh, target)?;
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_executable(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o777 == 0o755)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn is_executable(_: &Path) -> std::io::Result<bool> {
    Ok(true)
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_sources_are_the_repositorys() {
        let repository = from_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(embedded(), repository);
    }

    #[test]
    fn a_staged_app_has_the_deployments_layout() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, out) = (dir.path().join("built"), dir.path().join("out"));
        fs::write(&binary, "first").unwrap();
        stage(&embedded(), &binary, &out).unwrap();
        fs::write(out.join("local.settings.json"), "{}").unwrap();
        fs::create_dir(out.join("Gone")).unwrap();
        fs::write(out.join("Gone/function.json"), "{}").unwrap();
        fs::remove_file(&binary).unwrap();
        fs::write(&binary, "second").unwrap();
        make_executable(&binary).unwrap();
        stage(&embedded(), &binary, &out).unwrap();
        stage(&embedded(), &binary, &out).unwrap();
        assert_eq!(fs::read_to_string(out.join("hdai")).unwrap(), "second");
        assert!(is_executable(&out.join("hdai")).unwrap());
        assert!(out.join("PatientAdmissionFunc/function.json").is_file());
        assert!(out.join("local.settings.json").is_file());
        for absent in ["functions", "Gone", "hdai.staging"] {
            assert!(!out.join(absent).exists(), "{absent}");
        }
    }

    #[test]
    fn a_path_out_of_the_app_is_refused() {
        assert!(staged_path("functions/../../x").is_err());
        assert!(staged_path("/x").is_err());
    }
}
