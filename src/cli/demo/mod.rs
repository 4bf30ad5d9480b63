//! `demo`: the real daemon on its embedded defaults, a small real service and real requests, in one process on loopback.
//!
//! Two changes are merged: a good one, which ends with everyone, and one that breaks a single endpoint, which is rolled
//! back. What users saw is counted on the visitors' side, apart from everything the daemon measures.

mod changes;
mod screen;
pub mod shop;
mod stage;
pub mod visitors;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use changes::{BAD, GOOD, Story};
use screen::Screen;
use stage::Stage;

use crate::{
    cli::serve::stop_signal,
    domain::{Outcome, Timestamp},
    rollout::RolloutView,
};

/// The longest that one rollout of the demonstration may take.
const ROLLOUT_WITHIN: Duration = Duration::from_secs(80);
/// How long visitors use the old version alone before the first change.
const WARM_UP: Duration = Duration::from_secs(2);

/// Exit code of a run that was stopped before its end, as a shell gives it for Ctrl-C.
const STOPPED: u8 = 130;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of the page and of the daemon; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
    /// Stay up after the end, to look around on the page
    #[arg(long)]
    keep_running: bool,
}

/// One change and what came of it.
struct Told {
    story: &'static Story,
    view: RolloutView,
    /// The first bad response of the new version to a user.
    first_bad: Option<Timestamp>,
    /// The last request of a user that the new version answered.
    last: Option<Timestamp>,
    users: u64,
    bad: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.listen.ip().is_loopback(),
        "the demo shows itself on loopback only, and {} is not",
        args.listen
    );
    let screen = Screen::new();
    // Listened for before there is anything to be left behind: a stage that is half set is finished and then struck.
    let mut stopped = std::pin::pin!(stop_signal());
    let stage = Stage::set(args.listen, &screen).await?;
    screen.line(&format!("The page: {}", stage.page()));
    let told = tokio::select! {
        biased;
        () = &mut stopped => None,
        told = tell(&stage, &screen) => Some(told),
        () = stage.failed() => Some(Err(anyhow::anyhow!("the daemon ended by itself"))),
    };
    let code = match told {
        None => {
            screen.line("\nStopped before the end.");
            ExitCode::from(STOPPED)
        }
        Some(Ok(told)) => {
            screen.summary(&told);
            if args.keep_running {
                screen.line(&format!("Still up: {}  (Ctrl-C ends it)", stage.page()));
                stopped.await;
            }
            // A demonstration that showed something else than it promises has failed.
            let outcomes: Vec<Option<Outcome>> = told.iter().map(|told| told.view.outcome).collect();
            if outcomes == [Some(Outcome::Promoted), Some(Outcome::RolledBack)] {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Some(Err(error)) => {
            stage.strike().await?;
            return Err(error);
        }
    };
    stage.strike().await?;
    Ok(code)
}

/// The story: the old version alone, the good change, the bad change.
async fn tell(stage: &Stage, screen: &Screen) -> anyhow::Result<Vec<Told>> {
    screen.line("Visitors use the shop's old version: 400 requests a second, each user's version by the flag.");
    tokio::time::sleep(WARM_UP).await;
    let mut told = Vec::new();
    for story in [&GOOD, &BAD] {
        screen.chapter(story);
        let view = tokio::time::timeout(ROLLOUT_WITHIN, stage.roll_out(story, screen)).await;
        let view =
            view.map_err(|_| anyhow::anyhow!("the rollout of pull request {} took too long", story.pull_request))??;
        // Requests that were under way end.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let served = stage.served(story);
        told.push(Told {
            story,
            view,
            first_bad: served.first_bad,
            last: served.last,
            users: served.users,
            bad: served.bad,
        });
    }
    Ok(told)
}
