//! The live stream, and how it and the server end.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tollgate::{rollout::FleetView, web};

use crate::{
    fleet::{NOON, fleet, notice},
    metrics::sample,
    site::{Setup, Site, refused, site},
};

/// Reads server-sent events with a few lines of its own, so that the client's reader is not its own judge.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(site: &Site) -> Self {
        let response = site.http.get(site.url("/v1/events")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event's name and data; `None` once the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let event = field("event: ").zip(field("data: "));
                self.text = rest.to_owned();
                if let Some((name, data)) = event {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
            } else {
                let chunk = timeout(Duration::from_secs(5), self.response.chunk()).await.expect("an event in time");
                self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_stream_begins_with_the_whole_view_and_goes_on_with_what_is_new() {
    let site = site(Setup::default()).await;
    let mut stream = Stream::open(&site).await;
    let whole = |view: &FleetView| Some(("view".to_owned(), serde_json::to_value(view).unwrap()));
    assert_eq!(stream.next().await, whole(&fleet(NOON)));
    site.notices.send(notice("look at r17")).unwrap();
    let told = serde_json::to_value(notice("look at r17")).unwrap();
    assert_eq!(stream.next().await, Some(("notice".to_owned(), told)));
    site.change(|view| view.kill_switch = true);
    let changed = FleetView { kill_switch: true, ..fleet(NOON) };
    assert_eq!(stream.next().await, whole(&changed));
    let mut second = Stream::open(&site).await;
    assert_eq!(second.next().await, whole(&changed), "a later reader begins with what is the case now");
}

#[tokio::test]
async fn a_slow_reader_skips_to_the_newest_view_and_learns_how_many_notices_it_missed() {
    let site = site(Setup::default()).await;
    let mut stream = Stream::open(&site).await;
    stream.next().await.unwrap();
    // One test thread: the server cannot write between these, so all of them meet a reader that is behind.
    for replies in 1..=100 {
        site.change(|view| view.stale_replies = replies);
    }
    for n in 0..10 {
        site.notices.send(notice(&n.to_string())).unwrap();
    }
    let mut seen: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for _ in 0..6 {
        let (name, data) = stream.next().await.unwrap();
        seen.entry(name).or_default().push(data);
    }
    assert_eq!(seen["missed"], [json!({"notices": 6})]);
    assert_eq!(seen["notice"].len(), 4);
    assert_eq!(seen["view"].iter().map(|view| &view["stale_replies"]).collect::<Vec<_>>(), [&json!(100)]);
}

#[tokio::test]
async fn streams_are_taken_up_to_the_limit_and_a_closed_one_makes_room() {
    let site = site(Setup::default()).await;
    let mut streams = Vec::new();
    for _ in 0..web::live::STREAMS_MAX {
        streams.push(Stream::open(&site).await);
    }
    let response = site.get("/v1/events").await;
    assert!(response.headers().contains_key("retry-after"));
    refused(response, StatusCode::SERVICE_UNAVAILABLE, "64").await;
    assert_eq!(sample(&site, "tollgate_event_streams").await, 64.0);
    streams.pop();
    let room = async {
        while site.get("/v1/events").await.status() != StatusCode::OK {
            // The server learns of the closed connection when it next writes.
            site.change(|view| view.stale_replies += 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), room).await.expect("room again");
}

#[tokio::test]
async fn shutdown_ends_streams_at_once() {
    let mut site = site(Setup::default()).await;
    let mut stream = Stream::open(&site).await;
    stream.next().await.unwrap();
    site.stop.take().unwrap().send(()).unwrap();
    assert_eq!(stream.next().await, None);
    timeout(Duration::from_secs(2), site.server).await.expect("well before the limit").unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_request_that_never_ends() {
    use tokio::io::AsyncWriteExt;
    let mut site = site(Setup::default()).await;
    let mut socket = tokio::net::TcpStream::connect(site.address).await.unwrap();
    socket.write_all(b"POST /v1/kill-switch HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    site.get("/healthz").await;
    site.stop.take().unwrap().send(()).unwrap();
    timeout(web::DRAIN_WITHIN + Duration::from_secs(3), site.server).await.expect("an end").unwrap().unwrap();
}
