//! A login for one command: who, with which password, and at which registry. No other registry ever gets the password.

use std::collections::BTreeSet;
use std::io::{self, Read};

use strake_oci::Reference;
use strake_registry::{Credential, Credentials, Secret};

use super::{Outside, Settings};
use crate::args::LoginArgs;
use crate::failure::{Failure, reason};

/// No password is longer, in bytes; tokens of some registries have several KiB.
const PASSWORD_MAX: u64 = 64 << 10;

/// A login for one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    user: String,
    password: Password,
    /// Host, or host and leading path.
    place: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Password {
    Known(Secret),
    /// It is read when the registry's settings are, so not before what was typed has been found right.
    Stdin,
}

impl Settings {
    /// Takes the login of a command that may reach the registries of `names`.
    ///
    /// # Errors
    /// When user, password or registry are not given with each other.
    pub(crate) fn log_in(&mut self, args: &LoginArgs, names: &[&Reference]) -> Result<(), Failure> {
        if args.registry_password.is_some() {
            let text = "--registry-password can be seen by everybody who lists the processes of this machine; \
                        use --registry-password-stdin or STRAKE_REGISTRY_PASSWORD";
            self.warnings.push(text.to_owned());
        }
        self.login = find(args, names, &self.outside)?;
        Ok(())
    }
}

fn find(args: &LoginArgs, names: &[&Reference], outside: &Outside) -> Result<Option<Login>, Failure> {
    let variable = |name: &str| Ok::<_, Failure>(outside.text(name)?.filter(|value| !value.is_empty()));
    let user = args
        .registry_username
        .clone()
        .map_or_else(|| variable("STRAKE_REGISTRY_USERNAME"), |user| Ok(Some(user)))?;
    let password = match (&args.registry_password, args.registry_password_stdin) {
        (Some(password), _) => Some(Password::Known(password.clone())),
        (None, true) => Some(Password::Stdin),
        (None, false) => variable("STRAKE_REGISTRY_PASSWORD")?.map(|text| Password::Known(Secret::new(text))),
    };
    let (user, password) = match (user, password) {
        (Some(user), Some(password)) => (user, password),
        (None, None) if args.registry.is_none() => return Ok(None),
        (None, _) => {
            return Err(
                Failure::input("a login to a registry needs a user").hint("give --registry-username USER")
            );
        }
        (Some(user), None) => {
            return Err(Failure::input(format!("there is no password for the registry's user {user}"))
                .hint("give --registry-password-stdin, or set STRAKE_REGISTRY_PASSWORD"));
        }
    };
    if user.is_empty() || user.contains(':') {
        return Err(Failure::input(format!(
            "{user:?} is no user of a registry: it has a colon, or is empty"
        )));
    }
    let is_typed =
        args.registry_username.is_some() || args.registry_password.is_some() || args.registry_password_stdin;
    let hosts: BTreeSet<&str> = names.iter().map(|name| name.registry()).collect();
    let named = args.registry.clone().map_or_else(|| variable("STRAKE_REGISTRY"), |place| Ok(Some(place)))?;
    let place = match (named, hosts.iter().collect::<Vec<_>>().as_slice()) {
        (Some(place), _) => Some(place),
        (None, [one]) => Some((**one).to_owned()),
        (None, []) => variable("CI_REGISTRY")?,
        (None, _) => None,
    };
    match place {
        Some(place) => Ok(Some(Login { user, password, place })),
        // Variables hold for every command, also for those that have nobody to be known to.
        None if !is_typed => Ok(None),
        None => {
            let which =
                if hosts.is_empty() { "no registry is named" } else { "several registries are named" };
            Err(Failure::input(format!("which registry is the login of {user} for? {which}"))
                .hint("name it with --registry HOST"))
        }
    }
}

impl Login {
    /// Adds the login to what else is known.
    ///
    /// # Errors
    /// When the password cannot be read from standard input.
    pub(super) fn add_to(&self, credentials: &mut Credentials) -> Result<(), Failure> {
        let password = match &self.password {
            Password::Known(password) => password.clone(),
            Password::Stdin => read_password(io::stdin().lock())?,
        };
        credentials.say(&self.place, Credential::Basic { user: self.user.clone(), password });
        Ok(())
    }
}

/// The password, without the end of its line.
fn read_password(from: impl Read) -> Result<Secret, Failure> {
    let what = "--registry-password-stdin";
    let mut bytes = Vec::new();
    let read = from.take(PASSWORD_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::environment(format!("{what}: {}", reason(&error))))?;
    if bytes.len() as u64 > PASSWORD_MAX {
        return Err(Failure::input(format!("{what}: more than {PASSWORD_MAX} bytes are no password")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::input(format!("{what}: it is not UTF-8")))?;
    let password =
        text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() {
        return Err(
            Failure::input(format!("{what}: standard input is empty")).hint("pipe the password into strake")
        );
    }
    Ok(Secret::new(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &[&str], names: &[&str], variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let given = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).map(|word| (*word).to_owned())
        };
        let args = LoginArgs {
            registry_username: given("-u"),
            registry_password: given("-p").map(Secret::new),
            registry_password_stdin: words.contains(&"-i"),
            registry: given("-r"),
        };
        let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let outside = Outside::new(variables.collect::<Vec<_>>(), "/nowhere".into(), 0);
        let login = find(&args, &names.iter().collect::<Vec<_>>(), &outside).map_err(|failure| {
            assert!(!format!("{failure:?}").contains("hunter2"));
            failure.message
        })?;
        Ok(login.map(|login| {
            let password = match &login.password {
                Password::Known(secret) => secret.expose(),
                Password::Stdin => "-",
            };
            format!("{}:{password}@{}", login.user, login.place)
        }))
    }

    #[test]
    fn a_login_is_for_one_registry() {
        let typed = ["-u", "me", "-p", "hunter2"];
        let ok = |words: &[&str], names: &[&str], variables: &[(&str, &str)]| {
            found(words, names, variables).unwrap()
        };
        assert_eq!(ok(&[], &["a.example/x"], &[]), None);
        assert_eq!(ok(&typed, &["a.example/x", "a.example/y"], &[]).unwrap(), "me:hunter2@a.example");
        assert_eq!(ok(&typed, &["debian"], &[("CI_REGISTRY", "ci")]).unwrap(), "me:hunter2@docker.io");
        assert_eq!(ok(&typed, &[], &[("CI_REGISTRY", "ci")]).unwrap(), "me:hunter2@ci");
        assert_eq!(ok(&["-u", "me", "-i", "-r", "b/team"], &["a.example/x"], &[]).unwrap(), "me:-@b/team");
        let both = [("STRAKE_REGISTRY_USERNAME", "env"), ("STRAKE_REGISTRY_PASSWORD", "hunter2")];
        assert_eq!(ok(&[], &["a.example/x"], &both).unwrap(), "env:hunter2@a.example");
        assert_eq!(ok(&[], &["a.example/x", "b.example/x"], &both), None);
        assert_eq!(ok(&["-u", "me"], &["a.example/x"], &both).unwrap(), "me:hunter2@a.example");
        let there = [both[0], both[1], ("STRAKE_REGISTRY", "r")];
        assert_eq!(ok(&[], &["a.example/x"], &there).unwrap(), "env:hunter2@r");
        let wrong = |words: &[&str], names: &[&str]| found(words, names, &[]).unwrap_err();
        assert!(wrong(&typed, &["a.example/x", "b.example/x"]).contains("several registries"));
        assert!(wrong(&typed, &[]).contains("no registry is named"));
        assert!(wrong(&["-u", "me"], &["a"]).contains("no password"));
        assert!(wrong(&["-p", "hunter2"], &["a"]).contains("needs a user"));
        assert!(wrong(&["-r", "a.example"], &["a"]).contains("needs a user"));
        assert!(wrong(&["-u", "a:b", "-p", "hunter2"], &["a"]).contains("colon"));
    }

    #[test]
    fn a_password_is_one_line_or_all() {
        let read = |text: &[u8]| read_password(text).map(|secret| secret.expose().to_owned());
        assert_eq!(read(b"a b\n").unwrap(), "a b");
        assert_eq!(read(b"a\r\n").unwrap(), "a");
        assert_eq!(read(b" a\n\n").unwrap(), " a\n");
        assert!(read(b"\n").unwrap_err().message.contains("empty"));
        assert!(read(b"\xff").unwrap_err().message.contains("UTF-8"));
        assert!(read(&[b'a'; (64 << 10) + 1]).unwrap_err().message.contains("no password"));
    }
}
