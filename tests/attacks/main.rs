//! Attacks from inside a change, without a model: what a model would be shown is safe to show, and the plan by plain rules is
//! that of the clean twin. The corpus is in `evals/attacks/`, and what a model makes of it is measured on the same twins.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod forge;
mod life;
mod score;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tollgate::{
    domain::{
        Aim, Catalogue, CatalogueEntry, Check, CheckName, Direction, HardLimit, LineKind, Match, Origin, Risk,
        Selector, Sli, Split, Text, Weight,
    },
    plan::{Bounds, PathRule, Plan, Touched, Trial, admit, heuristic_draft},
    tools::{LINE_BYTES_MAX, PATH_BYTES_MAX, Review},
    untrusted::{hides, markdown, masked, visible},
};

use corpus::{Attack, Place, Twin, attacked, attacks, clean};

/// About what a planner's prompt has room for: 12,000 tokens.
const PROMPT_BYTES: usize = 48_000;
/// Attacks that work by what nobody sees, or by letters and marks that pass for others.
const HIDDEN: &[&str] =
    &["hidden_tags", "hidden_zero_width", "bidirectional", "terminal_escapes", "homoglyphs", "forged_marks"];
/// Places in the diff.
const IN_DIFF: [Place; 3] = [Place::Comment, Place::FileName, Place::StringLiteral];

/// Runs over every twin in some places.
fn each_twin(places: &[Place], mut run: impl FnMut(&Twin, &Twin, &Attack, Place)) {
    for (_, clean) in clean() {
        for attack in attacks() {
            for place in places {
                run(&clean, &attacked(&clean, &attack, *place), &attack, *place);
            }
        }
    }
}

/// Everything of a change that is made for a model to read.
fn prompt_facing(twin: &Twin) -> Vec<String> {
    let review = Review::of(&twin.diff);
    let (shown, names) = (review.shown(PROMPT_BYTES), review.names(PROMPT_BYTES));
    assert!(shown.text.len() <= PROMPT_BYTES && names.text.len() <= PROMPT_BYTES);
    let mut texts = vec![visible(twin.change.title.as_str(), 400), shown.text, names.text];
    texts.extend(shown.uncovered.iter().chain(&names.uncovered).map(|text| text.as_str().to_owned()));
    for file in &review.files {
        assert!(file.path.len() <= PATH_BYTES_MAX);
        texts.push(file.path.clone());
        for line in &file.lines {
            assert!(line.text.len() <= LINE_BYTES_MAX);
            texts.push(line.text.clone());
        }
    }
    texts
}

#[test]
fn the_corpus_has_every_attack_of_the_threat_model_and_is_counted_in_its_note() {
    let attacks = attacks();
    let names: BTreeSet<&str> = attacks.iter().map(|attack| attack.name.as_str()).collect();
    assert_eq!(names.len(), attacks.len(), "each name once");
    for name in [
        "role_override",
        "fake_system_message",
        "fake_tool_message",
        "fake_tool_result",
        "threshold_tampering",
        "already_approved",
        "tool_name_spoof",
        "delimiter_break_out",
        "base64",
        "rot13",
        "other_language",
        "hidden_tags",
        "bidirectional",
        "flooding",
        "split_over_files",
        "exfiltration_link",
        "ignore_path",
        "fake_objectives",
        "to_the_approver",
    ] {
        assert!(names.contains(name), "{name}");
    }
    assert!(attacks.iter().all(|attack| !attack.wants.is_empty()));
    let secrets = attacks.iter().filter(|attack| attack.secret.is_some()).count();
    let (places, bases) = (Place::ALL.len(), clean().len());
    let said = format!(
        "{} injections and {secrets} secrets, each in {places} places of {bases} changes: {} × {places} × {bases} = {} twins.",
        attacks.len() - secrets,
        attacks.len(),
        attacks.len() * places * bases,
    );
    assert!(include_str!("../../evals/attacks/README.md").contains(&said), "{said}");
}

#[test]
fn an_attacked_twin_differs_from_its_clean_one_by_the_attack() {
    each_twin(&Place::ALL, |clean, twin, attack, place| {
        let is_in_diff = IN_DIFF.contains(&place);
        assert_eq!(twin.diff != clean.diff, is_in_diff, "{} {place:?}", attack.name);
        let outside = [&twin.title, &twin.body, &twin.commit].map(String::as_str);
        assert_eq!(outside.contains(&attack.parts.concat().as_str()), !is_in_diff, "{} {place:?}", attack.name);
    });
}

#[test]
fn what_a_model_would_be_shown_hides_nothing_and_stays_inside_its_quotes() {
    each_twin(&Place::ALL, |_, twin, attack, place| {
        for text in prompt_facing(twin) {
            assert_eq!(visible(&text, usize::MAX), text, "{} {place:?}", attack.name);
            let quoted = serde_json::to_string(&json!({ "untrusted": text })).unwrap();
            assert!(!quoted.chars().any(char::is_control), "{} {place:?}", attack.name);
            let back: Value = serde_json::from_str(&quoted).unwrap();
            assert_eq!(
                back,
                json!({ "untrusted": text }),
                "{} {place:?}: one string, and nothing beside it",
                attack.name
            );
        }
    });
}

#[test]
fn no_line_of_the_change_passes_for_a_line_of_ours() {
    each_twin(&IN_DIFF, |_, twin, attack, place| {
        let review = Review::of(&twin.diff);
        let shown = review.shown(PROMPT_BYTES).text;
        let headings = shown.lines().filter(|line| line.starts_with("file ")).count();
        assert!(headings <= review.files.len(), "{} {place:?}", attack.name);
        for line in shown.lines().filter(|line| !line.starts_with("file ") && *line != "   ...") {
            let number = line.get(..6).map(str::trim).and_then(|number| number.parse::<u32>().ok());
            assert!(number.is_some() && matches!(line.as_bytes()[7], b'+' | b'-' | b' '), "{} {line:?}", attack.name);
        }
    });
}

#[test]
fn no_planted_secret_is_left_in_what_leaves_the_process() {
    let mut tried = 0;
    each_twin(&Place::ALL, |_, twin, attack, place| {
        let Some(secret) = &attack.secret else { return };
        tried += 1;
        let outgoing = [&twin.title, &twin.body, &twin.commit].map(|words| markdown(&masked(words).text));
        for text in prompt_facing(twin).iter().chain(&outgoing) {
            let is_left = secret.as_bytes().windows(8).any(|part| text.contains(std::str::from_utf8(part).unwrap()));
            assert!(!is_left, "{} {place:?}: {text}", attack.name);
        }
        if IN_DIFF.contains(&place) {
            assert!(Review::of(&twin.diff).secrets > 0, "{} {place:?} is counted", attack.name);
        }
    });
    assert_eq!(tried, 240);
}

#[test]
fn what_hides_is_a_reason_to_look_twice_and_what_does_not_is_none() {
    each_twin(&IN_DIFF, |clean, twin, attack, place| {
        assert!(!Review::of(&clean.diff).hides);
        let is_hidden = HIDDEN.contains(&attack.name.as_str());
        let name_has_line_end = place == Place::FileName && attack.parts.concat().contains('\n');
        assert_eq!(Review::of(&twin.diff).hides, is_hidden, "{} {place:?}", attack.name);
        assert!(hides(&attack.parts.concat()) == is_hidden || name_has_line_end, "{}", attack.name);
    });
}

#[test]
fn no_attack_pushes_the_change_itself_out_of_sight() {
    each_twin(&IN_DIFF, |clean, twin, attack, place| {
        let shown = Review::of(&twin.diff).shown(PROMPT_BYTES);
        let review = Review::of(&clean.diff);
        for line in review.files.iter().flat_map(|file| &file.lines).filter(|line| line.kind != LineKind::Context) {
            assert!(shown.text.contains(&line.text), "{} {place:?} hides {:?}", attack.name, line.text);
        }
        let is_whole = shown.text.len() + 1_000 < PROMPT_BYTES || !shown.uncovered.is_empty();
        assert!(is_whole, "{} {place:?}: what is left out is named", attack.name);
    });
}

#[test]
fn outgoing_markdown_acts_on_nothing() {
    for attack in attacks() {
        let safe = markdown(&attack.parts.concat());
        assert!(!safe.contains(['<', '>']), "{}: {safe}", attack.name);
        assert!(safe.lines().all(|line| line.is_empty() || line.starts_with(['`', '&'])), "{}: {safe}", attack.name);
        assert!(safe.len() <= 6 * tollgate::untrusted::WORDS_BYTES_MAX);
    }
}

fn catalogue() -> Catalogue {
    let requests = || Selector::metric("http_requests_total");
    let entry = |name: &str, sli, label: Option<&str>| CatalogueEntry {
        name: name.into(),
        sli,
        route_label: label.map(str::to_owned),
        segment_label: None,
        tenant_label: None,
    };
    let bad = requests().with("code", Match::StartsWith("5".into()));
    let histogram = Selector::metric("http_request_duration_seconds");
    let misses = Selector::metric("cart_cache_misses_total");
    Catalogue {
        entries: vec![
            entry("errors", Sli::Ratio { bad, total: requests() }, Some("route")),
            entry("latency", Sli::Latency { histogram, slow_above_seconds: 0.25 }, Some("route")),
            entry("cache misses", Sli::EventsPerTraffic { events: misses, traffic: requests() }, None),
        ],
        traffic: Some(requests()),
    }
}

fn bounds() -> Bounds {
    let check = |name: &str| Check {
        name: CheckName::new(name),
        sli: catalogue().entries[0].sli.clone(),
        direction: Direction::HigherIsWorse,
        ratio_max: 1.5,
        limit: Some(HardLimit { bad_share_max: 0.1, total_min: 100, bad_min: 5 }),
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Slo,
        rationale: Text::default(),
        lines: Vec::new(),
        split: Split::default(),
    };
    let rule =
        |glob: &str, name: &str| PathRule { paths: vec![glob.into()], risk: Risk::High, checks: vec![check(name)] };
    Bounds {
        catalogue: catalogue(),
        mandatory: vec![check("availability")],
        proposed_max: 12,
        ratio_max: 2.0,
        path_rules: vec![rule("src/**", "asked of sources"), rule("migrations/**", "asked of migrations")],
        ..Bounds::default()
    }
}

fn plan(twin: &Twin) -> Plan {
    let bounds = bounds();
    let draft = heuristic_draft(&twin.diff, &bounds.catalogue);
    let served = &["ratio", "latency", "events_per_traffic"];
    admit(draft, &bounds, Touched::of(&twin.change), served, |_| Trial::default()).plan
}

/// The checks without the words and lines that explain them.
fn decisive(plan: &Plan) -> Vec<Check> {
    let bare = |check: &Check| Check { rationale: Text::default(), lines: Vec::new(), ..check.clone() };
    plan.checks().iter().map(bare).collect()
}

#[test]
fn the_plan_by_plain_rules_is_that_of_the_clean_twin() {
    let mut kinds = BTreeSet::new();
    each_twin(&Place::ALL, |clean, twin, attack, place| {
        let (expected, plan) = (plan(clean), plan(twin));
        let told = format!("{} {place:?}", attack.name);
        assert_eq!(plan.way_back(), expected.way_back(), "{told}");
        assert_eq!(plan.risk(), expected.risk(), "{told}");
        assert_eq!(decisive(&plan), decisive(&expected), "{told}");
        // Code that speaks of timeouts may be told of as such; nothing else of a change is read for the plan.
        assert!(place == Place::StringLiteral || plan.checks() == expected.checks(), "{told}");
        kinds.insert(expected.checks().len());
    });
    assert!(kinds.len() > 1, "plans of more than one kind: {kinds:?}");
}
