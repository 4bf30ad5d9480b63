//! The real binary is killed with SIGKILL at random moments of one rollout, over and over, and finishes it right.
//!
//! The daemon under test is `tollgate serve` with its own journal, flags and scraper. Around it, in this process, stand
//! the service it scrapes and the forge it asks: they live on while the daemon dies. What is checked: an acknowledged
//! event is there after the next start; the exposure that users see is never above what the journal says was cleared;
//! and the rollout ends promoted, with everyone on the new version.

mod house;

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use house::{Daemon, House};

/// Times the daemon is killed.
const KILLS: u32 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_survives_thirty_kills() {
    let seed = std::env::var("TOLLGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("TOLLGATE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let house = House::build().await;
    let mut daemon = Daemon::start(&house).await;
    house.merge(&daemon, 7).await;
    house.tell_deployed(&daemon).await;

    let mut kills = 0;
    let mut promoted = false;
    // Every third life is long enough for a stage to go by; the others end at any moment, some before the first event.
    while kills < KILLS || !promoted {
        assert!(kills < 120, "no end after {kills} kills");
        let life = if kills % 3 == 2 { rng.random_range(1_500..3_000) } else { rng.random_range(0..600) };
        let until = tokio::time::Instant::now() + Duration::from_millis(life);
        while tokio::time::Instant::now() < until {
            if let Some(seen) = house.look(&daemon).await {
                let cleared = seen.cleared_basis_points();
                let share = house.share_that_users_see(&daemon).await;
                assert!(share <= cleared + 60, "users see {share} basis points, the journal cleared {cleared}");
                promoted = seen.outcome.as_deref() == Some("promoted");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        daemon.kill();
        kills += 1;
        daemon = Daemon::start(&house).await;
        let seen = house.look(&daemon).await.expect("the acknowledged merge is in the journal");
        assert_eq!(seen.pull_request, 7);
    }
    println!("killed {kills} times");
    let seen = house.look(&daemon).await.unwrap();
    assert_eq!(seen.outcome.as_deref(), Some("promoted"), "{seen:#?}");
    assert_eq!(house.share_that_users_see(&daemon).await, 10_000);
}
