//! What the compiler says to a part that is none.

#[test]
fn wrong_middleware_gets_helpful_compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/middleware/*.rs");
}
