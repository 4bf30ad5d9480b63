//! `tollgate serve` as it ships, with a real Prometheus for its eyes: two real arms behind a real HAProxy, under load.
//!
//! Whole rollouts, good and bad; and faults of telemetry in the middle of good ones. On every look, none expands while
//! there is nothing to see, none goes back for a fault of telemetry alone, and each goes on by itself afterwards. Visitors ask
//! the flag over OFREP and go through HAProxy, which sends them on by the version that they were told, and whose counters
//! Prometheus scrapes beside the arms'. Every time is a fifteenth of its default, so three minutes are twelve seconds. What
//! stands side by side within a test has ports and folders of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod arm;
mod door;
#[path = "../house/mod.rs"]
mod house;
mod scene;
mod servers;

use std::time::Duration;

use tollgate::cli::demo::shop::{Behaviour, Page};

use house::CANARY;
use scene::{About, SILENCE, Scene};
use servers::Targets;

/// How far the clock is set forward.
const SKEW: Duration = Duration::from_secs(40);

fn bad() -> Behaviour {
    Page::ALL.into_iter().fold(Behaviour::healthy(), |behaviour, page| behaviour.failing(page, 0.3))
}

async fn a_good_rollout() {
    let scene = Scene::begin("good", About::Whole, Behaviour::healthy()).await;
    let rollout = scene.is_promoted().await;
    let checks: Vec<&str> = rollout.checks.iter().map(|check| check.name.as_str()).collect();
    assert!(checks.contains(&"errors") && checks.contains(&"edge"), "{checks:?}");
    assert!(rollout.checks.iter().all(|check| !check.estimated && check.canary_rate.is_some()), "{rollout:#?}");
    scene.end();
}

async fn a_bad_rollout() {
    let scene = Scene::begin("bad", About::Whole, bad()).await;
    scene.is_rolled_back().await;
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_rollout_is_promoted_and_a_bad_one_is_rolled_back() {
    if servers::are_installed() {
        tokio::join!(a_good_rollout(), a_bad_rollout());
    }
}

async fn a_server_that_is_stopped_for_a_while() {
    let mut scene = Scene::begin("stopped", About::Fault, Behaviour::healthy()).await;
    scene.until_half().await;
    scene.prometheus.stop().await;
    scene.is_held_by_absence().await;
    scene.prometheus.go_on().await;
    scene.is_promoted().await;
    scene.end();
}

async fn a_server_whose_data_is_wiped() {
    let mut scene = Scene::begin("wiped", About::Fault, Behaviour::healthy()).await;
    scene.until_half().await;
    scene.prometheus.stop().await;
    scene.is_held_by_absence().await;
    // Nor is it lost on a daemon that begins anew meanwhile.
    scene.lose_the_daemon().await;
    scene.prometheus.wipe();
    scene.prometheus.go_on().await;
    scene.is_promoted().await;
    scene.end();
}

async fn a_server_whose_clock_is_set_forward() {
    let scene = Scene::begin("skewed", About::Fault, Behaviour::healthy()).await;
    scene.until_half().await;
    scene.door.jump(SKEW);
    scene.is_promoted().await;
    assert!(scene.door.answered() > 0, "it was read since");
    assert!(scene.house.log().contains("its clock is apart from ours"));
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_wiped_or_skewed_holds_a_rollout_and_no_more() {
    if servers::are_installed() {
        tokio::join!(
            a_server_that_is_stopped_for_a_while(),
            a_server_whose_data_is_wiped(),
            a_server_whose_clock_is_set_forward()
        );
    }
}

async fn a_target_that_is_relabelled() {
    let scene = Scene::begin("relabelled", About::Fault, Behaviour::healthy()).await;
    scene.until_half().await;
    let nobodys = Targets { canary_version: "unknown", ..scene.targets.clone() };
    scene.prometheus.reload(&nobodys).await;
    scene.is_held_by_absence().await;
    // It comes back as another pod, with counters that have counted all along.
    let renamed = Targets { canary_pod: "canary-1", ..scene.targets.clone() };
    scene.prometheus.reload(&renamed).await;
    scene.is_promoted().await;
    scene.end();
}

async fn an_arm_that_is_restarted() {
    let mut scene = Scene::begin("restarted", About::Fault, Behaviour::healthy()).await;
    scene.until_half().await;
    scene.canary.restart(Behaviour::healthy()).await;
    scene.is_promoted().await;
    let resets = format!("max(resets(http_requests_total{{version=\"{CANARY}\"}}[10m]))");
    assert!(scene.prometheus.value(&resets).await > Some(0.0), "Prometheus saw its counters begin anew");
    scene.end();
}

async fn a_gap() {
    let scene = Scene::begin("a gap", About::Fault, Behaviour::healthy()).await;
    scene.until_half().await;
    scene.prometheus.reload(&Targets { are_scraped: false, ..scene.targets.clone() }).await;
    scene.is_held_by_absence().await;
    scene.prometheus.reload(&scene.targets).await;
    scene.is_promoted().await;
    scene.end();
}

/// What went wrong while nobody saw it is found when somebody does.
async fn a_gap_that_hides_a_fault() {
    let mut scene = Scene::begin("a gap that hides a fault", About::FaultWithLimit, Behaviour::healthy()).await;
    scene.until_half().await;
    scene.prometheus.reload(&Targets { are_scraped: false, ..scene.targets.clone() }).await;
    scene.stands_still(SILENCE / 3).await;
    scene.canary.restart(bad()).await;
    scene.is_held_by_absence().await;
    scene.prometheus.reload(&scene.targets).await;
    scene.is_rolled_back().await;
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_are_relabelled_restarted_or_silent_hold_a_rollout_and_no_more() {
    if servers::are_installed() {
        tokio::join!(a_target_that_is_relabelled(), an_arm_that_is_restarted(), a_gap(), a_gap_that_hides_a_fault());
    }
}
