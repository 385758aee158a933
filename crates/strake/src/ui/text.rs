//! Text from outside, made fit for a terminal: no control sequences, known width.

use unicode_width::UnicodeWidthChar;

/// Longest line that is kept in memory; what follows begins a new one. A step may print gigabytes without a line end.
const LINE_MAX: usize = 16 << 10;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// Whether the last byte was a carriage return that ended a line: a line feed behind it belongs to it.
    returned: bool,
}

impl Lines {
    /// Adds bytes; calls `line` for each line that is complete. What a carriage return would overwrite is a line of
    /// its own.
    pub(crate) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for byte in bytes {
            let returned = std::mem::take(&mut self.returned);
            match byte {
                b'\n' if returned => {}
                b'\n' => line(self.take()),
                b'\r' => {
                    if !self.partial.is_empty() {
                        line(self.take());
                        self.returned = true;
                    }
                }
                byte => {
                    self.partial.push(*byte);
                    if self.partial.len() >= LINE_MAX {
                        let begun = self.partial.split_off(whole(&self.partial));
                        line(self.take());
                        self.partial = begun;
                    }
                }
            }
        }
    }

    /// What is left at the end.
    pub(crate) fn rest(&mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let text = clean(&self.partial);
        self.partial.clear();
        text
    }
}

/// Makes text of a stream of bytes that comes in pieces: a character that a piece only begins is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Characters {
    begun: Vec<u8>,
}

impl Characters {
    /// The text that a piece completes; bytes that are no UTF-8 are replaced.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.begun.extend_from_slice(bytes);
        let rest = self.begun.split_off(whole(&self.begun));
        let complete = std::mem::replace(&mut self.begun, rest);
        String::from_utf8_lossy(&complete).into_owned()
    }

    /// What is left of a character that was never completed.
    pub(crate) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// How many bytes there are before a last character that is only begun; all of them if there is none.
fn whole(bytes: &[u8]) -> usize {
    let is_begun = |at: &usize| {
        std::str::from_utf8(&bytes[*at..])
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    // A character has four bytes at most.
    (bytes.len().saturating_sub(3)..bytes.len()).find(is_begun).unwrap_or(bytes.len())
}

/// Text that can be printed: bytes that are no UTF-8 are replaced, control sequences and characters that move the
/// cursor or change the direction of writing are dropped, a tab becomes four spaces.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().all(|c| !is_unsafe(c)) {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut rest),
            '\u{9b}' => skip_csi(&mut rest),
            '\t' => out.push_str("    "),
            c if is_unsafe(c) => {}
            c => out.push(c),
        }
    }
    out
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips what follows an escape character (ECMA-48).
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    match rest.clone().next() {
        Some('[') => {
            rest.next();
            skip_csi(rest);
        }
        // OSC, DCS, SOS, PM and APC run to BEL or ESC \. If neither comes, only the introducer is skipped: hiding
        // the rest of a log behind one byte would help nobody.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            rest.next();
            let text = rest.as_str();
            let end = text.char_indices().find(|(_, c)| matches!(c, '\u{7}' | '\u{1b}'));
            if let Some((at, c)) = end {
                let string_terminator = c == '\u{1b}' && text[at + 1..].starts_with('\\');
                *rest = text[at + 1 + usize::from(string_terminator)..].chars();
            }
        }
        // Two-character sequences, with intermediate bytes such as in `ESC ( B`.
        Some(_) => {
            while rest.clone().next().is_some_and(|c| ('\u{20}'..='\u{2f}').contains(&c)) {
                rest.next();
            }
            if rest.clone().next().is_some_and(|c| ('\u{30}'..='\u{7e}').contains(&c)) {
                rest.next();
            }
        }
        None => {}
    }
}

/// Skips parameters, intermediates and the final byte of a control sequence.
fn skip_csi(rest: &mut std::str::Chars<'_>) {
    while rest.clone().next().is_some_and(|c| ('\u{20}'..='\u{3f}').contains(&c)) {
        rest.next();
    }
    if rest.clone().next().is_some_and(|c| ('\u{40}'..='\u{7e}').contains(&c)) {
        rest.next();
    }
}

/// The columns that clean text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Clean text cut to `columns`, with a mark where something is missing.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// Bytes for people: `12.3 MB`. Powers of 1000, as docker prints them.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{bytes} B"),
        unit if value < 9.995 => format!("{value:.2} {unit}"),
        unit if value < 99.95 => format!("{value:.1} {unit}"),
        unit => format!("{value:.0} {unit}"),
    }
}

/// A span of time for people: `0.3s`, `12.4s`, `3m05s`, `2h03m`.
pub(crate) fn elapsed(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A long span for people, in its largest unit: `3 minutes`.
pub(crate) fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400..1_209_600 => (seconds / 86_400, "day"),
        1_209_600..5_184_000 => (seconds / 604_800, "week"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn control_sequences_are_dropped() {
        for (bytes, expect) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"a\x1b[2J\x1b[1;1Hb", "ab"),
            (b"\x1b]0;title\x07x", "x"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b]never ended", "never ended"),
            (b"\x1b(Bx\x1b7y\x1b", "xy"),
            (b"a\x08\x07\x7fb\tc", "ab    c"),
            ("\u{9b}31mx\u{202e}y".as_bytes(), "xy"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(clean(bytes), expect, "{bytes:?}");
        }
    }

    #[test]
    fn lines_are_cut_at_ends_and_returns() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.push(b"a\nb", |line| seen.push(line));
        lines.push(b"c\r\n10%\r20%\r\n\nend", |line| seen.push(line));
        seen.extend(lines.rest());
        assert_eq!(seen, ["a", "bc", "10%", "20%", "", "end"]);
        let mut count = 0;
        Lines::default().push(&vec![b'x'; 3 * LINE_MAX], |line| count += line.len());
        assert_eq!(count, 3 * LINE_MAX);
    }

    #[test]
    fn a_character_is_never_cut_wherever_a_piece_ends() {
        let streams = [
            "aé漢🦀b".as_bytes(),
            b"\xf0\x9f\xa6",
            b"\xff\xe6\xbc\xe6\xbc\xa2\xa2\xc3",
            b"\xf0\x9f\xa6\x80\xf0\x9f\xc3\xa9",
        ];
        for stream in streams {
            let expect = String::from_utf8_lossy(stream);
            for first in 0..=stream.len() {
                for second in first..=stream.len() {
                    let mut characters = Characters::default();
                    let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                    let mut text: String = pieces.iter().map(|piece| characters.push(piece)).collect();
                    text.extend(characters.rest());
                    assert_eq!(text, expect, "{stream:?} cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters() {
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"🦀漢".repeat(LINE_MAX);
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(1_000) {
                lines.push(piece, |line| seen.push(line));
            }
            seen.extend(lines.rest());
            assert!(seen.iter().all(|line| line.len() <= LINE_MAX));
            assert!(seen.concat() == text, "shifted by {shift}");
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(width("漢字"), 4);
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("漢字漢字", 4), "漢…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("abcd", 0), "");
    }

    #[test]
    fn amounts_for_people() {
        for (bytes, expect) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (12_345_678, "12.3 MB"), (999_999, "1.00 MB")]
        {
            assert_eq!(size(bytes), expect);
        }
        assert_eq!(elapsed(Duration::from_millis(312)), "0.3s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3m05s");
        assert_eq!(elapsed(Duration::from_secs(7_400)), "2h03m");
        assert_eq!(ago(61), "1 minute ago");
        assert_eq!(ago(200_000), "2 days ago");
    }
}
