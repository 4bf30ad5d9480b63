//! Entries as earlier versions wrote them, word for word: a journal outlives the program that began it, so what a newer
//! version has learnt to say must have a default wherever an older one did not say it.

#![expect(clippy::unwrap_used, reason = "an entry that cannot be read is what this test is for")]

use tollgate::{
    domain::{Aim, Outcome, Risk, RolloutId, Stamped, Timestamp, WayBack},
    plan::Source,
    rollout::{Effect, Event, Fleet, RiskBake},
};

/// Before models were asked: a policy without them, without probes, path rules or risks, and checks without an aim.
const STARTED: &str = r#"{"started":{"policy":{"version":"v1","services":{"shop":{"repository":"acme/shop","paths":["**"],
"branch":null,"deployed":"on_merge","autonomy":"auto","stages":[{"exposure":{"share":500,"cohorts":[],"mirror":0},
"bake_time":60000},{"exposure":{"share":10000,"cohorts":[],"mirror":0},"bake_time":60000}],"bounds":{"catalogue":{
"entries":[{"name":"errors","sli":{"ratio":{"bad":{"metric":"requests_total","matchers":[{"label":"code","value":{
"starts_with":"5"}}]},"total":{"metric":"requests_total","matchers":[]}}},"route_label":"route","segment_label":null,
"tenant_label":null}],"traffic":{"metric":"requests_total","matchers":[]}},"mandatory":[{"name":"errors","sli":{"ratio":{
"bad":{"metric":"requests_total","matchers":[{"label":"code","value":{"starts_with":"5"}}]},"total":{"metric":
"requests_total","matchers":[]}}},"direction":"higher_is_worse","ratio_max":1.25,"limit":{"bad_share_max":0.2,
"total_min":20,"bad_min":5},"weight":"critical","origin":"slo","rationale":"users see errors","lines":[],"split":{
"segments":null,"tenants":null}}],"proposed_max":20,"ratio_max":3.0},"alpha":0.001,"look_every":30000,"measure_every":
30000,"samples_min":10,"step_max":10000,"blackout_after":180000,"patience":1800000,"pause_max":3600000,"watch":300000,
"deploy_within":3600000,"reply_within":20000,"attempts_max":3,"drained_within":180000,"pod_incident":180000,"safe_ratio":
2.0,"bake_time_shown_safe":null}},"rollouts_max":100,"finished_kept":100}}}"#;
/// Older still: a policy that says neither how long a pod may fail nor what is safe, and a check without a split.
const STARTED_OLDER: &str = r#"{"started":{"policy":{"version":"v0","services":{"shop":{"repository":"acme/shop","paths":
["**"],"branch":null,"deployed":"on_merge","autonomy":"auto","stages":[],"bounds":{"catalogue":{"entries":[{"name":"e",
"sli":{"level":{"gauge":{"metric":"depth"}}},"route_label":null}],"traffic":null},"mandatory":[{"name":"e","sli":{"level":
{"gauge":{"metric":"depth"}}},"direction":"higher_is_worse","ratio_max":1.25,"limit":null,"weight":"critical","origin":
"slo","rationale":""}],"proposed_max":20,"ratio_max":3.0},"alpha":0.001,"look_every":30000,"measure_every":30000,
"samples_min":10,"step_max":10000,"blackout_after":180000,"patience":1800000,"pause_max":3600000,"watch":300000,
"deploy_within":3600000,"reply_within":20000,"attempts_max":3,"drained_within":180000}},"rollouts_max":100,
"finished_kept":100}}}"#;
const MERGED: &str = r#"{"pull_request_merged":{"delivery":"d1","repository":"acme/shop","pull_request":1,"branch":"main",
"into_default":true}}"#;
const FETCHED: &str = r#"{"change_fetched":{"request":1,"change":{"Ok":{"repository":"acme/shop","pull_request":1,"title":
"change 1","author":"author","merged_by":null,"base":"00000000000000000000000000000000000003e9","revision":
"0000000000000000000000000000000000000001","files":[{"path":"main.rs","previous_path":null,"kind":"modified"}],
"files_cut":false}}}}"#;
const DRAFTED: &str = r#"{"drafted":{"request":2,"rollout":1,"draft":{"Ok":{"checks":[{"name":"errors on /a","sli":{"ratio":{
"bad":{"metric":"requests_total","matchers":[{"label":"code","value":{"starts_with":"5"}},{"label":"route","value":{"is":
"/a"}}]},"total":{"metric":"requests_total","matchers":[{"label":"route","value":{"is":"/a"}}]}}},"direction":
"higher_is_worse","ratio_max":1.25,"limit":null,"weight":"critical","origin":"heuristic","rationale":"a route","lines":[{
"path":"a.rs","line":3}],"split":{"segments":null,"tenants":null}}],"way_back":{"one_way":{"why":"drops","lines":[]}},
"notes":["note"]}}}}"#;
const NOT_DRAFTED: &str = r#"{"drafted":{"request":2,"rollout":1,"draft":{"Err":"no diff"}}}"#;
const SHIFTED: &str = r#"{"shifted":{"request":3,"rollout":1,"read":{"Ok":{"share":500,"cohorts":[],"mirror":0}}}}"#;
const MEASURED: &str = r#"{"measured":{"request":4,"rollout":1,"through":1800000030000,"measurements":[{"check":0,"arm":
"control","window":{"after":1800000000000,"through":1800000030000},"tally":{"Ok":{"counts":{"bad":1,"total":1000}}},
"parts":[]},{"check":0,"arm":"canary","window":{"after":1800000000000,"through":1800000030000},"tally":{"Ok":{"counts":{
"bad":40,"total":100}}},"parts":[]}]}}"#;

fn entry(at: u64, text: &str) -> Stamped<Event> {
    Stamped { at: Timestamp::from_millis(1_800_000_000_000 + at), event: serde_json::from_str(text).unwrap() }
}

#[test]
fn entries_of_before_models_were_asked_are_read_and_fold() {
    let mut fleet = Fleet::default();
    let entries = [(0, STARTED), (0, MERGED), (0, FETCHED), (0, DRAFTED), (0, SHIFTED), (30_000, MEASURED)];
    let effects: Vec<Effect> = entries.iter().flat_map(|(at, text)| fleet.handle(&entry(*at, text))).collect();
    let view = fleet.view_of(RolloutId(1)).unwrap();
    assert_eq!((view.source, view.risk, view.usage), (Some(Source::Heuristic), Some(Risk::Low), None));
    assert_eq!(view.checks.len(), 2);
    assert!(view.checks.iter().all(|check| check.aim == Aim::Guard && check.trial.is_none()));
    assert_eq!((view.share, view.one_way.as_deref()), (500, Some("drops")));
    assert!(view.objections.iter().any(|objection| objection.rail == "hard_slo"), "{:?}", view.objections);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Advise { .. } | Effect::Narrate { .. })));
    assert_eq!(view.outcome, None::<Outcome>);
}

#[test]
fn what_an_older_version_did_not_say_has_its_default() {
    let Event::Started { policy } = entry(0, STARTED).event else { panic!() };
    let service = policy.services.values().next().unwrap();
    assert_eq!((&service.model, service.risk_bake), (&None, RiskBake { medium: 1.0, high: 1.0 }));
    assert_eq!(service.control, tollgate::domain::ControlAge::Running);
    let bounds = &service.bounds;
    assert!(!bounds.beyond_catalogue && bounds.probes.is_empty() && bounds.path_rules.is_empty());
    let Event::Started { policy } = entry(0, STARTED_OLDER).event else { panic!() };
    assert_eq!(policy.services.values().next().unwrap().safe_ratio, 2.0);
    let Event::Measured { measurements, .. } = entry(0, MEASURED).event else { panic!() };
    assert!(measurements.iter().all(|measurement| !measurement.estimated), "everything was counted by ourselves");
    let Event::Drafted { draft, conversation, .. } = entry(0, DRAFTED).event else { panic!() };
    let draft = draft.unwrap();
    assert_eq!((draft.risk, &draft.source, conversation), (Risk::Low, &Source::Heuristic, None));
    assert!(draft.found.is_empty() && draft.tried.is_empty() && draft.uncovered.is_empty());
    assert!(matches!(draft.way_back, WayBack::OneWay { .. }));
    let Event::Drafted { draft: Err(why), .. } = entry(0, NOT_DRAFTED).event else { panic!() };
    assert_eq!(why.as_str(), "no diff");
    let written = serde_json::to_string(&entry(0, NOT_DRAFTED).event).unwrap();
    assert_eq!(written, NOT_DRAFTED, "what has nothing new to say is written as before");
}
