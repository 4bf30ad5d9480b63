//! The ladder: exposures that rise to everybody, each held for its bake time.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    default,
    key::Key,
    reading::{Reading, WordForm},
    written,
};
use crate::{
    domain::{Cohort, Exposure, Share},
    rollout::Stage,
};

/// Most stages of a ladder.
pub const STAGES_MAX: usize = 20;
/// Most cohorts of a stage.
pub const COHORTS_MAX: usize = 50;

const COHORT_WORD: WordForm = WordForm {
    name: "word for a cohort",
    fix: "printable text",
    bytes_max: 100,
    is_legal: |word| !word.chars().any(char::is_control),
};

impl Reading<'_> {
    /// The ladder of a service and the most that one step may add; the two must agree.
    pub(super) fn ladder(&mut self, service: &Key, written: &written::Service) -> (Vec<Stage>, Share) {
        let (key, step_key) = (service.name("stages"), service.name("step_max"));
        let stages = match &written.stages {
            Some(stages) => self.stages(&key, stages),
            None => default_ladder(),
        };
        let default_step = Share::from_basis_points(default::STEP_MAX_BASIS_POINTS).unwrap_or(Share::FULL);
        let step_max = match &written.step_max {
            Some(percent) => self.share(&step_key, percent).unwrap_or(default_step),
            None => default_step,
        };
        if step_max == Share::NONE {
            self.problems.add(&step_key, "lets no stage add anything", "write a share above 0%, such as \"50%\"");
        }
        if self.are_fine(&[&key, &step_key]) {
            let blamed = |place| if written.stages.is_some() { key.at(place) } else { step_key.clone() };
            self.check_steps(&blamed, &stages, step_max);
        }
        (stages, step_max)
    }

    fn stages(&mut self, key: &Key, written: &[written::Stage]) -> Vec<Stage> {
        self.at_most(key, written.len(), STAGES_MAX, "stages");
        let mut stages = Vec::new();
        for (place, stage) in written.iter().enumerate().take(STAGES_MAX) {
            let key = key.at(place);
            let share = match &stage.share {
                Some(percent) => self.share(&key.name("share"), percent),
                None => {
                    self.missing(&key.name("share"), "a share such as \"5%\"");
                    None
                }
            };
            let cohorts = self.cohorts(&key.name("cohorts"), stage.cohorts.as_ref());
            let bake_time = self.span(&key.name("bake_time"), stage.bake_time.as_ref(), default::BAKE_TIME);
            let exposure = Exposure { cohorts, ..Exposure::share(share.unwrap_or_default()) };
            stages.push(Stage { exposure, bake_time });
        }
        if self.are_fine(&[key]) {
            self.check_ladder(key, &stages);
        }
        stages
    }

    fn cohorts(&mut self, key: &Key, written: Option<&BTreeMap<String, written::Words>>) -> BTreeSet<Cohort> {
        let mut cohorts = BTreeSet::new();
        for (attribute, words) in written.into_iter().flatten() {
            let key = key.name(attribute);
            self.word(&key, attribute, &COHORT_WORD);
            let values = match words {
                written::Words::One(value) => vec![(key, value)],
                written::Words::Many(values) => {
                    values.iter().enumerate().map(|(place, value)| (key.at(place), value)).collect()
                }
            };
            for (key, value) in values {
                self.word(&key, value, &COHORT_WORD);
                cohorts.insert(Cohort { attribute: attribute.clone(), value: value.clone() });
            }
        }
        self.at_most(key, cohorts.len(), COHORTS_MAX, "cohorts");
        cohorts
    }

    /// Each stage gives the new version to more people than the one before and takes it from nobody; the last gives it to
    /// everybody.
    fn check_ladder(&mut self, key: &Key, stages: &[Stage]) {
        let mut before = Exposure::none();
        for (place, Stage { exposure, .. }) in stages.iter().enumerate() {
            let key = key.at(place);
            let lost = exposure.share < before.share || !before.cohorts.is_subset(&exposure.cohorts);
            if lost && !exposure.is_full() {
                let what = format!("{exposure} takes the new version from some who had it at {before}");
                self.problems.add(&key, what, "write a larger share, and the cohorts of the stage before");
            } else if before.is_full() {
                self.problems.add(&key, "comes after everybody has the new version", "remove it");
            } else if !exposure.exceeds(&before) {
                let what = if before.is_none() {
                    format!("{exposure} reaches nobody")
                } else {
                    format!("{exposure} reaches nobody whom {before} did not reach")
                };
                self.problems.add(&key, what, "write a larger share or another cohort");
            }
            before = exposure.clone();
        }
        if !before.is_full() {
            self.problems.add(key, format!("ends at {before}"), "end with a stage of share = \"100%\"");
        }
    }

    /// A step larger than the largest allowed would hold for ever and call a person.
    fn check_steps(&mut self, blamed: &dyn Fn(usize) -> Key, stages: &[Stage], step_max: Share) {
        let mut before = Share::NONE;
        for (place, Stage { exposure, .. }) in stages.iter().enumerate() {
            let added = exposure.share.basis_points().saturating_sub(before.basis_points());
            if added > step_max.basis_points() {
                let what = format!("the step from {before} to {} is larger than step_max, {step_max}", exposure.share);
                self.problems.add(&blamed(place), what, "put a stage between, or write a larger step_max");
            }
            before = exposure.share;
        }
    }
}

fn default_ladder() -> Vec<Stage> {
    let shares = default::STAGE_SHARES.into_iter().filter_map(Share::from_basis_points);
    shares.map(|share| Stage { exposure: Exposure::share(share), bake_time: default::BAKE_TIME.default }).collect()
}
