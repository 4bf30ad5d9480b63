//! The language model: how it is reached, what it may cost, and what one service asks of it.
//!
//! A diff and a key go to the model's address, so it is HTTPS where a key is sent, unless it never leaves the machine.
//! What it may cost is bounded in tokens whatever happens; a bound in money is only accepted together with a price,
//! for without one it would hold nothing.

use super::{
    arms, default,
    key::Key,
    meant::{Model, ModelBudget, ModelLimits, Price},
    process::is_local,
    reading::{Reading, WordForm, in_words},
    written,
};
use crate::rollout::{ModelMay, ModelPolicy, RiskBake};

/// Longest address of the API, in bytes.
const URL_BYTES_MAX: usize = 512;
/// What an address ends in when somebody has written the endpoint instead of the root.
const ENDPOINT: &str = "/chat/completions";
const MILLION: f64 = 1e6;

const NAME: WordForm = WordForm {
    name: "name of a model",
    fix: "a name without blanks, such as \"gpt-5-mini\"",
    bytes_max: 200,
    is_legal: |word| !word.chars().any(|c| c.is_control() || c.is_whitespace()),
};

const API_VERSION: WordForm = WordForm {
    name: "version of Azure's API",
    fix: "a version such as \"2024-10-21\"",
    bytes_max: 40,
    is_legal: |word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
};

/// What one service asks of the model.
pub(super) struct ServiceModel {
    /// Whether it plans.
    pub(super) plans: bool,
    /// What else it is asked for, if anything.
    pub(super) policy: Option<ModelPolicy>,
}

impl Reading<'_> {
    /// The model; `None` where there is none, or where a part that it cannot do without is missing.
    pub(super) fn model(&mut self, written: Option<&written::Model>) -> Option<Model> {
        let written = written?;
        let key = Key::root().name("model");
        let name_key = key.name("name");
        match &written.name {
            Some(name) => {
                self.word(&name_key, name, &NAME);
            }
            None => self.missing(&name_key, "the model's name, such as \"gpt-5-mini\""),
        }
        let secret = self.secret(&key.name("key"), written.key.as_ref(), None);
        let base_url = self.base_url(&key.name("base_url"), written);
        let azure = self.azure(&key, written);
        let timeout = self.span(&key.name("timeout"), written.timeout.as_ref(), default::MODEL_TIMEOUT);
        let within_key = key.name("plan_within");
        let plan_within = self.span(&within_key, written.plan_within.as_ref(), default::PLAN_WITHIN);
        if self.are_fine(&[&within_key, &key.name("timeout")]) && plan_within < timeout {
            let what = format!("{} is over before one answer may be, {}", in_words(plan_within), in_words(timeout));
            self.problems.add(&within_key, what, "write a longer one, or a shorter timeout");
        }
        let attempts_key = key.name("attempts_max");
        let attempts_max = self.small(&attempts_key, written.attempts_max, &default::MODEL_ATTEMPTS_MAX);
        let price = self.price(&key.name("price"), written.price.as_ref());
        let limits = self.limits(&key.name("limits"), written.limits.as_ref());
        let budget = self.budget(&key.name("budget"), written.budget.as_ref(), written.price.is_some());
        if written.price.is_none() {
            self.warn(&key.name("price"), "is not set: what the model costs is not known, and only tokens are bounded");
        }
        let name = written.name.clone()?;
        let base_url = base_url?;
        Some(Model { azure, base_url, name, key: secret, timeout, attempts_max, plan_within, price, limits, budget })
    }

    /// The API's root. What may be in it besides an address is not repeated.
    fn base_url(&mut self, key: &Key, written: &written::Model) -> Option<String> {
        let fix = "write the API's root, such as \"https://api.openai.com/v1\"";
        let Some(text) = &written.base_url else {
            self.missing(key, "the API's root, such as \"https://api.openai.com/v1\" or \"http://127.0.0.1:11434/v1\"");
            return None;
        };
        let Some(url) = arms::http_url(text).filter(|_| text.len() <= URL_BYTES_MAX) else {
            self.problems.add(key, "is no web address", fix);
            return None;
        };
        let is_open = url.scheme() != "https" && !is_local(&url);
        if is_open && written.key.is_some() {
            self.problems.add(key, "would send the key in the open", "write an https address, or a loopback one");
        } else if is_open {
            self.warn(key, "sends the diffs of your changes in the open; an https address does not");
        }
        if url.query().is_some() || url.fragment().is_some() {
            self.problems.add(key, "goes on after the path", fix);
        }
        let root = text.trim_end_matches('/');
        if root.ends_with(ENDPOINT) {
            self.problems.add(key, format!("ends in {ENDPOINT}, which is added by itself"), "write what stands before");
        }
        Some(root.to_owned())
    }

    /// The version of Azure's API, where the model is there.
    fn azure(&mut self, key: &Key, written: &written::Model) -> Option<String> {
        let version_key = key.name("api_version");
        match (written.flavour.unwrap_or(written::Flavour::Openai), &written.api_version) {
            (written::Flavour::Openai, None) => None,
            (written::Flavour::Openai, Some(_)) => {
                let what = "belongs to flavour \"azure\", not to \"openai\"";
                self.problems.add(&version_key, what, "remove it, or write the other flavour");
                None
            }
            (written::Flavour::Azure, None) => {
                self.missing(&version_key, API_VERSION.fix);
                None
            }
            (written::Flavour::Azure, Some(version)) => {
                self.word(&version_key, version, &API_VERSION);
                if written.key.is_none() {
                    self.missing(&key.name("key"), "{ env = \"NAME\" } or { file = \"path\" }, for Azure wants a key");
                }
                Some(version.clone())
            }
        }
    }

    fn price(&mut self, key: &Key, written: Option<&written::Price>) -> Option<Price> {
        let written = written?;
        let mut of = |name: &str, dollars: Option<f64>| {
            let key = key.name(name);
            let Some(dollars) = dollars else {
                self.missing(&key, "dollars for a million tokens, such as 2.5");
                return 0;
            };
            self.micro_dollars(&key, dollars, 0.0, default::PRICE_MOST)
        };
        let (input, output) = (of("input", written.input), of("output", written.output));
        let cached_input = written.cached_input.map_or(input, |dollars| of("cached_input", Some(dollars)));
        if cached_input > input && self.are_fine(&[key]) {
            let fix = "write at most the price of input";
            self.problems.add(&key.name("cached_input"), "is dearer than what is not in the cache", fix);
        }
        Some(Price { input, cached_input, output })
    }

    fn limits(&mut self, key: &Key, written: Option<&written::Limits>) -> ModelLimits {
        let nothing = written::Limits::default();
        let written = written.unwrap_or(&nothing);
        let mut small = |name: &str, count: Option<u64>, rule| self.small(&key.name(name), count, rule);
        let planner_turns_max = small("planner_turns_max", written.planner_turns_max, &default::PLANNER_TURNS_MAX);
        let advisor_turns_max = small("advisor_turns_max", written.advisor_turns_max, &default::ADVISOR_TURNS_MAX);
        let tool_calls_max = small("tool_calls_max", written.tool_calls_max, &default::TOOL_CALLS_MAX);
        let repairs_max = small("repairs_max", written.repairs_max, &default::REPAIRS_MAX);
        let output_tokens_max = small("output_tokens_max", written.output_tokens_max, &default::OUTPUT_TOKENS_MAX);
        let run_key = key.name("run_tokens_max");
        let run_tokens_max = self.count(&run_key, written.run_tokens_max, &default::RUN_TOKENS_MAX);
        let diff_bytes_max = self.size(&key.name("diff_bytes_max"), written.diff_bytes_max, &default::DIFF_BYTES_MAX);
        if self.are_fine(&[key]) && run_tokens_max <= u64::from(output_tokens_max) {
            let what = format!("{run_tokens_max} is used up by one answer of {output_tokens_max}");
            self.problems.add(&run_key, what, "write several times output_tokens_max");
        }
        ModelLimits {
            planner_turns_max,
            advisor_turns_max,
            tool_calls_max,
            repairs_max,
            output_tokens_max,
            run_tokens_max,
            diff_bytes_max,
        }
    }

    fn budget(&mut self, key: &Key, written: Option<&written::Budget>, has_price: bool) -> ModelBudget {
        let nothing = written::Budget::default();
        let written = written.unwrap_or(&nothing);
        let mut money = |name: &str, dollars: Option<f64>| {
            let key = key.name(name);
            let dollars = dollars?;
            if !has_price {
                let what = "bounds nothing, for there is no price";
                self.problems.add(&key, what, "write model.price too, or remove it");
            }
            Some(self.micro_dollars(&key, dollars, 1.0 / MILLION, default::BUDGET_MOST))
        };
        let pull_request_micro_dollars_max = money("pull_request_dollars_max", written.pull_request_dollars_max);
        let day_micro_dollars_max = money("day_dollars_max", written.day_dollars_max);
        let mut tokens = |name: &str, count: Option<u64>, rule| self.count(&key.name(name), count, rule);
        ModelBudget {
            pull_request_tokens_max: tokens(
                "pull_request_tokens_max",
                written.pull_request_tokens_max,
                &default::PULL_REQUEST_TOKENS_MAX,
            ),
            day_tokens_max: tokens("day_tokens_max", written.day_tokens_max, &default::DAY_TOKENS_MAX),
            pull_request_micro_dollars_max,
            day_micro_dollars_max,
        }
    }

    /// Dollars as whole millionths.
    fn micro_dollars(&mut self, key: &Key, dollars: f64, least: f64, most: f64) -> u64 {
        if !(least..=most).contains(&dollars) {
            let what =
                if dollars < least { format!("{dollars} is too little") } else { format!("{dollars} is too much") };
            self.problems.add(key, what, format!("write dollars, {least} to {most}"));
            return 0;
        }
        // In range and not negative: the cast rounds nothing away but what is less than a millionth.
        (dollars * MILLION).round() as u64
    }

    /// What one service asks of the model, if there is one.
    pub(super) fn service_model(
        &mut self,
        service: &Key,
        written: Option<&written::ServiceModel>,
        has_model: bool,
        alpha: f64,
    ) -> ServiceModel {
        let key = service.name("model");
        if !has_model {
            if written.is_some() {
                self.problems.add(&key, "there is no model to ask", "add [model], or remove it");
            }
            return ServiceModel { plans: false, policy: None };
        }
        let nothing = written::ServiceModel::default();
        let written = written.unwrap_or(&nothing);
        let (advises, narrates) = (written.advises.unwrap_or(false), written.narrates.unwrap_or(true));
        let may = match written.may {
            Some(written::ModelMay::BreakTies) => ModelMay::BreakTies,
            Some(written::ModelMay::Hold) | None => ModelMay::Hold,
        };
        if may == ModelMay::BreakTies && !advises {
            let what = "\"break_ties\" says what advice may do, and none is asked for";
            self.problems.add(&key.name("may"), what, "write advises = true too, or remove it");
        }
        let lean_key = key.name("lean_alpha");
        let lean_alpha = written.lean_alpha.unwrap_or(default::LEAN_ALPHA);
        if !(lean_alpha > 0.0 && lean_alpha <= default::ALPHA_MOST) {
            let fix = format!("write a number above alpha, at most {}", default::ALPHA_MOST);
            self.problems.add(&lean_key, format!("{lean_alpha} is no chance that a harmless check leans"), fix);
        } else if (advises || written.lean_alpha.is_some())
            && lean_alpha <= alpha
            && self.are_fine(&[&service.name("alpha")])
        {
            let what = format!("{lean_alpha} is not above alpha, {alpha}: advice would count no sooner than proof");
            self.problems.add(&lean_key, what, "write a larger one, or a smaller alpha");
        }
        let within_key = key.name("advise_within");
        let advise_within = self.span(&within_key, written.advise_within.as_ref(), default::ADVISE_WITHIN);
        let policy = ModelPolicy { advises, narrates, may, lean_alpha, advise_within };
        ServiceModel { plans: written.plans.unwrap_or(true), policy: (advises || narrates).then_some(policy) }
    }

    /// How many times longer risky changes are baked; their stages have as much more patience.
    pub(super) fn risk_bake(&mut self, service: &Key, written: Option<&written::RiskBake>) -> RiskBake {
        let key = service.name("risk_bake");
        let nothing = written::RiskBake::default();
        let written = written.unwrap_or(&nothing);
        let mut factor = |name: &str, factor: Option<f64>, usual: f64| {
            let factor = factor.unwrap_or(usual);
            if (1.0..=default::RISK_BAKE_MOST).contains(&factor) {
                return factor;
            }
            let what = format!("{factor} times as long is no longer bake time");
            self.problems.add(&key.name(name), what, format!("write a number from 1 to {}", default::RISK_BAKE_MOST));
            usual
        };
        let medium = factor("medium", written.medium, default::RISK_BAKE_MEDIUM);
        let high = factor("high", written.high, default::RISK_BAKE_HIGH.max(medium));
        if high < medium {
            let what = format!("{high} bakes a change of high risk shorter than one of medium risk, {medium}");
            self.problems.add(&key.name("high"), what, "write a larger one");
        }
        RiskBake { medium, high }
    }
}
