//! A draft as it may be recorded and told. Its words and paths come from the change: by rules they are copied from the
//! diff, and a model repeats what it was shown or makes up what it was not. So secrets are masked here once more, whoever
//! made the draft, before it becomes an event.
//!
//! What is measured stays as it is: a name or a condition with something else in it would be another one.

use crate::{
    domain::{Check, DiffLine, Text, WayBack},
    plan::{Draft, Tried},
    untrusted::masked,
};

/// The draft with no secret in its words, nor in the paths that it names.
pub fn without_secrets(draft: Draft) -> Draft {
    let Draft { checks, way_back, notes, risk, source, found, tried, uncovered } = draft;
    let of_check = |check: Check| Check { rationale: words(&check.rationale), lines: lines(check.lines), ..check };
    Draft {
        checks: checks.into_iter().map(of_check).collect(),
        way_back: match way_back {
            WayBack::Open => WayBack::Open,
            WayBack::OneWay { why, lines: of } => WayBack::OneWay { why: words(&why), lines: lines(of) },
        },
        notes: notes.iter().map(words).collect(),
        risk,
        source,
        found,
        tried: tried.into_iter().map(|tried| Tried { detail: words(&tried.detail), ..tried }).collect(),
        uncovered: uncovered.iter().map(words).collect(),
    }
}

fn words(text: &Text) -> Text {
    Text::new(masked(text.as_str()).text)
}

fn lines(lines: Vec<DiffLine>) -> Vec<DiffLine> {
    lines.into_iter().map(|line| DiffLine { path: masked(&line.path).text, ..line }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Aim, CheckName, Direction, Origin, Selector, Sli, Split, Weight},
        plan::{Reason, Standing, Trial},
    };

    #[test]
    fn no_word_and_no_path_of_a_draft_holds_a_secret() {
        let secret = ["ghp_", "Vt3kQ9zLm2Xw8Rb5Yc7Nd4Pf6Hj1Gs0AeUiO"].concat();
        let text = || Text::new(format!("see {secret}"));
        let lines = || vec![DiffLine { path: format!("src/{secret}.rs"), line: 3 }];
        let check = Check {
            name: CheckName::new("errors"),
            sli: Sli::Liveness { series: Selector::metric("up") },
            direction: Direction::HigherIsWorse,
            ratio_max: 1.5,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Heuristic,
            rationale: text(),
            lines: lines(),
            split: Split::default(),
        };
        let tried = Tried {
            check: CheckName::new("errors"),
            standing: Standing::Admitted,
            reason: Reason::Sound,
            detail: text(),
            baseline: None,
            trial: Trial::default(),
            power: Vec::new(),
        };
        let way_back = WayBack::OneWay { why: text(), lines: lines() };
        let draft = Draft {
            tried: vec![tried],
            uncovered: vec![text()],
            ..Draft::by_rules(vec![check], way_back, vec![text()])
        };
        let shown = |draft: &Draft| serde_json::to_string(draft).unwrap();
        assert_eq!(shown(&draft).matches(&secret).count(), 7);
        let safe = without_secrets(draft);
        assert!(!shown(&safe).contains(&secret), "{safe:?}");
        assert_eq!((safe.checks[0].lines[0].line, safe.checks.len()), (3, 1));
    }
}
