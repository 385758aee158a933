//! Bytes as letters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Fault;
use crate::function::{Answer, Call, Function};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("b64enc", 1, |call| call.make(STANDARD.encode(call.text(0)?.as_bytes()))),
    Function::of("b64dec", 1, |call| {
        let letters: String = call.text(0)?.chars().filter(|letter| !matches!(letter, '\n' | '\r')).collect();
        let bytes = STANDARD.decode(letters).map_err(|error| Fault::new(format!("not base64: {error}")))?;
        decoded(call, bytes)
    }),
    Function::of("b32enc", 1, |call| {
        call.meter.product(call.text(0)?.len(), 2)?;
        call.make(base32(call.text(0)?.as_bytes()))
    }),
    Function::of("b32dec", 1, |call| {
        let bytes = from_base32(call.text(0)?).ok_or_else(|| Fault::new("not base32"))?;
        decoded(call, bytes)
    }),
];

fn decoded(call: &Call<'_>, bytes: Vec<u8>) -> Answer {
    match String::from_utf8(bytes) {
        Ok(text) => call.make(text),
        Err(_) => Err(Fault::new("the decoded bytes are not UTF-8 text")),
    }
}

const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648 §6: five bytes make eight letters.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for group in bytes.chunks(5) {
        let mut bits = [0u8; 8];
        bits[3..3 + group.len()].copy_from_slice(group);
        let bits = u64::from_be_bytes(bits);
        let letters = (group.len() * 8).div_ceil(5);
        for index in 0..8 {
            let letter = LETTERS[usize::try_from(bits >> (35 - index * 5) & 31).unwrap_or(0)];
            out.push(if index < letters { char::from(letter) } else { '=' });
        }
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let letters: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let mut out = Vec::with_capacity(letters.len() / 8 * 5);
    for (index, group) in letters.chunks(8).enumerate() {
        let padding = group.iter().rev().take_while(|letter| **letter == b'=').count();
        let is_last = (index + 1) * 8 == letters.len();
        if group.len() != 8 || !matches!(padding, 0 | 1 | 3 | 4 | 6) || (padding > 0 && !is_last) {
            return None;
        }
        let mut bits = 0u64;
        for letter in &group[..8 - padding] {
            let value = LETTERS.iter().position(|known| known == letter)?;
            bits = bits << 5 | u64::try_from(value).ok()?;
        }
        bits <<= 5 * padding;
        let count = (8 - padding) * 5 / 8;
        out.extend_from_slice(&bits.to_be_bytes()[3..3 + count]);
    }
    Some(out)
}
