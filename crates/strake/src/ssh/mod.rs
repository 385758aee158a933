//! Which ssh keys a command may use: for git, and in the containers that stages are assembled in (stage-cache.md §11).
//!
//! ```text
//!  --ssh-key FILE …? ──▶ an agent of our own with exactly these keys
//!  else SSH_AUTH_SOCK, if somebody listens there ──▶ the agent of the session
//!  else ~/.ssh/id_*, those without a passphrase ──▶ an agent of our own with them
//!  else none: ssh takes for git what it finds, containers get nothing
//! ```
//!
//! Keys stay in the memory of this process; what reaches git and containers is the socket of an agent.

mod agent;
mod key;
mod wire;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use strake_git::SshAccess;

use crate::failure::Failure;
use crate::settings::Settings;
use agent::PrivateAgent;
use key::{KeyError, PrivateKey};

/// Keys that people have without naming them.
const USUAL: [&str; 4] = ["id_rsa", "id_dsa", "id_ed25519", "id_ecdsa"];

/// The options under which ssh uses nothing but the agent: neither the usual keys nor a connection that is open already,
/// whatever the user's settings say of them.
const ONLY_THE_AGENT: [&str; 5] = [
    "IdentityAgent=SSH_AUTH_SOCK",
    "IdentityFile=none",
    "IdentitiesOnly=no",
    "PKCS11Provider=none",
    "ControlPath=none",
];

/// The keys of one command.
#[derive(Debug)]
pub(crate) struct Ssh {
    access: SshAccess,
    socket: Option<PathBuf>,
    /// Lives as long as its socket is in use.
    _agent: Option<PrivateAgent>,
}

impl Ssh {
    /// For commands that go nowhere. Keys that were named are looked at nevertheless.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub(crate) fn unused(named: &[PathBuf]) -> Result<Self, Failure> {
        read_all(named)?;
        Ok(Self { access: SshAccess::with_agent(None), socket: None, _agent: None })
    }

    /// Chooses the keys, and starts an agent if they need one.
    ///
    /// # Errors
    /// When a key that was named cannot be used, or no agent can be started.
    pub(crate) fn open(named: &[PathBuf], settings: &Settings) -> Result<Self, Failure> {
        let options = known_hosts(settings)?;
        if !named.is_empty() {
            let agent = start(read_all(named)?, settings)?;
            return Ok(Self::with(
                agent,
                ONLY_THE_AGENT.into_iter().map(str::to_owned).chain(options).collect(),
            ));
        }
        let live = settings.ssh_agent().filter(|socket| UnixStream::connect(socket).is_ok());
        if let Some(socket) = live {
            let access = SshAccess::with_agent(Some(socket.clone())).with_options(options);
            return Ok(Self { access, socket: Some(socket), _agent: None });
        }
        let keys = usual(settings.home().as_deref());
        if keys.is_empty() {
            let access = SshAccess::with_agent(None).with_options(options);
            return Ok(Self { access, socket: None, _agent: None });
        }
        Ok(Self::with(start(keys, settings)?, options.into_iter().collect()))
    }

    fn with(agent: PrivateAgent, options: Vec<String>) -> Self {
        let socket = agent.socket();
        let access = SshAccess::with_agent(Some(socket.clone())).with_options(options);
        Self { access, socket: Some(socket), _agent: Some(agent) }
    }

    /// For git.
    pub(crate) fn access(&self) -> &SshAccess {
        &self.access
    }

    /// The socket that commands of stages are given.
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }
}

fn start(keys: Vec<PrivateKey>, settings: &Settings) -> Result<PrivateAgent, Failure> {
    let temp = settings.temp_dir();
    PrivateAgent::start(keys, &temp).map_err(|error| {
        Failure::environment(format!("start an ssh agent in {}: {error}", temp.display()))
            .hint("TMPDIR names another directory; the path of a socket must be shorter than 108 bytes")
    })
}

/// The option that says where keys of hosts are known from, if it is not the usual place.
fn known_hosts(settings: &Settings) -> Result<Option<String>, Failure> {
    let Some(named) = &settings.ssh_known_hosts else { return Ok(None) };
    let path = named.canonicalize().map_err(|error| Failure::file("read ssh host keys", named, &error))?;
    match path.to_str() {
        // ssh would take these for the end of the path, or for what stands for something else.
        Some(text) if !text.contains(['"', '\\', '$', '\n']) => {
            Ok(Some(format!("UserKnownHostsFile=\"{}\"", text.replace('%', "%%"))))
        }
        _ => {
            let message = format!("read ssh host keys {}: ssh does not take this path", path.display());
            Err(Failure::input(message).hint("give the file a simpler name"))
        }
    }
}

fn read_all(named: &[PathBuf]) -> Result<Vec<PrivateKey>, Failure> {
    named.iter().map(|path| PrivateKey::read(path).map_err(|error| cannot_use(path, &error))).collect()
}

/// Those that can be used; the others are for ssh itself to find.
fn usual(home: Option<&Path>) -> Vec<PrivateKey> {
    let paths = home.into_iter().flat_map(|home| USUAL.map(|name| home.join(".ssh").join(name)));
    paths
        .filter_map(|path| {
            PrivateKey::read(&path)
                .inspect_err(|error| tracing::debug!("leave the ssh key {} out: {error}", path.display()))
                .ok()
        })
        .collect()
}

fn cannot_use(path: &Path, error: &KeyError) -> Failure {
    if let KeyError::Io(error) = error {
        return Failure::file("use the ssh key", path, error);
    }
    let shown = path.display();
    let hint = match error {
        KeyError::Io(_) | KeyError::Damaged | KeyError::NoKey => "name the file of a private key".to_owned(),
        KeyError::Public => "name the file of the private key, usually the one without .pub".to_owned(),
        KeyError::Locked => {
            format!(
                "add it to an agent with: ssh-add {shown}; then leave --ssh-key out, and the agent of SSH_AUTH_SOCK is used"
            )
        }
        KeyError::Form(_) => format!(
            "rewrite a copy of it with: ssh-keygen -p -N '' -f COPY; or add it to an agent with: ssh-add {shown}"
        ),
        KeyError::Unsupported(_) => {
            format!(
                "add it to an agent with: ssh-add {shown}, and leave --ssh-key out; or use an ed25519 key"
            )
        }
    };
    Failure::input(format!("use the ssh key {shown}: {error}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use strake_testkit::{Run, lacking, program_on_path};

    use super::*;

    /// `ssh -G` prints what ssh makes of its options and a user's settings.
    #[test]
    fn settings_of_the_user_add_no_way_around_the_agent() {
        if program_on_path("ssh").is_none() {
            return lacking("ssh (package openssh-client)");
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config");
        let text =
            "IdentityAgent /elsewhere\nIdentitiesOnly yes\nControlPath /open\nPKCS11Provider /card.so\n";
        std::fs::write(&config, text).unwrap();
        let options = ONLY_THE_AGENT.into_iter().flat_map(|option| ["-o", option]);
        let run = Run::new("ssh").arg("-G").args(options).arg("-F").arg(&config).arg("host");
        let printed = run.succeed().unwrap().stdout;
        let value = |name: &str| {
            let mut lines = printed.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        assert_eq!(value("identityagent"), Some("SSH_AUTH_SOCK"), "{printed}");
        assert_eq!(value("identitiesonly"), Some("no"));
        assert_eq!(value("identityfile"), Some("none"));
        assert!(matches!(value("controlpath"), None | Some("none")), "{printed}");
        assert!(!printed.contains("card.so"), "{printed}");
    }
}
