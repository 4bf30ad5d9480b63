//! Requests of our own to a service (probes), and what changes to certain paths must have.
//!
//! A probe goes where the operator says and nowhere else: a draft can name a probe and never an address. It asks in ways
//! that change nothing. What its headers hold may be a secret, so none of them is ever repeated.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use globset::Glob;
use secrecy::SecretString;

use super::{
    arms::{self, URLS_MAX},
    default,
    key::{Key, shown},
    meant::{ArmTargets, Probe, Probing, Telemetry},
    reading::{Reading, WordForm, in_words},
    service::GLOBS_MAX,
    written,
};
use crate::{
    domain::{CatalogueEntry, Check, Risk},
    plan::PathRule,
};

/// Most probes of one service.
pub const PROBES_MAX: usize = 32;
/// Most headers of one probe.
pub const HEADERS_MAX: usize = 16;
/// Most rules for paths of one service.
pub const PATH_RULES_MAX: usize = 50;
/// Most kinds of good answers.
const STATUS_MAX: usize = 16;
/// Longest glob, in bytes.
const GLOB_BYTES_MAX: usize = 200;
/// Longest value of a header, in bytes.
const HEADER_VALUE_BYTES_MAX: usize = 4_096;

/// Headers that say how a request is sent and not what is asked.
const HEADERS_OF_OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];
/// What stands for an arm's revision.
const REVISION: &str = "{revision}";

const NAME: WordForm = WordForm {
    name: "name of a probe",
    fix: "a name of lower-case letters, digits, dashes and underscores",
    bytes_max: 60,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
    },
};

const PATH: WordForm = WordForm {
    name: "path",
    fix: "a path that begins with a slash, such as \"/checkout/health\",",
    bytes_max: 1_000,
    is_legal: |word| word.starts_with('/') && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'),
};

const CONTAINED: WordForm = WordForm {
    name: "text to look for",
    fix: "text without control characters",
    bytes_max: 1_000,
    is_legal: |word| !word.chars().any(char::is_control),
};

const HEADER: WordForm = WordForm {
    name: "name of a header",
    fix: "a name of letters, digits and dashes, none that says how a request is sent,",
    bytes_max: 100,
    is_legal: |word| {
        let is_ours = HEADERS_OF_OURS.iter().any(|ours| word.eq_ignore_ascii_case(ours));
        !is_ours && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    },
};

impl Reading<'_> {
    /// The probes of a service. Unless it is written, they go to the hosts of the arms' pages.
    pub(super) fn probing(&mut self, service: &Key, written: &written::Service, telemetry: &Telemetry) -> Probing {
        let (key, probes_key) = (service.name("probing"), service.name("probes"));
        let probes = written.probes.as_deref().unwrap_or_default();
        let nothing = written::Probing::default();
        let written = written.probing.as_ref().unwrap_or(&nothing);
        let (control_key, canary_key) = (key.name("control"), key.name("canary"));
        let control = self.origins(&control_key, written.control.as_deref(), &telemetry.control);
        let canary = self.origins(&canary_key, written.canary.as_deref(), &telemetry.canary);
        let every = self.span(&key.name("every"), written.every.as_ref(), default::PROBE_EVERY);
        let per_second = self.small(&key.name("per_second"), written.per_second, &default::PROBES_PER_SECOND);
        let timeout = self.span(&key.name("timeout"), written.timeout.as_ref(), default::PROBE_TIMEOUT);
        let pages = [service.name("telemetry").name("control"), service.name("telemetry").name("canary")];
        let can_compare = self.are_fine(&[&control_key, &canary_key, &probes_key, &pages[0], &pages[1]]);
        let bears_revision = canary.iter().any(|origin| origin.contains(REVISION));
        if can_compare && !probes.is_empty() && !bears_revision && canary.iter().any(|origin| control.contains(origin))
        {
            // Nothing tells which version answers at an address that both have.
            let fix = "write addresses at which only one version answers, here and under control";
            self.problems.add(&canary_key, "has an address of control's", fix);
        }
        for (key, origins) in [(&control_key, &control), (&canary_key, &canary)] {
            // Arms that are read from a source have no pages whose hosts could be asked.
            if telemetry.from.is_some() && !probes.is_empty() && origins.is_empty() && self.are_fine(&[key]) {
                self.missing(key, "where it answers, such as [\"http://127.0.0.1:8080\"]");
            }
        }
        let probes = self.probes(&probes_key, probes, timeout);
        Probing { control, canary, every, per_second, timeout, probes }
    }

    fn probes(&mut self, key: &Key, written: &[written::Probe], timeout: Duration) -> Vec<Probe> {
        self.at_most(key, written.len(), PROBES_MAX, "probes");
        let mut names = BTreeSet::new();
        let mut probes = Vec::new();
        for (place, probe) in written.iter().enumerate().take(PROBES_MAX) {
            let key = key.at(place);
            let name_key = key.name("name");
            match &probe.name {
                None => self.missing(&name_key, "a name such as \"sign-in\""),
                Some(name) => {
                    if self.word(&name_key, name, &NAME) && !names.insert(name.clone()) {
                        self.problems.add(
                            &name_key,
                            format!("another probe is named \"{name}\""),
                            "write another name",
                        );
                    }
                }
            }
            probes.push(self.probe(&key, probe, timeout));
        }
        probes
    }

    fn probe(&mut self, key: &Key, written: &written::Probe, timeout: Duration) -> Probe {
        match &written.path {
            Some(path) => {
                self.word(&key.name("path"), path, &PATH);
            }
            None => self.missing(&key.name("path"), "a path such as \"/checkout/health\""),
        }
        let only_head = written.method == Some(written::ProbeMethod::Head);
        if let Some(contains) = &written.contains {
            self.word(&key.name("contains"), contains, &CONTAINED);
            if only_head {
                let what = "is looked for in an answer, and with method \"HEAD\" there is none";
                self.problems.add(&key.name("contains"), what, "remove it, or write method = \"GET\"");
            }
        }
        let slow_key = key.name("slow_above");
        let slow = written.slow_above.as_ref();
        let slow_above = slow.map(|span| self.span(&slow_key, Some(span), default::PROBE_SLOW_ABOVE));
        if let Some(slow) = slow_above.filter(|slow| *slow > timeout && self.are_fine(&[&slow_key])) {
            let what = format!("{} is longer than an answer is waited for, {}", in_words(slow), in_words(timeout));
            self.problems.add(&slow_key, what, "write a shorter one, or a longer probing.timeout");
        }
        Probe {
            name: written.name.clone().unwrap_or_default(),
            path: written.path.clone().unwrap_or_default(),
            only_head,
            status: self.status(&key.name("status"), written.status.as_deref()),
            contains: written.contains.clone(),
            answers_with: self.answers_with(&key.name("answers_with"), written.answers_with.as_ref()),
            slow_above,
            headers: self.headers(&key.name("headers"), written.headers.as_ref()),
        }
    }

    /// Schemes, hosts and ports, to which a path is added.
    fn origins(&mut self, key: &Key, written: Option<&[String]>, pages: &ArmTargets) -> Vec<String> {
        let Some(urls) = written else { return origins_of(pages) };
        if urls.is_empty() {
            self.problems.add(key, "names no address", "write where it answers, such as [\"http://127.0.0.1:8080\"]");
        }
        self.at_most(key, urls.len(), URLS_MAX, "addresses");
        for (place, url) in urls.iter().enumerate().take(URLS_MAX) {
            let goes_on = origin_of(url) != url.trim_end_matches('/');
            let wrong = arms::wrong_with(url).or_else(|| goes_on.then_some("goes on after the host"));
            if let Some(wrong) = wrong {
                // The address is not repeated, for there may be a password in it.
                let fix = "write a scheme, a host and a port, such as \"http://127.0.0.1:8080\"";
                self.problems.add(&key.at(place), wrong, fix);
            }
        }
        urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect()
    }

    fn status(&mut self, key: &Key, written: Option<&[u64]>) -> Vec<u16> {
        let Some(written) = written else { return vec![default::PROBE_STATUS] };
        if written.is_empty() {
            self.problems.add(key, "lets no answer be good", "write [200], or remove it");
        }
        self.at_most(key, written.len(), STATUS_MAX, "kinds of answers");
        let mut codes = Vec::new();
        for (place, code) in written.iter().enumerate().take(STATUS_MAX) {
            match u16::try_from(*code).ok().filter(|code| (100..=599).contains(code)) {
                Some(code) => codes.push(code),
                None => {
                    self.problems.add(&key.at(place), format!("{code} is no status of an answer"), "write 100 to 599");
                }
            }
        }
        codes
    }

    fn answers_with(&mut self, key: &Key, written: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
        let Some(written) = written else { return BTreeMap::new() };
        self.at_most(key, written.len(), HEADERS_MAX, "headers");
        let mut headers = BTreeMap::new();
        for (name, value) in written.iter().take(HEADERS_MAX) {
            let key = key.name(name);
            self.word(&key, name, &HEADER);
            self.word(&key, value, &CONTAINED);
            if headers.insert(name.to_ascii_lowercase(), value.clone()).is_some() {
                self.problems.add(&key, "is set twice", "keep one of the two");
            }
        }
        headers
    }

    pub(super) fn headers(
        &mut self,
        key: &Key,
        written: Option<&BTreeMap<String, written::ProbeHeader>>,
    ) -> BTreeMap<String, SecretString> {
        let mut headers = BTreeMap::new();
        let count = written.map_or(0, BTreeMap::len);
        self.at_most(key, count, HEADERS_MAX, "headers");
        for (name, value) in written.into_iter().flatten().take(HEADERS_MAX) {
            let key = key.name(name);
            self.word(&key, name, &HEADER);
            let value = match value {
                written::ProbeHeader::Open(value) => {
                    if value.len() > HEADER_VALUE_BYTES_MAX || value.bytes().any(|byte| !(b' '..=b'~').contains(&byte))
                    {
                        let fix = format!("write at most {HEADER_VALUE_BYTES_MAX} printable bytes");
                        self.problems.add(&key, "is no value of a header", fix);
                    }
                    Some(SecretString::from(value.as_str()))
                }
                written::ProbeHeader::Secret(secret) => self.secret(&key, Some(secret), None),
            };
            if let Some(value) = value
                && headers.insert(name.to_ascii_lowercase(), value).is_some()
            {
                self.problems.add(&key, "is set twice", "keep one of the two");
            }
        }
        headers
    }

    /// What changes to certain paths must have. `objectives` are in every plan anyway.
    pub(super) fn path_rules(
        &mut self,
        service: &Key,
        written: &[written::PathRule],
        entries: &[CatalogueEntry],
        objectives: &[Check],
    ) -> Vec<PathRule> {
        let (key, slis_key) = (service.name("path_rules"), service.name("slis"));
        self.at_most(&key, written.len(), PATH_RULES_MAX, "rules");
        let mut rules = Vec::new();
        for (place, rule) in written.iter().enumerate().take(PATH_RULES_MAX) {
            let key = key.at(place);
            let paths_key = key.name("paths");
            if rule.paths.as_ref().is_none_or(Vec::is_empty) {
                self.missing(&paths_key, "globs over paths, such as [\"src/auth/**\"]");
            }
            let paths = rule.paths.clone().unwrap_or_default();
            self.glob_list(&paths_key, &paths);
            let risk = match rule.risk {
                Some(written::Risk::Low) => Risk::Low,
                Some(written::Risk::Medium) => Risk::Medium,
                Some(written::Risk::High) => Risk::High,
                None => {
                    self.missing(&key.name("risk"), "\"low\", \"medium\" or \"high\"");
                    Risk::Low
                }
            };
            let checks_key = key.name("checks");
            let owed = rule.checks.as_deref().unwrap_or_default();
            let checks = self.owed(&checks_key, owed, &slis_key, entries, default::PATH_RULE_RATIONALE);
            for (place, slo) in owed.iter().enumerate() {
                let named = |check: &&Check| slo.sli.as_deref() == Some(check.name.as_str());
                if objectives.iter().any(|check| named(&check)) {
                    let what = "is an objective, and so in every plan";
                    self.problems.add(&checks_key.at(place).name("sli"), what, "remove it here, or the objective");
                }
            }
            if risk == Risk::Low && checks.is_empty() && self.are_fine(&[&key]) {
                let what = "asks for nothing";
                self.problems.add(&key, what, "write a higher risk, or checks = [{ sli = \"...\" }]");
            }
            rules.push(PathRule { paths, risk, checks });
        }
        rules
    }

    /// Notes what is wrong with globs over paths from the repository's root.
    pub(super) fn glob_list(&mut self, key: &Key, globs: &[String]) {
        self.at_most(key, globs.len(), GLOBS_MAX, "globs");
        for (place, glob) in globs.iter().enumerate().take(GLOBS_MAX) {
            let wrong = if glob.is_empty() || glob.len() > GLOB_BYTES_MAX {
                format!("has {} bytes", glob.len())
            } else if glob.starts_with('/') || glob.starts_with("./") {
                format!("\"{}\" matches nothing, for paths start at the repository's root", shown(glob))
            } else if Glob::new(glob).is_err() {
                format!("\"{}\" is no glob", shown(glob))
            } else {
                continue;
            };
            let fix = format!("write 1 to {GLOB_BYTES_MAX} bytes, such as \"services/shop/**\"");
            self.problems.add(&key.at(place), wrong, fix);
        }
    }
}

/// Where an arm's pages are, each place once.
fn origins_of(pages: &ArmTargets) -> Vec<String> {
    let mut origins: Vec<String> = Vec::new();
    for origin in pages.urls.iter().map(|url| origin_of(url)) {
        if !origins.iter().any(|other| other == origin) {
            origins.push(origin.to_owned());
        }
    }
    origins
}

/// An address up to its host and port. It may hold a placeholder where no URL may hold one, so it is cut as text.
fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or_default()
}
