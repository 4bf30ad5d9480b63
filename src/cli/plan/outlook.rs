//! What each stage of a ladder could see of a plan's checks at a known traffic, as a table for people.

use std::{fmt::Write, str::FromStr, time::Duration};

use anyhow::Context;
use humantime::format_duration;
use serde::Serialize;

use crate::{
    domain::{Check, Exposure, Sli},
    rollout::ServicePolicy,
    stats::{
        Calibration, multiplicity,
        planning::{self, Counted, Criterion, Foreseen, Leg, Load, Obstacle, Outlook},
    },
};

/// How much is taken to be bad on the old version where nobody says so: of requests, and of anything else.
const ASSUMED_BAD: f64 = 0.001;
const ASSUMED_OTHER: f64 = 0.01;
/// Canary pods that are reckoned with: how many there will be is not known here.
const PODS_ASSUMED: u8 = 1;

/// A value for one check, or for all that have none of their own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named<T> {
    check: Option<String>,
    value: T,
}

/// Requests in a second, above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RequestsPerSecond(f64);

/// A part of all, above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BadRate(f64);

impl<T: FromStr<Err = String>> FromStr for Named<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A check's name may hold anything, its value no equals sign.
        match text.rsplit_once('=') {
            Some(("", _)) => Err(format!("`{text}` names no check before the `=`")),
            Some((check, value)) => Ok(Self { check: Some(check.into()), value: value.parse()? }),
            None => Ok(Self { check: None, value: text.parse()? }),
        }
    }
}

impl FromStr for RequestsPerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
        number.map(Self).ok_or_else(|| format!("`{text}` is no traffic: write a number above 0, such as 250"))
    }
}

impl FromStr for BadRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|digits| digits.trim_end().parse().ok());
        let percent = percent.filter(|percent: &f64| percent.is_finite() && *percent > 0.0);
        percent
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| format!("`{text}` is no rate: write per cent above 0% with their sign, such as 0.5%"))
    }
}

/// What one stage could see.
#[derive(Debug, Serialize)]
pub(super) struct StageOutlook<'a> {
    exposure: &'a Exposure,
    bake_time_seconds: f64,
    checks: Vec<CheckOutlook>,
}

#[derive(Debug, Serialize)]
struct CheckOutlook {
    check: String,
    requests_per_second: f64,
    bad_rate: f64,
    /// Nobody said how much is bad.
    is_assumed: bool,
    #[serde(skip)]
    unit: &'static str,
    ratio_max: f64,
    safe_ratio: f64,
    /// `None` where the kind of the check's SLI has no forecast.
    outlook: Option<Outlook>,
}

/// What each stage could see; `None` where the traffic is not known.
pub(super) fn of<'a>(
    service: &'a ServicePolicy,
    checks: &[Check],
    traffic: &[Named<RequestsPerSecond>],
    bad: &[Named<BadRate>],
) -> anyhow::Result<Option<Vec<StageOutlook<'a>>>> {
    if traffic.is_empty() {
        return Ok(None);
    }
    all_are_known(checks, traffic.iter().map(|named| &named.check))?;
    all_are_known(checks, bad.iter().map(|named| &named.check))?;
    // As the rollout weighs its checks; an advisory one is foretold as if it were critical.
    let weights = multiplicity::weights(&checks.iter().collect::<Vec<_>>());
    let critical = weights.iter().filter(|weight| **weight > 0.0).count().max(1);
    let threshold = |weight: f64| {
        if weight > 0.0 { -(service.alpha * weight).ln() } else { (critical as f64 / service.alpha).ln() }
    };
    let mut stages: Vec<StageOutlook<'_>> = service
        .stages
        .iter()
        .map(|stage| StageOutlook {
            exposure: &stage.exposure,
            bake_time_seconds: stage.bake_time.as_secs_f64(),
            checks: Vec::new(),
        })
        .collect();
    for (check, weight) in checks.iter().zip(weights) {
        let log_threshold = threshold(weight);
        let (load, is_assumed) = load(service, check, traffic, bad)?;
        let criterion = Criterion { safe_ratio: service.safe_ratio, ..Criterion::of(check, log_threshold) };
        let criterion = criterion.among_pods(&Calibration::untrusted(), PODS_ASSUMED);
        let mut before = Vec::new();
        for (stage, shown) in service.stages.iter().zip(&mut stages) {
            let leg = load.map(|load| Leg {
                load: Load { share: stage.exposure.share.fraction(), ..load },
                lasts: stage.bake_time,
            });
            shown.checks.push(CheckOutlook {
                check: check.name.to_string(),
                requests_per_second: load.map_or(0.0, |load| load.requests_per_second),
                bad_rate: load.map_or(0.0, |load| load.bad_rate),
                is_assumed,
                unit: unit(&check.sli),
                ratio_max: criterion.ratio_max,
                safe_ratio: criterion.safe_ratio,
                outlook: leg.map(|leg| planning::stage_outlook(&before, &leg, &criterion)),
            });
            before.extend(leg);
        }
    }
    Ok(Some(stages))
}

fn all_are_known<'a>(checks: &[Check], named: impl Iterator<Item = &'a Option<String>>) -> anyhow::Result<()> {
    let names = || checks.iter().map(|check| check.name.as_str()).collect::<Vec<_>>().join(", ");
    for name in named.flatten() {
        anyhow::ensure!(
            checks.iter().any(|check| check.name.as_str() == name),
            "the plan has no check `{name}`; its checks are: {}",
            names()
        );
    }
    Ok(())
}

/// The last that was said of this check, else the last that was said of all.
fn said_of<T: Copy>(check: &Check, values: &[Named<T>]) -> Option<T> {
    let of_all = |named: &&Named<T>| named.check.is_none();
    let of_this = |named: &&Named<T>| named.check.as_deref() == Some(check.name.as_str());
    values.iter().rev().find(of_this).or_else(|| values.iter().rev().find(of_all)).map(|named| named.value)
}

/// The load of a check at an unknown share, if its kind has a forecast, and whether its rate is assumed.
fn load(
    service: &ServicePolicy,
    check: &Check,
    traffic: &[Named<RequestsPerSecond>],
    bad: &[Named<BadRate>],
) -> anyhow::Result<(Option<Load>, bool)> {
    let Some(counted) = Counted::of(check) else { return Ok((None, false)) };
    let RequestsPerSecond(requests_per_second) = said_of(check, traffic)
        .with_context(|| format!("say the traffic of `{}` too: --requests-per-second N, for all checks", check.name))?;
    let said = said_of(check, bad);
    let assumed = if matches!(check.sli, Sli::Ratio { .. }) { ASSUMED_BAD } else { ASSUMED_OTHER };
    let bad_rate = said.map_or(assumed, |BadRate(rate)| rate);
    anyhow::ensure!(
        bad_rate < 1.0 || counted != Counted::Requests,
        "{}% of `{}` cannot be bad already: write less than 100%",
        bad_rate * 100.0,
        check.name
    );
    let untrusted = Calibration::untrusted();
    let set = Load::of(check, &untrusted, PODS_ASSUMED, service.measure_every, service.pod_incident);
    let load = set.map(|load| Load { requests_per_second, bad_rate, ..load });
    Ok((load, said.is_none()))
}

const fn unit(sli: &Sli) -> &'static str {
    match sli {
        Sli::Ratio { .. } => "bad",
        Sli::Latency { .. } => "slow",
        Sli::EventsPerTraffic { .. } => "of requests",
        Sli::Liveness { .. } => "of readings",
        Sli::Probe { .. } => "of probes",
        Sli::Level { .. } | Sli::Mix { .. } => "",
    }
}

const HEADS: [&str; 6] = ["check", "sees from", "from the first stage", "2x in", "5x in", "shown safe in"];

/// The outlook as people read it.
pub(super) fn render(stages: &[StageOutlook<'_>]) -> String {
    let mut text =
        String::from("\nWhat each stage can see, in the median, if bad requests are independent of each other:\n");
    // Writing into a string cannot fail.
    for check in stages.first().iter().flat_map(|stage| &stage.checks) {
        let CheckOutlook { check: name, requests_per_second, bad_rate, unit, .. } = check;
        let _ = match check.outlook {
            None => writeln!(text, "  {name}: no forecast for what it measures"),
            Some(_) => {
                let assumed = if check.is_assumed {
                    format!(", which is assumed: say --bad-rate \"{name}=...%\"")
                } else {
                    String::new()
                };
                let rate = significant(bad_rate * 100.0);
                writeln!(text, "  {name}: {requests_per_second} requests/s, {rate}% {unit}{assumed}")
            }
        };
    }
    for (place, stage) in stages.iter().enumerate() {
        let bake = Duration::from_secs_f64(stage.bake_time_seconds);
        let _ = writeln!(text, "\nStage {}: {} for {}", place + 1, stage.exposure, in_words(bake));
        if stage.exposure.is_full() {
            let _ = writeln!(text, "  No control is left beside it: nothing is compared, only hard limits hold.");
            continue;
        }
        let seen: Vec<(&CheckOutlook, &Outlook)> =
            stage.checks.iter().filter_map(|check| Some((check, check.outlook.as_ref()?))).collect();
        write_table(&mut text, &seen);
        for (check, outlook) in seen.iter().filter(|(_, outlook)| outlook.is_blind) {
            let _ = writeln!(
                text,
                "  BLIND to {} {} in {}: {}",
                check.check,
                times(check.safe_ratio),
                in_words(bake),
                needs(outlook)
            );
        }
        if !stage.exposure.cohorts.is_empty() {
            let _ = writeln!(text, "  The cohorts' part of the traffic is not known and not counted here.");
        }
    }
    text
}

fn write_table(text: &mut String, seen: &[(&CheckOutlook, &Outlook)]) {
    let row = |(check, outlook): &(&CheckOutlook, &Outlook)| {
        let safe = match outlook.safe {
            Foreseen::Is(time) => format!("{} (<{})", in_words(time), times(check.safe_ratio)),
            Foreseen::Never(obstacle) => because(obstacle).into(),
        };
        let time = |foreseen| told(foreseen, in_words);
        [
            check.check.clone(),
            told(outlook.smallest, times),
            told(outlook.smallest_from_first, times),
            time(outlook.twice),
            time(outlook.fivefold),
            safe,
        ]
    };
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(seen.iter().map(row));
    let widths: [usize; HEADS.len()] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    });
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
}

fn told<T>(foreseen: Foreseen<T>, in_words: impl Fn(T) -> String) -> String {
    match foreseen {
        Foreseen::Is(value) => in_words(value),
        Foreseen::Never(obstacle) => because(obstacle).into(),
    }
}

/// What a blind stage would need.
fn needs(outlook: &Outlook) -> String {
    let share = outlook.share_needed.map(|share| format!("a share of {share}"));
    match (outlook.unsafe_ratio, share) {
        (Foreseen::Is(time), Some(share)) => format!("that takes {}, or {share}", in_words(time)),
        (Foreseen::Is(time), None) => format!("that takes {}, and no larger share would do", in_words(time)),
        (Foreseen::Never(obstacle), Some(share)) => format!("{}; it takes {share}", because(obstacle)),
        (Foreseen::Never(obstacle), None) => because(obstacle).into(),
    }
}

const fn because(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::NoTraffic => "no traffic",
        Obstacle::NoBadEvents => "nothing bad to compare",
        Obstacle::NoCanary => "nobody has it",
        Obstacle::NoControl => "no control",
        Obstacle::Tolerated => "tolerated",
        Obstacle::TooLittleTime => "nothing",
        Obstacle::TooSlow => "over a year",
    }
}

/// A ratio, rounded up so that what is said is seen.
fn times(ratio: f64) -> String {
    let tenths = if ratio < 10.0 { (ratio * 10.0 - 1e-6).ceil() / 10.0 } else { (ratio - 1e-6).ceil() };
    format!("{tenths}x")
}

/// A number to three digits at most.
fn significant(number: f64) -> f64 {
    format!("{number:.2e}").parse().unwrap_or(number)
}

/// A time in its two largest units.
fn in_words(time: Duration) -> String {
    let whole = if time >= Duration::from_secs(1) { Duration::from_secs(time.as_secs()) } else { time };
    format_duration(whole).to_string().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_and_rates_are_read_for_all_and_for_one_check() {
        let traffic = |text: &str| text.parse::<Named<RequestsPerSecond>>();
        assert_eq!(traffic("250").unwrap(), Named { check: None, value: RequestsPerSecond(250.0) });
        let one = Named { check: Some("errors on /a?b=c".into()), value: RequestsPerSecond(0.5) };
        assert_eq!(traffic("errors on /a?b=c=0.5").unwrap(), one);
        for wrong in ["", "0", "-1", "nan", "inf", "ten", "errors=", "=5", "5%"] {
            assert!(traffic(wrong).is_err(), "{wrong}");
        }
        let rate = |text: &str| text.parse::<Named<BadRate>>();
        assert_eq!(rate("errors=0.5%").unwrap(), Named { check: Some("errors".into()), value: BadRate(0.005) });
        for wrong in ["", "0%", "0.5", "-1%", "nan%", "inf%", "%", "errors=0.5"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_told_shortly_and_on_the_safe_side() {
        assert_eq!([1.25, 2.0, 2.01, 9.99, 33.2].map(times), ["1.3x", "2x", "2.1x", "10x", "34x"]);
        assert_eq!(in_words(Duration::from_secs(93_784)), "1day 2h");
        assert_eq!(in_words(Duration::from_millis(1_500)), "1s");
        assert_eq!(in_words(Duration::from_millis(100)), "100ms");
        assert_eq!(significant(0.1 * 1.000_000_1), 0.1);
    }
}
