//! relay in the process of a test.

use std::sync::{Arc, Mutex};

use motet::event::{AnyEvent, Pattern, Subscription};
use motet_relay::{Config, RunError};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::{Client, Home, eventually, within};

pub(crate) type Heard = Arc<Mutex<Vec<Arc<dyn AnyEvent>>>>;

/// relay in the process of the test, with a listener for all events.
pub(crate) struct Embedded {
    pub(crate) client: Client,
    pub(crate) heard: Heard,
    pub(crate) stop: Arc<Notify>,
    pub(crate) relay: JoinHandle<Result<(), RunError>>,
}

impl Embedded {
    /// The defaults, for receivers on loopback.
    pub(crate) fn config(home: &Home) -> Config {
        let mut config = Config::new(home.data(), "127.0.0.1:0".parse().unwrap());
        config.allow_net = vec!["127.0.0.0/8".parse().unwrap()];
        config
    }

    pub(crate) async fn start(setup: impl FnOnce(&mut Config)) -> Self {
        let home = Home::new();
        let mut config = Self::config(&home);
        setup(&mut config);
        let (heard, stop) = (Heard::default(), Arc::<Notify>::default());
        let (into, stopping) = (Arc::clone(&heard), Arc::clone(&stop));
        let (ready, up) = oneshot::channel();
        let relay = tokio::spawn(async move {
            let mut listening: Option<Subscription> = None;
            let ready = |relay: &motet_relay::Relay| {
                let listener =
                    relay.lifecycle().on_pattern_async("test", Pattern::parse(">").unwrap(), move |event| {
                        into.lock().unwrap().push(event);
                        async {}
                    });
                listening = listener.ok();
                ready.send((relay.address(), relay.new_api_key().unwrap().to_owned())).unwrap();
            };
            let ended = motet_relay::Relay::run(config, ready, stopping.notified()).await;
            drop(listening);
            ended
        });
        let (address, key) = within("relay to start", up).await.unwrap();
        Self { client: Client::new(address, key, home), heard, stop, relay }
    }

    /// Waits for the first event of its type that satisfies the predicate.
    pub(crate) async fn wait_for_event<E: Clone + 'static>(
        &self,
        what: &str,
        is_so: impl Fn(&E) -> bool,
    ) -> E {
        eventually(what, || async {
            let heard = self.heard.lock().unwrap();
            heard.iter().filter_map(|event| event.downcast_ref::<E>()).find(|event| is_so(event)).cloned()
        })
        .await
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|event| event.name() == name).count()
    }

    pub(crate) async fn stop(self) -> Heard {
        self.stop.notify_one();
        within("relay to end", self.relay).await.unwrap().unwrap();
        self.heard
    }
}
