//! Suggestions for a key that is not provided.

use super::key::{Key, short};
use super::provider::Site;

/// The maximum number of suggestions; more would confuse.
const HINTS: usize = 3;

/// Returns the suggestions, the best first.
pub(crate) fn hints(missing: Key, provided: &[(Key, Site)]) -> Vec<String> {
    let mut guesses: Vec<(u8, String)> = provided
        .iter()
        .filter(|(key, _)| *key != missing)
        .filter_map(|(key, site)| {
            guess(missing, *key).map(|(rank, words)| (rank, format!("{words} ({site})")))
        })
        .collect();
    guesses.sort_by_key(|(rank, _)| *rank);
    guesses.into_iter().map(|(_, words)| words).take(HINTS).collect()
}

fn guess(missing: Key, key: Key) -> Option<(u8, String)> {
    let (wanted, given) = (missing.type_name(), key.type_name());
    let (short_wanted, short_given) = (short(wanted), short(given));
    if wanted == given {
        if missing.is_tagged() != key.is_tagged() || missing.is_tagged() {
            return Some((
                0,
                format!("did you mean `{key}`, which is provided with another tag or without a tag?"),
            ));
        }
        return Some((0, format!("`{}` is provided by another version of its crate", missing.full())));
    }
    let wrapped = |wrapper: &str| short_given.starts_with(&format!("{wrapper}<{short_wanted}"));
    if wrapped("Result") {
        return Some((0, format!("`{key}` is provided: use `try_provide` to unwrap the `Result`")));
    }
    if wrapped("Arc") {
        return Some((0, format!("`{key}` is provided: use `shared` to provide an existing `Arc`")));
    }
    if wrapped("Box") || wrapped("Option") {
        return Some((0, format!("`{key}` is provided, which is a different type")));
    }
    if short_wanted == short_given {
        let (wanted, given) = (missing.full(), key.full());
        return Some((
            1,
            format!(
                "`{given}` is provided: a different type than `{wanted}`, or from another version of its crate"
            ),
        ));
    }
    if let Some(of_trait) = short_wanted.strip_prefix("dyn ") {
        // The implementations of a trait cannot be listed, but their names often contain the name of the trait.
        if short_given.contains(of_trait) {
            return Some((2, format!("did you mean to call `bind::<dyn {of_trait}>` on `{key}`?")));
        }
    }
    if let Some(of_trait) = short_given.strip_prefix("dyn ")
        && short_wanted.contains(of_trait)
    {
        return Some((2, format!("did you mean `{key}`?")));
    }
    let alike = strsim::damerau_levenshtein(&short_wanted, &short_given);
    (alike <= short_wanted.len().min(short_given.len()) / 3).then(|| (3, format!("did you mean `{key}`?")))
}
