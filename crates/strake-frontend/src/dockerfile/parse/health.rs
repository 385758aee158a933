//! `HEALTHCHECK`.

use strake_oci::HealthConfig;

use crate::Diagnostic;
use crate::dockerfile::ast::{CommandLine, Word};
use crate::dockerfile::parse::Request;
use crate::dockerfile::parse::flags::Flags;
use crate::dockerfile::words;

pub(super) fn parse(request: &Request<'_>, flags: &mut Flags<'_>) -> Result<HealthConfig, Diagnostic> {
    let mut duration = |name| flags.one(name).map(|word| duration(&word)).transpose();
    let interval = duration("interval")?;
    let timeout = duration("timeout")?;
    let start_period = duration("start-period")?;
    let start_interval = duration("start-interval")?;
    let retries = flags.one("retries").map(|word| retries(&word)).transpose()?;
    let (kind, command) = words::split_keyword(request.arguments);
    if kind.eq_ignore_ascii_case("NONE") {
        if !command.is_empty() {
            let message = "HEALTHCHECK NONE takes no arguments";
            return Err(Diagnostic::error("too-many-arguments", request.span_of(command), message));
        }
        return Ok(HealthConfig { test: vec!["NONE".into()], ..HealthConfig::default() });
    }
    if kind.is_empty() {
        return Err(request.missing("CMD with a command, or NONE"));
    }
    if !kind.eq_ignore_ascii_case("CMD") {
        let message = format!("`{kind}` is not a kind of health check");
        return Err(Diagnostic::error("invalid-healthcheck", request.span_of(kind), message)
            .hint("write HEALTHCHECK CMD command, or HEALTHCHECK NONE"));
    }
    let test = match request.command_line(command)? {
        CommandLine::Exec(arguments) if !arguments.is_empty() => {
            std::iter::once("CMD".to_owned()).chain(arguments).collect()
        }
        CommandLine::Shell(text) if !text.is_empty() => vec!["CMD-SHELL".into(), text],
        _ => return Err(request.missing("a command behind CMD")),
    };
    Ok(HealthConfig {
        test,
        interval: interval.unwrap_or(0),
        timeout: timeout.unwrap_or(0),
        start_period: start_period.unwrap_or(0),
        start_interval: start_interval.unwrap_or(0),
        retries: retries.unwrap_or(0),
    })
}

fn retries(word: &Word) -> Result<u64, Diagnostic> {
    let parsed = word.text.parse::<i32>().ok().and_then(|retries| u64::try_from(retries).ok());
    parsed.ok_or_else(|| {
        let message = format!("`{}` is not a number of retries", word.text);
        Diagnostic::error("invalid-flag-value", word.span, message).hint("give a whole number, 0 or more")
    })
}

/// Nanoseconds; zero means the default.
fn duration(word: &Word) -> Result<u64, Diagnostic> {
    let invalid = |message: String| {
        Diagnostic::error("invalid-duration", word.span, message).hint("for example 30s, 1m30s, 500ms")
    };
    match parse_duration(&word.text) {
        None => Err(invalid(format!("`{}` is not a duration", word.text))),
        Some(1..1_000_000) => Err(invalid(format!("`{}` is shorter than a millisecond", word.text))),
        Some(nanoseconds) => Ok(nanoseconds),
    }
}

/// A duration as Go writes it: `1h15m30.5s`, `0`. Negative ones are refused.
fn parse_duration(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let number =
            rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(rest.len());
        let (number, unit_on) = rest.split_at(number);
        let unit =
            unit_on.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(unit_on.len());
        let (unit, next) = unit_on.split_at(unit);
        total = total.checked_add(quantity(number, unit)?)?;
        rest = next;
    }
    // Go's durations are signed.
    (!text.is_empty() && total <= i64::MAX.cast_unsigned()).then_some(total)
}

fn quantity(number: &str, unit: &str) -> Option<u64> {
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut digit_unit = unit;
    for digit in fraction.bytes() {
        digit_unit /= 10;
        total = total.checked_add(u64::from(digit - b'0') * digit_unit)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expect) in [
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1h0m0.25s", Some(3_600_250_000_000)),
            ("100us", Some(100_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("+1s", Some(1_000_000_000)),
            ("", None),
            ("1", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("1x", None),
            ("1s2", None),
            ("1..5s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expect, "{text}");
        }
    }
}
