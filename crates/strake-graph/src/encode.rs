//! The canonical encoding that signatures are digests of.
//!
//! Every value is framed: a tag byte, the length of what follows as eight little-endian bytes, and the bytes. No
//! two different sequences of calls give the same bytes, so `("ab", "c")` and `("a", "bc")` can never meet. The
//! encoding is versioned by its domain; changing how anything is encoded means a new domain text and new golden
//! tests.

use strake_oci::{Digest, Hasher};

const TAG_DOMAIN: u8 = 0;
const TAG_FIELD: u8 = 1;
const TAG_BYTES: u8 = 2;
const TAG_NUMBER: u8 = 3;
const TAG_LIST: u8 = 4;
const TAG_DIGEST: u8 = 5;

/// Collects values into a digest.
#[derive(Debug, Clone)]
pub struct Encoder(Hasher);

/// A value with a canonical encoding.
pub trait Encode {
    /// Adds the value.
    fn encode(&self, encoder: &mut Encoder);
}

impl Encoder {
    /// An encoder for one kind of value, for example `strake step 1`.
    pub fn new(domain: &str) -> Self {
        let mut encoder = Self(Hasher::new());
        encoder.frame(TAG_DOMAIN, domain.as_bytes());
        encoder
    }

    fn frame(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update(&[tag]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Names what comes next.
    pub fn field(&mut self, name: &str) -> &mut Self {
        self.frame(TAG_FIELD, name.as_bytes());
        self
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.frame(TAG_BYTES, bytes);
        self
    }

    /// Adds text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.frame(TAG_NUMBER, &number.to_le_bytes());
        self
    }

    /// Adds a digest.
    pub fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.frame(TAG_DIGEST, digest.as_bytes());
        self
    }

    /// Adds a list: its length, then each element.
    pub fn list<'a, T: Encode + ?Sized + 'a>(
        &mut self,
        items: impl ExactSizeIterator<Item = &'a T>,
    ) -> &mut Self {
        self.frame(TAG_LIST, &(items.len() as u64).to_le_bytes());
        items.for_each(|item| item.encode(self));
        self
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

impl Encode for str {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.text(self);
    }
}

impl Encode for String {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.text(self);
    }
}

impl Encode for Digest {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.digest(self);
    }
}

impl Encode for (String, String) {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.text(&self.0).text(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(add: impl FnOnce(&mut Encoder)) -> Digest {
        let mut encoder = Encoder::new("test 1");
        add(&mut encoder);
        encoder.finish()
    }

    #[test]
    fn no_two_sequences_meet() {
        let digests = [
            digest_of(|e| {
                e.text("ab").text("c");
            }),
            digest_of(|e| {
                e.text("a").text("bc");
            }),
            digest_of(|e| {
                e.field("ab").text("c");
            }),
            digest_of(|e| {
                e.list(["ab", "c"].into_iter());
            }),
            digest_of(|e| {
                e.list(["ab"].into_iter()).list(["c"].into_iter());
            }),
            digest_of(|e| {
                e.list(["ab"].into_iter()).text("c");
            }),
        ];
        let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
    }

    #[test]
    fn the_encoding_is_golden() {
        let digest = digest_of(|e| {
            e.field("name").text("value").number(7).digest(&Digest::of(b"")).list(["a", "b"].into_iter());
        });
        assert_eq!(
            digest.to_string(),
            "sha256:68ea309f5590bb62f262fcc3ca1da91bc9c69ee699328c4f549227483ce089ac"
        );
    }
}
