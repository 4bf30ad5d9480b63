//! One service: what was written of it becomes its policy.

use std::{collections::BTreeMap, time::Duration};

use super::{
    default,
    key::{Key, shown},
    meant::{Flag, Telemetry},
    reading::{Reading, WordForm, in_words},
    written,
};
use crate::{
    domain::{Autonomy, ControlAge, Repository, ServiceName},
    rollout::{Deployed, ServicePolicy, Stage},
};

/// Most globs of one service.
pub const GLOBS_MAX: usize = 100;

const NAME: WordForm = WordForm {
    name: "name of a service",
    fix: "a name of lower-case letters, digits and dashes",
    bytes_max: 60,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !word.starts_with('-')
            && !word.ends_with('-')
    },
};

const BRANCH: WordForm = WordForm {
    name: "name of a branch",
    fix: "a branch such as \"main\"",
    bytes_max: 255,
    is_legal: |word| !word.chars().any(|c| c.is_control() || c.is_whitespace()),
};

/// What is meant by a service.
pub(super) struct Service {
    pub(super) name: ServiceName,
    pub(super) policy: ServicePolicy,
    pub(super) telemetry: Telemetry,
    pub(super) flag: Flag,
    /// Whether the model plans its changes.
    pub(super) is_planned_by_model: bool,
}

impl Reading<'_> {
    /// A service; `None` where its repository is unknown, which is a problem.
    ///
    /// `plan_within` is how long the model may plan; `None` where there is no model.
    pub(super) fn service(
        &mut self,
        key: &Key,
        (name, written): (&str, &written::Service),
        sources: Option<&BTreeMap<String, written::Source>>,
        plan_within: Option<Duration>,
    ) -> Option<Service> {
        self.word(key, name, &NAME);
        let name = ServiceName::new(name);
        let mut telemetry = self.telemetry(key, written.telemetry.as_ref(), sources);
        telemetry.probing = self.probing(key, written, &telemetry);
        let flag = self.flag(key, &name, written.flag.as_ref());
        let alpha = self.alpha(&key.name("alpha"), written.alpha);
        let model = self.service_model(key, written.model.as_ref(), plan_within.is_some(), alpha);
        let mut policy = self.service_policy(key, written, &telemetry)?;
        policy.alpha = alpha;
        policy.bounds.beyond_catalogue = written.beyond_catalogue.unwrap_or(model.plans);
        // The diff is fetched first, and a rollout that waits for a model must outlast it.
        policy.draft_within = plan_within.filter(|_| model.plans).map(|within| within + policy.reply_within);
        policy.model = model.policy;
        Some(Service { name, policy, telemetry, flag, is_planned_by_model: model.plans })
    }

    fn service_policy(
        &mut self,
        key: &Key,
        written: &written::Service,
        telemetry: &Telemetry,
    ) -> Option<ServicePolicy> {
        let repository = self.repository(&key.name("repository"), written.repository.as_deref());
        let paths = self.globs(&key.name("paths"), written.paths.as_deref());
        if let Some(branch) = &written.branch {
            self.word(&key.name("branch"), branch, &BRANCH);
        }
        let (stages, step_max) = self.ladder(key, written);
        let bounds = self.bounds(key, written, &telemetry.probing.probes);
        let mut span =
            |name: &str, written: &Option<written::Span>, rule| self.span(&key.name(name), written.as_ref(), rule);
        let measure_every = span("measure_every", &written.measure_every, default::MEASURE_EVERY);
        let blackout_after = span("blackout_after", &written.blackout_after, default::BLACKOUT_AFTER);
        let patience = span("patience", &written.patience, default::PATIENCE);
        let pause_max = span("pause_max", &written.pause_max, default::PAUSE_MAX);
        let watch = span("watch", &written.watch, default::WATCH);
        let deploy_within = span("deploy_within", &written.deploy_within, default::DEPLOY_WITHIN);
        let reply_within = span("reply_within", &written.reply_within, default::REPLY_WITHIN);
        let drained_within = span("drained_within", &written.drained_within, default::DRAINED_WITHIN);
        let pod_incident = span("pod_incident", &written.pod_incident, default::POD_INCIDENT);
        let warm_up = span("warm_up", &written.warm_up, default::WARM_UP);
        let share_tolerance = self.share_tolerance(&key.name("share_tolerance"), written.share_tolerance);
        let shown_safe = written.bake_time_shown_safe.as_ref();
        let bake_time_shown_safe = shown_safe
            .map(|span| self.span(&key.name("bake_time_shown_safe"), Some(span), default::BAKE_TIME_SHOWN_SAFE));
        let safe_ratio = self.safe_ratio(&key.name("safe_ratio"), written.safe_ratio);
        self.check_rhythm(key, measure_every, telemetry);
        self.check_longer(key, ("blackout_after", blackout_after), measure_every);
        self.check_longer(key, ("drained_within", drained_within), measure_every);
        self.check_patience(key, patience, &stages);
        let risk_bake = self.risk_bake(key, written.risk_bake.as_ref());
        let samples_min = self.count(&key.name("samples_min"), written.samples_min, &default::SAMPLES_MIN);
        let attempts_max = self.count(&key.name("attempts_max"), written.attempts_max, &default::ATTEMPTS_MAX);
        Some(ServicePolicy {
            repository: repository?,
            paths,
            branch: written.branch.clone(),
            deployed: written.deployed.map_or(Deployed::OnMerge, Into::into),
            autonomy: written.autonomy.map_or(Autonomy::Guard, Into::into),
            stages,
            bounds,
            alpha: default::ALPHA,
            look_every: telemetry.interval,
            measure_every,
            samples_min,
            step_max,
            blackout_after,
            patience,
            pause_max,
            watch,
            deploy_within,
            reply_within,
            attempts_max: u32::try_from(attempts_max).unwrap_or(u32::MAX),
            drained_within,
            pod_incident,
            warm_up,
            share_tolerance,
            safe_ratio,
            bake_time_shown_safe,
            model: None,
            draft_within: None,
            risk_bake,
            control: written.control.map_or(ControlAge::Running, Into::into),
        })
    }

    fn repository(&mut self, key: &Key, written: Option<&str>) -> Option<Repository> {
        let Some(text) = written else {
            self.missing(key, "\"owner/name\"");
            return None;
        };
        let repository = text.parse().ok();
        if repository.is_none() {
            self.problems.add(key, format!("\"{}\" is no repository", shown(text)), "write \"owner/name\"");
        }
        repository
    }

    fn globs(&mut self, key: &Key, written: Option<&[String]>) -> Vec<String> {
        let Some(globs) = written else { return vec![default::PATHS.into()] };
        if globs.is_empty() {
            self.problems.add(key, "names no path", "write [\"**\"] for every path, or remove it");
        }
        self.glob_list(key, globs);
        globs.to_vec()
    }

    fn alpha(&mut self, key: &Key, written: Option<f64>) -> f64 {
        let alpha = written.unwrap_or(default::ALPHA);
        let (least, most) = (default::ALPHA_LEAST, default::ALPHA_MOST);
        if (least..=most).contains(&alpha) {
            return alpha;
        }
        let (what, fix) = if alpha > 0.0 && alpha < least {
            (format!("{alpha} asks for more evidence than there can be"), format!("write at least {least}"))
        } else if alpha > most && alpha <= 1.0 {
            (
                format!("{alpha} would roll back every other harmless change"),
                format!("write at most {most}, such as 0.001"),
            )
        } else {
            (format!("{alpha} is no probability"), format!("write a number between 0 and {most}, such as 0.001"))
        };
        self.problems.add(key, what, fix);
        default::ALPHA
    }

    /// How far the canary's share may be off; 0 is for a service whose arms cannot be compared by their requests.
    fn share_tolerance(&mut self, key: &Key, written: Option<f64>) -> Option<f64> {
        let tolerance = written.unwrap_or(default::SHARE_TOLERANCE);
        if tolerance == 0.0 {
            return None;
        }
        if tolerance > 1.0 && tolerance <= default::RATIO_MOST {
            return Some(tolerance);
        }
        let fix = format!(
            "write a number above 1, at most {}, such as {}, or 0 for no watch over it",
            default::RATIO_MOST,
            default::SHARE_TOLERANCE
        );
        self.problems.add(key, format!("{tolerance} is no tolerance of a share"), fix);
        None
    }

    /// No number of requests shows that a canary is less than once as bad when it is just as bad.
    fn safe_ratio(&mut self, key: &Key, written: Option<f64>) -> f64 {
        let ratio = written.unwrap_or(default::SAFE_RATIO);
        if ratio > 1.0 && ratio <= default::RATIO_MOST {
            return ratio;
        }
        let what = if ratio > default::RATIO_MOST {
            format!("{ratio} would call nearly any canary safe")
        } else {
            format!("{ratio} would call no canary safe that is only as good as control")
        };
        let fix = format!("write a number above 1, at most {}, such as {}", default::RATIO_MOST, default::SAFE_RATIO);
        self.problems.add(key, what, fix);
        default::SAFE_RATIO
    }

    /// A measurement needs a scrape in it.
    fn check_rhythm(&mut self, key: &Key, measure_every: Duration, telemetry: &Telemetry) {
        let (measure, interval) = (key.name("measure_every"), key.name("telemetry").name("interval"));
        if self.are_fine(&[&measure, &interval]) && measure_every < telemetry.interval {
            let what = format!(
                "{} is shorter than the time between scrapes, {}",
                in_words(measure_every),
                in_words(telemetry.interval)
            );
            self.problems.add(&measure, what, "write a longer one, or a shorter telemetry.interval");
        }
    }

    /// What is known by measuring cannot be known sooner than the next measurement.
    fn check_longer(&mut self, key: &Key, (name, span): (&str, Duration), measure_every: Duration) {
        let (key, measure) = (key.name(name), key.name("measure_every"));
        if self.are_fine(&[&key, &measure]) && span <= measure_every {
            let what = format!("{} is over before the next measurement, {}", in_words(span), in_words(measure_every));
            self.problems.add(&key, what, "write several times measure_every");
        }
    }

    /// A stage that must be held longer than it may be could only end in a rollback.
    fn check_patience(&mut self, key: &Key, patience: Duration, stages: &[Stage]) {
        let patience_key = key.name("patience");
        if !self.are_fine(&[&patience_key, &key.name("stages")]) {
            return;
        }
        let longest = stages.iter().map(|stage| stage.bake_time).max().unwrap_or_default();
        if patience < longest {
            let what = format!("{} is shorter than a stage's bake time, {}", in_words(patience), in_words(longest));
            self.problems.add(&patience_key, what, "write a longer one, or a shorter bake_time");
        }
    }
}

impl From<written::Deployed> for Deployed {
    fn from(written: written::Deployed) -> Self {
        match written {
            written::Deployed::OnMerge => Self::OnMerge,
            written::Deployed::WhenTold => Self::WhenTold,
        }
    }
}

impl From<written::Control> for ControlAge {
    fn from(written: written::Control) -> Self {
        match written {
            written::Control::Running => Self::Running,
            written::Control::SameAge => Self::SameAge,
        }
    }
}

impl From<written::Autonomy> for Autonomy {
    fn from(written: written::Autonomy) -> Self {
        match written {
            written::Autonomy::Observe => Self::Observe,
            written::Autonomy::Advise => Self::Advise,
            written::Autonomy::Guard => Self::Guard,
            written::Autonomy::Auto => Self::Auto,
        }
    }
}
