//! The scope's closure compiles where users write it.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;

use motet::task::{Nursery, Scope, ScopeError, SendBody, scope};
use tokio::task::LocalSet;

#[tokio::test(start_paused = true)]
async fn nested_scopes_may_borrow_locals_of_the_function_around() {
    let mut log = vec![0];
    let lens = scope(async |outer: &Nursery<Infallible>| {
        let inner = scope(async |n: &Nursery<Infallible>| {
            log.push(1);
            let three = n.spawn("three", async { 3 });
            Ok(three.await.unwrap() + log.len())
        });
        let inner = inner.await.unwrap();
        let outer = outer.spawn("one", async { 1 });
        Ok(inner + outer.await.unwrap())
    });
    assert_eq!(lens.await.unwrap(), 6);
    assert_eq!(log, [0, 1]);
}

fn boxed<'a>(text: &'a str) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>> {
    Box::pin(async move {
        let length = scope(async |n: &Nursery<std::io::Error>| {
            let double = n.try_spawn("double", async { Ok(2) });
            let double = double.await.map_err(std::io::Error::other)?;
            Ok(text.len() * double)
        });
        length.await.unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn boxed_send_future_can_hold_a_scope_that_borrows() {
    let text = String::from("four");
    assert_eq!(boxed(&text).await, 8);
}

#[tokio::test(start_paused = true)]
async fn task_of_a_scope_can_open_a_scope() {
    let sum = scope(async |n: &Nursery<ScopeError<Infallible>>| {
        let task = n.try_spawn("opens its own", async {
            scope(async |n: &Nursery<Infallible>| Ok(n.spawn("seven", async { 7 }).await.unwrap())).await
        });
        Ok(task.await.unwrap())
    });
    assert_eq!(sum.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn body_that_is_not_send_runs_on_a_local_set() {
    let shared = Rc::new(5);
    let set = LocalSet::new();
    let sum = set.run_until(async {
        let mine = Rc::clone(&shared);
        let body =
            async move |n: &Nursery<Infallible>| Ok(*mine + n.spawn("one", async { 1 }).await.unwrap());
        tokio::task::spawn_local(scope(body)).await.unwrap()
    });
    assert_eq!(sum.await.unwrap(), 6);
}

#[test]
fn generic_function_can_run_a_scope_with_a_given_body() {
    async fn generic<F>(body: F) -> Result<u32, ScopeError<String>>
    where
        F: AsyncFnOnce(&Nursery<String>) -> Result<u32, String>,
    {
        scope(body).await
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let failed = runtime.block_on(generic(async |_| Err("no".to_owned()))).unwrap_err();
    assert_eq!(failed.into_error().as_deref(), Some("no"));
}

#[tokio::test(start_paused = true)]
async fn generic_function_can_run_a_given_scope_body_in_a_task() {
    fn in_a_task<F>(n: &Nursery<Infallible>, body: F) -> motet::task::Task<u32>
    where
        F: for<'n> SendBody<&'n Nursery<String>, Result<u32, String>> + Send + 'static,
    {
        n.spawn("generic", async { Scope::builder().run_send(body).await.unwrap() })
    }
    scope(async |n: &Nursery<Infallible>| {
        let local = 4;
        let body = async move |n: &Nursery<String>| Ok(local + n.spawn("one", async { 1 }).await.unwrap());
        assert_eq!(in_a_task(n, body).await.unwrap(), 5);
        Ok(())
    })
    .await
    .unwrap();
}
