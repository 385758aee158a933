//! Floating point numbers in decimal, as Go's `strconv` writes them.

/// `-1.5e+06`, with so many digits after the point, or as few as tell the number from its neighbours.
pub(crate) fn exponent_float(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    let text = match precision {
        Some(precision) => {
            let exact = precision.min(MOST_DIGITS);
            let text = format!("{value:.exact$e}");
            let at = text.find('e').unwrap_or(text.len());
            format!("{}{}{}", &text[..at], "0".repeat(precision - exact), &text[at..])
        }
        None => format!("{value:e}"),
    };
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `-1500000.00`, with so many digits after the point.
pub(crate) fn fixed_float(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    let exact = precision.min(MOST_DIGITS);
    let text = format!("{value:.exact$}");
    format!("{text}{}", "0".repeat(precision - exact))
}

/// The shorter of both, as `%g`: with an exponent where that is below -4 or not below the number of digits.
pub(crate) fn general_float(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    let digits = precision.map(|precision| precision.max(1));
    let text = match digits {
        Some(digits) => {
            let digits = (digits - 1).min(MOST_DIGITS);
            format!("{value:.digits$e}")
        }
        None => format!("{value:e}"),
    };
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let mantissa = match mantissa.contains('.') {
        true => mantissa.trim_end_matches('0').trim_end_matches('.'),
        false => mantissa,
    };
    let significant = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let bound = match digits {
        None => SHORTEST_BOUND,
        Some(digits) if digits > significant && exponent < length(significant) => length(significant),
        Some(digits) => length(digits),
    };
    if exponent < -4 || exponent >= bound {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let after = usize::try_from(length(significant) - 1 - exponent).unwrap_or(0);
    // The digits are settled, so reading them back and printing that many after the point cannot round again.
    let settled: f64 = text.parse().unwrap_or(value);
    format!("{settled:.after$}")
}

/// As few digits as tell the number from its neighbours, with an exponent only where it is below `1e-6` or from `1e21` on:
/// how JSON has it.
pub(crate) fn shortest(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = exponent_float(value, None);
        return text.replace("e-0", "e-");
    }
    format!("{value}")
}

/// More digits than this a 64-bit number does not have, neither before nor after the point.
const MOST_DIGITS: usize = 1100;

/// From this exponent on the shortest form is written with it, whatever the number of its digits.
const SHORTEST_BOUND: i64 = 6;

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn not_finite(value: f64) -> String {
    let text = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    };
    text.into()
}
