//! The compiler's messages for a closure that is not a factory.

#[test]
fn wrong_factories_get_the_expected_compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/container/*.rs");
}
