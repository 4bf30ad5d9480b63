//! What is told of the process: doors, limits, record, GitHub, log, and the form of the file.

use super::{Refused, check};

const PROCESS: &[Refused] = &[
    Refused {
        replaced: "#top",
        by: "listen = ",
        told: &["t.toml: is no TOML: string values must be quoted, expected literal string; mend the syntax (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: r"a = 1
a = 2",
        told: &["t.toml: is no TOML: duplicate key; mend the syntax (line 2)"],
    },
    Refused {
        replaced: "#top",
        by: r#"listne = "127.0.0.1:1""#,
        told: &["listne: is no setting; did you mean `listen`? (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: "zebra = 1",
        told: &[
            "zebra: is no setting; write one of allow_public, allowed_hosts, api_token, fleet, github, journal, listen, log, model, services, sources (line 1)",
        ],
    },
    Refused { replaced: "#top", by: "listen = 7420", told: &["listen: is a whole number; write a string (line 1)"] },
    Refused {
        replaced: "#top",
        by: r#"listen = "localhost:7420""#,
        told: &[r#"listen: "localhost:7420" is no address and port; write numbers, such as "127.0.0.1:7420" (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"listen = "0.0.0.0:7420""#,
        told: &[
            r#"listen: 0.0.0.0:7420 can be reached from other machines; write "127.0.0.1:7420", or set allow_public = true and an api_token (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"listen = "[::ffff:10.0.0.1]:7420""#,
        told: &[
            r#"listen: [::ffff:10.0.0.1]:7420 can be reached from other machines; write "127.0.0.1:7420", or set allow_public = true and an api_token (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"allow_public = true
listen = "[::]:7420""#,
        told: &[
            r#"api_token: is missing, and [::]:7420 can be reached from other machines; write api_token = { env = "TOLLGATE_API_TOKEN" }, or listen on a loopback address"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"allow_public = "yes""#,
        told: &["allow_public: is a string; write true or false (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: r#"api_token = "hunter2hunter2hunter2""#,
        told: &[r#"api_token: holds a secret in the open; write { env = "NAME" } or { file = "path" } (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"api_token = { value = "hunter2" }"#,
        told: &["api_token.value: is no setting; write one of env, file (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: "api_token = {}",
        told: &[r#"api_token: is missing; write { env = "NAME" } or { file = "path" } (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"api_token = { env = "A_TOKEN", file = "x" }"#,
        told: &["api_token: names a variable and a file; keep one of `env` and `file` (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: r#"api_token = { env = "ghp_lowercase" }"#,
        told: &[
            r#"api_token.env: is no name of a variable; write a name in capitals, digits and underscores, such as "GITHUB_TOKEN" (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"api_token = { env = "UNSET" }"#,
        told: &[
            r#"api_token: the environment variable UNSET is not set; set UNSET, or write { file = "path" } (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"api_token = { file = "no-such-file" }"#,
        told: &[
            "api_token.file: the file cannot be read (there is none); name a small text file that this user may read (line 1)",
        ],
    },
    Refused {
        replaced: "#top",
        by: "fleet = { rollouts_max = 0, finished_kept = 100001 }",
        told: &[
            "fleet.rollouts_max: 0 is too few; write 1 to 10000 (line 1)",
            "fleet.finished_kept: 100001 is too many; write 0 to 100000 (line 1)",
        ],
    },
    Refused {
        replaced: "#top",
        by: "fleet = { rollouts_max = -1 }",
        told: &["fleet.rollouts_max: is a negative number; write a whole number from 0 (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: "fleet = { rollouts_max = 99999999999999999999 }",
        told: &["fleet.rollouts_max: is too large a number; write a whole number from 0 (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: r#"journal = { dir = "", snapshot_every = 0, keep = 100000001 }"#,
        told: &[
            r#"journal.dir: is empty; write a folder, such as "tollgate-journal" (line 1)"#,
            "journal.snapshot_every: 0 is too few; write 1 to 1000000 (line 1)",
            "journal.keep: 100000001 is too many; write 0 to 100000000 (line 1)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"github = { api = "http://ghe.example/api/v3" }"#,
        told: &[
            r#"github.api: would send the token in the open; write an https address, such as "https://api.github.com" (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"github = { api = "ftp://ghe.example" }"#,
        told: &[r#"github.api: is no web address; write an https address, such as "https://api.github.com" (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"github = { api = "https://ghe.example/?x=1" }"#,
        told: &[
            r#"github.api: goes on after the path; write an https address, such as "https://api.github.com" (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"github = { timeout = "15" , body_bytes_max = 12 }"#,
        told: &[
            r#"github.timeout: "15" is no duration; write a number and a unit, such as "15s", "5m" or "24h" (line 1)"#,
            "github.body_bytes_max: 12 is too few; write 1024 to 67108864 (line 1)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"github = { timeout = "2m" }"#,
        told: &[
            "services.shop.reply_within: 1m is shorter than github.timeout, 2m; write a longer one, or a shorter github.timeout (line 2)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"log = { format = "xml" }"#,
        told: &[r#"log.format: "xml" is not a word for this; write one of text, json (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"log = { format = "jsn", filter = "tollgate=loud" }"#,
        told: &[
            r#"log.format: "jsn" is not a word for this; did you mean `json`? (line 1)"#,
            r#"log.filter: "tollgate=loud" is no filter; write a level or directives, such as "info" or "info,tollgate=debug" (line 1)"#,
        ],
    },
    Refused { replaced: "#top", by: "log = 1", told: &["log: is a whole number; write a table (line 1)"] },
    Refused { replaced: "#top", by: "log = 2024-01-01", told: &["log: is a date; write a table (line 1)"] },
    Refused { replaced: "#top", by: "[[services]]", told: &["services: is a list; write a table (line 1)"] },
];

#[test]
fn what_is_wrong_with_the_process_is_told() {
    check(PROCESS);
}
