//! Writing to a registry: blobs, manifests (distribution-spec v1.1 §Push).
//!
//! The thread that asked for a push reads the source and feeds the request's body; the answer is awaited beside it.
//! An upload is a *session* at the registry, an address that changes with every answer. When a request breaks off,
//! the session is asked how much it has and goes on from there; when the session is gone, a new one begins.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use strake_oci::{Descriptor, Digest, MediaType, ParsedManifest, Reference};
use tokio::sync::mpsc;

use crate::auth::{Access, Scopes};
use crate::body::{FedBody, fed_body};
use crate::client::{BlobSource, Pushed, PushedBlob};
use crate::error::{Again, Failure};
use crate::runtime::{Runtime, or_cancelled};
use crate::server_text::MAX_ERROR_BODY;
use crate::transfers::Progress;
use crate::transport::{Call, Core, Document, Endpoint, Target, place, refusal, silent, unanswered};
use crate::{ErrorKind, RegistryError};

/// Bytes per piece that is handed to the connection.
const PIECE: usize = 256 << 10;

/// Bytes of a stream that are kept to send again: what may be on the way between us, the kernels and the registry's
/// disk when a connection breaks.
const REPLAY: usize = 16 << 20;

/// Bytes per request where a registry (or a proxy before it) refuses a blob in one piece.
const SMALL_REQUEST: u64 = 64 << 20;

/// How many repositories are tried as the source of a mount: each costs a request.
const MAX_MOUNTS: usize = 3;

/// Everything that the requests of one push share.
pub(crate) struct Push<'a> {
    core: &'a Arc<Core>,
    runtime: &'a Runtime,
    endpoint: Endpoint,
    scopes: Scopes,
    operation: String,
    progress: &'a dyn Progress,
}

/// Where the bytes of known content come from.
enum Known<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
}

/// How the beginning of an upload ended.
enum Begun {
    Mounted,
    Session(Url),
}

/// Why a request of an upload did not end it.
enum Setback {
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
struct Session {
    url: Url,
    /// Bytes that the registry has.
    offset: u64,
}

impl<'a> Push<'a> {
    pub(crate) fn new(
        core: &'a Arc<Core>,
        runtime: &'a Runtime,
        repository: &Reference,
        mount_from: &[Reference],
        what: &str,
        progress: &'a dyn Progress,
    ) -> Self {
        let endpoint = core.origin(repository);
        let mut scopes = Scopes::one(&endpoint.repository, Access::Push);
        for source in candidates(repository, mount_from) {
            // One token for both sides: a registry checks the right to pull from the source with it.
            scopes = scopes.and(source.repository(), Access::Pull);
        }
        let operation = format!("push {what} to {}/{}", endpoint.registry, endpoint.repository);
        Self { core, runtime, endpoint, scopes, operation, progress }
    }

    pub(crate) fn blob(
        &self,
        source: BlobSource<'_>,
        repository: &Reference,
        mount_from: &[Reference],
    ) -> Result<PushedBlob, RegistryError> {
        let (descriptor, known) = match &source {
            BlobSource::File { path, descriptor } => (descriptor.clone(), Known::File(path)),
            BlobSource::Bytes { bytes, descriptor } => (descriptor.clone(), Known::Bytes(bytes)),
            BlobSource::Stream { .. } => return self.stream(source),
        };
        if self.exists(descriptor.digest)? {
            return Ok(PushedBlob { descriptor, how: Pushed::Existed });
        }
        match self.begin(descriptor.digest, &candidates(repository, mount_from))? {
            Begun::Mounted => Ok(PushedBlob { descriptor, how: Pushed::Mounted }),
            Begun::Session(url) => {
                self.upload(&known, &descriptor, Session { url, offset: 0 })?;
                Ok(PushedBlob { descriptor, how: Pushed::Uploaded })
            }
        }
    }

    fn exists(&self, digest: Digest) -> Result<bool, RegistryError> {
        self.runtime.block_on(&self.operation, self.core.has_blob(&self.endpoint, &self.scopes, digest))
    }

    fn call<'c>(&'c self, method: Method, target: Target, accept: &'c [u16]) -> Call<'c> {
        Call::new(&self.operation, &self.endpoint, &self.scopes, method, target, accept)
    }

    fn request(&self, call: &Call<'_>) -> Result<Document, RegistryError> {
        self.runtime.block_on(&self.operation, self.core.request(call))
    }

    /// Asks for a mount from each candidate; the session that the last refusal opens is the one to upload to.
    fn begin(&self, digest: Digest, candidates: &[&Reference]) -> Result<Begun, RegistryError> {
        let mut session: Option<Url> = None;
        for candidate in candidates {
            let mut query = Url::parse("q:").expect("a scheme and a colon are an address");
            query
                .query_pairs_mut()
                .append_pair("mount", &digest.to_string())
                .append_pair("from", candidate.repository());
            let path = format!("blobs/uploads/?{}", query.query().unwrap_or_default());
            // A source that we may not read, or that is not there, is no reason to fail.
            let call = self.call(Method::POST, Target::Path(path), &[201, 202, 400, 401, 403, 404, 405]);
            let answer = self.request(&call);
            if let Some(unused) = session.take() {
                self.abandon(unused);
            }
            match answer {
                Ok(document) if document.status == 201 => {
                    self.agrees(&document, digest)?;
                    return Ok(Begun::Mounted);
                }
                Ok(document) => session = document.location().filter(|_| document.status == 202),
                Err(error) if error.kind == ErrorKind::Unauthorized => {}
                Err(error) => return Err(error),
            }
        }
        match session {
            Some(url) => Ok(Begun::Session(url)),
            None => self.open().map(Begun::Session),
        }
    }

    fn open(&self) -> Result<Url, RegistryError> {
        let path = Target::Path("blobs/uploads/".to_owned());
        let document = self.request(&self.call(Method::POST, path, &[202]))?;
        document.location().ok_or_else(|| self.no_location(&document))
    }

    fn no_location(&self, document: &Document) -> RegistryError {
        let detail = format!("{} opened an upload without saying where", place(&document.url));
        RegistryError::new(ErrorKind::Malformed, self.operation.as_str(), detail)
    }

    /// Tells the registry that a session is not needed. What comes of it does not matter: sessions expire.
    fn abandon(&self, url: Url) {
        let all: Vec<u16> = (200..600).collect();
        let call = self.call(Method::DELETE, Target::Url(url), &all);
        let _ = self.request(&call);
    }

    /// Sends content of known digest until the registry has it.
    fn upload(
        &self,
        known: &Known<'_>,
        descriptor: &Descriptor,
        mut session: Session,
    ) -> Result<(), RegistryError> {
        let mut attempt = 0;
        let mut most_per_request = u64::MAX;
        loop {
            let before = session.offset;
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
                Setback::Broken(failure) | Setback::Lost(failure) if session.offset > before => {
                    attempt = 0;
                    failure
                }
                Setback::Broken(failure) | Setback::Lost(failure) => failure,
            };
            self.pause(&mut attempt, failure)?;
            // The answer may have been lost, not the blob.
            if self.exists(descriptor.digest)? {
                return Ok(());
            }
            session = self.resume(&session, descriptor.size)?;
        }
    }

    fn pause(&self, attempt: &mut u32, failure: Failure) -> Result<(), RegistryError> {
        self.runtime.block_on(&self.operation, self.core.pause(&self.endpoint, attempt, failure))
    }

    /// Where the session stands now; a new session when it is gone.
    fn resume(&self, session: &Session, size: u64) -> Result<Session, RegistryError> {
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
    fn patched(&self, document: &Document, session: &mut Session, end: u64) -> Result<(), Setback> {
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

    fn close(&self, session: &Session, digest: Digest) -> Result<(), Setback> {
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

    /// A registry that says which digest it stored must say ours.
    fn agrees(&self, document: &Document, digest: Digest) -> Result<(), RegistryError> {
        let said = document.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        match said {
            Some(said) if said != digest => {
                let detail = format!("{} stored {said} instead of {digest}", place(&document.url));
                Err(RegistryError::new(ErrorKind::Corrupt, self.operation.as_str(), detail))
            }
            _ => Ok(()),
        }
    }

    fn local(&self, what: &str, error: &io::Error) -> RegistryError {
        RegistryError::new(ErrorKind::Local, self.operation.as_str(), format!("{what}: {error}"))
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
        self.feed(method, url, headers, Some(left), |sender| {
            while left > 0 {
                let piece = read_piece(reader, left).map_err(|error| self.local(&name, &error))?;
                if piece.is_empty() {
                    let error = io::Error::other("it is shorter than its descriptor says");
                    return Err(self.local(&name, &error));
                }
                left -= piece.len() as u64;
                let count = piece.len() as u64;
                if sender.blocking_send(Ok(piece)).is_err() {
                    return Ok(());
                }
                self.progress.advance(count);
            }
            Ok(())
        })
    }

    /// Sends one request whose body `fill` gives, piece by piece, on this thread.
    fn feed(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        length: Option<u64>,
        fill: impl FnOnce(&mpsc::Sender<io::Result<Bytes>>) -> Result<(), RegistryError>,
    ) -> Result<Document, Setback> {
        let (body, sender, state) = fed_body(length);
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
            or_cancelled(cancelled, &operation, sent).await?;
            Ok::<_, RegistryError>(outcome)
        });
        let filled = fill(&sender);
        if filled.is_err() {
            // An unfinished body of unknown length would otherwise look like a finished one.
            let _ = sender.blocking_send(Err(io::Error::other("the source failed")));
        }
        drop(sender);
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

    /// Sends content while it is made: one `PATCH` without a length, closed by a `PUT` with the digest.
    fn stream(&self, source: BlobSource<'_>) -> Result<PushedBlob, RegistryError> {
        let BlobSource::Stream { reader, finish } = source else {
            unreachable!("only called for a stream");
        };
        let mut tape = Tape { reader, kept: VecDeque::new(), kept_bytes: 0, end: 0, is_complete: false };
        let mut session = Session { url: self.open()?, offset: 0 };
        let mut attempt = 0;
        let mut failed_at = 0;
        while let Err(setback) = self.send_stream(&mut tape, &mut session) {
            let failure = match setback {
                Setback::Final(error) | Setback::TooLarge(error) => return Err(error),
                Setback::Broken(failure) | Setback::Lost(failure) => failure,
            };
            if session.offset > failed_at {
                attempt = 0;
            }
            failed_at = session.offset;
            let error = failure.error.clone();
            self.pause(&mut attempt, failure)?;
            session = self.resume(&session, tape.end)?;
            if session.offset < tape.start() {
                return Err(
                    error.hint("too much of the content is lost to send it again; start the push anew")
                );
            }
        }
        let descriptor = finish().map_err(|error| self.local("finish the content", &error))?;
        if descriptor.size != tape.end {
            let error =
                io::Error::other(format!("{} bytes came, {} were announced", tape.end, descriptor.size));
            return Err(self.local("finish the content", &error));
        }
        self.close_stream(&session, descriptor.digest)?;
        Ok(PushedBlob { descriptor, how: Pushed::Uploaded })
    }

    fn send_stream(&self, tape: &mut Tape<'_>, session: &mut Session) -> Result<(), Setback> {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let url = session.url.clone();
        let from = session.offset;
        let document = self.feed(Method::PATCH, url, headers, None, |sender| {
            for piece in tape.replay(from) {
                if sender.blocking_send(Ok(piece)).is_err() {
                    return Ok(());
                }
            }
            while let Some(piece) = tape.next().map_err(|error| self.local("make the content", &error))? {
                let count = piece.len() as u64;
                if sender.blocking_send(Ok(piece)).is_err() {
                    return Ok(());
                }
                self.progress.advance(count);
            }
            Ok(())
        })?;
        self.patched(&document, session, tape.end)?;
        // The registry may have answered before the end of what it was sent.
        if tape.is_complete { Ok(()) } else { self.send_stream(tape, session) }
    }

    fn close_stream(&self, session: &Session, digest: Digest) -> Result<(), RegistryError> {
        let error = match self.close(session, digest) {
            Ok(()) => return Ok(()),
            Err(Setback::Final(error) | Setback::TooLarge(error)) => error,
            Err(Setback::Broken(failure) | Setback::Lost(failure)) => failure.error,
        };
        // The first of several tries may have succeeded with its answer lost.
        if self.exists(digest)? { Ok(()) } else { Err(error) }
    }

    pub(crate) fn manifest(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Descriptor, RegistryError> {
        let descriptor = Descriptor::of(media_type.as_str(), bytes);
        let fail = |kind, detail: String| Err(RegistryError::new(kind, self.operation.as_str(), detail));
        if bytes.len() > ParsedManifest::MAX_SIZE {
            return fail(
                ErrorKind::TooLarge,
                format!("manifest of {} bytes is larger than 4 MiB", bytes.len()),
            );
        }
        if let Some(wanted) = reference.digest().filter(|wanted| *wanted != descriptor.digest) {
            return fail(ErrorKind::Corrupt, format!("its digest is {}, not {wanted}", descriptor.digest));
        }
        let Ok(kind) = HeaderValue::from_str(media_type.as_str()) else {
            return fail(ErrorKind::Refused, "its media type cannot be sent".to_owned());
        };
        let target = Target::Path(format!("manifests/{}", reference.selector()));
        let mut call = self.call(Method::PUT, target, &[200, 201, 202]);
        call.headers.insert(CONTENT_TYPE, kind);
        call.body = Bytes::copy_from_slice(bytes);
        let document = self.request(&call)?;
        self.agrees(&document, descriptor.digest)?;
        Ok(descriptor)
    }
}

/// Repositories worth asking for a mount: of the same registry, not the target itself, each once.
fn candidates<'r>(repository: &Reference, mount_from: &'r [Reference]) -> Vec<&'r Reference> {
    let mut found: Vec<&Reference> = Vec::new();
    for source in mount_from {
        let is_other =
            source.registry() == repository.registry() && source.repository() != repository.repository();
        if is_other && !found.iter().any(|known| known.repository() == source.repository()) {
            found.push(source);
        }
    }
    found.truncate(MAX_MOUNTS);
    found
}

/// The number of bytes in a `Range: 0-N` (inclusive, distribution-spec v1.1 §Pushing a blob in chunks). Registries
/// say `0-0` both for nothing and for one byte; nothing is far likelier, and a wrong guess is answered by 416.
fn range_end(range: &str) -> Option<u64> {
    let range = range.trim();
    let (start, end) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    (start.trim() == "0").then_some(if end == 0 { 0 } else { end.checked_add(1)? })
}

fn with_digest(url: &Url, digest: Digest) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}

fn read_piece(reader: &mut dyn Read, most: u64) -> io::Result<Bytes> {
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

/// A stream of which the last part can be played again.
struct Tape<'a> {
    reader: Box<dyn Read + Send + 'a>,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// Bytes read so far.
    end: u64,
    is_complete: bool,
}

impl Tape<'_> {
    /// The first byte that is still there.
    fn start(&self) -> u64 {
        self.end - self.kept_bytes as u64
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_complete {
            return Ok(None);
        }
        let piece = read_piece(&mut self.reader, u64::MAX)?;
        if piece.is_empty() {
            self.is_complete = true;
            return Ok(None);
        }
        self.end += piece.len() as u64;
        self.kept_bytes += piece.len();
        self.kept.push_back(piece.clone());
        while self.kept_bytes > REPLAY {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.len();
        }
        Ok(Some(piece))
    }

    /// What was read from `offset` on.
    fn replay(&self, offset: u64) -> Vec<Bytes> {
        let mut skip = usize::try_from(offset.saturating_sub(self.start())).unwrap_or(usize::MAX);
        let mut pieces = Vec::new();
        for piece in &self.kept {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() {
                pieces.push(piece.slice(skipped..));
            }
        }
        pieces
    }
}

/// One request with a fed body, on its way.
struct Sending {
    core: Arc<Core>,
    endpoint: Endpoint,
    scopes: Scopes,
    operation: String,
    method: Method,
    url: Url,
    headers: HeaderMap,
}

impl Sending {
    async fn run(mut self, body: FedBody, state: &crate::body::BodyState) -> Result<Document, Failure> {
        let target = Target::Url(self.url.clone());
        let call = Call::new(&self.operation, &self.endpoint, &self.scopes, self.method.clone(), target, &[]);
        // A body can be sent once only: the token is made sure of before, not after a 401.
        let is_origin = self.core.is_origin(&self.endpoint, &self.url);
        let authorization = if is_origin { self.core.authorization(&call).await? } else { None };
        if let Some(value) = &authorization {
            self.headers.insert(AUTHORIZATION, value.clone());
        }
        let host = self.core.host_of(&self.url);
        let permit = Arc::clone(&host.permits).acquire_owned().await.ok();
        let headers = std::mem::take(&mut self.headers);
        let request = self.core.prepare(&host, self.method.clone(), self.url.clone(), headers)?;
        let mut response = std::pin::pin!(request.body(reqwest::Body::wrap(body)).send());
        let idle = self.core.config.timeouts.idle;
        let mut counted = 0;
        let response = loop {
            let waited = tokio::time::timeout(idle, response.as_mut()).await;
            let taken = state.taken.load(Ordering::Relaxed);
            self.core.counters.sent.fetch_add(taken - counted, Ordering::Relaxed);
            let is_moving = taken > counted || state.starving.load(Ordering::Relaxed);
            counted = taken;
            match waited {
                Ok(answered) => break answered,
                Err(_) if is_moving => {}
                Err(_) => return Err(silent(&self.operation, &self.url, idle)),
            }
        };
        let response = response.map_err(|error| unanswered(&self.operation, &host, &self.url, &error))?;
        let document = self.core.read_response(&self.operation, response, MAX_ERROR_BODY, false).await?;
        drop(permit);
        if let Some(value) = authorization.filter(|_| document.status == 401) {
            self.core.forget_token(&self.endpoint, &value).await;
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_tape_plays_its_last_part_again() {
        let content: Vec<u8> =
            (0..REPLAY + 3 * PIECE).map(|i| u8::try_from(i / 1000 % 251).unwrap()).collect();
        let reader = Box::new(content.as_slice());
        let mut tape = Tape { reader, kept: VecDeque::new(), kept_bytes: 0, end: 0, is_complete: false };
        while tape.next().unwrap().is_some() {}
        assert_eq!(tape.end, content.len() as u64);
        assert_eq!(tape.start(), 3 * PIECE as u64);
        for offset in [tape.start(), tape.start() + 1, tape.end - 1, tape.end] {
            let again = tape.replay(offset).concat();
            assert!(again == content[usize::try_from(offset).unwrap()..], "{offset}");
        }
    }

    #[test]
    fn mounts_are_asked_of_the_same_registry_only() {
        let parse = |text: &str| text.parse::<Reference>().unwrap();
        let sources: Vec<Reference> =
            ["r.x/a", "r.x/b:1", "r.x/b:2", "other.x/c", "r.x/d", "r.x/e", "r.x/f"].map(parse).to_vec();
        let found = candidates(&parse("r.x/a:tag"), &sources);
        assert_eq!(found.iter().map(|r| r.repository()).collect::<Vec<_>>(), ["b", "d", "e"]);
    }
}
