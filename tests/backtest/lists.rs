//! Lists that are wrong, services without a past, and servers that are not there.

use super::Desk;

const NOBODY: &str = "http://127.0.0.1:9";

fn desk() -> Desk {
    Desk::new(NOBODY, NOBODY, "")
}

#[test]
fn a_list_that_is_wrong_is_refused_line_by_line_before_anything_is_asked() {
    let desk = desk();
    desk.write("deploys.csv", "time,revision\n2026-01-01,abcdef0\n2026-01-01T10:00:00Z,main\n");
    let (code, told, said) = desk.backtest(&["--deploys", "deploys.csv"]);
    assert_eq!((code, told.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("deploys.csv is no list of deploys:"), "{said}");
    assert!(said.contains("line 2: time: `2026-01-01` is no time: write one with its offset"), "{said}");
    assert!(said.contains("line 3: revision: `main` is no revision: write 7 to 64 hexadecimal digits"), "{said}");
    let (code, _, said) = desk.backtest(&["--deploys", "nothing.csv"]);
    assert!(code == Some(1) && said.contains("cannot read nothing.csv"), "{said}");
}

#[test]
fn a_list_has_a_largest_size() {
    let desk = desk();
    desk.write("deploys.csv", &format!("time,revision\n{}", "#".repeat(1 << 20)));
    let (code, _, said) = desk.backtest(&["--deploys", "deploys.csv"]);
    assert!(code == Some(1) && said.contains("more than 1048576 bytes"), "{said}");
}

#[test]
fn what_to_look_at_has_to_be_said_once() {
    let desk = desk();
    for words in [&[][..], &["--github", "--deploys", "x.csv"], &["--deploys", "x.csv", "--environment", "production"]]
    {
        assert_eq!(desk.backtest(words).0, Some(2), "{words:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_said_to_be() {
    let desk = desk();
    desk.write("deploys.csv", "time,revision\n2026-01-01T10:00:00Z,abcdef0\n");
    let (code, told, said) = desk.backtest(&["--deploys", "deploys.csv"]);
    assert_eq!((code, told.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("the source does not answer: unavailable: http://127.0.0.1:9"), "{said}");
    let (code, _, said) = desk.backtest(&["--github"]);
    assert!(code == Some(1) && said.contains("the forge is unavailable"), "{said}");
}

#[test]
fn a_service_whose_pages_are_scraped_has_no_past() {
    let desk = desk();
    let scraped = super::config(NOBODY, NOBODY, "").replace(
        "source = \"metrics\"\n",
        "control.urls = [\"http://127.0.0.1:9/a\"]\ncanary.urls = [\"http://127.0.0.1:9/b\"]\n",
    );
    desk.write("tollgate.toml", &scraped);
    desk.write("deploys.csv", "time,revision\n2026-01-01T10:00:00Z,abcdef0\n");
    let (code, _, said) = desk.backtest(&["--deploys", "deploys.csv"]);
    assert!(code == Some(1) && said.contains("no Prometheus keeps the past of shop"), "{said}");
}
