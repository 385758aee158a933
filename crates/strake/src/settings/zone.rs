//! The local time zone, as the C library finds it (tzset(3)).

use std::path::Path;

use jiff::tz::TimeZone;

use super::Outside;

/// No file of a zone is larger; in bytes.
const ZONE_MAX: u64 = 64 << 10;

/// `TZ`, else the machine's own, else UTC: a zone that is wrong must not stop anything.
pub(super) fn local(outside: &Outside) -> TimeZone {
    let named = outside.raw("TZ").map(|value| value.to_string_lossy().into_owned());
    let zone = match &named {
        None => from_file(&outside.etc("localtime")),
        Some(name) => named_zone(name.strip_prefix(':').unwrap_or(name)),
    };
    zone.unwrap_or(TimeZone::UTC)
}

fn named_zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() {
        return None;
    }
    // A name is a path below the directory of zones; anything else with its syntax is a rule.
    let is_below = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let path = if is_below { Path::new("/usr/share/zoneinfo").join(name) } else { name.into() };
    from_file(&path).or_else(|| TimeZone::posix(name).ok())
}

fn from_file(path: &Path) -> Option<TimeZone> {
    let size = path.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let bytes = (size <= ZONE_MAX).then(|| std::fs::read(path).ok()).flatten()?;
    TimeZone::tzif("local", &bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon(variable: Option<&str>) -> String {
        let variables = variable.map(|value| ("TZ".into(), value.into()));
        let outside = Outside::new(variables, "/nowhere".into(), 0);
        let noon = jiff::Timestamp::from_second(1_540_900_800).unwrap();
        noon.to_zoned(local(&outside)).strftime("%H %z").to_string()
    }

    #[test]
    fn zones_are_names_files_or_rules() {
        assert_eq!(noon(None), "12 +0000");
        assert_eq!(noon(Some("MSK-3")), "15 +0300");
        assert_eq!(noon(Some("<+0530>-5:30")), "17 +0530");
        for wrong in ["", "nonsense", "../../etc/passwd", "/dev/zero", "/etc/passwd"] {
            assert_eq!(noon(Some(wrong)), "12 +0000", "{wrong}");
        }
    }
}
