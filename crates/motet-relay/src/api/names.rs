//! Checks of the names that callers choose: uids, channels and tags.

use super::problem::Problem;
use crate::ids::Ids;

const MAX_UID_CHARACTERS: usize = 256;
const MAX_NAME_CHARACTERS: usize = 128;

/// Checks a uid: 1 to 256 characters of `[A-Za-z0-9_.-]`, not in the form of the store's own identifiers. A path may
/// name a row by either. Identifiers of other systems may be uids.
pub(super) fn check_uid(ids: Ids, uid: &str) -> Result<(), Problem> {
    check_name("uid", uid, MAX_UID_CHARACTERS)?;
    check_own_form(ids, "uid", uid)
}

/// Refuses a name in the form of the store's own identifiers.
pub(super) fn check_own_form(ids: Ids, field: &str, name: &str) -> Result<(), Problem> {
    if ids.are_those_of(name) {
        return Err(Problem::invalid(format!("{field}: {name:?} has the form of an id of this relay")));
    }
    Ok(())
}

/// Checks metadata: texts under names of 1 to 128 characters. The store limits the size of the whole.
pub(super) fn check_metadata<'a>(
    mut metadata: impl Iterator<Item = (&'a String, Option<&'a String>)>,
) -> Result<(), Problem> {
    let fits = |name: &str| (1..=MAX_NAME_CHARACTERS).contains(&name.chars().count());
    match metadata.find(|(name, _)| !fits(name)) {
        Some((name, _)) => Err(Problem::invalid(format!(
            "metadata: the name {name:?} has {} characters; send 1 to {MAX_NAME_CHARACTERS}",
            name.chars().count()
        ))),
        None => Ok(()),
    }
}

/// Checks a list of channels or tags: up to `max` different names of `[A-Za-z0-9_.-]`.
pub(super) fn check_names(field: &str, names: &[String], max: usize) -> Result<(), Problem> {
    if names.len() > max {
        return Err(Problem::invalid(format!(
            "{field} has {} entries; at most {max} are allowed",
            names.len()
        )));
    }
    for (index, name) in names.iter().enumerate() {
        check_name(field, name, MAX_NAME_CHARACTERS)?;
        if names[..index].contains(name) {
            return Err(Problem::invalid(format!("{field}: {name:?} occurs twice")));
        }
    }
    Ok(())
}

fn check_name(field: &str, name: &str, max: usize) -> Result<(), Problem> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let characters = name.chars().count();
    if characters == 0 || characters > max {
        return Err(Problem::invalid(format!(
            "{field}: a name has {characters} characters; send 1 to {max}"
        )));
    }
    match name.chars().find(|c| !is_allowed(*c)) {
        Some(bad) => Err(Problem::invalid(format!(
            "{field}: {name:?} has {bad:?}; names are made of ASCII letters, digits, '_', '.' and '-'"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::IdKind;

    #[test]
    fn names_that_could_be_taken_for_something_else_are_refused() {
        let ids = Ids::new(7);
        for uid in ["", "a b", "a/b", "é", &ids.format(IdKind::Event, 1), &"a".repeat(257)] {
            assert!(check_uid(ids, uid).is_err(), "{uid:?}");
        }
        for uid in ["a", "order-17.v2_x", "ep_2bX9srOrx2ZWZBpBUvZwXKQmoEY", &"a".repeat(256)] {
            assert!(check_uid(ids, uid).is_ok(), "{uid:?}");
        }
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(check_names("tags", &names(&["a", "b"]), 2).is_ok());
        for refused in [names(&["a", "b", "c"]), names(&["a", "a"]), names(&["a b"]), names(&[""])] {
            assert!(check_names("tags", &refused, 2).is_err(), "{refused:?}");
        }
    }
}
