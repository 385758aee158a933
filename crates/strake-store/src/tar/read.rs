//! Reading tar: ustar, PAX, GNU and star headers, and every way to write a sparse file.
//!
//! Sizes and lengths are what the stream claims, so nothing is allocated by them: extended headers are limited, data
//! is handed out in pieces.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use super::TarError;

const BLOCK: usize = 512;

/// The most bytes of extended headers for one entry, as in other readers of layers.
const EXTENSION_MAX: u64 = 1 << 20;

/// The most pieces of a sparse file.
const SPARSE_MAX: usize = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// Something that only other tools know.
    Other(u8),
}

/// One entry, after all its extensions were applied.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970 and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// The size of the file, holes counted, in bytes.
    pub(super) size: u64,
    /// Where the data in the stream belongs, as (offset, length); everything in order when there is none.
    pub(super) sparse: Option<Vec<(u64, u64)>>,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extension records by key.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads entries one after the other.
#[derive(Debug)]
pub(super) struct TarReader<R> {
    reader: BufReader<R>,
    offset: u64,
    /// Data of the current entry not yet taken.
    remaining: u64,
    /// What fills the last block of the current entry.
    padding: u64,
    globals: Records,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(256 * 1024, reader);
        Self { reader, offset: 0, remaining: 0, padding: 0, globals: Records::new() }
    }

    /// The next entry; what was not taken of the last one is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut records = Records::new();
        let mut extension_bytes = 0;
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = self.number(&header, 124..136, "size")?;
            match header[156] {
                b'x' | b'X' => {
                    let content = self.extension(size, &mut extension_bytes)?;
                    self.parse_records(&content, |key, value| {
                        add_record(&mut records, key, value);
                    })?;
                }
                b'g' => {
                    let content = self.extension(size, &mut extension_bytes)?;
                    let mut globals = std::mem::take(&mut self.globals);
                    self.parse_records(&content, |key, value| {
                        globals.insert(key.to_vec(), value.to_vec());
                    })?;
                    self.globals = globals;
                }
                b'L' => {
                    let content = self.extension(size, &mut extension_bytes)?;
                    records.entry(b"path".to_vec()).or_insert_with(|| until_zero(&content).to_vec());
                }
                b'K' => {
                    let content = self.extension(size, &mut extension_bytes)?;
                    records.entry(b"linkpath".to_vec()).or_insert_with(|| until_zero(&content).to_vec());
                }
                _ => return self.entry(&header, size, records).map(Some),
            }
        }
    }

    /// The next piece of the current entry's data; empty at its end.
    pub(super) fn data(&mut self) -> Result<&[u8], TarError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let buffer = self.reader.fill_buf().map_err(|error| malformed(offset, &error))?;
        if buffer.is_empty() {
            return Err(truncated(offset));
        }
        let length = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        Ok(&buffer[..length])
    }

    /// Takes `count` bytes of what [`TarReader::data`] showed.
    pub(super) fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.remaining -= count as u64;
        self.offset += count as u64;
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        self.remaining += std::mem::take(&mut self.padding);
        loop {
            let length = self.data()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }

    /// The next header, or nothing at the end: two blocks of zeros, or a stream that simply stops between entries.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut header = [0; BLOCK];
        if !self.block(&mut header)? {
            return Ok(None);
        }
        if header.iter().all(|byte| *byte == 0) {
            if self.block(&mut header)? && header.iter().any(|byte| *byte != 0) {
                return Err(self.problem("a header follows a single block of zeros".to_owned()));
            }
            return Ok(None);
        }
        let sum: u64 = header[..148].iter().chain(&header[156..]).map(|byte| u64::from(*byte)).sum();
        let stored = octal(&header[148..156]);
        if stored != Some(sum + 8 * u64::from(b' ')) {
            return Err(self.problem("not a tar header (its checksum is wrong)".to_owned()));
        }
        Ok(Some(header))
    }

    /// Reads one block; `false` at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(truncated(self.offset)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(malformed(self.offset, &error)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(true)
    }

    fn begin_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64, total: &mut u64) -> Result<Vec<u8>, TarError> {
        *total = total.saturating_add(size);
        if *total > EXTENSION_MAX {
            let limit = EXTENSION_MAX;
            return Err(TarError::Limit { what: "bytes of extended headers for one entry", limit });
        }
        self.begin_data(size);
        let mut content = Vec::new();
        loop {
            let piece = self.data()?;
            let length = piece.len();
            if length == 0 {
                return Ok(content);
            }
            content.extend_from_slice(piece);
            self.consume(length);
        }
    }

    /// PAX records: `<length> <key>=<value>\n`, the length counting itself (POSIX pax, Extended Header).
    fn parse_records(&self, mut content: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), TarError> {
        let broken = || self.problem("a PAX record is malformed".to_owned());
        while !content.is_empty() {
            if content.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let space = content.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length = decimal(&content[..space]).and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|length| *length > space + 1 && *length <= content.len());
            let (record, rest) = content.split_at(length.ok_or_else(broken)?);
            let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            each(&record[..equals], &record[equals + 1..]);
            content = rest;
        }
        Ok(())
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, mut records: Records) -> Result<Entry, TarError> {
        for (key, value) in &self.globals {
            records.entry(key.clone()).or_insert_with(|| value.clone());
        }
        // An empty value takes a record back (POSIX pax).
        let text = |key: &[u8]| records.get(key).filter(|value| !value.is_empty());
        let path = text(b"path").cloned().unwrap_or_else(|| header_path(header));
        let size = match text(b"size") {
            Some(value) => decimal(value).ok_or_else(|| self.problem("bad PAX size".to_owned()))?,
            None => size,
        };
        let kind = kind_of(header, &path);
        let has_data = matches!(kind, Kind::File | Kind::Other(_));
        self.begin_data(if has_data { size } else { 0 });
        let id = |key: &[u8], range| match text(key) {
            Some(value) => decimal(value).ok_or_else(|| self.problem("bad PAX owner".to_owned())),
            None => self.number(header, range, "owner"),
        };
        let mtime = match text(b"mtime") {
            Some(value) => time(value).ok_or_else(|| self.problem("bad PAX time".to_owned()))?,
            None => (signed_number(&header[136..148]).unwrap_or(0), 0),
        };
        let device = |range| u32::try_from(self.number(header, range, "device").unwrap_or(0)).unwrap_or(0);
        let mode = self.number(header, 100..108, "mode").unwrap_or(0);
        let mut entry = Entry {
            path,
            link: text(b"linkpath").cloned().unwrap_or_else(|| until_zero(&header[157..257]).to_vec()),
            kind,
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: id(b"uid", 108..116)?,
            gid: id(b"gid", 116..124)?,
            mtime,
            size: if has_data { size } else { 0 },
            sparse: None,
            device: (device(329..337), device(337..345)),
            xattrs: xattrs_of(&records),
        };
        if header[156] == b'S' {
            self.old_sparse(header, &mut entry)?;
        } else if kind == Kind::File {
            self.pax_sparse(&records, &mut entry)?;
        }
        Ok(entry)
    }

    /// GNU's own sparse header: four pieces, then blocks of twenty-one.
    fn old_sparse(&mut self, header: &[u8; BLOCK], entry: &mut Entry) -> Result<(), TarError> {
        let mut map = Vec::new();
        self.sparse_pieces(&header[386..482], &mut map)?;
        let mut more = header[482] != 0;
        // The map stands between header and data and does not count as data.
        while more {
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return Err(truncated(self.offset));
            }
            self.sparse_pieces(&block[..504], &mut map)?;
            more = block[504] != 0;
        }
        let size = self.number(header, 483..495, "real size")?;
        self.set_sparse(entry, map, size)
    }

    fn sparse_pieces(&self, bytes: &[u8], map: &mut Vec<(u64, u64)>) -> Result<(), TarError> {
        for piece in bytes.chunks_exact(24).filter(|piece| piece[0] != 0) {
            let number = |range: std::ops::Range<usize>| {
                unsigned_number(&piece[range]).ok_or_else(|| self.problem("bad sparse map".to_owned()))
            };
            map.push((number(0..12)?, number(12..24)?));
        }
        self.check_sparse_length(map.len())
    }

    fn check_sparse_length(&self, length: usize) -> Result<(), TarError> {
        if length > SPARSE_MAX {
            let limit = SPARSE_MAX as u64;
            return Err(TarError::Limit { what: "pieces of a sparse file", limit });
        }
        Ok(())
    }

    /// The three PAX dialects: 0.0 repeats two keys, 0.1 has one list, 1.0 puts the list before the data.
    fn pax_sparse(&mut self, records: &Records, entry: &mut Entry) -> Result<(), TarError> {
        let number = |key: &[u8]| records.get(key).and_then(|value| decimal(value));
        let map = if number(b"GNU.sparse.major") == Some(1) {
            self.sparse_list_before_data()?
        } else if let Some(list) = records.get(&b"GNU.sparse.map"[..]) {
            let numbers: Option<Vec<u64>> = list.split(|byte| *byte == b',').map(decimal).collect();
            let numbers = numbers.ok_or_else(|| self.problem("bad sparse map".to_owned()))?;
            numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
        } else {
            return Ok(());
        };
        if let Some(name) = records.get(&b"GNU.sparse.name"[..]) {
            entry.path.clone_from(name);
        }
        let size = number(b"GNU.sparse.realsize").or_else(|| number(b"GNU.sparse.size"));
        let size = size.ok_or_else(|| self.problem("a sparse file without its size".to_owned()))?;
        self.set_sparse(entry, map, size)
    }

    fn sparse_list_before_data(&mut self) -> Result<Vec<(u64, u64)>, TarError> {
        let mut consumed = 0;
        let count = self.sparse_number(&mut consumed)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.check_sparse_length(count)?;
        let mut map = Vec::new();
        for _ in 0..count {
            map.push((self.sparse_number(&mut consumed)?, self.sparse_number(&mut consumed)?));
        }
        let mut padding = consumed.wrapping_neg() % BLOCK as u64;
        while padding > 0 {
            let length = self.data()?.len().min(usize::try_from(padding).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(self.problem("bad sparse map".to_owned()));
            }
            self.consume(length);
            padding -= length as u64;
        }
        Ok(map)
    }

    /// One decimal line out of the data.
    fn sparse_number(&mut self, consumed: &mut u64) -> Result<u64, TarError> {
        let mut digits = Vec::new();
        loop {
            let byte = self.data()?.first().copied();
            match byte {
                Some(byte) if byte == b'\n' || (byte.is_ascii_digit() && digits.len() < 20) => {
                    self.consume(1);
                    *consumed += 1;
                    if byte == b'\n' {
                        return decimal(&digits).ok_or_else(|| self.problem("bad sparse map".to_owned()));
                    }
                    digits.push(byte);
                }
                _ => return Err(self.problem("bad sparse map".to_owned())),
            }
        }
    }

    /// Takes the map if its pieces are in order, inside the file, and as long as the data together.
    fn set_sparse(&self, entry: &mut Entry, map: Vec<(u64, u64)>, size: u64) -> Result<(), TarError> {
        let mut end = 0;
        let mut data = 0_u64;
        for (offset, length) in &map {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| self.problem("the sparse map leaves the file".to_owned()))?;
            data += length;
        }
        if data != self.remaining {
            return Err(self.problem("the sparse map does not match the data".to_owned()));
        }
        entry.size = size;
        entry.sparse = Some(map);
        entry.kind = Kind::File;
        Ok(())
    }

    fn number(
        &self,
        header: &[u8; BLOCK],
        range: std::ops::Range<usize>,
        what: &str,
    ) -> Result<u64, TarError> {
        unsigned_number(&header[range]).ok_or_else(|| self.problem(format!("bad {what} in a header")))
    }

    fn problem(&self, problem: String) -> TarError {
        TarError::Malformed { offset: self.offset, problem }
    }
}

fn truncated(offset: u64) -> TarError {
    TarError::Malformed { offset, problem: "it ends in the middle of an entry".to_owned() }
}

fn malformed(offset: u64, error: &io::Error) -> TarError {
    TarError::Malformed { offset, problem: error.to_string() }
}

/// Records of the 0.0 sparse dialect are repeated; they are gathered into the list of the 0.1 dialect.
fn add_record(records: &mut Records, key: &[u8], value: &[u8]) {
    if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
        let list = records.entry(b"GNU.sparse.map".to_vec()).or_default();
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(value);
    } else {
        records.insert(key.to_vec(), value.to_vec());
    }
}

fn kind_of(header: &[u8; BLOCK], path: &[u8]) -> Kind {
    match header[156] {
        // Before ustar a directory was a file whose name ends with a slash.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    }
}

/// The name, with the prefix where the dialect has one.
fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_zero(&header[..100]);
    let prefix: &[u8] = match (&header[257..263], &header[508..512]) {
        (b"ustar\0", b"tar\0") => until_zero(&header[345..476]),
        (b"ustar\0", _) => until_zero(&header[345..500]),
        _ => b"",
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn xattrs_of(records: &Records) -> Vec<(Vec<u8>, Vec<u8>)> {
    const PREFIX: &[u8] = b"SCHILY.xattr.";
    let name = |key: &Vec<u8>| key.strip_prefix(PREFIX).map(<[u8]>::to_vec);
    records.iter().filter_map(|(key, value)| Some((name(key)?, value.clone()))).collect()
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits with blanks or zeros around them.
fn octal(field: &[u8]) -> Option<u64> {
    let text = until_zero(field).trim_ascii();
    text.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Octal, or GNU's base 256: the first bit says so, the second is the sign.
fn signed_number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 == 0 {
        return i64::try_from(octal(field)?).ok();
    }
    let negative = field[0] & 0x40 != 0;
    let first = if negative { i128::from(field[0]) - 0x100 } else { i128::from(field[0] & 0x3f) };
    // A field has at most twelve bytes, which fit.
    let number = field[1..].iter().fold(first, |number, byte| number << 8 | i128::from(*byte));
    // Times beyond the range are as far away as can be said.
    Some(i64::try_from(number).unwrap_or(if negative { i64::MIN } else { i64::MAX }))
}

fn unsigned_number(field: &[u8]) -> Option<u64> {
    signed_number(field).and_then(|number| u64::try_from(number).ok())
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]` to whole seconds, rounded down, and nanoseconds.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) || !whole.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nine = *b"000000000";
    nine.iter_mut().zip(fraction).for_each(|(place, digit)| *place = *digit);
    let nanoseconds = u32::try_from(decimal(&nine)?).ok()?;
    let seconds = decimal(whole).and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(i64::MAX);
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_dialects() {
        assert_eq!(signed_number(b"0000644\0"), Some(0o644));
        assert_eq!(signed_number(b"   644 \0"), Some(0o644));
        assert_eq!(signed_number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(signed_number(&[0x80, 0, 0, 0, 0, 0x2d, 0xc6, 0xc0]), Some(3_000_000));
        assert_eq!(signed_number(&[0xff; 12]), Some(-1));
        assert_eq!(
            signed_number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]),
            Some(i64::MAX)
        );
        assert_eq!(unsigned_number(&[0xff; 12]), None);
        assert_eq!(signed_number(b"9"), None);
    }

    #[test]
    fn times_before_1970_and_fractions() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1"), Some((-1, 0)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"99999999999999999999"), Some((i64::MAX, 0)));
        assert_eq!(time(b"1.x"), None);
    }
}
