//! What a registry says in words: cleaned before a terminal may see it.

use serde::Deserialize;

/// The most characters of a registry's text that a message carries.
const MAX_CHARS: usize = 300;

/// The most bytes of an error answer that are read.
pub(crate) const MAX_ERROR_BODY: usize = 64 << 10;

/// One line without control characters, invisible direction changes, or more than a few hundred characters.
///
/// A registry's text may hold escape sequences that repaint the terminal, or bidirectional overrides that make one
/// host look like another.
pub(crate) fn clean(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let words = text.split(|c: char| c.is_whitespace() || hidden(c)).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The body of an error answer (distribution-spec v1.1 §Error Codes).
#[derive(Debug, Default)]
pub(crate) struct ServerErrors {
    /// The codes, upper case as sent.
    codes: Vec<String>,
    /// All of it in one line, cleaned; empty when there is nothing worth showing.
    pub(crate) text: String,
}

impl ServerErrors {
    pub(crate) fn parse(body: &[u8], content_type: Option<&str>) -> Self {
        #[derive(Deserialize)]
        struct Document {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: Option<String>,
            #[serde(default)]
            detail: Option<serde_json::Value>,
        }
        let Ok(document) = serde_json::from_slice::<Document>(body) else {
            let is_page = content_type.is_some_and(|kind| kind.contains("html"));
            let text = if is_page { String::new() } else { clean(&String::from_utf8_lossy(body)) };
            return Self { codes: Vec::new(), text };
        };
        let describe = |entry: &Entry| {
            let message = entry.message.clone().unwrap_or_default();
            match &entry.detail {
                Some(serde_json::Value::String(detail)) if !detail.is_empty() => {
                    format!("{} {message} ({detail})", entry.code)
                }
                _ => format!("{} {message}", entry.code),
            }
        };
        let text = document.errors.iter().map(describe).collect::<Vec<_>>().join(", ");
        Self { codes: document.errors.into_iter().map(|entry| entry.code).collect(), text: clean(&text) }
    }

    pub(crate) fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|known| known == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_overrides_do_not_survive() {
        assert_eq!(clean("a\u{1b}[31mred\n\u{7}b\u{202e}c\u{9b}2J"), "a [31mred b c 2J");
        assert_eq!(clean(&"x".repeat(1000)).chars().count(), MAX_CHARS + 1);
        assert_eq!(clean("  \r\n "), "");
    }

    #[test]
    fn error_documents_are_read() {
        let body =
            br#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone","detail":{"x":1}},{"code":"X"}]}"#;
        let errors = ServerErrors::parse(body, None);
        assert!(errors.has("BLOB_UPLOAD_UNKNOWN") && !errors.has("BLOB"));
        assert_eq!(errors.text, "BLOB_UPLOAD_UNKNOWN gone, X");
        assert_eq!(ServerErrors::parse(b"<html>", Some("text/html; charset=utf-8")).text, "");
        assert_eq!(ServerErrors::parse(b"no space left\n", Some("text/plain")).text, "no space left");
    }
}
