//! Numbers and quoted text as Go writes them.

use crate::parse::ast::Term;

/// Reads an integer as Go's `ParseInt(text, 0, 64)`: with a sign, a base by its prefix, and `_` between digits.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = magnitude(digits)?;
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Whether the text is an integer that only an unsigned type could hold, or none at all.
fn magnitude(digits: &str) -> Option<u64> {
    let lower = digits.to_ascii_lowercase();
    let (base, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if rest.starts_with(['+', '-']) || !underscores_fit(rest, base != 10) {
        return None;
    }
    u64::from_str_radix(&rest.replace('_', ""), base).ok()
}

/// `_` stands between two digits, or between a prefix and a digit.
fn underscores_fit(digits: &str, prefixed: bool) -> bool {
    let leading = digits.starts_with('_') && !prefixed;
    !leading && !digits.ends_with('_') && !digits.contains("__")
}

/// Reads a floating point number as Go's `ParseFloat` does.
pub(crate) fn float(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches(['+', '-']);
    if digits.len() + 1 < text.len() {
        return None;
    }
    if digits.starts_with("0x") || digits.starts_with("0X") {
        return hexadecimal_float(&digits[2..])
            .map(|value| if text.starts_with('-') { -value } else { value });
    }
    if digits.contains('_') {
        return None; // Go allows it only together with a base prefix
    }
    let value: f64 = text.parse().ok()?;
    let infinite_by_name = digits.starts_with(['i', 'I', 'n', 'N']);
    (value.is_finite() || infinite_by_name).then_some(value)
}

fn hexadecimal_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}").replace('_', "");
    // Beyond 13 digits the rounding would have to be done by hand; nobody writes that in a template.
    if digits.is_empty() || digits.len() > 13 || digits.starts_with(['+', '-']) {
        return None;
    }
    let mantissa = i64::from_str_radix(&digits, 16).ok()?;
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()? * 4)?;
    #[expect(clippy::cast_precision_loss, reason = "13 hexadecimal digits are 52 bits, which fit exactly")]
    let value = mantissa as f64 * 2f64.powi(shift);
    value.is_finite().then_some(value)
}

/// Reads a number of a template: an integer unless it is written like a float.
pub(crate) fn number(text: &str) -> Result<Term, String> {
    if text.ends_with('i') && float(&text[..text.len() - 1]).is_some() {
        return Err(format!("complex number {text} is not supported"));
    }
    if let Some(value) = integer(text) {
        return Ok(Term::Int(value));
    }
    let hexadecimal = text.to_ascii_lowercase().contains("0x") && !text.contains(['p', 'P']);
    if !hexadecimal
        && text.contains(['.', 'e', 'E', 'p', 'P'])
        && let Some(value) = float(text)
    {
        return Ok(Term::Float(value));
    }
    match magnitude(text.trim_start_matches(['+', '-'])) {
        Some(_) => Err(format!("{text} overflows int")),
        None => Err(format!("bad number syntax: {text}")),
    }
}

/// Reads a character constant, quotes included; its value is a number.
pub(crate) fn character(text: &str) -> Result<Term, String> {
    let bad = || format!("bad character constant {text}");
    let inner = text.get(1..text.len() - 1).filter(|inner| !inner.is_empty()).ok_or_else(bad)?;
    let mut left = inner;
    let value = match escape(&mut left, '\'').ok_or_else(bad)? {
        Piece::Character(character) => i64::from(u32::from(character)),
        Piece::Byte(byte) => i64::from(byte),
    };
    if left.is_empty() { Ok(Term::Int(value)) } else { Err(bad()) }
}

/// Reads quoted text, quotes included: interpreted between `"`, as it is between backquotes.
pub(crate) fn quoted(text: &str) -> Result<String, String> {
    let inner = &text[1..text.len() - 1];
    if text.starts_with('`') {
        return Ok(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut left = inner;
    while !left.is_empty() {
        match escape(&mut left, '"') {
            Some(Piece::Character(character)) => {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(Piece::Byte(byte)) => bytes.push(byte),
            None => return Err(format!("bad escape in {text}")),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("the bytes of {text} are not UTF-8 text"))
}

enum Piece {
    Character(char),
    Byte(u8),
}

/// Takes one character or escape off the front.
fn escape(left: &mut &str, quote: char) -> Option<Piece> {
    let mut characters = left.chars();
    let first = characters.next()?;
    if first == quote || first == '\n' {
        return None;
    }
    if first != '\\' {
        *left = characters.as_str();
        return Some(Piece::Character(first));
    }
    let kind = characters.next()?;
    *left = characters.as_str();
    let simple = match kind {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        '\'' | '"' if kind == quote => quote,
        'x' => return u8::try_from(digits(left, 2, 16)?).ok().map(Piece::Byte),
        'u' => return char::from_u32(digits(left, 4, 16)?).map(Piece::Character),
        'U' => return char::from_u32(digits(left, 8, 16)?).map(Piece::Character),
        '0'..='7' => {
            let rest = digits(left, 2, 8)?;
            return u8::try_from(kind.to_digit(8)? * 64 + rest).ok().map(Piece::Byte);
        }
        _ => return None,
    };
    Some(Piece::Character(simple))
}

fn digits(left: &mut &str, count: usize, base: u32) -> Option<u32> {
    let text = left.get(..count).filter(|text| text.chars().all(|digit| digit.is_digit(base)))?;
    *left = &left[count..];
    u32::from_str_radix(text, base).ok()
}
