//! The client against litellm's proxy, which is not ours: it judges our requests, sends them on to the scripted server in
//! its own words, and answers in the forms it has for many providers.
//!
//! `tests/model_gateway/install` installs it. Where it is missing the test says so and passes, unless
//! `TOLLGATE_REQUIRE_REAL=1`.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::*;

/// How long the proxy may take to start on a busy machine; on an idle one it is some 15 seconds.
const READY_WITHIN: Duration = Duration::from_secs(240);
/// What the proxy is shown by us, and what it shows to the server behind it.
const OUTER: &str = "sk-outer-1f0a7be2d94c60";
const INNER: &str = "sk-inner-0b6e3d7a18f54f";

/// The proxy, as it ships. It ends with the test.
struct Proxy {
    child: Child,
    base_url: String,
    folder: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn installed() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model_gateway/.venv");
    if folder.join(".pins").exists() {
        return Some(folder.join("bin/litellm"));
    }
    let required = env::var("TOLLGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
    assert!(!required, "litellm is not installed: run tests/model_gateway/install");
    println!("SKIPPED: litellm is not installed: run tests/model_gateway/install");
    None
}

/// Models by name: three that the proxy answers itself, and one that it asks the server at `behind` for.
fn configuration(behind: &str) -> Value {
    let mocked = |name: &str, key: &str, answer: Value| {
        let mut parameters = json!({"model": format!("openai/{name}"), "api_key": INNER});
        parameters[key] = answer;
        json!({"model_name": name, "litellm_params": parameters})
    };
    let call =
        json!({"id": "call_7", "type": "function", "function": {"name": "look", "arguments": "{\"at\": \"a.rs\"}"}});
    json!({
        "model_list": [
            mocked("plain", "mock_response", json!("All is well.")),
            mocked("limited", "mock_response", json!("litellm.RateLimitError")),
            mocked("caller", "mock_tool_calls", json!([call])),
            {"model_name": "passed", "litellm_params": {"model": "openai/inner", "api_key": INNER, "api_base": behind}}
        ],
        "litellm_settings": {"num_retries": 0},
        "router_settings": {"num_retries": 0, "disable_cooldowns": true},
        "general_settings": {"master_key": OUTER}
    })
}

async fn proxy(program: &Path, behind: &str) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    // JSON is YAML.
    fs::write(&file, configuration(behind).to_string()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let child = Command::new(program)
        .arg("--config")
        .arg(&file)
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--telemetry", "False"])
        .current_dir(folder.path())
        // Without these it would fetch a list of prices, and ask who uses it.
        .envs([("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_MODE", "PRODUCTION"), ("PYTHONUNBUFFERED", "1")])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("litellm starts");
    let mut proxy = Proxy { child, base_url: format!("http://127.0.0.1:{port}/v1"), folder };
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let began = Instant::now();
    loop {
        let ready = http.get(format!("http://127.0.0.1:{port}/health/liveliness")).send().await;
        if ready.is_ok_and(|answer| answer.status().is_success()) {
            return proxy;
        }
        let ended = proxy.child.try_wait().unwrap();
        assert!(ended.is_none() && began.elapsed() < READY_WITHIN, "litellm did not start: {}", proxy.log());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

impl Proxy {
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn client(&self, model: &str, key: &str) -> Client {
        let config = Config {
            model: model.into(),
            key: Some(key.into()),
            timeout: Duration::from_secs(60),
            attempts_max: 2,
            ..config(self.base_url.clone())
        };
        Client::new(config).unwrap()
    }

    async fn ask(&self, model: &str) -> Asked {
        ask(&self.client(model, OUTER)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litellms_proxy_takes_our_requests_and_is_understood() {
    let Some(program) = installed() else { return };
    let server = ModelServer::start([]).await;
    let proxy = proxy(&program, &server.base_url()).await;

    let plain = proxy.ask("plain").await.reply.unwrap_or_else(|error| panic!("{error}: {}", proxy.log()));
    assert_eq!((words(&plain), &plain.finish), (Some("All is well."), &Finish::Stop));
    assert!(plain.usage.input_tokens > 0 && plain.usage.output_tokens > 0, "{:?}", plain.usage);

    let called = proxy.ask("caller").await.reply.unwrap();
    let Message::Assistant { calls, .. } = &called.message else { panic!("{called:?}") };
    let call = ToolCall { id: "call_7".into(), name: "look".into(), arguments: "{\"at\": \"a.rs\"}".into() };
    assert_eq!(calls, &[call]);

    let limited = proxy.ask("limited").await;
    assert_eq!((failure(&limited).0, limited.attempts), ("unavailable", 2), "{limited:?}");
    assert!(failure(&limited).1.contains("429"), "{limited:?}");

    let stranger = ask(&proxy.client("plain", "sk-of-someone-else")).await;
    assert_eq!((failure(&stranger).0, stranger.attempts), ("rejected", 1), "{stranger:?}");
    let unknown = proxy.ask("no-such-model").await;
    assert_eq!((failure(&unknown).0, unknown.attempts), ("rejected", 1), "{unknown:?}");

    passed_on(&proxy, &server).await;
}

/// What arrives behind the proxy is what we asked, and what comes back through it is what was answered there.
async fn passed_on(proxy: &Proxy, server: &ModelServer) {
    server.then([Script::calls(&[("a", "look", json!({"at": "x.rs"}))])]);
    let asked = proxy.ask("passed").await;
    let reply = asked.reply.unwrap_or_else(|error| panic!("{error}: {}", proxy.log()));
    let Message::Assistant { calls, .. } = &reply.message else { panic!("{reply:?}") };
    assert_eq!((calls[0].name.as_str(), calls[0].arguments.as_str()), ("look", "{\"at\":\"x.rs\"}"));
    assert_eq!((reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens), (100, 64, 20));

    let all = server.seen();
    // At its start the proxy asks besides which models there are.
    let seen = all.iter().find(|seen| seen.line.starts_with("POST")).unwrap();
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {INNER}").as_str()));
    let (sent, direct) = (seen.json(), direct().await);
    assert_eq!(sent["model"], "inner");
    for field in ["messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "prompt_cache_key"] {
        assert_eq!(sent[field], direct[field], "{field}: {sent}");
    }

    server.then([Script::error(400, "context_length_exceeded", "too long")]);
    let long = proxy.ask("passed").await;
    assert_eq!((failure(&long).0, long.attempts), ("rejected", 1), "{long:?}");
    server.then([Script::error(429, "insufficient_quota", "You exceeded your current quota"), Script::text("x")]);
    let asked = proxy.ask("passed").await;
    // The proxy turns the code of an empty account into that of a rate limit, so it is tried again, as often as allowed.
    assert_eq!((words(asked.reply.as_ref().unwrap()), asked.attempts), (Some("x"), 2));
}

/// The request that the same question makes without a proxy between.
async fn direct() -> Value {
    let server = ModelServer::start([Script::text("x")]).await;
    ask(&Client::new(config(server.base_url())).unwrap()).await;
    server.seen()[0].json()
}
