//! Fetching one blob: resumed where it broke, from whichever host can give it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use strake_oci::Digest;
use tokio::sync::mpsc;

use crate::auth::{Access, Scopes};
use crate::error::{Again, Failure};
use crate::failure::{place, refusal};
use crate::host::Lane;
use crate::server_text::MAX_ERROR_BODY;
use crate::transport::{Answer, Call, Core, Document, Endpoint, Target};
use crate::{ErrorKind, RegistryError};

/// Pieces of a blob that may wait for the reader; hyper's pieces are at most 400 KiB, mostly far less.
pub(crate) const PIECES_AHEAD: usize = 8;

/// Progress that makes a transfer's failures before it forgotten.
const GOOD_STRETCH: u64 = 1 << 20;

/// The hosts that gave parts of one blob.
pub(crate) type Givers = Arc<Mutex<Vec<Endpoint>>>;

/// Fetches one blob, piece by piece, over any number of connections.
pub(crate) struct Pump {
    pub(crate) core: Arc<Core>,
    pub(crate) operation: String,
    pub(crate) sources: Vec<Endpoint>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) sender: mpsc::Sender<Bytes>,
    pub(crate) givers: Givers,
    /// Bytes handed over so far.
    pub(crate) offset: u64,
}

impl Pump {
    /// Runs until the blob is complete, the reader is gone, or nobody can give the rest.
    pub(crate) async fn run(mut self) -> Result<(), RegistryError> {
        let sources = std::mem::take(&mut self.sources);
        for endpoint in sources {
            match self.drain(&endpoint).await {
                Err(error) if endpoint.is_mirror => self.core.skip_mirror(&endpoint, &error),
                result => return result,
            }
        }
        Ok(())
    }

    async fn drain(&mut self, endpoint: &Endpoint) -> Result<(), RegistryError> {
        let mut attempt = 0;
        loop {
            let before = self.offset;
            match self.stretch(endpoint).await {
                Ok(()) | Err(Ended::Unwanted) => return Ok(()),
                Err(Ended::Failed(failure)) => {
                    if self.offset - before >= GOOD_STRETCH {
                        attempt = 0;
                    }
                    self.core.pause(endpoint, &mut attempt, failure).await?;
                }
            }
        }
    }

    /// One request, and as much of its answer as comes.
    async fn stretch(&mut self, endpoint: &Endpoint) -> Result<(), Ended> {
        let core = Arc::clone(&self.core);
        let scopes = Scopes::one(&endpoint.repository, Access::Pull);
        let operation = self.operation.clone();
        let target = Target::Path(format!("blobs/{}", self.digest));
        let mut call = Call::new(&operation, endpoint, &scopes, Method::GET, target, &[]);
        call.lane = Lane::Down;
        if self.offset > 0 {
            let range = format!("bytes={}-", self.offset);
            call.headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits and ASCII marks"));
        }
        let answer = core.exchange(&call).await?;
        let mut skip = self.begins_at(answer.response.status().as_u16(), &answer)?;
        if !matches!(answer.response.status().as_u16(), 200 | 206) {
            let moved = answer.moved;
            let document = core.read(&operation, answer, MAX_ERROR_BODY, false).await?;
            return Err(self.refused(&document, moved).into());
        }
        self.givers.lock().unwrap_or_else(PoisonError::into_inner).push(endpoint.clone());
        let Answer { mut response, .. } = answer;
        let mut patience = Patience::new(core.config.timeouts.idle);
        loop {
            let asked = Instant::now();
            let Some(mut piece) = core.next_chunk(&operation, &mut response, patience.left).await? else {
                break;
            };
            patience.spend(asked.elapsed(), piece.len());
            if skip > 0 {
                let skipped = piece.split_to(skip.min(piece.len() as u64).try_into().unwrap_or(piece.len()));
                skip -= skipped.len() as u64;
            }
            if piece.is_empty() {
                continue;
            }
            if self.offset + piece.len() as u64 > self.size {
                return Err(self.corrupt(&response, "more").into());
            }
            self.offset += piece.len() as u64;
            if self.sender.send(piece).await.is_err() {
                return Err(Ended::Unwanted);
            }
        }
        if self.offset == self.size {
            return Ok(());
        }
        let detail = format!("{} ended after {} of {} bytes", place(response.url()), self.offset, self.size);
        Err(Failure::transient(RegistryError::new(ErrorKind::Corrupt, operation.as_str(), detail)).into())
    }

    /// How many bytes of this answer we already have. Sizes that cannot fit are refused before a byte is read.
    fn begins_at(&self, status: u16, answer: &Answer) -> Result<u64, Failure> {
        let length = answer.response.content_length();
        match status {
            200 if length.is_some_and(|length| length != self.size) => {
                let html = answer
                    .response
                    .headers()
                    .get(CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
                let mut failure =
                    self.corrupt(&answer.response, if html { "a web page, not" } else { "other than" });
                if html {
                    failure.error = failure
                        .error
                        .hint("this is not a registry, or something on the way answered instead");
                }
                Err(failure)
            }
            200 => Ok(self.offset),
            206 => {
                let range =
                    answer.response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let start = range.and_then(|range| range.trim().strip_prefix("bytes "));
                let start = start
                    .and_then(|range| range.split('-').next())
                    .and_then(|start| start.parse::<u64>().ok());
                match start {
                    Some(start) if start == self.offset => Ok(0),
                    _ => Err(self.corrupt(&answer.response, "another range than asked for, not")),
                }
            }
            _ => Ok(0),
        }
    }

    fn corrupt(&self, response: &reqwest::Response, what: &str) -> Failure {
        let detail =
            format!("{} gives {what} the {} bytes of its descriptor", place(response.url()), self.size);
        RegistryError::new(ErrorKind::Corrupt, self.operation.as_str(), detail).into()
    }

    fn refused(&self, document: &Document, moved: bool) -> Failure {
        let mut failure = refusal(&self.operation, document, moved);
        if document.status == 416 {
            let detail = format!("{} has fewer than {} bytes", place(&document.url), self.size);
            failure = RegistryError::new(ErrorKind::Corrupt, self.operation.as_str(), detail).into();
        }
        if document.status == 404 && moved {
            failure.again = Again::Backoff;
        }
        failure
    }
}

/// Why a stretch of a transfer ended before the blob did.
enum Ended {
    Failed(Failure),
    /// Nobody wants the rest.
    Unwanted,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How long a peer may still keep us waiting. It is spent by waiting only, and given back for a useful number of
/// bytes: one byte now and then would hold a transfer for ever.
struct Patience {
    all: Duration,
    left: Duration,
    received: usize,
}

impl Patience {
    /// Less than this within the idle time is no transfer.
    const USEFUL: usize = 4096;

    fn new(all: Duration) -> Self {
        Self { all, left: all, received: 0 }
    }

    fn spend(&mut self, waited: Duration, received: usize) {
        self.left = self.left.saturating_sub(waited);
        self.received += received;
        if self.received >= Self::USEFUL {
            (self.left, self.received) = (self.all, 0);
        }
    }
}
