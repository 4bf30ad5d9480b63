//! What is meant by what was written of a model, of probes and of rules for paths.

use std::time::Duration;

use secrecy::ExposeSecret;
use tollgate::{
    agent,
    config::{self, Config, HEADERS_MAX, ModelBudget, ModelLimits, PATH_RULES_MAX, PROBES_MAX, Price},
    domain::{CheckName, Origin, Risk, ServiceName, Sli, Text, Weight},
    rollout::{ModelMay, ModelPolicy, ServicePolicy},
};

use super::{LEAST, SECRET, least_with, lines, read};

const MODEL: &str = "model = { name = \"m\", base_url = \"http://127.0.0.1:11434/v1/\" }";

fn with_model(service: &str) -> Config {
    read(&least_with("#top", MODEL).replace("#service", service)).expect("accepted")
}

fn shop(config: &Config) -> &ServicePolicy {
    &config.policy.services[&ServiceName::new("shop")]
}

fn warned(config: &Config, of: &str) -> bool {
    config.warnings.iter().any(|warning| warning.starts_with(of))
}

#[test]
fn without_a_model_nobody_is_asked() {
    let config = read(LEAST).unwrap();
    assert!(config.model.is_none() && config.planned_by_model.is_empty());
    let shop = shop(&config);
    assert_eq!((&shop.model, shop.draft_within, shop.bounds.beyond_catalogue), (&None, None, false));
    assert_eq!((shop.risk_bake.medium, shop.risk_bake.high), (1.0, 2.0));
}

#[test]
fn the_limits_of_a_model_are_those_that_the_agent_is_made_for() {
    let model = with_model("").model.unwrap();
    let (limits, budgets) = (agent::Limits::default(), agent::Budgets::default());
    assert_eq!(
        model.limits,
        ModelLimits {
            planner_turns_max: limits.planner_turns_max,
            advisor_turns_max: limits.advisor_turns_max,
            tool_calls_max: limits.tool_calls_max,
            repairs_max: limits.repairs_max,
            output_tokens_max: limits.output_tokens_max,
            run_tokens_max: limits.run_tokens_max,
            diff_bytes_max: limits.diff_bytes_max,
        }
    );
    assert_eq!(model.plan_within, limits.plan_within);
    assert_eq!(
        model.budget,
        ModelBudget {
            pull_request_tokens_max: budgets.pull_request_tokens_max,
            day_tokens_max: budgets.day_tokens_max,
            pull_request_micro_dollars_max: None,
            day_micro_dollars_max: None,
        }
    );
}

#[test]
fn a_model_plans_and_explains_for_every_service_unless_that_says_otherwise() {
    let config = with_model("");
    let model = config.model.as_ref().unwrap();
    assert_eq!((model.name.as_str(), model.base_url.as_str()), ("m", "http://127.0.0.1:11434/v1"));
    assert!(model.key.is_none() && model.azure.is_none() && model.price.is_none());
    assert_eq!(config.planned_by_model, [ServiceName::new("shop")].into());
    let asked = ModelPolicy {
        advises: false,
        narrates: true,
        may: ModelMay::Hold,
        lean_alpha: 0.05,
        advise_within: Duration::from_secs(60),
    };
    assert_eq!(shop(&config).model, Some(asked.clone()));
    assert!(shop(&config).bounds.beyond_catalogue);
    let fetched_and_planned = shop(&config).reply_within + model.plan_within;
    assert_eq!(shop(&config).draft_within, Some(fetched_and_planned));

    let config = with_model("model = { plans = false, narrates = false }");
    assert!(config.planned_by_model.is_empty());
    let quiet = shop(&config);
    assert_eq!((&quiet.model, quiet.draft_within, quiet.bounds.beyond_catalogue), (&None, None, false));

    let config = with_model(
        "beyond_catalogue = false\n\
         model = { advises = true, may = \"break_ties\", lean_alpha = 0.01, advise_within = \"5s\" }",
    );
    let more = ModelPolicy {
        advises: true,
        may: ModelMay::BreakTies,
        lean_alpha: 0.01,
        advise_within: Duration::from_secs(5),
        ..asked
    };
    assert_eq!((&shop(&config).model, shop(&config).bounds.beyond_catalogue), (&Some(more), false));
}

#[test]
fn dollars_become_whole_millionths() {
    let text = "[model]\nname = \"m\"\nbase_url = \"https://m.example/v1\"\nkey = { env = \"A_TOKEN\" }\n\
                price = { input = 0.25, output = 2 }\n\
                budget = { pull_request_dollars_max = 0.1, day_dollars_max = 20 }";
    let config = read(&least_with("#top", text)).unwrap();
    let model = config.model.as_ref().unwrap();
    assert_eq!(model.price, Some(Price { input: 250_000, cached_input: 250_000, output: 2_000_000 }));
    assert_eq!(model.budget.pull_request_micro_dollars_max, Some(100_000));
    assert_eq!(model.budget.day_micro_dollars_max, Some(20_000_000));
    assert_eq!(model.key.as_ref().unwrap().expose_secret(), SECRET);
    assert!(!warned(&config, "model"), "{:?}", config.warnings);
    assert!(!format!("{config:?}").contains(SECRET), "a secret prints");
}

#[test]
fn what_is_not_priced_or_sent_in_the_open_is_worth_a_second_look() {
    assert!(warned(&with_model(""), "model.price: is not set"));
    let open = read(&least_with("#top", "model = { name = \"m\", base_url = \"http://m.example/v1\" }")).unwrap();
    assert!(warned(&open, "model.base_url: sends the diffs of your changes in the open"));
    assert!(!warned(&with_model(""), "model.base_url"), "it never leaves the machine");
}

#[test]
fn how_the_model_is_reached_is_no_part_of_the_policy_and_what_is_asked_of_it_is() {
    let version = |config: Config| config.policy.version;
    let plain = version(with_model(""));
    let other = MODEL.replace("\"m\"", "\"other\"");
    assert_eq!(plain, version(read(&least_with("#top", &other)).unwrap()));
    assert_ne!(plain, version(with_model("model = { advises = true }")));
    assert_ne!(plain, version(with_model("risk_bake = { high = 3 }")));
}

#[test]
fn a_change_of_high_risk_is_never_baked_shorter_than_one_of_medium_risk() {
    let bake = |text: &str| shop(&read(&least_with("#service", text)).unwrap()).risk_bake;
    let (usual, medium) = (bake("risk_bake = { high = 1.5 }"), bake("risk_bake = { medium = 3 }"));
    assert_eq!((usual.medium, usual.high), (1.0, 1.5));
    assert_eq!((medium.medium, medium.high), (3.0, 3.0));
    assert_eq!(bake("risk_bake = { medium = 20, high = 20 }").high, 20.0);
}

const PROBE: &str = "[[services.shop.probes]]\nname = \"home\"\npath = \"/\"\n";

#[test]
fn a_probe_can_be_owed_and_its_headers_never_print() {
    let text = format!(
        "[[services.shop.slis]]\nname = \"home\"\nkind = \"probe\"\nprobe = \"home\"\n\
         [[services.shop.slis]]\nname = \"live\"\nkind = \"liveness\"\nseries = {{ metric = \"c\" }}\n\
         {PROBE}headers = {{ Authorization = {{ env = \"A_TOKEN\" }}, accept = \"text/html\" }}\n\
         [[services.shop.slos]]\nsli = \"home\"\nlimit = {{ bad_share_max = \"50%\" }}\n\
         [[services.shop.slos]]\nsli = \"live\"\n"
    );
    let config = read(&least_with("#sli", &text)).unwrap();
    let probing = &config.telemetry[&ServiceName::new("shop")].probing;
    let probe = &probing.probes[0];
    let pace = (probing.every, probing.per_second, probing.timeout);
    assert_eq!(pace, (Duration::from_secs(5), 10, Duration::from_secs(5)));
    assert_eq!(
        (probing.control.as_slice(), probing.canary.as_slice()),
        (&["http://old:9100".into()][..], &["http://new:9100".into()][..])
    );
    assert_eq!((probe.path.as_str(), probe.only_head, probe.status.as_slice()), ("/", false, [200].as_slice()));
    assert_eq!((&probe.contains, probe.slow_above), (&None, None));
    assert_eq!(probe.headers["authorization"].expose_secret(), SECRET);
    assert!(!format!("{config:?}").contains(SECRET));
    let bounds = &shop(&config).bounds;
    assert_eq!(bounds.probes, ["home"]);
    assert_eq!(bounds.catalogue.entries[1].sli, Sli::Probe { probe: "home".into() });
    let owed: Vec<&str> = bounds.mandatory.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(owed, ["home", "live", "errors"]);
}

#[test]
fn probes_go_where_that_is_written_and_bear_a_revision() {
    let probing = "probing = { control = [\"http://a/\", \"https://{revision}.a:8443\"], canary = [\"http://{revision}.b\"], \
                   every = \"100ms\", per_second = 100, timeout = \"1s\" }";
    let slow = format!("{PROBE}slow_above = \"1s\"\nmethod = \"HEAD\"\nstatus = [204, 301]");
    let config = read(&least_with("#service", probing).replace("#slo", &slow)).unwrap();
    let probing = &config.telemetry[&ServiceName::new("shop")].probing;
    assert_eq!(probing.control, ["http://a", "https://{revision}.a:8443"]);
    assert_eq!((probing.canary[0].as_str(), probing.per_second), ("http://{revision}.b", 100));
    let probe = &probing.probes[0];
    assert_eq!((probe.only_head, probe.status.as_slice()), (true, [204, 301].as_slice()));
    assert_eq!(probe.slow_above, Some(Duration::from_secs(1)));
}

#[test]
fn a_rule_for_paths_raises_the_risk_and_adds_checks() {
    let text = "[[services.shop.slis]]\nname = \"live\"\nkind = \"liveness\"\nseries = { metric = \"c\" }\n\
                [[services.shop.path_rules]]\npaths = [\"src/auth/**\"]\nrisk = \"high\"\n\
                checks = [{ sli = \"live\", ratio_max = 1.5 }]\n\
                [[services.shop.path_rules]]\npaths = [\"*.sql\"]\nrisk = \"medium\"";
    let config = read(&least_with("#sli", text).replace("#slo", "")).unwrap();
    let rules = &shop(&config).bounds.path_rules;
    assert_eq!((rules[0].risk, rules[1].risk), (Risk::High, Risk::Medium));
    assert_eq!(
        (rules[1].paths.as_slice(), rules[1].checks.as_slice()),
        (["*.sql".to_owned()].as_slice(), [].as_slice())
    );
    let check = &rules[0].checks[0];
    assert_eq!((&check.name, check.ratio_max), (&CheckName::new("live"), 1.5));
    assert_eq!((check.origin, check.weight), (Origin::Slo, Weight::Critical));
    assert_eq!(check.rationale, Text::new("changes to these paths must have it"));
}

/// A file whose list has that many elements.
type Made<'a> = &'a dyn Fn(usize) -> String;

#[test]
fn probes_headers_and_rules_have_their_edges() {
    let probes = |count: usize| {
        let probe = |place: usize| PROBE.replace("home", &format!("p{place}"));
        least_with("#slo", &(0..count).map(probe).collect::<String>())
    };
    let headers = |count: usize| {
        let headers: Vec<String> = (0..count).map(|place| format!("h{place} = \"x\"")).collect();
        least_with("#slo", &format!("{PROBE}headers = {{ {} }}", headers.join(", ")))
    };
    let rules = |count: usize| {
        let rule = "[[services.shop.path_rules]]\npaths = [\"a\"]\nrisk = \"high\"\n";
        least_with("#slo", &rule.repeat(count))
    };
    let lists: [(Made<'_>, usize, &str); 3] = [
        (&probes, PROBES_MAX, "services.shop.probes: has 33 probes; write at most 32"),
        (&headers, HEADERS_MAX, "services.shop.probes[0].headers: has 17 headers; write at most 16"),
        (&rules, PATH_RULES_MAX, "services.shop.path_rules: has 51 rules; write at most 50"),
    ];
    for (text, most, told) in lists {
        assert!(read(&text(most)).is_ok(), "{told}: {:?}", read(&text(most)).err());
        let problems = lines(&config::read(&text(most + 1), "t.toml", &super::env).unwrap_err());
        assert!(problems.iter().any(|line| line.contains(told)), "{told}: {problems:?}");
    }
}
