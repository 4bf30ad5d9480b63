//! One arm of the shop as a server of its own: real requests, real counters, and real restarts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tollgate::{
    cli::demo::shop::{Behaviour, Shop},
    daemon::Clock,
};

use crate::house::free_address;

/// How long a restart may take on a busy machine.
const REBOUND_WITHIN: Duration = Duration::from_secs(30);

/// One version of the shop, listening at one address all along.
pub(crate) struct Arm {
    revision: &'static str,
    pub(crate) address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Arm {
    /// Starts a version that behaves like this.
    pub(crate) async fn start(revision: &'static str, behaviour: Behaviour) -> Self {
        let mut arm = Self { revision, address: free_address(), running: None };
        arm.run(behaviour).await;
        arm
    }

    /// Ends it as a deployment does, once what is under way was answered, and starts it again at the same address. All its
    /// counters begin at nothing.
    pub(crate) async fn restart(&mut self, behaviour: Behaviour) {
        let (stop, task) = self.running.take().unwrap();
        let _ = stop.send(());
        tokio::time::timeout(REBOUND_WITHIN, task).await.unwrap().unwrap();
        self.run(behaviour).await;
    }

    async fn run(&mut self, behaviour: Behaviour) {
        let clock = Clock::default();
        let shop = Shop::new(11, Arc::new(move || clock.now()));
        shop.deploy(&self.revision.parse().unwrap(), behaviour).unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(async move { shop.serve(listener, stopped).await.unwrap() });
        self.running = Some((stop, task));
    }
}
