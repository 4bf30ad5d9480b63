//! What is meant by what was written.

use std::{collections::BTreeMap, path::Path, time::Duration};

use tollgate::{
    config::{self, ArmTargets, Flag, FlagValue, LogFormat},
    domain::{
        Aim, Autonomy, Check, CheckName, Cohort, Direction, HardLimit, Match, Origin, Selector, ServiceName, Share,
        Sli, Split, Text, Weight,
    },
    rollout::{Deployed, ServicePolicy},
};

use super::{LEAST, env, least_with, lines, read};

fn shop(text: &str) -> ServicePolicy {
    read(text).expect("accepted").policy.services.remove(&ServiceName::new("shop")).expect("shop is there")
}

#[test]
fn the_least_configuration_has_every_default() {
    let config = read(LEAST).unwrap();
    assert_eq!((config.listen.to_string().as_str(), config.public), ("127.0.0.1:7420", false));
    assert!(config.api_token.is_none() && config.github.token.is_none());
    assert_eq!((config.policy.rollouts_max, config.policy.finished_kept), (100, 200));
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Text, "info"));
    let shop = shop(LEAST);
    assert_eq!((shop.autonomy, shop.deployed), (Autonomy::Guard, Deployed::OnMerge));
    assert_eq!((shop.paths, shop.branch), (vec!["**".to_owned()], None));
    assert_eq!((shop.safe_ratio, shop.bake_time_shown_safe), (2.0, None));
    assert_eq!((shop.warm_up, shop.share_tolerance), (Duration::ZERO, Some(2.0)));
    assert_eq!(shop.pod_incident, Duration::from_secs(180));
    assert_eq!((shop.bounds.mandatory[0].ratio_max, &shop.bounds.mandatory[0].split), (1.1, &Split::default()));
    let ladder: Vec<String> = shop.stages.iter().map(|stage| stage.exposure.to_string()).collect();
    assert_eq!(ladder, ["1%", "5%", "25%", "50%", "100%"]);
}

#[test]
fn an_objective_becomes_a_critical_check_of_every_plan() {
    let slo = "ratio_max = 2\ndirection = \"lower_is_worse\"\nrationale = \"it pays us\"\n\
               limit = { bad_share_max = 2.5, total_min = 50 }";
    let errors = Sli::Ratio {
        bad: Selector::metric("http_requests_total").with("code", Match::StartsWith("5".into())),
        total: Selector::metric("http_requests_total"),
    };
    let bounds = shop(&least_with("#slo", slo).replace("#sli", "tenant_label = \"account\"")).bounds;
    let check = Check {
        name: CheckName::new("errors"),
        sli: errors.clone(),
        direction: Direction::LowerIsWorse,
        ratio_max: 2.0,
        limit: Some(HardLimit { bad_share_max: 0.025, total_min: 50, bad_min: 5 }),
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Slo,
        rationale: Text::new("it pays us"),
        lines: Vec::new(),
        split: Split { segments: None, tenants: Some("account".into()) },
    };
    assert_eq!(bounds.mandatory, [check]);
    assert_eq!(bounds.catalogue.entries.len(), 1);
    assert_eq!(bounds.catalogue.entries[0].sli, errors);
}

#[test]
fn the_catalogue_keeps_the_order_and_every_kind_and_every_comparison() {
    let slis = r#"
[[services.shop.slis]]
name = "b"
kind = "events_per_traffic"
events = { metric = "e", where = { a = { is = "1" }, b = { is_not = "" }, c = { one_of = ["x", "y"] }, d = "2" } }
[[services.shop.slis]]
name = "a"
kind = "latency"
histogram = { metric = "d" }
slow_above = "250ms"
route_label = "route"
segment_label = "region"
tenant_label = "account"
[[services.shop.slis]]
name = "level"
kind = "level"
gauge = { metric = "g" }
[[services.shop.slis]]
name = "mix"
kind = "mix"
counter = { metric = "c" }
by = "model"
"#;
    let text = least_with("#sli", slis).replace("#service", "traffic_metric = { metric = \"t\" }");
    let catalogue = shop(&text).bounds.catalogue;
    let events = Selector::metric("e")
        .with("a", Match::Is("1".into()))
        .with("b", Match::IsNot(String::new()))
        .with("c", Match::OneOf(vec!["x".into(), "y".into()]))
        .with("d", Match::Is("2".into()));
    let traffic = Selector::metric("t");
    let read: Vec<(&str, &Sli)> =
        catalogue.entries.iter().skip(1).map(|entry| (entry.name.as_str(), &entry.sli)).collect();
    assert_eq!(
        read,
        [
            ("b", &Sli::EventsPerTraffic { events, traffic: traffic.clone() }),
            ("a", &Sli::Latency { histogram: Selector::metric("d"), slow_above_seconds: 0.25 }),
            ("level", &Sli::Level { gauge: Selector::metric("g") }),
            ("mix", &Sli::Mix { counter: Selector::metric("c"), by: "model".into() }),
        ]
    );
    assert_eq!(catalogue.entries[2].route_label.as_deref(), Some("route"));
    let split = Split { segments: Some("region".into()), tenants: Some("account".into()) };
    assert_eq!((catalogue.entries[2].split(), catalogue.entries[1].split()), (split, Split::default()));
    assert_eq!(catalogue.traffic, Some(traffic));
}

#[test]
fn stages_have_shares_cohorts_and_bake_times() {
    let text = least_with(
        "#service",
        "step_max = 100\nstages = [{ share = \"0%\", cohorts = { ring = [\"a\", \"b\"] }, bake_time = \"1h\" },\n\
         { share = \"12.34%\", cohorts = { ring = [\"b\", \"a\"], tier = \"x\" }, bake_time = \"0s\" }, { share = 100 }]",
    );
    let stages = shop(&text).stages;
    let cohort = |attribute: &str, value: &str| Cohort { attribute: attribute.into(), value: value.into() };
    assert_eq!(stages.len(), 3);
    assert_eq!(stages[0].exposure.cohorts, [cohort("ring", "a"), cohort("ring", "b")].into());
    assert_eq!((stages[0].exposure.share, stages[0].bake_time), (Share::NONE, Duration::from_secs(3_600)));
    assert_eq!((stages[1].exposure.share.basis_points(), stages[1].bake_time), (1_234, Duration::ZERO));
    assert!(stages[2].exposure.is_full());
}

#[test]
fn a_stage_may_end_early_only_where_that_is_written() {
    let shop = shop(&least_with("#service", "safe_ratio = 1.5\nbake_time_shown_safe = \"90s\""));
    assert_eq!((shop.safe_ratio, shop.bake_time_shown_safe), (1.5, Some(Duration::from_secs(90))));
    let watched = self::shop(&least_with("#service", "warm_up = \"15m\"\nshare_tolerance = 0"));
    assert_eq!((watched.warm_up, watched.share_tolerance), (Duration::from_secs(900), None));
    let mut old = serde_json::to_value(&shop).unwrap();
    old.as_object_mut().unwrap().retain(|key, _| {
        !["pod_incident", "warm_up", "share_tolerance", "safe_ratio", "bake_time_shown_safe"].contains(&key.as_str())
    });
    let old: ServicePolicy = serde_json::from_value(old).unwrap();
    assert_eq!((old.safe_ratio, old.bake_time_shown_safe), (2.0, None), "a policy of an older journal still reads");
}

#[test]
fn arms_and_flags_are_by_service() {
    let text = least_with("#control", "labels = { version = \"{revision}\" }").replace(
        "#service",
        "flag = { value = \"variant\" }\ntelemetry.interval = \"10s\"\ntelemetry.pod_label = \"pod\"",
    );
    let config = read(&text).unwrap();
    let name = ServiceName::new("shop");
    let labels = BTreeMap::from([("version".to_owned(), "{revision}".to_owned())]);
    let control = ArmTargets { urls: vec!["http://old:9100/metrics".into()], labels };
    assert_eq!(config.telemetry[&name].control, control);
    assert_eq!(config.telemetry[&name].interval, Duration::from_secs(10));
    assert_eq!(config.telemetry[&name].pod_label.as_deref(), Some("pod"));
    assert_eq!(config.traffic[&name], Flag { key: "shop".into(), value: FlagValue::Variant });
}

#[test]
fn the_policy_version_is_of_what_decides_and_of_nothing_else() {
    let version = |text: &str| read(text).unwrap().policy.version;
    let plain = version(LEAST);
    assert_eq!(plain, version(&LEAST.replace("#service", "# a comment\n\nalpha = 0.001")), "a default written out");
    assert_eq!(plain, version(&least_with("#top", "log = { format = \"json\" }")));
    assert_ne!(plain, version(&least_with("#service", "alpha = 0.002")));
    assert_ne!(plain, version(&least_with("sli = \"errors\"", "sli = \"errors\"\nratio_max = 1.6")));
    assert_ne!(plain, version(&least_with("#top", "fleet = { rollouts_max = 99 }")));
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let dir = |file: &str, text: &str| config::read(text, file, &env).unwrap().journal.dir;
    assert_eq!(dir("/etc/tollgate/t.toml", LEAST), Path::new("/etc/tollgate/tollgate-journal"));
    assert_eq!(dir("t.toml", LEAST), Path::new("tollgate-journal"));
    assert_eq!(dir("/etc/t.toml", &least_with("#top", "journal = { dir = \"/var/j\" }")), Path::new("/var/j"));
}

#[test]
fn another_machine_may_reach_it_only_with_a_token() {
    let door = "listen = \"0.0.0.0:80\"\nallow_public = true\napi_token = { env = \"A_TOKEN\" }";
    let config = read(&least_with("#top", door)).unwrap();
    assert!(config.public && config.api_token.is_some());
    let short = |name: &str| Some(if name == "A_TOKEN" { "short".to_owned() } else { env(name)? });
    let problems = config::read(&least_with("#top", door), "t.toml", &short).unwrap_err();
    assert_eq!(
        lines(&problems),
        [
            "api_token: the token can be guessed, and 0.0.0.0:80 can be reached from other machines; make one of 16 random \
          bytes or more (line 3)"
        ]
    );
}

#[test]
fn a_bare_fraction_is_per_cent_and_worth_a_second_look() {
    let config = read(&least_with("#slo", "limit = { bad_share_max = 0.05 }")).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert_eq!(
        config.warnings[1],
        "services.shop.slos[0].limit.bad_share_max: 0.05 is read as 0.05 per cent; write \"0.05%\" if that is meant"
    );
    let limit = config.policy.services[&ServiceName::new("shop")].bounds.mandatory[0].limit.unwrap();
    assert!((limit.bad_share_max - 0.0005).abs() < 1e-12);
}

#[test]
fn without_a_file_everything_has_its_default_but_there_is_no_service() {
    let config = config::embedded(&env).unwrap();
    assert!(config.policy.services.is_empty());
    assert_eq!(config.listen, read(LEAST).unwrap().listen);
    assert!(config.warnings.iter().any(|warning| warning.starts_with("services:")));
    let problems = config::embedded(&|_| None).unwrap_err();
    assert_eq!(
        lines(&problems),
        ["github.webhook_secret: the environment variable TOLLGATE_WEBHOOK_SECRET is not set; set \
          TOLLGATE_WEBHOOK_SECRET, or write { file = \"path\" }"]
    );
    assert_eq!(lines(&read("").unwrap_err()), ["services: is missing; write a table such as [services.shop]"]);
}

#[test]
fn the_check_says_what_is_there_or_what_is_wrong() {
    let accepted = read(LEAST);
    let version: String = accepted.as_ref().unwrap().policy.version.as_str().chars().take(12).collect();
    assert_eq!(
        config::check(&accepted, "t.toml"),
        format!(
            "OK: 1 service, 1 SLI, 1 objective, 1 warning, policy {version}\nwarning: github.token: is not set: public \
             repositories are read at a low rate, and nothing is written back\n"
        )
    );
    assert_eq!(
        config::check(&read(&least_with("#service", "alpha = 2\nwatch = 3")), "t.toml"),
        "services.shop.alpha: 2 is no probability; write a number between 0 and 0.5, such as 0.001 (line 4)\n\
         services.shop.watch: is a whole number; write a duration such as \"15s\", \"5m\" or \"24h\" (line 5)\n\
         REFUSED: 2 problems in t.toml\n"
    );
}

#[test]
fn a_source_may_be_looked_at_more_often_than_a_page_could_be_scraped_by_default() {
    let telemetry = "[services.shop.telemetry]\nsource = \"metrics\"\ninterval = \"1s\"\n\
                     control.labels = { version = \"stable\" }\ncanary.labels = { version = \"{revision}\" }\n";
    let arms = |url: &str| format!("urls = [\"http://{url}:9100/metrics\"]\n");
    let from_source = LEAST
        .replace("#top", "[sources.metrics]\nkind = \"prometheus\"\nurl = \"http://127.0.0.1:9090\"")
        .replace("[services.shop.telemetry.control]\n", telemetry)
        .replace("[services.shop.telemetry.canary]\n", "")
        .replace(&arms("old"), "")
        .replace(&arms("new"), "");
    let config = read(&from_source).map_err(|problems| lines(&problems)).unwrap();
    assert_eq!(config.telemetry[&ServiceName::new("shop")].interval, Duration::from_secs(1));
    let scraped = least_with(
        "[services.shop.telemetry.control]",
        "[services.shop.telemetry]\ninterval = \"1s\"\n[services.shop.telemetry.control]",
    );
    let problems = lines(&read(&scraped).unwrap_err());
    assert!(problems[0].contains("longer than the time between scrapes"), "{problems:?}");
}
