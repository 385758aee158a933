//! Writing to a registry: blobs, manifests (distribution-spec v1.1 §Push).
//!
//! The thread that asked for a push reads the source and feeds the request's body; the answer is awaited beside it.
//! An upload is a *session* at the registry, an address that changes with every answer. When a request breaks off,
//! the session is asked how much it has and goes on from there; when the session is gone, a new one begins.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use strake_oci::{Descriptor, Digest, MediaType, ParsedManifest, Reference};

use crate::auth::{Access, Scopes};
use crate::client::{BlobSource, Pushed, PushedBlob};
use crate::error::Failure;
use crate::failure::place;
use crate::runtime::Runtime;
use crate::transfers::Progress;
use crate::transport::{Call, Core, Document, Endpoint, Target};
use crate::upload::{Known, Session};
use crate::{ErrorKind, RegistryError};

/// How many repositories are tried as the source of a mount: each costs a request.
const MAX_MOUNTS: usize = 3;

/// Everything that the requests of one push share.
pub(crate) struct Push<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) endpoint: Endpoint,
    pub(crate) scopes: Scopes,
    pub(crate) operation: String,
    pub(crate) progress: &'a dyn Progress,
}

/// How asking for mounts ended.
enum Begun {
    Mounted,
    /// The last refusal may have opened an upload.
    Refused(Option<Session>),
}

/// Whether a registry may have a blob before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Perhaps,
    /// Nobody can have sent it yet, so that asking would cost more than sending it in vain now and then.
    Hardly,
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
        mut self,
        source: BlobSource<'_>,
        repository: &Reference,
        mount_from: &[Reference],
        before: Before,
    ) -> Result<PushedBlob, RegistryError> {
        let (descriptor, known) = match &source {
            BlobSource::File { path, descriptor } => (descriptor.clone(), Known::File(path)),
            BlobSource::Bytes { bytes, descriptor } => (descriptor.clone(), Known::Bytes(bytes)),
            BlobSource::Stream { .. } => return self.stream(source),
        };
        let mut candidates = candidates(repository, mount_from);
        // What was in this very repository once most likely still is. Anything else is mounted without asking for it
        // first: that finds it as well.
        let was_here = mount_from.iter().any(|place| is_same(place, repository));
        if was_here && self.is_there(descriptor.digest, &mut candidates)? {
            return Ok(PushedBlob { descriptor, how: Pushed::Existed });
        }
        let mut session = match self.mount(descriptor.digest, &candidates)? {
            Begun::Mounted => return Ok(PushedBlob { descriptor, how: Pushed::Mounted }),
            Begun::Refused(session) => session,
        };
        // A token that was refused because of the candidates is not asked for again without them unless by this question.
        let is_asked = !was_here && (before == Before::Perhaps || !candidates.is_empty());
        if is_asked && self.is_there(descriptor.digest, &mut candidates)? {
            if let Some(session) = session.take() {
                self.abandon(session.url);
            }
            return Ok(PushedBlob { descriptor, how: Pushed::Existed });
        }
        self.upload(&known, &descriptor, session)?;
        Ok(PushedBlob { descriptor, how: Pushed::Uploaded })
    }

    /// Whether the repository has a blob. Some token servers refuse all when one of the candidates for a mount is not
    /// ours to read: then there are none.
    fn is_there(&mut self, digest: Digest, candidates: &mut Vec<&Reference>) -> Result<bool, RegistryError> {
        match self.exists(digest) {
            Err(error) if error.kind == ErrorKind::Unauthorized && !candidates.is_empty() => {
                candidates.clear();
                self.scopes = Scopes::one(&self.endpoint.repository, Access::Push);
                self.exists(digest)
            }
            exists => exists,
        }
    }

    pub(crate) fn exists(&self, digest: Digest) -> Result<bool, RegistryError> {
        self.runtime.block_on(&self.operation, self.core.has_blob(&self.endpoint, &self.scopes, digest))
    }

    pub(crate) fn call<'c>(&'c self, method: Method, target: Target, accept: &'c [u16]) -> Call<'c> {
        Call::new(&self.operation, &self.endpoint, &self.scopes, method, target, accept)
    }

    pub(crate) fn request(&self, call: &Call<'_>) -> Result<Document, RegistryError> {
        self.runtime.block_on(&self.operation, self.core.request(call))
    }

    /// Asks for a mount from each candidate; the session that the last refusal opens is the one to upload to.
    fn mount(&self, digest: Digest, candidates: &[&Reference]) -> Result<Begun, RegistryError> {
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
        Ok(Begun::Refused(session.map(|url| Session { url, offset: 0 })))
    }

    pub(crate) fn open(&self) -> Result<Url, RegistryError> {
        let path = Target::Path("blobs/uploads/".to_owned());
        let document = self.request(&self.call(Method::POST, path, &[202]))?;
        document.location().ok_or_else(|| self.no_location(&document))
    }

    pub(crate) fn no_location(&self, document: &Document) -> RegistryError {
        let detail = format!("{} opened an upload without saying where", place(&document.url));
        RegistryError::new(ErrorKind::Malformed, self.operation.as_str(), detail)
    }

    /// Tells the registry that a session is not needed. What comes of it does not matter: sessions expire.
    pub(crate) fn abandon(&self, url: Url) {
        let all: Vec<u16> = (200..600).collect();
        let call = self.call(Method::DELETE, Target::Url(url), &all);
        let _ = self.request(&call);
    }

    pub(crate) fn pause(&self, attempt: &mut u32, failure: Failure) -> Result<(), RegistryError> {
        self.runtime.block_on(&self.operation, self.core.pause(&self.endpoint, attempt, failure))
    }

    /// A registry that says which digest it stored must say ours.
    pub(crate) fn agrees(&self, document: &Document, digest: Digest) -> Result<(), RegistryError> {
        let said = document.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        match said {
            Some(said) if said != digest => {
                let detail = format!("{} stored {said} instead of {digest}", place(&document.url));
                Err(RegistryError::new(ErrorKind::Corrupt, self.operation.as_str(), detail))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn local(&self, what: &str, error: &io::Error) -> RegistryError {
        RegistryError::new(ErrorKind::Local, self.operation.as_str(), format!("{what}: {error}"))
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
        let is_other = source.registry() == repository.registry() && !is_same(source, repository);
        if is_other && !found.iter().any(|known| known.repository() == source.repository()) {
            found.push(source);
        }
    }
    found.truncate(MAX_MOUNTS);
    found
}

/// Whether two names are of the same repository.
fn is_same(one: &Reference, other: &Reference) -> bool {
    one.registry() == other.registry() && one.repository() == other.repository()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_asked_of_the_same_registry_only() {
        let parse = |text: &str| text.parse::<Reference>().unwrap();
        let sources: Vec<Reference> =
            ["r.x/a", "r.x/b:1", "r.x/b:2", "other.x/c", "r.x/d", "r.x/e", "r.x/f"].map(parse).to_vec();
        let found = candidates(&parse("r.x/a:tag"), &sources);
        assert_eq!(found.iter().map(|r| r.repository()).collect::<Vec<_>>(), ["b", "d", "e"]);
    }
}
