//! What the heuristic planner makes of realistic diffs, and laws that hold for any diff.
#![expect(clippy::unwrap_used, reason = "a suite that cannot read its cases has to fail")]

use std::{collections::BTreeSet, fs, path::Path, time::Instant};

use proptest::prelude::*;
use tollgate::{
    domain::{
        Aim, Catalogue, CatalogueEntry, Check, CheckName, Diff, Direction, FileDiff, HardLimit, Line, LineKind, Match,
        Origin, Selector, Sli, Split, Text, TouchKind, WayBack, Weight,
    },
    plan::{Bounds, Draft, Touched, Trial, admit, heuristic_draft},
};

const SERVED: &[&str] = &["ratio", "latency", "events_per_traffic"];

/// Reads a small, well-formed unified diff.
fn parse(text: &str) -> Diff {
    let mut diff = Diff::default();
    let (mut old, mut new) = (0, 0);
    for line in text.lines() {
        if let Some(paths) = line.strip_prefix("diff --git ") {
            let path = paths.rsplit_once(" b/").unwrap().1.to_owned();
            let kind = TouchKind::Modified;
            diff.files.push(FileDiff { path, previous_path: None, kind, binary: false, lines: Vec::new() });
            continue;
        }
        let file = diff.files.last_mut().unwrap();
        if let Some(ranges) = line.strip_prefix("@@ -") {
            let starts = |part: &str| part.split([',', ' ']).next().unwrap().parse::<u32>().unwrap();
            (old, new) = (starts(ranges), starts(ranges.split_once('+').unwrap().1));
        } else if let Some(before) = line.strip_prefix("rename from ") {
            (file.previous_path, file.kind) = (Some(before.to_owned()), TouchKind::Renamed);
        } else if line.starts_with("new file") {
            file.kind = TouchKind::Added;
        } else if !["--- ", "+++ ", "similarity", "rename", "index"].iter().any(|head| line.starts_with(head)) {
            let (mark, text) = line.split_at(line.len().min(1));
            let (kind, number) = match mark {
                "+" => (LineKind::Added, &mut new),
                "-" => (LineKind::Removed, &mut old),
                _ => (LineKind::Context, &mut new),
            };
            file.lines.push(Line { kind, number: *number, text: text.to_owned() });
            *number += 1;
            old += u32::from(kind == LineKind::Context);
        }
    }
    diff
}

fn catalogue() -> Catalogue {
    let requests = || Selector::metric("http_requests_total");
    let entry = |name: &str, sli, label: Option<&str>| CatalogueEntry {
        name: name.into(),
        sli,
        route_label: label.map(str::to_owned),
        segment_label: None,
        tenant_label: None,
    };
    let bad = requests().with("code", Match::StartsWith("5".into()));
    let histogram = Selector::metric("http_request_duration_seconds");
    let misses = Selector::metric("cart_cache_misses_total");
    Catalogue {
        entries: vec![
            entry("errors", Sli::Ratio { bad, total: requests() }, Some("route")),
            entry("latency", Sli::Latency { histogram, slow_above_seconds: 0.25 }, Some("route")),
            entry("cache misses", Sli::EventsPerTraffic { events: misses, traffic: requests() }, None),
        ],
        traffic: Some(requests()),
    }
}

fn bounds(proposed_max: usize) -> Bounds {
    let sli = catalogue().entries[0].sli.clone();
    let objective = Check {
        name: CheckName::new("availability"),
        sli,
        direction: Direction::HigherIsWorse,
        ratio_max: 1.5,
        limit: Some(HardLimit { bad_share_max: 0.1, total_min: 100, bad_min: 5 }),
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Slo,
        rationale: Text::default(),
        lines: Vec::new(),
        split: Split::default(),
    };
    Bounds { catalogue: catalogue(), mandatory: vec![objective], proposed_max, ratio_max: 2.0, ..Bounds::default() }
}

/// What is expected of one file under `tests/diffs`.
struct Case {
    file: &'static str,
    /// Names of the checks in order, with a question mark behind advisory ones.
    checks: &'static [&'static str],
    /// Words of the reason against going back; empty when the way is open.
    one_way: &'static str,
    /// Words of a note, or of a check's rationale.
    says: &'static str,
}

const fn case(file: &'static str, checks: &'static [&'static str], one_way: &'static str, says: &'static str) -> Case {
    Case { file, checks, one_way, says }
}

const ALL: &[&str] = &["errors on all traffic?", "latency on all traffic?"];

const CASES: &[Case] = &[
    case(
        "axum_handler",
        &["errors on /checkout", "latency on /checkout"],
        "",
        "the handler of POST /checkout changed at src/routes/checkout.rs:39",
    ),
    case(
        "express_inline",
        &["errors on /cart/:id/items", "latency on /cart/:id/items"],
        "",
        "the handler of POST /cart/:id/items changed",
    ),
    case(
        "fastapi_timeout",
        &["errors on /payments/capture", "latency on /payments/capture"],
        "",
        "the file's changes touch timeouts",
    ),
    case("flask_new_route", &["errors on /wishlist", "latency on /wishlist"], "", "the handler of GET /wishlist"),
    case(
        "django_view",
        &["errors on /basket/", "errors on /vouchers/", "latency on /basket/", "latency on /vouchers/"],
        "",
        "the route /vouchers/ was added at shop/urls.py:7",
    ),
    case("rails_controller", &["errors on /orders", "latency on /orders"], "", "the file that serves /orders changed"),
    case(
        "spring_controller",
        &["errors on /api/orders/quote", "latency on /api/orders/quote"],
        "",
        "the handler of POST /api/orders/quote changed",
    ),
    case("go_gin_retry", &["errors on /v1/refunds", "latency on /v1/refunds"], "", "the file's changes touch retries"),
    case("go_stdlib_client", ALL, "", "the diff touches timeouts and concurrency (internal/stock/client.go:12)"),
    case("next_route_file", &["errors on /api/cart", "latency on /api/cart"], "", "the file that serves /api/cart"),
    case("file_name_guess", &["errors on /search?", "latency on /search?"], "", "a file named after /search changed"),
    case("comment_names_route", &["errors on /quote", "latency on /quote"], "", "code next to the name of POST /quote"),
    case("rust_added_counter", &["payment_rejections_total?"], "", "counts bad events as payment_rejections_total"),
    case("go_added_counter", &["shop_queue_dropped_total?"], "", "at internal/queue/metrics.go:9"),
    case(
        "known_counter_cache",
        &["cache misses", "errors on all traffic?", "latency on all traffic?"],
        "",
        "caching changed at src/cart/store.rs:41",
    ),
    case("hits_counter", &[], "", "no signal in the diff"),
    case("sql_drop_column", ALL, "migrations/0042_drop_legacy_email.sql:4 drops a column", "database migrations"),
    case("sql_additive", ALL, "", "database migrations"),
    case("sql_removed_drop", ALL, "", "database migrations"),
    case("rails_migration", ALL, "20250310120000_rename_state.rb:3 renames", "database migrations"),
    case("django_migration", ALL, "0012_phone.py:11 drops a column", "database migrations"),
    case("alembic_down_only", ALL, "", "database migrations"),
    case("knex_drop", ALL, "20250501_drop_coupons.js:2 drops a table", "database migrations"),
    case("docs_only", &[], "", "only documentation changed"),
    case("tests_only", &[], "", "only tests changed"),
    case("comments_only", &[], "", "only comments changed"),
    case("dependencies", ALL, "", "the diff touches dependencies (package.json:5)"),
    case("vendored", &[], "", "only generated files and vendored files changed"),
    case("feature_flag", ALL, "", "the diff touches configuration"),
    case("hostile_route", ALL, "", "the diff touches routes (src/evil.ts:5)"),
    case("aspnet_and_login", &["errors on /login", "latency on /login"], "", "sign-in and permissions"),
    case("renamed_only", &[], "", "only names of files changed"),
];

fn draft_of(file: &str) -> Draft {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diffs").join(file).with_extension("diff");
    heuristic_draft(&parse(&fs::read_to_string(path).unwrap()), &catalogue())
}

#[test]
fn realistic_diffs_get_the_checks_that_their_reader_would_ask_for() {
    for Case { file, checks, one_way, says } in CASES {
        let draft = draft_of(file);
        let names: Vec<String> = draft
            .checks
            .iter()
            .map(|check| format!("{}{}", check.name, if check.weight == Weight::Advisory { "?" } else { "" }))
            .collect();
        assert_eq!(names, *checks, "{file}: {draft:#?}");
        match &draft.way_back {
            WayBack::Open => assert_eq!(*one_way, "", "{file} is one-way"),
            WayBack::OneWay { why, lines } => {
                assert!(why.as_str().contains(one_way) && !one_way.is_empty(), "{file}: {why}");
                assert!(!lines.is_empty(), "{file}");
            }
        }
        let words: Vec<&str> =
            draft.notes.iter().chain(draft.checks.iter().map(|check| &check.rationale)).map(Text::as_str).collect();
        assert!(words.iter().any(|text| text.contains(says)), "{file}: {words:#?}");
    }
}

#[test]
fn every_diff_has_a_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diffs");
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let cases: BTreeSet<String> = CASES.iter().map(|case| case.file.to_owned()).collect();
    assert_eq!(files, cases);
}

#[test]
fn whatever_is_drafted_is_admitted() {
    for Case { file, .. } in CASES {
        let draft = draft_of(file);
        let proposed = draft.checks.len();
        let admission = admit(draft, &bounds(24), Touched::NOTHING, SERVED, |_| Trial::default());
        // The objective stands for the errors of all traffic already.
        let same = "another check measures the same";
        let refused: Vec<_> = admission.rejections.iter().filter(|refused| refused.why.as_str() != same).collect();
        assert!(refused.is_empty(), "{file}: {refused:?}");
        assert_eq!(admission.plan.checks().len() + admission.rejections.len(), proposed + 1, "{file}");
    }
}

#[test]
fn a_routes_check_reads_that_route_alone_and_rests_on_the_changed_lines() {
    let draft = draft_of("axum_handler");
    let check = &draft.checks[0];
    assert_eq!(check.sli, catalogue().entries[0].sli.narrowed("route", &Match::Is("/checkout".into())));
    assert_eq!((check.ratio_max, check.direction, check.limit), (1.25, Direction::HigherIsWorse, None));
    let lines: Vec<String> = check.lines.iter().map(ToString::to_string).collect();
    assert!(lines.contains(&"src/routes/checkout.rs:40".to_owned()), "{lines:?}");
    assert_eq!(draft.checks[1].ratio_max, 1.5);
    let with_parameter = &draft_of("express_inline").checks[0];
    let prefix = Match::StartsWith("/cart/".into());
    assert_eq!(with_parameter.sli, catalogue().entries[0].sli.narrowed("route", &prefix));
}

#[test]
fn an_added_counter_is_counted_against_the_catalogues_traffic() {
    let draft = draft_of("rust_added_counter");
    let events = Selector::metric("payment_rejections_total");
    let expected = Sli::EventsPerTraffic { events, traffic: Selector::metric("http_requests_total") };
    assert_eq!((&draft.checks[0].sli, draft.checks[0].weight), (&expected, Weight::Advisory));
    let without = heuristic_draft(
        &parse(include_str!("diffs/rust_added_counter.diff")),
        &Catalogue { traffic: None, ..catalogue() },
    );
    assert_eq!(without.checks, []);
    assert!(without.notes.iter().any(|note| note.as_str().contains("names no traffic")), "{:?}", without.notes);
}

#[test]
fn a_catalogue_without_routes_is_watched_as_a_whole() {
    let mut whole = catalogue();
    whole.entries.iter_mut().for_each(|entry| entry.route_label = None);
    let draft = heuristic_draft(&parse(include_str!("diffs/axum_handler.diff")), &whole);
    let names: Vec<&str> = draft.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["errors on all traffic", "latency on all traffic"]);
    let nothing = heuristic_draft(&parse(include_str!("diffs/axum_handler.diff")), &Catalogue::default());
    assert_eq!(nothing.checks, []);
    assert!(nothing.notes[0].as_str().contains("the catalogue measures nothing"), "{:?}", nothing.notes);
}

#[test]
fn what_was_not_read_is_said() {
    let empty = heuristic_draft(&Diff::default(), &catalogue());
    assert_eq!(empty.checks, []);
    assert!(empty.notes[0].as_str().contains("the diff is empty"), "{:?}", empty.notes);
    let mut diff = parse(include_str!("diffs/axum_handler.diff"));
    diff.cut = true;
    diff.files.push(FileDiff {
        path: "model.bin".into(),
        previous_path: None,
        kind: TouchKind::Added,
        binary: true,
        lines: Vec::new(),
    });
    let notes = heuristic_draft(&diff, &catalogue()).notes;
    assert!(notes.iter().any(|note| note.as_str().contains("was cut")), "{notes:?}");
    assert!(notes.iter().any(|note| note.as_str().contains("1 binary files")), "{notes:?}");
}

fn file_of(path: &str, lines: impl Iterator<Item = String>) -> FileDiff {
    let lines = (1..).zip(lines).map(|(number, text)| Line { kind: LineKind::Added, number, text }).collect();
    FileDiff { path: path.into(), previous_path: None, kind: TouchKind::Modified, binary: false, lines }
}

/// The planner's time on 50,000 lines of one file, the best of three so that a busy machine tells no lies.
fn seconds(path: &str, line: impl Fn(usize) -> String) -> f64 {
    let diff = Diff { files: vec![file_of(path, (0..50_000).map(line))], cut: false };
    let once = || {
        let begun = Instant::now();
        std::hint::black_box(heuristic_draft(&diff, &catalogue()));
        begun.elapsed().as_secs_f64()
    };
    let best = (0..3).map(|_| once()).fold(f64::INFINITY, f64::min);
    println!("50,000 lines of {path} took {best:.3} s");
    best
}

#[test]
fn a_diff_of_fifty_thousand_lines_is_read_quickly() {
    let code = |n| match n % 4 {
        0 => format!("    let reasonably_long_name_{n} = compute(argument_{n}, another, and_one_more) + offset;"),
        1 => format!("        info!(\"handled {{}} of the items in {{}}\", done_{n}, 'x');"),
        2 => "    }".to_owned(),
        _ => format!("fn step_{n}(input: &str) -> Result<Output, Error> {{"),
    };
    let declared =
        |n| format!(r#"router.post("/r{n}/pay", async (req, res) => pay(req.body.order_{n}, "x", 'y', `z`));"#);
    let insert = |n| format!("INSERT INTO products (id, name, price) VALUES ({n}, 'a thing; or another', 12.50);");
    for took in [seconds("src/a.rs", code), seconds("src/a.ts", declared), seconds("migrations/1.sql", insert)] {
        // Far above what a busy machine takes, and far below what reading every line against every other would.
        assert!(took < 30.0, "took {took} s");
    }
}

#[test]
fn a_diff_with_more_lines_than_are_read_is_bounded() {
    let declared = |n| format!("app.get('/r{n}', handler_{n});");
    let at_the_edge = Diff { files: vec![file_of("src/a.ts", (0..50_000).map(declared))], cut: false };
    let draft = heuristic_draft(&at_the_edge, &catalogue());
    assert_eq!(draft.checks.len(), 24);
    assert!(draft.notes.iter().all(|note| !note.as_str().contains("were not read")), "{:?}", draft.notes);
    let beyond = Diff { files: vec![file_of("src/a.ts", (0..50_001).map(declared))], cut: false };
    let draft = heuristic_draft(&beyond, &catalogue());
    assert_eq!(draft.checks.len(), 24);
    assert!(draft.notes.iter().any(|note| note.as_str().starts_with("1 lines beyond")), "{:?}", draft.notes);
}

#[test]
fn absurdly_long_lines_and_unclosed_quotes_are_survived() {
    let lines =
        ["\"".repeat(1_000_000), "(".repeat(1_000_000), "é/'".repeat(300_000), format!("/*{}", "*".repeat(1_000_000))];
    for path in ["src/a.ts", "migrations/1.sql", "migrations/1.py", "src/a.rs", "config/routes.rb", "src/routes/é.rs"]
    {
        let diff = Diff { files: vec![file_of(path, lines.clone().into_iter())], cut: false };
        let draft = heuristic_draft(&diff, &catalogue());
        assert!(draft.checks.len() <= 24);
    }
}

/// Lines that hit signals often, with strange text mixed in.
fn any_line() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(".route(\"/pay\", post(pay))".to_owned()),
        Just("@app.post('/a/{id}')".to_owned()),
        Just("def pay(x):".to_owned()),
        Just("pub async fn pay() {".to_owned()),
        Just("counter!(\"pay_errors_total\")".to_owned()),
        Just("registry.register(\"pay_misses\"".to_owned()),
        Just("statsd.increment('pay.failures')".to_owned()),
        Just("ALTER TABLE a DROP COLUMN b;".to_owned()),
        Just("timeout retry cache.get(password) process.env.X".to_owned()),
        Just("-- +goose Down".to_owned()),
        Just("// POST /pay".to_owned()),
        "\\PC{0,40}",
        "[\"'`(){}/@#\\[\\] a-z:;,$*é-]{0,60}",
    ];
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

fn any_file() -> impl Strategy<Value = FileDiff> {
    let path = prop_oneof![
        Just("src/routes/pay.rs".to_owned()),
        Just("app/api/cart/route.ts".to_owned()),
        Just("shop/urls.py".to_owned()),
        Just("config/routes.rb".to_owned()),
        Just("migrations/1.sql".to_owned()),
        Just("db/migrate/1.rb".to_owned()),
        Just("package.json".to_owned()),
        Just("a.yaml".to_owned()),
        "\\PC{0,30}",
    ];
    let kind = prop_oneof![Just(LineKind::Added), Just(LineKind::Removed), Just(LineKind::Context)];
    let line = (kind, 0_u32..60, any_line()).prop_map(|(kind, number, text)| Line { kind, number, text });
    (path, any::<bool>(), prop::collection::vec(line, 0..30)).prop_map(|(path, binary, lines)| FileDiff {
        path,
        previous_path: None,
        kind: TouchKind::Modified,
        binary,
        lines,
    })
}

proptest! {
    #[test]
    fn no_diff_widens_what_is_watched(
        files in prop::collection::vec(any_file(), 0..5),
        cut in any::<bool>(),
        proposed_max in 0_usize..10,
    ) {
        let diff = Diff { files, cut };
        let draft = heuristic_draft(&diff, &catalogue());
        prop_assert_eq!(&draft, &heuristic_draft(&diff, &catalogue()), "the same diff gives the same draft");
        let bounds = bounds(proposed_max);
        let plan = admit(draft, &bounds, Touched::NOTHING, SERVED, |_| Trial::default()).plan;
        prop_assert_eq!(&plan.checks()[..1], &bounds.mandatory[..]);
        let proposed = &plan.checks()[1..];
        prop_assert!(proposed.len() <= proposed_max);
        let known: BTreeSet<String> = catalogue()
            .entries
            .iter()
            .flat_map(|entry| entry.sli.selectors().into_iter().map(|s| s.metric.clone()).collect::<Vec<_>>())
            .collect();
        let added: Vec<String> =
            diff.files.iter().flat_map(FileDiff::added).map(|line| line.text.replace(['.', '-'], "_")).collect();
        for check in proposed {
            prop_assert_eq!((check.limit, check.origin), (None, Origin::Heuristic));
            prop_assert!((1.0..=bounds.ratio_max).contains(&check.ratio_max));
            for selector in check.sli.selectors() {
                let base = selector.metric.trim_end_matches("_total");
                let borne = known.contains(&selector.metric) || added.iter().any(|text| text.contains(base));
                prop_assert!(borne, "{} is neither in the catalogue nor on an added line", selector.metric);
            }
        }
    }
}
