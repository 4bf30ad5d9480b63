//! Parts over real HTTP: pods by address and by label, segments and tenants.

use std::time::Duration;

use tollgate::{
    domain::{Arm, CheckId, Counts, Measurement, Part, PartKind, Split, Tally},
    telemetry::{Answer, AskedCheck},
};

use crate::pods::{Asker, Pods, SHORT, SOON, Shows, arms, config, counts, errors, targets};

fn split() -> AskedCheck {
    let split = Split { segments: Some("route".into()), tenants: Some("tenant".into()) };
    AskedCheck { split, ..errors() }
}

/// What is said of the parts of one kind: name, bad and all.
fn told(answer: &Answer, arm: Arm, kind: PartKind) -> Vec<(String, u64, u64)> {
    let of_arm = |measurement: &&Measurement| measurement.arm == arm;
    let parts: Vec<Part> = answer.measurements.iter().find(of_arm).unwrap().parts.clone();
    let of_kind = parts.into_iter().filter(|part| part.kind == kind);
    let counts = |part: Part| match part.tally {
        Tally::Counts(Counts { bad, total }) => (part.name.to_string(), bad, total),
        other => panic!("{other:?}"),
    };
    of_kind.map(counts).collect()
}

fn named(name: impl Into<String>, bad: u64, total: u64) -> (String, u64, u64) {
    (name.into(), bad, total)
}

#[tokio::test]
async fn each_address_of_an_arm_is_a_pod_and_one_address_has_no_pods() {
    let pods = Pods::start().await;
    for pod in ["old", "a", "b"] {
        pods.metrics(pod, "hits_total{code=\"200\"} 10");
    }
    let mut asker = Asker::of(&[pods.url("old")], &[pods.url("a"), pods.url("b")]);
    asker.begin().await;
    pods.metrics("a", "hits_total{code=\"200\"} 12\nhits_total{code=\"500\"} 1");
    let failing = Shows::Other { status: 503, kind: "text/plain", body: String::new() };
    pods.show("b", failing);
    pods.some_rounds().await;
    asker.window(SHORT).await;
    // One restarts, the other answers again.
    pods.metrics("a", "hits_total{code=\"200\"} 4");
    pods.some_rounds().await;
    pods.metrics("b", "hits_total{code=\"200\"} 17");
    let answer = asker.window(SOON).await;
    assert_eq!(arms(&answer, 0)[1], counts(1, 14));
    let name = |pod: &str| format!("{}/{pod}/metrics", pods.address);
    assert_eq!(told(&answer, Arm::Canary, PartKind::Pod), [named(name("a"), 1, 7), named(name("b"), 0, 7)]);
    assert_eq!(told(&answer, Arm::Control, PartKind::Pod), []);
}

#[tokio::test]
async fn pods_segments_and_tenants_are_told_by_their_labels() {
    let pods = Pods::start().await;
    pods.metrics("old", "hits_total{code=\"200\",pod=\"o1\",route=\"/a\",tenant=\"x\"} 10");
    pods.metrics("new", "other 1");
    let mut targets = targets(&[pods.url("old")], &[pods.url("new")]);
    targets.pod_label = Some("pod".into());
    targets.timeout = Duration::from_millis(SOON);
    let mut asker = Asker::with(config(targets), vec![split(), AskedCheck { check: CheckId(1), ..errors() }]);
    asker.window(SOON).await;
    pods.metrics(
        "new",
        "hits_total{code=\"200\",pod=\"n1\",route=\"/a\",tenant=\"x\"} 5\n\
         hits_total{code=\"500\",pod=\"n2\",route=\"/b\",tenant=\"y\"} 2\n\
         hits_total{code=\"200\",pod=\"n2\"} 3",
    );
    let answer = asker.window(SOON).await;
    assert_eq!(arms(&answer, 0), arms(&answer, 1), "what is split is counted the same");
    let canary = |kind| told(&answer, Arm::Canary, kind);
    assert_eq!(canary(PartKind::Pod), [named("n1", 0, 5), named("n2", 2, 5)]);
    assert_eq!(canary(PartKind::Segment), [named("/a", 0, 5), named("/b", 2, 2), named("none", 0, 3)]);
    assert_eq!(canary(PartKind::Tenant), [named("x", 0, 5), named("y", 2, 2)]);
    assert_eq!(told(&answer, Arm::Control, PartKind::Pod), [], "one pod is the whole");
    let plain = answer.measurements.iter().filter(|told| told.check == CheckId(1));
    assert!(plain.flat_map(|told| &told.parts).all(|part| part.kind == PartKind::Pod), "nobody asked for more");
}
