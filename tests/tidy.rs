//! The plan of the house, held: which room may name which, what the pure rooms must not hold, how long files and
//! functions may be, and that every list of a kind is documented.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Which rooms each room may name. A new arrow is a decision: write it here and into the head of `src/lib.rs`.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("stats", &["domain"]),
    ("rails", &["domain"]),
    ("plan", &["domain"]),
    ("rollout", &["domain", "plan", "stats", "rails"]),
    ("journal", &["domain", "rollout"]),
    ("telemetry", &["domain", "retry"]),
    ("traffic", &["domain", "rails"]),
    ("untrusted", &["domain"]),
    ("retry", &[]),
    ("forge", &["domain", "retry", "untrusted"]),
    // The one staircase among the wings: agent, tools, then forge and telemetry. Trying a check on the past is arithmetic.
    ("tools", &["domain", "plan", "stats", "forge", "telemetry", "untrusted"]),
    ("agent", &["domain", "plan", "retry", "tools", "untrusted"]),
    // The policy is made of the domain's words and bounds; `stats::served` says which SLIs an objective can be on.
    ("config", &["domain", "plan", "rollout", "stats"]),
    // The virtual world makes drafts as a planner would.
    ("sim", &["domain", "plan", "rollout"]),
    ("eval", &["domain", "stats", "sim"]),
    // The heuristic planner runs in a task of the daemon: it is pure, but its diff is fetched.
    (
        "daemon",
        &[
            "domain",
            "plan",
            "rails",
            "rollout",
            "journal",
            "telemetry",
            "traffic",
            "forge",
            "agent",
            "tools",
            "untrusted",
        ],
    ),
    // Feature flags and webhooks are answered here, and belong to their wings.
    ("web", &["domain", "rollout", "daemon", "forge", "traffic"]),
    (
        "cli",
        &[
            "domain",
            "plan",
            "rails",
            "rollout",
            "stats",
            "journal",
            "telemetry",
            "traffic",
            "forge",
            "untrusted",
            "tools",
            "agent",
            "config",
            "sim",
            "eval",
            "daemon",
            "web",
        ],
    ),
];

/// Rooms that decide. They hold no I/O, clock, chance, async or hash order.
const PURE: &[&str] = &["domain", "stats", "rails", "plan", "rollout", "untrusted"];

/// Words that must not stand in a pure room, and why.
const BANNED: &[(&str, &str)] = &[
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
    ("SystemTime", "time rides on the event"),
    ("Instant", "time rides on the event"),
    ("async ", "decisions do not wait"),
    ("tokio", "decisions do not wait"),
    ("std::fs", "no I/O"),
    ("std::net", "no I/O"),
    ("std::env", "no I/O"),
    ("std::thread", "no threads"),
    ("rand::", "no chance"),
    ("println!", "no I/O"),
    ("tracing::", "no I/O"),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Tables and machines of one shape may be longer; each with its reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The room a file is in: `src/rails/mod.rs` and `src/config.rs` are in `rails` and `config`.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map_or(first.clone(), str::to_owned)
}

/// The part of a file that ships: tests inside it stand last and may use what they like.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

/// Code without comments and doc comments.
fn code(text: &str) -> String {
    let uncommented = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    shipped(text).lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// Rooms that a file names, in paths such as `crate::rails::Case` and lists such as `crate::{rails::Case, plan}`.
fn named_rooms(text: &str, rooms: &BTreeSet<&str>) -> BTreeSet<String> {
    let code = code(text);
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = code[at + "crate::".len()..].trim_start();
        let heads: Vec<String> = match rest.strip_prefix('{') {
            None => vec![rest.to_owned()],
            Some(list) => top_level_items(list),
        };
        for head in heads {
            let name: String = head.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if rooms.contains(name.as_str()) {
                named.insert(name);
            }
        }
    }
    named
}

/// The items of a `{a::{b, c}, d}` list, up to its closing brace.
fn top_level_items(list: &str) -> Vec<String> {
    let (mut depth, mut items, mut item) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(std::mem::take(&mut item));
                continue;
            }
            _ => {}
        }
        item.push(c);
    }
    items.push(item);
    items
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let rooms: BTreeSet<&str> = table.keys().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let here = room(&path);
        if matches!(here.as_str(), "lib" | "main") {
            continue;
        }
        let Some(may_name) = table.get(here.as_str()) else {
            wrong.push(format!("{}: room {here} is not in the table", path.display()));
            continue;
        };
        for named in named_rooms(&text, &rooms) {
            if named != here && !may_name.contains(&named.as_str()) {
                wrong.push(format!("{}: {here} may not name {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_arrow_reader_sees_paths_and_lists() {
    let rooms = BTreeSet::from(["rails", "plan", "domain"]);
    let text = "use crate::{\n  domain::{A, B},\n  plan,\n};\nfn f() -> crate::rails::Case {}\n// crate::journal";
    assert_eq!(named_rooms(text, &rooms), ["domain", "plan", "rails"].map(str::to_owned).into());
}

#[test]
fn pure_rooms_hold_nothing_impure() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !PURE.contains(&room(&path).as_str()) {
            continue;
        }
        for (i, line) in code(&text).lines().enumerate() {
            for (word, why) in BANNED {
                if line.contains(word) {
                    wrong.push(format!("{}:{}: {word}: {why}", path.display(), i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_clock_reads_the_clock() {
    let clocks = ["SystemTime::now", "std::time::Instant", "Utc::now", "Timestamp::now"];
    for (path, text) in sources() {
        if path.ends_with("daemon/clock.rs") {
            continue;
        }
        for word in clocks {
            assert!(!code(&text).contains(word), "{} reads a clock: {word}", path.display());
        }
    }
}

#[test]
fn files_open_with_their_purpose_and_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not say what it is for", path.display()));
        }
        let lines = shipped(&text).lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{} has {lines} lines; is it one room or two?", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_decision_fits_on_a_screen() {
    let excused: BTreeMap<&str, &str> = LONG_FUNCTIONS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = shipped(&text).lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_function = [
                "fn ",
                "pub fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "pub(super) async fn ",
            ]
            .iter()
            .any(|keyword| head.starts_with(keyword));
            if !is_function {
                continue;
            }
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == closing).map_or(1, |end| end + 1);
            let name = head.split("fn ").nth(1).unwrap().split(['(', '<']).next().unwrap();
            if length > FUNCTION_LINES_MAX && !excused.contains_key(name) {
                wrong.push(format!("{}:{}: {name} has {length} lines", path.display(), start + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unmaintained_crates_are_named_in_one_file_each() {
    for (name, home) in [
        ("::sled::", "journal/sled.rs"),
        ("backoff::", "src/retry.rs"),
        ("octocrab::", "forge/github.rs"),
        ("async_openai::", "agent/client.rs"),
    ] {
        for (path, text) in sources() {
            let uses = code(&text).contains(name);
            assert!(!uses || path.ends_with(home), "{} names {name}, whose one file is {home}", path.display());
        }
    }
}

#[test]
fn every_rail_and_test_has_a_name_and_a_summary_of_its_own() {
    let mut names = BTreeSet::new();
    for rail in tollgate::rails::RAILS {
        assert!(names.insert(rail.name) && rail.summary.len() > 20, "{}", rail.name);
        let file = root().join(format!("src/rails/{}.rs", rail.name));
        assert!(file.exists(), "a rail is a file of its name: {}", file.display());
    }
    for kind in tollgate::stats::TESTS {
        assert!(names.insert(kind.name) && kind.summary.len() > 20, "{}", kind.name);
        let file = root().join(format!("src/stats/{}.rs", kind.name));
        assert!(file.exists(), "a test is a file of its name: {}", file.display());
    }
}

#[test]
fn the_readme_names_every_rail_test_and_room() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for rail in tollgate::rails::RAILS {
        assert!(readme.contains(rail.name), "README.md does not name the rail {}", rail.name);
    }
    for (room, _) in ARROWS {
        assert!(
            readme.contains(&format!("`{room}/`")) || readme.contains(&format!("`{room}.rs`")),
            "README.md does not name {room}"
        );
    }
}
