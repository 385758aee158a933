use serde::{Deserialize, Serialize};
use strake_oci::Digest;
use strake_store::LayerId;

use crate::signature::{Part, Signature};

/// What is known of a step that was executed.
///
/// The stored form is JSON with a version; a reader that does not know the version treats the record as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheRecord {
    version: u32,
    /// The signature that the result is known by: the step's own, or that of an earlier step with an equal result.
    pub(crate) canonical: Signature,
    /// The canonical signature of the base.
    pub(crate) base: Option<Signature>,
    /// The whole stack, the step's own layer last.
    #[serde(with = "layer_names")]
    pub(crate) layers: Vec<LayerId>,
    /// The digest of the step's own layer without the times that nobody chose.
    pub(crate) content: Option<Digest>,
    /// What the signature is made of.
    pub(crate) parts: Vec<Part>,
    /// When it was built, seconds since the Unix epoch.
    pub(crate) built: u64,
    /// How long it took, in milliseconds.
    pub(crate) millis: u64,
    /// The signature of the step it stands on, when that has a record too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) below: Option<Signature>,
    /// Where the result comes from when another machine made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) foreign: Option<Foreign>,
}

/// A result that another machine made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Foreign {
    /// The latest time that its files have, when that was limited (`SOURCE_DATE_EPOCH`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<i64>,
    /// The key that it was signed with, when that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed_by: Option<String>,
}

impl CacheRecord {
    const VERSION: u32 = 1;

    pub(crate) fn new(canonical: Signature, base: Option<Signature>, parts: Vec<Part>) -> Self {
        Self {
            version: Self::VERSION,
            canonical,
            base,
            layers: Vec::new(),
            content: None,
            parts,
            built: 0,
            millis: 0,
            below: None,
            foreign: None,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has only string keys")
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        (record.version == Self::VERSION).then_some(record)
    }
}

/// Layers are written by name; a name that is none makes the record unreadable, and so a miss.
mod layer_names {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use strake_store::LayerId;

    pub(super) fn serialize<S: Serializer>(layers: &[LayerId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(layers.iter().map(LayerId::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LayerId>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_absent() {
        let record = CacheRecord::new(Signature::of(&[]), None, vec![Part::new("a", "b")]);
        let bytes = record.to_bytes();
        assert_eq!(CacheRecord::from_bytes(&bytes), Some(record));
        let newer = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
        assert_eq!(CacheRecord::from_bytes(newer.as_bytes()), None);
        assert_eq!(CacheRecord::from_bytes(b"{"), None);
    }
}
