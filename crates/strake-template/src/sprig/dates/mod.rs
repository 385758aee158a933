//! Moments and durations. The present moment is what the caller says it is, and the local time zone is UTC.

mod duration;
pub(crate) mod layout;
mod parse;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::limits::Meter;
use crate::value::{Time, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("now", 0, |call| Ok(now(call)?.into())),
    Function::of("date", 2, |call| in_zone(call, call.text(0)?, 1, "Local")),
    Function::of("dateInZone", 3, |call| in_zone(call, call.text(0)?, 1, call.text(2)?)),
    Function::of("date_in_zone", 3, |call| in_zone(call, call.text(0)?, 1, call.text(2)?)),
    Function::of("htmlDate", 1, |call| in_zone(call, "2006-01-02", 0, "Local")),
    Function::of("htmlDateInZone", 2, |call| in_zone(call, "2006-01-02", 0, call.text(1)?)),
    Function::of("dateModify", 2, |call| Ok(modify(call).unwrap_or_else(|_| call.any(1).clone()))),
    Function::of("date_modify", 2, |call| Ok(modify(call).unwrap_or_else(|_| call.any(1).clone()))),
    Function::of("mustDateModify", 2, modify),
    Function::of("must_date_modify", 2, modify),
    Function::of("toDate", 2, |call| {
        let moment = parse::parse(call.text(0)?, call.text(1)?);
        Ok(moment.unwrap_or_else(|_| parse::zero_time()).into())
    }),
    Function::of("mustToDate", 2, |call| {
        parse::parse(call.text(0)?, call.text(1)?).map(Value::from).map_err(Fault::new)
    }),
    Function::of("unixEpoch", 1, |call| call.make(moment(call, 0)?.timestamp().as_second().to_string())),
    Function::of("ago", 1, ago),
    Function::of("duration", 1, duration_of_seconds),
    Function::of("durationRound", 1, rounded),
];

fn now(call: &Call<'_>) -> Result<Zoned, Fault> {
    let Some(now) = call.host.now else {
        return Err(Fault::new("the time is not to be had here")
            .hint("what depends on the time of the build is not the same twice"));
    };
    let timestamp = Timestamp::try_from(now).map_err(|error| Fault::new(error.to_string()))?;
    Ok(timestamp.to_zoned(TimeZone::UTC))
}

fn moment<'a>(call: &'a Call<'_>, index: usize) -> Result<&'a Zoned, Fault> {
    match call.any(index) {
        Value::Time(time) => Ok(&time.0),
        other => Err(Fault::new(format!("expected time.Time, got {}", other.type_name()))
            .hint("toDate makes a moment of a text")),
    }
}

/// A moment, or a number of seconds since 1970; for anything else the present.
fn moment_or_seconds(call: &Call<'_>, index: usize) -> Result<Zoned, Fault> {
    match call.any(index) {
        Value::Time(time) => Ok(Zoned::clone(&time.0)),
        Value::Int(seconds) => {
            let timestamp =
                Timestamp::from_second(*seconds).map_err(|error| Fault::new(error.to_string()))?;
            Ok(timestamp.to_zoned(TimeZone::UTC))
        }
        _ => now(call),
    }
}

fn in_zone(call: &Call<'_>, format: &str, index: usize, zone: &str) -> Answer {
    let zone = match zone {
        "" | "Local" | "UTC" => TimeZone::UTC,
        // The data that comes with the program, so that every machine answers the same.
        name => TimeZoneDatabase::bundled().get(name).map_err(|error| Fault::new(error.to_string()))?,
    };
    let moment = moment_or_seconds(call, index)?.with_time_zone(zone);
    call.meter.product(format.len(), 10)?; // the longest month for the shortest sign
    call.make(layout::format(format, &moment))
}

fn modify(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    let moment = moment(call, 1)?;
    let nanoseconds = duration::parse(text)
        .ok_or_else(|| Fault::new(format!("{text:?} is not a duration")).hint("as 1h30m or -48h"))?;
    let moved = moment.checked_add(SignedDuration::from_nanos(nanoseconds));
    moved.map(Value::from).map_err(|error| Fault::new(error.to_string()))
}

fn ago(call: &Call<'_>) -> Answer {
    let then = moment_or_seconds(call, 0)?.timestamp();
    let passed = now(call)?.timestamp().duration_since(then);
    let half =
        i64::from(passed.subsec_nanos() >= 500_000_000) - i64::from(passed.subsec_nanos() <= -500_000_000);
    call.make(duration::seconds_text(passed.as_secs() + half))
}

fn duration_of_seconds(call: &Call<'_>) -> Answer {
    let seconds = match call.any(0) {
        Value::Int(seconds) => *seconds,
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    };
    call.make(duration::seconds_text(seconds))
}

fn rounded(call: &Call<'_>) -> Answer {
    let nanoseconds = match call.any(0) {
        Value::String(text) => duration::parse(text).unwrap_or(0),
        Value::Int(nanoseconds) => *nanoseconds,
        Value::Time(time) => {
            let passed = now(call)?.timestamp().duration_since(time.0.timestamp());
            i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX)
        }
        _ => 0,
    };
    call.make(duration::largest_unit(nanoseconds))
}

/// A method of a moment, as far as templates use them.
pub(crate) fn method(time: &Time, name: &str, arguments: &[Value], meter: &Meter) -> Answer {
    let moment = &time.0;
    let answer = match (name, arguments) {
        ("Unix", []) => moment.timestamp().as_second().into(),
        ("Year", []) => i64::from(moment.year()).into(),
        ("Month", []) => layout::format("January", moment).into(),
        ("Day", []) => i64::from(moment.day()).into(),
        ("Hour", []) => i64::from(moment.hour()).into(),
        ("Minute", []) => i64::from(moment.minute()).into(),
        ("Second", []) => i64::from(moment.second()).into(),
        ("Weekday", []) => layout::format("Monday", moment).into(),
        ("YearDay", []) => i64::from(moment.day_of_year()).into(),
        ("UTC", []) => moment.with_time_zone(TimeZone::UTC).into(),
        ("Format", [Value::String(format)]) => {
            meter.product(format.len(), 10)?;
            layout::format(format, moment).into()
        }
        _ => {
            let fault =
                Fault::new(format!("can't evaluate field {name} in type time.Time with these arguments"));
            return Err(fault
                .hint("it has Day, Format, Hour, Minute, Month, Second, UTC, Unix, Weekday, Year, YearDay"));
        }
    };
    Ok(answer)
}
