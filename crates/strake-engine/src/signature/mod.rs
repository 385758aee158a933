//! What a step is looked up by.
//!
//! A signature is the digest of a step's *parts*: named values that together are everything the result depends on.
//! Because the parts are kept beside the result, a miss can name the part that changed. An input contributes
//!
//! - as a base: its *canonical* signature. When a step was executed and its layer turned out equal (times that nobody chose aside) to
//!   one that an earlier step put on the same base, the earlier signature is the canonical one, and whatever stands
//!   on top keeps its own signature (cut-off);
//! - as an image: the digest of its configuration, so that recompressing or retagging changes nothing;
//! - as a source of files: the digest of the files selected (path, type, mode, owner, content, link target,
//!   extended attributes; never times), so that unrelated changes in the source change nothing;
//! - as a secret: only whether it is there; as a cache mount: only its id.
//!
//! Proxy settings and certificates are not parts: they are how this machine reaches the network.
//!
//! The encoding is versioned by its domain text. Whoever changes the parts of a step or their order changes the
//! domain; the golden tests fail otherwise.

mod parts;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strake_graph::{Encode, Encoder};
use strake_oci::{Digest, DigestError};

pub(crate) use parts::{StepInputs, parts_of};

const DOMAIN: &str = "strake step 1";
const RESULT_DOMAIN: &str = "strake result 1";

/// What a step is looked up by: a digest of what it really depends on and of what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(Digest);

impl Signature {
    /// The signature of a step with these parts.
    pub(crate) fn of(parts: &[Part]) -> Self {
        let mut encoder = Encoder::new(DOMAIN);
        encoder.list(parts.iter());
        Self(encoder.finish())
    }

    /// What names the result "this layer content on that base".
    pub(crate) fn result_key(base: Self, content: &Digest) -> Digest {
        let mut encoder = Encoder::new(RESULT_DOMAIN);
        encoder.field("base").digest(&base.0).field("content").digest(content);
        encoder.finish()
    }

    /// What stands for the content of a layer that the parts of its signature describe completely.
    pub(crate) fn described_content(self) -> Digest {
        let mut encoder = Encoder::new(RESULT_DOMAIN);
        encoder.field("described").digest(&self.0);
        encoder.finish()
    }

    /// The signature as a digest.
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl FromStr for Signature {
    type Err = DigestError;

    fn from_str(hex: &str) -> Result<Self, DigestError> {
        Digest::from_hex(hex).map(Self)
    }
}

/// One named value that a result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// What it is, in the user's words: `environment PATH`, `command`, `files`.
    pub(crate) name: String,
    /// The value, or a digest of it.
    pub(crate) value: String,
}

impl Part {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl Encode for Part {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.text(&self.name).text(&self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_golden() {
        let parts = [Part::new("kind", "run"), Part::new("command", "true")];
        assert_eq!(
            Signature::of(&parts).to_string(),
            "94c4a9f476337ff1ca77d8ffd58b534fd6bc08b30cb1291210d32772c9b072ff"
        );
    }

    #[test]
    fn a_value_cannot_slip_from_one_part_to_another() {
        let one = [Part::new("a", "bc")];
        let two = [Part::new("ab", "c")];
        assert_ne!(Signature::of(&one), Signature::of(&two));
        assert_ne!(Signature::of(&one), Signature::of(&[]));
    }
}
