//! Every default and every bound of a plain number, in one place. `config.example.toml` states each default, and a test
//! holds it to that.
//!
//! The defaults suit a service with a few requests a second that is scraped every 15 s: the first stage is small enough to
//! do little harm and long enough to be seen, and everything that acts without a person has to be written down.

use std::{ops::RangeInclusive, time::Duration};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A span's default and the bounds it must keep.
#[derive(Clone, Copy)]
pub(super) struct SpanRule {
    pub(super) default: Duration,
    pub(super) least: Duration,
    pub(super) most: Duration,
}

const fn span(default: Duration, least: Duration, most: Duration) -> SpanRule {
    SpanRule { default, least, most }
}

/// A whole number's default and the bounds it must keep.
#[derive(Clone)]
pub(super) struct CountRule {
    pub(super) default: u64,
    pub(super) within: RangeInclusive<u64>,
}

const fn count(default: u64, within: RangeInclusive<u64>) -> CountRule {
    CountRule { default, within }
}

/// Shorter spans than this cannot be told from the noise of a busy host.
const TICK: Duration = Duration::from_millis(100);

pub(super) const LISTEN: &str = "127.0.0.1:7420";
pub(super) const ROLLOUTS_MAX: CountRule = count(100, 1..=10_000);
pub(super) const FINISHED_KEPT: CountRule = count(200, 0..=100_000);
pub(super) const JOURNAL_DIR: &str = "tollgate-journal";
pub(super) const SNAPSHOT_EVERY: CountRule = count(1_000, 1..=1_000_000);
pub(super) const ENTRIES_KEPT: CountRule = count(10_000, 0..=100_000_000);
pub(super) const GITHUB_API: &str = "https://api.github.com";
pub(super) const WEBHOOK_SECRET_ENV: &str = "TOLLGATE_WEBHOOK_SECRET";
pub(super) const GITHUB_TIMEOUT: SpanRule = span(seconds(15), TICK, seconds(5 * MINUTE));
/// GitHub caps a webhook's body at 25 MB.
pub(super) const BODY_BYTES_MAX: CountRule = count(25 * 1024 * 1024, 1_024..=64 * 1024 * 1024);
pub(super) const LOG_FILTER: &str = "info";

pub(super) const PATHS: &str = "**";
pub(super) const STAGE_SHARES: [u16; 5] = [100, 500, 2_500, 5_000, 10_000];
pub(super) const BAKE_TIME: SpanRule = span(seconds(5 * MINUTE), Duration::ZERO, seconds(30 * DAY));
pub(super) const ALPHA: f64 = 0.001;
/// A smaller one asks for more evidence than a test keeps: no rollback on evidence would ever come.
pub(super) const ALPHA_LEAST: f64 = 1e-6;
pub(super) const ALPHA_MOST: f64 = 0.5;
pub(super) const MEASURE_EVERY: SpanRule = span(seconds(15), TICK, seconds(HOUR));
pub(super) const SAMPLES_MIN: CountRule = count(100, 0..=1_000_000_000);
pub(super) const STEP_MAX_BASIS_POINTS: u16 = 5_000;
pub(super) const BLACKOUT_AFTER: SpanRule = span(seconds(2 * MINUTE), TICK, seconds(DAY));
pub(super) const PATIENCE: SpanRule = span(seconds(HOUR), TICK, seconds(30 * DAY));
pub(super) const PAUSE_MAX: SpanRule = span(seconds(DAY), seconds(1), seconds(30 * DAY));
pub(super) const WATCH: SpanRule = span(seconds(15 * MINUTE), Duration::ZERO, seconds(30 * DAY));
pub(super) const DEPLOY_WITHIN: SpanRule = span(seconds(2 * HOUR), seconds(1), seconds(30 * DAY));
pub(super) const REPLY_WITHIN: SpanRule = span(seconds(MINUTE), TICK, seconds(HOUR));
pub(super) const ATTEMPTS_MAX: CountRule = count(5, 1..=100);
pub(super) const DRAINED_WITHIN: SpanRule = span(seconds(5 * MINUTE), TICK, seconds(DAY));
pub(super) const POD_INCIDENT: SpanRule = span(seconds(3 * MINUTE), Duration::ZERO, seconds(HOUR));
/// None: how long a service is cold is its operator's to know, and until it is over nothing is found but by hard limits.
pub(super) const WARM_UP: SpanRule = span(Duration::ZERO, Duration::ZERO, seconds(15 * MINUTE));
pub(super) const SHARE_TOLERANCE: f64 = 2.0;
pub(super) const SAFE_RATIO: f64 = 2.0;
/// Its default holds for nobody: unset, no stage ends before its bake time.
pub(super) const BAKE_TIME_SHOWN_SAFE: SpanRule = span(Duration::ZERO, Duration::ZERO, seconds(30 * DAY));
pub(super) const PROPOSED_CHECKS_MAX: CountRule = count(8, 0..=50);
pub(super) const PROPOSED_RATIO_MAX: f64 = 2.0;
/// A smaller one finds smaller regressions and takes longer for it.
pub(super) const SLO_RATIO_MAX: f64 = 1.1;
pub(super) const RATIO_MOST: f64 = 100.0;
pub(super) const SLO_RATIONALE: &str = "an objective of the service";
pub(super) const TOTAL_MIN: CountRule = count(100, 1..=1_000_000_000);
pub(super) const BAD_MIN: CountRule = count(5, 1..=1_000_000_000);
pub(super) const SCRAPE_INTERVAL: SpanRule = span(seconds(15), TICK, seconds(10 * MINUTE));
pub(super) const SCRAPE_TIMEOUT: SpanRule = span(seconds(5), TICK, seconds(MINUTE));

pub(super) const SOURCE_TIMEOUT: SpanRule = span(seconds(10), TICK, seconds(2 * MINUTE));
pub(super) const SOURCE_CONCURRENCY: CountRule = count(4, 1..=64);
pub(super) const SAMPLES_PER_DAY: CountRule = count(0, 1..=1_000_000_000_000);
pub(super) const RESPONSE_BYTES_MAX: CountRule = count(64 * 1024 * 1024, 65_536..=256 * 1024 * 1024);
pub(super) const RAW_SERIES_MAX: CountRule = count(2_000, 1..=50_000);
/// What sources of buckets have by default, and its bounds.
#[derive(Clone, Copy)]
pub(super) struct BucketRules {
    pub(super) step: SpanRule,
    pub(super) settle: SpanRule,
}

const fn bucket_rules(step: u64, settle: u64) -> BucketRules {
    BucketRules {
        step: span(seconds(step), seconds(1), seconds(HOUR)),
        settle: span(seconds(settle), Duration::ZERO, seconds(HOUR)),
    }
}

/// Vendors take about as long to show a number as is waited for here.
pub(super) const DATADOG_BUCKETS: BucketRules = bucket_rules(MINUTE, MINUTE);
pub(super) const INFLUXDB_BUCKETS: BucketRules = bucket_rules(15, 30);
pub(super) const CLOUDWATCH_BUCKETS: BucketRules = bucket_rules(MINUTE, 2 * MINUTE);
pub(super) const NEWRELIC_BUCKETS: BucketRules = bucket_rules(MINUTE, MINUTE);
pub(super) const WEB_BUCKETS: BucketRules = bucket_rules(15, 5);
pub(super) const QUERY_TIMEOUT: SpanRule = span(seconds(10), TICK, seconds(MINUTE));
pub(super) const QUERIES_AT_ONCE: CountRule = count(4, 1..=32);
pub(super) const NEWRELIC_URL: &str = "https://api.newrelic.com/graphql";
pub(super) const NEWRELIC_ACCOUNT: CountRule = count(1, 1..=i32::MAX as u64);
/// As Telegraf writes what it scraped.
pub(super) const INFLUXDB_COUNTER_FIELD: &str = "counter";
pub(super) const INFLUXDB_GAUGE_FIELD: &str = "gauge";

pub(super) const SETTLE: SpanRule = span(seconds(5), Duration::ZERO, seconds(10 * MINUTE));
/// It has to hold a sample or two of each target.
pub(super) const LOOKBACK: SpanRule = span(seconds(5 * MINUTE), TICK, seconds(6 * HOUR));
pub(super) const STALE_AFTER: SpanRule = span(seconds(2 * MINUTE), TICK, seconds(HOUR));
pub(super) const GONE_AFTER: SpanRule = span(seconds(5 * MINUTE), TICK, seconds(6 * HOUR));

/// A slow request is one somewhere between a millisecond and an hour.
pub(super) const SLOW_ABOVE: SpanRule = span(Duration::ZERO, Duration::from_millis(1), seconds(HOUR));

pub(super) const MODEL_TIMEOUT: SpanRule = span(seconds(MINUTE), seconds(1), seconds(10 * MINUTE));
pub(super) const MODEL_ATTEMPTS_MAX: CountRule = count(3, 1..=10);
pub(super) const PLAN_WITHIN: SpanRule = span(seconds(3 * MINUTE), seconds(5), seconds(30 * MINUTE));
/// Dollars for a million tokens; dearer than any model there is.
pub(super) const PRICE_MOST: f64 = 10_000.0;
/// Dollars of one budget.
pub(super) const BUDGET_MOST: f64 = 1_000_000.0;
pub(super) const PLANNER_TURNS_MAX: CountRule = count(6, 1..=20);
pub(super) const ADVISOR_TURNS_MAX: CountRule = count(2, 1..=10);
pub(super) const TOOL_CALLS_MAX: CountRule = count(20, 1..=100);
pub(super) const REPAIRS_MAX: CountRule = count(2, 0..=10);
pub(super) const OUTPUT_TOKENS_MAX: CountRule = count(4_000, 256..=100_000);
pub(super) const RUN_TOKENS_MAX: CountRule = count(200_000, 1_000..=10_000_000);
pub(super) const DIFF_BYTES_MAX: CountRule = count(48_000, 1_000..=1_000_000);
pub(super) const PULL_REQUEST_TOKENS_MAX: CountRule = count(400_000, 1_000..=1_000_000_000);
pub(super) const DAY_TOKENS_MAX: CountRule = count(10_000_000, 1_000..=1_000_000_000_000);
pub(super) const LEAN_ALPHA: f64 = 0.05;
pub(super) const ADVISE_WITHIN: SpanRule = span(seconds(MINUTE), seconds(1), seconds(10 * MINUTE));
pub(super) const RISK_BAKE_MEDIUM: f64 = 1.0;
pub(super) const RISK_BAKE_HIGH: f64 = 2.0;
pub(super) const RISK_BAKE_MOST: f64 = 20.0;

pub(super) const PROBE_STATUS: u16 = 200;
pub(super) const PROBE_SLOW_ABOVE: SpanRule = span(seconds(1), Duration::from_millis(1), seconds(MINUTE));
pub(super) const PROBE_EVERY: SpanRule = span(seconds(5), TICK, seconds(10 * MINUTE));
pub(super) const PROBES_PER_SECOND: CountRule = count(10, 1..=100);
pub(super) const PROBE_TIMEOUT: SpanRule = span(seconds(5), TICK, seconds(MINUTE));
pub(super) const PATH_RULE_RATIONALE: &str = "changes to these paths must have it";
