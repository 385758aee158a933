//! Messages of a stream: one JSON document in each line, for as long as the connection lasts.

use serde::de::DeserializeOwned;

use crate::answer::Streamed;

/// The most bytes of one message: an event without a value is its key and some numbers.
const MAX_MESSAGE: usize = 64 << 10;

/// The most bytes of one stream that says nothing of interest.
const MAX_STREAM: usize = 1 << 20;

pub(crate) struct Messages {
    response: reqwest::Response,
    pending: Vec<u8>,
    /// How much of `pending` is known to have no end of line.
    searched: usize,
    total: usize,
}

impl Messages {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { response, pending: Vec::new(), searched: 0, total: 0 }
    }

    /// The next message; none when the stream ends, breaks, or carries something else.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            if let Some(end) = self.pending[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=self.searched + end).collect();
                self.searched = 0;
                return Some(serde_json::from_slice::<Streamed<T>>(&line).ok()?.result);
            }
            self.searched = self.pending.len();
            let piece = self.response.chunk().await.ok()??;
            self.total += piece.len();
            if self.total > MAX_STREAM || self.pending.len() + piece.len() > MAX_MESSAGE {
                return None;
            }
            self.pending.extend_from_slice(&piece);
        }
    }
}
