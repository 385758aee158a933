//! Text into tokens.
//!
//! Outside of actions there is one token for each run of text, already trimmed as the markers beside it ask; inside there are
//! words. Blanks separate arguments, so each token remembers whether blanks stand before it.

/// A word of a template.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    /// Where it starts, in bytes of the file.
    pub(crate) at: usize,
    /// Whether blanks stand before it.
    pub(crate) spaced: bool,
}

/// What a token is; the text is as written, quotes and dots included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind<'a> {
    /// Text outside of actions.
    Text(&'a str),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A name or a keyword.
    Word(&'a str),
    /// `.name`
    Field(&'a str),
    /// `.`
    Dot,
    /// `$name`, or `$` alone.
    Variable(&'a str),
    Number(&'a str),
    /// `'c'`
    Char(&'a str),
    /// `"text"` or text between backquotes.
    Quoted(&'a str),
    Pipe,
    LeftParen,
    RightParen,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    Comma,
    /// The end of the file.
    End,
}

impl Kind<'_> {
    /// How messages call it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Text(_) => "text".into(),
            Self::Open => "{{".into(),
            Self::Close => "}}".into(),
            Self::Word(text)
            | Self::Field(text)
            | Self::Variable(text)
            | Self::Number(text)
            | Self::Char(text)
            | Self::Quoted(text) => shorten(text),
            Self::Dot => ".".into(),
            Self::Pipe => "|".into(),
            Self::LeftParen => "(".into(),
            Self::RightParen => ")".into(),
            Self::Assign => "=".into(),
            Self::Declare => ":=".into(),
            Self::Comma => ",".into(),
            Self::End => "the end of the file".into(),
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(30) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) at: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

type Result<T> = std::result::Result<T, Problem>;

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Blanks as the trim markers understand them.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_name(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn is_hexadecimal(number: &str) -> bool {
    let digits = number.trim_start_matches(['+', '-']);
    digits.starts_with("0x") || digits.starts_with("0X")
}

/// Reads tokens one by one. A copy of it is a mark to come back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Inside of an action: where it started.
    action: Option<usize>,
    parens: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, action: None, parens: 0 }
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>> {
        match self.action {
            Some(start) => self.inside(start),
            None => self.outside(),
        }
    }

    fn left(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn outside(&mut self) -> Result<Token<'a>> {
        loop {
            let start = self.at;
            let Some(length) = self.left().find(OPEN) else {
                self.at = self.text.len();
                let text = &self.text[start..];
                let kind = if text.is_empty() { Kind::End } else { Kind::Text(text) };
                return Ok(Token { kind, at: start, spaced: false });
            };
            let open = start + length;
            let trims = {
                let mut after = self.text[open + OPEN.len()..].chars();
                after.next() == Some('-') && after.next().is_some_and(is_blank)
            };
            let mut text = &self.text[start..open];
            if trims {
                text = text.trim_end_matches(is_blank);
            }
            self.at = open;
            if !text.is_empty() {
                return Ok(Token { kind: Kind::Text(text), at: start, spaced: false });
            }
            self.at += OPEN.len() + if trims { 2 } else { 0 };
            if self.left().starts_with("/*") {
                self.comment(open)?;
                continue;
            }
            self.action = Some(open);
            self.parens = 0;
            return Ok(Token { kind: Kind::Open, at: open, spaced: false });
        }
    }

    fn comment(&mut self, open: usize) -> Result<()> {
        let Some(length) = self.left().find("*/") else {
            return Err(Problem::new(open, "the comment does not end").hint("a comment ends with */}}"));
        };
        self.at += length + 2;
        if !self.close() {
            return Err(Problem::new(self.at, "a comment must fill its action")
                .hint("write }} or -}} right after */, the latter with one blank before it"));
        }
        Ok(())
    }

    /// Steps over `}}` or ` -}}`, with the blanks that the latter trims.
    fn close(&mut self) -> bool {
        let left = self.left();
        if left.starts_with(CLOSE) {
            self.at += CLOSE.len();
            return true;
        }
        if !self.at_trimming_close() {
            return false;
        }
        self.at += 2 + CLOSE.len();
        let left = self.left();
        self.at += left.len() - left.trim_start_matches(is_blank).len();
        true
    }

    fn at_trimming_close(&self) -> bool {
        let left = self.left();
        left.starts_with(is_blank) && left[1..].starts_with('-') && left[2..].starts_with(CLOSE)
    }

    fn inside(&mut self, start: usize) -> Result<Token<'a>> {
        let mut spaced = false;
        loop {
            let at = self.at;
            if self.left().starts_with(CLOSE) || self.at_trimming_close() {
                if self.parens > 0 {
                    return Err(Problem::new(at, "a parenthesis is not closed"));
                }
                self.close();
                self.action = None;
                return Ok(Token { kind: Kind::Close, at, spaced });
            }
            if !self.left().starts_with(is_blank) {
                break;
            }
            self.at += 1;
            spaced = true;
        }
        let at = self.at;
        let Some(first) = self.left().chars().next() else {
            return Err(Problem::new(start, "the action does not end").hint("an action ends with }}"));
        };
        let kind = self.word(first)?;
        Ok(Token { kind, at, spaced })
    }

    fn word(&mut self, first: char) -> Result<Kind<'a>> {
        let second = self.left()[first.len_utf8()..].chars().next();
        match first {
            ':' if second == Some('=') => self.take(2, Kind::Declare),
            '=' => self.take(1, Kind::Assign),
            ',' => self.take(1, Kind::Comma),
            '|' => self.take(1, Kind::Pipe),
            '(' => {
                self.parens += 1;
                self.take(1, Kind::LeftParen)
            }
            ')' => {
                let Some(parens) = self.parens.checked_sub(1) else {
                    return Err(Problem::new(self.at, "unexpected )"));
                };
                self.parens = parens;
                self.take(1, Kind::RightParen)
            }
            '"' => self.quoted('"', "the text in quotes does not end").map(Kind::Quoted),
            '\'' => self.quoted('\'', "the character constant does not end").map(Kind::Char),
            '`' => self.raw(),
            '.' if second.is_some_and(|second| second.is_ascii_digit()) => Ok(Kind::Number(self.number())),
            '.' => self.name(1).map(|text| if text == "." { Kind::Dot } else { Kind::Field(text) }),
            '$' => self.name(1).map(Kind::Variable),
            '+' | '-' | '0'..='9' => Ok(Kind::Number(self.number())),
            _ if is_name(first) => self.name(0).map(Kind::Word),
            _ => Err(Problem::new(self.at, format!("unexpected character {first:?} in an action"))),
        }
    }

    fn take(&mut self, length: usize, kind: Kind<'a>) -> Result<Kind<'a>> {
        self.at += length;
        Ok(kind)
    }

    /// A name after `skip` bytes; something that ends a word must follow.
    fn name(&mut self, skip: usize) -> Result<&'a str> {
        let left = self.left();
        let length =
            left[skip..].find(|character| !is_name(character)).map_or(left.len(), |length| skip + length);
        let ends = match left[length..].chars().next() {
            None => true,
            Some(next) => {
                is_blank(next)
                    || matches!(next, '.' | ',' | '|' | ':' | '(' | ')' | '=')
                    || left[length..].starts_with(CLOSE)
            }
        };
        self.at += length;
        if !ends {
            let next = self.left().chars().next().unwrap_or_default();
            return Err(Problem::new(
                self.at,
                format!("unexpected character {next:?} after {}", &left[..length]),
            ));
        }
        Ok(&left[..length])
    }

    fn number(&mut self) -> &'a str {
        let left = self.left();
        let hexadecimal = is_hexadecimal(left);
        let mut length = 0;
        let mut previous = ' ';
        for character in left.chars() {
            let signed = if hexadecimal {
                matches!(previous, 'p' | 'P')
            } else {
                matches!(previous, 'e' | 'E' | 'p' | 'P')
            };
            let sign = matches!(character, '+' | '-') && (length == 0 || signed);
            if !(sign || character == '.' || is_name(character)) {
                break;
            }
            length += character.len_utf8();
            previous = character;
        }
        self.at += length;
        &left[..length]
    }

    fn quoted(&mut self, quote: char, unfinished: &str) -> Result<&'a str> {
        let left = self.left();
        let mut characters = left.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' if characters.next().is_none_or(|(_, escaped)| escaped == '\n') => break,
                '\n' => break,
                _ if character == quote => {
                    self.at += at + 1;
                    return Ok(&left[..=at]);
                }
                _ => {}
            }
        }
        Err(Problem::new(self.at, unfinished).hint("text of several lines stands between backquotes"))
    }

    fn raw(&mut self) -> Result<Kind<'a>> {
        let left = self.left();
        let Some(length) = left[1..].find('`') else {
            return Err(Problem::new(self.at, "the text in backquotes does not end"));
        };
        self.take(length + 2, Kind::Quoted(&left[..length + 2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text);
        let mut found = Vec::new();
        loop {
            match lexer.next() {
                Ok(Token { kind: Kind::End, .. }) => return found,
                Ok(Token { kind: Kind::Text(text), .. }) => found.push(text.to_owned()),
                Ok(Token { kind, .. }) => found.push(format!("<{}>", kind.describe())),
                Err(problem) => {
                    found.push(format!("{}: {}", problem.at, problem.message));
                    return found;
                }
            }
        }
    }

    #[test]
    fn markers_trim_the_text_beside_them() {
        assert_eq!(texts("a \n {{- 1 -}} \t b"), ["a", "<{{>", "<1>", "<}}>", "b"]);
        assert_eq!(texts("a {{-1}} b"), ["a ", "<{{>", "<-1>", "<}}>", " b"]);
        assert_eq!(texts("a {{- /* c */ -}} b"), ["a", "b"]);
        assert_eq!(texts("{{1   -}} b"), ["<{{>", "<1>", "<}}>", "b"]);
    }

    #[test]
    fn words_end_where_go_ends_them() {
        assert_eq!(texts("{{.a.b $x(1)}}"), ["<{{>", "<.a>", "<.b>", "<$x>", "<(>", "<1>", "<)>", "<}}>"]);
        assert_eq!(texts("{{a\"b\"}}"), ["<{{>", "3: unexpected character '\"' after a"]);
        assert_eq!(texts("{{ 0x1p-2 1e+3 0xe+1 }}").len(), 2 + 4);
    }

    #[test]
    fn what_does_not_end_is_said_where_it_starts() {
        assert_eq!(texts("ab{{ x"), ["ab", "<{{>", "<x>", "2: the action does not end"]);
        assert_eq!(texts("{{ `x }}"), ["<{{>", "3: the text in backquotes does not end"]);
        assert_eq!(texts("{{ \"x\\\n\" }}"), ["<{{>", "3: the text in quotes does not end"]);
        assert_eq!(texts("{{/* x }}"), ["0: the comment does not end"]);
        assert_eq!(texts("{{ (1 }}").last().unwrap(), "6: a parenthesis is not closed");
    }
}
