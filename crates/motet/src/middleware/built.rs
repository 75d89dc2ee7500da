use super::endpoint::Endpoint;
use super::{Description, Part};

/// A chain with its handler.
pub(super) struct Built<Q: 'static, R: 'static> {
    pub(super) parts: Box<[Part<Q, R>]>,
    pub(super) endpoint: Box<dyn Endpoint<Q, R>>,
    pub(super) description: Description,
    /// From this index on, the chain has no policies.
    quiet_from: usize,
}

impl<Q: 'static, R: 'static> Built<Q, R> {
    pub(super) fn new(parts: Vec<Part<Q, R>>, endpoint: impl Endpoint<Q, R>) -> Self {
        let mut description = Description::default();
        parts.iter().for_each(|part| description.push(part.description.clone()));
        endpoint.describe(&mut description);
        let quiet_from = match endpoint.has_policies() {
            true => usize::MAX,
            false => parts.iter().rposition(|part| part.policy).map_or(0, |last| last + 1),
        };
        Self { parts: parts.into(), endpoint: Box::new(endpoint), description, quiet_from }
    }

    /// Returns `true` if a part at `at` or further inside is a policy, which may end calls by itself.
    pub(super) fn has_policies(&self, at: usize) -> bool {
        at < self.quiet_from
    }
}
