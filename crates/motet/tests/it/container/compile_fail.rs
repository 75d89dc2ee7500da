//! What the compiler says to a factory that is none.

#[test]
fn a_wrong_factory_is_told_in_words_that_do_not_help() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/container/*.rs");
}
