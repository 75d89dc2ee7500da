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
/// data directory is created again, and for the rows that are made after a backup was restored. A random step of the
/// counters at each start makes the row numbers differ also when the files of a data directory were copied. An identifier contains no `.`, and no caller chooses any part of it, as
/// the signature scheme requires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    store: u64,
    /// Oldest first.
    restores: &'static [Restore],
}

/// The id of the store for rows that were made after a backup was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restore {
    /// The highest number of a row in the backup.
    pub(crate) last_row: i64,
    pub(crate) store: u64,
}

const STORE_MASK: u64 = (1 << 48) - 1;

impl Ids {
    pub(crate) const fn new(store: u64) -> Self {
        Self { store: store & STORE_MASK, restores: &[] }
    }

    /// Adds the ids of a store that was restored, in the order of its restores.
    ///
    /// They stay in memory until the process ends, so that `Ids` is `Copy`: a few bytes for each time that a restored store is
    /// opened.
    pub(crate) fn restored(self, restores: Vec<Restore>) -> Self {
        if restores.is_empty() { self } else { Self { restores: restores.leak(), ..self } }
    }

    /// Returns the id of the store in the identifier of a row.
    fn store_of(self, row: i64) -> u64 {
        let later = self.restores.iter().rev().find(|restore| restore.last_row < row);
        later.map_or(self.store, |restore| restore.store & STORE_MASK)
    }

    pub(crate) fn format(self, kind: IdKind, row: i64) -> String {
        format!("{}{:012x}{:016x}", kind.prefix(), self.store_of(row), row)
    }

    /// Returns `true` if the store has had this identifier, of a row that was lost with a restore.
    pub(crate) fn is_lost(self, kind: IdKind, id: &str) -> bool {
        let parts = id.strip_prefix(kind.prefix()).and_then(split);
        parts.is_some_and(|(store, row)| self.is_known(store) && self.store_of(row) != store)
    }

    fn is_known(self, store: u64) -> bool {
        self.store == store || self.restores.iter().any(|restore| restore.store & STORE_MASK == store)
    }

    /// Returns `true` if a text has the form of an identifier of this store, also of a row that was lost with a restore.
    /// Identifiers of other systems and stores do not have it.
    pub(crate) fn are_those_of(self, text: &str) -> bool {
        let digits_of =
            |prefix| text.strip_prefix(prefix).and_then(split).filter(|(store, _)| self.is_known(*store));
        IdKind::ALL
            .into_iter()
            .map(IdKind::prefix)
            .chain([MESSAGE_PREFIX])
            .any(|prefix| digits_of(prefix).is_some())
    }

    /// Returns the row that an identifier names; `None` if the identifier does not have this kind or belongs to
    /// another store, or to a row that was lost with a restore.
    pub(crate) fn parse(self, kind: IdKind, id: &str) -> Option<i64> {
        self.parse_digits(id.strip_prefix(kind.prefix())?)
    }

    fn parse_digits(self, digits: &str) -> Option<i64> {
        let (store, row) = split(digits)?;
        (self.store_of(row) == store).then_some(row)
    }
}

/// Splits the digits of an identifier into the id of the store and the row number.
fn split(digits: &str) -> Option<(u64, i64)> {
    let is_valid = digits.len() == 28 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_valid {
        return None;
    }
    // A number that does not fit into an i64 is no row number.
    Some((u64::from_str_radix(&digits[..12], 16).ok()?, i64::from_str_radix(&digits[12..], 16).ok()?))
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
    fn id_of_a_row_lost_with_a_restore_names_no_later_row() {
        let (before, other) = (Ids::new(7), Ids::new(9));
        let first = before.restored(vec![Restore { last_row: 10, store: 8 }]);
        let second =
            before.restored(vec![Restore { last_row: 10, store: 8 }, Restore { last_row: 20, store: 9 }]);
        for (row, ids) in [(10, before), (11, first), (20, first), (21, other)] {
            assert_eq!(second.format(IdKind::Event, row), ids.format(IdKind::Event, row), "{row}");
            assert_eq!(second.parse(IdKind::Event, &ids.format(IdKind::Event, row)), Some(row));
        }
        // The rows that were made after a backup, and are not in it.
        for lost in [before.format(IdKind::Event, 11), first.format(IdKind::Event, 21)] {
            assert_eq!(second.parse(IdKind::Event, &lost), None);
            assert!(second.is_lost(IdKind::Event, &lost) && second.are_those_of(&lost));
            assert!(!second.is_lost(IdKind::Endpoint, &lost));
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
