//! How a request comes by its `Authorization`.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use crate::auth::{self, AuthState, Challenge, Scopes, TokenAnswer};
use crate::credentials::Credential;
use crate::error::Failure;
use crate::failure::{place, refusal};
use crate::helper;
use crate::transport::{Call, Core, Document, Endpoint};
use crate::{ErrorKind, RegistryError, Secret};

/// The name by which token servers know the program.
const CLIENT_ID: &str = "strake";

/// More than any token answer needs.
const MAX_TOKEN_ANSWER: usize = 1 << 20;

impl Core {
    /// What to send with a call, as far as it is known how this host wants to be told. Nothing before its first
    /// challenge: an open registry never hears who we are.
    pub(crate) async fn authorization(&self, call: &Call<'_>) -> Result<Option<HeaderValue>, Failure> {
        let mut state = call.endpoint.host.auth.lock().await;
        match state.challenge.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let credential = self.credential(&mut state, call.endpoint).await?;
                Ok(credential.as_ref().and_then(basic_of))
            }
            Some(Challenge::Bearer { realm, service }) => self
                .bearer(&mut state, call.operation, call.endpoint, call.scopes, &realm, service)
                .await
                .map(Some),
        }
    }

    /// Answers a 401. `used` is what was sent and not accepted; it is not sent again.
    pub(crate) async fn meet_challenge(
        &self,
        call: &Call<'_>,
        document: &Document,
        used: Option<HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let Some(challenge) = auth::challenge(&document.headers) else {
            let detail = format!("{} wants authentication but does not say which", place(&document.url));
            return Err(RegistryError::new(ErrorKind::Malformed, call.operation, detail).into());
        };
        let mut state = call.endpoint.host.auth.lock().await;
        used.as_ref().inspect(|used| state.drop_token(used));
        let CallParts { operation, endpoint, scopes } = parts(call);
        if let Challenge::Bearer { realm, .. } = &challenge {
            check_realm(operation, &document.url, realm, endpoint.host.insecure)?;
        }
        // Only now: the next request goes by it without asking.
        state.challenge = Some(challenge.clone());
        let fresh = match challenge {
            Challenge::Basic => {
                let credential = self.credential(&mut state, endpoint).await?;
                credential.as_ref().and_then(basic_of)
            }
            Challenge::Bearer { realm, service } => {
                Some(self.bearer(&mut state, operation, endpoint, scopes, &realm, service).await?)
            }
        };
        drop(state);
        match fresh {
            Some(fresh) if Some(&fresh) != used.as_ref() => Ok(fresh),
            _ => Err(self.still_unauthorized(call, document).await.into()),
        }
    }

    /// The end of all tries to be let in.
    pub(crate) async fn still_unauthorized(&self, call: &Call<'_>, document: &Document) -> RegistryError {
        let registry = &call.endpoint.registry;
        let mut state = call.endpoint.host.auth.lock().await;
        let known = self.credential(&mut state, call.endpoint).await.ok().flatten().is_some();
        let error = refusal(call.operation, document, false).error;
        error.hint(if known {
            format!("the credentials configured for `{registry}` are not accepted for this: log in again, or ask for the right to do it")
        } else {
            format!("no credentials for `{registry}` are configured: log in to it (`auths`, `credHelpers` or `credsStore` in docker's config.json)")
        })
    }

    /// Forgets a token that a request with a body, which cannot be repeated at once, was refused with.
    pub(crate) async fn forget_token(&self, endpoint: &Endpoint, used: &HeaderValue) {
        endpoint.host.auth.lock().await.drop_token(used);
    }

    async fn credential(
        &self,
        state: &mut AuthState,
        endpoint: &Endpoint,
    ) -> Result<Option<Credential>, RegistryError> {
        if let Some(known) = state.credentials.get(&endpoint.repository) {
            return Ok(known.clone());
        }
        let found = self.config.credentials.find(&endpoint.registry, &endpoint.repository);
        let mut credential = None;
        if let Some((name, server)) = found.helper {
            let key = (name.to_owned(), server);
            credential = match state.helpers.get(&key) {
                Some(known) => known.clone(),
                None => ask_helper(key.clone(), self.config.timeouts.helper).await?,
            };
            state.helpers.insert(key, credential.clone());
        }
        let credential = credential.or_else(|| found.login.cloned());
        state.credentials.insert(endpoint.repository.clone(), credential.clone());
        Ok(credential)
    }

    /// A bearer token with these rights: one we have, or a new one. The host's state stays locked meanwhile, so
    /// that layers which start together ask once.
    async fn bearer(
        &self,
        state: &mut AuthState,
        operation: &str,
        endpoint: &Endpoint,
        scopes: &Scopes,
        realm: &Url,
        service: Option<String>,
    ) -> Result<HeaderValue, Failure> {
        if let Some(known) = state.token(scopes) {
            return Ok(known);
        }
        let credential = self.credential(state, endpoint).await?;
        let malformed =
            |detail: String| Failure::from(RegistryError::new(ErrorKind::Malformed, operation, detail));
        let unusable = || malformed(format!("{} gave a token that cannot be sent", place(realm)));
        if let Some(Credential::Bearer(token)) = &credential {
            return auth::bearer(token).ok_or_else(unusable);
        }
        let asked = Instant::now();
        let refresh = match (&credential, state.refresh.get(&endpoint.repository)) {
            (_, Some(given)) => Some(given.clone()),
            (Some(Credential::Identity(token)), None) => Some(token.clone()),
            _ => None,
        };
        let question = Question { operation, realm, service, scopes };
        let document = match (&refresh, &credential) {
            (Some(refresh), _) => self.ask_with_refresh(&question, refresh).await?,
            (None, credential) => self.ask_with_password(&question, credential.as_ref()).await?,
        };
        if document.status != 200 {
            // A refresh token given to us on the way may have ended sooner than the password it came from.
            state.refresh.remove(&endpoint.repository);
            return Err(token_refusal(&question, &document, &endpoint.registry, credential.is_some()));
        }
        let answer: TokenAnswer = serde_json::from_slice(&document.body)
            .map_err(|_| malformed(format!("{} gave no token but other content", place(realm))))?;
        let token = answer
            .value()
            .ok_or_else(|| malformed(format!("{} gave an answer without a token", place(realm))))?;
        let value = auth::bearer(&token).ok_or_else(unusable)?;
        if let Some(refresh) = answer.refresh() {
            state.refresh.insert(endpoint.repository.clone(), refresh);
        }
        state.keep(scopes.clone(), value.clone(), asked + answer.life());
        Ok(value)
    }

    /// `GET` with the password, or anonymously (distribution: Token Authentication Specification).
    async fn ask_with_password(
        &self,
        question: &Question<'_>,
        credential: Option<&Credential>,
    ) -> Result<Document, Failure> {
        let mut url = question.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            question.service.iter().for_each(|service| {
                query.append_pair("service", service);
            });
            for scope in question.scopes.texts() {
                query.append_pair("scope", &scope);
            }
            if let Some(Credential::Basic { user, .. }) = credential {
                query.append_pair("account", user);
            }
        }
        let mut headers = HeaderMap::new();
        if let Some(value) = credential.and_then(basic_of) {
            headers.insert(AUTHORIZATION, value);
        }
        self.ask(question, Method::GET, url, headers, Bytes::new()).await
    }

    /// `POST` with a refresh token (distribution: OAuth2 Token Authentication).
    async fn ask_with_refresh(&self, question: &Question<'_>, refresh: &Secret) -> Result<Document, Failure> {
        let mut form = Url::parse("form:").expect("a scheme and a colon are an address");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", question.service.as_deref().unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &question.scopes.texts().join(" "))
            .append_pair("refresh_token", refresh.expose());
        let body = Bytes::from(form.query().unwrap_or_default().to_owned());
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        self.ask(question, Method::POST, question.realm.clone(), headers, body).await
    }

    /// Redirects are not followed: a token server that moves is not to take the password along.
    async fn ask(
        &self,
        question: &Question<'_>,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Document, Failure> {
        self.counters.tokens.fetch_add(1, Ordering::Relaxed);
        let host = self.host_of(&url);
        // No permit of the host: requests that hold them all may be the ones that wait for this token.
        let response = self.bare(question.operation, &host, method, url, headers, body).await?;
        self.read_response(question.operation, response, MAX_TOKEN_ANSWER, true).await
    }
}

/// What a token server is asked.
struct Question<'a> {
    operation: &'a str,
    realm: &'a Url,
    service: Option<String>,
    scopes: &'a Scopes,
}

struct CallParts<'a> {
    operation: &'a str,
    endpoint: &'a Endpoint,
    scopes: &'a Scopes,
}

fn parts<'a>(call: &Call<'a>) -> CallParts<'a> {
    CallParts { operation: call.operation, endpoint: call.endpoint, scopes: call.scopes }
}

fn basic_of(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Basic { user, password } => auth::basic(user, password),
        Credential::Identity(_) | Credential::Bearer(_) => None,
    }
}

/// The token server is to be reached as safely as the registry that named it.
fn check_realm(operation: &str, registry: &Url, realm: &Url, insecure: bool) -> Result<(), Failure> {
    let fine =
        realm.scheme() == "https" || realm.scheme() == "http" && (registry.scheme() == "http" || insecure);
    let has_user = !realm.username().is_empty() || realm.password().is_some();
    if fine && !has_user && realm.host_str().is_some() {
        return Ok(());
    }
    let detail = format!("{} names {} as its token server, which is not safe", place(registry), place(realm));
    Err(RegistryError::new(ErrorKind::Malformed, operation, detail).into())
}

fn token_refusal(question: &Question<'_>, document: &Document, registry: &str, known: bool) -> Failure {
    let Failure { mut error, again } = refusal(question.operation, document, false);
    if matches!(document.status, 400..=403) {
        error.kind = ErrorKind::Unauthorized;
        error = error.hint(if known {
            format!(
                "the token server does not accept the credentials configured for `{registry}`: log in again"
            )
        } else {
            format!("no credentials for `{registry}` are configured: log in to it")
        });
    }
    Failure { error, again }
}

async fn ask_helper(
    (name, server): (String, String),
    timeout: std::time::Duration,
) -> Result<Option<Credential>, RegistryError> {
    let asked = tokio::task::spawn_blocking(move || helper::ask(&name, &server, timeout));
    asked.await.unwrap_or_else(|error| {
        Err(RegistryError::new(ErrorKind::Credentials, "ask a credential helper", error.to_string()))
    })
}
