//! Reading one file of a repository: which paths are asked for, what is text, and where it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri, header},
};
use tokio::net::TcpListener;
use tollgate::{
    domain::Repository,
    forge::{
        Config, Error, GitHub,
        github::{FILE_BYTES_MAX, PATH_BYTES_MAX, RepositoryFile, is_plain_path},
    },
};

/// A forge that answers everything alike, and remembers what it was asked.
async fn answering(status: u16, kind: &'static str, body: Vec<u8>) -> (GitHub, Arc<Mutex<Vec<String>>>) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let answer = move |uri: Uri, headers: HeaderMap| async move {
        let accept = headers.get(header::ACCEPT).map(|accept| accept.to_str().unwrap().to_owned());
        heard.lock().unwrap().push(format!("{uri} {}", accept.unwrap_or_default()));
        (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], body)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let config = Config { api, token: None, timeout: Duration::from_secs(5), attempts_max: 1 };
    (GitHub::new(&config).unwrap(), asked)
}

const RAW: &str = "application/vnd.github.raw+json; charset=utf-8";

async fn read(github: &GitHub, path: &str) -> Result<RepositoryFile, Error> {
    let repository: Repository = "acme/shop".parse().unwrap();
    github.file(&repository, path, &"abcdef1234".parse().unwrap()).await
}

#[tokio::test]
async fn a_file_is_read_at_its_revision() {
    let (github, asked) = answering(200, RAW, b"fn main() {}\n".to_vec()).await;
    let file = read(&github, "src/a b#?%.rs").await.unwrap();
    assert_eq!(file, RepositoryFile { text: "fn main() {}\n".into(), cut: false });
    let address = "/repos/acme/shop/contents/src/a%20b%23%3F%25.rs?ref=abcdef1234";
    assert_eq!(*asked.lock().unwrap(), [format!("{address} application/vnd.github.raw+json")]);
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_is_not_asked_for() {
    let (github, asked) = answering(200, RAW, Vec::new()).await;
    let long = format!("a/{}", "x".repeat(PATH_BYTES_MAX));
    for path in
        ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a/", "http://h/x", "a\\b", "a\nb", "a\0b", &long]
    {
        assert!(!is_plain_path(path), "{path:?}");
        assert!(matches!(read(&github, path).await, Err(Error::Refused(_))), "{path:?}");
    }
    assert!(asked.lock().unwrap().is_empty());
    let longest = "x".repeat(PATH_BYTES_MAX);
    for path in ["a", ".env", "a/..b/c..", "é/ü.rs", &longest] {
        assert!(is_plain_path(path), "{path}");
    }
}

#[tokio::test]
async fn a_long_file_is_cut_between_characters() {
    // A character of two bytes stands across the limit.
    let (github, _) = answering(200, RAW, format!("x{}", "é".repeat(FILE_BYTES_MAX / 2)).into_bytes()).await;
    let file = read(&github, "a").await.unwrap();
    assert_eq!((file.text.len(), file.cut), (FILE_BYTES_MAX - 1, true));
    let (github, _) = answering(200, RAW, vec![b'x'; FILE_BYTES_MAX]).await;
    assert!(!read(&github, "a").await.unwrap().cut);
}

#[tokio::test]
async fn what_is_no_text_is_said_to_be_none() {
    for (kind, body) in
        [(RAW, b"\x7fELF\0".to_vec()), (RAW, vec![0xff, 0xfe]), ("application/json; charset=utf-8", b"[]".to_vec())]
    {
        let (github, _) = answering(200, kind, body).await;
        assert!(matches!(read(&github, "a").await, Err(Error::Malformed(_))));
    }
    let (github, _) = answering(404, "application/json", b"{\"message\":\"Not Found\"}".to_vec()).await;
    assert!(matches!(read(&github, "a").await, Err(Error::Refused(_))));
    let (github, _) = answering(422, "application/json", b"{}".to_vec()).await;
    assert!(matches!(read(&github, "a").await, Err(Error::Refused(_))));
}
