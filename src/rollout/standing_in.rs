//! What one check's canary is compared with where there is no control: past days, or itself at the stage before.
//!
//! All that comes of it is a finding in words. Once it is "unusual" it stays so for the stage, and a rail holds and calls
//! a person: such a baseline is too weak to roll back, and an absence of it changes nothing.

use serde::{Deserialize, Serialize};

use super::expecting::{self, STEP, Step};
use crate::{
    domain::{Baseline, Check, Reading, Text, Timestamp},
    stats::{
        Calibration,
        no_control::{Comparison, Expectation, Outlook},
        previous_stage::{self, MISS_AT_EITHER_END, StageCounts},
    },
};

/// Chance of calling a harmless switch unusual, where history is long enough for it.
const ALPHA: f64 = 0.02;

/// What stands in for a control, and what it says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StandIn {
    /// What the canary counted at the stage before, and at this one.
    before: StageCounts,
    now: StageCounts,
    /// Since when there is no control.
    alone_since: Option<Timestamp>,
    /// What the canary showed since then, step by step.
    steps: Vec<Step>,
    /// Steps that have been compared.
    compared: usize,
    expectation: Option<Box<Expectation>>,
    /// Compared with the stage before: whether segment by segment.
    by_stage: Option<bool>,
    says: Option<Text>,
    is_unusual: bool,
}

impl StandIn {
    /// Another stage: what was this one is the one before, and what was said of it is over.
    pub(super) fn stage_began(&mut self) {
        *self = Self { before: std::mem::take(&mut self.now), ..Self::default() };
    }

    /// From now on there is no control.
    pub(super) fn alone_since(&mut self, at: Timestamp) {
        self.alone_since = Some(at);
    }

    /// The canary at the stage before: whether it is known by segment, or why it is no baseline.
    pub(super) fn previous_stage(&self, samples_min: u64) -> Result<bool, String> {
        let total = self.before.whole().total;
        if total == 0 {
            return Err("no stage before counted anything to compare with".into());
        }
        if total < samples_min {
            return Err(format!("the stage before served {total} requests, {samples_min} are needed"));
        }
        Ok(self.before.has_segments())
    }

    /// The baseline is chosen, for the stage.
    pub(super) fn chosen(&mut self, baseline: Baseline, expectation: Option<&Expectation>) {
        match baseline {
            Baseline::PastDays { .. } => self.expectation = expectation.cloned().map(Box::new),
            Baseline::PreviousStage { segments } => self.by_stage = Some(segments),
            Baseline::Concurrent | Baseline::SameAge | Baseline::Nothing => {}
        }
    }

    /// Takes in a look at the canary and says what it comes to.
    pub(super) fn look(
        &mut self,
        check: &Check,
        canary: &Reading,
        (through, is_estimated): (Timestamp, bool),
        calibration: &Calibration,
    ) {
        self.now.add(check, canary, is_estimated);
        let Some(since) = self.alone_since else { return };
        let passed = through.since(since).as_millis();
        if passed > 0
            && passed <= expecting::WATCH_MOST.as_millis()
            && let Some(seen) = Step::of(check, canary)
        {
            let at = ((passed - 1) / STEP.as_millis()) as usize;
            if self.steps.len() <= at {
                self.steps.resize(at + 1, Step::default());
            }
            self.steps.iter_mut().skip(at).take(1).for_each(|step| step.add(seen));
        }
        // A step is compared when it is over.
        let over = (passed / STEP.as_millis()) as usize;
        if over > self.compared {
            self.compared = over;
            self.compare_with_past_days();
        }
        self.compare_with_stage_before(check, calibration, passed as f64 / 1_000.0);
    }

    fn compare_with_past_days(&mut self) {
        let Some(expectation) = &self.expectation else { return };
        let seen = self.steps.get(..self.compared).unwrap_or(&self.steps);
        let (is_unusual, words) = match expectation.look(&expecting::by_minute(seen), &[], ALPHA) {
            Outlook::TooLittleHistory(_) => return,
            Outlook::NothingUnusual(found) => (false, told("nothing unusual", &found)),
            Outlook::Unusual(found) => (true, told("unusual", &found)),
        };
        self.say(is_unusual, words);
    }

    fn compare_with_stage_before(&mut self, check: &Check, calibration: &Calibration, seconds: f64) {
        let Some(segments) = self.by_stage else { return };
        let a_second = self.now.whole().bad as f64 / seconds.max(1.0);
        // Clusters are inside a look.
        let inflation = |stage: &StageCounts| calibration.inflation_at(a_second, stage.bad_per_look());
        let Some(found) = previous_stage::compare(check, &self.before, &self.now, segments, inflation) else { return };
        let is_unusual = found.interval.low > check.ratio_max;
        let sure = 100.0 * (1.0 - 2.0 * MISS_AT_EITHER_END);
        self.say(
            is_unusual,
            format!(
                "{}: {} times the stage before ({sure}%: {} to {}; up to {} is tolerated)",
                if is_unusual { "unusual" } else { "nothing unusual" },
                times(found.ratio),
                times(found.interval.low),
                times(found.interval.high),
                check.ratio_max
            ),
        );
    }

    /// What is unusual once stays so, in the words in which it was found.
    fn say(&mut self, is_unusual: bool, words: String) {
        if !self.is_unusual {
            self.is_unusual = is_unusual;
            self.says = Some(Text::new(words));
        }
    }

    /// What it says, if anything yet.
    pub(super) fn says(&self) -> Option<&Text> {
        self.says.as_ref()
    }

    /// What is unusual, if something is.
    pub(super) fn unusual(&self) -> Option<&Text> {
        self.says.as_ref().filter(|_| self.is_unusual)
    }
}

fn told(what: &str, found: &Comparison) -> String {
    format!(
        "{what}: {} times what past days let expect ({:.0}%: {} to {}); chance of as much in {} windows of history: \
         {:.3}",
        times(found.ratio),
        100.0 * found.coverage,
        times(found.interval.low),
        times(found.interval.high),
        found.windows,
        found.p_value
    )
}

/// A ratio in words that stay short, whatever it is.
fn times(ratio: f64) -> String {
    if ratio < 1e4 { format!("{ratio:.2}") } else { "more than 10,000".into() }
}
