//! Checksums of text, in hexadecimal.

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::function::{Answer, Call, Function};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("sha1sum", 1, digest::<Sha1>),
    Function::of("sha256sum", 1, digest::<Sha256>),
    Function::of("sha512sum", 1, digest::<Sha512>),
    Function::of("adler32sum", 1, |call| call.make(adler32(call.text(0)?.as_bytes()).to_string())),
];

fn digest<D: Digest>(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    call.meter.charge(text.len() * 8)?; // a byte of a digest costs more than one of a copy
    let bytes = D::digest(text.as_bytes());
    call.make(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// RFC 1950 §8.2.
fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}
