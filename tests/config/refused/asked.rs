//! What is told of probes, of SLIs that go on or are asked for, and of rules for paths.

use super::{Refused, check};

const PROBES: &[Refused] = &[
    Refused {
        replaced: "#slo",
        by: "[[services.shop.probes]]",
        told: &[
            r#"services.shop.probes[0].name: is missing; write a name such as "sign-in" (line 19)"#,
            r#"services.shop.probes[0].path: is missing; write a path such as "/checkout/health" (line 19)"#,
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[[services.shop.probes]]
name = "Sign in"
path = "health"
method = "POST"
status = [99, 200, 600]
contains = "a\u0000"
slow_above = "2m"
headers = { host = "x", accept = "é" }"#,
        told: &[
            r#"services.shop.probes[0].name: "Sign in" is no name of a probe; write a name of lower-case letters, digits, dashes and underscores of at most 60 bytes (line 20)"#,
            r#"services.shop.probes[0].path: "health" is no path; write a path that begins with a slash, such as "/checkout/health", of at most 1000 bytes (line 21)"#,
            r#"services.shop.probes[0].method: "POST" is not a word for this; write one of GET, HEAD (line 22)"#,
            "services.shop.probes[0].status[0]: 99 is no status of an answer; write 100 to 599 (line 23)",
            "services.shop.probes[0].status[2]: 600 is no status of an answer; write 100 to 599 (line 23)",
            r#"services.shop.probes[0].contains: "a " is no text to look for; write text without control characters of at most 1000 bytes (line 24)"#,
            "services.shop.probes[0].slow_above: 2m is too long; write 1ms to 1m (line 25)",
            "services.shop.probes[0].headers.accept: is no value of a header; write at most 4096 printable bytes (line 26)",
            r#"services.shop.probes[0].headers.host: "host" is no name of a header; write a name of letters, digits and dashes, none that says how a request is sent, of at most 100 bytes (line 26)"#,
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[[services.shop.probes]]
name = "home"
path = "/"
method = "HEAD"
status = []
contains = "x"
slow_above = "6s"
headers = { Accept = "a", accept = "b" }
[services.shop.probing]
control = ["http://here"]
canary = ["http://there", "http://here/"]"#,
        told: &[
            "services.shop.probes[0].status: lets no answer be good; write [200], or remove it (line 23)",
            r#"services.shop.probes[0].contains: is looked for in an answer, and with method "HEAD" there is none; remove it, or write method = "GET" (line 24)"#,
            "services.shop.probes[0].slow_above: 6s is longer than an answer is waited for, 5s; write a shorter one, or a longer probing.timeout (line 25)",
            "services.shop.probes[0].headers.accept: is set twice; keep one of the two (line 26)",
            "services.shop.probing.canary: has an address of control's; write addresses at which only one version answers, here and under control (line 29)",
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[services.shop.probing]
control = ["http://old/?a=b", "http://user:word@old"]
canary = ["new", "http://new/path"]
every = "99ms"
per_second = 101
timeout = "0s""#,
        told: &[
            r#"services.shop.probing.control[0]: goes on after the host; write a scheme, a host and a port, such as "http://127.0.0.1:8080" (line 20)"#,
            r#"services.shop.probing.control[1]: holds a user name or a password; write a scheme, a host and a port, such as "http://127.0.0.1:8080" (line 20)"#,
            r#"services.shop.probing.canary[0]: is no web address; write a scheme, a host and a port, such as "http://127.0.0.1:8080" (line 21)"#,
            r#"services.shop.probing.canary[1]: goes on after the host; write a scheme, a host and a port, such as "http://127.0.0.1:8080" (line 21)"#,
            "services.shop.probing.every: 99ms is too short; write 100ms to 10m (line 22)",
            "services.shop.probing.per_second: 101 is too many; write 1 to 100 (line 23)",
            "services.shop.probing.timeout: 0s is too short; write 100ms to 1m (line 24)",
        ],
    },
    Refused {
        replaced: "http://new:9100/metrics\"]\n#canary",
        by: r#"http://old:9100/other"]
#canary
[[services.shop.probes]]
name = "home"
path = "/""#,
        told: &[
            "services.shop.probing.canary: has an address of control's; write addresses at which only one version answers, here and under control (line 2)",
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "home"
kind = "probe"
probe = "hoem"
[[services.shop.slis]]
name = "live"
kind = "liveness"
probe = "hoem"
[[services.shop.probes]]
name = "home"
path = "/""#,
        told: &[
            r#"services.shop.slis[1].probe: there is no probe "hoem"; did you mean `home`? (line 19)"#,
            r#"services.shop.slis[2].series: is missing; write a selector such as { metric = "http_requests_total" } (line 20)"#,
            r#"services.shop.slis[2].probe: belongs to kind "probe", not to "liveness"; remove it, or write the other kind (line 23)"#,
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "home"
kind = "probe""#,
        told: &["services.shop.slis[1].probe: is missing; write the name of a probe (line 16)"],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "home"
kind = "probe"
probe = "home""#,
        told: &[
            r#"services.shop.slis[1].probe: there is no probe "home"; add it to [[services.shop.probes]] (line 19)"#,
        ],
    },
    Refused {
        replaced: "#sli",
        by: r#"[[services.shop.slis]]
name = "live"
kind = "liveness"
series = { metric = "c" }
[[services.shop.slos]]
sli = "live"
direction = "lower_is_worse""#,
        told: &[
            "services.shop.slos[0].direction: fewer readings without life are not worse; remove it, or choose another SLI (line 22)",
        ],
    },
];

const RULES: &[Refused] = &[
    Refused {
        replaced: "#slo",
        by: "[[services.shop.path_rules]]",
        told: &[
            r#"services.shop.path_rules[0].paths: is missing; write globs over paths, such as ["src/auth/**"] (line 19)"#,
            r#"services.shop.path_rules[0].risk: is missing; write "low", "medium" or "high" (line 19)"#,
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[[services.shop.path_rules]]
paths = ["/src/**"]
risk = "huge""#,
        told: &[
            r#"services.shop.path_rules[0].paths[0]: "/src/**" matches nothing, for paths start at the repository's root; write 1 to 200 bytes, such as "services/shop/**" (line 20)"#,
            r#"services.shop.path_rules[0].risk: "huge" is not a word for this; write one of low, medium, high (line 21)"#,
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[[services.shop.path_rules]]
paths = ["src/**"]
risk = "low""#,
        told: &[
            r#"services.shop.path_rules[0]: asks for nothing; write a higher risk, or checks = [{ sli = "..." }] (line 19)"#,
        ],
    },
    Refused {
        replaced: "#slo",
        by: r#"[[services.shop.path_rules]]
paths = ["src/**"]
risk = "low"
checks = [{ sli = "errors" }, { sli = "erors" }, { ratio_max = 101 }]"#,
        told: &[
            r#"services.shop.path_rules[0].checks[1].sli: there is no SLI "erors"; did you mean `errors`? (line 22)"#,
            "services.shop.path_rules[0].checks[2].sli: is missing; write the name of an SLI (line 22)",
            "services.shop.path_rules[0].checks[0].sli: is an objective, and so in every plan; remove it here, or the objective (line 22)",
        ],
    },
];

#[test]
fn what_is_wrong_with_probes_and_what_measures_them_is_told() {
    check(PROBES);
}

#[test]
fn what_is_wrong_with_rules_for_paths_is_told() {
    check(RULES);
}
