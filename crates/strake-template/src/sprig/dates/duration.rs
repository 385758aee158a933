//! Durations as Go writes them: `1h30m`, `-1.5s`.

const SECOND: i64 = 1_000_000_000;

/// Nanoseconds of a duration; `None` if the text is none, or longer than 292 years.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (negative, mut left) = match text.strip_prefix('-') {
        Some(left) => (true, left),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if left == "0" {
        return Some(0);
    }
    if left.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !left.is_empty() {
        let number_length =
            left.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|length| *length > 0)?;
        let (number, rest) = left.split_at(number_length);
        let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit_length);
        total = total.checked_add(amount(number, unit_size(unit)?)?)?;
        left = rest;
    }
    Some(if negative { -total } else { total })
}

fn unit_size(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

fn amount(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = i128::from(whole) * i128::from(unit);
    let mut scale = i128::from(unit) * 1_000_000_000;
    for digit in fraction.bytes() {
        scale /= 10;
        total += scale * i128::from(digit - b'0') / 1_000_000_000;
    }
    i64::try_from(total).ok()
}

/// A whole number of seconds, as `1h0m5s`.
pub(super) fn seconds_text(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let size = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// How many of the largest unit that fits more than once or once and a bit; the sign is dropped.
pub(super) fn largest_unit(nanoseconds: i64) -> String {
    let size = nanoseconds.unsigned_abs();
    const HOUR: u64 = 3_600_000_000_000;
    let units = [
        (HOUR * 24 * 365, "y"),
        (HOUR * 24 * 30, "mo"),
        (HOUR * 24, "d"),
        (HOUR, "h"),
        (HOUR / 60, "m"),
        (HOUR / 3600, "s"),
    ];
    match units.iter().find(|(unit, _)| size > *unit) {
        Some((unit, name)) => format!("{}{name}", size / unit),
        None => "0s".into(),
    }
}
