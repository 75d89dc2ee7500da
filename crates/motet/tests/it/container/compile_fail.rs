//! What the compiler says to a factory that is none.

#[test]
fn wrong_factories_get_helpful_compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/container/*.rs");
}
