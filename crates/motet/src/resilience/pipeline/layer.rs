use super::leaf::Leaf;
use super::machine::{Kind, Layers};

/// A policy, and those inside of it.
#[derive(Debug, Clone)]
pub struct Layer<P, Inner> {
    pub(crate) policy: P,
    pub(crate) inner: Inner,
}

/// The inside of the innermost policy: the operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct End;

/// Policies that one more can be put into, innermost.
pub trait Append<P>: Sized {
    /// With it.
    type Out;
    /// Puts it in.
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
    type Machine<K: Kind<Ok = T, Err = E>>
        = Leaf<K>
    where
        Self: 'p;

    #[inline]
    fn start<K: Kind<Ok = T, Err = E>>(&'p self) -> Leaf<K> {
        Leaf::new()
    }
}

/// Policies that have one attempt under way at a time: all but a hedge.
#[diagnostic::on_unimplemented(
    message = "an operation that is lent its state cannot be hedged",
    label = "this pipeline has a hedge, which runs several attempts at once",
    note = "`run` takes an operation whose attempts share nothing that is mutable"
)]
pub trait OneAtATime {}

impl OneAtATime for End {}

impl<P: OneAtATime, Inner: OneAtATime> OneAtATime for Layer<P, Inner> {}
