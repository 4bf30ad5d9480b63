//! Orders to a running tollgate: pause, resume, promote, rollback, the kill switch, and word of a deployment. Each
//! returns once the order is durable there; what comes of it is for `status` and `watch` to tell.

use std::process::ExitCode;

use crate::{
    cli::client::{Client, Connection},
    domain::{Revision, RolloutId},
    web::api::{Asking, Deployed, KillSwitch},
};

/// One order.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which.
    #[command(subcommand)]
    pub order: Order,
}

/// What can be ordered; the composition root may flatten these into its own subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Order {
    /// Keep a rollout at its stage; it still rolls back by itself.
    Pause(OfRollout),
    /// Let a paused rollout go on.
    Resume(OfRollout),
    /// Take a rollout to its next stage now, as far as the rails let it.
    Promote(OfRollout),
    /// Take a rollout's traffic back now.
    Rollback(OfRollout),
    /// Stop all expansion, or allow it again.
    KillSwitch(OfFleet),
    /// Say that a revision of a service runs and can take traffic.
    Deployed(OfService),
}

/// An order to one rollout.
#[derive(Clone, Debug, clap::Args)]
pub struct OfRollout {
    /// Its number, as in r17.
    pub rollout: RolloutId,
    /// Who asks.
    #[command(flatten)]
    pub asker: Asker,
}

/// The kill switch.
#[derive(Clone, Debug, clap::Args)]
pub struct OfFleet {
    /// on stops all expansion; off allows it again.
    #[arg(value_enum)]
    pub state: Switch,
    /// Who asks.
    #[command(flatten)]
    pub asker: Asker,
}

/// Where the kill switch shall stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// No rollout expands.
    On,
    /// Rollouts expand as their evidence allows.
    Off,
}

/// Word of a deployment.
#[derive(Clone, Debug, clap::Args)]
pub struct OfService {
    /// The service's name in the configuration.
    pub service: String,
    /// The commit that runs now.
    #[arg(value_parser = revision)]
    pub revision: Revision,
    /// Who asks.
    #[command(flatten)]
    pub asker: Asker,
}

/// Who asks, and whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Asker {
    /// Your name, for the record.
    #[arg(long, env = "USER", value_name = "NAME")]
    pub by: Option<String>,
    /// Where the tollgate is.
    #[command(flatten)]
    pub connection: Connection,
}

fn revision(text: &str) -> Result<Revision, String> {
    text.parse()
}

/// Sends the order and says that it was taken. Fails when nothing answers or the order is refused.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let taken = match args.order {
        Order::Pause(of) => command("pause", of).await?,
        Order::Resume(of) => command("resume", of).await?,
        Order::Promote(of) => command("promote", of).await?,
        Order::Rollback(of) => command("rollback", of).await?,
        Order::KillSwitch(OfFleet { state, asker }) => {
            let on = state == Switch::On;
            let body = KillSwitch { on, by: asker.by };
            Client::new(&asker.connection)?.act(&["v1", "kill-switch"], &body).await?;
            let effect = if on { "no rollout expands until it is off" } else { "rollouts expand again" };
            format!("kill switch {}: accepted; {effect}", if on { "on" } else { "off" })
        }
        Order::Deployed(OfService { service, revision, asker }) => {
            let body = Deployed { revision: revision.to_string(), by: asker.by };
            Client::new(&asker.connection)?.act(&["v1", "services", &service, "deployed"], &body).await?;
            format!("{} deployed to {service}: accepted", revision.short())
        }
    };
    super::client::say(&taken)?;
    Ok(ExitCode::SUCCESS)
}

async fn command(word: &str, of: OfRollout) -> anyhow::Result<String> {
    let id = of.rollout.to_string();
    Client::new(&of.asker.connection)?.act(&["v1", "rollouts", &id, word], &Asking { by: of.asker.by }).await?;
    Ok(format!("{word} {id}: accepted; follow it with `tollgate watch --rollout {id}`"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_arguments_are_sound_and_read_as_people_write_them() {
        Line::command().debug_assert();
        let order = |words: &[&str]| Line::try_parse_from([&["tollgate"], words].concat()).map(|line| line.args.order);
        assert!(matches!(order(&["pause", "r17"]), Ok(Order::Pause(of)) if of.rollout == RolloutId(17)));
        assert!(matches!(order(&["kill-switch", "on"]), Ok(Order::KillSwitch(of)) if of.state == Switch::On));
        assert!(matches!(
            order(&["deployed", "shop", "ABCDEF0", "--by", "ci"]),
            Ok(Order::Deployed(of)) if of.revision.as_str() == "abcdef0" && of.asker.by.as_deref() == Some("ci")
        ));
        for wrong in [&["pause", "seventeen"][..], &["kill-switch", "maybe"], &["deployed", "shop", "main"], &[]] {
            assert!(order(wrong).is_err(), "{wrong:?}");
        }
    }
}
