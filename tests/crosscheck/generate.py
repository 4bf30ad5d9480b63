#!/usr/bin/env python3
"""Computes what the statistics must agree with, and writes it to values.json beside this file.

Needs Python 3.10 or later with numpy and scipy; run it as `python3 tests/crosscheck/generate.py`, or with `--check` to
see whether values.json is what it would write. The inputs are drawn from a fixed seed, at least 200 for each section,
corners first.

Each section is a list of {"in": {...}, "out": number or list}; tests/crosscheck.rs compares. Where a law or a statistic
is in scipy, scipy computes it; a recursion is written out from its formula, in logarithms and cell by cell, so that it
shares no step with the crate's.

A block is [bad of control, all of control, bad of the canary, all of the canary].

  null_binomial    e-process after `before`, then one more block whose canary count has the law in `law`: its mean over
                   that law may not be above the e-value before. S given K is binomial with pi(m).
  null_hypergeometric  the same for arms that are alike (m = 1) and a rate that is not small: S given K and the totals
                   is hypergeometric.
  share_betting    log e-value after each block: betting on the share, cells {1.5,2.5,5,12,40} x {0,0.1,1}, 0.9 of the
                   possible stake at most, half of the stake fed in at 1/240 a block (a block without bad events feeds
                   nothing). Windows are bets of their own: S/K, m, theta from the block.
  bet_one_cell     logarithm of 1 + lambda (S/K - pi(m)) for one cell.
  likelihood_one_cell  logarithm of min(10, (pmf(S; K, pi(r)) / pmf(S; K, pi(m)))^(1/phi)), phi = 1 + (K-1) rho, the pmf
                   by scipy.stats.binom. `worse` is over m: r = m worse.
  tempered         log e-value after each block: the average over the cells r of that factor, half fed in at 1/240.
  information_limit  seconds: ln(1/alpha) over the divergence per second, Bernoulli arms with an unknown common rate.
  mann_whitney     two-sided p-value, asymptotic with ties and continuity (scipy.stats.mannwhitneyu), and the
                   Hodges-Lehmann shift y - x (the median of all pairwise differences).
  clopper_pearson  exact upper bound of a rate: `hits` of `runs`, one-sided confidence `level` (scipy.stats.beta).
  psi              population stability index of two mixes of counts; half a count is added to each category.
  kolmogorov_smirnov  largest distance of two samples' distributions (scipy.stats.ks_2samp).
  kolmogorov_smirnov_buckets  the same of two rows of buckets.
  beta_binomial    log of the beta-binomial mixture's likelihood ratio against theta, prior Beta(c theta, c (1-theta)),
                   by scipy.special.betaln.
  dirichlet_multinomial  the same for a mix, prior Dirichlet(c theta), by scipy.special.gammaln.
  howard_ramdas    half-width of the band that holds a distribution function at all times from n on.
  normal_mixture   log of the mixture SPRT over N(0, tau2) for a sum of n differences of variance v (Gaussian integral).
  autoregression   innovations (x_t - a x_{t-1}) / sqrt(1 - a^2) of a series, from its second value on.
  mantel_haenszel  (sum S_h - sum K_h pi_h(m)) / sum K_h over strata that both arms have.
  benjamini_hochberg  which of the e-values are attributed at alpha: e-BH.
  beta_quantile_interval  equal-tailed interval of a rate by Jeffreys' prior (scipy.stats.beta).
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from scipy import special, stats

N = 200
WORSE = [1.5, 2.5, 5.0, 12.0, 40.0]
CLUSTERED = [0.0, 0.1, 1.0]
rng = np.random.default_rng(20260601)


def short(x):
    """Twelve significant digits, so that the file is the same on every machine."""
    if isinstance(x, (list, tuple, np.ndarray)):
        return [short(y) for y in x]
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    if isinstance(x, (float, np.floating)):
        assert math.isfinite(x), x
        return float(f"{float(x):.12g}")
    return x


def case(out, **given):
    return {"in": {key: short(value) for key, value in given.items()}, "out": short(out)}


def share(ratio, theta):
    return ratio * theta / (ratio * theta + 1 - theta)


def margin():
    return float(rng.choice([1.0, 1.1, 1.25, 1.5, 2.0]))


def theta_totals():
    """Requests of control and canary at one of the usual shares, no two blocks alike."""
    part = rng.choice([0.01, 0.05, 0.1, 0.25, 0.5, 0.9])
    total = int(rng.integers(100, 20000))
    canary = max(1, int(total * part))
    return max(1, total - canary), canary


def block(base, ratio):
    control, canary = theta_totals()
    return [
        int(rng.binomial(control, min(base, 1.0))),
        control,
        int(rng.binomial(canary, min(base * ratio, 1.0))),
        canary,
    ]


def drawn(length):
    base, ratio = 10 ** rng.uniform(-4.5, -0.7), rng.choice([0.3, 1.0, 1.2, 2.0, 5.0])
    return [block(base, ratio) for _ in range(length)]


CORNERS = [
    [[0, 1000, 0, 10]],
    [[0, 990, 1, 10]],
    [[1, 990, 0, 10]],
    [[0, 1, 1, 1]],
    [[5, 5, 5, 5]],
    [[0, 990, 10, 10]] * 3,
    [[300, 990, 3, 10]] * 30,
    [[100, 1000, 0, 1000]] * 5,
    [[0, 1000, 100, 1000]] * 14,
    [[0, 0, 5, 10]],
    [[5, 10, 0, 0]],
]


def sequences(longest):
    """Rows of blocks, corners first."""
    rows = list(CORNERS)
    while len(rows) < N + len(CORNERS):
        rows.append(drawn(int(rng.integers(1, longest + 1))))
    return rows


def as_shares(row):
    """(S, K, theta) of the blocks in which anything can be compared."""
    for control_bad, control, canary_bad, canary in row:
        bad = control_bad + canary_bad
        comparable = control > 0 and canary > 0 and bad > 0
        yield (canary_bad, bad, canary / (control + canary)) if comparable else None


def log_sum(logs):
    return float(special.logsumexp(logs))


def fed_mixture(row, log_factors):
    """The log e-value after each block. The wealth of a cell is the sum over starts j of what was fed in at j times the
    factors since: kept as one logarithm per start, so nothing is rolled up on the way."""
    starts = [(math.log(0.5), 0.0)]  # (log of what was fed, place of the first factor)
    waiting, factors, path, cells = 0.5, [], [], None
    for window in as_shares(row):
        if window is not None:
            starts.append((math.log(waiting / 240), len(factors)))
            waiting *= 1 - 1 / 240
            factors.append(log_factors(*window))
            cells = len(factors[-1])
        if not factors:
            path.append(0.0)
            continue
        summed = np.array(factors)
        logs = [math.log(waiting)]
        for fed, first in starts:
            logs.extend(fed - math.log(cells) + summed[int(first):].sum(axis=0))
        path.append(log_sum(logs))
    return path


def log_bet(s, k, theta, m, worse, clustered):
    tolerated, supposed = share(m, theta), share(m * worse, theta)
    informative = k / (1 + (k - 1) * clustered)
    stake = min((supposed - tolerated) * informative / (tolerated * (1 - tolerated)), 0.9 / tolerated)
    return math.log1p(stake * (s / k - tolerated))


def log_likelihood(s, k, theta, m, worse, rho):
    ratio = stats.binom.logpmf(s, k, share(m * worse, theta)) - stats.binom.logpmf(s, k, share(m, theta))
    return min(math.log(10), float(ratio) / (1 + (k - 1) * rho))


def share_betting():
    cases = []
    for row in sequences(24):
        m = margin()
        factors = lambda s, k, theta: [log_bet(s, k, theta, m, w, c) for w in WORSE for c in CLUSTERED]
        cases.append(case(fed_mixture(row, factors), m=m, blocks=row))
    return cases


def tempered():
    cases = []
    for row in sequences(24):
        m, rho = margin(), float(rng.choice([0.0, 0.001, 0.01, 0.1, 0.9]))
        factors = lambda s, k, theta: [log_likelihood(s, k, theta, m, w, rho) for w in WORSE]
        cases.append(case(fed_mixture(row, factors), m=m, rho=rho, blocks=row))
    return cases


def window():
    """One window in which something bad happened."""
    while True:
        row = drawn(1)
        found = next(as_shares(row))
        if found is not None:
            return row[0], found


def bet_one_cell():
    cases = []
    for _ in range(N):
        one, (s, k, theta) = window()
        m, worse, clustered = margin(), float(rng.choice(WORSE)), float(rng.choice(CLUSTERED))
        out = log_bet(s, k, theta, m, worse, clustered)
        cases.append(case(out, block=one, m=m, worse=worse, clustered=clustered))
    return cases


def likelihood_one_cell():
    cases = []
    for _ in range(N):
        one, (s, k, theta) = window()
        m, worse, rho = margin(), float(rng.choice(WORSE)), float(rng.choice([0.0, 0.01, 0.1]))
        cases.append(case(log_likelihood(s, k, theta, m, worse, rho), block=one, m=m, worse=worse, rho=rho))
    return cases


def null_binomial():
    cases = []
    for _ in range(N):
        before = drawn(int(rng.integers(0, 12)))
        m, bad = margin(), int(rng.integers(1, 13))
        control, canary = theta_totals()
        control, canary = control + bad, canary + bad
        theta = canary / (control + canary)
        law = stats.binom.pmf(np.arange(bad + 1), bad, share(m, theta))
        cases.append(case(law, before=before, m=m, control=control, canary=canary, bad=bad))
    return cases


def null_hypergeometric():
    cases = []
    for _ in range(N):
        before = drawn(int(rng.integers(0, 6)))
        control, canary = int(rng.integers(8, 40)), int(rng.integers(8, 40))
        bad = int(rng.integers(1, 9))
        law = stats.hypergeom.pmf(np.arange(bad + 1), control + canary, bad, canary)
        cases.append(case(law, before=before, m=1.0, control=control, canary=canary, bad=bad))
    return cases


def kl(p, q):
    return float(special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q))


def information_limit():
    cases = []
    for _ in range(N):
        base, ratio = 10 ** rng.uniform(-4, -1.3), float(rng.choice([1.5, 2.0, 3.0, 5.0, 10.0]))
        part, rps = float(rng.choice([0.01, 0.05, 0.25, 0.5])), float(rng.choice([10, 100, 1000]))
        alpha = float(rng.choice([0.05, 0.01, 0.001]))
        base = float(f"{base:.6g}")
        canary, control = rps * part, rps * (1 - part)
        pooled = part * base * ratio + (1 - part) * base
        per_second = canary * kl(base * ratio, pooled) + control * kl(base, pooled)
        out = math.log(1 / alpha) / per_second
        cases.append(case(out, bad_rate=base, ratio=ratio, share=part, requests_per_second=rps, alpha=alpha))
    return cases


def samples():
    """Two samples, every third with ties."""
    tied = rng.random() < 0.33
    n, m = int(rng.integers(3, 25)), int(rng.integers(3, 25))
    x, y = rng.normal(0, 1, n), rng.normal(rng.choice([0, 0.5, 2]), 1, m)
    if tied:
        x, y = np.round(x), np.round(y)
    return [float(f"{v:.6g}") + 0.0 for v in x], [float(f"{v:.6g}") + 0.0 for v in y]


def mann_whitney():
    cases = []
    while len(cases) < N:
        x, y = samples()
        if len(set(x + y)) == 1:
            continue
        p = stats.mannwhitneyu(x, y, alternative="two-sided", method="asymptotic", use_continuity=True).pvalue
        shift = float(np.median(np.subtract.outer(y, x)))
        cases.append(case([float(p), shift], x=x, y=y))
    return cases


def clopper_pearson():
    cases = [case(stats.beta.ppf(0.95, h + 1, n - h), hits=h, runs=n, level=0.95) for h, n in [(0, 10000), (1, 10000)]]
    while len(cases) < N:
        n = int(10 ** rng.uniform(0, 6))
        hits, level = int(rng.binomial(n, 10 ** rng.uniform(-4, 0))), float(rng.choice([0.9, 0.95, 0.99]))
        out = 1.0 if hits == n else float(stats.beta.ppf(level, hits + 1, n - hits))
        cases.append(case(out, hits=hits, runs=n, level=level))
    return cases


def beta_quantile_interval():
    cases = []
    for _ in range(N):
        n = int(10 ** rng.uniform(0.5, 5))
        hits = int(rng.binomial(n, 10 ** rng.uniform(-3, -0.1)))
        low, high = stats.beta.ppf([0.025, 0.975], hits + 0.5, n - hits + 0.5)
        cases.append(case([float(low), float(high)], hits=hits, runs=n))
    return cases


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


def beta_binomial():
    cases = []
    for _ in range(N):
        theta = float(rng.choice([0.01, 0.05, 0.1, 0.25, 0.5]))
        bad, prior = int(10 ** rng.uniform(0, 4)), float(rng.choice([1, 10, 100]))
        on_canary = int(rng.binomial(bad, rng.choice([theta, share(2, theta), share(5, theta)])))
        a, b = prior * theta, prior * (1 - theta)
        mixed = special.betaln(a + on_canary, b + bad - on_canary) - special.betaln(a, b)
        out = mixed - on_canary * math.log(theta) - (bad - on_canary) * math.log1p(-theta)
        cases.append(case(float(out), on_canary=on_canary, bad=bad, theta=theta, concentration=prior))
    return cases


def dirichlet_multinomial():
    cases = []
    for _ in range(N):
        control, canary = mixes()
        theta = np.array(short((control + 1) / (control + 1).sum()))
        theta = theta / theta.sum()
        prior = float(rng.choice([1, 10, 100]))
        a = prior * theta
        mixed = special.gammaln(prior) - special.gammaln(prior + canary.sum())
        mixed += (special.gammaln(a + canary) - special.gammaln(a)).sum()
        out = mixed - special.xlogy(canary, theta).sum()
        cases.append(case(float(out), theta=theta, counts=canary, concentration=prior))
    return cases


def howard_ramdas():
    cases = []
    for _ in range(N):
        n, alpha = int(10 ** rng.uniform(0.5, 7)), float(rng.choice([0.05, 0.01, 0.001]))
        out = 0.85 * math.sqrt((math.log(math.log(math.e * n)) + 0.8 * math.log(1612 / alpha)) / n)
        cases.append(case(out, n=n, alpha=alpha))
    return cases


def normal_mixture():
    cases = []
    for _ in range(N):
        n, variance, tau2 = int(10 ** rng.uniform(0, 4)), float(10 ** rng.uniform(-2, 2)), float(10 ** rng.uniform(-2, 1))
        variance, tau2 = short(variance), short(tau2)
        total = short(float(rng.normal(rng.choice([0, 0.3]) * n, math.sqrt(n * variance))))
        # Ratio of the marginal densities of the sum: N(0, n v + n^2 tau2) to N(0, n v).
        wide, narrow = math.sqrt(n * variance + n * n * tau2), math.sqrt(n * variance)
        out = stats.norm.logpdf(total, 0, wide) - stats.norm.logpdf(total, 0, narrow)
        cases.append(case(float(out), sum=total, n=n, variance=variance, tau2=tau2))
    return cases


def autoregression():
    cases = []
    for _ in range(N):
        kept, length = float(rng.choice([0.0, 0.5, 0.9, 0.98])), int(rng.integers(2, 20))
        series = np.array(short(np.cumsum(rng.normal(size=length))))
        # The whitening matrix of an AR(1) covariance: the rows of its inverse Cholesky factor after the first.
        lags = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
        covariance = np.where(lags == 0, 1.0, np.power(kept, lags)) if kept > 0 else np.eye(length)
        white = np.linalg.solve(np.linalg.cholesky(covariance), series)[1:]
        # Beyond what the factorisation keeps there is only rounding.
        cases.append(case([float(f"{v:.9g}") for v in white], autocorrelation=kept, series=series))
    return cases


def mantel_haenszel():
    cases = []
    while len(cases) < N:
        m, strata = margin(), drawn(int(rng.integers(1, 8)))
        found = [window for window in as_shares(strata) if window is not None]
        if not found:
            continue
        s, k, theta = (np.array(column, dtype=float) for column in zip(*found))
        out = (s.sum() - (k * share(m, theta)).sum()) / k.sum()
        cases.append(case(float(out), m=m, strata=strata))
    return cases


def benjamini_hochberg():
    cases = []
    for _ in range(N):
        alpha, number = float(rng.choice([0.05, 0.01, 0.001])), int(rng.integers(1, 30))
        logs = np.array(short(rng.normal(math.log(1 / alpha), 4, number)))
        # e-BH is Benjamini and Hochberg's procedure on the reciprocals.
        adjusted = stats.false_discovery_control(np.minimum(np.exp(-logs), 1.0), method="bh")
        cases.append(case([bool(p <= alpha * (1 + 1e-12)) for p in adjusted], log_e=logs, alpha=alpha))
    return cases


SECTIONS = [
    null_binomial,
    null_hypergeometric,
    share_betting,
    bet_one_cell,
    likelihood_one_cell,
    tempered,
    information_limit,
    mann_whitney,
    clopper_pearson,
    beta_quantile_interval,
    psi,
    kolmogorov_smirnov,
    kolmogorov_smirnov_buckets,
    beta_binomial,
    dirichlet_multinomial,
    howard_ramdas,
    normal_mixture,
    autoregression,
    mantel_haenszel,
    benjamini_hochberg,
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
    values = {section.__name__: section() for section in SECTIONS}
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
