//! What holds of every file: reading never fails otherwise than by its list of problems, and everything is bounded.

use std::fs;

use proptest::prelude::*;
use tollgate::config::{self, FILE_BYTES_MAX, PROBLEMS_MAX, SERVICES_MAX, SLIS_MAX, STAGES_MAX};

use super::{LEAST, least_with, lines, read};

/// Any value that TOML can hold, of at most three levels.
fn any_value() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        "[a-z%_./{}:0-9-]{0,12}".prop_map(|word| format!("{word:?}")),
        any::<i64>().prop_map(|number| number.to_string()),
        prop_oneof![
            Just("nan".to_owned()),
            Just("-inf".to_owned()),
            any::<f32>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| format!("{f:?}"))
        ],
        any::<bool>().prop_map(|answer| answer.to_string()),
        Just("2024-01-01T00:00:00Z".to_owned()),
    ];
    plain.prop_recursive(3, 24, 5, |below| {
        prop_oneof![
            prop::collection::vec(below.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(", "))),
            prop::collection::btree_map(any_key(), below, 0..5).prop_map(|table| {
                let pairs: Vec<String> = table.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }),
        ]
    })
}

/// A key that some table knows, more often than not.
fn any_key() -> impl Strategy<Value = String> {
    let known = "listen api_token env file journal dir github timeout log filter services shop repository paths stages \
                 share cohorts bake_time alpha telemetry control canary urls labels flag key value slis name kind bad \
                 total metric where is one_of histogram slow_above slos sli limit bad_share_max ratio_max direction";
    let known: Vec<String> = known.split_whitespace().map(str::to_owned).collect();
    prop_oneof![4 => prop::sample::select(known), 1 => "[a-z_]{1,9}"]
}

/// All that is asked of an answer: it is one, and a refusal says why.
fn is_an_answer(text: &str) -> bool {
    match read(text) {
        Ok(_) => true,
        Err(problems) => {
            let reader_disagrees = problems.iter().any(|problem| problem.what.contains("the reader does not"));
            !problems.is_empty() && problems.len() <= PROBLEMS_MAX + 1 && !reader_disagrees
        }
    }
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}|[a-z\\[\\]{}=\"'#.,\n 0-9-]{0,400}") {
        prop_assert!(is_an_answer(&text), "{text}");
    }

    #[test]
    fn any_table_gets_an_answer(table in prop::collection::btree_map(any_key(), any_value(), 0..8)) {
        let text: String = table.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        prop_assert!(is_an_answer(&text), "{text}");
    }

    #[test]
    fn any_value_in_any_place_gets_an_answer(
        key in any_key(),
        value in any_value(),
        place in prop::sample::select(vec!["#top", "#service", "#control", "#canary", "#sli", "#slo"]),
    ) {
        let text = least_with(place, &format!("{key} = {value}"));
        prop_assert!(is_an_answer(&text), "{}", text);
    }

    #[test]
    fn a_file_cut_anywhere_gets_an_answer(cut in 0..LEAST.len(), junk in "\\PC{0,9}") {
        let text = format!("{}{junk}{}", &LEAST[..cut], &LEAST[cut..]);
        prop_assert!(is_an_answer(&LEAST[..cut]) && is_an_answer(&text));
    }
}

#[test]
fn a_file_of_the_largest_size_is_read_and_a_larger_one_is_not() {
    let padded = |bytes: usize| format!("{LEAST}#{}", "x".repeat(bytes - LEAST.len() - 1));
    assert!(read(&padded(FILE_BYTES_MAX)).is_ok());
    let told = ["t.toml: has more than 1048576 bytes; write a smaller file"];
    assert_eq!(lines(&read(&padded(FILE_BYTES_MAX + 1)).unwrap_err()), told);
}

#[test]
fn a_file_is_loaded_or_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.toml");
    let name = path.display().to_string();
    let load =
        || config::load(&path, &super::env).map_err(|problems| lines(&problems).join("\n").replace(&name, "NAME"));
    assert_eq!(
        load().unwrap_err(),
        "NAME: cannot be read (No such file or directory (os error 2)); name a TOML file such as config.example.toml"
    );
    fs::write(&path, LEAST).unwrap();
    assert!(load().is_ok());
    fs::write(&path, b"\xff").unwrap();
    assert!(load().unwrap_err().contains("it is no UTF-8 text"));
    fs::write(&path, "é".repeat(FILE_BYTES_MAX)).unwrap();
    assert_eq!(load().unwrap_err(), "NAME: has more than 1048576 bytes; write a smaller file");
}

/// A file whose list has that many elements.
type Text<'a> = &'a dyn Fn(usize) -> String;

#[test]
fn every_list_has_its_edge() {
    let stages = |count: usize| {
        let stage = |place| format!("{{ share = \"{}%\" }}", if place == count { 100 } else { place });
        let stages: Vec<String> = (1..=count).map(stage).collect();
        least_with("#service", &format!("step_max = \"100%\"\nstages = [{}]", stages.join(", ")))
    };
    let slis = |count: usize| {
        let sli = |place| {
            format!("[[services.shop.slis]]\nname = \"s{place}\"\nkind = \"level\"\ngauge = {{ metric = \"g\" }}\n")
        };
        least_with("#sli", &(1..count).map(sli).collect::<String>())
    };
    let services = |count: usize| {
        let service = |place| LEAST.replace("shop", &format!("s{place}")).replace("#top\n", "");
        (0..count).map(service).collect::<String>()
    };
    let paths = |count: usize| least_with("#service", &format!("paths = [{}]", vec!["\"a\""; count].join(",")));
    let pages = |count: usize| {
        let pages: Vec<String> = (0..count).map(|place| format!("\"http://h{place}/\"")).collect();
        least_with("urls = [\"http://old:9100/metrics\"]", &format!("urls = [{}]", pages.join(",")))
    };
    let labels = |count: usize| {
        let labels: Vec<String> = (0..count).map(|place| format!("l{place} = \"x\"")).collect();
        least_with("#control", &format!("labels = {{ {} }}", labels.join(",")))
    };
    let conditions = |count: usize| {
        let conditions: Vec<String> = (0..count).map(|place| format!("l{place} = \"x\"")).collect();
        least_with("code = { starts_with = \"5\" }", &conditions.join(","))
    };
    let values = |count: usize| {
        least_with("{ starts_with = \"5\" }", &format!("{{ one_of = [{}] }}", vec!["\"5\""; count].join(",")))
    };
    let cohorts = |count: usize| {
        let cohorts: Vec<String> = (0..count).map(|place| format!("\"c{place}\"")).collect();
        let stages = format!("[{{ share = 50, cohorts = {{ ring = [{}] }} }}, {{ share = 100 }}]", cohorts.join(","));
        least_with("#service", &format!("stages = {stages}"))
    };
    let name = |bytes: usize| LEAST.replace("services.shop", &format!("services.{}", "s".repeat(bytes)));
    let lists: [(Text<'_>, usize, &str); 10] = [
        (&stages, STAGES_MAX, "services.shop.stages: has 21 stages; write at most 20"),
        (&slis, SLIS_MAX, "services.shop.slis: has 101 SLIs; write at most 100"),
        (&services, SERVICES_MAX, "services: has 201 services; write at most 200"),
        (&paths, config::GLOBS_MAX, "services.shop.paths: has 101 globs; write at most 100"),
        (&pages, config::URLS_MAX, "services.shop.telemetry.control.urls: has 51 pages; write at most 50"),
        (&labels, config::LABELS_MAX, "services.shop.telemetry.control.labels: has 21 labels; write at most 20"),
        (&conditions, config::CONDITIONS_MAX, "services.shop.slis[0].bad.where: has 21 conditions; write at most 20"),
        (&values, config::VALUES_MAX, "services.shop.slis[0].bad.where.code: has 101 values; write at most 100"),
        (&cohorts, config::COHORTS_MAX, "services.shop.stages[0].cohorts: has 51 cohorts; write at most 50"),
        (&name, 60, "is 61 bytes long; write a name of lower-case letters, digits and dashes of at most 60 bytes"),
    ];
    for (text, most, told) in lists {
        assert!(read(&text(most)).is_ok(), "{told}: {most} are allowed: {:?}", read(&text(most)).err());
        let problems = lines(&read(&text(most + 1)).unwrap_err());
        assert!(problems.iter().any(|line| line.contains(told)), "{told}: {problems:?}");
    }
}

#[test]
fn a_hostile_file_is_answered_in_bounded_space() {
    let unknown: String = (0..5_000).map(|place| format!("k{place} = 1\n")).collect();
    let problems = read(&unknown).unwrap_err();
    assert_eq!(problems.len(), PROBLEMS_MAX + 1);
    assert!(problems.last().unwrap().what.ends_with("more problems are not listed"));
    let broken = "=\n".repeat(FILE_BYTES_MAX / 20);
    assert!(read(&broken).unwrap_err().len() <= PROBLEMS_MAX);
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(!read(&deep).unwrap_err().is_empty());
    let long = read(&format!("{} = 1", "k".repeat(FILE_BYTES_MAX - 10))).unwrap_err();
    let keys: Vec<usize> = long.iter().map(|problem| problem.key.chars().count()).collect();
    assert_eq!(keys, ["services".len(), 61], "a name is cut after 60 characters");
}
