use std::fmt;

/// A pattern for whole paths: `*`, `?`, `[a-z]`, `[^a-z]`, `\` as in Go's `filepath.Match`, and `**` for any
/// number of folders.
///
/// - `*` and `?` and classes never match a `/`. `?` and a class take one character of UTF-8, or one byte where the
///   name is not UTF-8.
/// - `**` matches nothing, or anything that ends with a `/`; at the end of a pattern it matches everything. So
///   `**/x` matches `x` and `a/b/x`, and `a/**` matches all that is below `a` but not `a`.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    text: Vec<u8>,
    tokens: Vec<Token>,
    /// The bytes that every matching path begins with.
    prefix: Vec<u8>,
    /// Whether the pattern is nothing but [`Glob::prefix`].
    literal: bool,
}

/// The pattern is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a valid pattern: {reason}")]
pub struct GlobError {
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// One character of a name: a Unicode scalar value, or a byte that is not part of one, above all of those.
type Symbol = u32;

const SLASH: Symbol = b'/' as Symbol;
const FIRST_STRAY_BYTE: Symbol = 0x11_0000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Exactly this.
    One(Symbol),
    /// Anything but a separator.
    Any,
    /// One of the ranges, or none of them.
    Class { negated: bool, ranges: Vec<(Symbol, Symbol)> },
    /// Any number of anything but separators.
    Star,
    /// Nothing, or anything that ends with a separator.
    Folders,
    /// Everything.
    All,
}

impl Glob {
    /// Compiles a pattern. It is taken as it stands: callers clean it first if they want that.
    ///
    /// # Errors
    /// When a class is not closed or empty, a range lacks an end, or the pattern ends with a lone `\`.
    pub fn new(pattern: impl AsRef<[u8]>) -> Result<Self, GlobError> {
        let text = pattern.as_ref().to_vec();
        let tokens = Parser { symbols: symbols(&text).collect(), position: 0 }
            .tokens()
            .map_err(|reason| GlobError { pattern: String::from_utf8_lossy(&text).into_owned(), reason })?;
        let (prefix, literal) = literal_prefix(&tokens);
        Ok(Self { text, tokens, prefix, literal })
    }

    /// A pattern that matches exactly one path, whatever characters are in it.
    pub fn literal(path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        let mut text = Vec::with_capacity(path.len());
        for byte in path {
            if matches!(byte, b'*' | b'?' | b'[' | b'\\') {
                text.push(b'\\');
            }
            text.push(*byte);
        }
        let tokens = symbols(path).map(Token::One).collect();
        Self { text, tokens, prefix: path.to_vec(), literal: true }
    }

    /// The pattern as written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The one path that the pattern matches, if it has no wildcards.
    pub fn as_literal(&self) -> Option<&[u8]> {
        self.literal.then_some(&self.prefix)
    }

    /// The folders in front of the first component with a wildcard, without wildcards and escapes; for a literal
    /// pattern the whole path.
    pub fn literal_folders(&self) -> &[u8] {
        if self.literal {
            return &self.prefix;
        }
        let end = self.prefix.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        &self.prefix[..end]
    }

    /// The same pattern with its [`Glob::literal_folders`] replaced by another path.
    pub fn with_literal_folders(&self, folders: &[u8]) -> Self {
        if self.literal {
            return Self::literal(folders);
        }
        let old = self.literal_folders();
        let skipped = symbols(old).count();
        let rooted = usize::from(folders.is_empty() && !old.is_empty());
        let mut joined = Self::literal(folders);
        let separator = (old.is_empty() && !folders.is_empty()).then_some(Token::One(SLASH));
        joined.tokens.extend(separator);
        joined.tokens.extend_from_slice(&self.tokens[skipped + rooted..]);
        (joined.prefix, joined.literal) = literal_prefix(&joined.tokens);
        joined
    }

    /// Whether the pattern matches the whole path.
    pub fn matches(&self, path: &[u8]) -> bool {
        if self.literal {
            return path == self.prefix;
        }
        path.starts_with(&self.prefix) && self.run(path, |_| false)
    }

    /// Whether the pattern matches the path or a folder that the path is below.
    pub fn matches_or_parent(&self, path: &[u8]) -> bool {
        if self.literal {
            return path
                .strip_prefix(self.prefix.as_slice())
                .is_some_and(|rest| rest.is_empty() || (rest[0] == b'/' && !self.prefix.is_empty()));
        }
        path.starts_with(&self.prefix) && self.run(path, |accepted| accepted)
    }

    /// Whether the pattern could match something below the folder. The empty path is the root.
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        if folder.is_empty() {
            return !self.tokens.is_empty();
        }
        let common = folder.len().min(self.prefix.len());
        if folder[..common] != self.prefix[..common] {
            return false;
        }
        if self.prefix.len() > folder.len() {
            return self.prefix[folder.len()] == b'/';
        }
        if self.literal {
            return false;
        }
        let mut states = States::start(&self.tokens);
        symbols(folder).for_each(|symbol| states.step(symbol));
        states.step(SLASH);
        // The last state alone means that a path ending with a separator was matched, which names no file.
        states.current.iter().any(|state| *state < self.tokens.len())
    }

    /// Follows the path; `stop` is asked at each separator whether what was accepted so far is enough.
    fn run(&self, path: &[u8], stop: impl Fn(bool) -> bool) -> bool {
        let mut states = States::start(&self.tokens);
        for symbol in symbols(path) {
            if symbol == SLASH && stop(states.accepted()) {
                return true;
            }
            states.step(symbol);
            if states.current.is_empty() {
                return false;
            }
        }
        states.accepted()
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({self})")
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

/// The set of places in the token list at which the rest of a path may continue.
struct States<'a> {
    tokens: &'a [Token],
    current: Vec<usize>,
    next: Vec<usize>,
    /// By place: the number of the last step that reached it, so that none is followed twice.
    reached: Vec<usize>,
    steps: usize,
}

impl<'a> States<'a> {
    fn start(tokens: &'a [Token]) -> Self {
        let reached = vec![0; tokens.len() + 1];
        let mut states = Self { tokens, current: Vec::new(), next: Vec::new(), reached, steps: 1 };
        states.enter(0);
        std::mem::swap(&mut states.current, &mut states.next);
        states
    }

    fn accepted(&self) -> bool {
        self.reached[self.tokens.len()] == self.steps
    }

    fn step(&mut self, symbol: Symbol) {
        self.steps += 1;
        let current = std::mem::take(&mut self.current);
        for place in current.iter().copied() {
            match self.tokens.get(place) {
                Some(Token::One(wanted)) if *wanted == symbol => self.enter(place + 1),
                Some(Token::Any) if symbol != SLASH => self.enter(place + 1),
                Some(Token::Class { negated, ranges }) if symbol != SLASH => {
                    let found = ranges.iter().any(|(low, high)| (*low..=*high).contains(&symbol));
                    if found != *negated {
                        self.enter(place + 1);
                    }
                }
                Some(Token::Star) if symbol != SLASH => self.enter(place),
                // Inside `**` only a separator lets the rest of the pattern begin.
                Some(Token::Folders) if symbol == SLASH => self.enter(place),
                Some(Token::Folders) => self.reach(place),
                Some(Token::All) => self.enter(place),
                _ => {}
            }
        }
        self.current = std::mem::replace(&mut self.next, current);
        self.next.clear();
    }

    fn reach(&mut self, place: usize) {
        if self.reached[place] != self.steps {
            self.reached[place] = self.steps;
            self.next.push(place);
        }
    }

    /// Reaches a place and those that follow from it without a character.
    fn enter(&mut self, mut place: usize) {
        self.reach(place);
        while matches!(self.tokens.get(place), Some(Token::Star | Token::Folders | Token::All)) {
            place += 1;
            self.reach(place);
        }
    }
}

/// The characters of a byte string.
fn symbols(bytes: &[u8]) -> impl Iterator<Item = Symbol> + '_ {
    bytes.utf8_chunks().flat_map(|chunk| {
        let stray = chunk.invalid().iter().map(|byte| FIRST_STRAY_BYTE + Symbol::from(*byte));
        chunk.valid().chars().map(Symbol::from).chain(stray)
    })
}

fn push_symbol(bytes: &mut Vec<u8>, symbol: Symbol) {
    match char::from_u32(symbol) {
        Some(character) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        None => bytes.push((symbol - FIRST_STRAY_BYTE).to_le_bytes()[0]),
    }
}

/// The bytes of the exact characters a pattern begins with, and whether that is all of it.
fn literal_prefix(tokens: &[Token]) -> (Vec<u8>, bool) {
    let mut prefix = Vec::new();
    for token in tokens {
        let Token::One(symbol) = token else { return (prefix, false) };
        push_symbol(&mut prefix, *symbol);
    }
    (prefix, true)
}

struct Parser {
    symbols: Vec<Symbol>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> Option<Symbol> {
        self.symbols.get(self.position).copied()
    }

    fn next(&mut self) -> Option<Symbol> {
        let symbol = self.peek();
        self.position += 1;
        symbol
    }

    fn eat(&mut self, character: u8) -> bool {
        let found = self.peek() == Some(character.into());
        self.position += usize::from(found);
        found
    }

    fn tokens(mut self) -> Result<Vec<Token>, &'static str> {
        let mut tokens = Vec::new();
        while let Some(symbol) = self.next() {
            let token = match u8::try_from(symbol) {
                Ok(b'*') => self.stars(),
                Ok(b'?') => Token::Any,
                Ok(b'[') => self.class()?,
                Ok(b'\\') => Token::One(self.next().ok_or("it ends with a lone backslash")?),
                _ => Token::One(symbol),
            };
            // A second one of the same kind adds nothing but states.
            let repeats =
                matches!(token, Token::Star | Token::Folders | Token::All) && tokens.last() == Some(&token);
            if !repeats {
                tokens.push(token);
            }
        }
        Ok(tokens)
    }

    /// After one `*`.
    fn stars(&mut self) -> Token {
        if !self.eat(b'*') {
            return Token::Star;
        }
        // More than two say nothing more, as do several `**` in a row.
        while self.eat(b'*') {}
        self.eat(b'/');
        if self.peek().is_none() { Token::All } else { Token::Folders }
    }

    /// After a `[`.
    fn class(&mut self) -> Result<Token, &'static str> {
        let negated = self.eat(b'^');
        let mut ranges = Vec::new();
        while ranges.is_empty() || !self.eat(b']') {
            let low = self.class_end()?;
            let high = if self.eat(b'-') { self.class_end()? } else { low };
            ranges.push((low, high));
        }
        Ok(Token::Class { negated, ranges })
    }

    fn class_end(&mut self) -> Result<Symbol, &'static str> {
        const OPEN: &str = "a `[` is not closed";
        match self.next().ok_or(OPEN)? {
            symbol if symbol == Symbol::from(b'-') => Err("a range in `[…]` lacks an end"),
            symbol if symbol == Symbol::from(b']') => Err("a `[…]` is empty or a range in it lacks an end"),
            symbol if symbol == Symbol::from(b'\\') => self.next().ok_or(OPEN),
            symbol => Ok(symbol),
        }
    }
}
