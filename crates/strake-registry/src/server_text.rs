//! What a registry says in words: cleaned before a terminal may see it.

use serde::Deserialize;
use strake_oci::one_line;

/// The most bytes of an error answer that are read.
pub(crate) const MAX_ERROR_BODY: usize = 64 << 10;

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
            let text = if is_page { String::new() } else { one_line(&String::from_utf8_lossy(body)) };
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
        Self { codes: document.errors.into_iter().map(|entry| entry.code).collect(), text: one_line(&text) }
    }

    pub(crate) fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|known| known == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
