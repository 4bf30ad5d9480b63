//! `tollgate watch`: follows the live stream and prints what changed, a line each, until Ctrl-C or until the one rollout
//! it was asked for has ended. A lost connection is taken up again, and what happened in between is told then, for each
//! view is whole and is compared with the last one seen.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::Context;
use tokio::{signal, time};

use crate::{
    cli::{
        client::{Client, Connection, Error, say, shown, word},
        status::{share, state, upcoming},
    },
    domain::{Finding, Notice, Outcome, RolloutId, Severity, Timestamp},
    rollout::{FleetView, RolloutView},
    web::live::KEEP_ALIVE,
};

use super::client::ANSWER_BYTES_MAX;

/// Silence after which the connection counts as lost: the server sends a comment at least every [`KEEP_ALIVE`].
const SILENCE_MAX: Duration = KEEP_ALIVE.saturating_mul(3);
/// Time between attempts to connect again.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// What happens, as it happens.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Follow this one alone and end with it: exit code 0 if it was promoted, 1 otherwise.
    #[arg(long)]
    pub rollout: Option<RolloutId>,
    /// Where the tollgate is.
    #[command(flatten)]
    pub connection: Connection,
}

/// Prints what changes. Ends at Ctrl-C (code 0; 130 when a rollout was waited for) or with the rollout asked for. Fails
/// when nothing answers at the start, or the rollout is unknown.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connection)?;
    tokio::select! {
        ended = follow(&client, args.rollout) => ended.map(|outcome| match outcome {
            Outcome::Promoted => ExitCode::SUCCESS,
            Outcome::RolledBack | Outcome::HandedOver | Outcome::Superseded | Outcome::Cancelled => ExitCode::FAILURE,
        }),
        interrupted = signal::ctrl_c() => {
            interrupted.context("listen for Ctrl-C")?;
            Ok(if args.rollout.is_some() { ExitCode::from(130) } else { ExitCode::SUCCESS })
        }
    }
}

/// Follows until the rollout asked for has ended; for ever, when none was.
async fn follow(client: &Client, only: Option<RolloutId>) -> anyhow::Result<Outcome> {
    let mut told = Told { only, ..Told::default() };
    if let Some(id) = only {
        // It may have ended long ago, and an unknown one would be waited for without end.
        let rollout = client.rollout(id).await?.body;
        for line in told.rollout(&rollout) {
            say(line)?;
        }
        if let Some(outcome) = rollout.outcome {
            return Ok(outcome);
        }
    }
    let mut response = client.events().await?;
    loop {
        let lost = match read_stream(client, &mut told, response).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error.downcast::<Error>()?,
        };
        eprintln!("connection lost ({lost}); trying again");
        response = loop {
            time::sleep(RETRY_EVERY).await;
            match client.events().await {
                Ok(response) => break response,
                Err(Error::NoAnswer { .. } | Error::Lost { .. }) => {}
                // A server that starts or stops says so with 503; anything else will not mend itself.
                Err(Error::Refused { status, .. }) if status.is_server_error() => {}
                Err(error) => return Err(error.into()),
            }
        };
    }
}

/// Prints one stream's events until the rollout asked for ends. A broken or silent stream is an [`Error`].
async fn read_stream(client: &Client, told: &mut Told, mut response: reqwest::Response) -> anyhow::Result<Outcome> {
    let mut events = Events::default();
    loop {
        let chunk = match time::timeout(SILENCE_MAX, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Err(lost(client, "the stream ended").into()),
            Ok(Err(why)) => return Err(client.lost(&why).into()),
            Err(_) => return Err(lost(client, "it fell silent").into()),
        };
        events.take(&chunk).map_err(|why| client.malformed(why))?;
        while let Some((kind, data)) = events.next() {
            let lines = match kind.as_str() {
                "view" => {
                    let view: FleetView =
                        serde_json::from_str(&data).map_err(|why| client.malformed(why.to_string()))?;
                    let lines = told.fleet(&view);
                    if let Some(outcome) = told.outcome(client, &view).await? {
                        lines.iter().try_for_each(say)?;
                        return Ok(outcome);
                    }
                    lines
                }
                "notice" => {
                    let notice: Notice =
                        serde_json::from_str(&data).map_err(|why| client.malformed(why.to_string()))?;
                    told.notice(&notice)
                }
                "missed" => vec!["some notices were missed: this reader was too slow".to_owned()],
                // A newer server may say more than this client knows.
                _ => Vec::new(),
            };
            lines.iter().try_for_each(say)?;
        }
    }
}

fn lost(client: &Client, why: &str) -> Error {
    Error::Lost { url: client.url().into(), why: crate::domain::Text::new(why) }
}

/// Server-sent events out of bytes as they arrive.
#[derive(Debug, Default)]
struct Events {
    bytes: Vec<u8>,
    kind: String,
    data: String,
}

impl Events {
    /// Takes bytes in; refuses an event that grows too large.
    fn take(&mut self, chunk: &[u8]) -> Result<(), &'static str> {
        if self.bytes.len() + self.data.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("an event of its stream is too large");
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole event: its kind and its data. Comments and empty events are passed over.
    fn next(&mut self) -> Option<(String, String)> {
        let mut read = 0;
        let mut found = None;
        while let Some(length) = self.bytes[read..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.bytes[read..read + length]).into_owned();
            read += length + 1;
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                let event = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
                if !event.1.is_empty() {
                    found = Some(event);
                    break;
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.kind),
                "data" if self.data.is_empty() => value.clone_into(&mut self.data),
                "data" => self.data.extend(["\n", value]),
                _ => {}
            }
        }
        self.bytes.drain(..read);
        found
    }
}

/// What was told already.
#[derive(Debug, Default)]
struct Told {
    only: Option<RolloutId>,
    kill_switch: Option<bool>,
    rollouts: BTreeMap<RolloutId, Seen>,
}

/// What was told of one rollout.
#[derive(Debug, PartialEq)]
struct Seen {
    state: String,
    exposure: String,
    findings: BTreeMap<String, Finding>,
    /// The newest moment's time, and how many bore that time: several may.
    moments: (Timestamp, usize),
}

impl Told {
    fn concerns(&self, id: Option<RolloutId>) -> bool {
        self.only.is_none() || self.only == id
    }

    /// The lines that tell how `view` differs from what was told.
    fn fleet(&mut self, view: &FleetView) -> Vec<String> {
        let mut lines = Vec::new();
        if self.kill_switch.replace(view.kill_switch).unwrap_or(false) != view.kill_switch {
            let stands = if view.kill_switch { "ON: no rollout expands" } else { "off" };
            lines.push(format!("{}  kill switch {stands}", hour(view.at)));
        }
        let only = self.only;
        for rollout in view.rollouts.iter().rev().filter(|rollout| only.is_none_or(|only| only == rollout.id)) {
            lines.extend(self.rollout(rollout));
        }
        // What the fleet has forgotten need not be remembered here.
        let kept = |id: &RolloutId| self.only == Some(*id) || view.rollouts.iter().any(|rollout| rollout.id == *id);
        let forgotten: Vec<RolloutId> = self.rollouts.keys().filter(|id| !kept(id)).copied().collect();
        for id in forgotten {
            self.rollouts.remove(&id);
        }
        lines
    }

    /// The lines that tell how one rollout differs from what was told of it.
    fn rollout(&mut self, rollout: &RolloutView) -> Vec<String> {
        let newest = rollout.timeline.iter().map(|moment| moment.at).max().unwrap_or(Timestamp::EPOCH);
        let seen = Seen {
            state: state(rollout),
            exposure: shown(&rollout.exposure),
            findings: rollout.checks.iter().map(|check| (check.name.clone(), check.finding)).collect(),
            moments: (newest, rollout.timeline.iter().filter(|moment| moment.at == newest).count()),
        };
        let lines = match self.rollouts.get(&rollout.id) {
            Some(last) => changes(last, &seen, rollout),
            None => {
                let change = shown(format!("{}#{} {}", rollout.repository, rollout.pull_request, rollout.title));
                let at = hour(rollout.ended.unwrap_or(newest.max(rollout.opened)));
                vec![format!("{at}  {}: {}, {}: {change}", name(rollout), seen.state, share(rollout.share))]
            }
        };
        self.rollouts.insert(rollout.id, seen);
        lines
    }

    fn notice(&self, notice: &Notice) -> Vec<String> {
        if !self.concerns(notice.rollout) {
            return Vec::new();
        }
        let loudness = match notice.severity {
            Severity::Info => "note",
            Severity::Warning => "WARNING",
            Severity::Page => "PAGE",
        };
        let about = [notice.rollout.map(|id| id.to_string()), notice.service.as_ref().map(|s| shown(s.as_str()))];
        let about = about.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let colon = if about.is_empty() { "" } else { ": " };
        let next = notice.next.as_ref().map(|next| format!("; next: {}", upcoming(next, notice.at)));
        vec![format!("{}  {loudness}  {about}{colon}{}{}", hour(notice.at), notice.text, next.unwrap_or_default())]
    }

    /// How the rollout asked for ended, if it did.
    async fn outcome(&self, client: &Client, view: &FleetView) -> anyhow::Result<Option<Outcome>> {
        let Some(only) = self.only else {
            return Ok(None);
        };
        match view.rollouts.iter().find(|rollout| rollout.id == only) {
            Some(rollout) => Ok(rollout.outcome),
            // It ended and was forgotten between two views; the fleet may still know when asked by number.
            None => Ok(client.rollout(only).await?.body.outcome),
        }
    }
}

fn name(rollout: &RolloutView) -> String {
    format!("{} {}", rollout.id, shown(rollout.service.as_str()))
}

/// What happened between `last` and `now`, which is what `rollout` shows.
fn changes(last: &Seen, now: &Seen, rollout: &RolloutView) -> Vec<String> {
    let (name, at) = (name(rollout), hour(now.moments.0));
    let again = rollout.timeline.iter().filter(|moment| moment.at == last.moments.0).skip(last.moments.1);
    let later = rollout.timeline.iter().filter(|moment| moment.at > last.moments.0);
    let mut lines: Vec<String> =
        again.chain(later).map(|moment| format!("{}  {name}: {}", hour(moment.at), shown(&moment.text))).collect();
    for check in &rollout.checks {
        let before = last.findings.get(&check.name).copied().unwrap_or(Finding::NoData);
        if before != check.finding {
            let (was, is) = (word(&before), word(&check.finding));
            let evidence = format!("{:.1} of {:.1}", check.evidence.log_e_value, check.evidence.log_threshold);
            let check = shown(&check.name);
            lines.push(format!("{at}  {name}: {check} was {was}, is {is} (evidence {evidence})"));
        }
    }
    if (&last.state, &last.exposure) != (&now.state, &now.exposure) {
        let next = rollout.next.as_ref().map(|next| format!("; next: {}", upcoming(next, now.moments.0)));
        lines.push(format!("{at}  {name}: {} at {}{}", now.state, now.exposure, next.unwrap_or_default()));
    }
    lines
}

/// The time of day, UTC.
fn hour(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..19).map_or_else(|| text.clone(), |hour| format!("{hour}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::status::tests::{NOON, baking, fleet},
        domain::{Text, Upcoming},
        rollout::Moment,
    };

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let stream = b": hello\n\nretry: 2000\nevent: view\ndata: {\"a\":1}\n\nevent: notice\r\ndata: x\r\ndata: \xc3\xa9\r\n\r\n";
        let expected = vec![("view".to_owned(), "{\"a\":1}".to_owned()), ("notice".to_owned(), "x\né".to_owned())];
        for size in 1..=stream.len() {
            let (mut events, mut read) = (Events::default(), Vec::new());
            for chunk in stream.chunks(size) {
                events.take(chunk).unwrap();
                read.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(read, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        assert!(events.take(&vec![b'x'; ANSWER_BYTES_MAX]).is_ok());
        assert!(events.take(b"x").is_err());
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut told = Told::default();
        let mut view = fleet(vec![baking(17)]);
        assert_eq!(told.fleet(&view), ["12:00:00Z  r17 checkout: baking, 5%: acme/shop#412 Cache [2J prices"]);
        assert_eq!(told.fleet(&view), Vec::<String>::new());

        let rollout = &mut view.rollouts[0];
        rollout.timeline.push(Moment { at: NOON, text: "same instant".into() });
        rollout.timeline.push(Moment { at: NOON + Duration::from_secs(5), text: "five later".into() });
        rollout.checks[0].finding = Finding::Degraded;
        rollout.phase = "draining".into();
        rollout.next = None;
        view.kill_switch = true;
        assert_eq!(
            told.fleet(&view),
            [
                "12:00:00Z  kill switch ON: no rollout expands",
                "12:00:00Z  r17 checkout: same instant",
                "12:00:05Z  r17 checkout: five later",
                "12:00:05Z  r17 checkout: errors was inconclusive, is degraded (evidence 3.2 of 6.9)",
                "12:00:05Z  r17 checkout: draining at 5%",
            ]
        );
        assert_eq!(told.fleet(&view), Vec::<String>::new());
    }

    #[test]
    fn a_forgotten_rollout_takes_no_room() {
        let mut told = Told::default();
        told.fleet(&fleet(vec![baking(1), baking(2)]));
        told.fleet(&fleet(vec![baking(2)]));
        assert_eq!(told.rollouts.keys().copied().collect::<Vec<_>>(), [RolloutId(2)]);
    }

    #[test]
    fn notices_of_other_rollouts_are_passed_over_when_one_is_followed() {
        let notice = Notice {
            at: NOON,
            rollout: Some(RolloutId(17)),
            service: None,
            severity: Severity::Page,
            text: Text::new("look"),
            next: Some(Upcoming { what: Text::new("rollback"), at: NOON + Duration::from_secs(60) }),
        };
        assert_eq!(Told::default().notice(&notice), ["12:00:00Z  PAGE  r17: look; next: rollback, in 1m 0s"]);
        assert!(Told { only: Some(RolloutId(3)), ..Told::default() }.notice(&notice).is_empty());
    }
}
