//! Clients against a running server: OpenFeature's own JavaScript and Python providers, and in [`plain`] a bare HTTP one.
//!
//! `install`, beside this file, installs the two. Where they are missing their tests say so and pass, unless
//! `TOLLGATE_REQUIRE_REAL=1`.

mod plain;

use std::{
    collections::BTreeMap,
    env,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tollgate::{
    domain::{Exposure, ServiceName, Shift},
    traffic::{Context, FlagValue, Flags, evaluate},
};

use crate::{NEW, OLD, at, configured, send, serve, shift, with_tier};

/// What a client was told, as `client.mjs` and `client.py` write it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Told {
    value: Value,
    variant: Option<String>,
    reason: Option<String>,
    error_code: Option<String>,
    metadata: BTreeMap<String, Value>,
}

struct Question {
    flag: &'static str,
    default: Value,
    context: Context,
    wire: Value,
}

fn question(flag: &'static str, default: impl Into<Value>, attributes: Value) -> Question {
    Question {
        flag,
        default: default.into(),
        context: Context::from_json(attributes.clone()).unwrap(),
        wire: attributes,
    }
}

/// Users by name, users of the cohort, users of another tier, and users of none: the flags in boolean, variant and
/// revision form. A flag there is not, and a user without a name.
fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for n in 0..300 {
        let name = format!("user-{n}");
        questions.push(question("new-shop", true, json!({"targetingKey": name})));
        questions.push(question("pay", "default", json!({"targetingKey": name, "plan": "free"})));
        if n < 40 {
            let tier = if n % 2 == 0 { "internal" } else { "public" };
            questions.push(question("new-shop", false, json!({"targetingKey": name, "tier": tier})));
            questions.push(question("cart-side", "default", json!({"targetingKey": name, "tier": tier, "n": n})));
        }
    }
    questions.push(question("nowhere", true, json!({"targetingKey": "alice"})));
    questions.push(question("nowhere", false, json!({"targetingKey": "alice"})));
    questions.push(question("nowhere", "mine", json!({"targetingKey": "alice"})));
    questions.push(question("new-shop", true, json!({"plan": "free"})));
    questions.push(question("cart-side", "mine", json!({"tier": "internal"})));
    questions
}

async fn three_services() -> Flags {
    let flags = configured(&[
        ("shop", "new-shop", FlagValue::Boolean),
        ("cart", "cart-side", FlagValue::Variant),
        ("pay", "pay", FlagValue::Revision),
    ])
    .unwrap();
    let of = |service: &str, to| Shift { service: ServiceName::new(service), ..shift(7, Exposure::none(), to) };
    send(&flags, 1, of("shop", with_tier(3_741, "internal"))).await.unwrap();
    send(&flags, 2, of("cart", with_tier(0, "internal"))).await.unwrap();
    send(&flags, 3, of("pay", at(5_000))).await.unwrap();
    flags
}

/// What a client should be told: the flag's own evaluation, or the caller's default with an error code.
fn expected(flags: &Flags, question: &Question) -> Told {
    let failed = |code: &str| Told {
        value: question.default.clone(),
        variant: None,
        reason: Some("ERROR".into()),
        error_code: Some(code.into()),
        metadata: BTreeMap::new(),
    };
    let Some(state) = flags.state(question.flag) else {
        return failed("FLAG_NOT_FOUND");
    };
    let Ok(evaluation) = evaluate(&state, &question.context) else {
        return failed("TARGETING_KEY_MISSING");
    };
    let standing = state.standing.as_ref().unwrap();
    Told {
        value: evaluation.value,
        variant: Some(evaluation.arm.to_string()),
        reason: Some(evaluation.reason.as_str().into()),
        error_code: None,
        metadata: BTreeMap::from([
            ("version".into(), json!(1)),
            ("revision".into(), json!(evaluation.revision.unwrap())),
            ("rollout".into(), json!("r7")),
            ("share".into(), json!(standing.exposure.share)),
        ]),
    }
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ofrep_clients")
}

/// Runs one of the clients against the server; it ends by itself when the server does not answer.
async fn told(command: Command, address: SocketAddr, questions: &[Question]) -> Vec<Told> {
    let ask = |question: &Question| {
        let kind = if question.default.is_boolean() { "boolean" } else { "string" };
        json!({"flag": question.flag, "type": kind, "default": question.default, "context": question.wire})
    };
    let asked = Value::Array(questions.iter().map(ask).collect()).to_string();
    let mut command = command;
    command.arg(format!("http://{address}")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let run = move || {
        let mut child = command.spawn().expect("the client starts");
        // A client that breaks before it has read everything is told of by its status.
        child.stdin.take().unwrap().write_all(asked.as_bytes()).ok();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "the client failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the client writes its answers as JSON")
}

/// Compares what a client is told with what the flags say, or says that it is skipped where the client is not installed.
async fn a_client_agrees(name: &str, installed: PathBuf, command: Command) {
    if !installed.exists() {
        let required = env::var("TOLLGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!required, "the {name} client is not installed: run tests/ofrep_clients/install");
        println!("SKIPPED: the {name} client is not installed: run tests/ofrep_clients/install");
        return;
    }
    let flags = three_services().await;
    let address = serve(&flags).await;
    let questions = questions();
    let told = told(command, address, &questions).await;
    assert_eq!(told.len(), questions.len());
    for (question, told) in questions.iter().zip(&told) {
        assert_eq!(*told, expected(&flags, question), "{} for {}", question.flag, question.wire);
    }
    let heard = |reason: &str, value: Value| {
        told.iter().filter(|told| told.reason.as_deref() == Some(reason) && told.value == value).count()
    };
    // That the two agree says little if all answers are alike: every kind of answer must have been heard.
    for (reason, value, least) in [
        ("SPLIT", json!(true), 80),
        ("SPLIT", json!(false), 150),
        ("SPLIT", json!(OLD), 100),
        ("SPLIT", json!(NEW), 100),
        ("SPLIT", json!("control"), 20),
        ("TARGETING_MATCH", json!("canary"), 21),
        ("TARGETING_MATCH", json!(true), 20),
        ("ERROR", json!("mine"), 1),
        ("ERROR", json!(true), 2),
        ("ERROR", json!(false), 1),
    ] {
        assert!(heard(reason, value.clone()) >= least, "{reason} {value}: {}", heard(reason, value.clone()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_javascript_client_is_told_what_the_flags_say() {
    let mut command = Command::new("node");
    command.arg(clients().join("client.mjs"));
    a_client_agrees("JavaScript", clients().join("node_modules/.pins"), command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_is_told_what_the_flags_say() {
    let mut command = Command::new(clients().join(".venv/bin/python"));
    command.arg(clients().join("client.py"));
    a_client_agrees("Python", clients().join(".venv/.pins"), command).await;
}
