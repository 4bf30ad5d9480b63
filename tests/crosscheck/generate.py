#!/usr/bin/env python3
"""Computes what the statistics must agree with, and writes it to values.json beside this file.

Needs Python 3.10 or later with numpy and scipy; run it as `python3 tests/crosscheck/generate.py`, or with `--check` to
see whether values.json is what it would write. The inputs are drawn from a fixed seed, at least 200 for each section.

Each section is a list of {"in": {...}, "out": number or list}; tests/crosscheck.rs compares. Where a law or a statistic
is in scipy, scipy computes it; a process is written out from its formula, as a sum over the moments at which something
was fed in, so that it shares no step with the crate's. None is written as -1.

A block is [bad of control, all of control, bad of the canary, all of the canary]. A law is a list of probabilities, or of
[outcome..., probability].

The tests that are registered, as a rollout runs them:
  null_binomial    laws of the canary's part of `bad` events after `before`: for a canary `m` times as bad, `safe` times as
                   bad, and 5 m times as bad. Under the first the mean of the e-value may not be above what it was, under
                   the second that of the evidence of safety; under the third it must.
  null_hypergeometric  the same for arms that are alike and a rate that is not small.
  null_multivariate  for latency and mixes: laws of the canary's part of each bucket or category, given both arms' totals.
  count_test       log e-value and log evidence of safety after each block, without pods and with known, independent noise.
  count_effect     Mantel and Haenszel's ratio of the blocks, and the ends of its interval, by root finding.
  share_process    log e-value after each window, and that of the likelihood ratio alone, the ratio by scipy.stats.binom.
  latency_effect   the ratio at the check's edge over windows, and the ends of its interval, by root finding.
  level_amounts    log e-value after each block of amounts of single requests.
  level_exchanged  amounts, of which any may be the canary's: in how many ways. The mean over all may not be above before.
  mix_window       log e-value and evidence of safety after one window; index of stability and interval, chance by chi2.
What else is public:
  below_ratio      log e-value of "below the bound" after each block, by scipy.stats.binom.
  below_ratio_null  law of the canary's part at the bound.
  two_by_two       the same for rates that are not small: the nearest pair by root finding on the divergence.
  two_by_two_null  laws of both arms' bad ones at a pair of rates on the bound.
  quantile         estimate and interval ends of a histogram's quantile.
  psi              population stability index of two mixes of counts; half a count is added to each category.
  kolmogorov_smirnov  largest distance of two samples' distributions (scipy.stats.ks_2samp).
  kolmogorov_smirnov_buckets  the same of two rows of buckets.
  weighted_average  log of the average of e-values (scipy.special.logsumexp).
  e_benjamini_hochberg  which of the e-values are named at alpha: e-BH, by scipy on the reciprocals.
  closed_testing   log e-values after closed testing, by all subsets.
  no_control       p, number of windows, ratio and interval of a switch without a control; regression by numpy's lstsq.
                   Its series are made from `seed` by a generator that the test repeats.
  mann_whitney     whether Kayenta's judge rolls back, by scipy.stats.mannwhitneyu; none near the border.
  peers            whether a beta-binomial test, a z-test (by chi2_contingency) and a likelihood ratio roll back.
  clopper_pearson  exact bounds of a rate: `hits` of `runs`, one-sided confidence `level` (scipy.stats.beta).
  information_limit  seconds: ln(1/alpha) over the divergence per second, Bernoulli arms with an unknown common rate.
"""

import itertools
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy import optimize, special, stats

N = 200
LN10 = math.log(10)
rng = np.random.default_rng(20260601)


def short(x, digits=9):
    """So many significant digits, so that the file is small and the same on every machine."""
    if isinstance(x, (list, tuple, np.ndarray)):
        return [short(y, digits) for y in x]
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    if isinstance(x, (float, np.floating)):
        assert math.isfinite(x), x
        return float(f"{float(x):.{digits}g}")
    return x


def case(out, **given):
    return {"in": {key: short(value) for key, value in given.items()}, "out": short(out)}


def share(ratio, theta):
    return ratio * theta / (ratio * theta + 1 - theta)


def margin():
    return float(rng.choice([1.0, 1.1, 1.25, 1.5, 2.0]))


def of(*values):
    return float(rng.choice(values))


def theta_totals():
    """Requests of control and canary at one of the usual shares, no two blocks alike."""
    part = rng.choice([0.01, 0.05, 0.1, 0.25, 0.5, 0.9])
    total = int(rng.integers(100, 20000))
    canary = max(1, int(total * part))
    return max(1, total - canary), canary


def block(base, ratio):
    control, canary = theta_totals()
    bad = int(rng.binomial(control, min(base, 1.0))), int(rng.binomial(canary, min(base * ratio, 1.0)))
    return [bad[0], control, bad[1], canary]


def drawn(length):
    base, ratio = 10 ** rng.uniform(-4.5, -0.7), rng.choice([0.3, 1.0, 1.2, 2.0, 5.0])
    return [block(base, ratio) for _ in range(length)]


def steady(length):
    """Blocks whose rate is far from a surge: enough bad events in each, and shares of up to a half."""
    base, ratio = 10 ** rng.uniform(-2, -1), rng.choice([0.5, 1.0, 1.5, 2.0])
    rows = []
    for _ in range(length):
        control = int(rng.integers(4000, 9000))
        canary = int(control * rng.choice([0.01, 0.05, 0.25, 1.0]))
        rows.append([int(rng.binomial(control, base)), control, int(rng.binomial(canary, base * ratio)), canary])
    return rows


def log_ratio(s, k, to, by):
    """Of the binomial probabilities of s among k at the shares `to` and `by`."""
    return float(stats.binom.logpmf(s, k, to) - stats.binom.logpmf(s, k, by))


class Fed:
    """Wealth of one cell: what was fed in at each moment, each times the factors since, as logarithms."""

    def __init__(self, start):
        self.fed, self.grown = [start], [0.0]

    def feed(self, stake, log_factor):
        self.fed.append(stake)
        self.grown.append(0.0)
        self.grown = [log + log_factor for log in self.grown]

    def sum(self):
        return math.exp(special.logsumexp(self.grown, b=self.fed)) if any(self.fed) else 0.0


class ShareProcess:
    WORSE, HELD = [1.6, 2.6, 5.0, 12.0, 40.0], [0.3, 0.25, 0.2, 0.15, 0.1]

    def __init__(self):
        self.betting = [Fed(0.7 * 0.4 * held) for held in self.HELD]
        self.likelihood = [Fed(0.7 * 0.6 * held) for held in self.HELD]
        self.waiting, self.passed, self.allowance = 0.3, 0.0, LN10

    def sums(self):
        return sum(cell.sum() for cell in self.betting), sum(cell.sum() for cell in self.likelihood)

    def bet(self, s, k, theta, m, inflation, supposed, pace, seconds):
        times = seconds / 15
        allowance = min(self.allowance + pace * times, max(pace * times, LN10))
        self.allowance = allowance
        if k == 0:
            return
        before = sum(self.sums()) + self.waiting
        self.passed += times
        fed = self.waiting * times / (240 + self.passed)
        self.waiting -= fed
        tolerated = share(m, theta)
        for bet, ratio, worse, held in zip(self.betting, self.likelihood, self.WORSE, self.HELD):
            to = share(m * worse, theta)
            events = k / supposed
            good = min(1.0, to + 0.5 * math.sqrt(to * (1 - to) / events))
            stake = min(
                (to - tolerated) * events / (tolerated * (1 - tolerated)),
                0.9 / tolerated,
                math.expm1(allowance) / (good - tolerated),
            )
            bet.feed(fed * 0.4 * held, min(math.log1p(stake * (s / k - tolerated)), allowance))
            # What the ratio is expected to be, half a deviation up: it is linear in s.
            none, all_of_it = log_ratio(0, k, to, tolerated), log_ratio(k, k, to, tolerated)
            likely = k * to + 0.5 * math.sqrt(k * to * (1 - to) * inflation)
            power = max(inflation, (none + (all_of_it - none) * likely / k) / allowance)
            ratio.feed(fed * 0.6 * held, min(log_ratio(s, k, to, tolerated) / power, allowance))
        self.allowance = allowance - max(0.0, math.log((sum(self.sums()) + self.waiting) / before))

    def logs(self):
        betting, likelihood = self.sums()
        return [math.log(betting + likelihood + self.waiting), math.log(likelihood / 0.6 + self.waiting)]


def share_process():
    cases = []
    while len(cases) < N:
        m, process, logs = margin(), ShareProcess(), []
        stake = [of(1, 2.5, 8), of(1, 3), of(0.34, 1, 2), of(15, 60)]
        windows = [[c, a + c, b_all / (b_all + d)] for a, d, c, b_all in drawn(int(rng.integers(1, 9)))]
        windows = short(windows)
        for s, k, theta in windows:
            process.bet(s, k, theta, m, *stake)
            logs.append(process.logs())
        if max(map(max, logs)) < 14 and min(map(min, logs)) > -14:
            cases.append(case(logs, m=m, stake=stake, windows=windows))
    return cases


def count_test():
    cases = []
    while len(cases) < N:
        m, safe, blocks, logs = margin(), of(3.0, 4.0), steady(int(rng.integers(1, 9))), []
        worse, better = ShareProcess(), ShareProcess()
        for a, control, s, canary in blocks:
            theta = canary / (canary + control)
            worse.bet(s, a + s, theta, m, 1, 1, 0.34, 15)
            better.bet(a, a + s, 1 - theta, 1 / safe, 1, 1, 2.0, 15)
            logs.append([worse.logs()[0], better.logs()[0]])
        if np.abs(logs).max() < 14:
            cases.append(case(logs, m=m, safe=safe, blocks=blocks))
    return cases


def crossing(f, low, high):
    return math.exp(optimize.brentq(f, low, high, xtol=1e-12))


def count_effect():
    cases = []
    tilts = 2.0 * 0.5 ** np.arange(12)
    while len(cases) < N:
        blocks = steady(int(rng.integers(1, 12)))
        a, control, s, canary = np.array(blocks, dtype=float).T
        theta = canary / (canary + control)
        worse, better = (s * (1 - theta)).sum(), (a * theta).sum()
        variance, most = ((a + s) * theta * (1 - theta)).sum(), theta.max()
        if better == 0 or worse == 0:
            continue
        mixed = lambda logs: special.logsumexp(logs) - math.log(len(tilts)) - math.log(40)
        above = lambda r: mixed(tilts * (worse - r * better) - r * variance * (np.expm1(tilts) - tilts))
        step = lambda r: r * most
        below = lambda r: mixed(
            tilts * (r * better - worse) / step(r) - r * variance / step(r) ** 2 * (np.expm1(tilts) - tilts)
        )
        middle = math.log(worse / better)
        low = crossing(lambda x: above(math.exp(x)), -13.9, middle) if above(math.exp(-13.9)) > 0 else 0.0
        if below(math.exp(13.9)) <= 0:
            continue
        high = crossing(lambda x: below(math.exp(x)), middle, 13.9)
        if low > 1e-5:
            cases.append(case([worse / better, low, high], blocks=blocks))
    return cases


def null_binomial():
    cases = []
    for _ in range(N):
        before, m, bad, safe = drawn(int(rng.integers(0, 7))), margin(), int(rng.integers(1, 13)), of(3, 4)
        control, canary = theta_totals()
        control, canary = control + bad, canary + bad
        theta = canary / (control + canary)
        laws = [stats.binom.pmf(np.arange(bad + 1), bad, share(r, theta)) for r in (m, safe, 5 * m)]
        cases.append(case(laws, before=before, m=m, safe=safe, control=control, canary=canary, bad=bad))
    return cases


def null_hypergeometric():
    cases = []
    for _ in range(N):
        before = drawn(int(rng.integers(0, 4)))
        control, canary = int(rng.integers(8, 40)), int(rng.integers(8, 40))
        bad = int(rng.integers(1, 9))
        law = stats.hypergeom.pmf(np.arange(bad + 1), control + canary, bad, canary)
        cases.append(case(law, before=before, m=1.0, control=control, canary=canary, bad=bad))
    return cases


def null_multivariate():
    cases = []
    for _ in range(N):
        common = np.array([0.9, 0.07, 0.03])
        rows = [[rng.multinomial(int(rng.integers(50, 900)), common) for _ in range(2)] for _ in range(rng.integers(0, 5))]
        both = [int(rng.integers(20, 400)), int(rng.integers(1, 5)), int(rng.integers(0, 4))]
        canary = int(rng.integers(8, sum(both) - 8))
        outcomes = itertools.product(range(both[1] + 1), range(both[2] + 1))
        outcomes = [[canary - i - j, i, j] for i, j in outcomes if 0 <= canary - i - j <= both[0]]
        law = [[*x, stats.multivariate_hypergeom.pmf(x, both, canary)] for x in outcomes]
        cases.append(case([row for row in law if row[-1] > 1e-12], before=rows, m=margin(), both=both))
    return cases


def latency_effect():
    cases = []
    while len(cases) < N:
        blocks = drawn(int(rng.integers(1, 10)))
        a, control, s, canary = np.array(blocks, dtype=float).T
        theta = canary / (canary + control)
        top, bottom = (s * (1 - theta)).sum(), (a * theta).sum()
        variance = ((a + s) * theta * (1 - theta)).sum()
        if top == 0 or bottom == 0:
            continue
        spread = lambda r: r * variance + 20
        off = lambda r: (top - r * bottom) ** 2 - spread(r) * math.log(spread(r) / (20 * 0.05**2))
        middle = math.log(top / bottom)
        ends = []
        for far in (middle - 19, middle + 19):
            outward = math.copysign(1, far - middle)
            found = off(math.exp(far)) > 0
            ends.append(crossing(lambda x: off(math.exp(x)), *sorted((middle, far))) if found else math.exp(middle + 20 * outward))
        cases.append(case([top / bottom, *ends], blocks=blocks))
    return cases


def forgetful(values, memory):
    """A mean in which the last `memory` weigh most, as a weighted sum."""
    weights = np.array([1 / min(i + 1, memory) for i in range(len(values))])
    kept = np.append(np.cumprod((1 - weights[1:])[::-1])[::-1], 1.0)
    return float((weights * kept * values).sum())


def gauge_noise(steps_one, steps_two):
    weight = len(steps_two)
    if weight < 8:
        return None
    one, two = np.mean(steps_one), np.mean(steps_two)
    told = min(max(two / one - 1, 0), 1)
    error = math.sqrt((1.05 - told**2) / weight) + 4 / weight
    normal = 3 * len(steps_one) * one**2 / np.mean(np.square(steps_one))
    is_steady = normal >= 12 and normal >= 0.03 * weight
    kept = min(max(told + error, 0), 0.995 if is_steady else 0.9)
    return kept, one * (1 + kept) * (1 + 4 / weight), is_steady, 2 / math.sqrt(weight)


def amounts(length):
    scale = of(0.5, 1, 2)
    return [[short(np.exp(rng.normal(0, scale, int(rng.integers(4, 7)))), 3) for _ in range(2)] for _ in range(length)]


def level_amounts():
    cases = []
    for _ in range(N):
        m, rows, logs = margin(), amounts(int(rng.integers(1, 6))), []
        cells, waiting, spreads = [Fed(0.125) for _ in range(4)], 0.5, []
        for t, (control, canary) in enumerate(rows):
            theta, part = len(canary) / (len(canary) + len(control)), sum(canary) / (sum(canary) + sum(control))
            coin = theta * (1 - theta)
            # A guess of 0.05 stands for the first two blocks.
            variance = max((0.05 * 2 + sum(spreads)) / (2 + len(spreads)) * coin, 1e-9)
            pi = share(m, theta)
            for cell, worse in zip(cells, (1.2, 1.5, 2.5, 6.0)):
                lead = share(m * worse, theta) - pi
                bet = min(lead / (variance + lead**2), 0.9 / pi)
                cell.feed(waiting / 240 / 4, math.log1p(bet * (part - pi)))
            waiting *= 1 - 1 / 240
            spreads.append((part - theta) ** 2 / coin)
            logs.append(math.log((1 + waiting + sum(cell.sum() for cell in cells)) / 2))
        cases.append(case(logs, m=m, rows=rows))
    return cases


def level_exchanged():
    cases = []
    for _ in range(N):
        pooled = short(np.exp(rng.normal(0, of(0.5, 1, 2), 8)), 4)
        cases.append(case(int(special.comb(8, 4, exact=True)), before=amounts(int(rng.integers(0, 3))), pooled=pooled))
    return cases


def mix_window():
    cases = []
    while len(cases) < N:
        m, safe, dispersion = margin(), of(3, 4), of(0, 0.001, 0.01)
        common = rng.dirichlet(np.full(int(rng.integers(2, 9)), 3.0))
        other = common if rng.random() < 0.5 else rng.dirichlet(50 * common)
        control, canary = rng.multinomial(int(rng.integers(200, 5000)), common), rng.multinomial(int(rng.integers(50, 2000)), other)
        both = control + canary
        if both.min() < 2:
            continue
        n, named = both.sum(), len(both)
        theta = canary.sum() / n
        single, fed = 0.0, 0.5 / 240
        least = math.inf
        stake = 1 / (named + 3)
        for s, k in zip(canary, both):
            inflation = 1 + (k - 1) * dispersion
            for way in (1, -1):
                by = share(m**way, theta)
                for worse, is_bet in ((2.0, True), (1.4, False), (3.0, False)):
                    to = share((m * worse) ** way, theta)
                    if is_bet:
                        bet = (to - by) * k / inflation / (by * (1 - by))
                        pay = 1 + min(max(bet, -0.9 / (1 - by)), 0.9 / by) * (s / k - by)
                    else:
                        pay = math.exp(min(log_ratio(s, k, to, by) / inflation, 10))
                    single += stake / 2 / 3 * (0.5 + fed) * min(pay, 5)
                back = log_ratio(s, k, theta, share(safe**way, theta)) / inflation
                if k >= 0.02 * n:
                    least = min(least, max(min(back, math.log(5)), math.log(1e-30)))
        # Two more places are there from the start, for what is new and for the rest; what they bet stands still.
        staked = (named + 2) * stake
        single += 2 * stake * 0.5 + (1 - staked) * 0.5 + (0.5 - fed) * staked + (1 - staked) * 0.5
        log_e = math.log((single + 1) / 2)
        p, q = [(x + 0.5) / (x + 0.5).sum() for x in (canary, control)]
        index = float(special.rel_entr(p, q).sum() + special.rel_entr(q, p).sum())
        spread = min(stats.chi2_contingency([control, canary], correction=False).statistic - named, 1e9)
        cell = (canary - both * theta) ** 2 / (both * theta * (1 - theta)) - 1
        if cell.max() > 190:
            continue
        unit = (1 / canary.sum() + 1 / control.sum()) * (1 + max(spread, 0) / (named + 1))
        free = named - 1
        tail = math.log(20) + 2 * math.log(math.log2(n) + 1)
        radius = math.sqrt(unit * (free + 2 * math.sqrt(free * tail) + 2 * tail))
        ends = max(math.sqrt(index) - radius, 0) ** 2, (math.sqrt(index) + radius) ** 2
        out = [log_e, least, max(index - free * unit, 0), *ends]
        cases.append(case(out, m=m, safe=safe, dispersion=dispersion, control=control, canary=canary))
    return cases


STAKES = [0.15, 0.7, 0.15]


def supposed(bound):
    middle = 1.0 if bound > 1.05 else bound * 0.75
    return [middle / 2, middle, math.sqrt(middle * bound)]


def below(blocks, bound, dispersion, log_of):
    """Log e-value after each block; `log_of(block, ratio)` is the log likelihood ratio of a supposed ratio."""
    cells, waiting, logs = [Fed(0.95 * stake) for stake in STAKES], 0.05, []
    for one in blocks:
        bad = one[0] + one[2]
        if bad > 0:
            fed = waiting / 60
            waiting -= fed
            phi = 1 + (bad - 1) * dispersion
            for cell, stake, ratio in zip(cells, STAKES, supposed(bound)):
                cell.feed(fed * stake, min(log_of(one, ratio) / phi, math.log(3)))
        logs.append(math.log(waiting + sum(cell.sum() for cell in cells)))
    return logs


def below_ratio():
    cases = []
    while len(cases) < N:
        bound, dispersion, blocks = of(0.9, 1.0, 1.25, 2.0, 4.0), of(0, 0.01, 0.1), drawn(int(rng.integers(1, 9)))
        at = lambda one, r: share(r, one[3] / (one[1] + one[3]))
        logs = below(blocks, bound, dispersion, lambda one, r: log_ratio(one[2], one[0] + one[2], at(one, r), at(one, bound)))
        if np.abs(logs).max() < 20:
            cases.append(case(logs, bound=bound, dispersion=dispersion, blocks=blocks))
    return cases


def below_ratio_null():
    cases = []
    for _ in range(N):
        bad, bound, theta = int(rng.integers(1, 13)), of(0.5, 0.9, 1.0, 1.25, 2.0, 4.0), short(rng.uniform(0.01, 0.95))
        law = stats.binom.pmf(np.arange(bad + 1), bad, share(bound, theta))
        cases.append(case(law, bad=bad, bound=bound, theta=theta))
    return cases


def log_two_by_two(one, rate, ratio, bound):
    a, control, s, canary = one
    theta = canary / (canary + control)
    p0 = min(rate / (ratio * theta + 1 - theta), 0.999, 0.999 / ratio)
    p1 = ratio * p0
    # Where the divergence to (bound q, q) is flat.
    slope = lambda q: (
        theta * (bound * (1 - p1) / (1 - bound * q) - p1 / q) + (1 - theta) * ((1 - p0) / (1 - q) - p0 / q)
    )
    q0 = optimize.brentq(slope, 1e-12, min(1, 1 / bound) * (1 - 1e-12), xtol=1e-15)
    return log_ratio(s, canary, p1, bound * q0) + log_ratio(a, control, p0, q0)


def two_by_two():
    cases = []
    while len(cases) < N:
        rate, bound, dispersion = of(0.05, 0.2, 0.5), of(1.0, 1.25, 2.0), of(0, 0.05)
        blocks = []
        for _ in range(int(rng.integers(1, 7))):
            control, canary = int(rng.integers(5, 80)), int(rng.integers(5, 80))
            blocks.append([int(rng.binomial(control, rate)), control, int(rng.binomial(canary, rate)), canary])
        if any(a + s == 0 for a, _, s, _ in blocks):
            continue
        logs = below(blocks, bound, dispersion, lambda one, r: log_two_by_two(one, rate, r, bound))
        if np.abs(logs).max() < 20:
            cases.append(case(logs, rate=rate, bound=bound, dispersion=dispersion, blocks=blocks))
    return cases


def two_by_two_null():
    cases = []
    for _ in range(N):
        rate, bound = of(0.05, 0.2, 0.5, 0.8), of(0.5, 1.0, 1.25, 2.0)
        control, canary = int(rng.integers(1, 12)), int(rng.integers(1, 12))
        q = short(rng.uniform(0.01, 0.99) * min(1, 1 / bound))
        laws = [stats.binom.pmf(np.arange(n + 1), n, p) for n, p in ((control, q), (canary, q * bound))]
        cases.append(case(laws, rate=rate, bound=bound))
    return cases


def quantile():
    cases = []
    while len(cases) < N:
        bounds = np.array([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
        p, alpha, n = of(0.5, 0.9, 0.95, 0.99), of(0.05, 0.01, 0.001), int(10 ** rng.uniform(0, 6))
        counts = rng.multinomial(n, rng.dirichlet(np.ones(len(bounds) + 1)))
        through = np.cumsum(counts)[:-1]
        off = 0.85 * math.sqrt((math.log(math.log(math.e * n)) + 0.8 * math.log(1612 / alpha)) / n)
        at = int(np.searchsorted(through, p * n))
        estimate = -1.0
        if at < len(bounds):
            edges, cumulative = np.append(0.0, bounds), np.append(0, through)
            estimate = np.interp(p * n, cumulative[at : at + 2], edges[at : at + 2])
        low, high = bounds[through / n + off < p], bounds[through / n - off >= p]
        out = [float(estimate), float(low.max()) if len(low) else -1.0, float(high.min()) if len(high) else -1.0]
        cases.append(case(out, bounds=bounds, counts=counts, p=p, alpha=alpha))
    return cases


def samples():
    """Two samples, every third with ties."""
    tied = rng.random() < 0.33
    n, m = int(rng.integers(3, 25)), int(rng.integers(3, 25))
    x, y = rng.normal(0, 1, n), rng.normal(rng.choice([0, 0.5, 2]), 1, m)
    if tied:
        x, y = np.round(x), np.round(y)
    return [float(f"{v:.4g}") + 0.0 for v in x], [float(f"{v:.4g}") + 0.0 for v in y]


def mixes():
    categories = int(rng.integers(2, 12))
    one = rng.dirichlet(np.ones(categories))
    other = one if rng.random() < 0.4 else rng.dirichlet(np.ones(categories))
    return rng.multinomial(int(rng.integers(20, 5000)), one), rng.multinomial(int(rng.integers(20, 5000)), other)


def psi():
    cases = []
    for _ in range(N):
        control, canary = mixes()
        p = (control + 0.5) / (control + 0.5).sum()
        q = (canary + 0.5) / (canary + 0.5).sum()
        # The symmetric divergence: both relative entropies added.
        out = float(special.rel_entr(p, q).sum() + special.rel_entr(q, p).sum())
        cases.append(case(out, control=control, canary=canary))
    return cases


def kolmogorov_smirnov():
    cases = []
    for _ in range(N):
        x, y = samples()
        cases.append(case(float(stats.ks_2samp(x, y).statistic), x=x, y=y))
    return cases


def kolmogorov_smirnov_buckets():
    cases = []
    for _ in range(N):
        control, canary = mixes()
        # Each bucket as a sample of its place: the same distance, by scipy.
        expand = lambda row: np.repeat(np.arange(len(row)), row)
        cases.append(case(float(stats.ks_2samp(expand(control), expand(canary)).statistic), control=control, canary=canary))
    return cases


def weighted_average():
    cases = []
    for _ in range(N):
        number = int(rng.integers(1, 13))
        weights = short(rng.dirichlet(np.ones(number)) * of(0.5, 0.999), 4)
        logs = short(rng.normal(0, 30, number), 4)
        cases.append(case(float(special.logsumexp(logs, b=weights)), weights=weights, log_e=logs))
    return cases


def e_benjamini_hochberg():
    cases = []
    for _ in range(N):
        alpha, number = of(0.05, 0.01, 0.001), int(rng.integers(1, 25))
        logs = np.array(short(rng.normal(math.log(1 / alpha), 4, number), 5))
        # e-BH is Benjamini and Hochberg's procedure on the reciprocals.
        adjusted = stats.false_discovery_control(np.minimum(np.exp(-logs), 1.0), method="bh")
        cases.append(case([bool(p <= alpha * (1 + 1e-12)) for p in adjusted], log_e=logs, alpha=alpha))
    return cases


def closed_testing():
    cases = []
    for _ in range(N):
        logs = np.array(short(rng.normal(3, 4, int(rng.integers(1, 9))), 5))
        subsets = [list(s) for size in range(1, len(logs) + 1) for s in itertools.combinations(range(len(logs)), size)]
        averages = [(s, special.logsumexp(logs[s]) - math.log(len(s))) for s in subsets]
        out = [float(min(average for s, average in averages if i in s)) for i in range(len(logs))]
        cases.append(case(out, log_e=logs))
    return cases


def made_series(seed, minutes, watch, percent):
    """The metric and two siblings, whole numbers with gaps; after the switch the metric is `percent` of what it was."""
    state, rows = seed, []

    def next_below(limit):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % limit

    for t in range(minutes + watch):
        day = abs(t % 1440 - 720)
        common = 200 + day + next_below(100)
        row = [common + next_below(60), 2 * common + next_below(90), 500 + next_below(200)]
        if t >= minutes:
            row[0] = row[0] * percent // 100
        if next_below(50) == 0:
            row[next_below(3)] = None
        rows.append([math.nan if x is None else float(x) for x in row])
    return np.array(rows).T


def running_mean(values, least, back, ahead):
    """Means of what is there, from so many minutes back to so many ahead; NaN where it is less than `least`."""
    there = np.isfinite(values)
    sums, n = np.append(0, np.cumsum(np.where(there, values, 0))), np.append(0, np.cumsum(there))
    at = np.arange(len(values))
    low, high = np.maximum(at - back, 0), np.minimum(at + ahead + 1, len(values))
    many = n[high] - n[low]
    return np.where(many >= least, (sums[high] - sums[low]) / np.maximum(many, 1), np.nan)


def ridge(target, columns, start, to):
    """What is expected at every minute, by numpy's least squares on rows that the ridge adds; None without a fit."""
    minutes = np.arange(max(start, 0), to, 5)
    used = [c for c in columns if np.isfinite(c[minutes]).sum() * 2 > len(minutes)]
    if not used:
        return None
    rows = minutes[np.isfinite(target[minutes]) & np.all([np.isfinite(c[minutes]) for c in used], axis=0)]
    if len(rows) < 260:
        return None
    table = np.array([c[rows] for c in used]).T
    centre, spread = table.mean(axis=0), table.std(axis=0)
    table = (table - centre) / spread
    wanted = target[rows]
    for again in (True, False):
        level = wanted.mean()
        more = np.vstack([table, np.sqrt(0.01 * len(rows)) * np.eye(len(used))])
        slopes = np.linalg.lstsq(more, np.append(wanted - level, np.zeros(len(used))), rcond=None)[0]
        if again:
            fitted = level + table @ slopes
            sizes = np.sort(np.abs(wanted - fitted))
            typical = 1.4826 * sizes[len(sizes) // 2]
            wanted = np.clip(wanted, fitted - 3 * typical, fitted + 3 * typical)
    return level + sum(slope / s * (c - m) for slope, s, m, c in zip(slopes, spread, centre, used))


def no_control():
    cases = []
    while len(cases) < N:
        seed, watch, percent = int(rng.integers(2**62)), int(rng.integers(30, 70)), int(rng.choice([100, 100, 104, 110, 130]))
        minutes, seen = int(rng.integers(3100, 4200)), int(rng.integers(12, watch + 1))
        series = made_series(seed, minutes, watch, percent)
        logs = np.log(series)
        target = logs[0].copy()
        smooth = running_mean(target[:minutes], 1, 7, 7)
        lag = lambda by: np.append(np.full(by, np.nan), smooth)[: minutes + watch]
        columns = [logs[1], logs[2], *(np.pad(lag(by), (0, minutes + watch - len(lag(by))), constant_values=np.nan) for by in (1440, 10080))]

        def means(at, length):
            expected = ridge(target, columns, at - 3 * 1440, at)
            if expected is None:
                return None
            off = target - expected
            hour = off[at - 60 : at]
            if np.isfinite(hour).sum() < 15:
                return None
            return running_mean(off[at : at + length] - np.nanmean(hour), 10, 29, 0)

        paths = [means(at, watch) for at in range(minutes - watch, -1, -watch)]
        paths = np.array([path for path in paths if path is not None])
        # Every fifth of the half hour around each minute.
        around = lambda t: np.arange(max(t - 15, 0), min(t + 15, watch), 5)
        middle = lambda x: max(x[len(x) // 2], 1e-6) if len(x) else 1.0
        typical = np.array([middle(np.sort(np.abs(p := paths[:, around(t)])[np.isfinite(p)])) for t in range(watch)])
        found = means(minutes, seen)
        n = len(paths)
        if n < 19 or found is None or not np.isfinite(found).any():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            largest, history = np.nanmax(found / typical[:seen]), np.nanmax(paths / typical, axis=1)
        last = np.flatnonzero(np.isfinite(found))[-1]
        if np.abs(history / largest - 1).min() < 1e-6:
            continue
        chance = np.sort(paths[:, last][np.isfinite(paths[:, last])])
        outside = max(int((len(chance) + 1) * 0.025), 1)
        low, high = chance[outside - 1], chance[len(chance) - outside]
        out = [(1 + (history >= largest).sum()) / (n + 1), n, *np.exp(found[last] - np.array([0, high, low]))]
        cases.append(case(out, seed=seed, minutes=minutes, watch=watch, seen=seen, percent=percent))
    return cases


def mann_whitney():
    cases = []
    while len(cases) < N:
        minutes, base, ratio = int(rng.integers(5, 13)), rng.uniform(0.005, 0.05), of(0.8, 1, 1.2, 1.5, 2, 3)
        arm = lambda rate: [[int(rng.binomial(n, rate)), n] for n in map(int, rng.integers(800, 3000, minutes))]
        canary, baseline = arm(base * ratio), arm(base)
        x, y = (np.array([100 * bad / n for bad, n in points]) for points in (canary, baseline))
        shift = float(np.median(np.subtract.outer(x, y)))
        p = lambda d: stats.mannwhitneyu(x - d, y, alternative="two-sided", method="asymptotic", use_continuity=True)
        tried = [p(0.25 * abs(shift) + off) for off in (-0.02, 0.0, 0.02)]
        is_high = [t.pvalue < 0.02 and t.statistic > minutes**2 / 2 for t in tried]
        if len(set(is_high)) == 1 and abs(x.mean() / y.mean() - 1) > 1e-3:
            cases.append(case(is_high[0] and x.mean() > y.mean(), canary=canary, baseline=baseline))
    return cases


def peers():
    cases = []
    while len(cases) < N:
        control, canary = theta_totals()
        base, ratio = 10 ** rng.uniform(-3, -1), of(1, 1.5, 2, 3, 5)
        a, s = int(rng.binomial(control, base)), int(rng.binomial(canary, min(1, base * ratio)))
        bad, theta = a + s, canary / (canary + control)
        if bad == 0 or bad == control + canary:
            continue
        prior = 10 * theta, 10 * (1 - theta)
        null = s * math.log(theta) + a * math.log1p(-theta)
        beta = special.betaln(prior[0] + s, prior[1] + a) - special.betaln(*prior) - null
        beta = beta if s > theta * bad else -1.0
        chi2 = stats.chi2_contingency([[a, control - a], [s, canary - s]], correction=False)
        z = math.copysign(math.sqrt(chi2.statistic), s / canary - a / control)
        ratios = [log_ratio(s, bad, share(r, theta), theta) for r in (1.5, 2.5, 5, 12, 40)]
        plain = special.logsumexp(ratios) - math.log(5)
        borders = beta - math.log(1000), z - stats.norm.isf(0.001), plain - math.log(1000)
        if min(map(abs, borders)) > 1e-6:
            cases.append(case([bool(border > 0) for border in borders], block=[a, control, s, canary]))
    return cases


def clopper_pearson():
    drawn = [(0, 10000, 0.95), (1, 10000, 0.95)]
    while len(drawn) < N:
        n = int(10 ** rng.uniform(0, 6))
        drawn.append((int(rng.binomial(n, 10 ** rng.uniform(-4, 0))), n, of(0.9, 0.95, 0.99)))
    cases = []
    for h, n, level in drawn:
        high = 1.0 if h == n else float(stats.beta.ppf(level, h + 1, n - h))
        low = 0.0 if h == 0 else float(stats.beta.ppf(1 - level, h, n - h + 1))
        cases.append(case([low, high], hits=h, runs=n, level=level))
    return cases


def kl(p, q):
    return float(special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q))


def information_limit():
    cases = []
    for _ in range(N):
        base, ratio = 10 ** rng.uniform(-4, -1.3), of(1.5, 2.0, 3.0, 5.0, 10.0)
        part, rps, alpha = of(0.01, 0.05, 0.25, 0.5), of(10, 100, 1000), of(0.05, 0.01, 0.001)
        base = float(f"{base:.6g}")
        canary, control = rps * part, rps * (1 - part)
        pooled = part * base * ratio + (1 - part) * base
        per_second = canary * kl(base * ratio, pooled) + control * kl(base, pooled)
        out = math.log(1 / alpha) / per_second
        cases.append(case(out, bad_rate=base, ratio=ratio, share=part, requests_per_second=rps, alpha=alpha))
    return cases


SECTIONS = [
    null_binomial,
    null_hypergeometric,
    null_multivariate,
    count_test,
    count_effect,
    share_process,
    latency_effect,
    level_amounts,
    level_exchanged,
    mix_window,
    below_ratio,
    below_ratio_null,
    two_by_two,
    two_by_two_null,
    quantile,
    psi,
    kolmogorov_smirnov,
    kolmogorov_smirnov_buckets,
    weighted_average,
    e_benjamini_hochberg,
    closed_testing,
    no_control,
    mann_whitney,
    peers,
    clopper_pearson,
    information_limit,
]


def close(one, other):
    """Equal but for the last digits, which differ from one build of numpy to another."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(close(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-7, abs_tol=1e-10)
    return one == other


def main():
    global rng
    values = {}
    for section in SECTIONS:
        # Each section draws by itself, so that another one does not change it.
        rng = np.random.default_rng([20260601, *section.__name__.encode()])
        values[section.__name__] = section()
    for name, cases in values.items():
        assert len(cases) >= N, f"{name} has {len(cases)} cases"
    path = Path(__file__).with_name("values.json")
    if "--check" in sys.argv[1:]:
        sys.exit(None if close(values, json.loads(path.read_text())) else f"{path} is not what this script writes")
    lines = []
    for name, cases in values.items():
        rows = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
        lines.append(f'"{name}":[\n{rows}\n]')
    path.write_text("{" + ",\n".join(lines) + "}\n")
    print(f"{path}: {sum(map(len, values.values()))} cases in {len(values)} sections")


if __name__ == "__main__":
    main()
