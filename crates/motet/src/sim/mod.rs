//! placeholder
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}
pub(crate) use mutant;
