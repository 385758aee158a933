//! Go's layouts of time: the moment `Mon Jan 2 15:04:05 MST 2006` written as one wants to see others.

use std::fmt::Write;

use jiff::Zoned;

/// A part of a layout that stands for a part of a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    LongMonth,
    Month,
    NumberMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    SpaceDay,
    ZeroDay,
    ZeroYearDay,
    SpaceYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    Year,
    Year2,
    Noon,
    SmallNoon,
    ZoneName,
    Offset(Offset),
    /// So many digits of a second, but not more than nine; zeros at the end are left out if it trims.
    Fraction {
        digits: usize,
        trims: bool,
    },
}

/// How an offset from UTC is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Offset {
    /// UTC itself is `Z`.
    pub(super) zulu: bool,
    pub(super) colons: bool,
    pub(super) minutes: bool,
    pub(super) seconds: bool,
}

const WORDS: &[(&str, Part)] = &[
    ("January", Part::LongMonth),
    ("Monday", Part::LongWeekday),
    ("MST", Part::ZoneName),
    ("2006", Part::Year),
    ("002", Part::ZeroYearDay),
    ("__2", Part::SpaceYearDay),
    ("01", Part::ZeroMonth),
    ("02", Part::ZeroDay),
    ("03", Part::ZeroHour12),
    ("04", Part::ZeroMinute),
    ("05", Part::ZeroSecond),
    ("06", Part::Year2),
    ("15", Part::Hour),
    ("_2", Part::SpaceDay),
    ("PM", Part::Noon),
    ("pm", Part::SmallNoon),
    ("1", Part::NumberMonth),
    ("2", Part::Day),
    ("3", Part::Hour12),
    ("4", Part::Minute),
    ("5", Part::Second),
];

const OFFSETS: &[(&str, Offset)] = &[
    ("070000", Offset { zulu: false, colons: false, minutes: true, seconds: true }),
    ("07:00:00", Offset { zulu: false, colons: true, minutes: true, seconds: true }),
    ("0700", Offset { zulu: false, colons: false, minutes: true, seconds: false }),
    ("07:00", Offset { zulu: false, colons: true, minutes: true, seconds: false }),
    ("07", Offset { zulu: false, colons: false, minutes: false, seconds: false }),
];

/// The text before the first part, the part, and what is left behind it.
pub(super) fn next_part(layout: &str) -> (&str, Option<Part>, &str) {
    for (at, _) in layout.char_indices() {
        if let Some((part, length)) = part_at(&layout[at..]) {
            return (&layout[..at], Some(part), &layout[at + length..]);
        }
    }
    (layout, None, "")
}

fn part_at(text: &str) -> Option<(Part, usize)> {
    let small_follows = |length: usize| text[length..].starts_with(|next: char| next.is_ascii_lowercase());
    if text.starts_with("_2006") {
        return None; // a bar and a year
    }
    if let Some((word, part)) = WORDS.iter().find(|(word, _)| text.starts_with(word)) {
        return Some((*part, word.len()));
    }
    if text.starts_with("Jan") && !small_follows(3) {
        return Some((Part::Month, 3));
    }
    if text.starts_with("Mon") && !small_follows(3) {
        return Some((Part::Weekday, 3));
    }
    if let Some(rest) = text.strip_prefix(['-', 'Z']) {
        let (word, offset) = OFFSETS.iter().find(|(word, _)| rest.starts_with(word))?;
        return Some((Part::Offset(Offset { zulu: text.starts_with('Z'), ..*offset }), word.len() + 1));
    }
    let digits = text.strip_prefix(['.', ','])?;
    let kind = digits.chars().next().filter(|kind| matches!(kind, '0' | '9'))?;
    let count = digits.find(|digit| digit != kind).unwrap_or(digits.len());
    let digit_follows = digits[count..].starts_with(|next: char| next.is_ascii_digit());
    (!digit_follows).then_some((Part::Fraction { digits: count, trims: kind == '9' }, count + 1))
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Writes a moment as the layout says.
pub(crate) fn format(layout: &str, moment: &Zoned) -> String {
    let mut out = String::new();
    let mut left = layout;
    while !left.is_empty() {
        let (before, part, rest) = next_part(left);
        out.push_str(before);
        if let Some(part) = part {
            let mark = left[before.len()..].chars().next().unwrap_or('.');
            write_part(&mut out, part, moment, mark).expect("writing to a string does not fail");
        }
        left = rest;
    }
    out
}

fn write_part(out: &mut String, part: Part, moment: &Zoned, mark: char) -> std::fmt::Result {
    let month = MONTHS[usize::try_from(moment.month() - 1).unwrap_or(0)];
    let weekday = WEEKDAYS[usize::try_from(moment.weekday().to_sunday_zero_offset()).unwrap_or(0)];
    let hour12 = match moment.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let afternoon = moment.hour() >= 12;
    match part {
        Part::LongMonth => out.push_str(month),
        Part::Month => out.push_str(&month[..3]),
        Part::NumberMonth => write!(out, "{}", moment.month())?,
        Part::ZeroMonth => write!(out, "{:02}", moment.month())?,
        Part::LongWeekday => out.push_str(weekday),
        Part::Weekday => out.push_str(&weekday[..3]),
        Part::Day => write!(out, "{}", moment.day())?,
        Part::SpaceDay => write!(out, "{:2}", moment.day())?,
        Part::ZeroDay => write!(out, "{:02}", moment.day())?,
        Part::ZeroYearDay => write!(out, "{:03}", moment.day_of_year())?,
        Part::SpaceYearDay => write!(out, "{:3}", moment.day_of_year())?,
        Part::Hour => write!(out, "{:02}", moment.hour())?,
        Part::Hour12 => write!(out, "{hour12}")?,
        Part::ZeroHour12 => write!(out, "{hour12:02}")?,
        Part::Minute => write!(out, "{}", moment.minute())?,
        Part::ZeroMinute => write!(out, "{:02}", moment.minute())?,
        Part::Second => write!(out, "{}", moment.second())?,
        Part::ZeroSecond => write!(out, "{:02}", moment.second())?,
        Part::Year => write!(out, "{:04}", moment.year())?,
        Part::Year2 => write!(out, "{:02}", moment.year().rem_euclid(100))?,
        Part::Noon => out.push_str(if afternoon { "PM" } else { "AM" }),
        Part::SmallNoon => out.push_str(if afternoon { "pm" } else { "am" }),
        Part::ZoneName => write_zone_name(out, moment)?,
        Part::Offset(offset) => write_offset(out, offset, moment.offset().seconds())?,
        Part::Fraction { digits, trims } => {
            let nanoseconds = format!("{:09}", moment.subsec_nanosecond());
            let text = &nanoseconds[..digits.min(9)];
            let text = if trims { text.trim_end_matches('0') } else { text };
            if !text.is_empty() {
                write!(out, "{mark}{text}")?;
            }
        }
    }
    Ok(())
}

/// The abbreviation of the zone, or the offset where the zone has no name.
fn write_zone_name(out: &mut String, moment: &Zoned) -> std::fmt::Result {
    let zone = moment.time_zone();
    if zone.iana_name().is_none() {
        let offset = Offset { zulu: false, colons: false, minutes: true, seconds: false };
        return write_offset(out, offset, moment.offset().seconds());
    }
    out.push_str(zone.to_offset_info(moment.timestamp()).abbreviation());
    Ok(())
}

fn write_offset(out: &mut String, offset: Offset, seconds: i32) -> std::fmt::Result {
    if offset.zulu && seconds == 0 {
        out.push('Z');
        return Ok(());
    }
    let colon = if offset.colons { ":" } else { "" };
    let size = seconds.abs();
    write!(out, "{}{:02}", if seconds < 0 { '-' } else { '+' }, size / 3600)?;
    if offset.minutes {
        write!(out, "{colon}{:02}", size / 60 % 60)?;
    }
    if offset.seconds {
        write!(out, "{colon}{:02}", size % 60)?;
    }
    Ok(())
}
