//! The loader: `host.json` and the function folders of a staged app, read by the real host's rules so that a layout error shows here.
//! It does not start anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::blob_trigger::BlobPath;
use super::routes::Template;
use super::timer::Schedule;
use crate::error::{Error, Result};

/// How HTTP requests reach the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMode {
    /// As a JSON envelope.
    Default,
    /// As a re-created, buffered request (`enableForwardingHttpRequest`).
    Forward,
    /// As a stream (`enableProxyingHttpRequest`).
    Proxy,
}

/// What a key must prove before an HTTP trigger runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthLevel {
    Anonymous,
    Function,
    Admin,
}

/// A staged app.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) root: PathBuf,
    /// The handler's program: under `root` if it exists there, else as named, for the search path.
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) working_dir: PathBuf,
    pub(crate) initialization_timeout: Duration,
    /// `None` for an unbounded function.
    pub(crate) function_timeout: Option<Duration>,
    pub(crate) http_mode: HttpMode,
    pub(crate) route_prefix: String,
    pub(crate) blobs_parallel: usize,
    pub(crate) blobs_poison_threshold: u32,
    pub(crate) queues_parallel: usize,
    pub(crate) queues_poison_threshold: u32,
    /// `Values` of `local.settings.json`.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) functions: Vec<Function>,
    /// Folders that the real host passes over in silence.
    pub(crate) ignored: Vec<String>,
}

/// A function: one trigger and its output bindings.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The trigger's binding name.
    pub(crate) binding: String,
    pub(crate) trigger: Trigger,
    pub(crate) queue_outputs: Vec<QueueOutput>,
    /// The `http` output binding's name.
    pub(crate) http_output: Option<String>,
    /// Whether it may be forwarded or proxied: one `httpTrigger` in, one `http` out, nothing else.
    pub(crate) pure_http: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Trigger {
    Blob { path: BlobPath, deferred: bool },
    Queue { queue: String },
    EventGrid,
    Timer { schedule: Schedule, run_on_startup: bool },
    Http { methods: Vec<String>, route: Template, level: AuthLevel },
}

#[derive(Debug, Clone)]
pub(crate) struct QueueOutput {
    pub(crate) binding: String,
    pub(crate) queue: String,
    /// With `dataType` `binary` a base64-looking string is not decoded.
    pub(crate) binary: bool,
}

impl App {
    /// Reads the app staged in `root`.
    pub(crate) fn load(root: &Path) -> Result<App> {
        let root = root.canonicalize().map_err(|error| {
            Error::not_found(format!("the app folder {} cannot be opened: stage the app first", root.display())).caused_by(error)
        })?;
        let host: HostJson = read_json(&root.join("host.json"))?;
        if host.version != "2.0" {
            return Err(Error::invalid("host.json: `version` must be \"2.0\""));
        }
        let description = &host.custom_handler.description;
        let working_dir = match description.working_directory.as_str() {
            "" => root.clone(),
            relative => root.join(relative),
        };
        let (functions, ignored) = load_functions(&root)?;
        let queues = &host.extensions.queues;
        Ok(App {
            executable: executable(&root, &description.default_executable_path)?,
            // The host joins the arguments with spaces and does not quote them: an argument with a blank splits.
            arguments: description.arguments.join(" ").split_whitespace().map(str::to_owned).collect(),
            working_dir,
            initialization_timeout: duration(host.custom_handler.initialization_timeout.as_deref().unwrap_or("00:00:30"))?
                .ok_or_else(|| Error::invalid("host.json: `initializationTimeout` must be a time"))?,
            function_timeout: duration(host.function_timeout.as_deref().unwrap_or("00:30:00"))?,
            http_mode: match (host.custom_handler.enable_proxying_http_request, host.custom_handler.enable_forwarding_http_request)
            {
                (true, _) => HttpMode::Proxy,
                (false, true) => HttpMode::Forward,
                (false, false) => HttpMode::Default,
            },
            route_prefix: route_prefix(host.extensions.http.route_prefix)?,
            blobs_parallel: host.extensions.blobs.max_degree_of_parallelism.unwrap_or(8).clamp(1, 256),
            blobs_poison_threshold: host.extensions.blobs.poison_blob_threshold.unwrap_or(5).max(1),
            queues_parallel: queues.batch_size.unwrap_or(16).clamp(1, 32),
            queues_poison_threshold: queues.max_dequeue_count.unwrap_or(5).max(1),
            settings: local_settings(&root)?,
            functions,
            ignored,
            root,
        })
    }

    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostJson {
    version: String,
    function_timeout: Option<String>,
    custom_handler: CustomHandler,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomHandler {
    description: Description,
    #[serde(default)]
    enable_proxying_http_request: bool,
    #[serde(default)]
    enable_forwarding_http_request: bool,
    initialization_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    default_executable_path: String,
    #[serde(default)]
    working_directory: String,
    #[serde(default)]
    arguments: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Extensions {
    http: HttpExtension,
    blobs: BlobsExtension,
    queues: QueuesExtension,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HttpExtension {
    route_prefix: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BlobsExtension {
    max_degree_of_parallelism: Option<usize>,
    poison_blob_threshold: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct QueuesExtension {
    batch_size: Option<usize>,
    max_dequeue_count: Option<u32>,
}

#[derive(Deserialize)]
struct FunctionJson {
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    direction: String,
    path: Option<String>,
    queue_name: Option<String>,
    schedule: Option<String>,
    #[serde(default)]
    run_on_startup: bool,
    route: Option<String>,
    methods: Option<Vec<String>>,
    auth_level: Option<String>,
    data_type: Option<String>,
    #[serde(default)]
    properties: BTreeMap<String, Value>,
}

/// Direct sub-folders with a `function.json`, and the names of those without.
fn load_functions(root: &Path) -> Result<(Vec<Function>, Vec<String>)> {
    let (mut functions, mut ignored) = (Vec::new(), Vec::new());
    let unreadable = |error| Error::invalid("the app folder cannot be listed").caused_by(error);
    for entry in fs::read_dir(root).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().is_dir() {
            continue;
        }
        if entry.path().join("function.json").is_file() {
            functions.push(load_function(&name, &entry.path().join("function.json"))?);
            continue;
        }
        let nested = fs::read_dir(entry.path()).map_err(unreadable)?;
        if nested.filter_map(|inner| inner.ok()).any(|inner| inner.path().join("function.json").is_file()) {
            return Err(Error::invalid(format!(
                "the app holds functions in the sub-folder `{name}`, which the Functions host would ignore: \
                 stage the app, which puts them beside host.json"
            )));
        }
        ignored.push(name);
    }
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    ignored.sort();
    if functions.is_empty() {
        return Err(Error::invalid("the app folder holds no function: stage the app first"));
    }
    Ok((functions, ignored))
}

fn load_function(name: &str, path: &Path) -> Result<Function> {
    let fault = |what: &str| Error::invalid(format!("{name}/function.json: {what}"));
    let valid_name = name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !valid_name || name.eq_ignore_ascii_case("host") {
        return Err(fault("the folder's name is no valid function name"));
    }
    let json: FunctionJson = read_json(path)?;
    for binding in &json.bindings {
        let plain = !binding.name.is_empty() && binding.name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_return = binding.name == "$return" && binding.direction == "out";
        if !plain && !is_return {
            return Err(fault("a binding's name must consist of letters and digits"));
        }
        let text = [&binding.path, &binding.queue_name, &binding.schedule, &binding.route];
        if text.into_iter().flatten().any(|text| text.contains('%')) {
            return Err(fault("a `%SETTING%` expression is not resolved by the local host"));
        }
    }
    let (triggers, others): (Vec<_>, Vec<_>) = json.bindings.iter().partition(|binding| is_trigger(&binding.kind));
    let [trigger] = triggers[..] else { return Err(fault("a function needs exactly one trigger")) };
    if trigger.direction != "in" {
        return Err(fault("the trigger's direction must be \"in\""));
    }
    let (mut queue_outputs, mut http_output) = (Vec::new(), None);
    for binding in &others {
        match (binding.kind.as_str(), binding.direction.as_str()) {
            ("queue", "out") => queue_outputs.push(QueueOutput {
                binding: binding.name.clone(),
                queue: queue_name(binding.queue_name.as_deref()).ok_or_else(|| fault("`queueName` is missing or not valid"))?,
                binary: binding.data_type.as_deref() == Some("binary"),
            }),
            ("http", "out") => http_output = Some(binding.name.clone()),
            _ => return Err(fault("the local host plays `queue` and `http` output bindings only")),
        }
    }
    let pure_http = is_kind(trigger, "httpTrigger") && others.len() == 1 && http_output.is_some();
    let expression =
        others.iter().any(|binding| [&binding.path, &binding.queue_name].into_iter().flatten().any(|text| text.contains('{')));
    let trigger_value = read_trigger(name, trigger, expression).map_err(|error| fault(error.message()).caused_by(error))?;
    Ok(Function {
        name: name.to_owned(),
        binding: trigger.name.clone(),
        trigger: trigger_value,
        queue_outputs,
        http_output,
        pure_http,
    })
}

fn is_trigger(kind: &str) -> bool {
    kind.to_ascii_lowercase().ends_with("trigger")
}

fn is_kind(binding: &Binding, kind: &str) -> bool {
    binding.kind.eq_ignore_ascii_case(kind)
}

/// `expression`: another binding uses `{..}`, which makes the real host fall back to the inline blob.
fn read_trigger(function: &str, binding: &Binding, expression: bool) -> Result<Trigger> {
    match binding.kind.to_ascii_lowercase().as_str() {
        "blobtrigger" => {
            let wanted = binding.properties.get("supportsDeferredBinding").is_some_and(|value| value == &Value::Bool(true));
            let path = BlobPath::parse(binding.path.as_deref().unwrap_or_default())?;
            Ok(Trigger::Blob { path, deferred: wanted && !expression })
        }
        "queuetrigger" => {
            let queue =
                queue_name(binding.queue_name.as_deref()).ok_or_else(|| Error::invalid("`queueName` is missing or not valid"))?;
            Ok(Trigger::Queue { queue })
        }
        "eventgridtrigger" => Ok(Trigger::EventGrid),
        "timertrigger" => {
            let schedule = Schedule::parse(binding.schedule.as_deref().unwrap_or_default())?;
            Ok(Trigger::Timer { schedule, run_on_startup: binding.run_on_startup })
        }
        "httptrigger" => {
            let level = match binding.auth_level.as_deref().unwrap_or("function").to_ascii_lowercase().as_str() {
                "anonymous" => AuthLevel::Anonymous,
                "function" => AuthLevel::Function,
                "admin" => AuthLevel::Admin,
                _ => return Err(Error::invalid("`authLevel` must be anonymous, function or admin")),
            };
            let methods = binding.methods.iter().flatten().map(|method| method.to_ascii_uppercase()).collect();
            Ok(Trigger::Http { methods, route: Template::parse(binding.route.as_deref().unwrap_or(function))?, level })
        }
        _ => Err(Error::invalid("the local host does not play this trigger")),
    }
}

/// Azure's rule for a queue's name.
fn queue_name(name: Option<&str>) -> Option<String> {
    let name = name?;
    let shape = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let ends = !name.starts_with('-') && !name.ends_with('-') && !name.contains("--");
    ((3..=63).contains(&name.len()) && shape && ends).then(|| name.to_owned())
}

fn route_prefix(configured: Option<String>) -> Result<String> {
    let prefix = configured.unwrap_or_else(|| "api".into()).trim_matches('/').to_owned();
    if prefix.is_empty() {
        // An empty prefix would let an outside caller reach the handler's trigger routes with a forged envelope.
        return Err(Error::invalid("host.json: `routePrefix` must not be empty"));
    }
    Ok(prefix)
}

fn executable(root: &Path, configured: &str) -> Result<PathBuf> {
    if configured.is_empty() {
        return Err(Error::invalid("host.json: `defaultExecutablePath` is empty"));
    }
    if configured.contains('%') {
        return Err(Error::invalid("host.json: a `%SETTING%` in `defaultExecutablePath` is not resolved by the local host"));
    }
    let in_app = root.join(configured);
    Ok(if in_app.is_file() { in_app } else { PathBuf::from(configured) })
}

fn local_settings(root: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct LocalSettings {
        #[serde(default)]
        is_encrypted: bool,
        #[serde(default)]
        values: BTreeMap<String, String>,
    }
    let path = root.join("local.settings.json");
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let settings: LocalSettings = read_json(&path)?;
    if settings.is_encrypted {
        return Err(Error::invalid("local.settings.json is encrypted: decrypt it with `func settings decrypt`"));
    }
    Ok(settings.values)
}

/// A .NET time span, `[d.]hh:mm:ss`; `-1` is unbounded.
fn duration(text: &str) -> Result<Option<Duration>> {
    let fault = || Error::invalid("host.json: a time must read hh:mm:ss, d.hh:mm:ss or -1");
    if text.trim() == "-1" {
        return Ok(None);
    }
    let (days, clock) = text.split_once('.').unwrap_or(("0", text));
    let parts: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| fault())?;
    let days: u64 = days.parse().map_err(|_| fault())?;
    match parts[..] {
        [hours @ 0..24, minutes @ 0..60, seconds @ 0..60] if days <= 365 => {
            Ok(Some(Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds)))
        }
        _ => Err(fault()),
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let within = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read(path).map_err(|error| Error::invalid(format!("{name} in `{within}` cannot be read")).caused_by(error))?;
    // The position alone: serde's message may quote a value, and settings hold secrets.
    serde_json::from_slice(&text).map_err(|error| {
        Error::invalid(format!(
            "{name} in `{within}` is not as the Functions host expects it (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_dotnets() {
        assert_eq!(duration("00:20:00").unwrap(), Some(Duration::from_secs(1200)));
        assert_eq!(duration("1.00:00:01").unwrap(), Some(Duration::from_secs(86_401)));
        assert_eq!(duration("-1").unwrap(), None);
        for wrong in ["", "20", "24:00:00", "00:60:00", "x.00:00:00", "00:00:-1"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn queue_names_follow_azure() {
        for good in ["training-requests", "abc", "a1-2"] {
            assert!(queue_name(Some(good)).is_some(), "{good}");
        }
        for bad in ["ab", "-abc", "abc-", "a--b", "ABC", "a_b", "{name}"] {
            assert!(queue_name(Some(bad)).is_none(), "{bad}");
        }
    }
}
