//! Who wrote what is found in a registry: manifests are signed with Ed25519 keys (RFC 8032).
//!
//! The seal (the word *signature* means something else here) is an annotation of the manifest or index itself, over its
//! bytes without that annotation; so it covers the configuration, every layer and every record by digest, costs no
//! request, and survives copying between registries. Keys are the files that `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use strake_oci::{Digest, ImageIndex, ImageManifest};

/// `ed25519 KEY-ID BASE64`.
pub(crate) const ANNOTATION: &str = "dev.strake.signed";

/// What stands before a public Ed25519 key in the form of RFC 8410.
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key that what is published is signed with.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public().id()).finish()
    }
}

/// A key that seals are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey([u8; 32]);

/// Why a file is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the armour that is expected.
    #[error("it is no {0} in PEM form")]
    Pem(&'static str),
    /// A key of another kind.
    #[error("it is no Ed25519 key; make one with `openssl genpkey -algorithm ed25519`")]
    Kind,
}

/// Why a document is not to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("it is not signed")]
    Unsigned,
    #[error("it is signed by a key that is not trusted")]
    Foreign,
    #[error("it was changed after it was signed")]
    Wrong,
}

/// A document that can carry a seal.
pub(crate) trait Signed: Clone {
    fn annotations(&mut self) -> &mut BTreeMap<String, String>;
    fn bytes(&self) -> Vec<u8>;
}

impl Signed for ImageManifest {
    fn annotations(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.annotations
    }

    fn bytes(&self) -> Vec<u8> {
        self.to_bytes()
    }
}

impl Signed for ImageIndex {
    fn annotations(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.annotations
    }

    fn bytes(&self) -> Vec<u8> {
        self.to_bytes()
    }
}

impl SigningKey {
    /// Reads a private key: PKCS #8 in PEM form.
    ///
    /// # Errors
    /// When it is none, or of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem(text, "PRIVATE KEY").ok_or(KeyError::Pem("private key"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Kind)?;
        Ok(Self { pair: Arc::new(pair) })
    }

    /// The key that checks what this one signed.
    pub fn public(&self) -> TrustedKey {
        let bytes = self.pair.public_key().as_ref();
        TrustedKey(bytes.try_into().expect("an Ed25519 key has 32 bytes"))
    }

    /// Signs a document, in place of whoever signed it before.
    pub(crate) fn sign(&self, document: &mut impl Signed) {
        document.annotations().remove(ANNOTATION);
        let seal = STANDARD.encode(self.pair.sign(&document.bytes()));
        let text = format!("ed25519 {} {seal}", self.public().id());
        document.annotations().insert(ANNOTATION.to_owned(), text);
    }
}

impl TrustedKey {
    /// Reads a public key: SubjectPublicKeyInfo in PEM form.
    ///
    /// # Errors
    /// When it is none, or of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem(text, "PUBLIC KEY").ok_or(KeyError::Pem("public key"))?;
        let key = der.strip_prefix(&PUBLIC_PREFIX).ok_or(KeyError::Kind)?;
        key.try_into().map(Self).map_err(|_| KeyError::Kind)
    }

    /// What the key is known by: sixteen digits.
    pub fn id(&self) -> String {
        Digest::of(&self.0).hex()[..16].to_owned()
    }
}

/// Checks that a document was signed with one of the keys, and answers which.
pub(crate) fn verify(keys: &[TrustedKey], document: &impl Signed) -> Result<String, Untrusted> {
    let mut document = document.clone();
    let text = document.annotations().remove(ANNOTATION).ok_or(Untrusted::Unsigned)?;
    let mut words = text.split(' ');
    let (Some("ed25519"), Some(id), Some(seal), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Untrusted::Foreign);
    };
    let key = keys.iter().find(|key| key.id() == id).ok_or(Untrusted::Foreign)?;
    let seal = STANDARD.decode(seal).map_err(|_| Untrusted::Wrong)?;
    let check = UnparsedPublicKey::new(&ED25519, key.0);
    check.verify(&document.bytes(), &seal).map_err(|_| Untrusted::Wrong)?;
    Ok(key.id())
}

/// The content of the first block of PEM (RFC 7468) with this label.
fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, rest) = text.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use strake_oci::{Descriptor, MediaType};

    use super::*;

    /// From `openssl genpkey -algorithm ed25519`, made for this test alone.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIPnpV/FFuKcspHvzLXOMqXQgvLxEeRGiEZEyXV9nDFBK
-----END PRIVATE KEY-----
";

    fn manifest() -> ImageManifest {
        let layer = Descriptor::of(MediaType::OCI_LAYER_GZIP, b"layer");
        ImageManifest::oci(Descriptor::of(MediaType::OCI_CONFIG, b"{}"), vec![layer])
    }

    fn other() -> SigningKey {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        SigningKey { pair: Arc::new(pair) }
    }

    #[test]
    fn what_was_signed_is_known_again() {
        let key = SigningKey::from_pem(PRIVATE).unwrap();
        let mut signed = manifest();
        key.sign(&mut signed);
        // As it comes back from a registry.
        let read: ImageManifest = serde_json::from_slice(&signed.to_bytes()).unwrap();
        assert_eq!(verify(&[other().public(), key.public()], &read), Ok(key.public().id()));
        // Signed once more it is the same.
        let once = signed.clone();
        key.sign(&mut signed);
        assert_eq!(signed, once);
    }

    #[test]
    fn anything_else_is_not_trusted() {
        let key = SigningKey::from_pem(PRIVATE).unwrap();
        let keys = [key.public()];
        assert_eq!(verify(&keys, &manifest()), Err(Untrusted::Unsigned));
        let mut foreign = manifest();
        other().sign(&mut foreign);
        assert_eq!(verify(&keys, &foreign), Err(Untrusted::Foreign));
        let mut signed = manifest();
        key.sign(&mut signed);
        for change in [
            |manifest: &mut ImageManifest| manifest.layers[0].size += 1,
            |manifest: &mut ImageManifest| drop(manifest.annotations.insert("a".into(), "b".into())),
            |manifest: &mut ImageManifest| manifest.config.digest = Digest::of(b"other"),
        ] {
            let mut changed = signed.clone();
            change(&mut changed);
            assert_eq!(verify(&keys, &changed), Err(Untrusted::Wrong));
        }
        // The name of a trusted key on somebody else's seal.
        let mut posing = manifest();
        other().sign(&mut posing);
        let text = posing.annotations[ANNOTATION].replace(&other().public().id(), "");
        let seal = text.split(' ').nth(2).unwrap().to_owned();
        posing.annotations.insert(ANNOTATION.into(), format!("ed25519 {} {seal}", key.public().id()));
        assert_eq!(verify(&keys, &posing), Err(Untrusted::Wrong));
    }

    #[test]
    fn keys_are_those_of_openssl() {
        let key = SigningKey::from_pem(PRIVATE).unwrap();
        let mut der = PUBLIC_PREFIX.to_vec();
        der.extend(key.public().0);
        let public =
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        assert_eq!(TrustedKey::from_pem(&public), Ok(key.public()));
        assert_eq!(TrustedKey::from_pem(PRIVATE), Err(KeyError::Pem("public key")));
        assert_eq!(TrustedKey::from_pem(&public.replace("MCow", "MCox")), Err(KeyError::Kind));
        assert_eq!(SigningKey::from_pem(&public).unwrap_err(), KeyError::Pem("private key"));
    }
}
