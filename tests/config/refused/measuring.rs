//! What is told of the arms, the flag, SLIs and SLOs.

use tollgate::stats;

use super::{Refused, check};
use crate::{least_with, lines, read};

const ARMS: &[Refused] = &[
    Refused {
        replaced: "#service",
        by: r#"telemetry.interval = "1s"
telemetry.timeout = "2s""#,
        told: &[
            "services.shop.telemetry.timeout: 2s is longer than the time between scrapes, 1s; write a shorter timeout or a longer interval (line 5)",
        ],
    },
    Refused {
        replaced: r#"urls = ["http://old:9100/metrics"]"#,
        by: "",
        told: &[
            r#"services.shop.telemetry.control.urls: is missing; write the pages to scrape, such as ["http://127.0.0.1:9100/metrics"] (line 5)"#,
        ],
    },
    Refused {
        replaced: r#"urls = ["http://old:9100/metrics"]"#,
        by: r#"urls = ["http://u:pw@old/", "old:9100", "http://old/{pod}"]"#,
        told: &[
            "services.shop.telemetry.control.urls[0]: holds a user name or a password; write an http or https address, with {revision} where the revision stands (line 6)",
            "services.shop.telemetry.control.urls[1]: is no web address; write an http or https address, with {revision} where the revision stands (line 6)",
            "services.shop.telemetry.control.urls[2]: has another placeholder than {revision}; write an http or https address, with {revision} where the revision stands (line 6)",
        ],
    },
    Refused {
        replaced: "http://new",
        by: "http://old",
        told: &[
            r#"services.shop.telemetry.canary: reads the same series as control; write other urls, or a label in both arms that differs, such as labels = { revision = "{revision}" } (line 8)"#,
        ],
    },
    Refused {
        replaced: "#control",
        by: r#"labels = { "1x" = "a", pod = "{pod}" }"#,
        told: &[
            r#"services.shop.telemetry.control.labels.1x: "1x" is no name of a label; write a name of letters, digits and underscores of at most 100 bytes (line 7)"#,
            r#"services.shop.telemetry.control.labels.pod: "{pod}" is no value of a label; write a value of at most 200 bytes, with no braces but {revision} (line 7)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"telemetry.pod_label = "{pod}""#,
        told: &[
            r#"services.shop.telemetry.pod_label: "{pod}" is no name of a label; write a name of letters, digits and underscores of at most 100 bytes (line 4)"#,
        ],
    },
    Refused {
        replaced: "#service",
        by: r#"flag = { key = "a b", value = "bool" }"#,
        told: &[
            r#"services.shop.flag.value: "bool" is not a word for this; write one of boolean, variant, revision (line 4)"#,
            r#"services.shop.flag.key: "a b" is no name of a flag; write a name of letters, digits and any of . _ / - of at most 100 bytes (line 4)"#,
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[services.till]
repository = "acme/shop"
flag = { key = "shop" }
telemetry = { control = { urls = ["http://c/"] }, canary = { urls = ["http://d/"] } }
slis = [{ name = "x", kind = "ratio", bad = { metric = "b" }, total = { metric = "t" } }]
slos = [{ sli = "x" }]"#,
        told: &[
            "services.till.flag.key: service shop has the same flag: one would move the other's traffic; write another name (line 21)",
        ],
    },
    Refused {
        replaced: "#control",
        by: "labels = { a = 1 }",
        told: &["services.shop.telemetry.control.labels.a: is a whole number; write a string (line 7)"],
    },
];

const OWED: &[Refused] = &[
    Refused {
        replaced: r#"kind = "ratio""#,
        by: r#"kind = "rato""#,
        told: &[r#"services.shop.slis[0].kind: "rato" is not a word for this; did you mean `ratio`? (line 13)"#],
    },
    Refused {
        replaced: r#"kind = "ratio""#,
        by: "",
        told: &[
            r#"services.shop.slis[0].kind: is missing; write "ratio", "latency", "events_per_traffic", "level", "mix", "liveness" or "probe" (line 11)"#,
        ],
    },
    Refused {
        replaced: r#"kind = "ratio""#,
        by: r#"kind = "latency""#,
        told: &[
            r#"services.shop.slis[0].histogram: is missing; write a selector such as { metric = "http_requests_total" } (line 11)"#,
            r#"services.shop.slis[0].slow_above: is missing; write a duration such as "300ms" (line 11)"#,
            r#"services.shop.slis[0].bad: belongs to kind "ratio", not to "latency"; remove it, or write the other kind (line 14)"#,
            r#"services.shop.slis[0].total: belongs to kind "ratio", not to "latency"; remove it, or write the other kind (line 15)"#,
        ],
    },
    Refused {
        replaced: r#"kind = "ratio""#,
        by: r#"kind = "ratio"
gauge = { metric = "g" }"#,
        told: &[
            r#"services.shop.slis[0].gauge: belongs to kind "level", not to "ratio"; remove it, or write the other kind (line 14)"#,
        ],
    },
    Refused {
        replaced: r#"name = "errors""#,
        by: r#"name = "Errors!""#,
        told: &[
            r#"services.shop.slis[0].name: "Errors!" is no name of an SLI; write a name of lower-case letters, digits, dashes and underscores of at most 60 bytes (line 12)"#,
        ],
    },
    Refused {
        replaced: r#"total = { metric = "http_requests_total" }"#,
        by: "",
        told: &[
            r#"services.shop.slis[0].total: is missing; write a selector such as { metric = "http_requests_total" } (line 11)"#,
        ],
    },
    Refused {
        replaced: r#"total = { metric = "http_requests_total" }"#,
        by: r#"total = "http_requests_total""#,
        told: &[
            r#"services.shop.slis[0].total: is a string; write a selector such as { metric = "http_requests_total" } (line 15)"#,
        ],
    },
    Refused {
        replaced: r#"total = { metric = "http_requests_total" }"#,
        by: r#"total = { metric = "1st", where = { "a-b" = "x" } }"#,
        told: &[
            r#"services.shop.slis[0].total.metric: "1st" is no name of a metric; write a name of letters, digits, underscores and colons of at most 200 bytes (line 15)"#,
            r#"services.shop.slis[0].total.where.a-b: "a-b" is no name of a label; write a name of letters, digits and underscores of at most 100 bytes (line 15)"#,
        ],
    },
    Refused {
        replaced: r#"total = { metric = "http_requests_total" }"#,
        by: r#"total = { metric = "http_requests_total", where = { code = { starts_with = "5" } } }"#,
        told: &[
            r#"services.shop.slis[0].bad: is the same as total: everything would be bad; add a condition, such as where = { code = { starts_with = "5" } } (line 14)"#,
        ],
    },
    Refused {
        replaced: r#"{ starts_with = "5" }"#,
        by: r#"{ starts_with = "5", is = "500" }"#,
        told: &[
            "services.shop.slis[0].bad.where.code: says 2 ways to compare; write one of is, is_not, one_of and starts_with (line 14)",
        ],
    },
    Refused {
        replaced: r#"{ starts_with = "5" }"#,
        by: r#"{ starts_with = "" }"#,
        told: &[
            "services.shop.slis[0].bad.where.code: is empty; write text without control characters of at most 200 bytes (line 14)",
        ],
    },
    Refused {
        replaced: r#"{ starts_with = "5" }"#,
        by: "{ one_of = [] }",
        told: &[
            "services.shop.slis[0].bad.where.code: is one of no values; write the values, or remove the condition (line 14)",
        ],
    },
    Refused {
        replaced: r#"{ starts_with = "5" }"#,
        by: r#"{ matches = "5.." }"#,
        told: &[
            "services.shop.slis[0].bad.where.code.matches: is no setting; write one of is, is_not, one_of, starts_with (line 14)",
        ],
    },
    Refused {
        replaced: r#"{ starts_with = "5" }"#,
        by: "5",
        told: &[
            "services.shop.slis[0].bad.where.code: is a whole number; write a value, or one of { is }, { is_not }, { one_of }, { starts_with } (line 14)",
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "errors"
kind = "level"
gauge = { metric = "g" }"#,
        told: &[r#"services.shop.slis[1].name: another SLI is named "errors"; write another name (line 17)"#],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "slow"
kind = "latency"
histogram = { metric = "d_bucket" }
slow_above = "0s""#,
        told: &[
            r#"services.shop.slis[1].histogram.metric: "d_bucket" is one series of a histogram; write "d" (line 19)"#,
            "services.shop.slis[1].slow_above: 0s is too short; write 1ms to 1h (line 20)",
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "misses"
kind = "events_per_traffic"
events = { metric = "m" }"#,
        told: &[
            r#"services.shop.slis[1].traffic: is missing; write a selector such as { metric = "http_requests_total" } (line 16)"#,
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "m"
kind = "mix"
counter = { metric = "m" }
route_label = "a b"
segment_label = "a-b"
tenant_label = """#,
        told: &[
            "services.shop.slis[1].by: is missing; write the label whose values are the categories (line 16)",
            r#"services.shop.slis[1].route_label: "a b" is no name of a label; write a name of letters, digits and underscores of at most 100 bytes (line 20)"#,
            r#"services.shop.slis[1].segment_label: "a-b" is no name of a label; write a name of letters, digits and underscores of at most 100 bytes (line 21)"#,
            "services.shop.slis[1].tenant_label: is empty; write a name of letters, digits and underscores of at most 100 bytes (line 22)",
        ],
    },
    Refused {
        replaced: r#"[[services.shop.slos]]
sli = "errors""#,
        by: "",
        told: &[
            "services.shop.slos: has no objective, so nothing would ever roll it back; add [[services.shop.slos]] with the name of an SLI (line 2)",
        ],
    },
    Refused {
        replaced: r#"sli = "errors""#,
        by: r#"sli = "erors""#,
        told: &[r#"services.shop.slos[0].sli: there is no SLI "erors"; did you mean `errors`? (line 18)"#],
    },
    Refused {
        replaced: r#"sli = "errors""#,
        by: "",
        told: &["services.shop.slos[0].sli: is missing; write the name of an SLI (line 17)"],
    },
    Refused {
        replaced: "#slo",
        by: r#"[[services.shop.slos]]
sli = "errors""#,
        told: &[r#"services.shop.slos[1].sli: another objective is on "errors"; keep one of the two (line 20)"#],
    },
    Refused {
        replaced: "#slo",
        by: r#"ratio_max = 0.9
direction = "lower""#,
        told: &[
            "services.shop.slos[0].ratio_max: 0.9 asks the canary to be better than control; write a number from 1 to 100, such as 1.1 (line 19)",
            r#"services.shop.slos[0].direction: "lower" is not a word for this; write one of higher_is_worse, lower_is_worse (line 20)"#,
        ],
    },
    Refused {
        replaced: "#slo",
        by: "limit = {}",
        told: &[r#"services.shop.slos[0].limit.bad_share_max: is missing; write a share such as "5%" (line 19)"#],
    },
    Refused {
        replaced: "#slo",
        by: r#"limit = { bad_share_max = "100%", total_min = 0, bad_min = 0 }"#,
        told: &[
            r#"services.shop.slos[0].limit.bad_share_max: 100% can never be passed; write less, such as "5%" (line 19)"#,
            "services.shop.slos[0].limit.total_min: 0 is too few; write 1 to 1000000000 (line 19)",
            "services.shop.slos[0].limit.bad_min: 0 is too few; write 1 to 1000000000 (line 19)",
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "slow"
kind = "latency"
histogram = { metric = "d" }
slow_above = "1s"
[[services.shop.slos]]
sli = "slow"
direction = "lower_is_worse""#,
        told: &[
            "services.shop.slos[0].direction: fewer slow requests are not worse; remove it, or choose another SLI (line 23)",
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "hits"
kind = "events_per_traffic"
events = { metric = "h" }
traffic = { metric = "t" }
[[services.shop.slos]]
sli = "hits"
direction = "lower_is_worse"
limit = { bad_share_max = "1%" }"#,
        told: &[
            r#"services.shop.slos[0].limit: bounds from above what is worse when there is less of it; remove it, or write direction = "higher_is_worse" (line 24)"#,
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "twin"
kind = "ratio"
bad = { metric = "http_requests_total", where = { code = { starts_with = "5" } } }
total = { metric = "http_requests_total" }
[[services.shop.slos]]
sli = "twin""#,
        told: &[r#"services.shop.slos[1].sli: "errors" measures the same as "twin"; keep one of the two (line 24)"#],
    },
    Refused {
        replaced: r#"name = "errors""#,
        by: r#"nmae = "errors""#,
        told: &["services.shop.slis[0].nmae: is no setting; did you mean `name`? (line 12)"],
    },
];

#[test]
fn what_is_wrong_with_the_arms_and_the_flag_is_told() {
    check(ARMS);
}

#[test]
fn what_is_wrong_with_slis_and_slos_is_told() {
    check(OWED);
}

/// What is told of an objective on an SLI of this kind, with these keys: without their lines.
fn told_of(kind: &str, objective: &str) -> Vec<String> {
    let measured = match kind {
        "ratio" => r#"bad = { metric = "b" }, total = { metric = "t" }"#,
        "latency" => r#"histogram = { metric = "h" }, slow_above = "1s""#,
        "events_per_traffic" => r#"events = { metric = "e" }, traffic = { metric = "t" }"#,
        "level" => r#"gauge = { metric = "g" }"#,
        "mix" => r#"counter = { metric = "c" }, by = "route""#,
        "liveness" => r#"series = { metric = "c" }"#,
        other => panic!("{other}"),
    };
    let measured = measured.replace("}, ", "}\n");
    let text = format!(
        "[[services.shop.slis]]\nname = \"other\"\nkind = \"{kind}\"\n{measured}\n\
         [[services.shop.slos]]\nsli = \"other\"\n{objective}"
    );
    let told = read(&least_with("#sli", &text)).map_or_else(|problems| lines(&problems), |_| Vec::new());
    told.into_iter().map(|line| line.split(" (line").next().unwrap().to_owned()).collect()
}

#[test]
fn an_objective_rests_on_what_some_test_decides_and_on_nothing_else() {
    let served = stats::served();
    for kind in ["ratio", "latency", "events_per_traffic", "level", "mix", "liveness"] {
        let undecided = format!(
            "services.shop.slos[0].sli: no test decides an SLI of kind {kind}; choose one of kind {}",
            served.join(", ")
        );
        let expected = if served.contains(&kind) { Vec::new() } else { vec![undecided] };
        assert_eq!(told_of(kind, "ratio_max = 1.5"), expected, "{kind}");
    }
}

#[test]
fn what_has_no_bad_ones_has_no_limit_and_a_mix_has_no_direction() {
    let limit = "limit = { bad_share_max = \"5%\" }";
    for kind in ["level", "mix"] {
        let told = told_of(kind, limit);
        let expected = format!(
            "services.shop.slos[0].limit: is a share of bad ones, and an SLI of kind {kind} knows no bad ones; remove it, \
             or put it on an SLI of kind ratio, latency or events_per_traffic"
        );
        assert!(told.contains(&expected), "{told:?}");
    }
    for direction in ["higher_is_worse", "lower_is_worse"] {
        let direction = format!("direction = \"{direction}\"");
        let expected = "services.shop.slos[0].direction: a mix has no direction: any other mix is worse; remove it";
        let told = told_of("mix", &direction);
        assert!(told.iter().any(|line| line == expected), "{told:?}");
        assert!(!told_of("level", &direction).iter().any(|line| line.contains("direction")), "a level may be either");
    }
}
