//! How much the store may take.

use strake_store::room::RoomLimit;

use crate::failure::Failure;

/// Without a setting: a volume that is fuller than this makes builds fail before long.
const DEFAULT: RoomLimit = RoomLimit::Volume(70);

/// Reads the setting: `off`, a percentage of the volume, or a number of bytes with a unit.
pub(super) fn limit(text: Option<&str>) -> Result<Option<RoomLimit>, Failure> {
    match text {
        None => Ok(Some(DEFAULT)),
        Some("off") => Ok(None),
        Some(text) if text.ends_with('%') => text.parse().map(Some).map_err(|_| wrong(text)),
        Some(text) => {
            crate::args::bytes(text).map(|bytes| Some(RoomLimit::Bytes(bytes))).map_err(|_| wrong(text))
        }
    }
}

fn wrong(text: &str) -> Failure {
    Failure::input(format!(
        "auto-prune {text:?}: want off, a percentage of the volume such as 70%, or a size such as 50GB"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_a_percentage_or_a_size() {
        assert_eq!(limit(None).unwrap(), Some(RoomLimit::Volume(70)));
        assert_eq!(limit(Some("off")).unwrap(), None);
        assert_eq!(limit(Some("80%")).unwrap(), Some(RoomLimit::Volume(80)));
        assert_eq!(limit(Some("1.5GiB")).unwrap(), Some(RoomLimit::Bytes(3 << 29)));
        for text in ["on", "100%", "-1%", "many"] {
            assert!(limit(Some(text)).unwrap_err().message.contains("auto-prune"), "{text}");
        }
    }
}
