use std::fmt;
use std::str::FromStr;

use strake_oci::{ChainId, Compression, DiffId, Digest};

/// Names a committed layer directory of this store; means nothing in another store.
///
/// A layer that was unpacked from an image has a name that follows from its chain ID, so that two processes
/// unpacking it arrive at the same place. A layer that was built has a random name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(String);

impl LayerId {
    /// The name of the unpacked form of the top layer of `chain`.
    pub fn of_chain(chain: &ChainId) -> Self {
        Self(format!("sha256-{}", chain.0.hex()))
    }

    /// A new name that nobody else has: 128 random bits.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn random() -> std::io::Result<Self> {
        crate::layout::random_name().map(Self)
    }

    /// The name as it is written in the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not the name of a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a layer id")]
pub struct LayerIdError(String);

impl FromStr for LayerId {
    type Err = LayerIdError;

    fn from_str(text: &str) -> Result<Self, LayerIdError> {
        let (digits, length) = match text.strip_prefix("sha256-") {
            Some(digits) => (digits, 64),
            None => (text, 32),
        };
        let hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() == length && digits.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LayerIdError(text.to_owned()))
        }
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the index knows of a layer directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// The digest of its tar, once somebody has made or verified one.
    pub diff_id: Option<DiffId>,
    /// The size of that tar in bytes.
    pub tar_size: Option<u64>,
    /// The digest of its content without the times that nobody chose ([`crate::tar::content_digest`]), once computed.
    pub content: Option<Digest>,
    /// Bytes it takes on disk, once somebody has counted.
    pub size_on_disk: Option<u64>,
    /// The boot during which it was written, while it is not yet known to be on the disk for good.
    pub boot_id: Option<String>,
    /// When it was committed, in nanoseconds since 1970.
    pub created_ns: i64,
    /// When it was last used, in nanoseconds since 1970.
    pub used_ns: i64,
    /// The blobs known to hold its tar, in the order in which they became known; not all need be local.
    pub blobs: Vec<LayerBlob>,
}

/// A blob that holds the tar of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// The digest of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How the tar is compressed in it.
    pub compression: Compression,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_what_it_prints() {
        let built = LayerId::random().unwrap();
        assert_eq!(built.as_str().parse(), Ok(built.clone()));
        let unpacked = LayerId::of_chain(&ChainId(Digest::of(b"")));
        assert_eq!(unpacked.as_str().parse(), Ok(unpacked.clone()));
        for text in ["", "..", "sha256-", "../../etc", "sha256-e3b0", &built.as_str().to_uppercase()[..31]] {
            assert!(text.parse::<LayerId>().is_err(), "{text}");
        }
    }
}
