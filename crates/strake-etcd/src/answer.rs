//! What etcd's JSON gateway answers: numbers of 64 bits are strings, bytes are base64, and what is zero is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
pub(crate) struct Granted {
    #[serde(rename = "ID", default, deserialize_with = "number")]
    pub(crate) id: i64,
    /// Seconds.
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    pub(crate) ttl: i64,
}

/// The first message of a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Streamed<T> {
    pub(crate) result: T,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Authenticated {
    pub(crate) token: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Transacted {
    pub(crate) header: Header,
    #[serde(default)]
    pub(crate) succeeded: bool,
    #[serde(default)]
    pub(crate) responses: Vec<Response>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Header {
    #[serde(default, deserialize_with = "number")]
    pub(crate) revision: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Response {
    #[serde(rename = "response_range")]
    pub(crate) range: Option<Found>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Found {
    #[serde(default)]
    pub(crate) header: Header,
    #[serde(default)]
    pub(crate) kvs: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct KeyValue {
    #[serde(default, deserialize_with = "number")]
    pub(crate) create_revision: i64,
    #[serde(default, deserialize_with = "bytes")]
    pub(crate) value: Vec<u8>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Watched {
    #[serde(default)]
    pub(crate) events: Vec<Event>,
    #[serde(default)]
    pub(crate) canceled: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    /// Left out for a put.
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
}

/// An answer of which nothing is wanted but that it came.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {}

/// The body of a refusal.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) error: String,
    /// gRPC's status code.
    #[serde(default)]
    pub(crate) code: i64,
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_as_text_or_not_at_all() {
        let granted: Granted = serde_json::from_str(r#"{"ID":"1418812106785792773","TTL":10}"#).unwrap();
        assert_eq!((granted.id, granted.ttl), (1_418_812_106_785_792_773, 10));
        let gone: Granted = serde_json::from_str(r#"{"ID":"77"}"#).unwrap();
        assert_eq!(gone.ttl, 0);
        serde_json::from_str::<Granted>(r#"{"ID":"99999999999999999999"}"#).unwrap_err();
    }
}
