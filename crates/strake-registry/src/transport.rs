//! One request and its answer: schemes, redirects, tokens, repetition.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::auth::Scopes;
use crate::error::{Again, Failure};
use crate::failure::{
    Unanswered, chain, is_web_page, keep_encrypted, place, refusal, silent, unanswered, web_page,
};
use crate::host::{Host, Lane, Scheme};
use crate::retry;
use crate::server_text::{MAX_ERROR_BODY, ServerErrors};
use crate::tls::Trust;
use crate::transfers::Counters;
use crate::{ErrorKind, Notice, RegistryConfig, RegistryError};

/// As many as browsers follow; storage behind a registry needs one or two.
const MAX_REDIRECTS: usize = 10;

/// What all requests of a client share.
pub(crate) struct Core {
    pub(crate) config: RegistryConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) trust: Arc<Trust>,
    notices: Arc<dyn Fn(&Notice) + Send + Sync>,
    hosts: Arc<Mutex<BTreeMap<String, Arc<Host>>>>,
}

/// A repository at one host: the registry itself, or a mirror of it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) host: Arc<Host>,
    /// The name by which credentials are looked up.
    pub(crate) registry: String,
    /// The repository's name at this host.
    pub(crate) repository: String,
    pub(crate) is_mirror: bool,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Below `/v2/` of the endpoint's repository: `manifests/latest`.
    Path(String),
    /// An address that the registry gave us. Only our registry's own origin gets to see who we are.
    Url(Url),
}

/// A request that can be sent any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) scopes: &'a Scopes,
    /// Statuses that the caller wants to see; any other is an error.
    pub(crate) accept: &'a [u16],
    /// The most bytes of an accepted answer's body.
    pub(crate) limit: usize,
    pub(crate) lane: Lane,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        operation: &'a str,
        endpoint: &'a Endpoint,
        scopes: &'a Scopes,
        method: Method,
        target: Target,
        accept: &'a [u16],
    ) -> Self {
        let (headers, body, limit) = (HeaderMap::new(), Bytes::new(), MAX_ERROR_BODY);
        Self { operation, endpoint, method, target, headers, body, scopes, accept, limit, lane: Lane::Small }
    }
}

/// An answer whose body has not been read. It counts against the host's limit until it is dropped.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: reqwest::Response,
    /// Whether a redirect led away from the registry.
    pub(crate) moved: bool,
    permit: Option<OwnedSemaphorePermit>,
}

/// An answer with all of its body.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    pub(crate) body: Vec<u8>,
}

impl Document {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn errors(&self) -> ServerErrors {
        ServerErrors::parse(&self.body, self.header("content-type"))
    }

    /// The address in `Location`, absolute.
    pub(crate) fn location(&self) -> Option<Url> {
        join(&self.url, self.header("location")?)
    }
}

/// Reads a `Location`. A registry behind a proxy that ends TLS often believes itself to speak plain HTTP and says so
/// in its addresses: these are brought back to what we reached it by.
fn join(base: &Url, location: &str) -> Option<Url> {
    let mut url = base.join(location).ok()?;
    if url.scheme() == "http" && base.scheme() == "https" && url.host_str() == base.host_str() {
        let port = if url.port().is_none() { base.port() } else { url.port() };
        url.set_scheme("https").ok()?;
        url.set_port(port).ok()?;
    }
    // User and password in an address would be sent as credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    matches!(url.scheme(), "http" | "https").then_some(url)
}

impl Core {
    pub(crate) fn new(config: RegistryConfig, notices: Arc<dyn Fn(&Notice) + Send + Sync>) -> Self {
        let (counters, trust) = (Arc::default(), Arc::default());
        Self { config, counters, trust, notices, hosts: Arc::default() }
    }

    /// The same with other patience: connections, tokens and counters are shared.
    pub(crate) fn hurried(&self) -> Self {
        Self {
            config: self.config.hurried(),
            counters: Arc::clone(&self.counters),
            trust: Arc::clone(&self.trust),
            notices: Arc::clone(&self.notices),
            hosts: Arc::clone(&self.hosts),
        }
    }

    pub(crate) fn notice(&self, notice: &Notice) {
        tracing::debug!(target: "transfer", ?notice);
        (self.notices)(notice);
    }

    /// The host behind an authority, the same one each time.
    pub(crate) fn host(&self, authority: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Host::new(&self.config, authority));
        Arc::clone(hosts.entry(authority.to_owned()).or_insert_with(make))
    }

    pub(crate) fn host_of(&self, url: &Url) -> Arc<Host> {
        let name = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => self.host(&format!("{name}:{port}")),
            None => self.host(name),
        }
    }

    /// Sends a call until it is answered as accepted, or repeating it is pointless, and reads the answer.
    pub(crate) async fn request(&self, call: &Call<'_>) -> Result<Document, RegistryError> {
        let mut attempt = 0;
        loop {
            match self.request_once(call).await {
                Ok(document) => return Ok(document),
                Err(failure) => self.pause(call.endpoint, &mut attempt, failure).await?,
            }
        }
    }

    async fn request_once(&self, call: &Call<'_>) -> Result<Document, Failure> {
        let answer = self.exchange(call).await?;
        let moved = answer.moved;
        let accepted = call.accept.contains(&answer.response.status().as_u16());
        let limit = if accepted { call.limit } else { MAX_ERROR_BODY };
        let document = self.read(call.operation, answer, limit, accepted).await?;
        if is_web_page(&document) {
            return Err(web_page(call.operation, &document.url).into());
        }
        if accepted { Ok(document) } else { Err(refusal(call.operation, &document, moved)) }
    }

    /// Waits before another try, or gives the failure back as final. A mirror gets one more try only: there is
    /// somebody else to ask.
    pub(crate) async fn pause(
        &self,
        endpoint: &Endpoint,
        attempt: &mut u32,
        failure: Failure,
    ) -> Result<(), RegistryError> {
        let Failure { error, again } = failure;
        let policy = &self.config.retry;
        let most = if endpoint.is_mirror { policy.retries.min(1) } else { policy.retries };
        let most = if again == Again::Silent { most.min(policy.silent_retries) } else { most };
        let delay = match again {
            Again::Never => return Err(error),
            Again::After(asked) if asked > policy.max_retry_after => {
                let told =
                    format!("it asks to wait {} s, which is longer than strake waits", asked.as_secs());
                return Err(RegistryError { hint: Some(told), ..error });
            }
            again if *attempt >= most || again == Again::Quickly && *attempt > 0 => {
                let tries = *attempt + 1;
                let detail =
                    if tries > 1 { format!("{} (tried {tries} times)", error.detail) } else { error.detail };
                return Err(RegistryError { detail, ..error });
            }
            Again::After(asked) => asked,
            Again::Quickly => retry::quick(policy),
            Again::Backoff | Again::Silent => retry::backoff(policy, *attempt + 1),
        };
        *attempt += 1;
        self.counters.retries.fetch_add(1, Ordering::Relaxed);
        self.notice(&Notice::Retry { operation: error.operation, reason: error.detail, delay });
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// One exchange: authorised, redirects followed, the scheme found out. Any status but 401 is given back.
    pub(crate) async fn exchange(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let mut authorization = self.authorization(call).await?;
        let mut challenged = false;
        loop {
            let answer = self.follow(call, authorization.as_ref()).await?;
            if answer.response.status() != StatusCode::UNAUTHORIZED || answer.moved {
                return Ok(answer);
            }
            let document = self.read(call.operation, answer, MAX_ERROR_BODY, false).await?;
            let used = authorization.take();
            if challenged {
                return Err(self.still_unauthorized(call, &document).await.into());
            }
            authorization = Some(self.meet_challenge(call, &document, used).await?);
            challenged = true;
        }
    }

    /// Sends the call and follows redirects. Only requests to the registry's own origin carry `authorization`.
    async fn follow(&self, call: &Call<'_>, authorization: Option<&HeaderValue>) -> Result<Answer, Failure> {
        let mut answer = self.first_hop(call, authorization).await?;
        let origin = answer.response.url().origin();
        for _ in 0..MAX_REDIRECTS {
            let status = answer.response.status().as_u16();
            let repeats_method = matches!(status, 307 | 308);
            let reads = matches!(call.method, Method::GET | Method::HEAD);
            if !(repeats_method || reads && matches!(status, 301..=303)) {
                return Ok(answer);
            }
            let Some(next) = redirect_target(&answer) else {
                return Ok(answer);
            };
            let from = answer.response.url().clone();
            keep_encrypted(call.operation, &from, &next)?;
            // The permit is given back before another is waited for, or two hosts that redirect to each other
            // could wait for ever.
            let was_elsewhere = answer.moved;
            drop(answer);
            // Who has left does not become known again by being sent back: that address is another host's choice.
            let is_origin = next.origin() == origin && !was_elsewhere;
            let host = if is_origin { Arc::clone(&call.endpoint.host) } else { self.host_of(&next) };
            let sent = self.send(call, &host, next, authorization.filter(|_| is_origin)).await;
            answer = sent.map_err(|unanswered| unanswered.failure)?;
            answer.moved = !is_origin;
        }
        let detail = format!("{} redirects in circles", place(answer.response.url()));
        Err(RegistryError::new(ErrorKind::Malformed, call.operation, detail).into())
    }

    async fn first_hop(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let host = &call.endpoint.host;
        let path = match &call.target {
            Target::Url(url) => return self.given_url(call, url, authorization).await,
            Target::Path(path) => path,
        };
        let candidates = host.decided.get().map_or(host.candidates.as_slice(), std::slice::from_ref);
        let mut failures = Vec::new();
        for scheme in candidates {
            let url = self.url(call, *scheme, path)?;
            match self.send(call, host, url, authorization).await {
                Ok(answer) if host.decided.get().is_none() && speaks_tls_only(&answer) => continue,
                Ok(answer) => {
                    let _ = host.decided.set(*scheme);
                    return Ok(answer);
                }
                Err(unanswered) if unanswered.other_scheme => failures.push(unanswered.failure),
                Err(unanswered) => return Err(unanswered.failure),
            }
        }
        // A plain connection that broke off may have been just that: then it is the one to try again.
        let best = failures.iter().position(|failure| failure.again != Again::Never).unwrap_or(0);
        Err(failures.into_iter().nth(best).unwrap_or_else(|| {
            let detail = format!("{} answers neither as HTTP nor as HTTPS", host.authority);
            RegistryError::new(ErrorKind::Tls, call.operation, detail).into()
        }))
    }

    async fn given_url(
        &self,
        call: &Call<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        self.keep_encrypted(call.operation, call.endpoint, url).map_err(Failure::from)?;
        let is_origin = self.is_origin(call.endpoint, url);
        let host = if is_origin { Arc::clone(&call.endpoint.host) } else { self.host_of(url) };
        let sent = self.send(call, &host, url.clone(), authorization.filter(|_| is_origin)).await;
        let mut answer = sent.map_err(|unanswered| unanswered.failure)?;
        answer.moved = !is_origin;
        Ok(answer)
    }

    /// Whether an address lies at the endpoint's host, on the scheme it was found to speak.
    pub(crate) fn is_origin(&self, endpoint: &Endpoint, url: &Url) -> bool {
        root_of(endpoint).is_some_and(|own| own.origin() == url.origin())
    }

    /// Refuses an address that a registry reached by HTTPS gave for plain HTTP.
    pub(crate) fn keep_encrypted(
        &self,
        operation: &str,
        endpoint: &Endpoint,
        url: &Url,
    ) -> Result<(), RegistryError> {
        root_of(endpoint).map_or(Ok(()), |own| keep_encrypted(operation, &own, url))
    }

    fn url(&self, call: &Call<'_>, scheme: Scheme, path: &str) -> Result<Url, RegistryError> {
        let Endpoint { host, repository, .. } = call.endpoint;
        let text = format!("{}://{}/v2/{repository}/{path}", scheme.text(), host.authority);
        Url::parse(&text).map_err(|error| {
            RegistryError::new(
                ErrorKind::Settings,
                call.operation,
                format!("`{text}` is no address: {error}"),
            )
        })
    }

    async fn send(
        &self,
        call: &Call<'_>,
        host: &Host,
        url: Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Unanswered> {
        let permit = host.permit(call.lane).await;
        let mut headers = call.headers.clone();
        authorization.map(|value| headers.insert(AUTHORIZATION, value.clone()));
        let body = call.body.clone();
        let response = self.bare(call.operation, host, call.method.clone(), url, headers, body).await?;
        Ok(Answer { response, moved: false, permit })
    }

    /// One HTTP request as it is.
    pub(crate) async fn bare(
        &self,
        operation: &str,
        host: &Host,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<reqwest::Response, Unanswered> {
        let request = self.prepare(host, method, url.clone(), headers)?;
        self.counters.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        let patience = self.config.timeouts.answer;
        match timeout(patience, request.body(body).send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unanswered(operation, host, &url, &error)),
            Err(_) => Err(silent(operation, &url, patience).into()),
        }
    }

    pub(crate) fn prepare(
        &self,
        host: &Host,
        method: Method,
        url: Url,
        headers: HeaderMap,
    ) -> Result<reqwest::RequestBuilder, Failure> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        tracing::trace!(target: "transfer", %method, url = %place(&url));
        let connections = host.connections(Scheme::of(&url), &self.config, &self.trust)?;
        Ok(connections.request(method, url).headers(headers))
    }

    /// Reads an answer's body. A body that is `needed` must fit into `limit`; another one is cut.
    pub(crate) async fn read(
        &self,
        operation: &str,
        answer: Answer,
        limit: usize,
        needed: bool,
    ) -> Result<Document, Failure> {
        let Answer { response, permit, .. } = answer;
        let document = self.read_response(operation, response, limit, needed).await;
        drop(permit);
        document
    }

    pub(crate) async fn read_response(
        &self,
        operation: &str,
        response: reqwest::Response,
        limit: usize,
        needed: bool,
    ) -> Result<Document, Failure> {
        let url = response.url().clone();
        let all = self.config.timeouts.small_answer;
        let read = timeout(all, self.read_body(operation, response, limit, needed)).await;
        read.unwrap_or_else(|_| Err(silent(operation, &url, all)))
    }

    async fn read_body(
        &self,
        operation: &str,
        mut response: reqwest::Response,
        limit: usize,
        needed: bool,
    ) -> Result<Document, Failure> {
        let url = response.url().clone();
        let too_large = || {
            let detail = format!("answer of {} is larger than {limit} bytes", place(&url));
            Failure::from(RegistryError::new(ErrorKind::TooLarge, operation, detail))
        };
        if needed && response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        let idle = self.config.timeouts.idle;
        while let Some(chunk) = self.next_chunk(operation, &mut response, idle).await? {
            if body.len() + chunk.len() > limit {
                if needed {
                    return Err(too_large());
                }
                body.extend_from_slice(&chunk[..limit - body.len()]);
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Document { status: response.status().as_u16(), headers: response.headers().clone(), url, body })
    }

    pub(crate) async fn next_chunk(
        &self,
        operation: &str,
        response: &mut reqwest::Response,
        patience: Duration,
    ) -> Result<Option<Bytes>, Failure> {
        match timeout(patience, response.chunk()).await {
            Ok(Ok(chunk)) => {
                let length = chunk.as_ref().map_or(0, Bytes::len) as u64;
                self.counters.received.fetch_add(length, Ordering::Relaxed);
                Ok(chunk)
            }
            Ok(Err(error)) => {
                let detail = format!("{} broke off: {}", place(response.url()), chain(&error));
                Err(Failure::transient(RegistryError::new(ErrorKind::Unreachable, operation, detail)))
            }
            Err(_) => Err(silent(operation, response.url(), self.config.timeouts.idle)),
        }
    }
}

/// The root of the endpoint's host, once it is known what that speaks.
fn root_of(endpoint: &Endpoint) -> Option<Url> {
    let scheme = endpoint.host.decided.get()?;
    Url::parse(&format!("{}://{}/", scheme.text(), endpoint.host.authority)).ok()
}

fn redirect_target(answer: &Answer) -> Option<Url> {
    let location = answer.response.headers().get(LOCATION)?.to_str().ok()?;
    join(answer.response.url(), location)
}

/// How servers that expect TLS answer plain HTTP: Go's and nginx's words, both with status 400.
fn speaks_tls_only(answer: &Answer) -> bool {
    let headers = answer.response.headers();
    answer.response.url().scheme() == "http"
        && answer.response.status() == StatusCode::BAD_REQUEST
        && !headers.contains_key("docker-distribution-api-version")
        && !headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}
