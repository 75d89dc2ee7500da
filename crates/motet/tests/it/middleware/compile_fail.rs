//! The compiler's messages for a value that is not a part.

#[test]
fn wrong_middleware_gets_the_expected_compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/middleware/*.rs");
}
