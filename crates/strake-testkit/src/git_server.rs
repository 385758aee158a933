//! Real servers of git repositories on the loopback interface: OpenSSH's `sshd`, and git's own program for HTTP behind
//! busybox' web server.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::requirement::program_on_path;
use crate::server::Server;
use crate::{Failure, Outcome, Port, Run, is_root};

/// An sshd with a host key of its own, which lets in whoever has the key [`SshServer::key`], as the user of the test run.
#[derive(Debug)]
pub struct SshServer {
    server: Option<Server>,
    directory: tempfile::TempDir,
    port: Port,
    user: String,
}

impl SshServer {
    /// What the machine lacks for one.
    pub fn lacks() -> Option<&'static str> {
        let is_there = ["sshd", "ssh", "ssh-keygen"].iter().all(|name| program_on_path(name).is_some());
        (!is_there).then_some("sshd and ssh (packages openssh-server, openssh-client)")
    }

    /// Starts it.
    ///
    /// # Errors
    /// When a program is missing or sshd does not answer.
    pub fn start() -> Outcome<Self> {
        let user = Run::new("id").arg("-un").succeed()?.stdout.trim().to_owned();
        let mut server =
            Self { server: None, directory: temporary("strake-sshd-")?, port: Port::claim()?, user };
        let root = server.directory.path();
        for name in ["host_key", "key", "other_key"] {
            keygen(root, name, &["-t", "ed25519", "-N", ""])?;
        }
        write(&root.join("authorized_keys"), &read(&root.join("key.pub"))?)?;
        let host = read(&root.join("host_key.pub"))?;
        write(&server.known_hosts(), &format!("[127.0.0.1]:{} {host}", server.port()))?;
        server.resume()?;
        Ok(server)
    }

    /// Starts it again, on the same port and with the same keys, after [`SshServer::stop`].
    ///
    /// # Errors
    /// When it does not answer.
    pub fn resume(&mut self) -> Outcome<()> {
        let program = program_on_path("sshd").ok_or_else(|| Failure::new("sshd"))?;
        if is_root() {
            // Where Debian's sshd locks itself in; its service would have made it.
            std::fs::create_dir_all("/run/sshd").map_err(Failure::at("create /run/sshd"))?;
        }
        let (root, port) = (self.directory.path().display(), self.port());
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host_key\nAuthorizedKeysFile {root}/authorized_keys\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\n"
        );
        let path = self.directory.path().join("config");
        write(&path, &config)?;
        let path = path.display().to_string();
        let log = self.directory.path().join("log");
        self.server = Some(Server::start(&program, &["-D", "-e", "-f", &path], &self.port, &log)?);
        Ok(())
    }

    /// Stops it; its port refuses connections.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// The URL of a repository in this directory.
    pub fn url(&self, repository: &Path) -> String {
        format!("ssh://{}{}", self.address(), repository.display())
    }

    /// `USER@127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("{}@{}", self.user, self.port.address())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The private key that lets in.
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// A private key that does not.
    pub fn other_key(&self) -> PathBuf {
        self.directory.path().join("other_key")
    }

    /// A `known_hosts` file with its host key.
    pub fn known_hosts(&self) -> PathBuf {
        self.directory.path().join("known_hosts")
    }

    /// What sshd has logged.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }
}

/// A web server that gives away the repositories below a directory.
#[derive(Debug)]
pub struct HttpGitServer {
    server: Option<Server>,
    directory: tempfile::TempDir,
    port: Port,
}

impl HttpGitServer {
    /// What the machine lacks for one.
    pub fn lacks() -> Option<&'static str> {
        let has_httpd = || {
            Run::new("busybox")
                .args(["httpd", "--help"])
                .finish()
                .is_ok_and(|end| end.stderr.contains("Usage: httpd"))
        };
        let has_backend = || {
            Run::new("git")
                .arg("http-backend")
                .finish()
                .is_ok_and(|end| end.stdout.contains("500") || end.stderr.contains("REQUEST_METHOD"))
        };
        let is_there = program_on_path("busybox").is_some() && has_httpd() && has_backend();
        (!is_there).then_some("git http-backend and busybox with httpd (packages git, busybox-static)")
    }

    /// Starts it for the repositories below `root`, for anybody, or only for the user `strake` with the password `secret`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start(root: &Path, access: HttpAccess) -> Outcome<Self> {
        let mut server = Self { server: None, directory: temporary("strake-httpd-")?, port: Port::claim()? };
        let scripts = server.directory.path().join("cgi-bin");
        std::fs::create_dir(&scripts).map_err(Failure::at("create cgi-bin"))?;
        let script = scripts.join("git");
        let shown = root.display();
        write(
            &script,
            &format!(
                "#!/bin/sh\nexport GIT_PROJECT_ROOT='{shown}' GIT_HTTP_EXPORT_ALL=1\nexec git http-backend\n"
            ),
        )?;
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))
            .map_err(Failure::at("make the script of git executable"))?;
        let line = match access {
            HttpAccess::Anybody => "",
            HttpAccess::Password => "/cgi-bin:strake:secret\n",
        };
        write(&server.directory.path().join("httpd.conf"), line)?;
        server.resume()?;
        Ok(server)
    }

    /// Starts it again on the same port after [`HttpGitServer::stop`].
    ///
    /// # Errors
    /// When it does not answer.
    pub fn resume(&mut self) -> Outcome<()> {
        let program = program_on_path("busybox").ok_or_else(|| Failure::new("busybox"))?;
        let root = self.directory.path().display();
        let (address, config) = (self.port.address().to_string(), format!("{root}/httpd.conf"));
        let root = root.to_string();
        let args = ["httpd", "-f", "-vv", "-p", &address, "-h", &root, "-c", &config];
        let log = self.directory.path().join("log");
        self.server = Some(Server::start(&program, &args, &self.port, &log)?);
        Ok(())
    }

    /// Stops it; its port refuses connections.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// The URL of a repository, by its path below the root. `user` is nothing, or like `name:password@`.
    pub fn url(&self, user: &str, repository: &str) -> String {
        format!("http://{user}{}/cgi-bin/git/{repository}", self.port.address())
    }

    /// What the web server has logged.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }
}

/// Whom a web server lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpAccess {
    /// Anybody.
    Anybody,
    /// The user `strake` with the password `secret`.
    Password,
}

/// Makes a key pair `name`, `name.pub` in a directory.
///
/// # Errors
/// When `ssh-keygen` is missing or does not take the options.
pub fn keygen(directory: &Path, name: &str, options: &[&str]) -> Outcome<PathBuf> {
    let run = Run::new("ssh-keygen").directory(directory).args(["-q", "-C", name, "-f", name]);
    run.args(options).succeed()?;
    Ok(directory.join(name))
}

fn temporary(prefix: &str) -> Outcome<tempfile::TempDir> {
    let directory = tempfile::Builder::new().prefix(prefix).tempdir_in("/var/tmp");
    directory.map_err(Failure::at("create a directory for a server"))
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(Failure::at(format!("read {}", path.display())))
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text).map_err(Failure::at(format!("write {}", path.display())))
}
