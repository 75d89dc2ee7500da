//! What the policies of a pipeline are to each other: machines, each polling the next.
//!
//! A machine does not have the operation; it is lent at each poll, with all that the machines share. So no machine
//! borrows from another, the future of a call is one struct without a box, and it is `Send` where its parts are.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::call::Call;
use crate::resilience::error::Failure;
use crate::resilience::{Attempt, Class};

/// What a call gives, policy to policy.
pub type Outcome<K> = Result<<K as Kind>::Ok, Failure<<K as Kind>::Err>>;

/// The types of a call: what it gives, and how an attempt is held.
pub trait Kind {
    /// The value.
    type Ok;
    /// The operation's error.
    type Err;
    /// An attempt under way: a future, or what stands for it.
    type Started;
    /// The operation, as it is lent.
    type Action<'x>: Action<Self> + ?Sized + 'x
    where
        Self: 'x;
}

/// The operation, and the judgement of it.
pub trait Action<K: Kind + ?Sized> {
    /// Calls the operation.
    fn begin(&mut self, attempt: Attempt<'_, K::Err>) -> K::Started;
    /// Asks whether the operation can be called again.
    fn repeatable(&self) -> bool;
    /// Polls an attempt. What it held is dropped once it is ready.
    fn poll(&mut self, started: Pin<&mut K::Started>, cx: &mut Context<'_>) -> Poll<Outcome<K>>;
    /// Drops what an attempt holds that is not in `started`, which is dropped after this.
    fn stop(&mut self, started: Pin<&mut K::Started>);
    /// Judges an outcome.
    fn classify(&self, outcome: Result<&K::Ok, &K::Err>) -> Class;
}

/// A policy at work on one call.
pub trait Machine<K: Kind> {
    /// Goes on.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, call: &mut Call<'_, K>) -> Poll<Outcome<K>>;
    /// Drops what the attempts under way hold outside of the machine, which is dropped after this.
    fn stop(self: Pin<&mut Self>, call: &mut Call<'_, K>);
}

/// Policies, outermost first, that can be put to work.
pub trait Layers<'p, T, E>: 'p {
    /// At work.
    type Machine<K: Kind<Ok = T, Err = E>>: Machine<K>
    where
        Self: 'p;
    /// Begins; nothing is called before the first poll.
    fn start<K: Kind<Ok = T, Err = E>>(&'p self) -> Self::Machine<K>;
}
