use super::leaf::Leaf;
use super::machine::{CallTypes, Layers};

/// A policy around the inner layers.
#[derive(Debug, Clone)]
pub struct Layer<P, Inner> {
    pub(crate) policy: P,
    pub(crate) inner: Inner,
}

/// The innermost layer: the operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct End;

/// Layers that can take another policy, as the innermost one.
pub trait Append<P>: Sized {
    /// The layers with the policy.
    type Out;
    /// Adds the policy as the innermost one.
    fn append(self, policy: P) -> Self::Out;
}

impl<P> Append<P> for End {
    type Out = Layer<P, Self>;

    fn append(self, policy: P) -> Self::Out {
        Layer { policy, inner: self }
    }
}

impl<P, Q, Inner: Append<P>> Append<P> for Layer<Q, Inner> {
    type Out = Layer<Q, Inner::Out>;

    fn append(self, policy: P) -> Self::Out {
        Layer { policy: self.policy, inner: self.inner.append(policy) }
    }
}

impl<'p, T, E> Layers<'p, T, E> for End {
    type Machine<K: CallTypes<Ok = T, Err = E>>
        = Leaf<K>
    where
        Self: 'p;

    #[inline]
    fn start<K: CallTypes<Ok = T, Err = E>>(&'p self) -> Leaf<K> {
        Leaf::new()
    }
}

/// Policies that run one attempt at a time: all except a hedge.
#[diagnostic::on_unimplemented(
    message = "an operation that borrows mutable state cannot be hedged",
    label = "this pipeline has a hedge, which runs several attempts concurrently",
    note = "use `run` with an operation whose attempts share no mutable state"
)]
pub trait OneAtATime {}

impl OneAtATime for End {}

impl<P: OneAtATime, Inner: OneAtATime> OneAtATime for Layer<P, Inner> {}
