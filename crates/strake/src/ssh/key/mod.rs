//! Private keys: what files hold, and signing with them.
//!
//! `ring`, which the registry's TLS has brought already, does the arithmetic; a crate that reads all formats would
//! bring twenty more, and those that sign with RSA have a known leak through timing (RUSTSEC-2023-0071). Read are files
//! as OpenSSH writes them (PROTOCOL.key), and RSA keys in the two older forms.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair};
use ring::{rsa, signature::RsaEncoding};
use zeroize::Zeroizing;

use super::wire::{Reader, put_number, put_string};

/// Four times the largest RSA key that anybody has.
const LARGEST_FILE: u64 = 64 << 10;
/// Bytes in the modulus of the largest RSA key that `ring` signs with.
const LARGEST_MODULUS: usize = 4096 / 8;
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Why a file cannot be used as a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// Only whoever knows the passphrase can read it.
    #[error("it is locked with a passphrase")]
    Locked,
    /// A public key.
    #[error("this is a public key")]
    Public,
    /// Something else altogether.
    #[error("this is no private key")]
    NoKey,
    /// A key in a form that is not read here.
    #[error("keys in the form {0:?} are not read")]
    Form(String),
    /// A kind of key that is not signed with here.
    #[error("keys of the type {0} are not supported")]
    Unsupported(String),
    /// Cut off, or changed.
    #[error("the key is damaged")]
    Damaged,
}

/// A key that can sign.
#[derive(Debug)]
pub(super) struct PrivateKey {
    /// The public half as ssh has it in messages.
    pub(super) public: Vec<u8>,
    /// What it is called in listings.
    pub(super) comment: String,
    signer: Signer,
}

#[derive(Debug)]
enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

#[derive(Debug, Clone, Copy)]
struct Curve {
    name: &'static str,
    algorithm: &'static EcdsaSigningAlgorithm,
    /// Bytes in a scalar.
    size: usize,
}

const CURVES: [Curve; 2] = [
    Curve { name: "nistp256", algorithm: &signature::ECDSA_P256_SHA256_FIXED_SIGNING, size: 32 },
    Curve { name: "nistp384", algorithm: &signature::ECDSA_P384_SHA384_FIXED_SIGNING, size: 48 },
];

impl PrivateKey {
    /// Reads a file, whoever else may read it, and leaves it as it is.
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        let mut text = Zeroizing::new(Vec::new());
        let file = File::open(path).map_err(KeyError::Io)?;
        file.take(LARGEST_FILE + 1).read_to_end(&mut text).map_err(KeyError::Io)?;
        if text.len() as u64 > LARGEST_FILE {
            return Err(KeyError::NoKey);
        }
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &[u8], name: &str) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(text).map_err(|_| KeyError::NoKey)?;
        let (label, bytes) = armoured(text)?;
        let rsa = |pair: Result<RsaKeyPair, ring::error::KeyRejected>| {
            let signer = Signer::Rsa(pair.map_err(|_| unsupported_rsa())?);
            Ok(Self { public: signer.public(), comment: name.to_owned(), signer })
        };
        match label {
            "OPENSSH PRIVATE KEY" => Self::of_openssh(&bytes, name),
            "RSA PRIVATE KEY" => rsa(RsaKeyPair::from_der(&bytes)),
            "PRIVATE KEY" => {
                rsa(RsaKeyPair::from_pkcs8(&bytes)).map_err(|_| KeyError::Form(label.to_owned()))
            }
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Locked),
            other if other.ends_with("PRIVATE KEY") => Err(KeyError::Form(other.to_owned())),
            other if other.ends_with("PUBLIC KEY") => Err(KeyError::Public),
            _ => Err(KeyError::NoKey),
        }
    }

    fn of_openssh(bytes: &[u8], name: &str) -> Result<Self, KeyError> {
        let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(KeyError::Damaged)?);
        let cipher = reader.string().ok_or(KeyError::Damaged)?;
        if cipher != b"none" {
            return Err(KeyError::Locked);
        }
        // The name and the options of what makes a key of a passphrase; then how many keys there are.
        let _ = (reader.string(), reader.string());
        let (Some(1), Some(public), Some(private)) = (reader.u32(), reader.string(), reader.string()) else {
            return Err(KeyError::Damaged);
        };
        let mut reader = Reader::new(private);
        let checks = (reader.u32(), reader.u32());
        if checks.0.is_none() || checks.0 != checks.1 {
            return Err(KeyError::Damaged);
        }
        let kind = reader.text().ok_or(KeyError::Damaged)?;
        let signer = Signer::read(kind, &mut reader)?;
        let comment = reader.text().ok_or(KeyError::Damaged)?;
        // What the file says in front must be what the key is.
        if signer.public() != public {
            return Err(KeyError::Damaged);
        }
        let comment = if comment.is_empty() { name } else { comment };
        Ok(Self { public: public.to_vec(), comment: comment.to_owned(), signer })
    }

    /// A signature as ssh has it in messages; for RSA, `flags` say with which digest. None: the digest is SHA-1, or
    /// the system has no random numbers.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        const SHA2_256: u32 = 2;
        const SHA2_512: u32 = 4;
        let mut signed = Vec::new();
        match &self.signer {
            Signer::Ed25519(pair) => {
                put_string(&mut signed, b"ssh-ed25519");
                put_string(&mut signed, pair.sign(data).as_ref());
            }
            Signer::Ecdsa(curve, pair) => {
                let both = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = both.as_ref().split_at_checked(curve.size)?;
                let mut numbers = Vec::new();
                put_number(&mut numbers, r);
                put_number(&mut numbers, s);
                put_string(&mut signed, format!("ecdsa-sha2-{}", curve.name).as_bytes());
                put_string(&mut signed, &numbers);
            }
            Signer::Rsa(pair) => {
                let (name, encoding): (_, &dyn RsaEncoding) = match flags {
                    flags if flags & SHA2_512 != 0 => ("rsa-sha2-512", &signature::RSA_PKCS1_SHA512),
                    flags if flags & SHA2_256 != 0 => ("rsa-sha2-256", &signature::RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), data, &mut bytes).ok()?;
                put_string(&mut signed, name.as_bytes());
                put_string(&mut signed, &bytes);
            }
        }
        Some(signed)
    }
}

impl Signer {
    fn read(kind: &str, reader: &mut Reader<'_>) -> Result<Self, KeyError> {
        match kind {
            "ssh-ed25519" => {
                let (public, secret) = (reader.string(), reader.string());
                let seed = secret.filter(|secret| secret.len() == 64).map(|secret| &secret[..32]);
                let (Some(public), Some(seed)) = (public, seed) else { return Err(KeyError::Damaged) };
                let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
                pair.map(Self::Ed25519).map_err(|_| KeyError::Damaged)
            }
            "ssh-rsa" => Self::read_rsa(reader),
            _ => {
                let name = kind.strip_prefix("ecdsa-sha2-").unwrap_or_default();
                let curve = CURVES.into_iter().find(|curve| curve.name == name);
                curve.map_or_else(|| Err(unsupported(kind)), |curve| Self::read_ecdsa(curve, reader))
            }
        }
    }

    fn read_ecdsa(curve: Curve, reader: &mut Reader<'_>) -> Result<Self, KeyError> {
        let (Some(_), Some(point), Some(scalar)) = (reader.string(), reader.string(), reader.positive())
        else {
            return Err(KeyError::Damaged);
        };
        let missing = curve.size.checked_sub(scalar.len()).ok_or(KeyError::Damaged)?;
        let mut padded = Zeroizing::new(vec![0; missing]);
        padded.extend_from_slice(scalar);
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm, &padded, point, &random);
        pair.map(|pair| Self::Ecdsa(curve, pair)).map_err(|_| KeyError::Damaged)
    }

    fn read_rsa(reader: &mut Reader<'_>) -> Result<Self, KeyError> {
        let mut numbers = [&[][..]; 6];
        for number in &mut numbers {
            *number = reader.positive().ok_or(KeyError::Damaged)?;
        }
        let [n, e, d, q_inv, p, q] = numbers;
        if numbers.iter().any(|number| number.len() > LARGEST_MODULUS) {
            return Err(unsupported_rsa());
        }
        let components = rsa::KeyPairComponents {
            public_key: rsa::PublicKeyComponents { n, e },
            d,
            p,
            q,
            dP: &remainder(d, &less_one(p)?)[..],
            dQ: &remainder(d, &less_one(q)?)[..],
            qInv: q_inv,
        };
        RsaKeyPair::from_components(&components).map(Self::Rsa).map_err(|_| unsupported_rsa())
    }

    fn public(&self) -> Vec<u8> {
        let mut public = Vec::new();
        match self {
            Self::Ed25519(pair) => {
                put_string(&mut public, b"ssh-ed25519");
                put_string(&mut public, pair.public_key().as_ref());
            }
            Self::Ecdsa(curve, pair) => {
                put_string(&mut public, format!("ecdsa-sha2-{}", curve.name).as_bytes());
                put_string(&mut public, curve.name.as_bytes());
                put_string(&mut public, pair.public_key().as_ref());
            }
            Self::Rsa(pair) => {
                let parts: rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                put_string(&mut public, b"ssh-rsa");
                put_number(&mut public, &parts.e);
                put_number(&mut public, &parts.n);
            }
        }
        public
    }
}

fn unsupported(kind: &str) -> KeyError {
    KeyError::Unsupported(kind.chars().filter(char::is_ascii_graphic).take(60).collect())
}

/// `ring` refuses what is too small, too large and inconsistent, and says the difference in no way to rely on.
fn unsupported_rsa() -> KeyError {
    KeyError::Unsupported("RSA, other than sound ones of 2,048 to 4,096 bits,".to_owned())
}

/// A prime is odd, so one less is the last bit less.
fn less_one(prime: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut number = Zeroizing::new(prime.to_vec());
    match number.last_mut() {
        Some(last) if *last & 1 == 1 && prime != [1] => *last ^= 1,
        _ => return Err(KeyError::Damaged),
    }
    Ok(number)
}

/// The remainder of a division, bit by bit: files leave out what `ring` wants to be told. Without leading zeros.
fn remainder(number: &[u8], divisor: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut wide = Zeroizing::new(vec![0]);
    wide.extend_from_slice(divisor);
    let mut rest = Zeroizing::new(vec![0; wide.len()]);
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if *rest >= *wide {
            let mut borrow = false;
            for (byte, less) in rest.iter_mut().zip(wide.iter()).rev() {
                let (once, first) = byte.overflowing_sub(*less);
                let (twice, second) = once.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (twice, first || second);
            }
        }
    }
    let start = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
    rest.drain(..start);
    rest
}

/// What stands between the lines `-----BEGIN …-----` and `-----END …-----`.
fn armoured(text: &str) -> Result<(&str, Zeroizing<Vec<u8>>), KeyError> {
    let text = text.trim();
    let is_public = ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| text.starts_with(kind));
    let Some((label, rest)) = text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"))
    else {
        return Err(if is_public { KeyError::Public } else { KeyError::NoKey });
    };
    let body = rest.strip_suffix(&format!("-----END {label}-----")).ok_or(KeyError::Damaged)?;
    // The older form has headers when, and only when, it is locked.
    if body.contains("ENCRYPTED") {
        return Err(KeyError::Locked);
    }
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(body.len()));
    STANDARD.decode_vec(&*digits, &mut bytes).map_err(|_| KeyError::Damaged)?;
    Ok((label, bytes))
}

#[cfg(test)]
mod tests;
