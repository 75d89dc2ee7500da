//! The resources and cleanups that are bound to a scope.

use std::panic::Location;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::ambient;
use super::child::{Plain, Spec, Stop, launch};
use super::finalizer::{self, Pending};
use super::member::Member;
use super::outcome::IntoResult;
use super::{Name, Scope, ScopeClosedError};
use crate::mutant;
use crate::resource::{Acquired, DeferredCleanup, Exit, ResourceError, ResourceRelease, Slot, open};
use crate::sim::Site;
use crate::sync::Class;

impl Scope {
    /// Opens a resource that belongs to the scope. At its end, when all children and services have ended, the scope releases
    /// its resources in the reverse order of opening.
    ///
    /// `opening` runs in a task that is not cancelled, so that a resource cannot be lost between its opening and its
    /// registration.
    ///
    /// # Cancel safety
    /// Safe: if the future is dropped while `opening` runs, `opening` has the release timeout of the scope left, and the
    /// resource is released as soon as it is open.
    ///
    /// # Errors
    /// [`ResourceError`]: `opening` failed, or the scope has ended. A panic of `opening` is a panic of the scope.
    ///
    /// # Examples
    /// ```
    /// use motet::resource::Exit;
    /// use motet::task::{Nursery, scope};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let opening = async { Ok::<_, std::io::Error>(String::from("connection")) };
    ///     let close = async |connection: String, exit: Exit| println!("close {connection} after {exit}");
    ///     let connection = n.acquire("connection", opening, close).await.unwrap();
    ///     assert_eq!(connection.len(), 10);
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn acquire<N, R, E, O, C, Fut>(
        &self,
        name: N,
        opening: O,
        close: C,
    ) -> impl Future<Output = Result<Acquired<R>, ResourceError<E>>> + use<N, R, E, O, C, Fut>
    where
        N: Into<Name>,
        O: Future<Output = Result<R, E>> + Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
        C: FnOnce(R, Exit) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let (name, site) = (name.into(), Location::caller());
        let core = Arc::clone(&self.0);
        let here = Site::located("resource", "acquire", || Some(name.to_string()), site).around();
        here.of(async move {
            let (mut caller, opened) = oneshot::channel();
            let spec = Spec::new(name.clone(), site, Class::Work, Stop::Never);
            let host = Arc::clone(&core);
            let task = ambient::shielded(async move {
                let (opened, pending) = match open(opening, &mut caller, host.release_timeout).await {
                    None => return,
                    Some(Err(error)) => (Err(ResourceError::Open(error)), None),
                    Some(Ok(resource)) => {
                        let slot = Slot::new();
                        let release = ResourceRelease::new(&slot, &host, close);
                        let id = finalizer::push(&host, name.clone(), site, None, Box::new(release));
                        let pending = Pending { core: Arc::clone(&host), id, name };
                        (Ok(Acquired::new(resource, slot, pending.clone())), Some(pending))
                    }
                };
                let sent = caller.send(opened);
                if mutant!("acquire.keep_for_nobody") {
                    return;
                }
                if let (Err(refused), Some(pending)) = (sent, pending) {
                    // The caller is gone, so the resource is not kept until the end of the scope.
                    drop(refused);
                    if let Err(failed) = finalizer::release_now(pending, Exit::Cancelled).await {
                        host.state().release_failures.push(failed);
                    }
                }
            });
            match launch::<_, Plain>(&core, spec, task) {
                Ok(join) => drop(join),
                Err(_) => return Err(ResourceError::ScopeClosed),
            }
            opened.await.unwrap_or(Err(ResourceError::OpenEnded))
        })
    }

    /// Registers a cleanup for the end of the scope. It runs when all children and services have ended; cleanups run in the
    /// reverse order of registration.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the cleanup, if the scope has ended.
    #[track_caller]
    pub fn defer<C, Fut>(&self, name: impl Into<Name>, cleanup: C) -> Result<(), ScopeClosedError<C>>
    where
        C: FnOnce(Exit) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let (name, site) = (name.into(), Location::caller());
        // A member until the registration is complete, so that the scope cannot close before it.
        let Some(_member) = Member::enter(&self.0, Class::Work) else {
            return Err(ScopeClosedError::new(&self.0.name, cleanup));
        };
        let pending = DeferredCleanup { core: Arc::clone(&self.0), cleanup: Some(cleanup) };
        finalizer::push(&self.0, name, site, None, Box::new(pending));
        Ok(())
    }
}
