//! Public identifiers: `evt_`, `dlv_`, `ep_`, `atmpt_`, `rpl_` and `ers_`, made from the store's id and a persisted counter.

use std::fmt;

/// The kind of row that an identifier names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    Event,
    Delivery,
    Endpoint,
    Attempt,
    /// Only in cursors: callers choose the ids of tenants.
    Tenant,
    Replay,
    Erasure,
}

/// A path under `/api/v1` may name an event by this prefix.
const MESSAGE_PREFIX: &str = "msg_";

impl IdKind {
    const ALL: [Self; 7] = [
        Self::Event,
        Self::Delivery,
        Self::Endpoint,
        Self::Attempt,
        Self::Tenant,
        Self::Replay,
        Self::Erasure,
    ];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Event => "evt_",
            Self::Delivery => "dlv_",
            Self::Endpoint => "ep_",
            Self::Attempt => "atmpt_",
            Self::Tenant => "app_",
            Self::Replay => "rpl_",
            Self::Erasure => "ers_",
        }
    }
}

/// Converts row numbers to public identifiers and back.
///
/// An identifier consists of a prefix, twelve hexadecimal digits of the store's random id, and sixteen hexadecimal
/// digits of the row number: `evt_5f0c9a3be1d7000000000000002a`. The row number comes from a counter on disk. A
/// receiver that remembers identifiers must never take a new event for an old one: the id of the store differs when a
/// data directory is created again, and a random step of the counters at each start makes the row numbers differ when
/// a data directory is restored from a backup. An identifier contains no `.`, and no caller chooses any part of it, as
/// the signature scheme requires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    store: u64,
}

const STORE_MASK: u64 = (1 << 48) - 1;

impl Ids {
    pub(crate) const fn new(store: u64) -> Self {
        Self { store: store & STORE_MASK }
    }

    pub(crate) fn format(self, kind: IdKind, row: i64) -> String {
        format!("{}{:012x}{:016x}", kind.prefix(), self.store, row)
    }

    /// Returns `true` if a text has the form of an identifier of this store. Identifiers of other systems and stores do
    /// not have it.
    pub(crate) fn are_those_of(self, text: &str) -> bool {
        let digits_of = |prefix| text.strip_prefix(prefix).and_then(|digits| self.parse_digits(digits));
        IdKind::ALL
            .into_iter()
            .map(IdKind::prefix)
            .chain([MESSAGE_PREFIX])
            .any(|prefix| digits_of(prefix).is_some())
    }

    /// Returns the row that an identifier names; `None` if the identifier does not have this kind or belongs to
    /// another store.
    pub(crate) fn parse(self, kind: IdKind, id: &str) -> Option<i64> {
        self.parse_digits(id.strip_prefix(kind.prefix())?)
    }

    fn parse_digits(self, digits: &str) -> Option<i64> {
        let ours = digits.len() == 28
            && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && u64::from_str_radix(&digits[..12], 16).ok()? == self.store;
        if !ours {
            return None;
        }
        // A number that does not fit into an i64 is no row number.
        i64::from_str_radix(&digits[12..], 16).ok()
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ids({:012x})", self.store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_parses_back_to_its_row() {
        let ids = Ids::new(0x5f0c_9a3b_e1d7);
        assert_eq!(ids.format(IdKind::Event, 42), "evt_5f0c9a3be1d7000000000000002a");
        for row in [1, 42, i64::from(u32::MAX), i64::MAX] {
            for kind in [IdKind::Event, IdKind::Delivery, IdKind::Endpoint, IdKind::Attempt, IdKind::Replay] {
                assert_eq!(ids.parse(kind, &ids.format(kind, row)), Some(row));
            }
        }
    }

    #[test]
    fn malformed_and_foreign_ids_are_refused() {
        let ids = Ids::new(7);
        let other_store = Ids::new(8).format(IdKind::Event, 1);
        let other_kind = ids.format(IdKind::Endpoint, 1);
        let upper = ids.format(IdKind::Event, 10).to_uppercase();
        for id in [
            "",
            "evt_",
            "evt_+",
            "evt_00000000000g0000000000000001",
            "evt_000000000007ffffffffffffffff",
            "évt",
            &other_store,
            &other_kind,
            &upper,
        ] {
            assert_eq!(ids.parse(IdKind::Event, id), None, "{id}");
        }
        for id in [&other_kind, "app_000000000007000000000000002a", "msg_000000000007000000000000002a"] {
            assert!(ids.are_those_of(id), "{id}");
        }
        for id in
            [&other_store, "app_2bX9srOrx2ZWZBpBUvZwXKQmoEY", "ep_", "000000000007000000000000002a", &upper]
        {
            assert!(!ids.are_those_of(id), "{id}");
        }
    }
}
