//! Cutting the arguments of an instruction into words.

use std::ops::Range;

/// The first word and the rest, blanks around them removed.
pub(super) fn split_keyword(text: &str) -> (&str, &str) {
    let text = text.trim();
    match text.find(is_blank) {
        Some(end) => (&text[..end], text[end..].trim()),
        None => (text, ""),
    }
}

/// What separates words in BuildKit's line parser.
pub(super) fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// The byte range of `part`, which must be a slice of `whole`.
pub(super) fn range_of(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len());
    start..(start + part.len()).min(whole.len())
}

/// Words between blanks; quotes mean nothing here.
pub(super) fn by_blanks(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_blank).filter(|word| !word.is_empty())
}

/// A flag as written, quotes and escapes resolved, with its place in the text given to [`split_flags`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlagWord {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// The flags (`--name=value`) in front and what comes behind them. A lone `--` ends the flags.
pub(super) fn split_flags(text: &str) -> (Vec<FlagWord>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let start = text.len() - rest.len();
        let (word, length) = flag_word(rest);
        rest = rest[length..].trim_start();
        if word == "--" {
            break;
        }
        flags.push(FlagWord { text: word, range: start..start + length });
    }
    (flags, rest)
}

/// The word at the start of `text` and its length as written.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (letter, quote) {
            ('\\', _) => word.extend(letters.next().map(|(_, escaped)| escaped)),
            (_, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => word.push(letter),
            ('"' | '\'', None) => quote = Some(letter),
            _ if letter.is_whitespace() => return (word, at),
            _ => word.push(letter),
        }
    }
    (word, text.len())
}

/// Words for `NAME=value` lists: blanks inside quotes do not separate; quotes and escapes stay in the words.
pub(super) fn keeping_quotes(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        if start.is_none() {
            if letter.is_whitespace() {
                continue;
            }
            start = Some(at);
        }
        match quote {
            None if letter.is_whitespace() => {
                words.extend(start.take().and_then(|start| text.get(start..at)));
            }
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            // Nothing can be escaped between single quotes.
            None | Some('"') if letter == escape => {
                letters.next();
            }
            Some(open) if letter == open => quote = None,
            _ => {}
        }
    }
    words.extend(start.and_then(|start| text.get(start..)));
    words
}

/// What arguments that may be a JSON array are.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    /// An array of strings: the exec form.
    Strings(Vec<String>),
    /// An array that holds something else: an error.
    OtherArray,
    /// No JSON array (trailing text counts): the shell form.
    No,
}

/// Reads arguments as JSON. Anything that is not exactly one array falls back to the shell form, as docker does.
pub(super) fn json_array(text: &str) -> Json {
    if !text.trim_start().starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Json::No };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    strings.collect::<Option<Vec<_>>>().map_or(Json::OtherArray, Json::Strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_where_words_begin() {
        let check = |text, flags: &[&str], rest| {
            let (found, found_rest) = split_flags(text);
            assert_eq!(found.iter().map(|flag| flag.text.as_str()).collect::<Vec<_>>(), flags, "{text}");
            assert_eq!(found_rest, rest, "{text}");
        };
        check("--a=b  --c d", &["--a=b", "--c"], "d");
        check("--a=\"b c\" d", &["--a=b c"], "d");
        check("--a='b' -- --c d", &["--a=b"], "--c d");
        check("--a=b\\ c d", &["--a=b c"], "d");
        check("a --b", &[], "a --b");
        check("", &[], "");
        check("--a\\", &["--a"], "");
        check("--\u{e9}=\u{20ac} d", &["--\u{e9}=\u{20ac}"], "d");
    }

    #[test]
    fn quotes_hold_words_together() {
        let check = |text, words: &[&str]| assert_eq!(keeping_quotes(text, '\\'), words, "{text}");
        check("a=1 b=\"c d\"  e='f g'", &["a=1", "b=\"c d\"", "e='f g'"]);
        check("a=b\\ c d", &["a=b\\ c", "d"]);
        check("a=\"b\\\" c\" d", &["a=\"b\\\" c\"", "d"]);
        check("a='b\\' c", &["a='b\\'", "c"]);
        check("a=\"b", &["a=\"b"]);
        check("a\\", &["a\\"]);
        check("", &[]);
    }

    #[test]
    fn json_is_all_or_nothing() {
        let strings = |items: &[&str]| Json::Strings(items.iter().map(|item| (*item).to_owned()).collect());
        assert_eq!(json_array(r#"["a", "b\u0041\n"]"#), strings(&["a", "bA\n"]));
        assert_eq!(json_array(" [ ] "), strings(&[]));
        assert_eq!(json_array(r#"["a"] # b"#), Json::No);
        assert_eq!(json_array("['a']"), Json::No);
        assert_eq!(json_array(r#"["a",]"#), Json::No);
        assert_eq!(json_array("[1]"), Json::OtherArray);
        assert_eq!(json_array(r#"["a", ["b"]]"#), Json::OtherArray);
        assert_eq!(json_array("a"), Json::No);
    }
}
