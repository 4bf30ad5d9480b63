//! How far a share that was counted may be from the true one: exact (Clopper-Pearson) bounds.
//!
//! Sources: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial" (1934);
//! the incomplete beta function by Lentz's continued fraction and the gamma function by Lanczos, as in Press et al.,
//! "Numerical Recipes", 6.1 and 6.4.

/// A share that is not exceeded by the true one with this confidence, when `hits` of `runs` were counted.
pub fn upper_bound(hits: u64, runs: u64, confidence: f64) -> f64 {
    if hits >= runs {
        return 1.0;
    }
    beta_quantile(confidence, hits as f64 + 1.0, (runs - hits) as f64)
}

/// A share that the true one is not below, with this confidence.
pub fn lower_bound(hits: u64, runs: u64, confidence: f64) -> f64 {
    if hits == 0 || runs == 0 {
        return 0.0;
    }
    beta_quantile(1.0 - confidence, hits.min(runs) as f64, runs.saturating_sub(hits) as f64 + 1.0)
}

fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if incomplete_beta(middle, a, b) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function.
pub fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * continued_fraction(x, a, b) / a
    } else {
        1.0 - front * continued_fraction(1.0 - x, b, a) / b
    }
}

fn continued_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let above_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / above_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..1000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / above_zero(1.0 + term * d);
            c = above_zero(1.0 + term / c);
            step = c * d;
            fraction *= step;
        }
        if (step - 1.0).abs() < 1e-13 {
            break;
        }
    }
    fraction
}

/// Natural logarithm of the gamma function, for arguments above 0.
pub fn ln_gamma(x: f64) -> f64 {
    const LANCZOS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let series = LANCZOS.iter().enumerate().fold(0.999_999_999_999_809_9, |sum, (i, g)| sum + g / (x + i as f64 + 1.0));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_scipy() {
        // scipy.stats.beta.ppf(0.95, k + 1, n - k) and ppf(0.05, k, n - k + 1).
        for (hits, runs, lower, upper) in [
            (0, 10_000, 0.0, 2.995_283_597_766_119e-4),
            (3, 10_000, 8.177_397_910_290_67e-5, 7.751_813_790_100_997e-4),
            (10, 3_000, 1.809_547_378_362_405_3e-3, 5.647_512_390_062_278e-3),
            (9_990, 10_000, 0.998_304_368_546_354_6, 0.999_457_362_424_709_1),
            (1, 1, 0.05, 1.0),
        ] {
            let near = |got: f64, expected: f64| (got - expected).abs() < 1e-6 * expected.max(1e-3);
            assert!(near(lower_bound(hits, runs, 0.95), lower), "{hits}/{runs}: {}", lower_bound(hits, runs, 0.95));
            assert!(near(upper_bound(hits, runs, 0.95), upper), "{hits}/{runs}: {}", upper_bound(hits, runs, 0.95));
        }
        assert_eq!((lower_bound(0, 0, 0.95), upper_bound(0, 0, 0.95)), (0.0, 1.0));
    }

    #[test]
    fn the_gamma_function_is_the_factorial() {
        assert!((ln_gamma(11.0) - 3_628_800_f64.ln()).abs() < 1e-12);
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
        assert!((ln_gamma(1e6) - 12_815_504.569_147_611).abs() < 1e-6);
    }
}
