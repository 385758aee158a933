//! `printf`: the format, its directives, and which value goes to which of them.

use crate::error::Fault;
use crate::format::verb::{Flags, Form, named, put};
use crate::limits::Meter;
use crate::value::Value;

/// Go refuses a wider width or precision than this.
const MOST: i64 = 1_000_000;

/// Formats the values as the text asks.
pub(crate) fn printf(format: &str, values: &[Value], meter: &Meter) -> Result<String, Fault> {
    let mut printer = Printer { out: String::new(), values, next: 0, reordered: false, meter };
    let mut left = format;
    while let Some(at) = left.find('%') {
        printer.out.push_str(&left[..at]);
        let mut characters = Cursor(&left[at + 1..]);
        printer.directive(&mut characters)?;
        left = characters.0;
    }
    printer.out.push_str(left);
    printer.extra()?;
    meter.text(printer.out.len())?;
    Ok(printer.out)
}

/// What is left of the format.
struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        self.next_if(|_| true)
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let character = self.0.chars().next().filter(|character| wanted(*character))?;
        self.0 = &self.0[character.len_utf8()..];
        Some(character)
    }

    fn skip(&mut self, wanted: char) -> bool {
        self.next_if(|character| character == wanted).is_some()
    }
}

struct Printer<'a> {
    out: String,
    values: &'a [Value],
    next: usize,
    /// Whether `%[2]d` was used: then unused values are no mistake.
    reordered: bool,
    meter: &'a Meter,
}

/// A number in a directive: not there, there, or there and unusable.
enum Number {
    None,
    Some(i64),
    Bad,
}

impl Printer<'_> {
    /// What stands behind a `%`.
    fn directive(&mut self, left: &mut Cursor<'_>) -> Result<(), Fault> {
        let mut flags = Flags::default();
        while let Some(flag) = left.next_if(|flag| "+-# 0".contains(flag)) {
            match flag {
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
        }
        let mut index_is_good = self.index(left);
        match self.number(left) {
            Number::None => {}
            Number::Some(width) => {
                flags.minus |= width < 0;
                flags.width = usize::try_from(width.unsigned_abs()).ok();
            }
            Number::Bad => self.out.push_str("%!(BADWIDTH)"),
        }
        if left.skip('.') {
            index_is_good &= self.index(left);
            flags.precision = Some(0);
            match self.number(left) {
                Number::None => {}
                Number::Some(precision) => flags.precision = usize::try_from(precision).ok(),
                Number::Bad => {
                    flags.precision = None;
                    self.out.push_str("%!(BADPREC)");
                }
            }
        }
        index_is_good &= self.index(left);
        let Some(verb) = left.next() else {
            self.out.push_str("%!(NOVERB)");
            return Ok(());
        };
        self.meter.charge(flags.width.unwrap_or(0) + flags.precision.unwrap_or(0))?;
        match self.values.get(self.next) {
            _ if verb == '%' => self.out.push('%'),
            _ if !index_is_good => put(&mut self.out, format_args!("%!{verb}(BADINDEX)")),
            None => put(&mut self.out, format_args!("%!{verb}(MISSING)")),
            Some(value) => {
                self.next += 1;
                self.value(value, verb, flags)?;
            }
        }
        self.meter.fits(self.out.len())
    }

    fn value(&mut self, value: &Value, verb: char, mut flags: Flags) -> Result<(), Fault> {
        let go_syntax = verb == 'v' && flags.sharp;
        if verb == 'v' {
            flags.sharp = false;
            flags.plus = false;
        }
        Form { flags, verb, go_syntax, meter: self.meter }.write(&mut self.out, value, 0)
    }

    /// `[n]`: the next value is the n-th. Answers whether there is such a value, or no index at all.
    fn index(&mut self, left: &mut Cursor<'_>) -> bool {
        if !left.skip('[') {
            return true;
        }
        self.reordered = true;
        let mut text = String::new();
        while let Some(character) = left.next() {
            if character == ']' {
                break;
            }
            text.push(character);
        }
        match text.parse::<usize>() {
            Ok(number) if (1..=self.values.len()).contains(&number) => {
                self.next = number - 1;
                true
            }
            _ => false,
        }
    }

    /// Digits, or `*`: then the number is the next value.
    fn number(&mut self, left: &mut Cursor<'_>) -> Number {
        if left.skip('*') {
            let value = self.values.get(self.next);
            self.next = (self.next + 1).min(self.values.len());
            return match value {
                Some(Value::Int(value)) if value.abs() <= MOST => Number::Some(*value),
                _ => Number::Bad,
            };
        }
        let mut number = None;
        while let Some(digit) = left.next_if(|digit| digit.is_ascii_digit()) {
            let digit = i64::from(digit.to_digit(10).unwrap_or(0));
            number = Some((number.unwrap_or(0) * 10 + digit).min(MOST + 1));
        }
        match number {
            None => Number::None,
            Some(number) if number > MOST => Number::Bad,
            Some(number) => Number::Some(number),
        }
    }

    /// Values that no verb took.
    fn extra(&mut self) -> Result<(), Fault> {
        if self.reordered || self.next >= self.values.len() {
            return Ok(());
        }
        self.out.push_str("%!(EXTRA ");
        for (index, value) in self.values[self.next..].iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            named(&mut self.out, value, self.meter)?;
        }
        self.out.push(')');
        Ok(())
    }
}
