//! Replacing variables and taking off quotes.
//!
//! Docker expands words with a small shell language of its own, and this module is the only place that knows it:
//!
//! | written | becomes |
//! |---|---|
//! | `$name`, `${name}` | the value; nothing if unset |
//! | `${name:-word}`, `${name-word}` | `word` if unset (with `:` also if empty) |
//! | `${name:+word}`, `${name+word}` | `word` if set (with `:` and not empty) |
//! | `${name:?word}`, `${name?word}` | an error that says `word` if unset (with `:` also if empty) |
//! | `${name#pattern}`, `##` | without the shortest (longest) matching beginning |
//! | `${name%pattern}`, `%%` | without the shortest (longest) matching end |
//! | `${name/pattern/text}`, `//` | with the first (every) match replaced |
//!
//! `word` is expanded itself. Between double quotes variables are replaced and the escape character holds only in
//! front of `"`, `$` and itself; between single quotes nothing is special. Elsewhere the escape character takes the
//! meaning from whatever follows it.
//!
//! What is not here is as important: `RUN`, `CMD` and `ENTRYPOINT` are never expanded, their shell does that.
//!
//! Values can grow exponentially (`ARG b=$a$a`, then `ARG c=$b$b`, …), so the length of a result is bounded, and so
//! is the depth of words within words.

mod env;
mod pattern;

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

pub(super) use env::Env;

/// Bytes one expansion may give. The kernel takes no environment entry or argument over 128 KiB, so this is far from
/// anything useful, and small enough that a file full of such lines cannot fill the memory.
pub(super) const MAX_LENGTH: usize = 1 << 20;

/// How deep words may nest. Nobody writes more than a few levels; the stack holds thousands.
const MAX_DEPTH: u32 = 100;

/// How to treat what is not a variable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// The escape character.
    pub(super) escape: char,
    /// Quotes stay in the result.
    pub(super) raw_quotes: bool,
    /// Escape characters stay in the result.
    pub(super) raw_escapes: bool,
    /// Quotes are letters like any other.
    pub(super) plain_quotes: bool,
    /// Unset variables stay as they are written.
    pub(super) keep_unset: bool,
}

impl Style {
    /// The usual treatment of instruction arguments.
    pub(super) fn new(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, plain_quotes: false, keep_unset: false }
    }
}

/// What an expansion gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expansion {
    /// The result as one text.
    pub(super) text: String,
    /// The result cut into words: blanks outside of quotes separate, also those of variables.
    pub(super) words: Vec<String>,
    /// Variables that were replaced by nothing because they are unset.
    pub(super) unset: BTreeSet<String>,
    /// Whether the result hangs on a variable that nobody knows.
    pub(super) is_unknown: bool,
    /// How much matching of patterns it took.
    pub(super) work: usize,
}

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("{0} quote is never closed")]
    OpenQuote(&'static str),
    #[error("`${{` is never closed by `}}`")]
    OpenBrace,
    #[error("`${{…/` lacks the second `/`")]
    MissingSlash,
    #[error("`${{` is not followed by a variable name")]
    BadSubstitution,
    #[error("`{0}` is not a modifier of a substitution (known: :- - :+ + :? ? # ## % %% / //)")]
    UnknownModifier(String),
    #[error("{0}: {1}")]
    Required(String, String),
    #[error("invalid pattern `{0}`: {1}")]
    Pattern(String, &'static str),
    #[error("result is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("substitutions nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Expands `text` with the variables of `env`.
pub(super) fn expand(text: &str, style: Style, env: &Env) -> Result<Expansion, ExpandError> {
    let mut expander = Expander {
        letters: text.chars().peekable(),
        style,
        env,
        unset: BTreeSet::new(),
        is_unknown: false,
        depth: 0,
        work: 0,
    };
    let (text, words) = match expander.until(None, style.raw_escapes) {
        // The value that is missing may have stood in for what is too long.
        Err(ExpandError::TooLong) if expander.is_unknown => <(String, Vec<String>)>::default(),
        other => other?,
    };
    let Expander { unset, is_unknown, work, .. } = expander;
    Ok(Expansion { text, words, unset, is_unknown, work })
}

/// Collects a result and, beside it, its words.
#[derive(Default)]
struct Output {
    text: String,
    word: String,
    words: Vec<String>,
}

impl Output {
    /// Adds text whose blanks separate words.
    fn splitting(&mut self, text: &str) -> Result<(), ExpandError> {
        self.text.push_str(text);
        for letter in text.chars() {
            if !letter.is_whitespace() {
                self.word.push(letter);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
        self.check()
    }

    /// Adds text that belongs to the current word as it is.
    fn whole(&mut self, text: &str) -> Result<(), ExpandError> {
        self.text.push_str(text);
        self.word.push_str(text);
        self.check()
    }

    fn check(&self) -> Result<(), ExpandError> {
        if self.text.len() > MAX_LENGTH { Err(ExpandError::TooLong) } else { Ok(()) }
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

struct Expander<'a> {
    letters: Peekable<Chars<'a>>,
    style: Style,
    env: &'a Env,
    unset: BTreeSet<String>,
    is_unknown: bool,
    depth: u32,
    work: usize,
}

impl<'a> Expander<'a> {
    /// Expands up to and without `stop`, or everything.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), ExpandError> {
        let mut output = Output::default();
        let mut buffer = [0; 4];
        while let Some(letter) = self.letters.peek().copied() {
            if Some(letter) == stop {
                self.letters.next();
                return Ok(output.finish());
            }
            match letter {
                '$' => output.splitting(&self.dollar()?)?,
                '\'' if !self.style.plain_quotes => output.whole(&self.single_quoted()?)?,
                '"' if !self.style.plain_quotes => output.whole(&self.double_quoted(raw_escapes)?)?,
                _ => {
                    self.letters.next();
                    if letter != self.style.escape {
                        output.splitting(letter.encode_utf8(&mut buffer))?;
                        continue;
                    }
                    if raw_escapes {
                        output.whole(letter.encode_utf8(&mut buffer))?;
                    }
                    // An escape character at the very end escapes nothing and is dropped.
                    let Some(escaped) = self.letters.next() else { break };
                    output.whole(escaped.encode_utf8(&mut buffer))?;
                }
            }
        }
        match stop {
            None => Ok(output.finish()),
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::OpenBrace),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text: String = self.letters.next().filter(|_| self.style.raw_quotes).into_iter().collect();
        loop {
            match self.letters.next().ok_or(ExpandError::OpenQuote("single"))? {
                '\'' => {
                    text.extend(self.style.raw_quotes.then_some('\''));
                    return Ok(text);
                }
                letter => text.push(letter),
            }
        }
    }

    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String, ExpandError> {
        let mut text: String = self.letters.next().filter(|_| self.style.raw_quotes).into_iter().collect();
        loop {
            match self.letters.peek().copied().ok_or(ExpandError::OpenQuote("double"))? {
                '"' => {
                    self.letters.next();
                    text.extend(self.style.raw_quotes.then_some('"'));
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                letter if letter == self.style.escape => {
                    self.letters.next();
                    text.extend(raw_escapes.then_some(letter));
                    match self.letters.peek().copied() {
                        Some(next) if matches!(next, '"' | '$') || next == self.style.escape => {
                            self.letters.next();
                            text.push(next);
                        }
                        Some(_) if !raw_escapes => text.push(letter),
                        _ => {}
                    }
                }
                letter => {
                    self.letters.next();
                    text.push(letter);
                }
            }
            if text.len() > MAX_LENGTH {
                return Err(ExpandError::TooLong);
            }
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.letters.next();
        if self.letters.peek() == Some(&'{') {
            self.letters.next();
            if self.depth == MAX_DEPTH {
                return Err(ExpandError::TooDeep);
            }
            self.depth += 1;
            let value = self.braces();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".into());
        }
        let value = self.lookup(&name);
        if value.is_none() && self.style.keep_unset {
            return Ok(format!("${name}"));
        }
        self.note_unset(&name, value);
        Ok(value.unwrap_or_default().to_owned())
    }

    /// What stands behind `${`, up to and including `}`.
    fn braces(&mut self) -> Result<String, ExpandError> {
        match self.letters.peek() {
            None => return Err(ExpandError::OpenBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let Some(letter) = self.letters.next() else { return Err(ExpandError::OpenBrace) };
        match letter {
            '}' => {
                let value = self.lookup(&name);
                if value.is_none() && self.style.keep_unset {
                    return Ok(format!("${{{name}}}"));
                }
                self.note_unset(&name, value);
                Ok(value.unwrap_or_default().to_owned())
            }
            ':' => match self.letters.next() {
                Some(modifier @ ('-' | '+' | '?')) => self.conditional(&name, modifier, true),
                Some(other) => Err(ExpandError::UnknownModifier(format!(":{other}"))),
                None => Err(ExpandError::OpenBrace),
            },
            '-' | '+' | '?' => self.conditional(&name, letter, false),
            '#' | '%' => self.trim(&name, letter),
            '/' => self.replace(&name),
            other => Err(ExpandError::UnknownModifier(other.to_string())),
        }
    }

    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), false)?;
        let value = self.lookup(name);
        if value.is_none() && self.style.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let usable = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, usable) {
            ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('+', Some(_)) => Ok(word),
            ('?', None) if self.env.is_unknown(name) => Ok(String::new()),
            ('?', None) => {
                let state =
                    if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { state.to_owned() } else { word };
                Err(ExpandError::Required(name.to_owned(), message))
            }
            (_, Some(value)) => Ok(value.to_owned()),
            (other, None) => Err(ExpandError::UnknownModifier(other.to_string())),
        }
    }

    fn trim(&mut self, name: &str, modifier: char) -> Result<String, ExpandError> {
        let (word, is_known) = self.pattern_text('}')?;
        let value = self.lookup(name);
        if value.is_none() && self.style.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        self.note_unset(name, value);
        if !is_known {
            return Ok(String::new());
        }
        let (longest, pattern) = match word.strip_prefix(modifier) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let pattern = self.pattern(pattern)?;
        let value = value.unwrap_or_default();
        let kept = if modifier == '#' {
            pattern.prefix(value, longest, &mut self.work).map(|end| end.and_then(|end| value.get(end..)))
        } else {
            pattern
                .suffix(value, longest, &mut self.work)
                .map(|start| start.and_then(|start| value.get(..start)))
        };
        Ok(kept.map_err(|limit| limited(limit, &word))?.unwrap_or(value).to_owned())
    }

    fn replace(&mut self, name: &str) -> Result<String, ExpandError> {
        let every = self.letters.next_if_eq(&'/').is_some();
        let (word, is_known) = self.pattern_text('/')?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.lookup(name);
        if value.is_none() && self.style.keep_unset {
            return Ok(format!("${{{name}/{word}/{replacement}}}"));
        }
        self.note_unset(name, value);
        if !is_known {
            return Ok(String::new());
        }
        let pattern = self.pattern(&word)?;
        let value = value.unwrap_or_default();
        let replaced = pattern.replace(value, &replacement, every, MAX_LENGTH, &mut self.work);
        replaced.map_err(|limit| limited(limit, &word))
    }

    /// The text of a pattern up to and without `stop`, and whether all of it is known.
    fn pattern_text(&mut self, stop: char) -> Result<(String, bool), ExpandError> {
        let before = std::mem::take(&mut self.is_unknown);
        let (word, _) = self.until(Some(stop), true)?;
        let is_known = !self.is_unknown;
        self.is_unknown |= before;
        Ok((word, is_known))
    }

    fn pattern(&self, word: &str) -> Result<pattern::Pattern, ExpandError> {
        pattern::Pattern::parse(word, self.style.escape)
            .map_err(|reason| ExpandError::Pattern(word.to_owned(), reason))
    }

    fn lookup(&mut self, name: &str) -> Option<&'a str> {
        self.is_unknown |= self.env.is_unknown(name);
        self.env.get(name)
    }

    fn note_unset(&mut self, name: &str, value: Option<&str>) {
        if value.is_none() {
            self.unset.insert(name.to_owned());
        }
    }

    /// A variable name: letters, digits and `_`; a number; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.letters.peek() {
            Some(first) if first.is_numeric() => {
                while let Some(digit) = self.letters.next_if(|letter| letter.is_numeric()) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.letters.next()),
            _ => {
                while let Some(letter) =
                    self.letters.next_if(|letter| letter.is_alphanumeric() || *letter == '_')
                {
                    name.push(letter);
                }
            }
        }
        name
    }
}

fn limited(limit: pattern::Limit, word: &str) -> ExpandError {
    match limit {
        pattern::Limit::Length => ExpandError::TooLong,
        pattern::Limit::Work => ExpandError::Pattern(word.to_owned(), "matching it takes too long"),
    }
}

#[cfg(test)]
mod tests;
