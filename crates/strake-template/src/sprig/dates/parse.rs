//! Text into a moment, by one of Go's layouts.

use jiff::Zoned;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::sprig::dates::layout::{MONTHS, Offset, Part, WEEKDAYS, next_part};

/// Go's zero time, which a text that cannot be read becomes.
pub(super) fn zero_time() -> Zoned {
    Date::constant(1, 1, 1)
        .to_zoned(TimeZone::UTC)
        .expect("the first day of year 1 is within the range of dates")
}

/// Reads a moment; without an offset in the text it is in UTC.
pub(super) fn parse(layout: &str, text: &str) -> Result<Zoned, String> {
    let mut found = Found { year: 0, month: 1, day: 1, ..Found::default() };
    let mut left = text;
    let mut layout_left = layout;
    let problem = |what: &str| format!("parse time {text:?} as {layout:?}: {what}");
    loop {
        let (before, part, rest) = next_part(layout_left);
        left =
            left.strip_prefix(before).ok_or_else(|| problem(&format!("expected {before:?} at {left:?}")))?;
        let Some(part) = part else { break };
        found.take(part, &mut left).ok_or_else(|| problem(&format!("cannot read {left:?}")))?;
        layout_left = rest;
        let seconds = matches!(part, Part::Second | Part::ZeroSecond);
        if seconds && !matches!(next_part(rest), ("", Some(Part::Fraction { .. }), _)) {
            found.take_fraction(&mut left); // a fraction may follow though the layout has none
        }
    }
    if !left.is_empty() {
        return Err(problem(&format!("extra text {left:?}")));
    }
    found.moment().ok_or_else(|| problem("there is no such moment"))
}

#[derive(Debug, Default)]
struct Found {
    year: i16,
    month: i8,
    day: i8,
    day_of_year: Option<i16>,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    afternoon: Option<bool>,
    /// Seconds east of UTC.
    offset: i32,
}

impl Found {
    fn take(&mut self, part: Part, left: &mut &str) -> Option<()> {
        match part {
            Part::Year => self.year = digits(left, 4, 4)?,
            Part::Year2 => {
                let year: i16 = digits(left, 2, 2)?;
                self.year = if year >= 69 { 1900 + year } else { 2000 + year };
            }
            Part::LongMonth => self.month = name(left, &MONTHS, usize::MAX)?,
            Part::Month => self.month = name(left, &MONTHS, 3)?,
            Part::LongWeekday => drop(name(left, &WEEKDAYS, usize::MAX)?),
            Part::Weekday => drop(name(left, &WEEKDAYS, 3)?),
            Part::NumberMonth => self.month = digits(left, 1, 2)?,
            Part::ZeroMonth => self.month = digits(left, 2, 2)?,
            Part::Day => self.day = digits(left, 1, 2)?,
            Part::SpaceDay => {
                *left = left.strip_prefix(' ').unwrap_or(left);
                self.day = digits(left, 1, 2)?;
            }
            Part::ZeroDay => self.day = digits(left, 2, 2)?,
            Part::ZeroYearDay => self.day_of_year = Some(digits(left, 3, 3)?),
            Part::SpaceYearDay => {
                *left = left.trim_start_matches(' ');
                self.day_of_year = Some(digits(left, 1, 3)?);
            }
            Part::Hour | Part::Hour12 => self.hour = digits(left, 1, 2)?,
            Part::ZeroHour12 => self.hour = digits(left, 2, 2)?,
            Part::Minute => self.minute = digits(left, 1, 2)?,
            Part::ZeroMinute => self.minute = digits(left, 2, 2)?,
            Part::Second => self.second = digits(left, 1, 2)?,
            Part::ZeroSecond => self.second = digits(left, 2, 2)?,
            Part::Noon => self.afternoon = Some(either(left, "AM", "PM")?),
            Part::SmallNoon => self.afternoon = Some(either(left, "am", "pm")?),
            Part::ZoneName => zone_name(left)?,
            Part::Offset(offset) => self.offset = take_offset(offset, left)?,
            Part::Fraction { trims: true, .. } => self.take_fraction(left),
            Part::Fraction { digits: count, .. } => {
                let before = left.len();
                self.take_fraction(left);
                (before - left.len() == count + 1).then_some(())?;
            }
        }
        Some(())
    }

    /// `.5` of a second, if it stands there.
    fn take_fraction(&mut self, left: &mut &str) {
        let Some(rest) = left.strip_prefix(['.', ',']) else { return };
        let count = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
        if count > 0 {
            let digits = format!("{:0<9}", &rest[..count]);
            self.nanosecond = digits[..9].parse().unwrap_or(0);
            *left = &rest[count..];
        }
    }

    fn moment(&self) -> Option<Zoned> {
        let hour = match self.afternoon {
            Some(_) if self.hour > 12 => return None,
            Some(afternoon) => self.hour % 12 + if afternoon { 12 } else { 0 },
            None => self.hour,
        };
        let date = match self.day_of_year {
            Some(day) => Date::new(self.year, 1, 1).ok()?.with().day_of_year(day).build().ok()?,
            None => Date::new(self.year, self.month, self.day).ok()?,
        };
        let time = jiff::civil::Time::new(hour, self.minute, self.second, self.nanosecond).ok()?;
        let offset = jiff::tz::Offset::from_seconds(self.offset).ok()?;
        let zone = if self.offset == 0 { TimeZone::UTC } else { TimeZone::fixed(offset) };
        DateTime::from_parts(date, time).to_zoned(zone).ok()
    }
}

/// Digits, at least and at most so many.
fn digits<T: std::str::FromStr>(left: &mut &str, least: usize, most: usize) -> Option<T> {
    let count = left.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let number = left[..count].parse().ok().filter(|_| count >= least)?;
    *left = &left[count..];
    Some(number)
}

/// One of the names, or its beginning, whatever its case. The first is 1.
fn name(left: &mut &str, names: &[&str], length: usize) -> Option<i8> {
    for (number, name) in (1..).zip(names) {
        let name = &name[..length.min(name.len())];
        if left.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            *left = &left[name.len()..];
            return Some(number);
        }
    }
    None
}

/// Whether it is the second of two words.
fn either(left: &mut &str, first: &str, second: &str) -> Option<bool> {
    for (word, is_second) in [(first, false), (second, true)] {
        if let Some(rest) = left.strip_prefix(word) {
            *left = rest;
            return Some(is_second);
        }
    }
    None
}

/// Three or four capital letters. Only UTC is known; of any other Go too knows the name, but no offset.
fn zone_name(left: &mut &str) -> Option<()> {
    let count = left.bytes().take(5).take_while(u8::is_ascii_uppercase).count();
    *left = left.get(count..).filter(|_| (3..=4).contains(&count))?;
    Some(())
}

fn take_offset(offset: Offset, left: &mut &str) -> Option<i32> {
    if offset.zulu
        && let Some(rest) = left.strip_prefix('Z')
    {
        *left = rest;
        return Some(0);
    }
    let negative = either(left, "+", "-")?;
    let colon = |left: &mut &str| {
        if offset.colons {
            *left = left.strip_prefix(':')?;
        }
        Some(())
    };
    let mut seconds: i32 = digits::<i32>(left, 2, 2)? * 3600;
    if offset.minutes {
        colon(left)?;
        seconds += digits::<i32>(left, 2, 2)? * 60;
    }
    if offset.seconds {
        colon(left)?;
        seconds += digits::<i32>(left, 2, 2)?;
    }
    Some(if negative { -seconds } else { seconds })
}
