//! Reading from a registry: manifests, blobs, tags.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use strake_oci::{Descriptor, Digest, Hasher, MediaType, ParsedManifest, Reference};
use tokio::sync::mpsc;

use crate::auth::{Access, Scopes};
use crate::client::RawManifest;
use crate::credentials::longest_prefix_at;
use crate::error::{Again, Failure};
use crate::host::authority_of;
use crate::server_text::{MAX_ERROR_BODY, clean};
use crate::transport::{Answer, Call, Core, Document, Endpoint, Target, place, refusal};
use crate::{ErrorKind, Notice, RegistryError};

/// Pieces of a blob that may wait for the reader; hyper's pieces are at most 400 KiB, mostly far less.
const PIECES_AHEAD: usize = 32;

/// Progress that makes a transfer's failures before it forgotten.
const GOOD_STRETCH: u64 = 1 << 20;

/// Pages of a tag list that are read; each has at least one tag.
const MAX_PAGES: usize = 10_000;

impl Core {
    /// The registry itself.
    pub(crate) fn origin(&self, reference: &Reference) -> Endpoint {
        Endpoint {
            host: self.host(authority_of(reference.registry())),
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            is_mirror: false,
        }
    }

    /// The mirrors of a repository that are still trusted, then the registry itself.
    pub(crate) fn sources(&self, reference: &Reference) -> Vec<Endpoint> {
        let found = longest_prefix_at(&self.config.mirrors, reference.registry(), reference.repository());
        let mut sources = Vec::new();
        if let Some((prefix, mirrors)) = found {
            let full = format!("{}/{}", reference.registry(), reference.repository());
            let rest = full[prefix.len()..].trim_start_matches('/');
            for mirror in mirrors {
                let (registry, path) = mirror.host.split_once('/').unwrap_or((&mirror.host, ""));
                let parts = [path.trim_matches('/'), rest];
                let repository =
                    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
                let host = self.host(authority_of(registry));
                sources.push(Endpoint { host, registry: registry.to_owned(), repository, is_mirror: true });
            }
        }
        sources.retain(|source| !source.host.distrusted.load(Ordering::Relaxed));
        sources.push(self.origin(reference));
        sources
    }

    pub(crate) async fn resolve(&self, reference: &Reference) -> Result<Option<RawManifest>, RegistryError> {
        let operation = format!("pull manifest {reference}");
        for endpoint in self.sources(reference) {
            match self.manifest_at(&operation, &endpoint, reference).await {
                Ok(None) if endpoint.is_mirror => {}
                Err(error) if endpoint.is_mirror => self.skip_mirror(&endpoint, &error),
                result => return result,
            }
        }
        Ok(None)
    }

    fn skip_mirror(&self, endpoint: &Endpoint, error: &RegistryError) {
        let (host, reason) = (endpoint.host.authority.clone(), error.detail.clone());
        self.notice(&Notice::MirrorSkipped { host, reason });
    }

    async fn manifest_at(
        &self,
        operation: &str,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<Option<RawManifest>, RegistryError> {
        let scopes = Scopes::one(&endpoint.repository, Access::Pull);
        let target = Target::Path(format!("manifests/{}", reference.selector()));
        let mut call = Call::new(operation, endpoint, &scopes, Method::GET, target, &[200, 404]);
        call.headers = accept_manifests();
        call.limit = ParsedManifest::MAX_SIZE;
        let document = self.request(&call).await?;
        if document.status == 404 {
            return Ok(None);
        }
        check_manifest(operation, document, reference.digest()).map(Some)
    }

    pub(crate) async fn head(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        let operation = format!("look up manifest {reference}");
        for endpoint in self.sources(reference) {
            match self.head_at(&operation, &endpoint, reference).await {
                Ok(None) if endpoint.is_mirror => {}
                Err(error) if endpoint.is_mirror => self.skip_mirror(&endpoint, &error),
                result => return result,
            }
        }
        Ok(None)
    }

    async fn head_at(
        &self,
        operation: &str,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let scopes = Scopes::one(&endpoint.repository, Access::Pull);
        let target = Target::Path(format!("manifests/{}", reference.selector()));
        let mut call = Call::new(operation, endpoint, &scopes, Method::HEAD, target, &[200, 404]);
        call.headers = accept_manifests();
        let document = self.request(&call).await?;
        if document.status == 404 {
            return Ok(None);
        }
        let said = document.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let size = document.header("content-length").and_then(|text| text.parse::<u64>().ok());
        let digest = reference.digest().or(said);
        let (Some(digest), Some(size), Some(media_type)) = (digest, size, stated_type(&document)) else {
            // The headers are optional in the specification: the content itself has all of it.
            let manifest = self.manifest_at(operation, endpoint, reference).await?;
            return Ok(manifest.map(|manifest| manifest.descriptor));
        };
        Ok(Some(Descriptor::new(media_type.as_str(), digest, size)))
    }

    pub(crate) async fn has_blob(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        digest: Digest,
    ) -> Result<bool, RegistryError> {
        let operation =
            format!("look up blob {}/{}@{}", endpoint.registry, endpoint.repository, digest.short());
        let target = Target::Path(format!("blobs/{digest}"));
        let call = Call::new(&operation, endpoint, scopes, Method::HEAD, target, &[200, 404]);
        Ok(self.request(&call).await?.status == 200)
    }

    pub(crate) async fn list_tags(
        &self,
        reference: &Reference,
    ) -> Result<Option<Vec<String>>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let operation = format!("list tags of {}/{}", reference.registry(), reference.repository());
        let endpoint = self.origin(reference);
        let scopes = Scopes::one(&endpoint.repository, Access::Pull);
        let mut target = Target::Path("tags/list".to_owned());
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let mut call = Call::new(&operation, &endpoint, &scopes, Method::GET, target, &[200, 404]);
            call.limit = ParsedManifest::MAX_SIZE;
            let document = self.request(&call).await?;
            if document.status == 404 {
                return Ok(None);
            }
            let malformed =
                |detail: String| RegistryError::new(ErrorKind::Malformed, operation.as_str(), detail);
            let page: Page = serde_json::from_slice(&document.body)
                .map_err(|_| malformed(format!("{} answered no tag list", place(&document.url))))?;
            let page = page.tags.unwrap_or_default();
            let next =
                document.header("link").and_then(next_page).and_then(|link| document.url.join(link).ok());
            let is_last = page.is_empty();
            tags.extend(page);
            target = match next {
                Some(next) if !is_last && self.is_origin(&endpoint, &next) => Target::Url(next),
                _ => return Ok(Some(tags)),
            };
        }
        let detail = format!("the list has more than {MAX_PAGES} pages");
        Err(RegistryError::new(ErrorKind::Malformed, operation, detail))
    }
}

/// The address in `<…>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (address, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    relation.contains("next").then_some(address)
}

fn accept_manifests() -> HeaderMap {
    let all =
        [MediaType::OCI_INDEX, MediaType::OCI_MANIFEST, MediaType::DOCKER_INDEX, MediaType::DOCKER_MANIFEST];
    let mut headers = HeaderMap::new();
    for media_type in all {
        headers.append(ACCEPT, HeaderValue::from_static(media_type));
    }
    headers
}

/// The media type of an answer, unless it is one that says nothing.
fn stated_type(document: &Document) -> Option<String> {
    let stated = document.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let stated = stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_nothing =
        matches!(stated.as_str(), "" | "application/json" | "application/octet-stream" | "text/plain");
    (!says_nothing).then_some(stated)
}

/// Makes sure that an answer is a manifest, the one that was asked for. The digest is our own; the registry's word
/// for it must merely agree.
fn check_manifest(
    operation: &str,
    document: Document,
    wanted: Option<Digest>,
) -> Result<RawManifest, RegistryError> {
    let at = place(&document.url);
    let stated = stated_type(&document);
    if stated.as_deref().is_some_and(|kind| kind.contains("html")) {
        let error =
            RegistryError::new(ErrorKind::Malformed, operation, format!("{at} answered with a web page"));
        return Err(error.hint(
            "this is not a registry, or something on the way (a proxy, a log-in page) answered instead",
        ));
    }
    let digest = Digest::of(&document.body);
    let said = document.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    for claim in wanted.iter().chain(&said) {
        if *claim != digest {
            let detail = format!("{at} answered content with digest {digest} as {claim}");
            return Err(RegistryError::new(ErrorKind::Corrupt, operation, detail));
        }
    }
    let parsed = ParsedManifest::parse(&document.body, stated.as_deref()).map_err(|error| {
        let detail = format!("{at}: {}", clean(&error.to_string()));
        RegistryError::new(ErrorKind::Malformed, operation, detail)
    })?;
    let media_type = stated.map_or_else(|| own_type(&parsed), |stated| stated.as_str().into());
    let descriptor = Descriptor::new(media_type, digest, document.body.len() as u64);
    Ok(RawManifest { descriptor, bytes: document.body })
}

fn own_type(parsed: &ParsedManifest) -> MediaType {
    match parsed {
        ParsedManifest::Image(image) => {
            image.media_type.clone().unwrap_or_else(|| MediaType::OCI_MANIFEST.into())
        }
        ParsedManifest::Index(index) => {
            index.media_type.clone().unwrap_or_else(|| MediaType::OCI_INDEX.into())
        }
    }
}

/// The hosts that gave parts of one blob.
type Givers = Arc<Mutex<Vec<Endpoint>>>;

/// Fetches one blob, piece by piece, over any number of connections.
pub(crate) struct Pump {
    core: Arc<Core>,
    operation: String,
    sources: Vec<Endpoint>,
    digest: Digest,
    size: u64,
    pub(crate) sender: mpsc::Sender<Bytes>,
    givers: Givers,
    /// Bytes handed over so far.
    offset: u64,
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
        if self.offset > 0 {
            let range = format!("bytes={}-", self.offset);
            call.headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits and ASCII marks"));
        }
        let answer = core.exchange(&call).await?;
        let mut skip = self.begins_at(&core, answer.response.status().as_u16(), &answer)?;
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
    fn begins_at(&self, _core: &Core, status: u16, answer: &Answer) -> Result<u64, Failure> {
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

/// A blob while it arrives.
///
/// The last piece is given only after size and digest of the whole were found right, so whoever gets all the bytes
/// that the descriptor promises has the true content. Whoever may stop before the end (a tar reader does) must call
/// [`BlobReader::finish`] before trusting anything. Errors hold a [`RegistryError`]
/// ([`RegistryError::from_io`]).
///
/// Open readers count against the limit of connections per host once their first byte is asked for; several are
/// served in the order in which they were opened.
#[derive(Debug)]
pub struct BlobReader {
    receiver: mpsc::Receiver<Bytes>,
    failed: tokio::sync::oneshot::Receiver<RegistryError>,
    operation: String,
    descriptor: Descriptor,
    givers: Givers,
    hasher: Option<Hasher>,
    received: u64,
    piece: Bytes,
    /// How it ended, told again to whoever asks again.
    ended: Option<RegistryError>,
}

impl BlobReader {
    /// The reader, the pump that feeds it, and where the pump's failure is to be told.
    pub(crate) fn new(
        core: &Arc<Core>,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> (Self, Pump, tokio::sync::oneshot::Sender<RegistryError>) {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let (failure, failed) = tokio::sync::oneshot::channel();
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let operation = format!("pull blob {name}@{}", descriptor.digest);
        let givers = Givers::default();
        let pump = Pump {
            core: Arc::clone(core),
            operation: operation.clone(),
            sources: core.sources(reference),
            digest: descriptor.digest,
            size: descriptor.size,
            sender,
            givers: Arc::clone(&givers),
            offset: 0,
        };
        let reader = Self {
            receiver,
            failed,
            operation,
            descriptor: descriptor.clone(),
            givers,
            hasher: Some(Hasher::new()),
            received: 0,
            piece: Bytes::new(),
            ended: None,
        };
        (reader, pump, failure)
    }

    /// Reads what is left and makes sure that the whole was right.
    ///
    /// # Errors
    /// As reading to the end.
    pub fn finish(mut self) -> Result<(), RegistryError> {
        while self.next_piece()?.is_some() {}
        Ok(())
    }

    /// The next piece, verified if it is the last one.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if !self.piece.is_empty() {
            return Ok(Some(std::mem::take(&mut self.piece)));
        }
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let piece = self.receive();
        piece.inspect_err(|error| self.ended = Some(error.clone()))
    }

    fn receive(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let Some(hasher) = &mut self.hasher else {
            return Ok(None);
        };
        let piece = self.receiver.blocking_recv();
        if let Some(piece) = &piece {
            hasher.update(piece);
            self.received += piece.len() as u64;
        } else if let Ok(error) = self.failed.try_recv() {
            return Err(error);
        }
        if self.received < self.descriptor.size {
            let interrupted =
                || RegistryError::new(ErrorKind::Cancelled, self.operation.as_str(), "interrupted");
            return piece.map(Some).ok_or_else(interrupted);
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(digest) if digest == self.descriptor.digest => Ok(piece),
            digest => Err(self.wrong_digest(digest)),
        }
    }

    fn wrong_digest(&self, digest: Option<Digest>) -> RegistryError {
        let givers = std::mem::take(&mut *self.givers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut names: Vec<&str> = givers.iter().map(|giver| giver.host.authority.as_str()).collect();
        names.dedup();
        let digest = digest.map_or_else(String::new, |digest| digest.to_string());
        let detail = format!("{} gave content with digest {digest}", names.join(" and "));
        let error = RegistryError::new(ErrorKind::Corrupt, self.operation.as_str(), detail);
        let mirrors: Vec<&Endpoint> = givers.iter().filter(|giver| giver.is_mirror).collect();
        if mirrors.is_empty() {
            return error.hint("its copy is damaged: push it again");
        }
        mirrors.iter().for_each(|mirror| mirror.host.distrusted.store(true, Ordering::Relaxed));
        error.hint("this mirror is not asked again; try again")
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.next_piece()? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
