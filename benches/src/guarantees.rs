//! What ours gives and a rival does not, in a few words, to stand beside its figures; the heads of the areas have more.

/// What is missing there; empty where nothing is known to be.
pub(crate) fn missing(area: &str, rival: &str) -> &'static str {
    match (area, rival) {
        ("queue", rival) if rival.starts_with("tokio mpsc") => "many consumers, leases",
        ("queue", "thingbuf") => "many consumers, a part in the budget",
        ("queue", "flume" | "loole") => "a part in the budget; a send that is dropped may have sent",
        ("queue", "async-channel" | "crossfire") => "a part in the budget; newcomers overtake who waits",
        ("queue", "kanal") => "a part in the budget; a receive that is dropped loses the item",
        ("queue", rival) if rival.starts_with("asyncio") => "threads; newcomers overtake who waits",
        ("batch", "mpsc + oneshot actor") => "deadlines, weight, panics kept from callers",
        ("batch", "tower-batch-control") => "life after an error, a drain at the end",
        ("batch", "dataloader") => "deadlines, callers that may leave",
        ("batch", "ultra-batch") => "a deadline of the first item, batches side by side, life after a panic",
        ("pool", "bb8") => "order",
        ("pool", "deadpool") => "connects that outlive their caller, idle timeouts",
        ("pool", "mobc") => "connects that outlive their caller, returns without a task",
        ("pool", "fast_pool") => "order, a part in the budget, lifetimes",
        ("pool", "Semaphore + Vec (floor)") => "connects, checks, limits of time, an end",
        ("http", "hyper-util (bare)") => "limits of time, retries, breakers, bounds, a scope",
        ("http", "reqwest") => "retries, breakers, bounds of calls, a scope",
        ("http", "reqwest + middleware + retry") => "a budget, breakers, bounds of calls, a scope",
        ("origin", _) => "scopes, bounds, leases, budgets; see the head of the area",
        _ => "",
    }
}
