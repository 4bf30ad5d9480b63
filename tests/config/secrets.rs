//! A secret never shows: not when it is accepted, not when it is refused, not when it stands in the wrong place.

use std::{fs, os::unix::fs::PermissionsExt};

use proptest::prelude::*;
use secrecy::ExposeSecret;
use tollgate::config::{self, Config, Problem, SECRET_BYTES_MAX};

use super::{SECRET, least_with, lines};

/// Reads with the API's token in a file of this content and mode.
fn with_token_file(content: &[u8], mode: u32) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let file = folder.path().join("tollgate.toml");
    config::read(&least_with("#top", "api_token = { file = \"token\" }"), file.to_str().unwrap(), &super::env)
}

fn token_of(config: &Config) -> &str {
    config.api_token.as_ref().map_or("", |token| token.expose_secret())
}

#[test]
fn a_secret_comes_from_a_file_without_its_line_end() {
    for content in [SECRET.to_owned(), format!("{SECRET}\n"), format!("{SECRET}\r\n")] {
        let config = with_token_file(content.as_bytes(), 0o600).unwrap();
        assert_eq!(token_of(&config), SECRET);
        assert_eq!(config.warnings.len(), 1, "only the absent GitHub token: {:?}", config.warnings);
    }
}

#[test]
fn a_file_that_others_may_read_is_worth_a_second_look() {
    let config = with_token_file(SECRET.as_bytes(), 0o644).unwrap();
    let warned = "api_token.file: others may read this file; take their right away with chmod o-r";
    assert!(config.warnings.iter().any(|warning| warning == warned), "{:?}", config.warnings);
}

#[test]
fn a_file_that_holds_no_secret_is_refused() {
    let told = |what: &str, fix: &str| vec![format!("api_token.file: {what}; {fix} (line 1)")];
    let fix = "put the secret there, and nothing else";
    for (content, what) in [
        (&b""[..], "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"a\nb", "the file holds several lines, or blanks around the secret"),
        (b" secret", "the file holds several lines, or blanks around the secret"),
    ] {
        assert_eq!(lines(&with_token_file(content, 0o600).unwrap_err()), told(what, fix));
    }
    let fix = "name a small text file that this user may read";
    let problems = with_token_file(b"\xff\xfe", 0o600).unwrap_err();
    assert_eq!(lines(&problems), told("the file cannot be read (it is no text)", fix));
    for (file, why) in [(".", "it is no regular file"), ("none", "there is none")] {
        let text = least_with("#top", &format!("api_token = {{ file = \"{file}\" }}"));
        let problems = config::read(&text, "t.toml", &super::env).unwrap_err();
        assert_eq!(lines(&problems), told(&format!("the file cannot be read ({why})"), fix));
    }
}

#[test]
fn the_largest_secret_is_taken_and_one_byte_more_is_not() {
    let with_end = |bytes: usize| "s".repeat(bytes) + "\r\n";
    assert_eq!(
        token_of(&with_token_file(with_end(SECRET_BYTES_MAX).as_bytes(), 0o600).unwrap()).len(),
        SECRET_BYTES_MAX
    );
    let problems = with_token_file(with_end(SECRET_BYTES_MAX + 1).as_bytes(), 0o600).unwrap_err();
    assert_eq!(
        lines(&problems),
        ["api_token.file: the file is too large; put the secret there, and nothing else (line 1)"]
    );
}

#[test]
fn a_short_secret_is_worth_a_second_look() {
    let config = with_token_file(b"fifteen-bytes-x", 0o600).unwrap();
    assert!(config.warnings.iter().any(|warning| warning.starts_with("api_token: the secret is shorter than 16")));
    assert_eq!(with_token_file(b"sixteen-bytes-xy", 0o600).unwrap().warnings.len(), 1);
}

#[test]
fn an_empty_variable_is_refused() {
    let text = least_with("#top", "api_token = { env = \"A_TOKEN\" }");
    let empty = |name: &str| Some(if name == "A_TOKEN" { "\n".to_owned() } else { SECRET.to_owned() });
    assert_eq!(
        lines(&config::read(&text, "t.toml", &empty).unwrap_err()),
        ["api_token: the environment variable A_TOKEN is empty; put the secret there, and nothing else (line 1)"]
    );
}

/// Everything that a person or a log could see of what came of reading.
fn all_that_shows(read: &Result<Config, Vec<Problem>>) -> String {
    let told = read.as_ref().map_or_else(|problems| lines(problems).join("\n"), |config| config.warnings.join("\n"));
    format!("{read:?}\n{read:#?}\n{told}\n{}", config::check(read, "t.toml"))
}

proptest! {
    #[test]
    fn a_secret_never_shows(secret in "[a-z]{3}[ -~é\n]{0,40}[a-z]{12}", place in 0..10_usize) {
        let quoted = serde_json::to_string(&secret).unwrap();
        let text = match place {
            // Where it belongs.
            0 => least_with("#top", "api_token = { env = \"A_TOKEN\" }\ngithub.token = { env = \"B_TOKEN\" }"),
            // In the open, where a place to find it is due.
            1 => least_with("#top", &format!("api_token = {quoted}")),
            2 => least_with("#top", &format!("github = {{ token = {quoted}, webhook_secret = [{quoted}] }}")),
            3 => least_with("#top", &format!("api_token = {{ env = {quoted} }}")),
            4 => least_with("#top", &format!("api_token = {{ file = {quoted} }}")),
            5 => least_with("#top", &format!("api_token = {{ value = {quoted} }}")),
            // Under a key that is none, or of the wrong kind.
            6 => least_with("#top", &format!("api_tokn = {quoted}")),
            7 => least_with("#top", &format!("github = {quoted}\nlog = [{quoted}]\nallow_public = {quoted}")),
            // In an address.
            8 => least_with("http://old:9100/metrics", &format!("http://user:{}@old/", quoted.trim_matches('"'))),
            // In a file that is no TOML.
            _ => least_with("#top", &format!("api_token = {quoted} {quoted}")),
        };
        let env = |_: &str| Some(secret.clone());
        let shown = all_that_shows(&config::read(&text, "t.toml", &env));
        prop_assert!(!shown.contains(&secret), "{shown}");
        // Nor its last part, as a message that is cut in front would show it.
        prop_assert!(!shown.contains(&secret[secret.len() - 12..]), "{shown}");
    }
}
