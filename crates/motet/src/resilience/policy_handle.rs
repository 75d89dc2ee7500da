use std::mem;
use std::sync::Arc;

/// The policy of a permit: borrowed from a handle, or owned, until the permit is released.
pub(super) enum PolicyHandle<'a, S> {
    Borrowed(&'a Arc<S>),
    Owned(Arc<S>),
    Released,
}

impl<S> PolicyHandle<'_, S> {
    #[inline]
    pub(super) fn get(&self) -> Option<&S> {
        match self {
            Self::Borrowed(shared) => Some(shared),
            Self::Owned(shared) => Some(shared),
            Self::Released => None,
        }
    }

    #[inline]
    pub(super) fn take(&mut self) -> Self {
        mem::replace(self, Self::Released)
    }

    /// Takes the handle, as one that does not borrow.
    pub(super) fn take_owned(&mut self) -> PolicyHandle<'static, S> {
        match self.take() {
            Self::Borrowed(shared) => PolicyHandle::Owned(Arc::clone(shared)),
            Self::Owned(shared) => PolicyHandle::Owned(shared),
            Self::Released => PolicyHandle::Released,
        }
    }
}
