//! Counts the words of standard input, or of its arguments, and prints the most frequent ones as JSON.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation;

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Tally {
    words: usize,
    different: usize,
    most_frequent: Vec<(String, usize)>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        std::io::stdin().read_to_string(&mut text)?;
    }
    println!("{}", serde_json::to_string_pretty(&tally(&text, 3))?);
    Ok(())
}

fn tally(text: &str, top: usize) -> Tally {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in text.unicode_words() {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let words = counts.values().sum();
    let different = counts.len();
    let mut most_frequent: Vec<(String, usize)> = counts.into_iter().collect();
    most_frequent.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    most_frequent.truncate(top);
    Tally {
        words,
        different,
        most_frequent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_without_regard_to_case() {
        let counted = tally("The cat, the dog: the END", 1);
        assert_eq!(
            counted,
            Tally {
                words: 6,
                different: 4,
                most_frequent: vec![("the".into(), 3)]
            }
        );
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(
            tally(" \n", 3),
            Tally {
                words: 0,
                different: 0,
                most_frequent: vec![]
            }
        );
    }
}
