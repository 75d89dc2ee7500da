//! Guarantees that motet has and another library does not state, for the tables. The head of each area has the details.

/// The guarantees that the other library lacks; empty if none is known.
pub(crate) fn missing(area: &str, rival: &str) -> &'static str {
    match (area, rival) {
        ("queue", rival) if rival.starts_with("tokio mpsc") => "many consumers, leases",
        ("queue", "thingbuf") => "many consumers, a part in the budget",
        ("queue", "flume" | "loole") => "a part in the budget, cancel-safe sends",
        ("queue", "async-channel" | "crossfire") => "a part in the budget; the order of waiters",
        ("queue", "kanal") => "a part in the budget, cancel-safe receives",
        ("queue", rival) if rival.starts_with("asyncio") => "threads; the order of waiters",
        ("batch", "mpsc + oneshot actor") => "deadlines, weight, isolation of panics",
        ("batch", "tower-batch-control") => "service after an error, a drain at the end",
        ("batch", "dataloader") => "deadlines, callers that may be dropped",
        ("batch", "ultra-batch") => "a deadline of the first item, parallel batches, service after a panic",
        ("pool", "bb8") => "order",
        ("pool", "deadpool") => "connects that outlive their caller, idle timeouts",
        ("pool", "mobc") => "connects that outlive their caller, returns without a task",
        ("pool", "fast_pool") => "order, a part in the budget, lifetimes",
        ("pool", "Semaphore + Vec (floor)") => "connects, checks, timeouts, closing",
        ("http", "hyper-util (bare)") => "timeouts, retries, breakers, bounds, a scope",
        ("http", "reqwest") => "retries, breakers, bounds of calls, a scope",
        ("http", "reqwest + middleware + retry") => "a budget, breakers, bounds of calls, a scope",
        ("origin", _) => "scopes, bounds, leases, budgets; see the head of the area",
        _ => "",
    }
}
