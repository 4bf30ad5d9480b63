//! What a rollout keeps of each of its checks: the running test, and the counts that rails and people read.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Absence, Check, Counts, Evidence, Finding, Reading, Tally, Text},
    rails::CheckFacts,
    stats::{self, Block, Calibration, Running, SequentialTest, Setting},
};

/// Windows that a hard limit looks back over, the newest included.
const RECENT_WINDOWS: usize = 4;

/// Evidence at which a check counts as leaning the wrong way: an e-value of 20, far from proof and far from chance.
const LEANING_LOG_E_VALUE: f64 = 2.995_732_273_553_991;

/// One check's record within a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    test: Running,
    control: Counts,
    canary: Counts,
    this_stage: Counts,
    recent: [Counts; RECENT_WINDOWS],
    latest: Option<Result<Counts, Absence>>,
    latest_control: Option<Absence>,
    /// What both arms counted since the last block of evidence, control first.
    pending: Option<(Tally, Tally)>,
}

impl Record {
    pub(super) fn start(check: &Check) -> Self {
        Self {
            test: Running::start(check),
            control: Counts::default(),
            canary: Counts::default(),
            this_stage: Counts::default(),
            recent: [Counts::default(); RECENT_WINDOWS],
            latest: None,
            latest_control: None,
            pending: None,
        }
    }

    /// Takes in one look at both arms. What only one arm has cannot be compared and is no evidence; the hard limit and
    /// the least samples still see what the canary counted.
    pub(super) fn measured(
        &mut self,
        check: &Check,
        control: Result<&Tally, Absence>,
        canary: Result<&Tally, Absence>,
    ) {
        let counted = |tally: Result<&Tally, Absence>| {
            tally.and_then(|tally| {
                stats::counts(check, tally).ok_or_else(|| Absence::Malformed(Text::new("a tally of another shape")))
            })
        };
        let (control_counts, canary_counts) = (counted(control.clone()), counted(canary.clone()));
        if let (Ok(old), Ok(new), Ok(control), Ok(canary)) = (&control_counts, &canary_counts, control, canary) {
            self.add_to_block(check, control, canary);
            self.control = self.control.plus(*old);
            self.canary = self.canary.plus(*new);
        }
        let seen = canary_counts.as_ref().copied().unwrap_or_default();
        self.recent.rotate_left(1);
        if let Some(newest) = self.recent.last_mut() {
            *newest = seen;
        }
        self.this_stage = self.this_stage.plus(seen);
        self.latest = Some(canary_counts);
        self.latest_control = control_counts.err();
    }

    /// Adds a look to the block. One of another shape ends the block before it.
    fn add_to_block(&mut self, check: &Check, control: &Tally, canary: &Tally) {
        let sum = self.pending.as_ref().and_then(|(old, new)| Some((old.plus(control)?, new.plus(canary)?)));
        if sum.is_none() {
            self.end_block(check);
        }
        self.pending = sum.or_else(|| Some((control.clone(), canary.clone())));
    }

    /// The block is long enough, or the traffic split changes: the statistics take it in.
    pub(super) fn end_block(&mut self, check: &Check) {
        if let Some((control, canary)) = self.pending.take() {
            let calibration = Calibration::untrusted();
            let setting = Setting { check, calibration: &calibration, safe_ratio: 2.0 };
            let (control, canary) = (Reading::whole(control), Reading::whole(canary));
            let span = std::time::Duration::from_secs(15);
            self.test.observe(&setting, &Block { control: &control, canary: &canary, span });
        }
    }

    /// No answer came for a window: what was seen before it is not what is there now.
    pub(super) fn missed(&mut self) {
        self.latest = Some(Err(Absence::Unavailable(Text::new("no answer in time"))));
    }

    /// A new stage: what was seen of the one before says nothing of it. The evidence carries over.
    pub(super) fn stage_began(&mut self) {
        self.this_stage = Counts::default();
        self.recent = [Counts::default(); RECENT_WINDOWS];
        self.latest = None;
        self.latest_control = None;
    }

    /// What the canary counted in the newest window.
    pub(super) fn newest(&self) -> Option<Counts> {
        self.latest.as_ref().and_then(|latest| latest.as_ref().ok()).copied()
    }

    /// Why an arm had no tally in the newest window, the canary first.
    pub(super) fn absent(&self) -> Option<String> {
        let canary = self.latest.as_ref().and_then(|latest| latest.as_ref().err()).map(|why| format!("canary: {why}"));
        canary.or_else(|| self.latest_control.as_ref().map(|why| format!("control: {why}")))
    }

    pub(super) fn evidence(&self, log_threshold: f64) -> Evidence {
        let effect = match (self.control.rate(), self.canary.rate()) {
            (Some(old), Some(new)) if old > 0.0 => Some(new / old),
            (Some(_) | None, Some(_) | None) => None,
        };
        Evidence {
            log_e_value: self.test.log_e_value(),
            log_threshold,
            effect,
            interval: None,
            log_e_safe: 0.0,
            more_seconds: None,
            control: self.control,
            canary: self.canary,
        }
    }

    pub(super) fn finding(&self, evidence: &Evidence) -> Finding {
        match &self.latest {
            _ if evidence.is_conclusive() => Finding::Degraded,
            None | Some(Err(_)) => Finding::NoData,
            Some(Ok(_)) if evidence.log_e_value >= LEANING_LOG_E_VALUE => Finding::Inconclusive,
            Some(Ok(_)) if self.canary.total == 0 => Finding::Inconclusive,
            Some(Ok(_)) => Finding::Healthy,
        }
    }

    /// The facts for judge and rails.
    pub(super) fn facts<'a>(&'a self, check: &'a Check, log_threshold: f64) -> CheckFacts<'a> {
        let evidence = self.evidence(log_threshold);
        CheckFacts {
            check,
            finding: self.finding(&evidence),
            evidence,
            latest: self.latest.as_ref(),
            recent: self.recent.iter().fold(Counts::default(), |sum, counts| sum.plus(*counts)),
            this_stage: self.this_stage,
        }
    }
}

/// What the evidence of one check must reach. A plan with several critical checks has several chances to be wrong, so
/// `alpha` is divided among them; a weighted average of e-values would do no more.
pub(super) fn log_threshold(critical_checks: usize, alpha: f64) -> f64 {
    (critical_checks.max(1) as f64 / alpha).ln()
}
