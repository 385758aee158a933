//! Texts as BuildKit writes them into an image's history: Go's formats of lists, strings and durations.

use std::fmt::Write as _;

use strake_oci::HealthConfig;

/// `["a" "b"]`: a list of quoted strings (`%q`).
pub(super) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `[a b]`: a list of strings as they are (`%v`).
pub(super) fn plain_list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(" "))
}

/// A string in double quotes with Go's escapes.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if letter.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(letter));
            }
            _ if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A health check as Go prints the structure (`%+v`).
pub(super) fn health(health: &HealthConfig) -> String {
    let HealthConfig { test, interval, timeout, start_period, start_interval, retries } = health;
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{retries}}}",
        plain_list(test),
        duration(*interval),
        duration(*timeout),
        duration(*start_period),
        duration(*start_interval),
    )
}

/// Nanoseconds as Go prints a duration: `1m30s`, `1.5s`, `500ms`, `0s`.
fn duration(nanoseconds: u64) -> String {
    let fraction = |unit: u64, name: &str| {
        let mut digits = format!("{:0width$}", nanoseconds % unit, width = unit.ilog10() as usize);
        digits.truncate(digits.trim_end_matches('0').len());
        let point = if digits.is_empty() { "" } else { "." };
        (nanoseconds / unit, format!("{point}{digits}{name}"))
    };
    let (unit, name) = match nanoseconds {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, rest) = fraction(unit, name);
    if unit < 1_000_000_000 || whole < 60 {
        return format!("{whole}{rest}");
    }
    let (minutes, seconds) = (whole / 60, whole % 60);
    if minutes < 60 {
        return format!("{minutes}m{seconds}{rest}");
    }
    format!("{}h{}m{seconds}{rest}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_gos() {
        assert_eq!(quoted_list(&["a b".into(), "\"\\\n\u{1}\u{e9}".into()]), r#"["a b" "\"\\\n\x01é"]"#);
        for (nanoseconds, expect) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (90_250_000_000, "1m30.25s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
        ] {
            assert_eq!(duration(nanoseconds), expect);
        }
    }
}
