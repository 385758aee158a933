//! Sending content of known digest, and what every upload needs: sessions, setbacks, requests that are fed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use strake_oci::{Descriptor, Digest};

use crate::body::{Feeder, fed_body};
use crate::error::{Again, Failure};
use crate::failure::{is_web_page, place, refusal, web_page};
use crate::push::Push;
use crate::runtime::or_cancelled;
use crate::sending::Sending;
use crate::transport::{Document, Target};
use crate::whole::Opened;
use crate::{ErrorKind, RegistryError};

/// Bytes per piece that is handed to the connection.
pub(crate) const PIECE: usize = 256 << 10;

/// Bytes per request where a registry (or a proxy before it) refuses a blob in one piece.
const SMALL_REQUEST: u64 = 64 << 20;

/// Bytes that an upload has to gain on the best it ever had for its failures before that to be forgotten. Less, or
/// progress that is lost and made again, could go on for ever.
const GOOD_STRETCH: u64 = 1 << 20;

/// How far an upload has ever come.
#[derive(Default)]
pub(crate) struct Reached(u64);

impl Reached {
    /// Notes where it stands; whether that is a good stretch further than ever.
    pub(crate) fn is_further(&mut self, offset: u64) -> bool {
        let is_further = offset >= self.0.saturating_add(GOOD_STRETCH);
        if is_further {
            self.0 = offset;
        }
        is_further
    }
}

/// Where the bytes of known content come from.
pub(crate) enum Known<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
}

/// Why a request of an upload did not end it.
pub(crate) enum Setback {
    /// Perhaps the session can go on.
    Broken(Failure),
    /// The registry does not know the session any more.
    Lost(Failure),
    /// The request was too large.
    TooLarge(RegistryError),
    /// There is no use in going on.
    Final(RegistryError),
}

impl From<RegistryError> for Setback {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

/// Where an upload stands.
pub(crate) struct Session {
    pub(crate) url: Url,
    /// Bytes that the registry has.
    pub(crate) offset: u64,
}

impl Push<'_> {
    /// Sends content of known digest, to a session if there is one already, until the registry has it.
    pub(crate) fn upload(
        &self,
        known: &Known<'_>,
        descriptor: &Descriptor,
        session: Option<Session>,
    ) -> Result<(), RegistryError> {
        let mut session = match session {
            Some(session) => session,
            None => match self.open_with(known, descriptor)? {
                Opened::Stored => return Ok(()),
                Opened::Session(session) => session,
            },
        };
        let mut attempt = 0;
        let mut reached = Reached::default();
        let mut most_per_request = u64::MAX;
        loop {
            let setback = match self.send_known(known, descriptor, &mut session, most_per_request) {
                Ok(()) => return Ok(()),
                Err(setback) => setback,
            };
            let failure = match setback {
                Setback::Final(error) => return Err(error),
                Setback::TooLarge(error) if most_per_request <= SMALL_REQUEST => return Err(error),
                Setback::TooLarge(_) => {
                    most_per_request = SMALL_REQUEST;
                    session = Session { url: self.open()?, offset: 0 };
                    self.progress.restart();
                    continue;
                }
                Setback::Broken(failure) | Setback::Lost(failure) => failure,
            };
            if reached.is_further(session.offset) {
                attempt = 0;
            }
            self.pause(&mut attempt, failure)?;
            // The answer may have been lost, not the blob.
            if self.exists(descriptor.digest)? {
                return Ok(());
            }
            session = self.resume(&session, descriptor.size)?;
        }
    }

    /// Where the session stands now; a new session when it is gone.
    pub(crate) fn resume(&self, session: &Session, size: u64) -> Result<Session, RegistryError> {
        if let Some(session) = self.status(session)?.filter(|session| session.offset <= size) {
            return Ok(session);
        }
        self.progress.restart();
        Ok(Session { url: self.open()?, offset: 0 })
    }

    /// Asks a session how much it has; `None` when the registry does not know it.
    fn status(&self, session: &Session) -> Result<Option<Session>, RegistryError> {
        let call = self.call(Method::GET, Target::Url(session.url.clone()), &[200, 204, 400, 404, 405, 416]);
        let document = self.request(&call)?;
        if !matches!(document.status, 200 | 204) {
            return Ok(None);
        }
        let offset = document.header("range").map_or(Some(0), range_end);
        let url = document.location().unwrap_or_else(|| session.url.clone());
        Ok(offset.map(|offset| Session { url, offset }))
    }

    /// One upload from the session's offset to the end: a single `PUT` where possible, `PATCH`es and a closing
    /// `PUT` otherwise.
    fn send_known(
        &self,
        known: &Known<'_>,
        descriptor: &Descriptor,
        session: &mut Session,
        most: u64,
    ) -> Result<(), Setback> {
        if session.offset == 0 && descriptor.size <= most {
            let url = with_digest(&session.url, descriptor.digest);
            let document = self.feed_known(Method::PUT, url, HeaderMap::new(), known, 0, descriptor.size)?;
            return self.stored(&document, descriptor.digest);
        }
        while session.offset < descriptor.size {
            let end = descriptor.size.min(session.offset.saturating_add(most));
            let mut headers = HeaderMap::new();
            let range = format!("{}-{}", session.offset, end - 1);
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits and a dash"));
            let url = session.url.clone();
            let document = self.feed_known(Method::PATCH, url, headers, known, session.offset, end)?;
            self.patched(&document, session, end)?;
        }
        self.close(session, descriptor.digest)
    }

    /// Notes where a session goes on after a `PATCH` that brought it to `end`.
    pub(crate) fn patched(
        &self,
        document: &Document,
        session: &mut Session,
        end: u64,
    ) -> Result<(), Setback> {
        self.judge(document, &[202, 201, 204])?;
        session.url = document.location().ok_or_else(|| self.no_location(document))?;
        match document.header("range").map_or(Some(end), range_end) {
            // One byte is said the same way as none.
            Some(offset) if offset == end || (offset, end) == (0, 1) => {
                session.offset = end;
                Ok(())
            }
            _ => {
                let detail = format!("{} took a part of what it was sent", place(&document.url));
                let error = RegistryError::new(ErrorKind::Unavailable, self.operation.as_str(), detail);
                Err(Setback::Broken(Failure::transient(error)))
            }
        }
    }

    pub(crate) fn close(&self, session: &Session, digest: Digest) -> Result<(), Setback> {
        let url = with_digest(&session.url, digest);
        let all: Vec<u16> = (200..500).collect();
        let mut call = self.call(Method::PUT, Target::Url(url), &all);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let document = self.request(&call)?;
        self.stored(&document, digest)
    }

    fn stored(&self, document: &Document, digest: Digest) -> Result<(), Setback> {
        self.judge(document, &[201, 202, 204])?;
        self.agrees(document, digest).map_err(Setback::Final)
    }

    /// Sorts the answer to a request of an upload.
    fn judge(&self, document: &Document, good: &[u16]) -> Result<(), Setback> {
        if good.contains(&document.status) {
            return Ok(());
        }
        if is_web_page(document) {
            return Err(Setback::Final(web_page(&self.operation, &document.url)));
        }
        let mut failure = refusal(&self.operation, document, false);
        let errors = document.errors();
        let is_lost =
            document.status == 404 || errors.has("BLOB_UPLOAD_UNKNOWN") || errors.has("BLOB_UPLOAD_INVALID");
        Err(match document.status {
            413 => Setback::TooLarge(
                failure.error.hint("a proxy before the registry limits the size of requests"),
            ),
            // The range was not where the session stands, or the token ended on the way: ask and go on.
            401 | 416 => {
                failure.again = Again::Backoff;
                Setback::Broken(failure)
            }
            _ if is_lost => {
                failure.again = Again::Backoff;
                Setback::Lost(failure)
            }
            _ if failure.again == Again::Never => Setback::Final(failure.error),
            _ => Setback::Broken(failure),
        })
    }

    fn feed_known(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        known: &Known<'_>,
        start: u64,
        end: u64,
    ) -> Result<Document, Setback> {
        let mut file;
        let mut memory;
        let (name, reader): (String, &mut dyn Read) = match known {
            Known::Bytes(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                memory = &bytes[start..];
                ("read content".to_owned(), &mut memory)
            }
            Known::File(path) => {
                let name = format!("read {}", path.display());
                file = File::open(path).map_err(|error| self.local(&name, &error))?;
                file.seek(SeekFrom::Start(start)).map_err(|error| self.local(&name, &error))?;
                (name, &mut file)
            }
        };
        let mut left = end - start;
        self.feed(method, url, headers, Some(left), |feeder| {
            while left > 0 {
                let piece = read_piece(reader, left).map_err(|error| self.local(&name, &error))?;
                if piece.is_empty() {
                    let error = io::Error::other("it is shorter than its descriptor says");
                    return Err(self.local(&name, &error));
                }
                left -= piece.len() as u64;
                let count = piece.len() as u64;
                if !feeder.give(Ok(piece)) {
                    return Ok(());
                }
                self.progress.advance(count);
            }
            Ok(())
        })
    }

    /// Sends one request whose body `fill` gives, piece by piece, on this thread.
    pub(crate) fn feed(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        length: Option<u64>,
        fill: impl FnOnce(&Feeder) -> Result<(), RegistryError>,
    ) -> Result<Document, Setback> {
        // Required for a PUT (distribution-spec v1.1 §POST then PUT), and what chunks are.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let (body, feeder, state, in_flight) = fed_body(length, self.runtime.handle()?);
        let sending = Sending {
            core: Arc::clone(self.core),
            endpoint: self.endpoint.clone(),
            scopes: self.scopes.clone(),
            operation: self.operation.clone(),
            method,
            url,
            headers,
        };
        let cancelled = self.runtime.cancellation();
        let operation = self.operation.clone();
        let answer = self.runtime.handle()?.spawn(async move {
            let mut outcome = None;
            let sent = async {
                outcome = Some(sending.run(body, &state).await);
                Ok(())
            };
            let ended = or_cancelled(cancelled, &operation, sent).await;
            drop(in_flight);
            ended?;
            Ok::<_, RegistryError>(outcome)
        });
        let filled = fill(&feeder);
        if filled.is_err() {
            // An unfinished body of unknown length would otherwise look like a finished one.
            feeder.give(Err(io::Error::other("the source failed")));
        }
        drop(feeder);
        let answered = self.runtime.handle()?.block_on(answer);
        filled?;
        match answered {
            Ok(Ok(Some(Ok(document)))) => Ok(document),
            Ok(Ok(Some(Err(failure)))) if failure.again == Again::Never => Err(Setback::Final(failure.error)),
            Ok(Ok(Some(Err(failure)))) => Err(Setback::Broken(failure)),
            Ok(Err(error)) => Err(Setback::Final(error)),
            Ok(Ok(None)) | Err(_) => {
                Err(RegistryError::new(ErrorKind::Cancelled, self.operation.as_str(), "interrupted").into())
            }
        }
    }
}

/// The number of bytes in a `Range: 0-N` (inclusive, distribution-spec v1.1 §Pushing a blob in chunks). Registries
/// say `0-0` both for nothing and for one byte; nothing is far likelier, and a wrong guess is answered by 416.
pub(crate) fn range_end(range: &str) -> Option<u64> {
    let range = range.trim();
    let (start, end) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    (start.trim() == "0").then_some(if end == 0 { 0 } else { end.checked_add(1)? })
}

pub(crate) fn with_digest(url: &Url, digest: Digest) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}

pub(crate) fn read_piece(reader: &mut dyn Read, most: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(most).unwrap_or(PIECE).min(PIECE)];
    let mut filled = 0;
    while filled < piece.len() {
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_ground_counts() {
        let mut reached = Reached::default();
        let further = [0, 1, GOOD_STRETCH, GOOD_STRETCH, 0, GOOD_STRETCH + 1, 2 * GOOD_STRETCH];
        let found = further.map(|offset| reached.is_further(offset));
        assert_eq!(found, [false, false, true, false, false, false, true]);
    }

    #[test]
    fn ranges_of_sessions() {
        for (range, expect) in [
            ("0-0", Some(0)),
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("5-9", None),
            ("0-18446744073709551615", None),
            ("", None),
            ("0", None),
            ("0-x", None),
        ] {
            assert_eq!(range_end(range), expect, "{range}");
        }
    }

    #[test]
    fn a_digest_joins_an_existing_query() {
        let url: Url = "http://h/v2/a/blobs/uploads/u?_state=a%2Fb%3D".parse().unwrap();
        let url = with_digest(&url, Digest::of(b"")).to_string();
        assert!(
            url.starts_with("http://h/v2/a/blobs/uploads/u?_state=a%2Fb%3D&digest=sha256%3Ae3b0"),
            "{url}"
        );
    }
}
