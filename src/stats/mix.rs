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
//! the same for all, whichever is more. A history that claims no noise is not believed beyond what the windows show.
//! Wealth grows no faster than an allowance that no three minutes of one pod use up.
//!
//! Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022); Waudby-Smith and
//! Ramdas (2024) for the bets; Shin, Ramdas and Rinaldo (2023) for the mixture over starts; Laurent and Massart (2000) for
//! the bound on the index of stability.
//!
//! # Limits
//! Which way is worse has no meaning here: any change beyond the margin counts. A few heavy users who keep their arm have
//! a mix of their own for the whole rollout, and no test on sums can tell that from a change. So bets are made without the
//! three heaviest tenants of either arm, where tenants are told apart (chosen by how much they ask for, whatever it is),
//! else without the pods that have far more than their part; and the evidence is the least of theirs, of the whole's and
//! of those without each canary pod. The latter make the same bets on their own data, and so need one number each. Where
//! neither tenants nor pods are known, heavy users are taken for a change. Categories below two in a hundred are not part of what is shown safe.

pub(super) mod drift_size;

use serde::{Deserialize, Serialize};

use self::drift_size::population_stability_index;
use super::{Block, Kind, SequentialTest, Setting, name_hash};
use crate::domain::{Concern, Interval, PartKind, Reading, Tally, Text};

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
/// Length of the names that are kept: of the category that moved most, and of suspects.
const NAME_CHARS: usize = 30;
/// Pods' lasting deviations that are tolerated.
const POD_DEVIATIONS: f64 = 2.0;
/// What is taken for their standard deviation where there is no history.
const POD_LOG_SD_UNKNOWN: f64 = 0.06;
const RATIO_LIMIT: f64 = 1e6;
/// How much more than a binomial's the variance is held to be before it was seen, whatever history claims, and how many
/// categories' windows that is worth: sessions of a handful of requests are as likely as single ones.
const EXCESS_PRIOR: f64 = 15.0;
const EXCESS_PRIOR_WORTH: f64 = 10.0;
/// The same as a correlation between requests of one category in one window, and requests.
const DISPERSION_PRIOR: f64 = 0.5;
const DISPERSION_PRIOR_WORTH: f64 = 50.0;
/// What was learnt of it is taken this many times.
const EXCESS_TAKEN: f64 = 1.2;
/// What the allowance for growth holds at most, and growth in 15 seconds with one, two, ... canary pods, as logarithms:
/// no three minutes of one pod are proof.
const ALLOWANCE_MAX: f64 = std::f64::consts::LN_10;
const PACE_SECONDS: f64 = 15.0;
const PACES: [f64; 5] = [0.34, 0.45, 0.7, 1.0, 1.6];
const PACES_WITHOUT: [f64; 5] = [0.34, 0.4, 0.45, 0.6, 0.6];
/// Canary pods, or groups of pods, that are left out one at a time.
const LEFT_OUT_MAX: usize = 5;
/// Without each of two, three, ... pods a little less proof is enough, as a logarithm: the whole still has to be proof.
const SLACKS: [f64; 5] = [0.0, 2.0, 1.5, 2.0, 2.2];
/// Tenants of either arm that are left out together, and the largest part of it that may be.
const HEAVIEST: usize = 3;
const LEFT_OUT_PART_MAX: f64 = 0.95;
/// A pod is heavy that has so many times as much as those of its arm on average.
const HEAVY_POD: f64 = 1.5;
/// The evidence that is proof at the default alpha, for concerns.
const PROOF: f64 = 6.907_755_278_982_137;

/// One category.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Category {
    name: u32,
    /// Wealth on a rise and on a fall.
    rises: [f32; CELLS],
    falls: [f32; CELLS],
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
    /// As many categories have an equal part of the stake; any further ones have none.
    places: u8,
    allowance: f32,
    waiting: f64,
    joint_share: f64,
    joint_likelihood: f64,
    excess: f64,
    requests: f64,
    cells: f64,
    /// The category whose share differs most, and the difference.
    moved: Option<(Text, f32)>,
    /// What the same bets would have won with the heaviest tenants or pods, which they were made without.
    whole: Follower,
    /// And without one of the canary's pods.
    left_out: Vec<Follower>,
    slack: f32,
    suspect_pod: Option<Text>,
    suspect_tenant: Option<Text>,
}

/// Evidence that makes the test's own bets on another part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Follower {
    pod: u32,
    wealth: f32,
    allowance: f32,
}

impl Follower {
    fn log_e(&self) -> f64 {
        f64::from(self.wealth.max(f32::MIN_POSITIVE)).ln()
    }

    fn refill(&mut self, pace: f64) -> f64 {
        let allowance = refilled(self.allowance, pace);
        self.allowance = allowance as f32;
        allowance
    }

    fn grow(&mut self, growth: f64) {
        let growth = growth.clamp(0.0, f64::from(self.allowance).exp());
        self.wealth = (f64::from(self.wealth) * growth).clamp(1e-30, WEALTH_MAX) as f32;
        self.allowance -= growth.max(1.0).ln() as f32;
    }
}

/// One category in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    canary: f64,
    all: f64,
}

/// What is fixed for a window.
#[derive(Clone, Copy)]
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
        Self { name, rises, falls, not_more: 1.0, not_less: 1.0, control: 0.0, canary: 0.0 }
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

    fn bet(&mut self, seen: Seen, stake: f32, terms: &Terms) {
        let m = terms.tolerated;
        let fed = f64::from(stake) / 2.0 * terms.fed / CELLS as f64;
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
            *wealth = (f64::from(*wealth) * factor).clamp(1e-30, WEALTH_MAX) as f32;
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
            places: 0,
            allowance: ALLOWANCE_MAX as f32,
            waiting: 1.0 - STAKE_AT_START,
            joint_share: STAKE_AT_START / 2.0,
            joint_likelihood: STAKE_AT_START / 2.0,
            excess: 0.0,
            requests: 0.0,
            cells: 0.0,
            moved: None,
            whole: Follower { pod: 0, wealth: 1.0, allowance: ALLOWANCE_MAX as f32 },
            left_out: Vec::new(),
            slack: 0.0,
            suspect_pod: None,
            suspect_tenant: None,
        }
    }

    /// Learns names while the opening lasts, from what both arms had together.
    fn open(&mut self, control: &[(String, u64)], canary: &[(String, u64)], all: f64) {
        if self.windows >= OPENING {
            return;
        }
        let mut both: Vec<(&str, Seen)> = control
            .iter()
            .chain(canary)
            .map(|(name, n)| (name.as_str(), Seen { canary: 0.0, all: *n as f64 }))
            .collect();
        both.sort_by(|one, other| one.0.cmp(other.0));
        both.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1.all += next.1.all;
            }
            same
        });
        both.retain(|(_, seen)| seen.all > 0.0);
        self.learn_names(&both, all);
    }

    /// What each category had of one arm or a part of it.
    fn tabulated(&self, tally: &[(String, u64)]) -> Vec<f64> {
        let mut counts = vec![0.0; self.categories.len()];
        for (name, count) in tally {
            if let Some(sum) = counts.get_mut(self.place(name_hash(name))) {
                *sum += *count as f64;
            }
        }
        counts
    }

    /// Tells apart the largest names of the opening; only their totals over both arms are looked at.
    fn learn_names(&mut self, both: &[(&str, Seen)], all: f64) {
        if self.categories.is_empty() {
            self.places = (both.len().min(NAMED_MAX) + LATE_PLACES) as u8;
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
        self.categories.push(Category::start(name, self.stake_of(self.categories.len())));
    }

    /// The part of the stake, before time's, of the category at this place.
    fn stake_of(&self, place: usize) -> f32 {
        if place < usize::from(self.places) { 1.0 / f32::from(self.places) } else { 0.0 }
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

    fn terms(&self, setting: &Setting<'_>, theta: f64, canary_pods: usize, allowance: f64) -> Terms {
        let number = |value: f64, low: f64, high: f64| if value.is_finite() { value.clamp(low, high) } else { low };
        let calibration = setting.calibration;
        let known = if calibration.is_trusted { calibration.pod_log_sd } else { POD_LOG_SD_UNKNOWN };
        let spread = number(known, 0.0, 1.0) / (canary_pods.max(1) as f64).sqrt();
        let floor = (POD_DEVIATIONS * spread).exp();
        let believed = number(calibration.dispersion, 0.0, 1.0) * DISPERSION_WORTH + self.excess;
        let believed = believed / (DISPERSION_WORTH + self.requests);
        let shown = (DISPERSION_PRIOR * DISPERSION_PRIOR_WORTH + EXCESS_TAKEN * self.excess)
            / (DISPERSION_PRIOR_WORTH + self.requests);
        Terms {
            theta,
            tolerated: number(setting.check.ratio_max, 1.0, RATIO_LIMIT).max(floor),
            unsafe_from: (number(setting.safe_ratio, 1.0, RATIO_LIMIT) / floor).max(1.0),
            dispersion: believed.max(shown).clamp(0.0, 1.0),
            excess: (EXCESS_PRIOR * EXCESS_PRIOR_WORTH + EXCESS_TAKEN * self.excess).max(0.0)
                / (EXCESS_PRIOR_WORTH + self.cells),
            factor_max: if canary_pods > 1 { FACTOR_MAX } else { FACTOR_MAX_ONE_POD }.min(allowance.exp()),
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
        self.open(control, canary, control_sum + canary_sum);
        let arms = [(block.control, control), (block.canary, canary)].map(|(reading, counts)| {
            let whole = self.tabulated(counts);
            let heavy = self.heavy(reading, whole.iter().sum());
            (whole, heavy)
        });
        let [(control_whole, control_heavy), (canary_whole, canary_heavy)] = arms;
        let all = both(&control_whole, &canary_whole);
        let mut light = both(&less(&control_whole, &control_heavy.counts), &less(&canary_whole, &canary_heavy.counts));
        if theta(&light).is_none() {
            light.clone_from(&all);
        }
        let pods = self.pods(block.canary);
        let times = (block.span.as_secs_f64() / PACE_SECONDS).clamp(0.001, 240.0);
        let with = |each: [f64; 5]| each.get(pods.len().clamp(1, 5) - 1).copied().unwrap_or(0.0);
        let (pace, pace_without) = (setting.paced(with(PACES) * times), setting.paced(with(PACES_WITHOUT) * times));
        let allowance = refilled(self.allowance, pace);
        let Some(of_light) = theta(&light) else { return };
        let terms = self.terms(setting, of_light, pods.len(), allowance);
        let requests = self.remembered();
        let ratios: Vec<f64> = self
            .categories
            .iter()
            .zip(&light)
            .map(|(category, seen)| category.ratio(&requests, terms.inflation(seen.all)))
            .collect();
        self.slack = with(SLACKS) as f32;
        self.follow_without_pods(&all, &pods, &ratios, &terms, pace_without);
        let allowed = self.whole.refill(pace);
        let whole_growth = if all == light { None } else { self.growth(&all, &ratios, &terms, allowed) };
        let before = self.sum();
        self.play(&light, &ratios, &terms);
        let growth = self.sum() / before;
        self.whole.grow(whole_growth.unwrap_or(growth));
        self.allowance = (allowance - growth.ln().max(0.0)) as f32;
        self.learn(&light, &ratios, &terms);
        self.name_moved(control.iter().chain(canary).map(|(name, _)| name.as_str()));
        self.name_suspects(block, canary_heavy.name.or(control_heavy.name));
    }

    fn log_e_value(&self) -> f64 {
        let without = self.left_out.iter().map(|without| without.log_e() + f64::from(self.slack));
        without.fold(self.log_e_of_light().min(self.whole.log_e()), f64::min)
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
        if self.whole.log_e().max(self.log_e_of_light()) < PROOF {
            return None;
        }
        let without = self.left_out.iter().map(|without| without.log_e() + f64::from(self.slack));
        let without_pod = without.fold(f64::INFINITY, f64::min);
        if self.log_e_of_light() < PROOF {
            return self.suspect_tenant.clone().map(Concern::OneTenant);
        }
        if without_pod < PROOF {
            return self.suspect_pod.clone().map(Concern::OnePod);
        }
        let is_conclusive = self.log_e_value() >= PROOF;
        let moved = self.moved.as_ref().filter(|_| is_conclusive);
        moved.map(|(name, by)| Concern::Mismatch(f64::from(*by).abs(), name.clone()))
    }
}

/// What of one arm is heavy enough to be left out.
#[derive(Default)]
struct Heavy {
    counts: Vec<f64>,
    /// The heaviest tenant.
    name: Option<Text>,
}

/// What both arms had of each category.
fn both(control: &[f64], canary: &[f64]) -> Vec<Seen> {
    control.iter().zip(canary).map(|(control, canary)| Seen { canary: *canary, all: control + canary }).collect()
}

fn less(whole: &[f64], part: &[f64]) -> Vec<f64> {
    let part = part.iter().copied().chain(std::iter::repeat(0.0));
    whole.iter().zip(part).map(|(whole, part)| (whole - part).max(0.0)).collect()
}

/// The canary's share of all requests; `None` where either arm has none.
fn theta(seen: &[Seen]) -> Option<f64> {
    let (canary, all) = seen.iter().fold((0.0, 0.0), |(canary, all), seen| (canary + seen.canary, all + seen.all));
    (canary > 0.0 && canary < all).then(|| (canary / all).clamp(1e-9, 1.0 - 1e-9))
}

/// An allowance for growth after some more time.
fn refilled(allowance: f32, pace: f64) -> f64 {
    let pace = pace.max(0.01);
    (f64::from(allowance) + pace).min(pace.max(ALLOWANCE_MAX))
}

impl Mix {
    /// The heaviest tenants of an arm, by all that they asked for whatever it was; or, where tenants are not told apart,
    /// the pods with far more than their part, since a user who keeps to one makes it heavy.
    fn heavy(&self, reading: &Reading, whole: f64) -> Heavy {
        let parts = |kind| -> Vec<(&Text, Vec<f64>, f64)> {
            let counts = |part: &crate::domain::Tally| match part {
                Tally::Mix(counts) => Some(self.tabulated(counts)),
                Tally::Counts(_) | Tally::Histogram(_) | Tally::Samples(_) => None,
            };
            let of_kind = reading.parts_of(kind).filter_map(|part| Some((&part.name, counts(&part.tally)?)));
            of_kind.map(|(name, counts)| (name, counts.iter().sum(), counts)).map(|(n, sum, c)| (n, c, sum)).collect()
        };
        let tenants = parts(PartKind::Tenant);
        let names_tenants = !tenants.is_empty();
        let mut heavy = if names_tenants { tenants } else { parts(PartKind::Pod) };
        if !names_tenants {
            let usual = whole / heavy.len().max(1) as f64;
            heavy.retain(|(_, _, sum)| *sum > HEAVY_POD * usual);
        }
        heavy.sort_by(|one, other| other.2.total_cmp(&one.2).then_with(|| one.0.cmp(other.0)));
        let mut left_out = Heavy::default();
        let mut sum = 0.0;
        for (name, counts, part) in heavy.into_iter().take(HEAVIEST) {
            if sum + part <= LEFT_OUT_PART_MAX * whole {
                sum += part;
                left_out.name = left_out.name.or_else(|| names_tenants.then(|| shortened(name)));
                left_out.counts = if left_out.counts.is_empty() {
                    counts
                } else {
                    left_out.counts.iter().zip(&counts).map(|(sum, more)| sum + more).collect()
                };
            }
        }
        left_out
    }

    /// The canary's pods, by hash.
    fn pods(&self, canary: &Reading) -> Vec<(u32, Vec<f64>)> {
        let pods = canary.parts_of(PartKind::Pod).filter_map(|part| match &part.tally {
            Tally::Mix(counts) => Some((name_hash(part.name.as_str()), self.tabulated(counts))),
            Tally::Counts(_) | Tally::Histogram(_) | Tally::Samples(_) => None,
        });
        pods.collect()
    }

    /// The slots in which pods are left out; a new one begins as the whole, since its pod was never in it.
    fn claim(&mut self, pods: &[(u32, Vec<f64>)]) -> Vec<usize> {
        let slot = |(pod, _): &(u32, Vec<f64>)| {
            let gone = |left_out: &Follower| !pods.iter().any(|(pod, _)| *pod == left_out.pod);
            if let Some(at) = self.left_out.iter().position(|left_out| left_out.pod == *pod) {
                at
            } else if self.left_out.len() < LEFT_OUT_MAX {
                self.left_out.push(Follower { pod: *pod, ..self.whole });
                self.left_out.len() - 1
            } else if let Some(at) = self.left_out.iter().position(gone) {
                if let Some(left_out) = self.left_out.get_mut(at) {
                    left_out.pod = *pod;
                }
                at
            } else {
                *pod as usize % LEFT_OUT_MAX
            }
        };
        pods.iter().map(slot).collect()
    }

    fn follow_without_pods(
        &mut self,
        all: &[Seen],
        pods: &[(u32, Vec<f64>)],
        ratios: &[f64],
        terms: &Terms,
        pace: f64,
    ) {
        if pods.len() < 2 && self.left_out.is_empty() {
            return;
        }
        let slots = self.claim(pods);
        let mut left_out = std::mem::take(&mut self.left_out);
        for (at, without) in left_out.iter_mut().enumerate() {
            let allowance = without.refill(pace);
            let mut others = all.to_vec();
            for ((_, counts), _) in pods.iter().zip(&slots).filter(|(_, slot)| **slot == at) {
                for (seen, count) in others.iter_mut().zip(counts) {
                    let taken = count.min(seen.canary);
                    seen.canary -= taken;
                    seen.all -= taken;
                }
            }
            if let Some(growth) = self.growth(&others, ratios, terms, allowance) {
                without.grow(growth);
            }
        }
        self.left_out = left_out;
    }

    /// By what the evidence would grow if this had been seen.
    fn growth(&self, seen: &[Seen], ratios: &[f64], terms: &Terms, allowance: f64) -> Option<f64> {
        let terms = Terms { theta: theta(seen)?, factor_max: terms.factor_max.min(allowance.exp()), ..*terms };
        let mut after = self.clone();
        after.play(seen, ratios, &terms);
        Some(after.sum() / self.sum())
    }

    /// Makes the bets of a window.
    fn play(&mut self, seen: &[Seen], ratios: &[f64], terms: &Terms) {
        self.waiting -= terms.fed;
        for place in 0..self.categories.len() {
            let stake = self.stake_of(place);
            if let (Some(category), Some(seen)) = (self.categories.get_mut(place), seen.get(place))
                && seen.all > 0.0
            {
                category.bet(*seen, stake, terms);
            }
        }
        let all = seen.iter().map(|seen| seen.all).sum();
        self.bet_together(seen, ratios, terms, all);
    }

    /// The e-value of the bets themselves.
    fn sum(&self) -> f64 {
        let single: f64 = self.categories.iter().map(Category::wealth).sum();
        let staked: f64 = (0..self.categories.len()).map(|place| f64::from(self.stake_of(place))).sum();
        // What is not staked on a category that was told apart stays as it is.
        let single = single + (1.0 - staked).max(0.0) * STAKE_AT_START + self.waiting * staked.min(1.0);
        let idle = (1.0 - staked).max(0.0) * (1.0 - STAKE_AT_START);
        let together = self.joint_share + self.joint_likelihood + self.waiting;
        ((single + idle + together) / 2.0).max(f64::MIN_POSITIVE)
    }

    fn log_e_of_light(&self) -> f64 {
        self.sum().ln()
    }

    fn name_suspects(&mut self, block: &Block<'_>, tenant: Option<Text>) {
        self.suspect_tenant = tenant.or(self.suspect_tenant.take());
        let weakest = self.left_out.iter().min_by(|one, other| one.log_e().total_cmp(&other.log_e()));
        let Some(weakest) = weakest else { return };
        let named = block.canary.parts_of(PartKind::Pod).find(|part| name_hash(part.name.as_str()) == weakest.pod);
        if let Some(part) = named {
            self.suspect_pod = Some(shortened(&part.name));
        }
    }
}

fn shortened(name: &Text) -> Text {
    Text::new(name.as_str().chars().take(NAME_CHARS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{Check, CheckName, Direction, Origin, Selector, Sli, Weight},
        stats::Calibration,
    };

    fn check() -> Check {
        Check {
            name: CheckName::new("routes"),
            sli: Sli::Mix { counter: Selector::metric("answers"), by: "route".into() },
            direction: Direction::HigherIsWorse,
            ratio_max: 1.25,
            limit: None,
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

    fn part(kind: PartKind, name: &str, counts: &[(&str, u64)]) -> crate::domain::Part {
        crate::domain::Part { kind, name: Text::new(name), tally: tally(counts) }
    }

    /// A canary that shows the same in every window, beside a steady control.
    fn watched(canary: &Reading, windows: usize) -> Mix {
        let (mut test, check, calibration) = (Mix::start(), check(), Calibration::untrusted());
        let setting = Setting {
            check: &check,
            calibration: &calibration,
            safe_ratio: 2.0,
            pod_incident: crate::stats::POD_INCIDENT,
        };
        let control = Reading::whole(tally(&[("a", 700), ("b", 300)]));
        for _ in 0..windows {
            let span = std::time::Duration::from_secs(15);
            test.observe(&setting, &Block { control: &control, canary, span });
            assert!(postcard::to_allocvec(&test).unwrap().len() <= 1024);
        }
        test
    }

    #[test]
    fn one_tenant_or_one_pod_with_a_mix_of_its_own_is_named_and_is_no_proof() {
        let of_tenant = Reading {
            tally: tally(&[("a", 210), ("b", 390)]),
            parts: vec![part(PartKind::Tenant, "t", &[("b", 300)])],
        };
        let test = watched(&of_tenant, 60);
        assert!(test.log_e_value() < 1.0, "{}", test.log_e_value());
        assert_eq!(test.concern(), Some(Concern::OneTenant(Text::new("t"))));
        let pods = [("x", 70, 30), ("y", 72, 28), ("z", 0, 100)];
        let pods = pods.map(|(name, a, b)| part(PartKind::Pod, name, &[("a", a), ("b", b)])).to_vec();
        let test = watched(&Reading { tally: tally(&[("a", 142), ("b", 158)]), parts: pods }, 60);
        assert!(test.log_e_value() < PROOF, "{}", test.log_e_value());
        assert_eq!(test.concern(), Some(Concern::OnePod(Text::new("z"))));
    }

    #[test]
    fn no_three_minutes_of_one_pod_are_proof() {
        let bad = Reading::whole(tally(&[("b", 300)]));
        assert!(watched(&bad, 12).log_e_value() < PROOF && watched(&bad, 30).log_e_value() > PROOF);
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
