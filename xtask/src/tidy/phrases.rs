//! The words that are not used, and the search for them.

use std::fs;
use std::path::Path;

use super::Finding;
use super::prose::{Kind, Run};

pub(crate) struct Phrases(Vec<Phrase>);

struct Phrase {
    words: Vec<String>,
    /// The phrase is refused only as the first words of a doc comment.
    only_first: bool,
    instead: String,
}

struct Word {
    text: String,
    line: usize,
    /// Nothing but blanks stands between the word before and this one.
    follows: bool,
}

impl Phrases {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let entries = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let parsed = entries.map(|(index, line)| {
            let (words, instead) = line
                .split_once('|')
                .ok_or_else(|| format!("{}:{}: expected `WORDS | REPLACEMENT`", path.display(), index + 1))?;
            let words = words.trim();
            Ok(Phrase {
                words: words.trim_start_matches('^').split_whitespace().map(str::to_lowercase).collect(),
                only_first: words.starts_with('^'),
                instead: instead.trim().to_owned(),
            })
        });
        parsed.collect::<Result<_, String>>().map(Self)
    }

    pub(crate) fn find(&self, runs: &[Run]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for run in runs {
            let words = words(run);
            for at in 0..words.len() {
                let matching = self
                    .0
                    .iter()
                    .filter(|phrase| matches(phrase, &words[at..], run.kind == Kind::Doc && at == 0));
                findings.extend(matching.map(|phrase| Finding {
                    line: words[at].line,
                    message: format!("\"{}\": write {}", phrase.words.join(" "), phrase.instead),
                }));
            }
        }
        findings
    }
}

fn matches(phrase: &Phrase, words: &[Word], is_first: bool) -> bool {
    (is_first || !phrase.only_first)
        && words.len() >= phrase.words.len()
        && phrase.words.iter().zip(words).all(|(wanted, word)| *wanted == word.text)
        && words[1..phrase.words.len()].iter().all(|word| word.follows)
}

/// The words of `run`, without those between backticks.
fn words(run: &Run) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (index, line) in run.lines.iter().enumerate() {
        let mut is_code = false;
        let mut follows = !words.is_empty();
        let mut word = String::new();
        // A blank at the end ends the last word.
        for character in line.chars().chain([' ']) {
            if !is_code && (character.is_alphanumeric() || matches!(character, '_' | '\'' | '-')) {
                word.extend(character.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                words.push(Word { text: std::mem::take(&mut word), line: run.first_line + index, follows });
                follows = true;
            }
            is_code ^= character == '`';
            follows &= character.is_whitespace();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(kind: Kind, text: &str) -> Vec<(usize, String)> {
        let phrase = |words: &str, only_first| Phrase {
            words: words.split(' ').map(str::to_owned).collect(),
            only_first,
            instead: "X".to_owned(),
        };
        let phrases = Phrases(vec![phrase("red fox", false), phrase("runs", true)]);
        let run = Run { kind, first_line: 7, lines: text.lines().map(str::to_owned).collect() };
        phrases.find(&[run]).into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn phrases_are_found_across_a_line_break() {
        assert_eq!(messages(Kind::Comment, "A quick Red\nfox."), [(7, "\"red fox\": write X".to_owned())]);
    }

    #[test]
    fn code_and_punctuation_separate_words() {
        assert_eq!(messages(Kind::Comment, "red, fox `red fox` red `x` fox"), []);
    }

    #[test]
    fn first_word_rule_applies_only_at_the_start_of_a_doc_comment() {
        assert_eq!(messages(Kind::Doc, "Runs it."), [(7, "\"runs\": write X".to_owned())]);
        assert_eq!(messages(Kind::Doc, "It runs. Runs it.\nRuns it."), []);
        assert_eq!(messages(Kind::Comment, "Runs it."), []);
    }
}
