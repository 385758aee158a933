//! Numbers and strings as ssh writes them (RFC 4251 §5).

use zeroize::Zeroizing;

/// Takes a message apart. None: it ends too early, or is not what it should be.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// A number above zero, big-endian and without leading zeros.
    pub(super) fn positive(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        let is_negative = bytes.first()? & 0x80 != 0;
        let start = bytes.iter().position(|byte| *byte != 0)?;
        (!is_negative).then(|| &bytes[start..])
    }
}

/// Adds a string. What is written here is far below 4 GiB.
pub(super) fn put_string(to: &mut Vec<u8>, string: &[u8]) {
    let length = u32::try_from(string.len()).expect("messages are limited to far less than 4 GiB");
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(string);
}

/// Adds a number that is not negative, given big-endian.
pub(super) fn put_number(to: &mut Vec<u8>, number: &[u8]) {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let mut bytes = Zeroizing::new(Vec::with_capacity(number.len() + 1));
    if number.get(start).is_some_and(|byte| byte & 0x80 != 0) {
        bytes.push(0);
    }
    bytes.extend_from_slice(&number[start..]);
    put_string(to, &bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_too_early_is_nothing() {
        assert_eq!(Reader::new(&[0, 0, 0]).u32(), None);
        assert_eq!(Reader::new(&[0, 0, 0, 2, b'a']).string(), None);
        assert_eq!(Reader::new(&[255, 255, 255, 255, b'a']).string(), None);
        let mut reader = Reader::new(&[0, 0, 0, 1, b'a', 7]);
        assert_eq!((reader.text(), reader.0), (Some("a"), &[7][..]));
    }

    #[test]
    fn numbers_have_a_sign() {
        for (number, written) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0, 0], &[0, 0, 0, 0]),
            (&[0, 5], &[0, 0, 0, 1, 5]),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
        ] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(bytes, written);
        }
        assert_eq!(Reader::new(&[0, 0, 0, 2, 0, 0x80]).positive(), Some(&[0x80][..]));
        for wrong in [&[0, 0, 0, 1, 0x80][..], &[0, 0, 0, 0], &[0, 0, 0, 2, 0, 0]] {
            assert_eq!(Reader::new(wrong).positive(), None);
        }
    }
}
