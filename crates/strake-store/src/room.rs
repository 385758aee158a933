//! When the store takes too much of its volume, and how much of it then goes (reference stage-cache §15.7).

use std::fmt;
use std::str::FromStr;

use crate::gc;
use crate::{Store, StoreError};

/// How much the store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomLimit {
    /// No more than this percentage of its volume may be used, by whomever. Then things go until 5 less are, but the
    /// store keeps a tenth of the volume: where others fill it, an empty store would not help.
    Volume(u8),
    /// Layers and blobs may have so many bytes. Then things go until a fourteenth is free.
    Bytes(u64),
}

/// What makes a text no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("want a percentage of the volume from 1% to 99%, or a number of bytes")]
pub struct RoomLimitError;

impl FromStr for RoomLimit {
    type Err = RoomLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 1..=99) => Ok(Self::Volume(percent)),
                _ => Err(RoomLimitError),
            },
            None => text.parse().map(Self::Bytes).map_err(|_| RoomLimitError),
        }
    }
}

impl fmt::Display for RoomLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// How full things are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The volume that the store is on, as far as this user may fill it.
    pub volume: u64,
    /// What of it is used, by whomever.
    pub used: u64,
}

impl Room {
    /// Of the volume that a store is on.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn of(store: &Store) -> Result<Self, StoreError> {
        let root = store.root();
        let found =
            rustix::fs::statvfs(root).map_err(|error| StoreError::io("measure", root)(error.into()))?;
        let used = found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize);
        Ok(Self { volume: used.saturating_add(found.f_bavail.saturating_mul(found.f_frsize)), used })
    }

    /// How many percent are used, rounded up.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let percent = (u128::from(self.used) * 100).div_ceil(u128::from(self.volume.max(1)));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }

    /// How many bytes of layers and blobs a store that has `store` of them is to keep; nothing if there is room enough.
    #[must_use]
    pub fn to_keep(&self, limit: RoomLimit, store: u64) -> Option<u64> {
        let part = |bytes: u64, of: u64, all: u64| {
            u64::try_from(u128::from(bytes) * u128::from(of) / u128::from(all)).unwrap_or(u64::MAX)
        };
        let keep = match limit {
            RoomLimit::Bytes(bytes) => (store > bytes).then(|| part(bytes, 65, 70))?,
            RoomLimit::Volume(percent) => {
                let percent = u64::from(percent);
                (self.used > part(self.volume, percent, 100)).then_some(())?;
                let excess = self.used - part(self.volume, percent.saturating_sub(5), 100);
                store.saturating_sub(excess).max(self.volume / 10)
            }
        };
        (keep < store).then_some(keep)
    }
}

/// Bytes on disk of all layers and blobs of a store.
///
/// # Errors
/// When the index cannot be read or written.
pub fn stored(store: &Store) -> Result<u64, StoreError> {
    let usage = gc::usage(store)?;
    let layers: u64 = usage.layers.iter().map(|layer| layer.bytes).sum();
    let blobs: u64 = usage.blobs.iter().map(|blob| blob.bytes).sum();
    Ok(layers + blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_enough_and_no_more() {
        let keep =
            |limit: &str, used, store| Room { volume: 1_000, used }.to_keep(limit.parse().unwrap(), store);
        assert_eq!(keep("70%", 700, 600), None);
        assert_eq!(keep("70%", 720, 600), Some(530), "down to 65 %");
        assert_eq!(keep("70%", 990, 350), Some(100), "others fill the volume");
        assert_eq!(keep("70%", 990, 90), None);
        assert_eq!(keep("700", 10, 700), None);
        assert_eq!(keep("700", 10, 701), Some(650));
        assert_eq!(keep("0", 10, 1), Some(0));
        assert_eq!(keep("3%", 40, 200), Some(160));
        assert_eq!(Room { volume: 0, used: 0 }.percent(), 0);
        assert_eq!(Room { volume: 1_000, used: 701 }.percent(), 71);
    }

    #[test]
    fn limits() {
        for text in ["70%", "1%", "99%", "0", "123"] {
            assert_eq!(text.parse::<RoomLimit>().unwrap().to_string(), text);
        }
        for text in ["", "%", "0%", "100%", "-1", "x", "70 %"] {
            assert_eq!(text.parse::<RoomLimit>(), Err(RoomLimitError), "{text}");
        }
    }
}
