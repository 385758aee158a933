//! Text between quotes, as Go writes constants.

use std::fmt::Write;

/// A text between double quotes.
pub(crate) fn quote(text: &str) -> String {
    quoted(text, '"', is_printable)
}

/// The same with everything outside of ASCII escaped.
pub(crate) fn quote_ascii(text: &str) -> String {
    quoted(text, '"', |character| character.is_ascii() && is_printable(character))
}

/// A character between single quotes; with `plus` set as `%+q` does, in ASCII.
pub(crate) fn quote_character(character: char, ascii: Ascii) -> String {
    let printable = match ascii {
        Ascii::Only => |character: char| character.is_ascii() && is_printable(character),
        Ascii::Any => is_printable,
    };
    quoted(character.encode_utf8(&mut [0; 4]), '\'', printable)
}

/// Whether characters outside of ASCII are escaped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ascii {
    Only,
    Any,
}

fn quoted(text: &str, quote: char, printable: fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            _ if character == quote => out.extend(['\\', quote]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            _ if printable(character) => out.push(character),
            _ => escape(&mut out, u32::from(character)),
        }
    }
    out.push(quote);
    out
}

fn escape(out: &mut String, code: u32) {
    let written = match code {
        0..0x20 | 0x7f => write!(out, "\\x{code:02x}"),
        0x20..0x1_0000 => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
    written.expect("writing to a string does not fail");
}

/// Whether a character is shown as it is: letters, marks, numbers, signs, and of the blanks only the ordinary one.
pub(crate) fn is_printable(character: char) -> bool {
    if character.is_whitespace() {
        return character == ' ';
    }
    // After another character the standard library escapes only what is not printable, and no marks.
    ['a', character].iter().collect::<String>().escape_debug().nth(1) == Some(character)
        || matches!(character, '"' | '\'' | '\\')
}
