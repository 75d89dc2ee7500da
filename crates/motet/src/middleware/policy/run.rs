//! A pipeline of any policies whose calls are `Send`.

use crate::resilience::pipeline::{Direct, Layers, Operate, Run};
use crate::resilience::{Classify, Error, Pipeline};

/// A pipeline that can run `O`. The bound that its futures are `Send` is stated in the implementation, where the
/// compiler knows their types.
pub trait RunsWith<'p, O: Operate> {
    /// The future of a call.
    type Call: Future<Output = Result<O::Ok, Error<O::Err>>> + Send;
    /// Starts a call.
    fn call(&'p self, operation: O) -> Self::Call;
}

impl<'p, L, C, O> RunsWith<'p, O> for Pipeline<L, C>
where
    L: Layers<'p, O::Ok, O::Err, Machine<Direct<'p, O, C>>: Send>,
    C: Classify<O::Ok, O::Err> + Sync + 'p,
    O: Operate<Ok: Send, Err: Send> + Send + 'p,
{
    type Call = Run<'p, L, O, C>;

    fn call(&'p self, operation: O) -> Self::Call {
        self.operate(operation)
    }
}
