//! A scripted stand-in for a model's server: it says what a test wrote for it, in the order written, and keeps every
//! request as it came.
//!
//! It speaks HTTP/1.1 by hand, one request a connection, for a server library would not let a test break off an answer in
//! its middle, reset a connection or say nothing at all.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Most bytes of a request: more than any test sends.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Such as `POST /v1/chat/completions HTTP/1.1`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("requests are JSON")
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Whole,
    /// The connection is closed before the announced length has come.
    CutOff,
    /// So many bytes at a time, with a pause between.
    Drip(usize, Duration),
    /// Nothing is ever said.
    Hang,
    /// The connection is reset, and nothing was said.
    Reset,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    ending: Ending,
}

impl Script {
    /// An answer with this status and body.
    pub(crate) fn new(status: u16, body: impl ToString) -> Self {
        let body = body.to_string().into_bytes();
        Self { status, headers: Vec::new(), body, delay: Duration::ZERO, ending: Ending::Whole }
    }

    /// A chat completion with this message and reason to stop; it used 100 tokens in, 64 of them cached, and 20 out.
    pub(crate) fn message(message: Value, finish: &str) -> Self {
        Self::new(
            200,
            json!({
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "scripted-1",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {
                    "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
                    "prompt_tokens_details": {"cached_tokens": 64}
                }
            }),
        )
    }

    /// A chat completion of words.
    pub(crate) fn text(words: &str) -> Self {
        Self::message(json!({"role": "assistant", "content": words}), "stop")
    }

    /// A chat completion that calls tools, each given by id, name and arguments.
    pub(crate) fn calls(calls: &[(&str, &str, Value)]) -> Self {
        let call = |(id, name, arguments): &(&str, &str, Value)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}});
        let calls: Vec<Value> = calls.iter().map(call).collect();
        Self::message(json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
    }

    /// An error in OpenAI's shape.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, json!({"error": {"message": message, "type": code, "code": code, "param": null}}))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The answer begins after this time.
    pub(crate) fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub(crate) fn cut_off(self) -> Self {
        Self { ending: Ending::CutOff, ..self }
    }

    pub(crate) fn dripping(self, bytes: usize, pause: Duration) -> Self {
        Self { ending: Ending::Drip(bytes, pause), ..self }
    }

    pub(crate) fn hang() -> Self {
        Self { ending: Ending::Hang, ..Self::new(200, "") }
    }

    pub(crate) fn reset() -> Self {
        Self { ending: Ending::Reset, ..Self::new(200, "") }
    }
}

#[derive(Default)]
struct State {
    script: VecDeque<Script>,
    otherwise: Option<Script>,
    seen: Vec<Seen>,
}

/// The server. It ends when it is dropped.
pub(crate) struct ModelServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ModelServer {
    /// One that gives these answers in order, and complains when it is asked more often.
    pub(crate) async fn start(script: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port to spare");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State { script: script.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state, task }
    }

    /// Further answers, after those already written.
    pub(crate) fn then(&self, script: impl IntoIterator<Item = Script>) {
        self.state.lock().unwrap().script.extend(script);
    }

    /// The answer to all that is asked beyond the script.
    pub(crate) fn otherwise(&self, script: Script) {
        self.state.lock().unwrap().otherwise = Some(script);
    }

    /// `http://127.0.0.1:PORT/v1`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let Some(seen) = request(&mut stream).await else {
        return;
    };
    let script = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen);
        let next = state.script.pop_front().or_else(|| state.otherwise.clone());
        next.unwrap_or_else(|| Script::error(410, "script_ended", "the test wrote no further answer"))
    };
    tokio::time::sleep(script.delay).await;
    // A client that has gone away is no concern of the server's.
    let _ = answer(stream, &script).await;
}

async fn request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        read(stream, &mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = bytes.split_off(head_end + 4);
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    while body.len() < length {
        read(stream, &mut body).await?;
    }
    Some(Seen { line, headers, body })
}

async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(into).await.ok()?;
    (read > 0 && into.len() <= REQUEST_BYTES_MAX).then_some(())
}

async fn answer(mut stream: TcpStream, script: &Script) -> std::io::Result<()> {
    match script.ending {
        Ending::Hang => std::future::pending::<()>().await,
        Ending::Reset => return reset(&stream),
        Ending::Whole | Ending::CutOff | Ending::Drip(..) => {}
    }
    let length = script.body.len() + if matches!(script.ending, Ending::CutOff) { 1_000 } else { 0 };
    let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\ncontent-length: {length}\r\n", script.status);
    let given = |name: &str| script.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    if !given("content-type") {
        head += "content-type: application/json\r\n";
    }
    for (name, value) in &script.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await?;
    if let Ending::Drip(bytes, pause) = script.ending {
        for chunk in script.body.chunks(bytes) {
            stream.write_all(chunk).await?;
            tokio::time::sleep(pause).await;
        }
    } else {
        stream.write_all(&script.body).await?;
    }
    stream.shutdown().await
}

/// Closing it sends a reset from now on, rather than an end.
#[expect(deprecated, reason = "a linger blocks the thread, but not one of zero")]
fn reset(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_linger(Some(Duration::ZERO))
}

/// The server itself, asked plainly: it is no use to a test if it does not do what was written for it.
#[tokio::test]
async fn the_scripted_server_does_what_is_written_for_it() {
    let pause = Duration::from_millis(20);
    let server = ModelServer::start([
        Script::text("hi").header("x-mark", "1"),
        Script::calls(&[("a", "look", json!({"x": 1}))]).delayed(pause),
        Script::error(429, "requests", "slow down"),
    ])
    .await;
    server.then([Script::new(200, "abcdef").dripping(2, pause), Script::text("x").cut_off(), Script::reset()]);
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let ask = || http.post(server.base_url()).header("x-n", "7").body("{\"a\":1}").send();
    let first = ask().await.unwrap();
    assert_eq!(first.headers()["x-mark"], "1");
    let words: Value = first.json().await.unwrap();
    assert_eq!(
        (&words["choices"][0]["message"]["content"], &words["usage"]["prompt_tokens"]),
        (&json!("hi"), &json!(100))
    );
    let called: Value = ask().await.unwrap().json().await.unwrap();
    assert_eq!(called["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
    assert_eq!(ask().await.unwrap().status(), 429);
    assert_eq!(ask().await.unwrap().text().await.unwrap(), "abcdef");
    assert!(ask().await.unwrap().text().await.is_err(), "cut off");
    assert!(ask().await.is_err(), "reset");
    assert_eq!(ask().await.unwrap().status(), 410, "the script has ended");
    server.otherwise(Script::hang());
    let hanging = tokio::time::timeout(Duration::from_millis(200), ask()).await;
    assert!(hanging.is_err());
    let seen = server.seen();
    assert_eq!((seen.len(), seen[0].line.as_str()), (8, "POST /v1 HTTP/1.1"));
    assert_eq!((seen[0].header("x-n"), seen[0].header("x-m"), seen[0].json()), (Some("7"), None, json!({"a": 1})));
}
