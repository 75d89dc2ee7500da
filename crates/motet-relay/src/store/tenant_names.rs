//! The ids of the tenants in memory, so that a request finds its tenant without a read of the store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::Connection;

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
    pub(super) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let names = Self::default();
        let mut statement = connection.prepare("SELECT seq, id FROM tenants WHERE deleted_at IS NULL")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(NameChange::Created(row.get(0)?, row.get::<_, String>(1)?.into()));
        }
        names.apply(found);
        Ok(names)
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
