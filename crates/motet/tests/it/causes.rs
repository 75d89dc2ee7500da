//! Errors of scopes through `?`: the printed chain of each kind of error, and the error itself.

use std::error::Error;
use std::fmt::Display;
use std::num::ParseIntError;
use std::sync::Arc;

use motet::App;
use motet::run::{ExitOutcome, Root};
use motet::task::{Nursery, Policy, Reason, Scope, ScopeError, Task, scope};

const ROOT: &str = "invalid digit found in string";

/// The messages of the error and of its sources.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push_str(&format!(": {error}"));
        cause = error.source();
    }
    chain
}

fn parse(text: &str) -> Result<u32, ParseIntError> {
    text.parse()
}

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error("the second line is no number")]
    Line(#[from] ParseIntError),
    #[error("the import failed")]
    Scope(#[source] Box<ScopeError<Self>>),
}

impl From<ScopeError<Self>> for ImportError {
    fn from(error: ScopeError<Self>) -> Self {
        Self::Scope(Box::new(error))
    }
}

async fn sum_with_anyhow() -> anyhow::Result<u32> {
    use anyhow::Context as _;

    let sum = scope(async |n: &Nursery<anyhow::Error>| {
        let one = n.try_spawn("one", async { Ok(parse("1")?) });
        let two = n.try_spawn("two", async { parse("x").context("the second line is no number") });
        Ok(one.await? + two.await?)
    })
    .await?;
    Ok(sum)
}

async fn sum_with_a_box() -> Result<u32, BoxError> {
    let sum = scope(async |n: &Nursery<BoxError>| {
        let one = n.try_spawn("one", async { Ok(parse("1")?) });
        let two = n.try_spawn("two", async { Ok(parse("x").map_err(ImportError::Line)?) });
        Ok(one.await? + two.await?)
    })
    .await?;
    Ok(sum)
}

async fn sum_with_an_own_enum() -> Result<u32, ImportError> {
    let sum = scope(async |n: &Nursery<ImportError>| {
        let one = n.try_spawn("one", async { Ok(parse("1")?) });
        let two = n.try_spawn("two", async { Ok(parse("x")?) });
        Ok(one.value().await + two.value().await)
    })
    .await?;
    Ok(sum)
}

#[tokio::test]
async fn chain_names_the_root_cause_once_for_each_kind_of_error() {
    let of_the_scope = format!("task `two` failed: the second line is no number: {ROOT}");

    let failed = sum_with_anyhow().await.unwrap_err();
    assert_eq!(format!("{failed:#}"), of_the_scope);
    assert_eq!(chain(failed.as_ref()), of_the_scope);

    let failed = sum_with_a_box().await.unwrap_err();
    assert_eq!(chain(&*failed), of_the_scope);
    assert_eq!(format!("{:#}", anyhow::Error::from_boxed(failed)), of_the_scope);

    let failed = sum_with_an_own_enum().await.unwrap_err();
    assert_eq!(chain(&failed), format!("the import failed: {of_the_scope}"));
    assert_eq!(format!("{:#}", anyhow::Error::from(failed)), format!("the import failed: {of_the_scope}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_of_a_body_that_awaited_the_failed_task_is_not_counted() {
    // The task fails on the other thread in the middle of a poll of the body.
    fn finished<T, E>(task: Task<T, E>) -> Task<T, E> {
        while !task.is_finished() {
            std::thread::yield_now();
        }
        task
    }
    let failed = scope(async |n: &Nursery<anyhow::Error>| {
        use anyhow::Context as _;

        let two = n.try_spawn("two", async { Ok(parse("x")?) });
        finished(two).await.context("no sum")
    });
    assert_eq!(failed.await.unwrap_err().to_string(), "task `two` failed");
    let failed = scope(async |n: &Nursery<BoxError>| {
        let two = n.try_spawn("two", async { Ok(parse("x")?) });
        Ok(finished(two).await?)
    });
    assert_eq!(failed.await.unwrap_err().to_string(), "task `two` failed");
    // An error of its own is one more.
    let failed = scope(async |n: &Nursery<BoxError>| {
        let two = n.try_spawn("two", async { Ok(parse("x")?) });
        let _failed = finished(two).await;
        Ok(parse("y")?)
    });
    assert_eq!(failed.await.unwrap_err().to_string(), "task `two` failed, and 1 more");
}

#[tokio::test]
async fn own_error_of_a_scope_keeps_its_chain_under_anyhow() {
    async fn main() -> anyhow::Result<()> {
        let () = scope(async |_: &Nursery<ImportError>| Err(parse("x").unwrap_err().into())).await?;
        Ok(())
    }
    let failed = main().await.unwrap_err();
    let expected = format!("the body of the scope failed: the second line is no number: {ROOT}");
    assert_eq!(format!("{failed:#}"), expected);
    assert!(failed.chain().any(|cause| cause.downcast_ref::<ImportError>().is_some()), "{failed:?}");
}

#[tokio::test]
async fn into_error_returns_the_error_of_the_body_itself() {
    let failed = scope(async |_: &Nursery<anyhow::Error>| {
        Err::<(), _>(anyhow::Error::new(ImportError::from(parse("x").unwrap_err())))
    });
    let own = failed.await.unwrap_err().into_error().unwrap();
    assert!(matches!(own.downcast_ref(), Some(ImportError::Line(_))), "{own:?}");

    let failed = scope(async |_: &Nursery<BoxError>| Err::<(), _>(BoxError::from(parse("x").unwrap_err())));
    let own = failed.await.unwrap_err().into_error().unwrap();
    assert!(own.downcast_ref::<ParseIntError>().is_some(), "{own:?}");

    let failed = scope(async |_: &Nursery<ImportError>| Ok(parse("x")?));
    let own = failed.await.unwrap_err().into_error().unwrap();
    assert!(matches!(own, ImportError::Line(_)), "{own:?}");
}

/// The chain of a scope whose body fails with the error, and of one of its children.
macro_rules! chains {
    ($error:ty, $make:expr) => {{
        let body = scope(async |_: &Nursery<$error>| Err::<(), $error>($make)).await.unwrap_err();
        let child = Scope::builder().policy(Policy::CollectAll).run(async |n: &Nursery<$error>| {
            n.try_spawn("first", async { Err::<(), $error>($make) });
            n.try_spawn("second", async { Err::<(), $error>($make) });
            Ok(())
        });
        let child = child.await.unwrap_err();
        [chain(&body), chain(&child)]
    }};
}

fn texts(of: impl Display) -> [String; 2] {
    [format!("the body of the scope failed: {of}"), format!("task `first` failed, and 1 more: {of}")]
}

#[tokio::test]
async fn chain_ends_with_an_error_of_any_type_except_unit() {
    assert_eq!(chains!(ParseIntError, parse("x").unwrap_err()), texts(ROOT));
    assert_eq!(chains!(Box<ParseIntError>, Box::new(parse("x").unwrap_err())), texts(ROOT));
    assert_eq!(chains!(Arc<dyn Error + Send + Sync>, Arc::from(BoxError::from("shared"))), texts("shared"));
    assert_eq!(chains!(Box<dyn Error + Send>, Box::new(parse("x").unwrap_err())), texts(ROOT));
    assert_eq!(chains!(&'static str, "text"), texts("text"));
    assert_eq!(chains!(String, "text".to_owned()), texts("text"));
    assert_eq!(chains!(u64, 404), texts(404));
    let nothing = ["the body of the scope failed", "task `first` failed, and 1 more"];
    assert_eq!(chains!((), ()), nothing);
}

#[tokio::test(start_paused = true)]
async fn failure_of_a_program_has_its_cause_as_source() {
    let stop = std::future::pending::<Reason>();
    let finished = App::new().run_until(stop, async |root: &Root<BoxError>| {
        root.try_spawn("two", async { Ok(parse("x")?) });
        std::future::pending::<Result<(), _>>().await
    });
    let ExitOutcome::Failed { first, .. } = finished.await.outcome else { panic!("it ended otherwise") };
    assert_eq!(chain(&first), format!("task `two` failed: {ROOT}"));
}

#[test]
fn compiler_explains_which_errors_a_scope_can_have() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/scope/*.rs");
}
