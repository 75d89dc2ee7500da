//! What might have been meant by a key that nobody provides.

use super::Key;
use super::key::short;
use super::provider::Site;

/// How many guesses help; more confuse.
const HINTS: usize = 3;

/// Guesses, the best first.
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
            return Some((0, format!("did you mean `{key}`, which is provided under another tag, or none")));
        }
        return Some((0, format!("`{}` is provided by another version of its crate", missing.full())));
    }
    let wrapped = |wrapper: &str| short_given.starts_with(&format!("{wrapper}<{short_wanted}"));
    if wrapped("Result") {
        return Some((0, format!("`{key}` is provided: `try_provide` would take it apart")));
    }
    if wrapped("Arc") {
        return Some((0, format!("`{key}` is provided: `shared` takes an `Arc` as it is")));
    }
    if wrapped("Box") || wrapped("Option") {
        return Some((0, format!("`{key}` is provided, which is another type")));
    }
    if short_wanted == short_given {
        let (wanted, given) = (missing.full(), key.full());
        return Some((
            1,
            format!(
                "`{given}` is provided: another type than `{wanted}`, or of another version of its crate"
            ),
        ));
    }
    if let Some(of_trait) = short_wanted.strip_prefix("dyn ") {
        // Who implements a trait cannot be asked; those who do are often named after it.
        if short_given.contains(of_trait) {
            return Some((2, format!("did you mean to `bind::<dyn {of_trait}>` on `{key}`")));
        }
    }
    if let Some(of_trait) = short_given.strip_prefix("dyn ")
        && short_wanted.contains(of_trait)
    {
        return Some((2, format!("did you mean `{key}`")));
    }
    let alike = strsim::damerau_levenshtein(&short_wanted, &short_given);
    (alike <= short_wanted.len().min(short_given.len()) / 3).then(|| (3, format!("did you mean `{key}`")))
}
