//! A context on standard input: a Dockerfile, or a tar in any usual compression.

use std::io::{self, Read};

use strake_store::compress::{self, Codec};
use strake_store::tar::{self, ApplyOptions, Whiteouts};
use strake_store::{Store, UnpackOptions};

use super::{Inputs, TEXT_MAX};
use crate::failure::{Failure, reason};

/// One tar header: enough to recognise anything.
const HEAD: usize = 512;

/// Reads standard input to its end.
///
/// # Errors
/// When it is empty, too large for a Dockerfile, or a tar that cannot be unpacked.
pub(super) fn open(file: Option<&str>, store: &Store) -> Result<Inputs, Failure> {
    let failed = |error: io::Error| Failure::environment(format!("read standard input: {}", reason(&error)));
    let mut input = io::stdin();
    let mut head = Vec::with_capacity(HEAD);
    input.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
    if head.is_empty() {
        return Err(Failure::input("standard input is empty")
            .hint("want a Dockerfile or a tar, such as `tar -c . |`"));
    }
    let unpacked = store.temp_dir()?;
    let codec = compress::detect(&head);
    if codec == Codec::None && !is_tar(&head) {
        if let Some(file) = file {
            return Err(Failure::input(format!(
                "Dockerfile {file}: standard input is not a tar that could hold it"
            )));
        }
        let mut text = head;
        input.take(TEXT_MAX).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > TEXT_MAX {
            return Err(Failure::input(format!(
                "the Dockerfile on standard input is larger than {TEXT_MAX} bytes"
            )));
        }
        return Ok(super::empty(text, unpacked));
    }
    let whole = io::Cursor::new(head).chain(input);
    let reader = compress::decoder(whole, codec).map_err(failed)?;
    let limits = UnpackOptions::default();
    let options = ApplyOptions {
        flavour: store.flavour(),
        max_bytes: limits.max_bytes,
        max_entries: limits.max_entries,
        whiteouts: Whiteouts::Plain,
    };
    let applied = tar::apply(reader, unpacked.path(), &options)
        .map_err(|error| Failure::input(format!("unpack the context on standard input: {error}")))?;
    if let Some((name, target)) = applied.deferred_links.first() {
        let (name, target) = (name.display(), target.display());
        return Err(Failure::input(format!(
            "unpack the context on standard input: {name} links to {target}, which it does not hold"
        )));
    }
    let mut inputs = super::inside(unpacked.path().to_owned(), "-", file, unpacked)?;
    inputs.warnings.extend(applied.notes);
    Ok(inputs)
}

/// Whether these bytes begin a tar: the magic of POSIX and GNU, or an old header whose checksum is right.
fn is_tar(head: &[u8]) -> bool {
    if head.len() < HEAD {
        return false;
    }
    if &head[257..262] == b"ustar" {
        return true;
    }
    let field = &head[148..156];
    let digits: String = field.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_digit).collect();
    let sum: u32 = head
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    head[0] != 0 && u32::from_str_radix(&digits, 8) == Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_is_told_from_a_dockerfile() {
        let mut head = vec![0; HEAD];
        assert!(!is_tar(b"FROM scratch\n"));
        assert!(!is_tar(&head));
        head[257..262].copy_from_slice(b"ustar");
        assert!(is_tar(&head));
        let text = [b'#'; HEAD];
        assert!(!is_tar(&text));
        // Version 7, without a magic.
        let mut old = vec![0; HEAD];
        old[0] = b'a';
        old[148..156].copy_from_slice(b"000541\0 ");
        assert!(is_tar(&old));
    }
}
