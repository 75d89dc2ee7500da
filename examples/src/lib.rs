//! The programs of the READMEs and of `docs/guide`, as doc tests. The examples themselves are beside this folder.

#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../docs/guide/back-pressure.md")]
    mod back_pressure {}
    #[doc = include_str!("../../docs/guide/from-asyncio.md")]
    mod from_asyncio {}
    #[doc = include_str!("../../docs/guide/from-tokio.md")]
    mod from_tokio {}
    #[doc = include_str!("../../docs/guide/from-tower.md")]
    mod from_tower {}
    #[doc = include_str!("../../docs/guide/guarding-calls.md")]
    mod guarding_calls {}
    #[doc = include_str!("../../docs/metrics.md")]
    mod metrics {}
    #[doc = include_str!("../../docs/guide/logs-and-spans.md")]
    mod logs_and_spans {}
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../crates/motet-http/README.md")]
    mod readme_of_http {}
    #[doc = include_str!("../../crates/motet-testkit/README.md")]
    mod readme_of_testkit {}
    #[doc = include_str!("../../docs/guide/scopes.md")]
    mod scopes {}
    #[doc = include_str!("../../docs/guide/shutdown.md")]
    mod shutdown {}
    #[doc = include_str!("../../docs/guide/testing-with-seeds.md")]
    mod testing_with_seeds {}
    #[doc = include_str!("../../docs/guide/when-the-compiler-says.md")]
    mod when_the_compiler_says {}
}
