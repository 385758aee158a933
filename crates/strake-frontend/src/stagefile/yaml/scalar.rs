/// A scalar: its text as it stands, and what it means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) value: Value,
    /// Whether it was written without quotes, `|`, `>` and tag.
    pub(crate) plain: bool,
}

/// What a scalar means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Only what does not fit into [`Value::Int`].
    Uint(u64),
    Float(f64),
    /// The text itself. Dates too.
    Text,
}

impl Scalar {
    pub(crate) fn plain(text: String) -> Self {
        Self { value: resolve(&text), text, plain: true }
    }

    pub(crate) fn quoted(text: String) -> Self {
        Self { value: Value::Text, text, plain: false }
    }

    /// The text if that is what it means.
    pub(crate) fn as_text(&self) -> Option<&str> {
        (self.value == Value::Text).then_some(&self.text)
    }

    /// Whether it is the `<<` that merges another map in.
    pub(crate) fn is_merge(&self) -> bool {
        self.plain && self.text == "<<"
    }

    pub(crate) fn describe(&self) -> String {
        match self.value {
            Value::Null => "nothing".into(),
            Value::Bool(_) => format!("the truth value `{}`", self.text),
            Value::Int(_) | Value::Uint(_) | Value::Float(_) => format!("the number `{}`", self.text),
            Value::Text => "a text".into(),
        }
    }
}

/// The meaning of a plain scalar, as Go's `yaml.v2` finds it.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text).map_or(Value::Text, Value::Float),
        b'+' | b'-' | b'0'..=b'9' => number(&text.replace('_', "")),
        _ => Value::Text,
    }
}

fn number(text: &str) -> Value {
    if let Some(value) = integer(text) {
        return match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => Value::Int(value),
            (_, Ok(value)) => Value::Uint(value),
            // As a decimal number it may still be one of the less exact kind.
            _ => float(text).map_or(Value::Text, Value::Float),
        };
    }
    float(text).map_or(Value::Text, Value::Float)
}

/// `0x` is hexadecimal, `0b` binary, any other `0` in front octal. A sign before an unsigned kind is fine.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (radix, digits) = if let Some(digits) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        (16, digits)
    } else if let Some(digits) = digits.strip_prefix("0b") {
        (2, digits)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    // The conversion would take a second sign.
    let digits = (!digits.starts_with(['+', '-'])).then_some(digits)?;
    i128::from_str_radix(digits, radix).ok().map(|value| sign * value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, within the range of a double.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let fine = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let fine = fine && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    let value = fine.then(|| text.parse::<f64>().ok())??;
    value.is_finite().then_some(value)
}
