//! What the tests share: the real binary, a running host, and a look into the record.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use health_data_ai::domain::PersonName;
use health_data_ai::store::Store;
use health_data_ai::store::datakeys::KeyTable;
use health_data_ai::store::sealed::{KeyFile, Sealed};
use health_data_ai::store::sqlite::Sqlite;
use serde_json::Value;

/// The binary under test with its state in `folder` and no setting of whoever runs the tests.
#[expect(clippy::disallowed_methods, reason = "to keep settings of whoever runs the tests away from the binary")]
pub(crate) fn hdai(folder: impl AsRef<Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hdai"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HDAI_") || name.starts_with("FUNCTIONS_")) {
        command.env_remove(name);
    }
    command.env("HDAI_FOLDER", folder.as_ref());
    command
}

/// The app roles.
pub(crate) const ROLES: [&str; 6] =
    ["SiteAdministrator", "DatabaseAnalyst", "DataScientist", "ChiefMedicalInformationOfficer", "CareLineManager", "Auditor"];

/// A token of the development issuer of `folder`.
pub(crate) fn token(folder: &Path, roles: &[&str], scopes: &[&str]) -> String {
    let output = hdai(folder)
        .arg("token")
        .args(roles.iter().flat_map(|role| ["--role", role]))
        .args(scopes.iter().flat_map(|scope| ["--scope", scope]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A generated CSV.
pub(crate) fn generate(folder: &Path, rows: u32, seed: u32) -> PathBuf {
    let path = folder.join(format!("encounters-{rows}-{seed}.csv"));
    let status = hdai(folder)
        .args(["generate", "encounters", "--rows", &rows.to_string(), "--seed", &seed.to_string(), "--out"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// Every row of the record, as text, without what depends on the clock.
#[derive(Debug, PartialEq)]
pub(crate) struct Records {
    pub(crate) patients: Vec<String>,
    pub(crate) imports: Vec<String>,
    pub(crate) rejects: Vec<String>,
}

impl Records {
    pub(crate) fn read(folder: &Path) -> Self {
        let db = rusqlite::Connection::open(folder.join("hdai.db")).unwrap();
        let rows = |sql: &str, skip: &[&str]| -> Vec<String> {
            let mut statement = db.prepare(sql).unwrap();
            let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
            let mut rows = statement.query([]).unwrap();
            let mut texts = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                let cells = names.iter().enumerate().filter(|(_, name)| !skip.contains(&name.as_str()));
                texts.push(
                    cells.map(|(index, name)| format!("{name}={:?}", row.get_ref(index).unwrap())).collect::<Vec<_>>().join("|"),
                );
            }
            texts
        };
        let mut patients = rows("SELECT * FROM PatientData ORDER BY eid", &["FirstName", "MiddleName", "LastName"]);
        // Encrypted with keys of the folder's own: told as they open.
        let opened = runtime().block_on(names(folder));
        assert_eq!(patients.len(), opened.len());
        for (patient, name) in patients.iter_mut().zip(opened) {
            *patient = format!("{}|{}|{}|{patient}", name.first.reveal(), name.middle.reveal(), name.last.reveal());
        }
        Self {
            patients,
            rejects: rows("SELECT * FROM rejects ORDER BY importid, line, ordinal", &[]),
            imports: rows("SELECT * FROM imports ORDER BY id", &["attempt", "started", "finished"]),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The embedded record in `folder`, as the program opens it.
pub(crate) fn record(folder: &Path) -> Sealed {
    sealed(folder, Arc::new(Sqlite::open(folder.join("hdai.db")).unwrap()))
}

/// A record whose data keys the key file of `folder` wraps.
#[expect(clippy::disallowed_methods, reason = "a key's day")]
pub(crate) fn sealed(folder: &Path, inner: Arc<dyn KeyTable>) -> Sealed {
    Sealed::new(inner, Arc::new(KeyFile::new(folder.join("data.key"))), Utc::now)
}

async fn names(folder: &Path) -> Vec<PersonName> {
    let (record, mut names, mut after) = (record(folder), Vec::new(), None);
    loop {
        let page = record.encounters(after, 5_000).await.unwrap();
        let Some(last) = page.last() else { return names };
        after = Some(last.id);
        names.extend(page.into_iter().map(|encounter| encounter.name));
    }
}

impl Records {
    /// The patients without the import that brought each of them in.
    pub(crate) fn patients_without_import(&self) -> Vec<String> {
        let parts = |patient: &String| {
            patient.split('|').filter(|cell| !cell.to_ascii_lowercase().starts_with("importid=")).collect::<Vec<_>>().join("|")
        };
        self.patients.iter().map(parts).collect()
    }
}

/// A running `hdai host` on a free port, and a caller who is signed in with every role unless told otherwise.
pub(crate) struct Host {
    bearer: Option<String>,
    child: Child,
    /// Kept open: the host still writes to it.
    _stdout: BufReader<std::process::ChildStdout>,
    pub(crate) address: String,
    pub(crate) folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Host {
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        Self::start_with(folder, args, &[])
    }

    /// With settings of its own.
    pub(crate) fn start_with(folder: &Path, args: &[&str], vars: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("host.log")).unwrap();
        let mut child = hdai(folder)
            .args(["host", "--port", "0"])
            .args(args)
            .envs(vars.iter().copied())
            .env("HDAI_LOG", "debug,hyper=info,reqwest=info")
            .envs(vars.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        // The first line of standard output names the address.
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .unwrap_or_else(|| panic!("no address in {line:?}; see {}", folder.join("host.log").display()));
        let address = address.trim_end_matches('/').to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bearer = Some(token(folder, &ROLES, &[]));
        Self { bearer, child, _stdout: stdout, address, folder: folder.to_owned(), runtime, client: reqwest::Client::new() }
    }

    /// Signs in anew, with these roles alone.
    pub(crate) fn sign_in(&mut self, roles: &[&str]) {
        self.bearer = Some(token(&self.folder, roles, &[]));
    }

    /// Signs out.
    pub(crate) fn sign_out(&mut self) {
        self.bearer = None;
    }

    /// The host's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the host without its knowing.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What the host and the handler logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("host.log")).unwrap()
    }

    /// Puts a file into the import container as a careful sender does: whole, under its name.
    pub(crate) fn drop_file(&self, path: &Path, name: &str) {
        let target = self.folder.join("blobs/trainingdata").join(name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let partial = target.with_file_name(format!(".{}.partial", target.file_name().unwrap().to_string_lossy()));
        std::fs::copy(path, &partial).unwrap();
        std::fs::rename(partial, target).unwrap();
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String, Vec<u8>) {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.address)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let content_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
            (response.status().as_u16(), content_type, response.bytes().await.unwrap().to_vec())
        })
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, _, bytes) = self.send(method, path, &[("content-type", "application/json")], body.to_string().into_bytes());
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, bytes) = self.send("GET", path, &[], Vec::new());
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Waits until the file of this name is imported or has failed.
    pub(crate) fn await_import(&self, name: &str) -> Value {
        self.until(|| {
            let (_, imports) = self.get("/api/imports?limit=1000");
            let import = imports["imports"].as_array()?.iter().find(|import| import["name"] == name)?.clone();
            (import["state"] != "running").then_some(import)
        })
    }

    /// Waits until a model predicts.
    pub(crate) fn await_model(&self) -> Value {
        self.until(|| {
            let (status, model) = self.get("/api/models/champion");
            (status == 200).then_some(model)
        })
    }

    fn until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "waited too long");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        // A polite stop, so that the host takes its handler with it.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
