//! Shell patterns without bracket expressions: `?` is one letter, `*` any number of them.
//!
//! A pattern is matched by following all its possible positions through the text at once, so the work is the product
//! of both lengths and never more, whatever the pattern. Neither wildcard matches a line end.

/// Letters a pattern may have. With values of at most a mebibyte this keeps the worst match below a second.
const MAX_LETTERS: usize = 1024;

/// Places at which `replace` may begin to look, times the letters it then reads.
const MAX_WORK: usize = 1 << 26;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Letter(char),
    Any,
    Star,
}

#[derive(Debug, Clone)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern. The escape character is allowed in front of `*`, `?`, itself, `}` and `/` only.
    pub(super) fn parse(text: &str, escape: char) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            tokens.push(match letter {
                '*' if tokens.last() == Some(&Token::Star) => continue,
                '*' => Token::Star,
                '?' => Token::Any,
                _ if letter == escape => match letters.next() {
                    Some(escaped @ ('*' | '?' | '}' | '/')) => Token::Letter(escaped),
                    Some(escaped) if escaped == escape => Token::Letter(escaped),
                    Some(_) => return Err("only * ? } / and the escape character itself can be escaped"),
                    None => return Err("nothing follows the escape character"),
                },
                _ => Token::Letter(letter),
            });
            if tokens.len() > MAX_LETTERS {
                return Err("longer than 1024 letters");
            }
        }
        Ok(Self(tokens))
    }

    /// The end of the shortest or longest match at the start of `text`.
    pub(super) fn prefix(&self, text: &str, longest: bool) -> Option<usize> {
        let letters = text.char_indices().map(|(at, letter)| (at + letter.len_utf8(), letter));
        run(&self.0, letters, 0, longest).0
    }

    /// The start of the shortest or longest match at the end of `text`.
    pub(super) fn suffix(&self, text: &str, longest: bool) -> Option<usize> {
        let reversed: Vec<Token> = self.0.iter().rev().copied().collect();
        run(&reversed, text.char_indices().rev(), text.len(), longest).0
    }

    /// `text` with the first or every longest match replaced; `None` if the result or the work exceeds its limit.
    pub(super) fn replace(&self, text: &str, by: &str, every: bool, limit: usize) -> Option<String> {
        let mut result = String::new();
        let mut at = 0;
        let mut after_match = false;
        let mut work = 0;
        while let Some(rest) = text.get(at..) {
            let letters = rest.char_indices().map(|(at, letter)| (at + letter.len_utf8(), letter));
            let (end, read) = run(&self.0, letters, 0, true);
            work += read + 1;
            // An empty match right behind another one is none.
            let end = end.filter(|end| *end > 0 || !after_match);
            after_match = end.is_some_and(|end| end > 0);
            if let Some(end) = end {
                result.push_str(by);
                at += end;
                if !every {
                    result.push_str(text.get(at..)?);
                    return (result.len() <= limit).then_some(result);
                }
            }
            if end.is_none_or(|end| end == 0) {
                let Some(letter) = rest.chars().next() else { break };
                result.push(letter);
                at += letter.len_utf8();
            }
            if result.len() > limit || work > MAX_WORK {
                return None;
            }
        }
        (result.len() <= limit).then_some(result)
    }
}

/// Follows `tokens` through `letters`; answers with the offset behind the shortest or longest match and with the
/// number of positions looked at. `start` is the offset of an empty match.
fn run(
    tokens: &[Token],
    letters: impl Iterator<Item = (usize, char)>,
    start: usize,
    longest: bool,
) -> (Option<usize>, usize) {
    let mut positions = vec![false; tokens.len() + 1];
    positions[0] = true;
    close(tokens, &mut positions);
    let mut found = None;
    let mut work = 0;
    if positions[tokens.len()] {
        found = Some(start);
        if !longest {
            return (found, work);
        }
    }
    for (offset, letter) in letters {
        let mut next = vec![false; tokens.len() + 1];
        let mut alive = false;
        for (position, token) in tokens.iter().enumerate().filter(|(position, _)| positions[*position]) {
            work += 1;
            let (moved, to) = match token {
                Token::Letter(expected) => (*expected == letter, position + 1),
                Token::Any => (letter != '\n', position + 1),
                Token::Star => (letter != '\n', position),
            };
            next[to] |= moved;
            alive |= moved;
        }
        if !alive {
            break;
        }
        close(tokens, &mut next);
        positions = next;
        if positions[tokens.len()] {
            found = Some(offset);
            if !longest {
                break;
            }
        }
    }
    (found, work)
}

/// A star may also match nothing.
fn close(tokens: &[Token], positions: &mut [bool]) {
    for (position, token) in tokens.iter().enumerate() {
        if positions[position] && *token == Token::Star {
            positions[position + 1] = true;
        }
    }
}
