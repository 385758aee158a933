//! Authentication: challenges, tokens, what is remembered of them (distribution's token and OAuth2 specifications).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::Secret;
use crate::credentials::Credential;

/// What may be done in one repository; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Pull,
    Push,
    Delete,
}

/// The rights that a request needs, by repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scopes(BTreeMap<String, Access>);

impl Scopes {
    pub(crate) fn one(repository: &str, access: Access) -> Self {
        Self(BTreeMap::from([(repository.to_owned(), access)]))
    }

    pub(crate) fn and(mut self, repository: &str, access: Access) -> Self {
        let known = self.0.entry(repository.to_owned()).or_insert(access);
        *known = access.max(*known);
        self
    }

    fn covers(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(repository, access)| self.0.get(repository).is_some_and(|have| have >= access))
    }

    /// As a token server reads them.
    pub(crate) fn texts(&self) -> Vec<String> {
        let actions = |access: &Access| match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
            Access::Delete => "pull,push,delete",
        };
        let text =
            |(repository, access): (&String, &Access)| format!("repository:{repository}:{}", actions(access));
        self.0.iter().map(text).collect()
    }
}

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// What is known about authentication at one host.
#[derive(Debug, Default)]
pub(crate) struct AuthState {
    pub(crate) challenge: Option<Challenge>,
    /// By repository, once looked up.
    pub(crate) credentials: BTreeMap<String, Option<Credential>>,
    /// By helper and server, as a helper may ask the user for something.
    pub(crate) helpers: BTreeMap<(String, String), Option<Credential>>,
    tokens: Vec<Token>,
    /// What the token server gave us for next time.
    pub(crate) refresh: BTreeMap<String, Secret>,
}

#[derive(Debug)]
struct Token {
    scopes: Scopes,
    value: HeaderValue,
    /// From then on it is not used for new requests.
    stale: Instant,
}

impl AuthState {
    /// A token that has these rights and some life left.
    pub(crate) fn token(&self, scopes: &Scopes) -> Option<HeaderValue> {
        let now = Instant::now();
        let fit = self.tokens.iter().find(|token| token.scopes.covers(scopes) && token.stale > now);
        fit.map(|token| token.value.clone())
    }

    pub(crate) fn keep(&mut self, scopes: Scopes, value: HeaderValue, stale: Instant) {
        self.tokens.retain(|token| !scopes.covers(&token.scopes));
        self.tokens.push(Token { scopes, value, stale });
    }

    /// Forgets a token that a registry did not accept.
    pub(crate) fn drop_token(&mut self, value: &HeaderValue) {
        self.tokens.retain(|token| token.value != *value);
    }
}

/// What a token server answers.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenAnswer {
    pub(crate) fn value(&self) -> Option<Secret> {
        let given = self.token.iter().chain(&self.access_token).find(|token| !token.is_empty());
        given.map(Secret::new)
    }

    pub(crate) fn refresh(&self) -> Option<Secret> {
        self.refresh_token.as_ref().filter(|token| !token.is_empty()).map(Secret::new)
    }

    /// How long after it was asked for the token is used. Its own life is counted at the server, so a tenth of it
    /// is left unused, and at most 30 s.
    pub(crate) fn life(&self) -> Duration {
        let life = Duration::from_secs(self.expires_in.unwrap_or(60).min(24 * 3600));
        life - (life / 10).min(Duration::from_secs(30))
    }
}

/// An `Authorization` value that logs do not show.
pub(crate) fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(format!("Bearer {}", token.expose()))
}

pub(crate) fn basic(user: &str, password: &Secret) -> Option<HeaderValue> {
    sensitive(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The best challenge of an answer: bearer if offered.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let offers = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let offers: Vec<Challenge> = offers.flat_map(parse_challenges).collect();
    let is_bearer = |offer: &&Challenge| matches!(offer, Challenge::Bearer { .. });
    offers.iter().find(is_bearer).or(offers.first()).cloned()
}

/// Reads one header (RFC 9110 §11.6.1): schemes, each with parameters, all separated by commas.
fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut scheme = String::new();
    let mut parameters = BTreeMap::new();
    for part in split_unquoted(header) {
        let part = part.trim();
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = match name.trim().rsplit_once(' ') {
            Some((new_scheme, name)) => {
                found.extend(finish(&scheme, &parameters));
                (scheme, parameters) = (new_scheme.trim().to_ascii_lowercase(), BTreeMap::new());
                name
            }
            None if !part.contains('=') => {
                found.extend(finish(&scheme, &parameters));
                (scheme, parameters) = (part.to_ascii_lowercase(), BTreeMap::new());
                continue;
            }
            None => name.trim(),
        };
        parameters.insert(name.to_ascii_lowercase(), unquote(value.trim()));
    }
    found.extend(finish(&scheme, &parameters));
    found
}

fn finish(scheme: &str, parameters: &BTreeMap<String, String>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let realm = parameters.get("realm")?.parse().ok()?;
            Some(Challenge::Bearer { realm, service: parameters.get("service").cloned() })
        }
        _ => None,
    }
}

fn split_unquoted(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(c);
            escaped = false;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[&str], expect: Option<Challenge>) {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, header.parse().unwrap());
        }
        assert_eq!(challenge(&map), expect, "{headers:?}");
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.parse().unwrap(), service: service.map(str::to_owned) })
        };
        check(&[], None);
        check(&["Negotiate"], None);
        check(&["Basic realm=\"a, b\""], Some(Challenge::Basic));
        check(&["basic"], Some(Challenge::Basic));
        let full =
            r#"Bearer realm="https://auth.x/token",service="a \"b\", c",scope="repository:a:pull,push""#;
        check(&[full], bearer("https://auth.x/token", Some("a \"b\", c")));
        check(&["Basic realm=\"x\", Bearer realm=\"https://y/t\""], bearer("https://y/t", None));
        check(&["Basic realm=x", "Bearer realm=https://y/t"], bearer("https://y/t", None));
        check(&["Bearer realm=\"no url\""], None);
        check(&["Bearer service=\"x\""], None);
        check(&["Bearer realm=\"https://y/t"], None);
    }

    #[test]
    fn a_token_serves_narrower_scopes_until_it_is_stale() {
        let mut state = AuthState::default();
        let value = bearer(&Secret::new("t")).unwrap();
        let wide = Scopes::one("a", Access::Push).and("b", Access::Pull);
        assert_eq!(wide.texts(), ["repository:a:pull,push", "repository:b:pull"]);
        let soon = Instant::now() + Duration::from_secs(60);
        state.keep(wide, value.clone(), soon);
        assert_eq!(state.token(&Scopes::one("a", Access::Pull)), Some(value.clone()));
        assert_eq!(state.token(&Scopes::one("b", Access::Push)), None);
        assert_eq!(state.token(&Scopes::one("c", Access::Pull)), None);
        state.drop_token(&value);
        assert_eq!(state.token(&Scopes::one("a", Access::Pull)), None);
        state.keep(Scopes::one("a", Access::Pull), value, Instant::now());
        assert_eq!(state.token(&Scopes::one("a", Access::Pull)), None);
        assert!(!format!("{:?}", bearer(&Secret::new("hunter2"))).contains("hunter2"));
    }
}
