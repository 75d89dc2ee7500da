//! The open connections, and the choice of the one to close at the limit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::phase::{ConnectionState, Phase};
use motet::task::Reason;
use tokio::sync::watch;

/// The limits of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) in_all: usize,
    /// The limit per address.
    pub(super) per_peer: usize,
    /// Further connections, for requests that must always be answered.
    pub(super) reserved: usize,
}

/// The open connections of a running server.
#[derive(Debug)]
pub(super) struct Registry {
    limits: Limits,
    state: Mutex<RegistryState>,
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct RegistryState {
    next: u64,
    connections: HashMap<u64, Member>,
    per_peer: HashMap<IpAddr, usize>,
    /// The number of connections that are not reserved.
    ordinary: usize,
}

#[derive(Debug)]
struct Member {
    peer: Option<IpAddr>,
    is_reserved: bool,
    connection: Arc<ConnectionState>,
}

/// The decision about a new connection.
#[derive(Debug)]
pub(super) enum Admission {
    Admitted(Place),
    /// The address is at its limit, and all of its connections are busy.
    TooManyOfPeer,
    /// All connections are busy: try again when one ends.
    Full,
}

/// The slot of a connection, released when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
    pub(super) is_reserved: bool,
}

impl Registry {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default(), open: watch::Sender::new(0) })
    }

    /// The number of connections that can be open at once.
    pub(super) fn most_open(&self) -> usize {
        self.limits.in_all.saturating_add(self.limits.reserved)
    }

    fn state(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assigns a slot to a new connection: a free one, the slot of the connection that has been idle longest, or a
    /// reserved one.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        connection: &Arc<ConnectionState>,
    ) -> Admission {
        let peer = peer.map(network);
        let mut state = self.state();
        let of_peer = peer.and_then(|peer| state.per_peer.get(&peer)).copied().unwrap_or(0);
        let mut evicted = None;
        let mut is_reserved = false;
        if peer.is_some() && of_peer >= self.limits.per_peer {
            evicted = state.evict(|member| member.peer == peer);
            if evicted.is_none() {
                return Admission::TooManyOfPeer;
            }
        } else if state.ordinary >= self.limits.in_all {
            evicted = state.evict(|member| !member.is_reserved);
            if evicted.is_none() {
                let reserved = state.connections.len() - state.ordinary;
                if reserved >= self.limits.reserved {
                    evicted = state.evict(|member| member.is_reserved);
                    if evicted.is_none() {
                        return Admission::Full;
                    }
                }
                is_reserved = true;
            }
        }
        let number = state.next;
        state.next += 1;
        state.connections.insert(number, Member { peer, is_reserved, connection: Arc::clone(connection) });
        if let Some(peer) = peer {
            *state.per_peer.entry(peer).or_default() += 1;
        }
        state.ordinary += usize::from(!is_reserved);
        drop(state);
        self.open.send_modify(|open| *open += 1);
        if let Some(evicted) = evicted {
            evicted.evicted.cancel(Reason::requested("replaced by another connection"));
        }
        Admission::Admitted(Place { registry: Arc::clone(self), number, is_reserved })
    }

    /// Waits until fewer than `number` connections are open.
    pub(super) async fn fewer_than(&self, number: usize) {
        let mut open = self.open.subscribe();
        // The sender lives as long as `self`.
        let _open = open.wait_for(|open| *open < number).await;
    }

    /// Waits until no connection is open.
    pub(super) async fn all_end(&self) {
        let mut open = self.open.subscribe();
        let _open = open.wait_for(|open| *open == 0).await;
    }

    pub(super) fn open(&self) -> usize {
        *self.open.borrow()
    }
}

impl RegistryState {
    /// Removes the connection that has been idle longest, of those that `may_go`. The caller cancels it outside of the
    /// lock; it then ends within moments.
    fn evict(&mut self, may_go: impl Fn(&Member) -> bool) -> Option<Arc<ConnectionState>> {
        let idle = |(number, member): (&u64, &Member)| {
            let (phase, since) = member.connection.phase();
            (phase != Phase::Busy && may_go(member)).then_some((since, *number))
        };
        let (_, number) = self.connections.iter().filter_map(idle).min()?;
        self.remove(number).map(|member| member.connection)
    }

    fn remove(&mut self, number: u64) -> Option<Member> {
        let member = self.connections.remove(&number)?;
        self.ordinary -= usize::from(!member.is_reserved);
        if let Some(peer) = member.peer
            && let Some(count) = self.per_peer.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&peer);
            }
        }
        Some(member)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // An evicted connection has been removed before.
        let member = self.registry.state().remove(self.number);
        drop(member);
        self.registry.open.send_modify(|open| *open -= 1);
    }
}

/// The key of a peer: an address, or for IPv6 its /64, the smallest network that a provider assigns to a
/// customer.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::*;

    fn registry(in_all: usize, per_peer: usize, reserved: usize) -> Arc<Registry> {
        Registry::new(Limits { in_all, per_peer, reserved })
    }

    fn peer(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    async fn connection(phase: Phase) -> Arc<ConnectionState> {
        let connection = Arc::new(ConnectionState::new(Instant::now()));
        connection.enter(phase);
        // Two connections must not become idle at the same time.
        advance(Duration::from_millis(1)).await;
        connection
    }

    fn place(admission: Admission) -> Place {
        match admission {
            Admission::Admitted(place) => place,
            refused => panic!("{refused:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn longest_idle_connection_is_evicted_unless_all_are_busy() {
        let registry = registry(3, 3, 0);
        let all = [
            connection(Phase::Busy).await,
            connection(Phase::Idle).await,
            connection(Phase::Head).await,
            connection(Phase::Busy).await,
        ];
        let mut places: Vec<_> =
            (1..).zip(&all[..3]).map(|(n, c)| place(registry.admit(peer(n), c))).collect();
        places.push(place(registry.admit(peer(4), &all[3])));
        assert_eq!(all.each_ref().map(|c| c.evicted.is_cancelled()), [false, true, false, false]);
        all[2].enter(Phase::Busy);
        let last = connection(Phase::Head).await;
        assert!(matches!(registry.admit(peer(5), &last), Admission::Full), "all are busy");
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_connection_frees_its_slot_and_leaves_no_entry() {
        let registry = registry(1, 3, 0);
        let connections = [connection(Phase::Busy).await, connection(Phase::Busy).await];
        let first = place(registry.admit(peer(1), &connections[0]));
        assert!(matches!(registry.admit(peer(2), &connections[1]), Admission::Full));
        drop(first);
        drop(place(registry.admit(peer(2), &connections[1])));
        assert_eq!((registry.open(), registry.state().connections.len()), (0, 0));
        assert!(registry.state().per_peer.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn peer_at_its_limit_loses_its_idle_connection_or_is_refused() {
        let registry = registry(10, 2, 0);
        let (other, first, second) =
            (connection(Phase::Idle).await, connection(Phase::Idle).await, connection(Phase::Busy).await);
        let _others = place(registry.admit(peer(1), &other));
        let _first = place(registry.admit(peer(2), &first));
        let _second = place(registry.admit(peer(2), &second));
        let third = connection(Phase::Busy).await;
        let _third = place(registry.admit(peer(2), &third));
        assert!(first.evicted.is_cancelled() && !other.evicted.is_cancelled());
        assert!(matches!(registry.admit(peer(2), &third), Admission::TooManyOfPeer));
        let _other = place(registry.admit(peer(3), &connection(Phase::Head).await));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_without_an_address_have_no_limit_of_their_own() {
        let registry = registry(3, 1, 0);
        let busy = connection(Phase::Busy).await;
        let places = [(); 3].map(|()| place(registry.admit(None, &busy)));
        assert!(matches!(registry.admit(None, &busy), Admission::Full));
        drop(places);
        assert_eq!((registry.open(), registry.state().connections.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn reserved_slots_are_used_when_all_connections_are_busy() {
        let registry = registry(1, 9, 1);
        let busy = connection(Phase::Busy).await;
        let _ordinary = place(registry.admit(peer(1), &busy));
        let reserved = connection(Phase::Head).await;
        let first = place(registry.admit(peer(2), &reserved));
        assert!(first.is_reserved);
        let second = place(registry.admit(peer(3), &connection(Phase::Busy).await));
        assert!(second.is_reserved && reserved.evicted.is_cancelled());
        assert!(matches!(registry.admit(peer(4), &busy), Admission::Full));
    }

    #[test]
    fn peer_is_an_ipv4_address_or_a_64_bit_ipv6_network() {
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| network(text.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(Some(network("::ffff:10.0.0.1".parse().unwrap())), peer(1));
    }
}
