//! What others say, made fit to be shown.

/// The most characters of somebody else's text that a message carries.
const MAX_CHARS: usize = 300;

/// One line without control characters, invisible direction changes, or more than 300 characters.
///
/// What a server or another machine says may hold escape sequences that repaint the terminal, or bidirectional overrides
/// that make one host look like another.
pub fn one_line(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let words = text.split(|c: char| c.is_whitespace() || hidden(c)).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_overrides_do_not_survive() {
        assert_eq!(one_line("a\u{1b}[31mred\n\u{7}b\u{202e}c\u{9b}2J"), "a [31mred b c 2J");
        assert_eq!(one_line(&"x".repeat(1000)).chars().count(), MAX_CHARS + 1);
        assert_eq!(one_line("  \r\n "), "");
    }
}
