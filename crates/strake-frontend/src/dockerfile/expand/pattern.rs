//! Shell patterns without bracket expressions: `?` is one letter, `*` any number of them.
//!
//! A pattern is matched by following all its possible positions through the text at once, so the work is the product
//! of both lengths and never more, whatever the pattern. Neither wildcard matches a line end.

/// Positions one substitution may look at: enough for a pattern of forty letters on a value of 100 KiB, and done
/// within a fraction of a second.
const MAX_WORK: usize = 1 << 22;

/// Why a match is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Work,
    Length,
}

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
        }
        Ok(Self(tokens))
    }

    /// The end of the shortest or longest match at the start of `text`.
    pub(super) fn prefix(&self, text: &str, longest: bool, work: &mut usize) -> Result<Option<usize>, Limit> {
        let letters = text.char_indices().map(|(at, letter)| (at + letter.len_utf8(), letter));
        run(&self.0, letters, 0, longest, work)
    }

    /// The start of the shortest or longest match at the end of `text`.
    pub(super) fn suffix(&self, text: &str, longest: bool, work: &mut usize) -> Result<Option<usize>, Limit> {
        let reversed: Vec<Token> = self.0.iter().rev().copied().collect();
        run(&reversed, text.char_indices().rev(), text.len(), longest, work)
    }

    /// `text` with the first or every longest match replaced.
    pub(super) fn replace(
        &self,
        text: &str,
        by: &str,
        every: bool,
        limit: usize,
        work: &mut usize,
    ) -> Result<String, Limit> {
        let mut result = String::new();
        let mut at = 0;
        let mut after_match = false;
        while let Some(rest) = text.get(at..) {
            // An empty match right behind another one is none.
            let end = self.prefix(rest, true, work)?.filter(|end| *end > 0 || !after_match);
            after_match = end.is_some_and(|end| end > 0);
            if let Some(end) = end {
                result.push_str(by);
                at += end;
                if !every {
                    result.push_str(text.get(at..).unwrap_or_default());
                    break;
                }
            }
            if end.is_none_or(|end| end == 0) {
                let Some(letter) = rest.chars().next() else { break };
                result.push(letter);
                at += letter.len_utf8();
            }
            if result.len() > limit {
                return Err(Limit::Length);
            }
        }
        if result.len() > limit { Err(Limit::Length) } else { Ok(result) }
    }
}

/// Follows `tokens` through `letters`; answers with the offset behind the shortest or longest match. `start` is the
/// offset of an empty match. Every position looked at is added to `work`.
fn run(
    tokens: &[Token],
    letters: impl Iterator<Item = (usize, char)>,
    start: usize,
    longest: bool,
    work: &mut usize,
) -> Result<Option<usize>, Limit> {
    let mut positions = vec![false; tokens.len() + 1];
    let mut next = positions.clone();
    positions[0] = true;
    close(tokens, &mut positions);
    let mut found = positions[tokens.len()].then_some(start);
    if found.is_some() && !longest {
        return Ok(found);
    }
    *work += tokens.len() + 1;
    for (offset, letter) in letters {
        next.fill(false);
        let mut alive = false;
        for (position, token) in tokens.iter().enumerate() {
            if !positions[position] {
                continue;
            }
            let (moved, to) = match token {
                Token::Letter(expected) => (*expected == letter, position + 1),
                Token::Any => (letter != '\n', position + 1),
                Token::Star => (letter != '\n', position),
            };
            next[to] |= moved;
            alive |= moved;
        }
        *work += tokens.len() + 1;
        if *work > MAX_WORK {
            return Err(Limit::Work);
        }
        if !alive {
            break;
        }
        close(tokens, &mut next);
        std::mem::swap(&mut positions, &mut next);
        if positions[tokens.len()] {
            found = Some(offset);
            if !longest {
                break;
            }
        }
    }
    Ok(found)
}

/// A star may also match nothing.
fn close(tokens: &[Token], positions: &mut [bool]) {
    for (position, token) in tokens.iter().enumerate() {
        if positions[position] && *token == Token::Star {
            positions[position + 1] = true;
        }
    }
}
