//! Writing tar: ustar headers, and PAX records for all that does not fit into them.

use std::fs::File;
use std::io::{self, Read as _, Write};

/// The writer's buffer: small files and headers gather here, so that `out` sees large pieces.
const BUFFER: usize = 1 << 20;

/// The two blocks of zeros at the end of a tar.
pub const END: [u8; 1024] = [0; 1024];

/// The largest number in a field of eleven octal digits.
const OCTAL_11: u64 = 0o777_7777_7777;
/// The largest number in a field of seven.
const OCTAL_7: u64 = 0o777_7777;

/// What goes into a header.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// Without leading slash; of directories with a trailing one.
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    /// The type flag of POSIX ustar.
    pub(super) flag: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
    /// Sorted by name.
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

#[derive(Debug)]
pub(super) struct TarWriter<W> {
    out: W,
    buffer: Vec<u8>,
    filled: usize,
    written: u64,
    /// The header being written.
    head: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, buffer: vec![0; BUFFER], filled: 0, written: 0, head: Vec::new() }
    }

    /// The header of an entry, preceded by its PAX records if it needs any.
    pub(super) fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        encode(header, &mut head);
        self.put(&head)?;
        self.head = head;
        Ok(())
    }

    /// Exactly `size` bytes of a file, and what fills the last block.
    pub(super) fn content(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
            let space = self.buffer.len() - self.filled;
            let wanted = space.min(usize::try_from(left).unwrap_or(usize::MAX));
            let target = &mut self.buffer[self.filled..self.filled + wanted];
            match file.read(target) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it shrank while being read"));
                }
                Ok(count) => {
                    self.filled += count;
                    self.written += count as u64;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pad(size)
    }

    /// The two blocks of zeros at the end; answers the bytes written.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.put(&END)?;
        self.flush()?;
        self.out.flush()?;
        Ok(self.written)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.put(padding(size))
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
            let count = bytes.len().min(self.buffer.len() - self.filled);
            self.buffer[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer[..self.filled])?;
        self.filled = 0;
        Ok(())
    }
}

/// Appends the header of an entry to `out`, preceded by its PAX records if it needs any.
pub(super) fn encode(header: &Header<'_>, out: &mut Vec<u8>) {
    let mut records = Vec::new();
    pax_records(header, &mut records);
    if !records.is_empty() {
        let name = pax_name(header.path);
        out.extend_from_slice(&block(&Header {
            path: &name,
            link: b"",
            flag: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: 0,
            device: (0, 0),
            xattrs: &[],
        }));
        out.extend_from_slice(&records);
        out.extend_from_slice(padding(records.len() as u64));
    }
    out.extend_from_slice(&block(header));
}

/// What fills the last block of `size` bytes of content.
pub fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; 512] = [0; 512];
    let rest = usize::try_from(size.wrapping_neg() % 512).expect("less than 512");
    &ZEROS[..rest]
}

/// Records in a fixed order: path, linkpath, uid, gid, size, mtime, attributes.
fn pax_records(header: &Header<'_>, records: &mut Vec<u8>) {
    if header.path.len() > 100 {
        record(records, b"path", header.path);
    }
    if header.link.len() > 100 {
        record(records, b"linkpath", header.link);
    }
    for (key, id) in [(&b"uid"[..], header.uid), (b"gid", header.gid)] {
        if u64::from(id) > OCTAL_7 {
            record(records, key, id.to_string().as_bytes());
        }
    }
    if header.size > OCTAL_11 {
        record(records, b"size", header.size.to_string().as_bytes());
    }
    if !fits_octal(header.mtime) {
        record(records, b"mtime", header.mtime.to_string().as_bytes());
    }
    for (name, value) in header.xattrs {
        record(records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
}

fn fits_octal(mtime: i64) -> bool {
    u64::try_from(mtime).is_ok_and(|mtime| mtime <= OCTAL_11)
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let content = key.len() + value.len() + 3;
    let mut length = content;
    while content + length.to_string().len() != length {
        length = content + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// A name for the PAX header, seen only by tools that do not know PAX.
fn pax_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    [b"PaxHeaders.0/", &base[..base.len().min(80)]].concat()
}

fn block(header: &Header<'_>) -> [u8; 512] {
    let mut block = [0; 512];
    let text = |block: &mut [u8; 512], at: usize, text: &[u8]| {
        let length = text.len().min(100);
        block[at..at + length].copy_from_slice(&text[..length]);
    };
    text(&mut block, 0, header.path);
    octal(&mut block[100..107], u64::from(header.mode));
    octal(&mut block[108..115], if u64::from(header.uid) > OCTAL_7 { 0 } else { u64::from(header.uid) });
    octal(&mut block[116..123], if u64::from(header.gid) > OCTAL_7 { 0 } else { u64::from(header.gid) });
    octal(&mut block[124..135], if header.size > OCTAL_11 { 0 } else { header.size });
    let mtime = if fits_octal(header.mtime) { header.mtime.unsigned_abs() } else { 0 };
    octal(&mut block[136..147], mtime);
    block[156] = header.flag;
    text(&mut block, 157, header.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..336], u64::from(header.device.0));
    octal(&mut block[337..344], u64::from(header.device.1));
    // The sum is made with blanks in its own field.
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..154], sum);
    block[154] = 0;
    block
}

/// Zero-padded octal digits; the field after it stays zero as terminator.
fn octal(field: &mut [u8], mut number: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number & 7).expect("three bits");
        number >>= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        let check = |key: &[u8], value: &[u8]| {
            let mut records = Vec::new();
            record(&mut records, key, value);
            let space = records.iter().position(|byte| *byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&records[..space]).unwrap().parse().unwrap();
            assert_eq!(length, records.len());
        };
        (0..1100).for_each(|length| check(b"path", &vec![b'a'; length]));
    }
}
