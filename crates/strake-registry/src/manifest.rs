//! Reading documents: manifests, tag lists, and whether a blob is there. From mirrors first, where there are any.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use strake_oci::{Descriptor, Digest, MediaType, ParsedManifest, Reference, one_line};

use crate::auth::{Access, Scopes};
use crate::client::RawManifest;
use crate::credentials::longest_prefix_at;
use crate::failure::{place, web_page};
use crate::host::authority_of;
use crate::transport::{Call, Core, Document, Endpoint, Target};
use crate::{ErrorKind, Notice, RegistryError};

/// Pages of a tag list that are read; each has at least one tag.
const MAX_PAGES: usize = 10_000;

/// Bytes of a tag list that are read, all pages together: more than a million tags.
const MAX_TAG_LIST: usize = 64 << 20;

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

    pub(crate) fn skip_mirror(&self, endpoint: &Endpoint, error: &RegistryError) {
        let (host, reason) = (endpoint.host.authority.clone(), error.detail.clone());
        self.notice(&Notice::MirrorSkipped { host, reason });
    }

    pub(crate) async fn manifest_at(
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

    pub(crate) async fn head_at(
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
        let mut asked = BTreeSet::new();
        let mut bytes = 0;
        let failed = |kind, detail: String| RegistryError::new(kind, operation.as_str(), detail);
        for _ in 0..MAX_PAGES {
            let mut call = Call::new(&operation, &endpoint, &scopes, Method::GET, target, &[200, 404]);
            call.limit = ParsedManifest::MAX_SIZE;
            let document = self.request(&call).await?;
            if document.status == 404 {
                return Ok(None);
            }
            let at = place(&document.url);
            if !asked.insert(document.url.to_string()) {
                return Err(failed(ErrorKind::Malformed, format!("the pages of {at} lead in circles")));
            }
            bytes += document.body.len();
            if bytes > MAX_TAG_LIST {
                let detail = format!("the list at {at} is larger than {} MiB", MAX_TAG_LIST >> 20);
                return Err(failed(ErrorKind::TooLarge, detail));
            }
            let page: Page = serde_json::from_slice(&document.body)
                .map_err(|_| failed(ErrorKind::Malformed, format!("{at} answered no tag list")))?;
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
        Err(failed(ErrorKind::TooLarge, format!("the list has more than {MAX_PAGES} pages")))
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
        return Err(web_page(operation, &document.url));
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
        let detail = format!("{at}: {}", one_line(&error.to_string()));
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
