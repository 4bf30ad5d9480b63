//! What is told of a service and its ladder.

use super::{Refused, check};

const SERVICE: &[Refused] = &[
    Refused {
        replaced: "[services.shop]",
        by: "[services.Shop]",
        told: &[
            r#"services.Shop: "Shop" is no name of a service; write a name of lower-case letters, digits and dashes of at most 60 bytes (line 2)"#,
            r#"services.Shop.telemetry.control.urls: is missing; write the pages to scrape, such as ["http://127.0.0.1:9100/metrics"] (line 2)"#,
            r#"services.Shop.telemetry.canary.urls: is missing; write the pages to scrape, such as ["http://127.0.0.1:9100/metrics"] (line 2)"#,
            "services.Shop.slos: has no objective, so nothing would ever roll it back; add [[services.Shop.slos]] with the name of an SLI (line 2)",
            r#"services.shop.repository: is missing; write "owner/name" (line 5)"#,
        ],
    },
    Refused {
        replaced: r#"repository = "acme/shop""#,
        by: "# none",
        told: &[r#"services.shop.repository: is missing; write "owner/name" (line 2)"#],
    },
    Refused {
        replaced: r#"repository = "acme/shop""#,
        by: r#"repository = "acme""#,
        told: &[r#"services.shop.repository: "acme" is no repository; write "owner/name" (line 3)"#],
    },
    Refused {
        replaced: "#service",
        by: "safe_ratio = 1\nbake_time_shown_safe = \"31days\"",
        told: &[
            "services.shop.safe_ratio: 1 would call no canary safe that is only as good as control; write a number above 1, at most 100, such as 2 (line 4)",
            "services.shop.bake_time_shown_safe: 1month 13h 26m 24s is too long; write 0s to 30days (line 5)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "warm_up = \"16m\"\nshare_tolerance = 1",
        told: &[
            "services.shop.warm_up: 16m is too long; write 0s to 15m (line 4)",
            "services.shop.share_tolerance: 1 is no tolerance of a share; write a number above 1, at most 100, such as 2, or 0 for no watch over it (line 5)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "pod_incident = \"2h\"",
        told: &["services.shop.pod_incident: 2h is too long; write 0s to 1h (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: "safe_ratio = 101",
        told: &[
            "services.shop.safe_ratio: 101 would call nearly any canary safe; write a number above 1, at most 100, such as 2 (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "paths = []",
        told: &[r#"services.shop.paths: names no path; write ["**"] for every path, or remove it (line 4)"#],
    },
    Refused {
        replaced: "#service",
        by: r#"paths = ["a/[", "/src/**", "", 3]"#,
        told: &[
            "services.shop.paths[3]: is a whole number; write a string (line 4)",
            r#"services.shop.paths[0]: "a/[" is no glob; write 1 to 200 bytes, such as "services/shop/**" (line 4)"#,
            r#"services.shop.paths[1]: "/src/**" matches nothing, for paths start at the repository's root; write 1 to 200 bytes, such as "services/shop/**" (line 4)"#,
            r#"services.shop.paths[2]: has 0 bytes; write 1 to 200 bytes, such as "services/shop/**" (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"branch = "ma in""#,
        told: &[
            r#"services.shop.branch: "ma in" is no name of a branch; write a branch such as "main" of at most 255 bytes (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"deployed = "on_murge""#,
        told: &[r#"services.shop.deployed: "on_murge" is not a word for this; did you mean `on_merge`? (line 4)"#],
    },
    Refused {
        replaced: "#service",
        by: r#"autonomy = "gaurd""#,
        told: &[r#"services.shop.autonomy: "gaurd" is not a word for this; did you mean `guard`? (line 4)"#],
    },
    Refused {
        replaced: "#service",
        by: r#"autonomy = "yolo""#,
        told: &[
            r#"services.shop.autonomy: "yolo" is not a word for this; write one of observe, advise, guard, auto (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: "alpha = 2",
        told: &["services.shop.alpha: 2 is no probability; write a number between 0 and 0.5, such as 0.001 (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: "alpha = 0.9",
        told: &[
            "services.shop.alpha: 0.9 would roll back every other harmless change; write at most 0.5, such as 0.001 (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "alpha = 0.0000001",
        told: &[
            "services.shop.alpha: 0.0000001 asks for more evidence than there can be; write at least 0.000001 (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "alpha = nan",
        told: &["services.shop.alpha: is no finite number; write a number (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: r#"alpha = "1%""#,
        told: &["services.shop.alpha: is a string; write a number (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: r#"measure_every = "10s""#,
        told: &[
            "services.shop.measure_every: 10s is shorter than the time between scrapes, 15s; write a longer one, or a shorter telemetry.interval (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "measure_every = 15",
        told: &[
            r#"services.shop.measure_every: is a whole number; write a duration such as "15s", "5m" or "24h" (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"measure_every = "2h""#,
        told: &["services.shop.measure_every: 2h is too long; write 100ms to 1h (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: r#"blackout_after = "15s""#,
        told: &[
            "services.shop.blackout_after: 15s is over before the next measurement, 15s; write several times measure_every (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"drained_within = "15s""#,
        told: &[
            "services.shop.drained_within: 15s is over before the next measurement, 15s; write several times measure_every (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"patience = "4m""#,
        told: &[
            "services.shop.patience: 4m is shorter than a stage's bake time, 5m; write a longer one, or a shorter bake_time (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"patience = "1 fortnight""#,
        told: &[
            r#"services.shop.patience: "1 fortnight" is no duration; write a number and a unit, such as "15s", "5m" or "24h" (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"reply_within = "10s""#,
        told: &[
            "services.shop.reply_within: 10s is shorter than github.timeout, 15s; write a longer one, or a shorter github.timeout (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "samples_min = 1.5",
        told: &["services.shop.samples_min: is a decimal number; write a whole number from 0 (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: "attempts_max = 0",
        told: &["services.shop.attempts_max: 0 is too few; write 1 to 100 (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: "attempts_max = 101",
        told: &["services.shop.attempts_max: 101 is too many; write 1 to 100 (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: "ratio_max = 0.5",
        told: &[
            "services.shop.ratio_max: 0.5 asks the canary to be better than control; write a number from 1 to 100, such as 2 (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "ratio_max = 101",
        told: &[
            "services.shop.ratio_max: 101 tolerates nearly anything; write a number from 1 to 100, such as 2 (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"bake_tiem = "5m""#,
        told: &[
            "services.shop.bake_tiem: is no setting; remove it, or look up its name in config.example.toml (line 4)",
        ],
    },
    Refused {
        replaced: r#"repository = "acme/shop""#,
        by: r#"repositry = "acme/shop""#,
        told: &["services.shop.repositry: is no setting; did you mean `repository`? (line 3)"],
    },
    Refused {
        replaced: "#slo",
        by: "[services.till]",
        told: &[
            r#"services.till.telemetry.control.urls: is missing; write the pages to scrape, such as ["http://127.0.0.1:9100/metrics"] (line 19)"#,
            r#"services.till.telemetry.canary.urls: is missing; write the pages to scrape, such as ["http://127.0.0.1:9100/metrics"] (line 19)"#,
            r#"services.till.repository: is missing; write "owner/name" (line 19)"#,
            "services.till.slos: has no objective, so nothing would ever roll it back; add [[services.till.slos]] with the name of an SLI (line 19)",
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[services.till]
repository = "acme/till"
alpha = 7
autonomy = "full"
[[services.till.stages]]
share = "1%"
bake_time = "5 minuets"
colour = "red""#,
        told: &[
            r#"services.till.telemetry.control.urls: is missing; write the pages to scrape, such as ["http://127.0.0.1:9100/metrics"] (line 19)"#,
            r#"services.till.telemetry.canary.urls: is missing; write the pages to scrape, such as ["http://127.0.0.1:9100/metrics"] (line 19)"#,
            "services.till.slos: has no objective, so nothing would ever roll it back; add [[services.till.slos]] with the name of an SLI (line 19)",
            "services.till.alpha: 7 is no probability; write a number between 0 and 0.5, such as 0.001 (line 21)",
            r#"services.till.autonomy: "full" is not a word for this; write one of observe, advise, guard, auto (line 22)"#,
            r#"services.till.stages[0].bake_time: "5 minuets" is no duration; write a number and a unit, such as "15s", "5m" or "24h" (line 25)"#,
            "services.till.stages[0].colour: is no setting; write one of bake_time, cohorts, share (line 26)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"traffic_metric = { metric = "" }"#,
        told: &[
            "services.shop.traffic_metric.metric: is empty; write a name of letters, digits, underscores and colons of at most 200 bytes (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"branch = """#,
        told: &[r#"services.shop.branch: is empty; write a branch such as "main" of at most 255 bytes (line 4)"#],
    },
    Refused {
        replaced: "#service",
        by: r#"measure_every = "50ms""#,
        told: &["services.shop.measure_every: 50ms is too short; write 100ms to 1h (line 4)"],
    },
];

const LADDER: &[Refused] = &[
    Refused {
        replaced: "#service",
        by: r#"step_max = "0%""#,
        told: &[
            r#"services.shop.step_max: lets no stage add anything; write a share above 0%, such as "50%" (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"step_max = "40%""#,
        told: &[
            "services.shop.step_max: the step from 50% to 100% is larger than step_max, 40%; put a stage between, or write a larger step_max (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "stages = []",
        told: &[r#"services.shop.stages: ends at 0%; end with a stage of share = "100%" (line 4)"#],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "50%" }]"#,
        told: &[r#"services.shop.stages: ends at 50%; end with a stage of share = "100%" (line 4)"#],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "50%" }, { share = "25%" }, { share = "75%" }, { share = "100%" }]"#,
        told: &[
            "services.shop.stages[1]: 25% takes the new version from some who had it at 50%; write a larger share, and the cohorts of the stage before (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "50%" }, { share = "50%" }, { share = "100%" }]"#,
        told: &[
            "services.shop.stages[1]: 50% reaches nobody whom 50% did not reach; write a larger share or another cohort (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "0%" }, { share = "50%" }, { share = "100%" }]"#,
        told: &["services.shop.stages[0]: 0% reaches nobody; write a larger share or another cohort (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "50%" }, { share = "100%" }, { share = "100%", cohorts = { tier = "x" } }]"#,
        told: &["services.shop.stages[2]: comes after everybody has the new version; remove it (line 4)"],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "1%", cohorts = { tier = "internal" } }, { share = "50%" }, { share = "100%" }]"#,
        told: &[
            "services.shop.stages[1]: 50% takes the new version from some who had it at 1% + tier=internal; write a larger share, and the cohorts of the stage before (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "0.015%" }, { share = "101%" }, { share = "half" }, { share = -1 }, {}]"#,
        told: &[
            r#"services.shop.stages[0].share: 0.015 per cent is finer than traffic is split; write whole hundredths of a per cent, such as "0.01%" (line 4)"#,
            r#"services.shop.stages[1].share: "101%" is no share; write "0%" to "100%", such as "5%" or "0.5%" (line 4)"#,
            r#"services.shop.stages[2].share: "half" is no share; write "0%" to "100%", such as "5%" or "0.5%" (line 4)"#,
            r#"services.shop.stages[3].share: -1 is no share; write "0%" to "100%", such as "5%" or "0.5%" (line 4)"#,
            r#"services.shop.stages[4].share: is missing; write a share such as "5%" (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "50%", bake_time = "2h" }, { share = "100%" }]"#,
        told: &[
            "services.shop.patience: 1h is shorter than a stage's bake time, 2h; write a longer one, or a shorter bake_time (line 2)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "60%" }, { share = "100%" }]"#,
        told: &[
            "services.shop.stages[0]: the step from 0% to 60% is larger than step_max, 50%; put a stage between, or write a larger step_max (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "50%", weight = 3 }, "100%"]"#,
        told: &[
            "services.shop.stages[0].weight: is no setting; write one of bake_time, cohorts, share (line 4)",
            "services.shop.stages[1]: is a string; write a table (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"stages = [{ share = "0.5", cohorts = { tier = ["a", 1] } }, { share = 100 }]"#,
        told: &[
            "services.shop.stages[0].cohorts.tier[1]: is a whole number; write a string (line 4)",
            r#"services.shop.stages[0].share: "0.5" is no share; write "0%" to "100%", such as "5%" or "0.5%" (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"step_max = "150%""#,
        told: &[r#"services.shop.step_max: "150%" is no share; write "0%" to "100%", such as "5%" or "0.5%" (line 4)"#],
    },
];

#[test]
fn what_is_wrong_with_a_service_is_told() {
    check(SERVICE);
}

#[test]
fn what_is_wrong_with_a_ladder_is_told() {
    check(LADDER);
}
