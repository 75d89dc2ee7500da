//! The state machines of policies in a call: each polls the next one.
//!
//! A machine does not own the operation: the operation is lent to it at each poll, with the state that all machines
//! share. So no machine borrows from another one, the future of a call is one struct without a box, and it is `Send` if
//! its parts are.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::call::CallContext;
use crate::resilience::error::Failure;
use crate::resilience::{Attempt, Class};

/// The outcome of a call, as a policy passes it to the policy around it.
pub(crate) type PolicyOutcome<K> = Result<<K as CallTypes>::Ok, Failure<<K as CallTypes>::Err>>;

/// The types of a call: its result, and how an attempt is held.
pub trait CallTypes {
    /// The value type.
    type Ok;
    /// The error type of the operation.
    type Err;
    /// An attempt in flight: a future, or a ticket for one.
    type Started;
    /// The operation, as it is lent to machines.
    type Action<'x>: Action<Self> + ?Sized + 'x
    where
        Self: 'x;
}

/// The operation and the classification.
pub trait Action<K: CallTypes + ?Sized> {
    /// Calls the operation.
    fn begin(&mut self, attempt: Attempt<'_, K::Err>) -> K::Started;
    /// Returns `true` if the operation can be called again.
    fn repeatable(&self) -> bool;
    /// Polls an attempt. Everything that the attempt held is dropped once it is ready.
    fn poll(&mut self, started: Pin<&mut K::Started>, cx: &mut Context<'_>) -> Poll<PolicyOutcome<K>>;
    /// Drops everything that an attempt holds outside of `started`, which is dropped after this call.
    fn stop(&mut self, started: Pin<&mut K::Started>);
    /// Classifies an outcome.
    fn classify(&self, outcome: Result<&K::Ok, &K::Err>) -> Class;
}

/// The state of a policy in one call.
pub trait Machine<K: CallTypes> {
    /// Continues the call.
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>>;
    /// Drops everything that the attempts in flight hold outside of the machine, which is dropped after this call.
    fn stop(self: Pin<&mut Self>, call: &mut CallContext<'_, K>);
}

/// Policies, outermost first, that can start a call.
pub trait Layers<'p, T, E>: 'p {
    /// The state in one call.
    type Machine<K: CallTypes<Ok = T, Err = E>>: Machine<K>
    where
        Self: 'p;
    /// Starts a call. The operation is not called before the first poll.
    fn start<K: CallTypes<Ok = T, Err = E>>(&'p self) -> Self::Machine<K>;
}
