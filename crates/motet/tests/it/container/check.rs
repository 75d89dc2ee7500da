//! All problems of a graph are found before anything runs.

use std::future::Ready;
use std::sync::Arc;

use motet::container::{CheckError, Container, Named, Problem};

use super::{A, B, C, D};

trait Repo: Send + Sync {}
struct PgRepo;
impl Repo for PgRepo {}
struct Pool;
struct Primary;
struct Replica;

fn failed(c: Container) -> CheckError {
    c.check().expect_err("something is wrong with it")
}

/// The error without the path of this file.
fn text(failed: &CheckError) -> String {
    failed.to_string().replace(file!(), "FILE")
}

/// A factory whose call is noticed.
fn runs<T>() -> Ready<T> {
    panic!("a factory runs")
}

#[test]
fn check_reports_all_six_kinds_of_problem_and_runs_no_factory() {
    let mut c = Container::new();
    let base = line!();
    c.provide(|_: Arc<B>| runs::<A>());
    c.provide(|_: Arc<A>| runs::<B>());
    c.provide(|_: Arc<dyn Repo>, _: Arc<C>| runs::<D>());
    c.provide(|_: Arc<dyn Repo>| runs::<Pool>());
    c.provide(runs::<Pool>);
    c.provide_scoped(runs::<C>);
    c.provide(runs::<PgRepo>);
    c.value(7_u16).on_stop(|_| async {}).on_stop(|_| async {});
    c.overrides(|c| {
        c.value(7_u8);
    });
    let failed = failed(c);
    let at = |line: u32| format!("(FILE:{}:{})", base + line, 7);
    let expected = format!(
        "the container has 6 problems

invalid hook: `on_stop` of `u16` is set twice: put both into one closure
  provided by `u16` {}

provided more than once: `Pool`
  by `Pool` {}
  by `Pool` {}
  give each a tag with `named`, or put it into `overrides`

overrides nothing: `u8`
  provided by `u8` (FILE:{}:11)

missing: `dyn Repo`
  needed by `D` {}
  needed by `Pool` {}
  did you mean to call `bind::<dyn Repo>` on `PgRepo`? {}

cycle:
  +-> `A` {}
  |     needs
  +-- `B` {}

singleton depends on a scoped component:
  `D` {}, singleton
    needs `C` {}, scoped",
        at(8),
        at(4),
        at(5),
        base + 10,
        at(3),
        at(4),
        at(7),
        at(1),
        at(2),
        at(3),
        at(6),
    );
    assert_eq!(text(&failed), expected);
    assert_eq!(failed.problems().len(), 6);
}

#[test]
fn missing_component_is_reported_with_the_paths_that_need_it() {
    let mut c = Container::new();
    let base = line!();
    c.provide(|_: Arc<Pool>| async { A });
    c.provide(|_: Arc<A>| async { B });
    c.provide_transient(|_: Arc<B>, _: Arc<D>| async { C });
    // Inside of a cycle there is no first component.
    c.provide(|_: Arc<Pool>, _: Arc<PgRepo>| async { D });
    c.provide(|_: Arc<D>| async { PgRepo });
    let failed = failed(c);
    let at = |line: u32| format!("(FILE:{}:7)", base + line);
    let expected = format!(
        "missing: `Pool`
  needed by `A` {}
    for `B` {}
    for `C` {}
  needed by `D` {}
    for `C` {}",
        at(1),
        at(2),
        at(3),
        at(5),
        at(3),
    );
    assert!(text(&failed).contains(&expected), "{}", text(&failed));
}

#[test]
fn missing_component_is_reported_with_a_fitting_hint() {
    mod other {
        pub(super) struct Pool;
    }
    struct Poool;
    let mut tagged = Container::new();
    tagged.value(Pool).named(Replica);
    tagged.provide(|_: Named<Primary, Pool>| async { A });
    let mut result = Container::new();
    result.provide(|| async { Ok::<_, std::io::Error>(Pool) });
    result.provide(|_: Arc<Pool>| async { A });
    let mut arc = Container::new();
    arc.value(Arc::new(Pool));
    arc.provide(|_: Arc<Pool>| async { A });
    let mut other_path = Container::new();
    other_path.value(other::Pool);
    other_path.provide(|_: Arc<Pool>| async { A });
    let mut typo = Container::new();
    typo.value(Poool);
    typo.value(String::new());
    typo.provide(|_: Arc<Pool>| async { A });
    let mut concrete = Container::new();
    concrete.shared::<dyn Repo>(Arc::new(PgRepo));
    concrete.provide(|_: Arc<PgRepo>| async { A });
    for (c, expected) in [
        (tagged, "did you mean `Named<Replica, Pool>`"),
        (result, "`Result<Pool, Error>` is provided: use `try_provide` to unwrap the `Result`"),
        (arc, "`Arc<Pool>` is provided: use `shared` to provide an existing `Arc`"),
        (other_path, "a different type than `"),
        (typo, "did you mean `Poool`?"),
        (concrete, "did you mean `dyn Repo`?"),
    ] {
        let failed = failed(c);
        let [Problem::Missing { hints, .. }] = failed.problems() else { panic!("{failed}") };
        assert_eq!(hints.len(), 1, "{hints:?}");
        assert!(hints[0].contains(expected), "{hints:?}");
    }
}

#[test]
fn cycles_through_binds_transients_or_one_component_are_found() {
    let mut bind = Container::new();
    bind.provide(|_: Arc<A>| async { PgRepo }).bind::<dyn Repo>(|repo| repo);
    bind.provide(|_: Arc<dyn Repo>| async { A });
    let mut transient = Container::new();
    transient.provide_transient(|_: Arc<B>| async { A });
    transient.provide_transient(|_: Option<Arc<A>>| async { B });
    let mut itself = Container::new();
    itself.provide(|_: Arc<A>| async { A });
    for (c, length) in [(bind, 2), (transient, 2), (itself, 1)] {
        let failed = failed(c);
        let [Problem::Cycle(places)] = failed.problems() else { panic!("{failed}") };
        assert_eq!(places.len(), length);
    }
}

#[test]
fn singleton_needing_a_scoped_one_through_a_transient_is_found() {
    let mut c = Container::new();
    c.provide_scoped(|| async { A });
    c.provide_transient(|_: Arc<A>| async { B });
    c.provide(|_: Option<Arc<B>>| async { C });
    // Not a problem: both have the same lifetime.
    c.provide_scoped(|_: Arc<B>| async { D });
    let failed = failed(c);
    let [Problem::Outlives(places)] = failed.problems() else { panic!("{failed}") };
    let names: Vec<_> = places.iter().map(|place| place.name.as_str()).collect();
    assert_eq!(names, ["C", "B", "A"]);
}

#[test]
fn optional_dependency_may_be_missing() {
    let mut c = Container::new();
    c.provide(|_: Option<Arc<A>>, _: Option<Named<Replica, Pool>>| async { B });
    c.check().unwrap();
}

struct Mock;
impl Repo for Mock {}

/// A component that needs a `dyn Repo`, which needs a `Pool`.
fn user_of_a_repo() -> Container {
    let mut c = Container::new();
    c.provide(|| async { Pool });
    c.provide(|_: Arc<Pool>| async { PgRepo }).bind::<dyn Repo>(|repo| repo);
    c.provide(|_: Arc<dyn Repo>| async { A });
    c
}

#[test]
fn override_removes_only_components_that_become_unused() {
    let names = |c: Container| c.check().unwrap().names().map(str::to_owned).collect::<Vec<_>>();
    let mut mocked = user_of_a_repo();
    mocked.overrides(|c| {
        c.shared::<dyn Repo>(Arc::new(Mock));
    });
    assert_eq!(names(mocked), ["A", "dyn Repo"], "the unused pool is left out");

    let mut also_used = user_of_a_repo();
    also_used.provide(|_: Arc<Pool>| async { B });
    also_used.overrides(|c| {
        c.shared::<dyn Repo>(Arc::new(Mock));
    });
    assert_eq!(names(also_used), ["A", "B", "Pool", "dyn Repo"]);
}

#[test]
fn override_of_a_component_not_provided_is_a_problem() {
    let mut by_the_mock = user_of_a_repo();
    by_the_mock.overrides(|c| {
        c.provide(|_: Arc<Pool>| async { Mock }).bind::<dyn Repo>(|mock| mock);
    });
    let failed = failed(by_the_mock);
    // The override must be for `dyn Repo` only: no component provided a `Mock` before.
    assert!(matches!(failed.problems(), [Problem::UselessOverride { what, .. }] if what == "Mock"));
}

#[test]
fn dot_mermaid_and_text_show_the_edges_and_modules_of_a_plan() {
    let mut c = Container::new();
    c.module("store", |c| {
        c.provide(|| async { Pool });
        c.module("sql", |c| {
            c.provide(|_: Arc<Pool>, _: Option<Arc<B>>| async { PgRepo }).bind::<dyn Repo>(|repo| repo);
        });
    });
    c.value(B);
    c.provide_scoped(|_: Arc<dyn Repo>, _: Option<Named<Replica, Pool>>| async { Vec::<u8>::new() });
    let plan = c.check().unwrap();
    assert_eq!(
        plan.to_dot(),
        r#"digraph container {
  rankdir=LR;
  node [shape=box];
  n2 [label="B"];
  n3 [label="Vec<u8>\nscoped"];
  subgraph cluster_1 {
    label="store";
    n0 [label="Pool"];
  }
  subgraph cluster_2 {
    label="store/sql";
    n1 [label="PgRepo\nas dyn Repo"];
  }
  n1 -> n0;
  n1 -> n2 [style=dashed];
  n3 -> n1;
}
"#
    );
    assert_eq!(
        plan.to_mermaid(),
        r#"flowchart LR
  n2["B"]
  n3["Vec#lt;u8#gt;<br/>scoped"]
  subgraph m1 ["store"]
    n0["Pool"]
  end
  subgraph m2 ["store/sql"]
    n1["PgRepo<br/>as dyn Repo"]
  end
  n1 --> n0
  n1 -.-> n2
  n3 --> n1
"#
    );
    let listed = plan.to_string();
    assert!(listed.contains("store/sql/PgRepo (singleton, ") && listed.contains("\n  can use B"), "{listed}");
}

#[test]
fn hook_set_twice_or_without_an_effect_is_a_problem() {
    let mut twice = Container::new();
    twice.value(A).on_stop(|_| async {}).on_stop(|_| async {});
    let mut input = Container::new();
    input.input::<u8>().on_stop(|_| async {});
    let mut scoped = Container::new();
    scoped.provide_scoped(|| async { A }).health(|_| async { Ok::<(), String>(()) });
    for (c, expected) in [
        (twice, "`on_stop` of `A` is set twice: put both into one closure"),
        (input, "`u8` is an input, which is not built, so its `on_stop` would never run"),
        (scoped, "`A` is scoped: only a singleton can have a `health` check"),
    ] {
        let failed = failed(c);
        let [Problem::InvalidHook { reason, .. }] = failed.problems() else { panic!("{failed}") };
        assert_eq!(reason, expected);
        assert!(failed.to_string().contains(&format!("invalid hook: {expected}")), "{failed}");
    }
}
