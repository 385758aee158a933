//! URLs of repositories: which may be given to git, and how a relative one of a submodule is meant.

use crate::error::{GitError, quoted};

const SCHEMES: [&str; 5] = ["https://", "http://", "ssh://", "git://", "file://"];

/// The URL of a repository that git may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteUrl(String);

impl RemoteUrl {
    /// Accepts `https`, `http`, `ssh`, `git` and `file` URLs, `user@host:path`, and absolute paths.
    pub(crate) fn parse(text: &str) -> Result<Self, GitError> {
        match wrong_with(text) {
            None => Ok(Self(text.to_owned())),
            Some(reason) => Err(GitError::Url { url: redact(&quoted(text.as_bytes())), reason }),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Without a password, for messages.
    pub(crate) fn redacted(&self) -> String {
        redact(&self.0)
    }

    /// Whether it names files of this machine, which a repository from elsewhere must not make us read.
    pub(crate) fn is_local(&self) -> bool {
        self.0.starts_with('/') || self.0.starts_with("file://")
    }

    /// The URL of a submodule as its parent's `.gitmodules` has it, whose own URL this is.
    pub(crate) fn join(&self, text: &str) -> Result<Self, GitError> {
        let joined = if text.starts_with("./") || text.starts_with("../") {
            self.join_relative(text)?
        } else {
            Self::parse(text)?
        };
        if joined.is_local() && !self.is_local() {
            let reason = "a submodule of a repository from elsewhere must not name files of this machine";
            return Err(GitError::Url { url: joined.redacted(), reason });
        }
        Ok(joined)
    }

    fn join_relative(&self, text: &str) -> Result<Self, GitError> {
        let wrong = || GitError::Url {
            url: quoted(text.as_bytes()),
            reason: "it leads out of the URL it is relative to",
        };
        let mut base = self.0.trim_end_matches('/').to_owned();
        let mut rest = text;
        loop {
            if let Some(further) = rest.strip_prefix("./") {
                rest = further;
            } else if let Some(further) = rest.strip_prefix("../") {
                rest = further;
                let end = base.rfind(['/', ':']).ok_or_else(wrong)?;
                // What is left must still name a host, or the root of the file system.
                if base[..end].ends_with(['/', ':']) || base[end..].starts_with("://") {
                    return Err(wrong());
                }
                if base[end..].starts_with(':') {
                    return Self::parse(&format!("{}:{rest}", &base[..end]));
                }
                base.truncate(end);
            } else {
                return Self::parse(&format!("{base}/{rest}"));
            }
        }
    }
}

fn wrong_with(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > 4096 {
        return Some("it is longer than 4,096 bytes");
    }
    if text.chars().any(char::is_control) {
        return Some("it contains control characters");
    }
    if text.starts_with('-') {
        return Some("it begins with -");
    }
    if text.starts_with('/') {
        return None;
    }
    let scheme = SCHEMES.iter().find(|scheme| text.starts_with(**scheme));
    let host = match scheme {
        Some(&"file://") => return None,
        Some(scheme) => text[scheme.len()..].split('/').next().unwrap_or(""),
        None if text.contains("://") => return Some("only https, http, ssh, git and file are allowed"),
        None => match text.split_once(':') {
            Some((_, path)) if path.starts_with(':') => {
                return Some("helpers of git (name::address) are not allowed");
            }
            Some((host, _)) if !host.contains('/') => host,
            _ => return Some("it is neither a URL, nor user@host:path, nor an absolute path"),
        },
    };
    let host = host.rsplit('@').next().unwrap_or(host);
    if host.is_empty() || host.starts_with('-') { Some("its host is not valid") } else { None }
}

fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_transports_are_allowed() {
        for good in [
            "https://example.org/a/b.git",
            "http://user:pw@127.0.0.1:8080/a.git",
            "ssh://git@example.org/a.git",
            "git@example.org:a/b.git",
            "file:///srv/a.git",
            "/srv/a.git",
        ] {
            assert!(RemoteUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-uwhatever",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c whoami",
            "fd::7",
            "ftp://example.org/a.git",
            "ssh://-oProxyCommand=x/a.git",
            "ssh://user@-oProxyCommand=x/a.git",
            "-oProxyCommand=x:a.git",
            "https:///a.git",
            "../a.git",
            "a.git",
            "https://a/b\nc",
        ] {
            assert!(RemoteUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let url = RemoteUrl::parse("https://me:secret@example.org/a@b.git").unwrap();
        assert_eq!(url.redacted(), "https://…@example.org/a@b.git");
        assert!(!format!("{}", RemoteUrl::parse("ftp://me:secret@a/b").unwrap_err()).contains("secret"));
    }

    fn check_join(base: &str, text: &str, expected: Option<&str>) {
        let joined = RemoteUrl::parse(base).unwrap().join(text).ok();
        assert_eq!(joined.as_ref().map(RemoteUrl::as_str), expected, "{base} + {text}");
    }

    #[test]
    fn relative_urls_of_submodules_are_those_of_neighbours() {
        check_join("https://a.org/x/y.git", "../z.git", Some("https://a.org/x/z.git"));
        check_join("https://a.org/x/y.git/", "../../z.git", Some("https://a.org/z.git"));
        check_join("https://a.org/x/y.git", "./z.git", Some("https://a.org/x/y.git/z.git"));
        check_join("https://a.org/x/y.git", "../../../z.git", None);
        check_join("git@a.org:x/y.git", "../z.git", Some("git@a.org:x/z.git"));
        check_join("git@a.org:y.git", "../z.git", Some("git@a.org:z.git"));
        check_join("/srv/y.git", "../z.git", Some("/srv/z.git"));
        check_join("/y.git", "../../z.git", None);
        check_join("https://a.org/y.git", "https://b.org/z.git", Some("https://b.org/z.git"));
        check_join("https://a.org/y.git", "/etc", None);
        check_join("https://a.org/y.git", "file:///etc", None);
        check_join("file:///srv/y.git", "/srv/z.git", Some("/srv/z.git"));
    }
}
