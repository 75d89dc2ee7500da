//! Checks of the names that callers choose: uids, channels and tags.

use super::problem::Problem;

const MAX_UID_CHARACTERS: usize = 256;
const MAX_NAME_CHARACTERS: usize = 128;

/// Prefixes of relay's own identifiers. A path may name a row by either, so a uid must not look like an identifier.
const OWN_PREFIXES: [&str; 7] = ["evt_", "dlv_", "ep_", "atmpt_", "rpl_", "app_", "msg_"];

/// Checks a uid: 1 to 256 characters of `[A-Za-z0-9_.-]`, without the prefix of an identifier.
pub(super) fn check_uid(uid: &str) -> Result<(), Problem> {
    check_name("uid", uid, MAX_UID_CHARACTERS)?;
    match OWN_PREFIXES.into_iter().find(|prefix| uid.starts_with(prefix)) {
        Some(prefix) => {
            Err(Problem::invalid(format!("uid: {uid:?} begins with {prefix:?} like an id of relay")))
        }
        None => Ok(()),
    }
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

    #[test]
    fn names_that_could_be_taken_for_something_else_are_refused() {
        for uid in ["", "a b", "a/b", "é", "evt_1", "ep_x", &"a".repeat(257)] {
            assert!(check_uid(uid).is_err(), "{uid:?}");
        }
        for uid in ["a", "order-17.v2_x", &"a".repeat(256)] {
            assert!(check_uid(uid).is_ok(), "{uid:?}");
        }
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(check_names("tags", &names(&["a", "b"]), 2).is_ok());
        for refused in [names(&["a", "b", "c"]), names(&["a", "a"]), names(&["a b"]), names(&[""])] {
            assert!(check_names("tags", &refused, 2).is_err(), "{refused:?}");
        }
    }
}
