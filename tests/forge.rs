//! The client of GitHub against the stand-in: what is read, what is refused, and what is tried again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::Query, http::StatusCode, routing::get};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::{
    domain::{Diff, FileTouched, LineKind, Person, Repository, Text, Timestamp, TouchKind},
    forge::{
        Config, Error, GitHub,
        deployments::{DEPLOYMENTS_MAX, ENVIRONMENT_BYTES_MAX},
        diff::{LIMITS, read},
        github::FILES_MAX,
        stand_in::{Deployed, Fault, Pull, StandIn},
    },
};

const DIFF: &str = "\
diff --git a/src/pay.rs b/src/pay.rs
index 1111111..2222222 100644
--- a/src/pay.rs
+++ b/src/pay.rs
@@ -1,2 +1,3 @@
 fn pay() {
-    charge();
+    charge_once();
+    tell();
diff --git a/old.sql b/db/new name.sql
similarity index 100%
rename from old.sql
rename to db/new name.sql
diff --git a/gone b/gone
deleted file mode 100644
index 3333333..0000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-bye
diff --git a/notes b/notes
new file mode 100644
index 0000000..4444444
--- /dev/null
+++ b/notes
@@ -0,0 +1 @@
+no line end
\\ No newline at end of file
";

fn repository() -> Repository {
    "acme/shop".parse().unwrap()
}

fn pull(number: u64, diff: impl Into<String>) -> Pull {
    Pull {
        repository: repository(),
        number,
        title: "Charge once".into(),
        author: "ada".into(),
        merged_by: Some("grace".into()),
        branch: "main".into(),
        base: "aaaaaaaaaa".parse().unwrap(),
        head: "bbbbbbbbbb".parse().unwrap(),
        merge_commit_sha: Some("cccccccccc".parse().unwrap()),
        merged_at: Some(Timestamp::from_millis(1_700_000_000_000)),
        diff: diff.into(),
    }
}

fn edits(files: usize) -> String {
    let edit =
        |i| format!("diff --git a/f{i} b/f{i}\n--- a/f{i}\n+++ b/f{i}\n@@ -1 +1,2 @@\n-old {i}\n+new {i}\n+more\n");
    (0..files).map(edit).collect()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn config(address: SocketAddr) -> Config {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    Config { api: format!("http://{address}"), token: None, timeout: Duration::from_secs(5), attempts_max: 3 }
}

/// A client of a stand-in that serves pull request 7.
async fn served(stand_in: &StandIn) -> GitHub {
    stand_in.put(pull(7, DIFF));
    let (listener, address) = listen().await;
    tokio::spawn(stand_in.clone().serve(listener));
    GitHub::new(&config(address)).unwrap()
}

/// A client of a stand-in with pull request 7 whose next requests fail like this.
async fn failing(faults: impl IntoIterator<Item = Fault>) -> (GitHub, StandIn) {
    let stand_in = StandIn::new();
    faults.into_iter().for_each(|fault| stand_in.fail_next(fault));
    (served(&stand_in).await, stand_in)
}

fn answer(status: u16, headers: Vec<(&'static str, &'static str)>, body: impl Into<String>) -> Fault {
    Fault::Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() }
}

fn unavailable<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Unavailable(why)) => why.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("answered"),
    }
}

fn refused<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Refused(why)) => why.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("answered"),
    }
}

fn malformed<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Malformed(why)) => why.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("answered"),
    }
}

#[tokio::test]
async fn a_merged_pull_request_is_read_with_its_files() {
    let github = served(&StandIn::new()).await;
    let change = github.change(&repository(), 7).await.unwrap();
    let touched = |path: &str, previous: Option<&str>, kind| FileTouched {
        path: path.into(),
        previous_path: previous.map(Into::into),
        kind,
    };
    assert_eq!((change.title.as_str(), change.author), ("Charge once", Person(Text::new("ada"))));
    assert_eq!(change.merged_by, Some(Person(Text::new("grace"))));
    assert_eq!((change.base.as_str(), change.revision.as_str()), ("aaaaaaaaaa", "cccccccccc"));
    let files = [
        touched("src/pay.rs", None, TouchKind::Modified),
        touched("db/new name.sql", Some("old.sql"), TouchKind::Renamed),
        touched("gone", None, TouchKind::Removed),
        touched("notes", None, TouchKind::Added),
    ];
    assert_eq!((change.files.as_slice(), change.files_cut), (&files[..], false));
}

#[tokio::test]
async fn a_diff_is_read_as_git_wrote_it() {
    let github = served(&StandIn::new()).await;
    let diff = github.diff(&repository(), 7).await.unwrap();
    assert_eq!(Ok(&diff), read(DIFF.as_bytes(), &LIMITS).as_ref());
    let added: Vec<_> = diff.files[0].added().map(|line| (line.number, line.text.as_str())).collect();
    assert_eq!(added, [(2, "    charge_once();"), (3, "    tell();")]);
}

#[tokio::test]
async fn files_are_read_page_after_page() {
    let stand_in = StandIn::new();
    let github = served(&stand_in).await;
    stand_in.put(pull(8, edits(250)));
    let change = github.change(&repository(), 8).await.unwrap();
    let paths: Vec<_> = change.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(paths, (0..250).map(|i| format!("f{i}")).collect::<Vec<_>>());
    assert!(!change.files_cut);
    let pages = |n| format!("/repos/acme/shop/pulls/8/files?per_page=100&page={n}");
    assert_eq!(stand_in.requests()[1..], [pages(1), pages(2), pages(3)]);

    stand_in.put(pull(9, edits(FILES_MAX)));
    let change = github.change(&repository(), 9).await.unwrap();
    assert_eq!((change.files.len(), change.files_cut), (FILES_MAX, false), "at the limit nothing is cut");
}

/// A forge whose every page holds this many files, with patches this long, and names a next page.
async fn endless(files_a_page: usize, patch_bytes: usize) -> GitHub {
    let (listener, address) = listen().await;
    let the_pull = json!({
        "number": 7, "title": "t", "user": { "login": "ada" }, "merged": true, "merged_at": "2026-01-01T00:00:00Z",
        "merge_commit_sha": "cccccccccc", "changed_files": 9_999, "base": { "sha": "aaaaaaaaaa" },
    });
    let page = move |Query(query): Query<Value>| async move {
        let name = |i| format!("{}-{i}", query["page"].as_str().unwrap());
        let file = |i| json!({ "filename": name(i), "status": "added", "patch": "x".repeat(patch_bytes) });
        let files: Vec<_> = (0..files_a_page).map(file).collect();
        ([("link", "<http://elsewhere.example/>; rel=\"next\"")], Json(files))
    };
    let routes = Router::new()
        .route("/repos/acme/shop/pulls/7", get(|| async move { Json(the_pull) }))
        .route("/repos/acme/shop/pulls/7/files", get(page));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    GitHub::new(&config(address)).unwrap()
}

#[tokio::test]
async fn files_are_read_up_to_their_limit_and_no_address_of_the_forge_is_followed() {
    for (files_a_page, patch_bytes, read, last) in [
        (100, 0, FILES_MAX, "30-99"),
        // More than was asked for a page.
        (1_600, 0, FILES_MAX, "2-1399"),
        // 8 MiB a page: four of them are the most.
        (4, 2 << 20, 16, "4-3"),
    ] {
        let change = endless(files_a_page, patch_bytes).await.change(&repository(), 7).await.unwrap();
        assert_eq!((change.files.len(), change.files_cut), (read, true));
        assert_eq!(change.files.last().unwrap().path, last);
    }
}

#[tokio::test]
async fn fewer_files_than_the_pull_request_counts_are_a_cut_list() {
    let (github, _) = failing([]).await;
    let counted = github.change(&repository(), 7).await.unwrap();
    assert!(!counted.files_cut);
    let body = json!({
        "number": 7, "title": "t", "user": null, "merged": true, "merged_at": "2026-01-01T00:00:00Z",
        "merge_commit_sha": "cccccccccc", "changed_files": 5, "base": { "sha": "aaaaaaaaaa" },
    });
    let (github, _) = failing([answer(200, vec![], body.to_string())]).await;
    let change = github.change(&repository(), 7).await.unwrap();
    assert_eq!((change.files.len(), change.files_cut), (4, true));
}

#[tokio::test]
async fn the_token_is_sent_and_never_shown() {
    let token = SecretString::from("ghp_of_the_test");
    let stand_in = StandIn::with_token(token.clone());
    stand_in.put(pull(7, DIFF));
    let (listener, address) = listen().await;
    tokio::spawn(stand_in.serve(listener));
    let with = |token| Config { token, ..config(address) };
    let bearing = with(Some(token));
    assert!(!format!("{bearing:?}").contains("ghp_"));
    assert!(GitHub::new(&bearing).unwrap().change(&repository(), 7).await.is_ok());
    for token in [None, Some(SecretString::from("ghp_other"))] {
        let why = refused(GitHub::new(&with(token)).unwrap().change(&repository(), 7).await);
        assert!(why.contains("Bad credentials") && !why.contains("ghp_"), "{why}");
    }
}

#[tokio::test]
async fn a_moved_repository_is_followed_but_another_host_gets_no_token() {
    let token = SecretString::from("ghp_of_the_test");
    let (here, there) = (StandIn::with_token(token.clone()), StandIn::with_token(token.clone()));
    let (listener, address) = listen().await;
    let (other_listener, other) = listen().await;
    for stand_in in [&here, &there] {
        stand_in.put(pull(7, DIFF));
    }
    tokio::spawn(here.clone().serve(listener));
    tokio::spawn(there.clone().serve(other_listener));
    let github = GitHub::new(&Config { token: Some(token), ..config(address) }).unwrap();

    here.fail_next(answer(301, vec![("location", "/repos/acme/shop/pulls/7")], ""));
    assert!(github.change(&repository(), 7).await.is_ok());

    let elsewhere: &'static str = format!("http://{other}/repos/acme/shop/pulls/7").leak();
    here.fail_next(answer(301, vec![("location", elsewhere)], ""));
    assert!(refused(github.change(&repository(), 7).await).contains("Bad credentials"));
    assert_eq!(there.requests().len(), 1);
}

#[tokio::test]
async fn an_api_below_a_path_is_reached() {
    let stand_in = StandIn::new();
    stand_in.put(pull(7, DIFF));
    let (listener, address) = listen().await;
    let routes = Router::new().nest("/api/v3", stand_in.routes());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    for slash in ["", "/"] {
        let api = format!("http://{address}/api/v3{slash}");
        let github = GitHub::new(&Config { api, ..config(address) }).unwrap();
        assert!(github.change(&repository(), 7).await.is_ok());
    }
}

#[tokio::test]
async fn what_is_no_address_is_refused_at_once() {
    let with = |api: &str, token: Option<&str>| {
        let token = token.map(SecretString::from);
        GitHub::new(&Config { api: api.into(), token, ..config(([127, 0, 0, 1], 1).into()) })
    };
    for api in [
        "",
        "api.github.com",
        "ftp://api.github.com",
        "https://",
        "http://a b",
        "https://me:ghp_x@host",
        "https://h/?q",
    ] {
        let why = refused(with(api, None));
        assert!(why.contains("write `https://api.github.com`") && !why.contains("ghp_"), "{api}: {why}");
    }
    assert!(refused(with("http://forge.example", Some("ghp_x"))).contains("in the clear"));
    for api in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "https://forge.example/api/v3"] {
        assert!(with(api, Some("ghp_x")).is_ok(), "{api}");
    }
    assert!(with("http://forge.example", None).is_ok());
}

#[tokio::test]
async fn what_does_not_exist_is_refused_without_asking_again() {
    let (github, stand_in) = failing([]).await;
    assert!(refused(github.change(&repository(), 8).await).contains("Not Found"));
    assert!(refused(github.diff(&repository(), 8).await).contains("Not Found"));
    assert_eq!(stand_in.requests().len(), 2);
}

#[tokio::test]
async fn what_is_not_merged_is_refused() {
    let stand_in = StandIn::new();
    let github = served(&stand_in).await;
    stand_in.put(Pull { merged_at: None, ..pull(7, DIFF) });
    assert!(refused(github.change(&repository(), 7).await).contains("not merged"));
    stand_in.put(Pull { merge_commit_sha: None, ..pull(7, DIFF) });
    assert!(refused(github.change(&repository(), 7).await).contains("no merge commit"));
}

#[tokio::test]
async fn a_failure_that_passes_is_asked_again() {
    let (github, stand_in) =
        failing([Fault::status(StatusCode::INTERNAL_SERVER_ERROR), answer(502, vec![], "<html>")]).await;
    assert!(github.change(&repository(), 7).await.is_ok());
    assert_eq!(stand_in.requests().len(), 4, "the pull request three times, and its files");
}

#[tokio::test]
async fn a_failure_that_stays_is_asked_as_often_as_configured() {
    let (github, stand_in) = failing(vec![Fault::status(StatusCode::BAD_GATEWAY); 4]).await;
    assert!(unavailable(github.diff(&repository(), 7).await).contains("502"));
    assert_eq!(stand_in.requests().len(), 3);
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_when_the_forge_asks_for_a_short_wait() {
    let limited = |wait| answer(429, vec![("retry-after", wait)], r#"{"message":"secondary rate limit"}"#);
    let (github, _) = failing([limited("1")]).await;
    let the_repository = repository();
    let mut asked = Box::pin(github.diff(&the_repository, 7));
    assert!(tokio::time::timeout(Duration::from_millis(900), &mut asked).await.is_err(), "it waits");
    assert!(asked.await.is_ok());

    let (github, stand_in) = failing([limited("3600")]).await;
    assert!(unavailable(github.diff(&repository(), 7).await).contains("secondary rate limit"));
    let spent = answer(403, vec![("x-ratelimit-remaining", "0")], r#"{"message":"API rate limit exceeded"}"#);
    stand_in.fail_next(spent);
    assert!(unavailable(github.diff(&repository(), 7).await).contains("API rate limit exceeded"));
    assert_eq!(stand_in.requests().len(), 2);
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_unavailable() {
    let stand_in = StandIn::new();
    stand_in.put(pull(7, DIFF));
    let (listener, address) = listen().await;
    tokio::spawn(stand_in.clone().serve(listener));
    let hasty = Config { timeout: Duration::from_millis(300), attempts_max: 1, ..config(address) };
    let github = GitHub::new(&hasty).unwrap();
    stand_in.fail_next(Fault::Delay(Duration::from_secs(30)));
    assert!(unavailable(github.change(&repository(), 7).await).contains("300 ms"));
    assert!(github.change(&repository(), 7).await.is_ok());
}

#[tokio::test]
async fn a_forge_that_is_not_there_is_unavailable() {
    let (listener, address) = listen().await;
    drop(listener);
    let github = GitHub::new(&Config { attempts_max: 2, ..config(address) }).unwrap();
    unavailable(github.change(&repository(), 7).await);
    unavailable(github.diff(&repository(), 7).await);
}

#[tokio::test]
async fn what_is_not_of_githubs_shape_is_malformed() {
    for body in ["", "<html>", "[]", "{}", r#"{"number":7,"title":"t"}"#, r#"{"number":"7"}"#] {
        let (github, stand_in) = failing([answer(200, vec![], body)]).await;
        assert!(malformed(github.change(&repository(), 7).await).contains("the pull request"), "{body}");
        assert_eq!(stand_in.requests().len(), 1, "asking again mends nothing");
    }
    let (github, _) = failing([answer(200, vec![], "<html>")]).await;
    assert!(malformed(github.diff(&repository(), 7).await).contains("line 1"));
}

#[tokio::test]
async fn answers_are_read_up_to_a_limit() {
    let (github, _) = failing([answer(200, vec![], " ".repeat((16 << 20) + 1))]).await;
    assert!(malformed(github.change(&repository(), 7).await).contains("larger than"));
    let long = format!("--- /dev/null\n+++ b/x\n@@ -0,0 +1,9999999 @@\n{}", "+line\n".repeat(2 << 20));
    let (github, _) = failing([answer(200, vec![], long)]).await;
    let diff = github.diff(&repository(), 7).await.unwrap();
    assert_eq!((diff.cut, diff.files[0].lines.len()), (true, LIMITS.lines_max));
}

#[tokio::test]
async fn a_diff_that_is_too_large_for_the_forge_is_put_together_from_its_files() {
    let stand_in = StandIn::new();
    let github = served(&stand_in).await;
    for files in [300, 301] {
        stand_in.put(pull(8, edits(files)));
        let diff = github.diff(&repository(), 8).await.unwrap();
        assert_eq!(Ok(diff), read(edits(files).as_bytes(), &LIMITS));
    }
    let pages = stand_in.requests().iter().filter(|path| path.contains("/files")).count();
    assert_eq!(pages, 4, "only the second of them");

    for status in [406, 422] {
        stand_in.fail_next(answer(status, vec![], r#"{"message":"Sorry, this diff is taking too long to generate."}"#));
        assert_eq!(github.diff(&repository(), 7).await, read(DIFF.as_bytes(), &LIMITS).map_err(Error::from));
    }
}

async fn assembled(files: Value) -> Result<Diff, Error> {
    let (github, _) = failing([answer(406, vec![], "{}"), answer(200, vec![], files.to_string())]).await;
    github.diff(&repository(), 7).await
}

#[tokio::test]
async fn a_patch_that_is_left_out_or_breaks_off_is_a_cut_diff() {
    let file = |name: &str, changes: [u64; 2], patch: Value| json!({ "filename": name, "status": "modified", "additions": changes[0], "deletions": changes[1], "patch": patch });
    let good = file("good", [1, 1], json!("@@ -1 +1 @@\n-a\n+b"));
    let moved = json!({ "filename": "b", "previous_filename": "a", "status": "renamed", "patch": null });
    let diff = assembled(json!([good, moved])).await.unwrap();
    assert_eq!((diff.cut, diff.files.len(), diff.files[1].previous_path.as_deref()), (false, 2, Some("a")));

    for (patch, changes, kept) in [
        (Value::Null, [9, 0], 0),
        (json!("@@ -1 +1,3 @@\n-a\n+b"), [3, 1], 2),
        (json!("@@ -1 +1 @@\n-a\n+b"), [3, 1], 2),
        (json!("@@ -1 +1 @@\n-a\n+b\n[cut]"), [1, 1], 2),
    ] {
        let diff = assembled(json!([file("part", changes, patch.clone()), good])).await.unwrap();
        assert_eq!((diff.cut, diff.files[0].lines.len(), diff.files[1].lines.len()), (true, kept, 2), "{patch}");
        assert_eq!(diff.files[1].lines[1].kind, LineKind::Added);
    }
    malformed(assembled(json!([file("bad", [1, 1], json!("@@ -1 +1 @@\n?"))])).await);
}

#[tokio::test]
async fn the_stand_in_serves_loopback_only() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    assert!(StandIn::new().serve(listener).await.unwrap_err().to_string().contains("loopback only"));
}

fn deployed(number: u64, statuses: &[(&'static str, u64)]) -> Deployed {
    let at = |seconds: &u64| Timestamp::from_millis(seconds * 1_000);
    Deployed {
        repository: repository(),
        revision: format!("{number:040x}").parse().unwrap(),
        environment: if number.is_multiple_of(2) { "even & true".into() } else { "odd".into() },
        created_at: at(&number),
        statuses: statuses.iter().map(|(state, seconds)| (*state, at(seconds))).collect(),
    }
}

#[tokio::test]
async fn deployments_are_told_by_when_they_began_over_all_pages_and_those_that_never_did_are_left_out() {
    let stand_in = StandIn::new();
    for number in 1..=230 {
        let statuses: &[_] = match number {
            1 => &[("queued", 5), ("failure", 6)],
            2 => &[("success", 90)],
            _ => &[("queued", 10), ("in_progress", 20), ("in_progress", 25), ("success", 30)],
        };
        stand_in.put_deployment(deployed(number, statuses));
    }
    let github = served(&stand_in).await;
    let all = github.deployments(&repository(), None, DEPLOYMENTS_MAX).await.unwrap();
    assert_eq!((all.began.len(), all.never_began, all.more), (229, 1, false));
    let seconds = |at: Timestamp| at.as_millis() / 1_000;
    let last = all.began.last().unwrap();
    assert_eq!((seconds(all.began[0].at), seconds(last.at)), (20, 90), "newest first; in progress before success");
    assert_eq!(last.revision.as_str(), format!("{:040x}", 2));
    let pages = stand_in.requests().iter().filter(|request| request.contains("deployments?")).count();
    assert_eq!(pages, 3);
    let even = github.deployments(&repository(), Some("even & true"), DEPLOYMENTS_MAX).await.unwrap();
    assert_eq!((even.began.len(), even.more), (115, false));
    assert!(even.began.iter().all(|deployment| deployment.environment.as_str() == "even & true"));
    for (most, more) in [(100, true), (99, true), (229, true), (230, false)] {
        let few = github.deployments(&repository(), None, most).await.unwrap();
        assert_eq!((few.began.len() + few.never_began, few.more), (most, more), "{most}");
    }
}

#[tokio::test]
async fn deployments_that_cannot_be_read_are_refused_or_called_malformed() {
    let stand_in = StandIn::new();
    let github = served(&stand_in).await;
    let long = "e".repeat(ENVIRONMENT_BYTES_MAX + 1);
    for environment in ["", &long] {
        let refused = github.deployments(&repository(), Some(environment), 10).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{environment}");
    }
    assert!(github.deployments(&repository(), Some(&long[1..]), 10).await.unwrap().began.is_empty());
    stand_in.put_deployment(deployed(1, &[("success", 10)]));
    for body in ["{}", r#"[{"id":1,"sha":"main"}]"#, r#"[{"sha":"abcdef0"}]"#] {
        stand_in.fail_next(Fault::Answer { status: StatusCode::OK, headers: Vec::new(), body: body.into() });
        let read = github.deployments(&repository(), None, 10).await;
        assert!(matches!(read, Err(Error::Malformed(_))), "{body}: {read:?}");
    }
}
