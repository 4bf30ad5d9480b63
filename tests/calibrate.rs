//! `tollgate calibrate`, the real binary: a short run of the suites. It fails where one of our tests takes back harmless
//! rollouts more often than it promises, where it has become blind, or where the figures depend on the machine.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

fn calibrate(out: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("calibrate")
        .args(arguments)
        .arg("--out")
        .arg(out)
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a CSV file as columns and values. No value that is looked at here has a comma.
fn rows(file: &Path) -> Vec<BTreeMap<String, String>> {
    let whole = fs::read_to_string(file).expect("the file is written");
    let split = |line: &str| {
        let (mut fields, mut is_quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => fields.push(String::new()),
                c => fields.last_mut().expect("there is one").push(c),
            }
        }
        fields
    };
    let mut lines = whole.lines();
    let heads = split(lines.next().expect("a head"));
    lines.map(|line| heads.iter().cloned().zip(split(line)).collect()).collect()
}

/// The cells of one method, and how many of their rollouts were taken back.
fn taken_back(rates: &[BTreeMap<String, String>], method: &str) -> (usize, u32) {
    let hits: Vec<u32> = rates
        .iter()
        .filter(|row| row["method"] == method)
        .map(|row| row["taken_back"].parse().expect("a number"))
        .collect();
    (hits.len(), hits.iter().sum())
}

#[test]
fn harmless_rollouts_are_kept_where_others_take_them_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let families = ["shared outage", "one bad pod"];
    let only: Vec<String> = families.iter().flat_map(|family| ["--only".into(), format!("counts/{family}")]).collect();
    let arguments: Vec<&str> = only.iter().map(String::as_str).collect();
    let harmless = [arguments.as_slice(), &["--runs", "8", "--power-runs", "0", "--seed", "11"]].concat();
    let output = calibrate(folder.path(), &harmless);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(told.contains("Where it falls short") && told.contains("8 harmless rollouts"), "{told}");

    let rates = rows(&folder.path().join("counts-false-rollbacks.csv"));
    // 96 rollouts at 0.1%: more than two is as good as impossible.
    let (cells, ours) = taken_back(&rates, "tollgate");
    assert!(cells == families.len() * 6 && ours <= 2, "{ours} of {cells} cells");
    // The noise is what it says: what is known to fall for it does.
    assert!(taken_back(&rates, "likelihood ratio").1 >= 3 && taken_back(&rates, "Flagger").1 >= 40, "{told}");
    let page = fs::read_to_string(folder.path().join("index.html")).expect("the page is written");
    assert!(page.contains("</html>") && page.contains("<svg") && !page.contains("http"));
}

#[test]
fn every_test_has_a_suite_that_keeps_what_is_harmless() {
    let folder = tempfile::tempdir().expect("a folder");
    let only = ["latency/shared drift", "level/pod offsets, keeps 0.5", "mix/shared drift", "safe/shared outage"];
    let arguments: Vec<&str> = only.iter().flat_map(|only| ["--only", only]).collect();
    let output = calibrate(folder.path(), &[&arguments, ["--runs", "3", "--power-runs", "2"].as_slice()].concat());
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    for suite in ["latency", "level", "mix"] {
        let rates = rows(&folder.path().join(format!("{suite}-false-rollbacks.csv")));
        let (cells, ours) = taken_back(&rates, "tollgate");
        assert!(cells >= 2 && ours == 0, "{suite}: {ours} in {cells} cells");
        let delays = rows(&folder.path().join(format!("{suite}-delays.csv")));
        let found = |row: &BTreeMap<String, String>| row["found"].parse::<u32>().expect("a number");
        let ours = delays.iter().filter(|row| row["method"] == "tollgate").map(found);
        assert!(ours.sum::<u32>() >= 4, "{suite} is blind: {told}");
    }
    assert!(told.contains("called safe") && folder.path().join("safe-times-to-proof.csv").exists(), "{told}");
}

#[test]
fn a_promise_that_is_broken_ends_with_1_and_a_named_exception_only_where_it_is_strict() {
    let folder = tempfile::tempdir().expect("a folder");
    // Three users make a third of all requests and keep their arm: counters alone cannot tell them from a change.
    let arguments = ["--only", "mix/few heavy users", "--runs", "10", "--power-runs", "0"];
    let output = calibrate(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("Known: "));
    let output = calibrate(folder.path(), &[arguments.as_slice(), &["--strict"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("broken beyond doubt"), "{}", text(&output.stderr));
}

#[test]
fn the_figures_are_those_of_the_seed_whatever_the_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, threads, seed| {
        let out = folder.path().join(name);
        let arguments = ["--only", "counts/AR 0.3, 10 min", "--runs", "1", "--power-runs", "3", "--threads", threads];
        let output = calibrate(&out, &[arguments.as_slice(), &["--seed", seed]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        ["counts-false-rollbacks.csv", "counts-delays.csv", "index.html"]
            .map(|file| fs::read_to_string(out.join(file)).expect("written"))
    };
    let one = file("one", "1", "5");
    assert!(one == file("three", "3", "5"), "one thread and three differ");
    assert!(one != file("other", "2", "6"), "two seeds do not");
    let delays = rows(&folder.path().join("one").join("counts-delays.csv"));
    let ours = |ratio: &str, pods: &str, rate: &str| {
        let is_it = |row: &&BTreeMap<String, String>| {
            row["method"] == "tollgate"
                && row["ratio"] == ratio
                && row["canary_pods"] == pods
                && row["requests_s"] == rate
        };
        delays.iter().find(is_it).expect("in the table")["median_s"].parse::<u32>().ok()
    };
    let tenfold = ours("10x", "5", "133");
    assert!(tenfold.is_some_and(|seconds| seconds <= 900), "ten times as bad at 133 requests/s: {tenfold:?}");
}

#[test]
fn what_there_is_not_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = calibrate(folder.path(), &["--only", "counts/thunder"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("retry clusters"), "{}", text(&output.stderr));
}
