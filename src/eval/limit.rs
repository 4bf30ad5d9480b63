//! The information-theoretic limit: no test that rolls back a harmless canary with chance `alpha` at most can, on average,
//! find a bad one faster.
//!
//! Wald's bound: the mean time to a decision is at least `ln(1/alpha)` over the information that a second brings. The
//! common failure rate is unknown, so the information is that against the harmless hypothesis that explains the data
//! best: both arms fail at the pooled rate. The bound is on means; what is set beside it are medians, which may be a
//! little below.
//!
//! Source: A. Wald, "Sequential Analysis" (1947); for an unknown common rate the projection of the alternative on the
//! null in relative entropy, as in Turner, Ly and Gruenwald, "Generic e-variables for exact sequential k-sample tests"
//! (2024).

/// Seconds to a decision at best. `requests_per_second` of both arms, of which the canary gets `share`; `healthy` and `bad`
/// are the parts of the requests that fail on control and on the canary. `None` where they cannot be told apart.
pub fn seconds(requests_per_second: f64, share: f64, healthy: f64, bad: f64, alpha: f64) -> Option<f64> {
    let (canary, control) = (requests_per_second * share, requests_per_second * (1.0 - share));
    let pooled = (canary * bad + control * healthy) / (canary + control);
    let information = canary * relative_entropy(bad, pooled) + control * relative_entropy(healthy, pooled);
    let seconds = -alpha.ln() / information;
    (information > 0.0 && seconds.is_finite()).then_some(seconds)
}

/// Of a coin that falls with `p` from one that falls with `q`, in nats.
fn relative_entropy(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_reference_computes() {
        // limit_conditional of the reference simulation, for statistics.md A.2 and section 3.
        for ((rate, share, healthy, ratio), expected) in [
            ((200.0 / 15.0, 0.05, 0.005, 2.0), 5692.0),
            ((200.0 / 15.0, 0.05, 0.005, 10.0), 166.0),
            ((2000.0 / 15.0, 0.25, 0.005, 3.0), 48.0),
            ((1000.0, 0.01, 0.0001, 2.0), 18113.5),
            ((10.0, 0.25, 0.01, 5.0), 107.8),
        ] {
            let limit = seconds(rate, share, healthy, healthy * ratio, 0.001).unwrap();
            assert!((limit / expected - 1.0).abs() < 0.01, "{limit} instead of {expected}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_has_no_limit() {
        assert_eq!(seconds(100.0, 0.05, 0.01, 0.01, 0.001), None);
        assert_eq!(seconds(0.0, 0.05, 0.01, 0.02, 0.001), None);
        assert_eq!(seconds(100.0, 0.0, 0.01, 0.02, 0.001), None);
        assert!(seconds(100.0, 0.05, 0.0, 1.0, 0.001).is_some());
    }
}
