//! What admission lets a draft do beyond the catalogue, what the operator's path rules add to it, and how much of it a
//! plan keeps.

use tollgate::{
    domain::*,
    plan::{
        Admission, Bounds, Draft, Fallback, PastLevel, PathRule, Power, Reason, Source, Standing, Touched, Trial,
        Tried, admit,
    },
};

const SERVED: &[&str] = &["ratio", "latency", "events_per_traffic", "level", "mix", "liveness", "probe"];

fn requests() -> Selector {
    Selector::metric("http_requests_total")
}

fn errors() -> Sli {
    Sli::Ratio { bad: requests().with("code", Match::StartsWith("5".into())), total: requests() }
}

fn check(name: &str, sli: Sli) -> Check {
    Check {
        name: CheckName::new(name),
        sli,
        direction: Direction::HigherIsWorse,
        ratio_max: 1.5,
        limit: None,
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Model,
        rationale: Text::default(),
        lines: vec![DiffLine { path: "a.rs".into(), line: 1 }],
        split: Split::default(),
    }
}

fn objective(name: &str, sli: Sli) -> Check {
    Check { origin: Origin::Slo, lines: Vec::new(), ..check(name, sli) }
}

fn bounds() -> Bounds {
    let entry = CatalogueEntry {
        name: "errors".into(),
        sli: errors(),
        route_label: Some("route".into()),
        segment_label: None,
        tenant_label: None,
    };
    Bounds {
        catalogue: Catalogue { entries: vec![entry], traffic: Some(requests()) },
        mandatory: vec![objective("objective", errors())],
        proposed_max: 10,
        ratio_max: 2.0,
        beyond_catalogue: true,
        probes: vec!["sign-in".into()],
        path_rules: Vec::new(),
    }
}

fn metric(name: &str, kind: MetricKind, labels: &[&str]) -> Metric {
    let label = |name: &&str| MetricLabel { name: (*name).to_owned(), values: vec!["v".into()], more: false };
    Metric { name: name.into(), kind, help: Text::default(), labels: labels.iter().map(label).collect(), series: 3 }
}

fn found() -> Vec<Metric> {
    vec![
        metric("cache_hits_total", MetricKind::Counter, &["cache"]),
        metric("cache_gets_total", MetricKind::Counter, &["cache"]),
        metric("queue_depth", MetricKind::Gauge, &[]),
        metric("cache_seconds", MetricKind::Histogram, &["cache"]),
    ]
}

fn draft(checks: Vec<Check>) -> Draft {
    Draft { found: found(), ..Draft::by_rules(checks, WayBack::Open, Vec::new()) }
}

fn admitted(draft: Draft, bounds: &Bounds) -> Admission {
    admit(draft, bounds, Touched::NOTHING, SERVED, |_| Trial::default())
}

/// The reason for refusing this check alone; empty when it is admitted.
fn why(bounds: &Bounds, check: Check) -> String {
    admitted(draft(vec![check]), bounds).rejections.first().map(|r| r.why.to_string()).unwrap_or_default()
}

fn hits() -> Sli {
    Sli::Ratio { bad: Selector::metric("cache_hits_total"), total: Selector::metric("cache_gets_total") }
}

#[track_caller]
fn refused(sli: Sli, expected: &str) {
    let given = why(&bounds(), check("x", sli));
    assert!(given.contains(expected), "`{given}` does not say `{expected}`");
}

#[test]
fn beyond_the_catalogue_counts_what_telemetry_was_seen_to_have_and_nothing_else() {
    let of = |metric: &str| Selector::metric(metric);
    let is = || Match::Is("v".into());
    let events = |events, traffic| Sli::EventsPerTraffic { events, traffic };
    let seen = [
        hits(),
        hits().narrowed("cache", &is()),
        Sli::Level { gauge: of("queue_depth") },
        Sli::Latency { histogram: of("cache_seconds"), slow_above_seconds: 0.1 },
        Sli::Mix { counter: of("cache_gets_total"), by: "cache".into() },
        Sli::Liveness { series: of("cache_gets_total") },
        events(of("cache_gets_total"), requests()),
    ];
    for sli in seen {
        assert_eq!(why(&bounds(), check("x", sli.clone())), "", "{sli}");
        let within = Bounds { beyond_catalogue: false, ..bounds() };
        // An added metric's events are counted against traffic with or without.
        if !matches!(sli, Sli::EventsPerTraffic { .. }) {
            assert_ne!(why(&within, check("x", sli.clone())), "", "{sli}");
        }
    }
    refused(Sli::Level { gauge: of("nowhere") }, "nor was telemetry seen to have it");
    refused(Sli::Level { gauge: of("cache_gets_total") }, "is a counter, and a gauge is needed");
    refused(Sli::Latency { histogram: of("queue_depth"), slow_above_seconds: 1.0 }, "a histogram is needed");
    refused(Sli::Liveness { series: of("queue_depth") }, "is a gauge, and a counter is needed");
    refused(Sli::Ratio { bad: of("cache_seconds"), total: of("cache_gets_total") }, "a counter is needed");
    refused(hits().narrowed("user", &is()), "has no label user");
    refused(Sli::Mix { counter: of("cache_gets_total"), by: "user".into() }, "has no label user");
    let narrow = of("cache_gets_total").with("cache", is());
    refused(Sli::Ratio { bad: of("cache_gets_total"), total: narrow }, "not among all");
    refused(events(of("cache_hits_total"), of("cache_gets_total")), "counted against http_requests_total");
    let untold = admitted(Draft { found: Vec::new(), ..draft(vec![check("x", hits())]) }, &bounds());
    assert!(untold.rejections[0].why.as_str().contains("nor was telemetry"), "{:?}", untold.rejections);
}

#[test]
fn only_the_first_metrics_of_a_draft_are_looked_at() {
    let many = |before: usize| {
        let mut all = vec![metric("other", MetricKind::Gauge, &[]); before];
        all.push(metric("last", MetricKind::Gauge, &[]));
        let level = Sli::Level { gauge: Selector::metric("last") };
        admitted(Draft { found: all, ..draft(vec![check("x", level)]) }, &bounds()).rejections.len()
    };
    assert_eq!((many(511), many(512)), (0, 1));
}

#[test]
fn a_probe_is_one_that_there_is() {
    assert_eq!(why(&bounds(), check("x", Sli::Probe { probe: "sign-in".into() })), "");
    refused(Sli::Probe { probe: "http://169.254.169.254/".into() }, "there is no probe of this name");
}

#[test]
fn nothing_that_goes_on_is_worse_by_going_on() {
    for sli in [Sli::Probe { probe: "sign-in".into() }, Sli::Liveness { series: Selector::metric("cache_gets_total") }]
    {
        let turned = Check { direction: Direction::LowerIsWorse, ..check("x", sli) };
        assert!(why(&bounds(), turned).contains("more is worse"));
    }
}

#[test]
fn an_improvement_advises_only_whoever_asks_for_it() {
    let latency = Sli::Latency { histogram: Selector::metric("cache_seconds"), slow_above_seconds: 0.1 };
    let improvement = |name, sli| Check { aim: Aim::Improvement, ..check(name, sli) };
    let mut operators = bounds();
    let limit = Some(HardLimit { bad_share_max: 0.1, total_min: 1, bad_min: 1 });
    operators.mandatory.push(Check { aim: Aim::Improvement, limit, ..objective("asked", hits()) });
    let guard = check("guard", latency.clone());
    let Admission { plan, rejections, mandatory } =
        admitted(draft(vec![guard, improvement("faster", latency)]), &operators);
    assert_eq!((rejections.len(), mandatory), (0, 2), "the same may be guarded and meant to improve: {rejections:?}");
    let weights: Vec<_> = plan.checks().iter().map(|check| check.weight).collect();
    assert_eq!(weights, [Weight::Critical, Weight::Advisory, Weight::Critical, Weight::Advisory]);
    assert_eq!(plan.checks()[1].limit, None, "a hard limit is no improvement");
    let mix = Sli::Mix { counter: Selector::metric("cache_gets_total"), by: "cache".into() };
    assert!(why(&bounds(), improvement("x", mix)).contains("a mix does not improve"));
    let turned = Check { direction: Direction::LowerIsWorse, ..improvement("x", errors()) };
    assert!(why(&bounds(), turned).contains("other direction"), "improving is the other way from worse, still");
}

fn tried(name: &str, standing: Standing) -> Tried {
    Tried {
        check: CheckName::new(name),
        standing,
        reason: Reason::Noisy,
        detail: Text::new("nine times of ten"),
        baseline: None,
        trial: Trial { alarms: 9, rollouts: 10 },
        power: Vec::new(),
    }
}

fn by_model(checks: Vec<Check>, tried: Vec<Tried>) -> Draft {
    Draft { source: Source::Model { model: Text::new("m1"), is_cached: false }, tried, ..draft(checks) }
}

#[test]
fn what_was_demoted_never_decides_and_what_was_rejected_never_comes_in() {
    let slis = [
        hits(),
        Sli::Level { gauge: Selector::metric("queue_depth") },
        errors().narrowed("route", &Match::Is("/a".into())),
    ];
    let names = ["sound", "demoted", "rejected"];
    let checks = || names.iter().zip(slis.clone()).map(|(name, sli)| check(name, sli)).collect::<Vec<_>>();
    let trials = vec![
        tried("sound", Standing::Admitted),
        tried("demoted", Standing::Demoted),
        tried("rejected", Standing::Rejected),
        tried("rejected", Standing::Admitted),
    ];
    let Admission { plan, rejections, .. } = admitted(by_model(checks(), trials), &bounds());
    let got: Vec<_> = plan.checks().iter().skip(1).map(|check| (check.name.as_str(), check.weight)).collect();
    assert_eq!(got, [("sound", Weight::Critical), ("demoted", Weight::Advisory)]);
    assert_eq!(rejections[0].why.as_str(), "it was tried and rejected: noisy: nine times of ten");
    assert_eq!(plan.tried().len(), 4);
    // A model's check that was not tried at all decides nothing either; one of rules is judged by its rehearsals.
    let untried = admitted(by_model(vec![check("x", hits())], Vec::new()), &bounds());
    assert_eq!(untried.plan.checks()[1].weight, Weight::Advisory);
    assert!(untried.plan.notes().iter().any(|note| note.as_str() == "x advises only: it was not tried on the past"));
    assert_eq!(admitted(draft(vec![check("x", hits())]), &bounds()).plan.checks()[1].weight, Weight::Critical);
}

#[test]
fn a_plan_says_who_made_it() {
    let noted = |source: Source| {
        let plan = admitted(Draft { source, ..draft(Vec::new()) }, &bounds()).plan;
        plan.notes()[0].to_string()
    };
    let model = |is_cached| Source::Model { model: Text::new("m1"), is_cached };
    assert_eq!(noted(Source::Heuristic), "planned by rules");
    assert_eq!(noted(model(false)), "planned by model m1");
    assert_eq!(noted(model(true)), "planned by model m1, which had planned the same before");
    let fallback = Source::Fallback { why: Fallback::OverBudget, detail: Text::new("the day's tokens are used up") };
    assert_eq!(
        noted(fallback),
        "planned by rules, because the model could not be used (over budget): the day's tokens are used up"
    );
}

fn touched(path: &str, previous: Option<&str>) -> FileTouched {
    FileTouched { path: path.into(), previous_path: previous.map(str::to_owned), kind: TouchKind::Modified }
}

fn rule(paths: &[&str], risk: Risk, checks: Vec<Check>) -> PathRule {
    PathRule { paths: paths.iter().map(|path| (*path).to_owned()).collect(), risk, checks }
}

#[test]
fn a_rule_adds_its_checks_and_its_risk_where_a_file_fits_and_only_there() {
    let latency = objective("latency", Sli::Latency { histogram: Selector::metric("s"), slow_above_seconds: 1.0 });
    let rules = vec![
        rule(&["pay/**", "billing/**"], Risk::High, vec![latency.clone(), objective("objective", errors())]),
        rule(&["**/*.sql"], Risk::Medium, vec![latency]),
    ];
    let bounds = Bounds { path_rules: rules, ..bounds() };
    let plan = |files: &[FileTouched], cut: bool, risk: Risk| {
        let draft = Draft { risk, ..draft(Vec::new()) };
        let admission = admit(draft, &bounds, Touched { files, cut }, SERVED, |_| Trial::default());
        let names: Vec<_> = admission.plan.checks().iter().map(|check| check.name.to_string()).collect();
        assert_eq!(names.len(), admission.mandatory);
        (names.join(" "), admission.plan.risk())
    };
    let nothing = ("objective".to_owned(), Risk::Low);
    let both = |risk| ("objective latency".to_owned(), risk);
    assert_eq!(plan(&[], false, Risk::Low), nothing);
    assert_eq!(plan(&[touched("docs/pay.md", None)], false, Risk::Low), nothing);
    assert_eq!(plan(&[touched("x.md", None), touched("pay/a.rs", None)], false, Risk::Low), both(Risk::High));
    assert_eq!(plan(&[touched("x.rs", Some("billing/x.rs"))], false, Risk::Low), both(Risk::High), "moved away");
    assert_eq!(plan(&[touched("m/1.sql", None)], false, Risk::Low), both(Risk::Medium));
    assert_eq!(plan(&[touched("m/1.sql", None)], false, Risk::High), both(Risk::High), "a draft may raise it");
    assert_eq!(plan(&[touched("pay/1.sql", None)], false, Risk::Low), both(Risk::High), "once, and the largest");
    assert_eq!(plan(&[], true, Risk::Low), both(Risk::High), "what was cut may have touched anything");
}

#[test]
fn a_rule_that_cannot_be_read_applies_and_two_checks_of_one_name_are_both_kept() {
    let other = objective("objective", hits());
    let bounds = Bounds { path_rules: vec![rule(&["a{"], Risk::Medium, vec![other])], ..bounds() };
    let Admission { plan, mandatory, .. } = admitted(draft(Vec::new()), &bounds);
    let names: Vec<_> = plan.checks().iter().map(|check| check.name.as_str()).collect();
    assert_eq!((names, plan.risk(), mandatory), (vec!["objective", "objective (2)"], Risk::Medium, 2));
}

#[test]
fn a_draft_cannot_stand_in_for_a_rules_check() {
    let rules = vec![rule(&["**"], Risk::Low, vec![objective("hits", hits())])];
    let bounds = Bounds { path_rules: rules, ..bounds() };
    let files = [touched("a.rs", None)];
    let mild = Check { ratio_max: 2.0, ..check("mild", hits()) };
    let upside_down = Check { direction: Direction::LowerIsWorse, ..check("turned", hits()) };
    let draft = draft(vec![mild, upside_down, check("hits", Sli::Level { gauge: Selector::metric("queue_depth") })]);
    let admission = admit(draft, &bounds, Touched { files: &files, cut: false }, SERVED, |_| Trial::default());
    assert_eq!(admission.plan.checks().len(), 2);
    let why: Vec<_> = admission.rejections.iter().map(|rejection| rejection.why.as_str()).collect();
    assert_eq!(why[0], "another check measures the same");
    assert_eq!(why[1], "the objective hits says the other direction is worse");
    assert_eq!(why[2], "another check has this name");
}

#[test]
fn what_a_plan_keeps_of_trials_and_of_files_is_bounded_and_finite() {
    let share = Share::from_basis_points(100).unwrap();
    let power = Power { share, smallest: Some(f64::NAN), twice_seconds: Some(f64::INFINITY) };
    let baseline = PastLevel { rate: f64::NAN, per_second: 1.0, empty: 0.0, seconds: 1, is_calibrated: true };
    let trial = Tried {
        baseline: Some(baseline),
        power: vec![power; 17],
        ..tried(&format!("a\n{}", "b".repeat(10_000)), Standing::Admitted)
    };
    let uncovered = |files: usize| {
        let draft =
            Draft { uncovered: vec![Text::new("f"); files], tried: vec![trial.clone(); 65], ..draft(Vec::new()) };
        admitted(draft, &bounds()).plan
    };
    let plan = uncovered(65);
    assert_eq!((plan.tried().len(), plan.tried()[0].power.len()), (64, 16));
    let kept = &plan.tried()[0];
    assert_eq!((kept.baseline, kept.power[0].smallest, kept.power[0].twice_seconds), (None, None, None));
    assert!(kept.check.as_str().len() <= 400 && !kept.check.as_str().contains('\n'));
    assert_eq!((plan.uncovered().len(), plan.uncovered()[63].as_str()), (64, "and 2 more"));
    assert_eq!(uncovered(64).uncovered()[63].as_str(), "f");
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<tollgate::plan::Plan>(&text).unwrap(), plan);
}
