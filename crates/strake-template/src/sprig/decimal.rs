//! Fractions in decimal, so that `addf 0.1 0.2` is `0.3`.
//!
//! A float is taken as the shortest decimal that means it. What does not fit 38 digits is calculated as the float it is.

/// `digits · 10^exponent`
#[derive(Debug, Clone, Copy)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

/// Digits after the point of a quotient, as Go's usual library for decimals has it.
const QUOTIENT_DIGITS: i32 = 16;

pub(super) fn add(a: f64, b: f64) -> f64 {
    exactly(a, b, |a, b| {
        let (a, b) = aligned(a, b)?;
        Some(Decimal { digits: a.digits.checked_add(b.digits)?, exponent: a.exponent })
    })
    .unwrap_or(a + b)
}

pub(super) fn sub(a: f64, b: f64) -> f64 {
    add(a, -b)
}

pub(super) fn mul(a: f64, b: f64) -> f64 {
    exactly(a, b, |a, b| {
        Some(Decimal {
            digits: a.digits.checked_mul(b.digits)?,
            exponent: a.exponent.checked_add(b.exponent)?,
        })
    })
    .unwrap_or(a * b)
}

/// The quotient, rounded to 16 digits after the point; half of the last one goes away from zero.
pub(super) fn div(a: f64, b: f64) -> f64 {
    exactly(a, b, |a, b| {
        let shift = QUOTIENT_DIGITS + a.exponent - b.exponent;
        let dividend = if shift < 0 { a.digits } else { scaled(a.digits, shift)? };
        let divisor = if shift < 0 { scaled(b.digits, -shift)? } else { b.digits };
        let quotient = dividend.checked_div(divisor)?;
        let rest = dividend.checked_rem(divisor)?;
        let further = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
        let away = if (dividend < 0) == (divisor < 0) { 1 } else { -1 };
        let digits = if further && rest != 0 { quotient + away } else { quotient };
        Some(Decimal { digits, exponent: -QUOTIENT_DIGITS })
    })
    .unwrap_or(a / b)
}

fn exactly(a: f64, b: f64, calculate: impl Fn(Decimal, Decimal) -> Option<Decimal>) -> Option<f64> {
    let result = calculate(read(a)?, read(b)?)?;
    format!("{}e{}", result.digits, result.exponent).parse().ok()
}

fn read(value: f64) -> Option<Decimal> {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let places = i32::try_from(fraction.len()).ok()?;
    Some(Decimal { digits: format!("{whole}{fraction}").parse().ok()?, exponent: exponent - places })
}

fn aligned(a: Decimal, b: Decimal) -> Option<(Decimal, Decimal)> {
    let exponent = a.exponent.min(b.exponent);
    let at =
        |value: Decimal| Some(Decimal { digits: scaled(value.digits, value.exponent - exponent)?, exponent });
    Some((at(a)?, at(b)?))
}

fn scaled(digits: i128, places: i32) -> Option<i128> {
    if digits == 0 {
        return Some(0);
    }
    digits.checked_mul(10i128.checked_pow(u32::try_from(places).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_decimals_have_no_rest() {
        assert_eq!(add(0.1, 0.2), 0.3);
        assert_eq!(sub(0.3, 0.1), 0.2);
        assert_eq!(mul(1.1, 1.1), 1.21);
        assert_eq!(div(1.0, 3.0), 0.333_333_333_333_333_3);
        assert_eq!(div(-2.0, 3.0), -0.666_666_666_666_666_7);
    }

    #[test]
    fn what_does_not_fit_is_still_calculated() {
        assert_eq!(mul(1e300, 1e-300), 1.0);
        assert_eq!(add(1e300, 1.0), 1e300);
        assert!(mul(1e300, 1e300).is_infinite());
        assert!(add(f64::NAN, 1.0).is_nan());
    }
}
