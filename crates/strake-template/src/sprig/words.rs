//! Words within text: their cases, their initials, and lines of them.

use crate::format::is_printable;
use crate::function::{Answer, Call, Function};
use crate::sprig::strings::{lower, upper};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("title", 1, |call| call.make(title(call.text(0)?))),
    Function::of("untitle", 1, |call| call.make(untitle(call.text(0)?))),
    Function::of("swapcase", 1, |call| call.make(swap_case(call.text(0)?))),
    Function::of("nospace", 1, |call| call.make(call.text(0)?.replace(char::is_whitespace, ""))),
    Function::of("initials", 1, |call| call.make(initials(call.text(0)?))),
    Function::of("snakecase", 1, |call| call.make(connected(call.text(0)?, '_'))),
    Function::of("kebabcase", 1, |call| call.make(connected(call.text(0)?, '-'))),
    Function::of("camelcase", 1, |call| call.make(camel_case(call.text(0)?))),
    Function::of("wrap", 2, |call| wrap(call, "\n", call.text(1)?, LongWords::Stay)),
    Function::of("wrapWith", 3, |call| wrap(call, call.text(1)?, call.text(2)?, LongWords::Break)),
];

/// What separates words for `title`: in ASCII all but letters, digits and `_`, beyond it only blanks.
fn separates(character: char) -> bool {
    if character.is_ascii() {
        return !(character.is_ascii_alphanumeric() || character == '_');
    }
    character.is_whitespace()
}

fn title(text: &str) -> String {
    let mut after = ' ';
    text.chars()
        .map(|character| {
            let starts = separates(after);
            after = character;
            if starts { upper(character) } else { character }
        })
        .collect()
}

fn untitle(text: &str) -> String {
    let mut starts = true;
    text.chars()
        .map(|character| {
            let changed = if starts { lower(character) } else { character };
            starts = character.is_whitespace();
            changed
        })
        .collect()
}

fn swap_case(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_uppercase() { lower(character) } else { upper(character) })
        .collect()
}

fn initials(text: &str) -> String {
    text.split(char::is_whitespace).filter_map(|word| word.chars().next()).collect()
}

fn connects(character: char) -> bool {
    character == '-' || character == '_' || character.is_whitespace()
}

/// Words run together, each with a capital letter. Connectors in front stay, and so does what is doubled.
fn camel_case(text: &str) -> String {
    let body = text.trim_start_matches(connects);
    let mut out = text[..text.len() - body.len()].to_owned();
    let mut characters = body.chars();
    let Some(first) = characters.next() else { return out };
    let mut previous = upper(first);
    for character in characters {
        match (connects(previous), connects(character)) {
            (true, true) => {
                out.push(previous);
                previous = character;
            }
            (true, false) => previous = upper(character),
            (false, _) => {
                out.push(previous);
                previous = lower(character);
            }
        }
    }
    out.push(previous);
    out
}

/// What a run of characters is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Number,
    /// Starts with a capital letter.
    Capital,
    Letters,
    Connector,
    Punctuation,
    Other,
}

impl Kind {
    /// Whether a connector may stand before it.
    fn is_word(self) -> bool {
        !matches!(self, Self::Connector | Self::Punctuation)
    }
}

/// Words in small letters with a connector between them. A number belongs to the word before it, unless small letters follow.
fn connected(text: &str, connector: char) -> String {
    let words = split_words(text);
    let mut out = String::with_capacity(text.len() + words.len());
    let mut index = 0;
    while let Some((kind, word)) = words.get(index) {
        index += 1;
        push_word(&mut out, *kind, word, connector);
        let next = |index: usize| words.get(index).map(|(kind, _)| *kind);
        match kind {
            Kind::Connector | Kind::Punctuation => continue,
            Kind::Number => {}
            _ if next(index) == Some(Kind::Number) => match next(index + 1) {
                None => {
                    out.push_str(words[index].1);
                    return out;
                }
                Some(Kind::Letters) => out.push(connector),
                Some(_) => {
                    out.push_str(words[index].1);
                    index += 1;
                    if next(index).is_some_and(Kind::is_word) {
                        out.push(connector);
                    }
                    continue;
                }
            },
            _ => {
                if next(index).is_some_and(Kind::is_word) {
                    out.push(connector);
                }
                continue;
            }
        }
        while let Some((kind @ (Kind::Letters | Kind::Number), word)) = words.get(index) {
            push_word(&mut out, *kind, word, connector);
            index += 1;
        }
        if words.get(index).is_some_and(|(kind, _)| kind.is_word()) {
            out.push(connector);
        }
    }
    out
}

fn push_word(out: &mut String, kind: Kind, word: &str, connector: char) {
    match kind {
        Kind::Connector => out.extend(word.chars().map(|_| connector)),
        _ => out.extend(word.chars().map(lower)),
    }
}

fn is_punctuation(character: char) -> bool {
    if character.is_ascii() {
        // What ASCII has as signs of currency and mathematics is no punctuation.
        return character.is_ascii_punctuation() && !"$+<=>^`|~".contains(character);
    }
    !character.is_alphanumeric() && is_printable(character) && ('\u{2010}'..='\u{2027}').contains(&character)
}

fn is_small_or_plain(character: char) -> bool {
    character.is_alphabetic() && !character.is_uppercase()
}

fn split_words(text: &str) -> Vec<(Kind, &str)> {
    let mut words = Vec::new();
    let mut left = text;
    while let Some(first) = left.chars().next() {
        let (kind, length) = if connects(first) {
            (Kind::Connector, run(left, connects))
        } else if is_punctuation(first) {
            (Kind::Punctuation, run(left, |character| is_punctuation(character) && !connects(character)))
        } else if first.is_uppercase() {
            (Kind::Capital, capital_word(left))
        } else if first.is_alphabetic() {
            (Kind::Letters, run(left, is_small_or_plain))
        } else if first.is_numeric() {
            (Kind::Number, run(left, char::is_numeric))
        } else {
            (Kind::Other, other_word(left))
        };
        words.push((kind, &left[..length]));
        left = &left[length..];
    }
    words
}

/// How many bytes in front are such characters.
fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|character| !wanted(character)).unwrap_or(text.len())
}

fn other_word(text: &str) -> usize {
    run(text, |character| !connects(character) && !character.is_alphanumeric() && !is_punctuation(character))
        .max(1)
}

/// `Word`, or of `HTTPServer` the `HTTP`.
fn capital_word(text: &str) -> usize {
    let capitals = run(text, char::is_uppercase);
    let last = text[..capitals].char_indices().next_back().map_or(0, |(at, _)| at);
    let small = run(&text[capitals..], is_small_or_plain);
    match (last, small) {
        (0, small) => capitals + small,
        (_, 0) => capitals,
        (last, _) => last,
    }
}

/// What becomes of a word that is longer than a line.
#[derive(Debug, Clone, Copy)]
enum LongWords {
    Break,
    Stay,
}

/// Breaks lines at blanks so that none is longer than the first argument says, in bytes.
fn wrap(call: &Call<'_>, line_break: &str, text: &str, long_words: LongWords) -> Answer {
    let line_break = if line_break.is_empty() { "\n" } else { line_break };
    let width = call.size(0)?.max(1);
    let mut out = String::new();
    let mut left = text;
    while left.len() > width {
        if let Some(rest) = left.strip_prefix(' ') {
            left = rest;
            continue;
        }
        // A blank right after the line still ends it.
        let window = &left.as_bytes()[..=width];
        let (end, skip) = match (window.iter().rposition(|byte| *byte == b' '), long_words) {
            (Some(at), _) => (at, 1),
            (None, LongWords::Break) => (first_bytes(left, width), 0),
            (None, LongWords::Stay) => match left.bytes().position(|byte| byte == b' ') {
                Some(at) => (at, 1),
                None => break,
            },
        };
        call.meter.charge(end + line_break.len())?;
        out.push_str(&left[..end]);
        out.push_str(line_break);
        call.meter.fits(out.len())?;
        left = &left[end + skip..];
    }
    out.push_str(left);
    call.make(out)
}

/// So many bytes, or fewer if a character would be cut, but at least one character.
fn first_bytes(text: &str, count: usize) -> usize {
    text.floor_char_boundary(count).max(text.chars().next().map_or(0, char::len_utf8))
}
