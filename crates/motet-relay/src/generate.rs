//! The pages of the manual and the completions of shells, made from the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, GenerateArgs};

/// Writes `man/*.1` and `completions/*` into a directory, which is created if it does not exist.
///
/// # Errors
/// A file cannot be written.
pub fn run_generate_command(args: &GenerateArgs) -> io::Result<()> {
    generate(&args.directory)
}

fn generate(directory: &Path) -> io::Result<()> {
    let (manual, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&manual)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &manual)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut Cli::command(), "motet-relay", &completions)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_the_shells_their_completions() {
        let directory = tempfile::tempdir().unwrap();
        generate(directory.path()).unwrap();
        let has = |file: &str, text: &str| {
            let found = fs::read_to_string(directory.path().join(file)).unwrap();
            assert!(found.contains(text), "{file}: {found}");
        };
        has("man/motet-relay.1", "motet\\-relay");
        has("man/motet-relay-serve.1", "max\\-attempts");
        has("man/motet-relay-key-create.1", "scope");
        has("completions/motet-relay.bash", "--max-attempts");
        has("completions/motet-relay.fish", "max-attempts");
        has("completions/_motet-relay", "--max-attempts");
    }
}
