use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use strake_oci::one_line;

use crate::{ErrorKind, RegistryError, Secret};

/// The name under which docker keeps the credentials of `docker.io`.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What docker's `config.json` and containers' `auth.json` say about who we are.
///
/// No file at all is [`Credentials::default`]: anonymous everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Host, or host and leading path, to credential.
    logins: BTreeMap<String, Credential>,
    /// Host, or host and leading path, to the name behind `docker-credential-`.
    helpers: BTreeMap<String, String>,
    /// The helper for hosts that have none of their own.
    store: Option<String>,
    /// What was said for this run, by host, or host and leading path: no file and no helper is asked beside it.
    said: BTreeMap<String, Credential>,
}

/// How we prove to one registry who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password, or an access token in a password's place.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token for the registry's token server (`identitytoken`).
    Identity(Secret),
    /// A finished bearer token (`registrytoken`).
    Bearer(Secret),
}

/// Where the credential for a repository comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// A helper to ask first: its name, and the server name it is to be asked for.
    pub(crate) helper: Option<(&'a str, String)>,
    /// What a file says.
    pub(crate) login: Option<&'a Credential>,
}

impl Credentials {
    /// Reads the text of one file (docker `config.json`, containers-auth.json(5)).
    ///
    /// # Errors
    /// `Credentials` when it is not JSON of the known shape, or an entry cannot be decoded; the text itself is not
    /// part of the message.
    pub fn from_json(text: &str) -> Result<Self, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
            #[serde(default)]
            cred_helpers: BTreeMap<String, String>,
            #[serde(default)]
            creds_store: Option<String>,
        }
        let text = if text.trim().is_empty() { "{}" } else { text };
        let file: File = serde_json::from_str(text).map_err(|error| {
            // Only the place: serde's own message may quote a value.
            malformed(format!(
                "not JSON of the known shape at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        let mut credentials =
            Self { store: file.creds_store.filter(|name| !name.is_empty()), ..Self::default() };
        for (key, entry) in file.auths {
            if let Some(credential) = entry.credential(&key)? {
                credentials.logins.insert(normalise(&key), credential);
            }
        }
        for (key, helper) in file.cred_helpers {
            credentials.helpers.insert(normalise(&key), helper);
        }
        Ok(credentials)
    }

    /// Adds what another, less important file says; what is known already wins.
    pub fn merge(&mut self, other: Self) {
        for (key, login) in other.logins {
            self.logins.entry(key).or_insert(login);
        }
        for (key, helper) in other.helpers {
            self.helpers.entry(key).or_insert(helper);
        }
        self.store = self.store.take().or(other.store);
        for (key, login) in other.said {
            self.said.entry(key).or_insert(login);
        }
    }

    /// Adds one credential, for `host` or `host/path`; it replaces what was known.
    pub fn insert(&mut self, key: &str, credential: Credential) {
        self.logins.insert(normalise(key), credential);
    }

    /// Adds one credential, for `host` or `host/path`, that comes before all files and helpers; it replaces what was
    /// said before.
    pub fn say(&mut self, key: &str, credential: Credential) {
        self.said.insert(normalise(key), credential);
    }

    /// What is known for a repository: the longest leading path that has an entry wins.
    pub(crate) fn find(&self, registry: &str, repository: &str) -> Found<'_> {
        if let Some(said) = longest_prefix(&self.said, registry, repository) {
            return Found { helper: None, login: Some(said) };
        }
        let login = longest_prefix(&self.logins, registry, repository);
        let helper = longest_prefix(&self.helpers, registry, repository).or(self.store.as_ref());
        let server = if registry == "docker.io" { DOCKER_HUB_KEY } else { registry };
        Found { helper: helper.map(|name| (name.as_str(), server.to_owned())), login }
    }
}

/// The value of the longest key among `host/a/b/c`, `host/a/b`, `host/a`, `host`.
fn longest_prefix<'a, T>(map: &'a BTreeMap<String, T>, registry: &str, repository: &str) -> Option<&'a T> {
    longest_prefix_at(map, registry, repository).map(|(_, value)| value)
}

/// The same, with the key that fits.
pub(crate) fn longest_prefix_at<'a, T>(
    map: &'a BTreeMap<String, T>,
    registry: &str,
    repository: &str,
) -> Option<(&'a str, &'a T)> {
    let full = format!("{registry}/{repository}");
    let ends = std::iter::once(full.len()).chain(full.rmatch_indices('/').map(|(at, _)| at));
    let mut ends = ends.filter(|end| *end >= registry.len());
    ends.find_map(|end| map.get_key_value(&full[..end])).map(|(key, value)| (key.as_str(), value))
}

/// Brings the many ways to write a registry in these files to `host` or `host/path`.
fn normalise(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = match rest {
        // With a scheme it is docker's old form of an address: only the host counts.
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => key.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2"),
    };
    match name {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        name => name.to_owned(),
    }
}

fn malformed(detail: String) -> RegistryError {
    RegistryError::new(ErrorKind::Credentials, "read registry credentials", detail)
}

/// One entry of `auths`.
#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Entry {
    fn credential(self, key: &str) -> Result<Option<Credential>, RegistryError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.identitytoken) {
            return Ok(Some(Credential::Identity(Secret::new(token))));
        }
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(Credential::Bearer(Secret::new(token))));
        }
        if let Some(auth) = given(self.auth) {
            let (user, password) = decode(&auth).ok_or_else(|| {
                let key = one_line(key);
                malformed(format!("`auth` of `{key}` is not base64 of user:password"))
            })?;
            return Ok(Some(Credential::Basic { user, password: Secret::new(password) }));
        }
        // Docker writes empty entries for hosts whose credentials a helper keeps.
        let pair = given(self.username).zip(given(self.password));
        Ok(pair.map(|(user, password)| Credential::Basic { user, password: Secret::new(password) }))
    }
}

fn decode(auth: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker's own files have been seen with a trailing zero byte.
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credential {
        Credential::Basic { user: user.to_owned(), password: Secret::new(password) }
    }

    const FILE: &str = r#"{
      "auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
        "quay.io": {"auth": "cTpwOnc="},
        "quay.io/team": {"username": "t", "password": "tp"},
        "quay.io/team/app": {"identitytoken": "idt"},
        "kept.example": {},
        "http://old.example:5000/v2/": {"registrytoken": "rt"}
      },
      "credHelpers": {"gcr.io": "gcloud"},
      "HttpHeaders": {"x": "y"}
    }"#;

    fn login(registry: &str, repository: &str) -> Option<Credential> {
        Credentials::from_json(FILE).unwrap().find(registry, repository).login.cloned()
    }

    #[test]
    fn the_longest_path_wins() {
        assert_eq!(login("docker.io", "library/debian"), Some(basic("hub", "secret")));
        assert_eq!(login("quay.io", "other/x"), Some(basic("q", "p:w")));
        assert_eq!(login("quay.io", "team/x"), Some(basic("t", "tp")));
        assert_eq!(login("quay.io", "teams/x"), Some(basic("q", "p:w")));
        assert_eq!(login("quay.io", "team/app"), Some(Credential::Identity(Secret::new("idt"))));
        assert_eq!(login("old.example:5000", "a"), Some(Credential::Bearer(Secret::new("rt"))));
        assert_eq!(login("kept.example", "a"), None);
        assert_eq!(login("evil-quay.io", "team/app"), None);
        assert_eq!(login("quay.io.evil.example", "team/app"), None);
    }

    #[test]
    fn what_was_said_comes_before_files_and_helpers() {
        let mut credentials = Credentials::from_json(FILE).unwrap();
        credentials.say("https://gcr.io/", basic("me", "now"));
        credentials.say("quay.io", basic("me", "here"));
        let found = credentials.find("gcr.io", "a");
        assert_eq!((found.helper, found.login), (None, Some(&basic("me", "now"))));
        assert_eq!(credentials.find("quay.io", "team/app").login, Some(&basic("me", "here")));
        assert_eq!(credentials.find("docker.io", "library/debian").login, Some(&basic("hub", "secret")));
        assert_eq!(credentials.find("evil-quay.io", "team").login, None);
    }

    #[test]
    fn helpers_are_per_host_with_a_store_for_the_rest() {
        let mut credentials = Credentials::from_json(FILE).unwrap();
        assert_eq!(credentials.find("gcr.io", "a").helper, Some(("gcloud", "gcr.io".to_owned())));
        assert_eq!(credentials.find("docker.io", "a").helper, None);
        credentials
            .merge(Credentials::from_json(r#"{"credsStore":"pass","credHelpers":{"gcr.io":"x"}}"#).unwrap());
        assert_eq!(credentials.find("gcr.io", "a").helper, Some(("gcloud", "gcr.io".to_owned())));
        assert_eq!(credentials.find("docker.io", "a").helper, Some(("pass", DOCKER_HUB_KEY.to_owned())));
    }

    #[test]
    fn faults_are_told_without_the_secret() {
        let bad = Credentials::from_json(r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#).unwrap_err();
        assert_eq!(
            bad.to_string(),
            "read registry credentials: `auth` of `a` is not base64 of user:password"
        );
        let bad = Credentials::from_json(r#"{"auths":{"a":{"auth":["hunter2"]}}}"#).unwrap_err().to_string();
        assert!(bad.contains("line 1") && !bad.contains("hunter2"), "{bad}");
        assert!(Credentials::from_json("").is_ok());
        assert!(!format!("{:?}", Credentials::from_json(FILE)).contains("secret\""));
        assert!(!format!("{:?}", Credentials::from_json(FILE)).contains("idt"));
    }
}
