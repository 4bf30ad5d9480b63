//! What was written becomes what is meant; refused before anything starts.
//!
//! # Two steps
//! `written` is the file exactly as typed; [`Config`] is what is meant by it, checked and complete. Between them a file
//! passes three readers: `toml` parses it, `form` holds it against the schema of what can be written, and one file a
//! subject (`process`, `model`, `sources`, `service`, `stages`, `objectives`, `asked`, `series`, `arms`, `secret`) reads the meaning. The readers never
//! stop at the first mistake: a file is refused with every problem at once, each with its line and what to write instead.
//!
//! # Rules that hold for every key
//! - An unknown key and an unknown word are refused, never ignored or defaulted.
//! - A secret is named by its environment variable or file and never written down; nothing here repeats one.
//! - Every list, size, count and span has a bound.
//! - A relative path starts from the folder of the file, so that a process started elsewhere does not find an empty
//!   journal.
//!
//! `config.example.toml` shows every key with its unit and default; the tests hold it to the schema and to the defaults.

mod arms;
mod asked;
mod default;
mod fleet;
mod form;
mod key;
mod meant;
mod model;
mod objectives;
mod problem;
mod process;
mod reading;
mod secret;
mod series;
mod service;
mod sources;
mod stages;
mod version;
mod written;

pub use arms::{LABELS_MAX, SOURCE_LABELS_MAX, URLS_MAX};
pub use asked::{HEADERS_MAX, PATH_RULES_MAX, PROBES_MAX};
pub use meant::{
    ArmTargets, Buckets, CloudWatchSource, Config, DatadogSource, Endpoint, Flag, FlagValue, FromSource, Github,
    InfluxDbSource, InfluxLanguage, InfluxLayout, Journal, Log, LogFormat, Model, ModelBudget, ModelLimits,
    NewRelicSource, Numbers, OtlpSource, Price, Probe, Probing, PrometheusSource, Source, SourceAuth, Telemetry, Times,
};
pub use objectives::SLIS_MAX;
pub use problem::{PROBLEMS_MAX, Problem};
pub use secret::SECRET_BYTES_MAX;
pub use series::{CONDITIONS_MAX, VALUES_MAX};
pub use service::GLOBS_MAX;
pub use sources::{ENDPOINTS_MAX, SOURCES_MAX};
pub use stages::{COHORTS_MAX, STAGES_MAX};

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;
use toml::de::DeTable;

use self::{key::Key, problem::Problems, reading::Reading};
use crate::{domain::Text, rollout::Policy};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Most services.
pub const SERVICES_MAX: usize = 200;

/// Reads a configuration file's text. `env` looks up environment variables; files that hold secrets are read from disk,
/// relative paths from the folder of `file_name`.
///
/// # Errors
/// Every problem there is, in the order of the file.
pub fn read(text: &str, file_name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    read_for(text, file_name, env, Services::AtLeastOne)
}

/// As [`read`], from the file of that name.
///
/// # Errors
/// As [`read`]; or one problem that says why there is no text.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    let file_name = path.display().to_string();
    match text_of(path) {
        Ok(text) => read(&text, &file_name, env),
        Err(error) => Err(vec![whole_file(
            &file_name,
            format!("cannot be read ({error})"),
            "name a TOML file such as config.example.toml",
        )]),
    }
}

/// What holds when no file is given: every default, and no service.
///
/// # Errors
/// A problem where the webhook's secret is not in its default environment variable.
pub fn embedded(env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    read_for("", "defaults", env, Services::MayBeNone)
}

/// The JSON Schema of the file, for editors. A JSON object.
pub fn schema() -> Value {
    form::schema_of::<written::File>()
}

/// What came of reading a file, for `tollgate check-config`: one line of what is there and a line a warning, or a line a
/// problem and their count.
pub fn check(read: &Result<Config, Vec<Problem>>, file_name: &str) -> String {
    match read {
        Ok(config) => {
            let bounds = || config.policy.services.values().map(|service| &service.bounds);
            let slis = bounds().map(|bounds| bounds.catalogue.entries.len()).sum();
            let slos = bounds().map(|bounds| bounds.mandatory.len()).sum();
            let counts = [
                counted(config.policy.services.len(), "service"),
                counted(slis, "SLI"),
                counted(slos, "objective"),
                counted(config.warnings.len(), "warning"),
            ];
            let version: String = config.policy.version.as_str().chars().take(12).collect();
            let mut told = format!("OK: {}, policy {version}\n", counts.join(", "));
            config.warnings.iter().for_each(|warning| told.push_str(&format!("warning: {warning}\n")));
            told
        }
        Err(problems) => {
            let lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
            format!("{lines}REFUSED: {} in {file_name}\n", counted(problems.len(), "problem"))
        }
    }
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Whether a file without services makes sense.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Services {
    AtLeastOne,
    MayBeNone,
}

fn read_for(
    text: &str,
    file_name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    services: Services,
) -> Result<Config, Vec<Problem>> {
    if text.len() > FILE_BYTES_MAX {
        let what = format!("has more than {FILE_BYTES_MAX} bytes");
        return Err(vec![whole_file(file_name, what, "write a smaller file")]);
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    let source = key::Source::new(text, tree.get_ref());
    if !errors.is_empty() {
        // The parser's guesses at what a broken file might mean would only add problems that are none.
        let problem = |error: &toml::de::Error| Problem {
            line: error.span().map(|span| source.line_at(span.start)),
            ..whole_file(file_name, format!("is no TOML: {}", Text::new(error.message())), "mend the syntax")
        };
        return Err(errors.iter().take(PROBLEMS_MAX).map(problem).collect());
    }
    let mut problems = Problems::new(&source, file_name);
    let fitting = form::fitting(tree.get_ref(), &schema(), &mut problems);
    let folder = Path::new(file_name).parent().unwrap_or(Path::new(""));
    let mut reading = Reading::new(problems, env, folder);
    let meant = match written::File::deserialize(fitting) {
        Ok(file) => reading.file(&file, services),
        Err(_) => {
            // The error is not repeated, for it may hold a value from the file.
            let fix = "compare it with config.example.toml";
            reading.problems.add(&Key::root(), "has a form that the schema takes and the reader does not", fix);
            None
        }
    };
    match meant {
        Some(config) if reading.problems.is_empty() => Ok(config),
        _ => Err(reading.problems.into_list()),
    }
}

impl Reading<'_> {
    fn file(&mut self, file: &written::File, services: Services) -> Option<Config> {
        let doors = self.doors(file);
        let journal = self.journal(file.journal.as_ref());
        let github = self.github(file.github.as_ref());
        let log = self.log(file.log.as_ref());
        let fleet_key = Key::root().name("fleet");
        let nothing = written::Fleet::default();
        let fleet = file.fleet.as_ref().unwrap_or(&nothing);
        let rollouts_max = self.size(&fleet_key.name("rollouts_max"), fleet.rollouts_max, &default::ROLLOUTS_MAX);
        let finished_kept = self.size(&fleet_key.name("finished_kept"), fleet.finished_kept, &default::FINISHED_KEPT);
        let model = self.model(file.model.as_ref());
        // A model of which a part is missing is there all the same: what is asked of it can be read.
        let plan_within =
            file.model.as_ref().map(|_| model.as_ref().map_or(default::PLAN_WITHIN.default, |model| model.plan_within));
        let sources = self.sources(file.sources.as_ref());
        let services = self.services(file.sources.as_ref(), file.services.as_ref(), services, plan_within);
        self.check_sources(&services, &sources);
        if let Some(github) = &github {
            self.check_replies(&services.policies, github);
        }
        let (doors, github) = (doors?, github?);
        let Ok(version) = version::of(&services.policies, rollouts_max, finished_kept) else {
            self.problems.add(
                &Key::root(),
                "holds a value that has no JSON form",
                "compare it with config.example.toml",
            );
            return None;
        };
        Some(Config {
            policy: Policy { version, services: services.policies, rollouts_max, finished_kept },
            listen: doors.listen,
            public: doors.public,
            allowed_hosts: doors.allowed_hosts,
            api_token: doors.api_token,
            journal,
            github,
            telemetry: services.telemetry,
            sources,
            traffic: services.traffic,
            model,
            planned_by_model: services.planned_by_model,
            log,
            warnings: std::mem::take(&mut self.warnings),
        })
    }
}

/// A file's text; a file that is too large is cut where [`read`] refuses it.
fn text_of(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        // The cut may fall inside a character; what matters is that the text is too long.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

fn whole_file(file_name: &str, what: String, fix: &str) -> Problem {
    Problem { key: file_name.into(), what, fix: fix.into(), line: None }
}
