//! What a staged app says, for a look before a start. It does not start anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::app::App;
use super::stage::embedded;
use crate::error::Result;

/// What `host.json` and the function folders beside a program say.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The program that `host.json` names.
    pub executable: PathBuf,
    /// The functions' names.
    pub functions: Vec<String>,
    /// Longest call; `None` for an unbounded one.
    pub function_timeout: Option<Duration>,
}

/// Reads the app staged in `root`, by the real host's rules.
///
/// # Errors
/// Not found or invalid, naming the file and what is wrong in it.
pub fn contract(root: &Path) -> Result<Contract> {
    let app = App::load(root)?;
    Ok(Contract {
        executable: app.executable,
        functions: app.functions.into_iter().map(|function| function.name).collect(),
        function_timeout: app.function_timeout,
    })
}

impl Contract {
    /// The functions that this program answers and the app does not have, and those that it has and this program does not answer.
    pub fn differences(&self) -> (Vec<String>, Vec<String>) {
        let sources = embedded();
        let name = |path: &str| Some(path.strip_prefix("functions/")?.strip_suffix("/function.json")?.to_owned());
        let ours: Vec<String> = sources.files().iter().filter_map(|(path, _)| name(path)).collect();
        let less = |from: &[String], of: &[String]| from.iter().filter(|name| !of.contains(name)).cloned().collect();
        (less(&ours, &self.functions), less(&self.functions, &ours))
    }
}
