//! One value, written as a verb and its flags ask.
//!
//! A verb that does not fit its value is no error: Go prints `%!d(string=hi)`, and so does this.

use std::fmt::Write;

use crate::error::Fault;
use crate::format::quote::{Ascii, is_printable};
use crate::format::{
    exponent_float, fixed_float, general_float, quote, quote_ascii, quote_character, step, time_text,
};
use crate::limits::Meter;
use crate::value::Value;

/// What stands between the `%` and the verb.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

/// Appends a value as `%v`.
pub(crate) fn print(out: &mut String, value: &Value, meter: &Meter) -> Result<(), Fault> {
    Form { flags: Flags::default(), verb: 'v', go_syntax: false, meter }.write(out, value, 0)
}

/// How one value, and what it contains, is to be written.
#[derive(Clone, Copy)]
pub(super) struct Form<'a> {
    pub(super) flags: Flags,
    pub(super) verb: char,
    /// `%#v`
    pub(super) go_syntax: bool,
    pub(super) meter: &'a Meter,
}

impl Form<'_> {
    pub(super) fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Fault> {
        step(depth, out, self.meter)?;
        if self.verb == 'T' && depth == 0 {
            self.pad(out, value.type_name());
            return Ok(());
        }
        match value {
            Value::Null => self.null(out, depth),
            Value::Bool(value) if matches!(self.verb, 'v' | 't') => {
                self.pad(out, if *value { "true" } else { "false" })
            }
            Value::Int(value) => return self.int(out, *value),
            Value::Float(value) => return self.float(out, *value),
            Value::String(text) => return self.text(out, text),
            Value::List(list) => {
                out.push_str(if self.go_syntax { "[]interface {}{" } else { "[" });
                for (index, value) in list.iter().enumerate() {
                    if index > 0 {
                        out.push_str(if self.go_syntax { ", " } else { " " });
                    }
                    self.write(out, value, depth + 1)?;
                }
                out.push(if self.go_syntax { '}' } else { ']' });
            }
            Value::Map(map) => {
                out.push_str(if self.go_syntax { "map[string]interface {}{" } else { "map[" });
                for (index, (key, value)) in map.entries().iter().enumerate() {
                    if index > 0 {
                        out.push_str(if self.go_syntax { ", " } else { " " });
                    }
                    self.text(out, key)?;
                    out.push(':');
                    self.write(out, value, depth + 1)?;
                }
                out.push(if self.go_syntax { '}' } else { ']' });
            }
            Value::Time(time) => return self.text(out, &time_text(time)),
            Value::Object(object) => return self.text(out, object.text()),
            Value::Bool(_) => return self.bad(out, value),
        }
        Ok(())
    }

    /// The verb does not fit the value.
    fn bad(&self, out: &mut String, value: &Value) -> Result<(), Fault> {
        put(out, format_args!("%!{}(", self.verb));
        named(out, value, self.meter)?;
        out.push(')');
        Ok(())
    }

    fn null(&self, out: &mut String, depth: usize) {
        match depth {
            0 if self.verb == 'v' => self.pad(out, "<nil>"),
            0 => put(out, format_args!("%!{}(<nil>)", self.verb)),
            _ if self.go_syntax => out.push_str("interface {}(nil)"),
            _ => out.push_str("<nil>"),
        }
    }

    /// Fills up to the width with blanks, or with zeros on the left.
    fn pad(&self, out: &mut String, text: &str) {
        let missing = self.flags.width.unwrap_or(0).saturating_sub(text.chars().count());
        let fill = if self.flags.zero && !self.flags.minus { "0" } else { " " };
        if self.flags.minus {
            out.push_str(text);
        }
        out.push_str(&fill.repeat(missing));
        if !self.flags.minus {
            out.push_str(text);
        }
    }

    fn pad_with_blanks(mut self, out: &mut String, text: &str) {
        self.flags.zero = false;
        self.pad(out, text);
    }

    fn text(&self, out: &mut String, text: &str) -> Result<(), Fault> {
        let cut = || match self.flags.precision.and_then(|most| text.char_indices().nth(most)) {
            Some((end, _)) => &text[..end],
            None => text,
        };
        match self.verb {
            'v' if self.go_syntax => self.pad(out, &quote(text)),
            'v' | 's' => self.pad(out, cut()),
            'q' if self.flags.sharp && can_stand_in_backquotes(cut()) => {
                self.pad(out, &format!("`{}`", cut()))
            }
            'q' if self.flags.plus => self.pad(out, &quote_ascii(cut())),
            'q' => self.pad(out, &quote(cut())),
            'x' | 'X' => self.hexadecimal(out, text.as_bytes()),
            _ => return self.bad(out, &Value::from(text)),
        }
        Ok(())
    }

    fn hexadecimal(&self, out: &mut String, bytes: &[u8]) {
        let bytes = &bytes[..self.flags.precision.unwrap_or(bytes.len()).min(bytes.len())];
        let prefix = match self.verb {
            _ if !self.flags.sharp => "",
            'x' => "0x",
            _ => "0X",
        };
        let mut text = String::new();
        for (index, byte) in bytes.iter().enumerate() {
            if index > 0 && self.flags.space {
                text.push(' ');
            }
            if index == 0 || self.flags.space {
                text.push_str(prefix);
            }
            match self.verb {
                'x' => put(&mut text, format_args!("{byte:02x}")),
                _ => put(&mut text, format_args!("{byte:02X}")),
            }
        }
        self.pad(out, &text);
    }

    fn int(&self, out: &mut String, value: i64) -> Result<(), Fault> {
        let character =
            u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
        let size = value.unsigned_abs();
        match self.verb {
            'v' | 'd' => self.digits(out, value, size.to_string(), ""),
            'b' => self.digits(out, value, format!("{size:b}"), "0b"),
            'o' => self.digits(out, value, format!("{size:o}"), "0"),
            'O' => Form { flags: Flags { sharp: true, ..self.flags }, ..*self }.digits(
                out,
                value,
                format!("{size:o}"),
                "0o",
            ),
            'x' => self.digits(out, value, format!("{size:x}"), "0x"),
            'X' => self.digits(out, value, format!("{size:X}"), "0X"),
            'c' => self.pad(out, character.encode_utf8(&mut [0; 4])),
            'q' if self.flags.plus => self.pad(out, &quote_character(character, Ascii::Only)),
            'q' => self.pad(out, &quote_character(character, Ascii::Any)),
            'U' => self.code_point(out, value),
            _ => return self.bad(out, &Value::Int(value)),
        }
        Ok(())
    }

    fn code_point(&self, out: &mut String, value: i64) {
        let least = self.flags.precision.unwrap_or(0).max(4);
        let digits = format!("{value:X}");
        let mut text = format!("U+{}{digits}", "0".repeat(least.saturating_sub(digits.len())));
        if let (true, Some(character)) =
            (self.flags.sharp, u32::try_from(value).ok().and_then(char::from_u32))
            && is_printable(character)
        {
            put(&mut text, format_args!(" '{character}'"));
        }
        self.pad_with_blanks(out, &text);
    }

    /// An integer of which the digits are known already.
    fn digits(&self, out: &mut String, value: i64, digits: String, prefix: &str) {
        let sign = match value {
            ..0 => "-",
            _ if self.flags.plus => "+",
            _ if self.flags.space => " ",
            _ => "",
        };
        let least = match (self.flags.precision, self.flags.width) {
            (Some(0), _) if value == 0 => return self.pad_with_blanks(out, ""),
            (Some(precision), _) => precision,
            (None, Some(width)) if self.flags.zero && !self.flags.minus => width - sign.len().min(width),
            _ => 0,
        };
        let mut text = "0".repeat(least.saturating_sub(digits.len()));
        text.push_str(&digits);
        let prefix = match prefix {
            _ if !self.flags.sharp => "",
            "0" if text.starts_with('0') => "",
            prefix => prefix,
        };
        self.pad_with_blanks(out, &format!("{sign}{prefix}{text}"));
    }

    fn float(&self, out: &mut String, value: f64) -> Result<(), Fault> {
        let precision = self.flags.precision;
        let mut text = match self.verb {
            'v' | 'g' | 'G' => general_float(value, precision),
            'e' | 'E' => exponent_float(value, Some(precision.unwrap_or(6))),
            'f' | 'F' => fixed_float(value, precision.unwrap_or(6)),
            _ => return self.bad(out, &Value::Float(value)),
        };
        if matches!(self.verb, 'G' | 'E') && value.is_finite() {
            text = text.to_uppercase();
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let sign = match negative {
            true => "-",
            // An infinity always has its sign, a NaN never unless asked for.
            false if self.flags.plus || (value.is_infinite() && !self.flags.space) => "+",
            false if self.flags.space => " ",
            false => "",
        };
        let width = self.flags.width.unwrap_or(0);
        if value.is_finite() && self.flags.zero && !self.flags.minus && !sign.is_empty() && width > text.len()
        {
            let zeros = "0".repeat(width.saturating_sub(sign.len() + digits.len()));
            out.push_str(&format!("{sign}{zeros}{digits}"));
        } else if value.is_finite() {
            self.pad(out, &format!("{sign}{digits}"));
        } else {
            self.pad_with_blanks(out, &format!("{sign}{digits}"));
        }
        Ok(())
    }
}

fn can_stand_in_backquotes(text: &str) -> bool {
    text.chars().all(|character| {
        character != '`' && character != '\u{feff}' && (character == '\t' || !character.is_control())
    })
}

pub(super) fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

/// `type=value`
pub(super) fn named(out: &mut String, value: &Value, meter: &Meter) -> Result<(), Fault> {
    if !matches!(value, Value::Null) {
        put(out, format_args!("{}=", value.type_name()));
    }
    print(out, value, meter)
}
