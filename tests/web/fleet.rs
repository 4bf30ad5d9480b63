//! A fleet as it might be: one rollout promoted, one rolled back on evidence, one that bakes under objections, and one
//! whose title was written by someone who means harm.

use std::time::Duration;

use tollgate::{
    domain::{
        Aim, Autonomy, Counts, Evidence, Finding, HardLimit, Interval, Notice, Objection, Origin, Outcome, Prose, Risk,
        RolloutId, ServiceName, Severity, Share, Text, Timestamp, Upcoming, Usage, Verdict, Weight,
    },
    plan::{Fallback, PastLevel, Power, Reason, Source, Standing},
    rollout::{CheckView, Explanation, FleetView, Intended, Moment, RolloutView, StageView, TrialView},
};

pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_700_049_600_000);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn ladder(shares: &[u16], entered: &[Timestamp]) -> Vec<StageView> {
    let stage = |(place, share): (usize, &u16)| StageView {
        exposure: format!("{}%", f64::from(*share) / 100.0),
        share: *share,
        bake_time_ms: 600_000,
        entered: entered.get(place).copied(),
        baseline: String::new(),
    };
    shares.iter().enumerate().map(stage).collect()
}

pub(crate) fn check(
    name: &str,
    origin: Origin,
    finding: Finding,
    control: Counts,
    canary: Counts,
    log_e_value: f64,
) -> CheckView {
    let effect = control.rate().zip(canary.rate()).map(|(control, canary)| canary / control);
    CheckView {
        name: name.into(),
        sli: "http_requests_total{code=~\"5.*\"} among http_requests_total".into(),
        kind: "ratio".into(),
        origin,
        weight: Weight::Critical,
        ratio_max: 1.25,
        limit: None,
        rationale: "Answers that fail are what users see first.".into(),
        lines: Vec::new(),
        finding,
        evidence: Evidence {
            log_e_value,
            log_e_safe: 0.0,
            more_seconds: None,
            is_calibrated: true,
            log_threshold: 1000.0_f64.ln(),
            effect: effect.filter(|effect| effect.is_finite()).map(short),
            interval: None,
            control,
            canary,
        },
        concern: None,
        outlook: None,
        baseline: None,
        absent: None,
        estimated: false,
        control_rate: control.rate().map(short),
        canary_rate: canary.rate().map(short),
        interval: None,
        aim: Aim::Guard,
        intended: None,
        trial: None,
    }
}

/// How a check fared on the past.
fn trial(name: &str, standing: Standing, reason: Reason, detail: &str) -> TrialView {
    let is_rejected = standing == Standing::Rejected;
    let baseline = PastLevel { rate: 0.0012, per_second: 84.0, empty: 0.0, seconds: 7_200, is_calibrated: true };
    let power = |points: u16, smallest| Power {
        share: Share::from_basis_points(points).unwrap(),
        smallest,
        twice_seconds: None,
    };
    TrialView {
        check: name.into(),
        standing,
        reason: reason.word().into(),
        detail: detail.into(),
        baseline: (!is_rejected).then_some(baseline),
        alarms: 0,
        rollouts: if is_rejected { 0 } else { 96 },
        power: if is_rejected { Vec::new() } else { vec![power(100, None), power(2_500, Some(1.75))] },
    }
}

/// Six places, which come back from JSON to the last bit.
fn short(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

pub(crate) fn counts(bad: u64, total: u64) -> Counts {
    Counts { bad, total }
}

pub(crate) fn moments(of: &[(Timestamp, &str)]) -> Vec<Moment> {
    of.iter().map(|(at, text)| Moment { at: *at, text: (*text).into() }).collect()
}

pub(crate) fn promoted(now: Timestamp) -> RolloutView {
    let (opened, at) = (now - MINUTE * 190, |minutes: u32| now - MINUTE * (190 - minutes));
    RolloutView {
        id: RolloutId(14),
        service: ServiceName::new("search"),
        repository: "acme/search".into(),
        pull_request: 871,
        title: "Rank by freshness when scores tie".into(),
        author: "mkowalski".into(),
        revision: "5f2c9e17d04bb6a1".into(),
        control_revision: Some("11d70a3cf9b2e845".into()),
        autonomy: Some(Autonomy::Auto),
        phase: "done".into(),
        outcome: Some(Outcome::Promoted),
        paused: false,
        next: None,
        share: 10_000,
        exposure: "100%".into(),
        stage: None,
        stages: ladder(&[100, 1_000, 5_000, 10_000], &[at(4), at(16), at(31), at(46)]),
        opened,
        ended: Some(at(76)),
        verdict: Some(Verdict::Promote),
        objections: Vec::new(),
        one_way: None,
        checks: vec![check(
            "availability",
            Origin::Slo,
            Finding::Healthy,
            counts(412, 980_114),
            counts(388, 941_870),
            -2.4,
        )],
        rejections: Vec::new(),
        notes: Vec::new(),
        exposures: vec![(at(4), 100), (at(16), 1_000), (at(31), 5_000), (at(46), 10_000)],
        timeline: moments(&[(opened, "merged by rsingh"), (at(4), "exposed to 1%"), (at(76), "promoted")]),
        source: None,
        risk: None,
        rejected_trials: Vec::new(),
        uncovered: Vec::new(),
        usage: None,
        held_by_advice_until: None,
        warming_up_until: None,
        cold: Counts::default(),
        shares_off: None,
        concentration: None,
        explanation: None,
    }
}

pub(crate) fn rolled_back(now: Timestamp) -> RolloutView {
    let (opened, at) = (now - MINUTE * 70, |minutes: u32| now - MINUTE * (70 - minutes));
    let mut errors =
        check("payment-errors", Origin::Model, Finding::Degraded, counts(31, 48_210), counts(64, 2_540), 11.8);
    errors.rationale =
        "The retry around the card processor was removed; failures that were retried now reach users.".into();
    errors.lines = vec!["src/payment/charge.rs:88".into(), "src/payment/charge.rs:112".into()];
    errors.interval = Some(Interval { low: 21.4, high: 63.0 });
    let mut latency =
        check("slow-requests", Origin::Slo, Finding::Inconclusive, counts(402, 48_210), counts(31, 2_540), 1.9);
    latency.kind = "latency".into();
    latency.sli = "requests over 0.5 s in http_request_duration_seconds".into();
    let mut slo = check("availability", Origin::Slo, Finding::Degraded, counts(44, 48_210), counts(71, 2_540), 12.6);
    slo.limit = Some(HardLimit { bad_share_max: 0.02, total_min: 200, bad_min: 5 });
    RolloutView {
        id: RolloutId(15),
        service: ServiceName::new("checkout"),
        repository: "acme/shop".into(),
        pull_request: 411,
        title: "Simplify the charge path".into(),
        author: "jdoe".into(),
        phase: "done".into(),
        outcome: Some(Outcome::RolledBack),
        share: 0,
        exposure: "0%".into(),
        stages: ladder(&[100, 500, 2_500, 10_000], &[at(3), at(14)]),
        opened,
        ended: Some(at(22)),
        verdict: Some(Verdict::Rollback),
        objections: vec![Objection {
            rail: "regression".into(),
            at_most: Verdict::Rollback,
            why: Text::new("payment-errors is 39 times control, with evidence 11.8 of 6.9"),
            page: false,
        }],
        checks: vec![slo, errors, latency],
        rejections: vec![("gpu-temperature".into(), "metric gpu_celsius is not in the service's catalogue".into())],
        notes: vec!["the model read 4 of 4 files".into()],
        exposures: vec![(at(3), 100), (at(14), 500), (at(21), 0)],
        timeline: moments(&[
            (opened, "merged by rsingh"),
            (at(2), "plan admitted: 3 checks, 1 refused"),
            (at(3), "exposed to 1%"),
            (at(14), "exposed to 5%"),
            (at(20), "payment-errors degraded: rolling back"),
            (at(21), "exposed to nobody"),
            (at(22), "rolled back: the canary's traffic is gone"),
        ]),
        ..promoted(now)
    }
}

pub(crate) fn baking(now: Timestamp) -> RolloutView {
    let (opened, at) = (now - MINUTE * 21, |minutes: u32| now - MINUTE * (21 - minutes));
    let mut cache = check("price-cache-misses", Origin::Heuristic, Finding::NoData, counts(0, 0), counts(0, 0), 0.0);
    cache.kind = "events_per_traffic".into();
    cache.sli = "price_cache_misses_total for each http_requests_total".into();
    cache.weight = Weight::Advisory;
    cache.absent = Some("control: no data; canary: unavailable: connection refused".into());
    cache.rationale = "The diff adds this counter.".into();
    cache.lines = vec!["src/price/cache.rs:41".into()];
    let mut stale =
        check("stale-prices", Origin::Model, Finding::Inconclusive, counts(12, 61_002), counts(9, 14_230), 3.4);
    stale.trial = Some(trial("stale-prices", Standing::Admitted, Reason::Sound, ""));
    let mut faster =
        check("price-latency", Origin::Model, Finding::Inconclusive, counts(900, 61_002), counts(90, 14_230), 2.2);
    faster.weight = Weight::Advisory;
    faster.aim = Aim::Improvement;
    faster.intended = Some(Intended::NotSeen);
    RolloutView {
        id: RolloutId(17),
        service: ServiceName::new("checkout"),
        repository: "acme/shop".into(),
        pull_request: 412,
        title: "Cache prices for a minute, and drop the old price table".into(),
        author: "alice".into(),
        revision: "abcdef0123456789".into(),
        control_revision: Some("9e107d9d372bb682".into()),
        autonomy: Some(Autonomy::Guard),
        phase: "baking".into(),
        outcome: None,
        next: Some(Upcoming { what: Text::new("review of stage 3 of 5"), at: now + Duration::from_secs(222) }),
        share: 2_500,
        exposure: "25%".into(),
        stage: Some(2),
        stages: ladder(&[100, 500, 2_500, 5_000, 10_000], &[at(3), at(8), at(15)]),
        ended: None,
        opened,
        verdict: Some(Verdict::Hold),
        objections: vec![
            Objection {
                rail: "bake_time".into(),
                at_most: Verdict::Hold,
                why: Text::new("3m 42s of 10m left"),
                page: false,
            },
            Objection {
                rail: "reversibility".into(),
                at_most: Verdict::Hold,
                why: Text::new("a migration drops a table: the old version cannot take the traffic back"),
                page: true,
            },
        ],
        one_way: Some("migrations/0042_drop_prices.sql drops a table that the old version reads".into()),
        checks: vec![
            check("availability", Origin::Slo, Finding::Healthy, counts(88, 61_002), counts(17, 14_230), -1.1),
            stale,
            cache,
            faster,
        ],
        source: Some(Source::Model { model: Text::new("gpt-5-mini"), is_cached: false }),
        risk: Some(Risk::Medium),
        rejected_trials: vec![trial(
            "cold-starts",
            Standing::Rejected,
            Reason::Unknown,
            "the service does not show cold_starts_total",
        )],
        uncovered: vec!["web/static/vendor.js".into()],
        usage: Some(Usage {
            input_tokens: 9_000,
            cached_tokens: 6_000,
            output_tokens: 120,
            micro_dollars: Some(12_345),
        }),
        held_by_advice_until: Some(now + MINUTE * 9),
        rejections: Vec::new(),
        notes: Vec::new(),
        exposures: vec![(at(3), 100), (at(8), 500), (at(15), 2_500)],
        timeline: moments(&[(opened, "merged by rsingh"), (at(3), "exposed to 1%"), (at(15), "exposed to 25%")]),
        ..promoted(now)
    }
}

pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)><script>document.title='owned'</script>";

pub(crate) fn hostile(now: Timestamp) -> RolloutView {
    RolloutView {
        id: RolloutId(18),
        service: ServiceName::new("search"),
        title: HOSTILE.into(),
        author: "\"><b>mallory".into(),
        phase: "drafting".into(),
        outcome: None,
        next: None,
        share: 0,
        exposure: "0%".into(),
        stages: Vec::new(),
        checks: Vec::new(),
        exposures: Vec::new(),
        timeline: moments(&[(now - MINUTE, HOSTILE)]),
        opened: now - MINUTE,
        ended: None,
        verdict: None,
        source: Some(Source::Fallback { why: Fallback::OverBudget, detail: Text::new(HOSTILE) }),
        explanation: Some(Explanation { model: Text::new(HOSTILE), words: Prose::new(HOSTILE) }),
        ..promoted(now)
    }
}

pub(crate) fn fleet(now: Timestamp) -> FleetView {
    FleetView {
        at: now,
        policy_version: "3b7f0c9912aa".into(),
        kill_switch: false,
        stale_replies: 3,
        fetching: 1,
        rollouts: vec![hostile(now), baking(now), rolled_back(now), promoted(now)],
    }
}

pub(crate) fn notice(text: &str) -> Notice {
    Notice {
        at: NOON,
        rollout: Some(RolloutId(17)),
        service: Some(ServiceName::new("checkout")),
        severity: Severity::Page,
        text: Text::new(text),
        next: None,
    }
}
