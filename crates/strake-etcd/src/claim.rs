//! What stands in etcd for one attempt to take a lock.

use serde::Deserialize;
use serde_json::{Value, json};
use strake_oci::one_line;

use crate::answer::base64;

/// Who holds a lock, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Since when, seconds since the Unix epoch by that host's clock.
    pub since: u64,
    /// What it is doing, in a few words.
    pub what: String,
}

/// A key and the value that this attempt, and no other, puts there.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Claim {
    /// `number` is different for each attempt under one lease, and no two leases have the same id.
    pub(crate) fn new(key: String, holder: &Holder, lease: i64, number: u64) -> Self {
        let Holder { host, pid, since, what } = holder;
        let claim = format!("{lease:x}.{number}");
        let value = json!({
            "host": one_line(host), "pid": pid, "since": since, "what": one_line(what), "claim": claim,
        });
        Self { key, value: value.to_string() }
    }

    /// Puts the value if nobody has the key; otherwise tells who has.
    pub(crate) fn take(&self, lease: i64) -> Value {
        let key = base64(self.key.as_bytes());
        let value = base64(self.value.as_bytes());
        json!({
            "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
            "success": [{ "request_put": { "key": key, "value": value, "lease": lease.to_string() } }],
            "failure": [{ "request_range": { "key": key } }],
        })
    }

    /// Removes the key if it still has this value. The revision at which the key was made would tell as much, but is
    /// not known of an attempt whose answer was lost.
    pub(crate) fn give_back(&self) -> Value {
        let key = base64(self.key.as_bytes());
        let value = base64(self.value.as_bytes());
        json!({
            "compare": [{ "key": key, "target": "VALUE", "result": "EQUAL", "value": value }],
            "success": [{ "request_delete_range": { "key": key } }],
        })
    }
}

/// What a value says of its holder; nothing if it is none of ours.
pub(crate) fn holder(value: &[u8]) -> Option<Holder> {
    #[derive(Deserialize)]
    struct Document {
        host: String,
        pid: u32,
        since: u64,
        what: String,
    }
    let Document { host, pid, since, what } = serde_json::from_slice(value).ok()?;
    Some(Holder { host: one_line(&host), pid, since, what: one_line(&what) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_in_one_clean_line() {
        let me = Holder { host: "n1".to_owned(), pid: 7, since: 9, what: "RUN \u{1b}[31m\nmake".to_owned() };
        let first = Claim::new("k".to_owned(), &me, 255, 1);
        let second = Claim::new("k".to_owned(), &me, 255, 2);
        assert_ne!(first.value, second.value);
        assert_eq!(first.value, r#"{"host":"n1","pid":7,"since":9,"what":"RUN [31m make","claim":"ff.1"}"#);
        let read = holder(first.value.as_bytes()).unwrap();
        assert_eq!(
            (read.host.as_str(), read.pid, read.since, read.what.as_str()),
            ("n1", 7, 9, "RUN [31m make")
        );
        assert_eq!(holder(b"\xff"), None);
        assert_eq!(holder(br#"{"host":"x","pid":-1,"since":0,"what":""}"#), None);
    }
}
