//! The ids of the tenants in memory, so that a request finds its tenant without a read of the store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::Connection;

use super::damage::{Damage, end_of_damage, readable};
use super::{StoreError, TenantSeq};

/// The tenants that are not deleted. Changed by each commit that creates or deletes a tenant, before its callers get
/// their answers.
#[derive(Debug, Default)]
pub(crate) struct TenantNames(RwLock<Names>);

#[derive(Debug, Default)]
struct Names {
    by_id: HashMap<Arc<str>, TenantSeq>,
    by_seq: HashMap<TenantSeq, Arc<str>>,
}

/// A change by a commit in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NameChange {
    Created(TenantSeq, Arc<str>),
    Deleted(TenantSeq),
}

impl TenantNames {
    /// Loads the tenants. A tenant that cannot be read is unknown until the next start, and its damage is noted.
    pub(super) fn load(connection: &Connection, damage: &Damage) -> Result<Self, StoreError> {
        let names = Self::default();
        let mut from = 0;
        loop {
            let mut found = Vec::new();
            let read = readable(read_from(connection, from, &mut found))?;
            let upto = found.last().map_or(from - 1, |(tenant, _)| tenant.number());
            names.apply(found.into_iter().map(|(tenant, id)| NameChange::Created(tenant, id)).collect());
            let Err(why) = read else { return Ok(names) };
            damage.note(&why);
            // Continues after the rows that cannot be read.
            let next = |distance| first_from(connection, upto.saturating_add(distance));
            let Some(distance) = end_of_damage(i64::MAX - upto.max(0), next)? else { return Ok(names) };
            from = upto + distance.max(2);
        }
    }

    /// Returns the tenant with this id.
    pub(crate) fn find(&self, id: &str) -> Option<TenantSeq> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).copied()
    }

    /// Returns the id of a tenant; `None` if the tenant is deleted.
    pub(crate) fn id_of(&self, tenant: TenantSeq) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_seq.get(&tenant).cloned()
    }

    pub(super) fn apply(&self, changes: Vec<NameChange>) {
        if changes.is_empty() {
            return;
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                NameChange::Created(tenant, id) => {
                    names.by_id.insert(Arc::clone(&id), tenant);
                    names.by_seq.insert(tenant, id);
                }
                NameChange::Deleted(tenant) => {
                    if let Some(id) = names.by_seq.remove(&tenant) {
                        names.by_id.remove(&id);
                    }
                }
            }
        }
    }
}

/// Reads the tenants from the number `from` on.
fn read_from(
    connection: &Connection,
    from: i64,
    found: &mut Vec<(TenantSeq, Arc<str>)>,
) -> Result<(), StoreError> {
    let sql = "SELECT seq, id, deleted_at IS NULL FROM tenants NOT INDEXED WHERE seq >= ?1 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([from])?;
    while let Some(row) = rows.next()? {
        if row.get(2)? {
            found.push((row.get(0)?, row.get::<_, String>(1)?.into()));
        }
    }
    Ok(())
}

/// Reads the first tenant with the number `seq` or a higher one.
fn first_from(connection: &Connection, seq: i64) -> Result<(), StoreError> {
    let sql = "SELECT id FROM tenants NOT INDEXED WHERE seq >= ?1 ORDER BY seq LIMIT 1";
    // Only the error matters.
    let _there_is_one = connection.prepare_cached(sql)?.query([seq])?.next()?.is_some();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_a_deleted_tenant_names_its_successor() {
        let names = TenantNames::default();
        let [old, new] = [TenantSeq::DEFAULT, TenantSeq::numbered(2)];
        names.apply(vec![NameChange::Created(old, "a".into())]);
        assert_eq!((names.find("a"), names.id_of(old).as_deref()), (Some(old), Some("a")));
        names.apply(vec![NameChange::Deleted(old), NameChange::Created(new, "a".into())]);
        assert_eq!(
            (names.find("a"), names.id_of(old), names.id_of(new).as_deref()),
            (Some(new), None, Some("a"))
        );
    }
}
