//! Comparing the mix of categories of both arms: model routes, status codes, bins of a feature.
//!
//! # The argument
//! In one window let `K_i` requests of both arms be of category `i`, `S_i` of them the canary's, and `theta` the canary's
//! share of all. If the mix is the same, the canary's expected share of each category is `theta`, whatever the mix is
//! and however it drifts for both arms: control beside the canary is what is compared with, never a reference of the past.
//! If the category's share is between `1/m` and `m` times control's, it is between `pi(1/m)` and `pi(m)`, with
//! `pi(r) = r theta / (r theta + 1 - theta)`. So each category is bet on, upwards from `pi(m)` and downwards from `pi(1/m)`:
//! on the share itself, valid under any clustering inside a window, and on the likelihood ratio, tempered by the
//! dispersion and paying at most ten to one. Half the stake is spread over categories and directions like that, best for
//! a change of one category. The other half bets on all categories together, in the direction and by the amount that the
//! past windows show (the predictable form of the Dirichlet-multinomial mixture of Lindon and Malek), best for a change of
//! many. Everything a bet needs is known before it is seen where `K_i` fell; averages of supermartingales, also over the
//! moment of the change, are supermartingales, and Ville's inequality does the rest.
//!
//! Categories are told apart while the first windows come, by the counts of both arms together; what is small then, or
//! does not fit, is summed as "other". One that was never seen until then is "new", and the share of the new ones is
//! bet on like any other: a canary that answers in a new way is found by it.
//!
//! The dispersion is learnt on the way, from how far the categories' shares spread in each window beyond chance around what
//! the windows before showed, beginning with what history says; it is taken to grow with a category's requests or to be
//! the same for all, whichever is more.
//!
//! Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022); Waudby-Smith and
//! Ramdas (2024) for the bets; Shin, Ramdas and Rinaldo (2023) for the mixture over starts; Laurent and Massart (2000) for
//! the bound on the index of stability.
//!
//! # Limits
//! Which way is worse has no meaning here: any change beyond the margin counts. A few heavy users who keep their arm have
//! a mix of their own for the whole rollout, and no test on sums can tell that from a change: it has to be judged again
//! without each of them. Categories below two in a hundred are not part of what is shown safe.

pub(super) mod drift_size;

use serde::{Deserialize, Serialize};

use self::drift_size::population_stability_index;
use super::{Block, Kind, SAFETY_MAX, SequentialTest, Setting, name_hash};
use crate::domain::{Concern, Interval, PartKind, Tally, Text};

pub(super) const KIND: Kind = Kind {
    name: "mix",
    serves: &["mix"],
    summary: "bets on the canary's share of each category, and of all of them together, given its share of the traffic",
};

/// Most categories told apart by name.
const NAMED_MAX: usize = 16;
/// Windows in which names are learnt.
const OPENING: u8 = 8;
/// A category needs this part of a window's requests to be told apart, once half of the places are taken.
const NAMED_PART: f64 = 0.01;
/// Places of the stake that are kept for categories that come after the first window.
const LATE_PLACES: usize = 3;
/// How far beyond the margin a category is bet to be: once on its share, twice by likelihood.
const BEYOND: [f64; CELLS] = [2.0, 1.4, 3.0];
const CELLS: usize = 3;
/// Largest factor of one window, with several canary pods and with one or an unknown number.
const FACTOR_MAX: f64 = 10.0;
const FACTOR_MAX_ONE_POD: f64 = 5.0;
/// Largest part of the possible stake of one bet on a share.
const BET_MAX: f64 = 0.9;
/// Part of each stake that bets from the start, and part of the rest that is fed in with each window.
const STAKE_AT_START: f64 = 0.5;
const FED_EACH_WINDOW: f64 = 1.0 / 240.0;
/// Wealth is kept below this; capping keeps the guarantee.
const WEALTH_MAX: f64 = 1e9;
/// Part of the counts that is kept from window to window, for the direction of bets and the size of the drift.
const COUNTS_KEPT: f64 = 0.975;
/// Requests' worth of what history says of the dispersion, windows over which it is learnt, and the most that one
/// category of one window may add.
const DISPERSION_WORTH: f64 = 500.0;
const DISPERSION_KEPT: f64 = 0.99;
const EXCESS_MAX: f64 = 200.0;
/// Smallest share of a category that has to be shown safe.
const SAFE_PART: f64 = 0.02;
/// Length of the name that is kept of the category that moved most.
const NAME_CHARS: usize = 48;
/// Pods' lasting deviations that are tolerated.
const POD_DEVIATIONS: f64 = 2.0;
const RATIO_LIMIT: f64 = 1e6;

/// One category.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Category {
    name: u32,
    /// Wealth on a rise and on a fall.
    rises: [f32; CELLS],
    falls: [f32; CELLS],
    /// Its part of the stake, before time's.
    stake: f32,
    /// Wealth against "at least `safe_ratio` times control's", and against "at most one of so many".
    not_more: f32,
    not_less: f32,
    /// Requests of either arm, forgetting.
    control: f32,
    canary: f32,
}

/// The test's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// "New", "other", then the named ones.
    categories: Vec<Category>,
    windows: u8,
    /// Names seen in the opening that are not told apart, as a Bloom filter.
    others: [u64; 4],
    stake_left: f32,
    stake_each: f32,
    waiting: f64,
    joint_share: f64,
    joint_likelihood: f64,
    excess: f64,
    requests: f64,
    cells: f64,
    /// The category whose share differs most, and the difference.
    moved: Option<(Text, f32)>,
}

/// One category in one window.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    canary: f64,
    all: f64,
}

/// What is fixed for a window.
struct Terms {
    theta: f64,
    tolerated: f64,
    unsafe_from: f64,
    dispersion: f64,
    /// What the variance exceeds a binomial's by, in categories of any size: that of sessions of a size of their own.
    excess: f64,
    factor_max: f64,
    fed: f64,
}

impl Terms {
    /// How much more than a binomial's the variance of so many requests of one category is.
    fn inflation(&self, all: f64) -> f64 {
        let more = (all - 1.0).max(0.0);
        1.0 + (more * self.dispersion).max(self.excess).min(more)
    }

    /// The share the canary has of a category that is `ratio` times as frequent on it.
    fn share(&self, ratio: f64) -> f64 {
        ratio * self.theta / (ratio * self.theta + 1.0 - self.theta)
    }

    /// Logarithm of the likelihood of `seen` at the ratio `to` over that at `from`, tempered.
    fn log_likelihood(&self, seen: Seen, to: f64, from: f64) -> f64 {
        let (to, from) = (self.share(to), self.share(from));
        let log = seen.canary * (to / from).ln() + (seen.all - seen.canary) * ((1.0 - to) / (1.0 - from)).ln();
        log / self.inflation(seen.all)
    }

    /// What a bet on the share pays, from the ratio `from` towards `to`.
    fn bet(&self, seen: Seen, to: f64, from: f64) -> f64 {
        let (to, from) = (self.share(to), self.share(from));
        let informative = seen.all / self.inflation(seen.all);
        let lambda = (to - from) * informative / (from * (1.0 - from));
        1.0 + lambda.clamp(-BET_MAX / (1.0 - from), BET_MAX / from) * (seen.canary / seen.all - from)
    }
}

impl Category {
    fn start(name: u32, stake: f32) -> Self {
        let cell = stake / 2.0 * STAKE_AT_START as f32 / CELLS as f32;
        let (rises, falls) = ([cell; CELLS], [cell; CELLS]);
        Self { name, rises, falls, stake, not_more: 1.0, not_less: 1.0, control: 0.0, canary: 0.0 }
    }

    /// How many times as frequent the past shows it to be on the canary; 1 as far as it may be chance.
    fn ratio(&self, requests: &Seen, inflation: f64) -> f64 {
        let (canary, control) = (f64::from(self.canary) + 0.5, f64::from(self.control) + 0.5);
        let exposure = (requests.canary + 1.0) / (requests.all - requests.canary + 1.0);
        let log = (canary / control / exposure).ln();
        let chance = (1.0 / canary + 1.0 / control) * inflation;
        let believed = (1.0 - chance / (log * log).max(f64::MIN_POSITIVE)).max(0.0);
        (log * believed).clamp(-RATIO_LIMIT.ln(), RATIO_LIMIT.ln()).exp()
    }

    fn bet(&mut self, seen: Seen, terms: &Terms) {
        let m = terms.tolerated;
        let fed = f64::from(self.stake) / 2.0 * terms.fed / CELLS as f64;
        for (wealth, up) in [(&mut self.rises, true), (&mut self.falls, false)] {
            let turned = |ratio: f64| if up { ratio } else { 1.0 / ratio };
            for ((wealth, beyond), by_share) in wealth.iter_mut().zip(BEYOND).zip([true, false, false]) {
                let (to, from) = (turned(m * beyond), turned(m));
                let factor = match by_share {
                    true => terms.bet(seen, to, from),
                    false => terms.log_likelihood(seen, to, from).exp(),
                };
                let grown = (f64::from(*wealth) + fed) * factor.min(terms.factor_max);
                *wealth = grown.clamp(0.0, WEALTH_MAX) as f32;
            }
        }
        for (wealth, from) in [(&mut self.not_more, terms.unsafe_from), (&mut self.not_less, 1.0 / terms.unsafe_from)] {
            let factor = terms.log_likelihood(seen, 1.0, from).exp().min(terms.factor_max);
            // The least of many categories wavers more than one test does.
            *wealth = (f64::from(*wealth) * factor).clamp(1e-30, SAFETY_MAX * SAFETY_MAX) as f32;
        }
    }

    fn wealth(&self) -> f64 {
        self.rises.iter().chain(&self.falls).map(|wealth| f64::from(*wealth)).sum()
    }
}

impl Mix {
    /// Nothing seen.
    pub fn start() -> Self {
        Self {
            categories: Vec::new(),
            windows: 0,
            others: [0; 4],
            stake_left: 1.0,
            stake_each: 0.0,
            waiting: 1.0 - STAKE_AT_START,
            joint_share: STAKE_AT_START / 2.0,
            joint_likelihood: STAKE_AT_START / 2.0,
            excess: 0.0,
            requests: 0.0,
            cells: 0.0,
            moved: None,
        }
    }

    /// What each category had, and the name of each; learns names while the opening lasts.
    fn sort(&mut self, control: &[(String, u64)], canary: &[(String, u64)], all: f64) -> Vec<Seen> {
        let mut both: Vec<(&str, Seen)> = Vec::with_capacity(control.len() + canary.len());
        for (arm, is_canary) in [(control, false), (canary, true)] {
            for (name, count) in arm {
                let count = *count as f64;
                both.push((name, Seen { canary: if is_canary { count } else { 0.0 }, all: count }));
            }
        }
        both.sort_by(|one, other| one.0.cmp(other.0));
        both.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1.canary += next.1.canary;
                kept.1.all += next.1.all;
            }
            same
        });
        both.retain(|(_, seen)| seen.all > 0.0);
        if self.windows < OPENING {
            self.learn_names(&both, all);
        }
        let mut seen = vec![Seen::default(); self.categories.len()];
        for (name, of_name) in both {
            let place = self.place(name_hash(name));
            if let Some(sum) = seen.get_mut(place) {
                sum.canary += of_name.canary;
                sum.all += of_name.all;
            }
        }
        seen
    }

    /// Tells apart the largest names of the opening; only their totals over both arms are looked at.
    fn learn_names(&mut self, both: &[(&str, Seen)], all: f64) {
        if self.categories.is_empty() {
            let named = both.len().min(NAMED_MAX);
            self.stake_each = 1.0 / (named + LATE_PLACES) as f32;
            for name in [0, 1] {
                self.add(name);
            }
        }
        self.windows += 1;
        let mut unknown: Vec<(&str, f64)> = both
            .iter()
            .filter(|(name, _)| !self.is_known(name_hash(name)))
            .map(|(name, seen)| (*name, seen.all))
            .collect();
        unknown.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
        for (name, count) in unknown {
            let named = self.categories.len().saturating_sub(2);
            if named < NAMED_MAX / 2 || (named < NAMED_MAX && count >= NAMED_PART * all) {
                self.add(name_hash(name));
            } else {
                for (word, bit) in bits(name_hash(name)) {
                    if let Some(word) = self.others.get_mut(word) {
                        *word |= bit;
                    }
                }
            }
        }
    }

    fn add(&mut self, name: u32) {
        let stake = self.stake_each.min(self.stake_left);
        self.stake_left -= stake;
        self.categories.push(Category::start(name, stake));
    }

    fn is_known(&self, name: u32) -> bool {
        self.place(name) != 0
    }

    /// Where a name is counted: 0 is new, 1 is other.
    fn place(&self, name: u32) -> usize {
        let named = self.categories.iter().skip(2).position(|category| category.name == name);
        let is_other = || bits(name).all(|(word, bit)| self.others.get(word).is_some_and(|word| word & bit != 0));
        match named {
            Some(place) => place + 2,
            None => usize::from(is_other()),
        }
    }

    fn terms(&self, setting: &Setting<'_>, theta: f64, canary_pods: usize) -> Terms {
        let number = |value: f64, low: f64, high: f64| if value.is_finite() { value.clamp(low, high) } else { low };
        let calibration = setting.calibration;
        let spread = number(calibration.pod_log_sd, 0.0, 1.0) / (canary_pods.max(1) as f64).sqrt();
        let floor = (POD_DEVIATIONS * spread).exp();
        let believed = number(calibration.dispersion, 0.0, 1.0) * DISPERSION_WORTH + self.excess;
        Terms {
            theta,
            tolerated: number(setting.check.ratio_max, 1.0, RATIO_LIMIT).max(floor),
            unsafe_from: (number(setting.safe_ratio, 1.0, RATIO_LIMIT) / floor).max(1.0),
            dispersion: (believed / (DISPERSION_WORTH + self.requests)).clamp(0.0, 1.0),
            excess: self.excess.max(0.0) / (self.cells + 1.0),
            factor_max: if canary_pods > 1 { FACTOR_MAX } else { FACTOR_MAX_ONE_POD },
            fed: self.waiting * FED_EACH_WINDOW,
        }
    }

    /// Bets on all categories in the direction the past shows.
    fn bet_together(&mut self, seen: &[Seen], ratios: &[f64], terms: &Terms, all: f64) {
        let (mut log, mut lead, mut most_lost) = (0.0, 0.0, 0.0);
        for (seen, ratio) in seen.iter().zip(ratios).filter(|(seen, _)| seen.all > 0.0) {
            let from = ratio.clamp(1.0 / terms.tolerated, terms.tolerated);
            if from == *ratio {
                continue;
            }
            log += terms.log_likelihood(*seen, *ratio, from);
            let (to, from) = (terms.share(*ratio), terms.share(from));
            let weight = (to - from) / (from * (1.0 - from)) / terms.inflation(seen.all);
            lead += weight * (seen.canary - from * seen.all);
            most_lost += (weight * from).max(-weight * (1.0 - from)) * seen.all;
        }
        let scale = if most_lost > 0.0 { (BET_MAX / most_lost).min(1.0) } else { 0.0 };
        let grown = |wealth: f64, factor: f64| {
            ((wealth + terms.fed / 2.0) * factor.clamp(0.0, terms.factor_max)).min(WEALTH_MAX)
        };
        self.joint_share = grown(self.joint_share, 1.0 + scale * lead);
        self.joint_likelihood = grown(self.joint_likelihood, if all > 0.0 { log.exp() } else { 1.0 });
    }

    /// Learns from a window what the bets of the next ones need.
    fn learn(&mut self, seen: &[Seen], ratios: &[f64], terms: &Terms) {
        for sum in [&mut self.excess, &mut self.requests, &mut self.cells] {
            *sum *= DISPERSION_KEPT;
        }
        for ((category, seen), ratio) in self.categories.iter_mut().zip(seen).zip(ratios) {
            if seen.all >= 2.0 {
                let share = terms.share(*ratio);
                let variance = (seen.all * share * (1.0 - share)).max(1e-9);
                let spread = (seen.canary - seen.all * share).powi(2) / variance - 1.0;
                self.excess += spread.min(EXCESS_MAX);
                self.requests += seen.all - 1.0;
                self.cells += 1.0;
            }
            let add = |sum: &mut f32, count: f64| *sum = (f64::from(*sum) * COUNTS_KEPT + count).min(1e18) as f32;
            add(&mut category.canary, seen.canary);
            add(&mut category.control, seen.all - seen.canary);
        }
    }

    /// Requests that are remembered.
    fn remembered(&self) -> Seen {
        let canary: f64 = self.categories.iter().map(|category| f64::from(category.canary)).sum();
        let control: f64 = self.categories.iter().map(|category| f64::from(category.control)).sum();
        Seen { canary, all: canary + control }
    }

    /// Finds the category that differs most, among the names of a window.
    fn name_moved<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let requests = self.remembered();
        let control = requests.all - requests.canary;
        if requests.canary <= 0.0 || control <= 0.0 {
            return;
        }
        let apart =
            |category: &Category| f64::from(category.canary) / requests.canary - f64::from(category.control) / control;
        let largest =
            self.categories.iter().enumerate().max_by(|one, other| apart(one.1).abs().total_cmp(&apart(other.1).abs()));
        let Some((place, category)) = largest else { return };
        let difference = apart(category) as f32;
        let found = names.filter(|name| self.place(name_hash(name)) == place).min();
        match (found, place, &mut self.moved) {
            (Some(name), 2.., _) => {
                self.moved = Some((Text::new(name.chars().take(NAME_CHARS).collect::<String>()), difference));
            }
            (Some(name), 0, _) => {
                let name = name.chars().take(NAME_CHARS).collect::<String>();
                self.moved = Some((Text::new(name), difference));
            }
            (_, 1, _) => self.moved = Some((Text::new("other"), difference)),
            (_, _, Some((_, known))) => *known = difference,
            (_, _, None) => {}
        }
    }
}

/// Two bits of a Bloom filter of 256.
fn bits(name: u32) -> impl Iterator<Item = (usize, u64)> {
    [name, name.rotate_left(13).wrapping_mul(0x9e37_79b1)].into_iter().map(|hash| {
        let bit = hash >> 24;
        ((bit / 64) as usize, 1_u64 << (bit % 64))
    })
}

impl SequentialTest for Mix {
    fn observe(&mut self, setting: &Setting<'_>, block: &Block<'_>) {
        let (Tally::Mix(control), Tally::Mix(canary)) = (&block.control.tally, &block.canary.tally) else { return };
        let sum = |arm: &[(String, u64)]| arm.iter().map(|(_, count)| *count as f64).sum::<f64>();
        let (control_sum, canary_sum) = (sum(control), sum(canary));
        if control_sum <= 0.0 || canary_sum <= 0.0 {
            return;
        }
        let all = control_sum + canary_sum;
        let canary_pods = block.canary.parts_of(PartKind::Pod).count();
        let terms = self.terms(setting, (canary_sum / all).clamp(1e-9, 1.0 - 1e-9), canary_pods);
        let seen = self.sort(control, canary, all);
        let requests = self.remembered();
        let ratios: Vec<f64> = self
            .categories
            .iter()
            .zip(&seen)
            .map(|(category, seen)| category.ratio(&requests, terms.inflation(seen.all)))
            .collect();
        self.waiting -= terms.fed;
        for (category, seen) in self.categories.iter_mut().zip(&seen).filter(|(_, seen)| seen.all > 0.0) {
            category.bet(*seen, &terms);
        }
        self.bet_together(&seen, &ratios, &terms, all);
        self.learn(&seen, &ratios, &terms);
        self.name_moved(control.iter().chain(canary).map(|(name, _)| name.as_str()));
    }

    fn log_e_value(&self) -> f64 {
        let single: f64 = self.categories.iter().map(Category::wealth).sum();
        let staked: f64 = self.categories.iter().map(|category| f64::from(category.stake)).sum();
        // What is not staked on a category that was told apart stays as it is.
        let single = single + (1.0 - staked).max(0.0) * STAKE_AT_START + self.waiting * staked.min(1.0);
        let idle = (1.0 - staked).max(0.0) * (1.0 - STAKE_AT_START);
        let together = self.joint_share + self.joint_likelihood + self.waiting;
        ((single + idle + together) / 2.0).max(f64::MIN_POSITIVE).ln()
    }

    fn log_e_safe(&self) -> f64 {
        let requests = self.remembered().all;
        let counted = self
            .categories
            .iter()
            .filter(|category| f64::from(category.canary) + f64::from(category.control) >= SAFE_PART * requests);
        let least =
            counted.map(|category| f64::from(category.not_more.min(category.not_less))).fold(f64::MAX, f64::min);
        if requests > 0.0 { least.clamp(f64::MIN_POSITIVE, WEALTH_MAX).ln() } else { 0.0 }
    }

    /// The index of stability over the windows that are remembered, less what chance adds to it.
    fn effect(&self) -> Option<(f64, Interval)> {
        let counts = |of: fn(&Category) -> f32| -> Vec<f64> {
            let used = self.categories.iter().filter(|category| category.canary + category.control > 0.0);
            used.map(|category| f64::from(of(category))).collect()
        };
        let (control, canary) = (counts(|category| category.control), counts(|category| category.canary));
        let index = population_stability_index(&control, &canary)?;
        let requests = self.remembered();
        let inflation = 1.0 + self.excess.max(0.0) / (self.cells + 1.0);
        let unit = (1.0 / requests.canary + 1.0 / (requests.all - requests.canary)) * inflation;
        let free = canary.len() as f64 - 1.0;
        // A tail of 5%, shared over doublings of the data so that it holds at every moment.
        let tail = 20_f64.ln() + 2.0 * (requests.all.max(1.0).log2() + 1.0).ln();
        let radius = (unit * (free + 2.0 * (free * tail).sqrt() + 2.0 * tail)).sqrt();
        let root = index.sqrt();
        let interval = Interval { low: (root - radius).max(0.0).powi(2), high: (root + radius).powi(2) };
        let effect = (index - free * unit).max(0.0);
        (interval.high.is_finite() && effect.is_finite()).then_some((effect, interval))
    }

    fn concern(&self) -> Option<Concern> {
        let conclusive = self.log_e_value() >= 1000_f64.ln();
        self.moved
            .as_ref()
            .filter(|_| conclusive)
            .map(|(name, by)| Concern::Mismatch(f64::from(*by).abs(), name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{Aim, Check, CheckName, Direction, Origin, Reading, Selector, Sli, Weight},
        stats::Calibration,
    };

    fn check() -> Check {
        Check {
            name: CheckName::new("routes"),
            sli: Sli::Mix { counter: Selector::metric("answers"), by: "route".into() },
            direction: Direction::HigherIsWorse,
            ratio_max: 1.25,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Default::default(),
        }
    }

    fn tally(counts: &[(&str, u64)]) -> Tally {
        Tally::Mix(counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
    }

    fn observe(test: &mut Mix, control: Tally, canary: Tally) {
        let (check, calibration) = (check(), Calibration::untrusted());
        let setting = Setting {
            check: &check,
            calibration: &calibration,
            safe_ratio: 2.0,
            pod_incident: crate::stats::POD_INCIDENT,
        };
        let (control, canary) = (Reading::whole(control), Reading::whole(canary));
        let span = std::time::Duration::from_secs(15);
        test.observe(&setting, &Block { control: &control, canary: &canary, span });
    }

    /// Requests that fall on three categories with these weights, and on the arms 3 to 1.
    fn after(canary_weights: [f64; 4], windows: usize) -> Mix {
        let (mut test, mut rng) = (Mix::start(), StdRng::seed_from_u64(5));
        let names = ["large", "medium", "novel", "small"];
        let mut arm = |weights: [f64; 4], requests: usize| {
            let mut counts = [0; 4];
            for _ in 0..requests {
                let mut at = rng.random_range(0.0..weights.iter().sum());
                let of = weights.iter().position(|weight| {
                    at -= weight;
                    at < 0.0
                });
                counts[of.unwrap_or(0)] += 1;
            }
            Tally::Mix(names.iter().map(|name| (*name).to_owned()).zip(counts).filter(|(_, n)| *n > 0).collect())
        };
        for window in 0..windows {
            let canary = if window < 10 { [70.0, 20.0, 0.0, 10.0] } else { canary_weights };
            let (control, canary) = (arm([70.0, 20.0, 0.0, 10.0], 300), arm(canary, 100));
            observe(&mut test, control, canary);
        }
        test
    }

    #[test]
    fn the_same_mix_is_shown_safe_and_proves_nothing() {
        let test = after([70.0, 20.0, 0.0, 10.0], 60);
        assert!(test.log_e_value() < 1.0, "{}", test.log_e_value());
        assert!(test.log_e_safe() > 20_f64.ln(), "{}", test.log_e_safe());
        let (size, interval) = test.effect().unwrap();
        assert!(size < 0.02 && interval.low == 0.0, "{size} {interval:?}");
        assert_eq!(test.concern(), None);
    }

    #[test]
    fn a_rise_a_fall_and_a_new_category_are_found_and_named() {
        for (weights, name) in
            [([50.0, 40.0, 0.0, 10.0], "large"), ([70.0, 5.0, 0.0, 25.0], "small"), ([50.0, 20.0, 20.0, 10.0], "novel")]
        {
            let test = after(weights, 30);
            assert!(test.log_e_value() > 1000_f64.ln(), "{name}: {}", test.log_e_value());
            let Some(Concern::Mismatch(by, moved)) = test.concern() else { panic!("nothing is named for {name}") };
            assert!((0.05..0.3).contains(&by), "{by}");
            assert!(["large", "medium", "small", "novel"].contains(&moved.as_str()), "{moved:?}");
        }
    }

    #[test]
    fn the_state_is_small_and_resumes_bit_for_bit_and_survives_what_is_absurd() {
        let (mut straight, mut resumed) = (Mix::start(), Mix::start());
        let mut rng = StdRng::seed_from_u64(6);
        for window in 0..60 {
            let mut arm = || -> Tally {
                let names = (0..40).map(|i| (format!("category-of-a-long-name-{i:03}"), rng.random_range(0..60_u64)));
                Tally::Mix(names.collect())
            };
            let (control, canary) = match window % 10 {
                7 => (tally(&[("a", u64::MAX), ("b", u64::MAX)]), tally(&[("b", u64::MAX)])),
                8 => (tally(&[]), arm()),
                9 => (tally(&[("a", 1)]), Tally::Samples(vec![1.0])),
                _ => (arm(), arm()),
            };
            for test in [&mut straight, &mut resumed] {
                observe(test, control.clone(), canary.clone());
                assert!(test.log_e_value().is_finite() && test.log_e_safe().is_finite());
                assert!(test.effect().is_none_or(|(size, interval)| size.is_finite() && interval.high.is_finite()));
            }
            let written = postcard::to_allocvec(&resumed).unwrap();
            assert!(written.len() <= 1024, "{}", written.len());
            resumed = postcard::from_bytes(&written).unwrap();
        }
        assert_eq!(straight, resumed);
    }

    #[test]
    fn nothing_on_one_arm_changes_nothing() {
        let mut test = Mix::start();
        observe(&mut test, tally(&[]), tally(&[("a", 5)]));
        observe(&mut test, tally(&[("a", 5)]), tally(&[]));
        observe(&mut test, tally(&[("a", 0)]), tally(&[("a", 5)]));
        assert_eq!(test, Mix::start());
        assert_eq!(test.log_e_value(), 0.0);
    }
}
