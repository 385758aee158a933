//! One question and its answer: endpoints in turn, tokens, bounds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{StatusCode, Url, redirect, retry};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::answer::Authenticated;
use crate::config::place;
use crate::failure::{Failure, refused, silent, unanswered};
use crate::tls::client_config;
use crate::{ErrorKind, EtcdConfig, EtcdError};

/// The most bytes of an answer. A lock's value is bounded by what a holder says, and nothing else is asked for.
const MAX_ANSWER: usize = 256 << 10;

/// etcd closes idle connections after some minutes; proxies before it may do so earlier.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Pauses between rounds through all endpoints: the first is shorter than an election.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The connections to one etcd.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) config: EtcdConfig,
    connections: OnceLock<Result<reqwest::Client, EtcdError>>,
    /// Which endpoint is asked first, modulo their number.
    current: AtomicUsize,
    /// Whether etcd has ever answered: who has may be restarting, who never did is probably not there.
    has_answered: AtomicBool,
    /// Whether the last try ended in silence: nobody should wait for it without need.
    is_silent: AtomicBool,
    token: Mutex<Token>,
}

/// What the server wants to see with each request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Not asked yet, or it has expired.
    Unknown,
    NotNeeded,
    Held(HeaderValue),
}

/// One question.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// What is being done, for messages.
    pub(crate) operation: &'a str,
    /// Below `/v3/`.
    pub(crate) path: &'static str,
    pub(crate) body: &'a Value,
}

impl Transport {
    pub(crate) fn new(config: EtcdConfig) -> Self {
        Self {
            config,
            connections: OnceLock::new(),
            current: AtomicUsize::new(0),
            has_answered: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            token: Mutex::new(Token::Unknown),
        }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Asks until there is an answer or `most` has passed. An etcd that has never answered is asked once at each
    /// endpoint.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        question: &Question<'_>,
        most: Duration,
    ) -> Result<A, EtcdError> {
        let mut last = None;
        let answer = timeout(most, self.rounds(question, &mut last)).await;
        answer.unwrap_or_else(|_| {
            self.is_silent.store(true, Ordering::Relaxed);
            Err(last.unwrap_or_else(|| silent(question.operation, self.endpoint(), most)))
        })
    }

    async fn rounds<A: DeserializeOwned>(
        &self,
        question: &Question<'_>,
        last: &mut Option<EtcdError>,
    ) -> Result<A, EtcdError> {
        let mut pause = FIRST_PAUSE;
        loop {
            for _ in 0..self.config.endpoints.len() {
                let error = match self.ask_as_someone(question).await {
                    Ok(answer) => return Ok(answer),
                    Err(Failure::Passing(error)) => error,
                    Err(Failure::Final(error) | Failure::Stranger(error)) => return Err(error),
                };
                tracing::debug!(target: "etcd", %error, "another try");
                self.current.fetch_add(1, Ordering::Relaxed);
                *last = Some(error);
            }
            if !self.has_answered.load(Ordering::Relaxed)
                && let Some(error) = last.take()
            {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One try at the current endpoint; a second one when the token turned out to have expired.
    async fn ask_as_someone<A: DeserializeOwned>(&self, question: &Question<'_>) -> Result<A, Failure> {
        let token = self.token(question.operation).await?;
        match self.ask_once(question, &token).await {
            Err(Failure::Stranger(_)) if self.config.user.is_some() => {
                self.forget(&token).await;
                let token = self.token(question.operation).await?;
                self.ask_once(question, &token).await
            }
            other => other,
        }
    }

    async fn ask_once<A: DeserializeOwned>(
        &self,
        question: &Question<'_>,
        token: &Token,
    ) -> Result<A, Failure> {
        let (endpoint, most) = (self.endpoint(), self.config.timeouts.answer);
        let exchange = async {
            let response = self.send(question, token, endpoint).await?;
            let status = response.status();
            Ok((status, self.read(question.operation, response, endpoint).await?))
        };
        let Ok(answered) = timeout(most, exchange).await else {
            self.is_silent.store(true, Ordering::Relaxed);
            return Err(Failure::Passing(silent(question.operation, endpoint, most)));
        };
        let (status, body) = answered?;
        let answer = parse(question.operation, endpoint, status, &body);
        if !matches!(answer, Err(Failure::Passing(_))) {
            self.has_answered.store(true, Ordering::Relaxed);
            self.is_silent.store(false, Ordering::Relaxed);
        }
        answer
    }

    /// Opens a stream of messages at the current endpoint. The stream itself is bounded by whoever reads it.
    pub(crate) async fn open(&self, question: &Question<'_>) -> Result<reqwest::Response, Failure> {
        let token = self.token(question.operation).await?;
        let (endpoint, most) = (self.endpoint(), self.config.timeouts.answer);
        let sent = timeout(most, self.send(question, &token, endpoint)).await;
        let response =
            sent.unwrap_or_else(|_| Err(Failure::Passing(silent(question.operation, endpoint, most))))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let detail = format!("{} answered {}", place(endpoint), response.status());
        Err(Failure::Passing(EtcdError::new(ErrorKind::Protocol, question.operation, detail)))
    }

    fn endpoint(&self) -> &Url {
        let endpoints = &self.config.endpoints;
        &endpoints[self.current.load(Ordering::Relaxed) % endpoints.len()]
    }

    async fn send(
        &self,
        question: &Question<'_>,
        token: &Token,
        endpoint: &Url,
    ) -> Result<reqwest::Response, Failure> {
        let connections = self.connections.get_or_init(|| connections(&self.config));
        let connections = connections.as_ref().map_err(|error| Failure::Final(error.clone()))?;
        let mut url = endpoint.clone();
        url.set_path(&format!("/v3/{}", question.path));
        let mut request = connections.post(url).header(CONTENT_TYPE, "application/json");
        if let Token::Held(token) = token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let sent = request.body(question.body.to_string()).send().await;
        sent.map_err(|error| unanswered(question.operation, endpoint, &error))
    }

    async fn read(
        &self,
        operation: &str,
        mut response: reqwest::Response,
        endpoint: &Url,
    ) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(body),
                Err(error) => return Err(unanswered(operation, endpoint, &error)),
            }
            if body.len() > MAX_ANSWER {
                let detail = format!("{} sends more than any answer of etcd has", place(endpoint));
                return Err(Failure::Passing(EtcdError::new(ErrorKind::Protocol, operation, detail)));
            }
        }
    }

    /// The token, asked for if there is none. Others who need one wait meanwhile.
    async fn token(&self, operation: &str) -> Result<Token, Failure> {
        let (Some(user), password) = (&self.config.user, &self.config.password) else {
            return Ok(Token::NotNeeded);
        };
        let mut token = self.token.lock().await;
        if *token == Token::Unknown {
            let password = password.as_ref().map_or("", |password| password.expose());
            let body = json!({ "name": user, "password": password });
            let question = Question { operation, path: "auth/authenticate", body: &body };
            *token = match self.ask_once::<Authenticated>(&question, &Token::NotNeeded).await {
                Ok(answer) => held(operation, &answer.token)?,
                Err(Failure::Final(error)) if error.detail.contains("authentication is not enabled") => {
                    Token::NotNeeded
                }
                // What is wrong with the credentials is wrong everywhere.
                Err(Failure::Stranger(error)) => return Err(Failure::Final(error)),
                Err(failure) => return Err(failure),
            };
        }
        Ok(token.clone())
    }

    /// Forgets a token, unless somebody else has a new one already.
    async fn forget(&self, used: &Token) {
        let mut token = self.token.lock().await;
        if *token == *used {
            *token = Token::Unknown;
        }
    }
}

fn held(operation: &str, token: &str) -> Result<Token, Failure> {
    let mut value = HeaderValue::from_str(token).map_err(|_| {
        let detail = "etcd gives a token that cannot be sent";
        Failure::Final(EtcdError::new(ErrorKind::Protocol, operation, detail))
    })?;
    value.set_sensitive(true);
    Ok(Token::Held(value))
}

fn parse<A: DeserializeOwned>(
    operation: &str,
    endpoint: &Url,
    status: StatusCode,
    body: &[u8],
) -> Result<A, Failure> {
    if status != StatusCode::OK {
        return Err(refused(operation, endpoint, status, body));
    }
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("{} does not answer as etcd does: {error}", place(endpoint));
        let error = EtcdError::new(ErrorKind::Protocol, operation, detail);
        Failure::Passing(error.hint("is this the client address of an etcd 3.4 or later?"))
    })
}

fn connections(config: &EtcdConfig) -> Result<reqwest::Client, EtcdError> {
    let is_secure = config.endpoints.first().is_some_and(|endpoint| endpoint.scheme() == "https");
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(&config.tls, is_secure)?)
        // Nothing but what the address names is spoken to: no redirect, no proxy of the environment.
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(config.timeouts.connect)
        .pool_idle_timeout(IDLE_CONNECTION)
        .user_agent(concat!("strake/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|error| {
        EtcdError::new(ErrorKind::Settings, "set up connections to etcd", error.without_url().to_string())
    })
}
