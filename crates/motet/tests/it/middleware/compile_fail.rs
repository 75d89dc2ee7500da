//! What the compiler says to a part that is none.

#[test]
fn a_wrong_part_is_told_in_words_that_do_not_help() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/middleware/*.rs");
}
