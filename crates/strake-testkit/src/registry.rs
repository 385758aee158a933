//! Debian's registry on a free port of the loopback interface.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::requirement::program_on_path;
use crate::server::{Server, on_free_port};
use crate::{Failure, Outcome, Run};

/// How a registry is to behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegistryOptions {
    /// Asks for user `strake` and password `secret`.
    pub password: bool,
    /// Speaks TLS with a certificate of a private authority, see [`Registry::authority`].
    pub tls: bool,
    /// Allows `DELETE`.
    pub delete: bool,
}

/// A running registry; stopped, and its content removed, when this is dropped.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    directory: tempfile::TempDir,
    port: u16,
}

impl Registry {
    /// Starts a registry that anybody may use, by plain HTTP.
    ///
    /// # Errors
    /// When `docker-registry` is not installed or does not answer.
    pub fn start() -> Outcome<Self> {
        Self::start_with(RegistryOptions::default())
    }

    /// Starts a registry.
    ///
    /// # Errors
    /// As [`Registry::start`]; with TLS also when `openssl` is missing.
    pub fn start_with(options: RegistryOptions) -> Outcome<Self> {
        let program = program_on_path("docker-registry").ok_or_else(|| Failure::new("docker-registry"))?;
        on_free_port(|port| Self::try_start(&program, port, options))
    }

    /// `127.0.0.1:PORT`, the registry part of a reference.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the registry keeps its content, to be damaged by tests.
    pub fn content(&self) -> PathBuf {
        self.directory.path().join("content")
    }

    /// What the registry has logged: one line per request, to count them.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The certificate of the authority that signed this registry's, when it speaks TLS.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    fn try_start(program: &Path, port: u16, options: RegistryOptions) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("strake-registry-").tempdir_in("/var/tmp");
        let directory = directory.map_err(Failure::at("create a directory for the registry"))?;
        let config = directory.path().join("config.yml");
        let text = settings(directory.path(), port, options)?;
        std::fs::write(&config, text).map_err(Failure::at("write the registry's settings"))?;
        let (config, log) = (config.display().to_string(), directory.path().join("log"));
        let server = Server::start(program, &["serve", &config], port, &log)?;
        Ok(Self { server, directory, port })
    }
}

fn settings(directory: &Path, port: u16, options: RegistryOptions) -> Outcome<String> {
    let root = directory.display();
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: false\nstorage:\n  delete:\n    enabled: {}\n  \
         filesystem:\n    rootdirectory: {root}/content\nhttp:\n  addr: 127.0.0.1:{port}\n",
        options.delete
    );
    if options.tls {
        make_certificate(directory)?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  tls:\n    certificate: {root}/cert.pem\n    key: {root}/key.pem");
    }
    if options.password {
        // The bcrypt form of "secret"; it protects nothing but an empty registry on loopback.
        let line = "strake:$2b$05$S0L9gXlVYJVzm3NYu5ls8.D0W0gsbzHezdqMJAOmWE7CsQxblscTi\n";
        std::fs::write(directory.join("htpasswd"), line).map_err(Failure::at("write htpasswd"))?;
        let _ = writeln!(text, "auth:\n  htpasswd:\n    realm: tests\n    path: {root}/htpasswd");
    }
    Ok(text)
}

fn make_certificate(directory: &Path) -> Outcome<()> {
    let run = Run::new("openssl")
        .directory(directory)
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
    let run =
        run.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", "key.pem", "-out", "cert.pem"]);
    let run = run.args(["-subj", "/CN=strake test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
    run.succeed().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lacking;

    fn check(options: RegistryOptions, url: impl Fn(&Registry) -> String, status: &str) {
        if program_on_path("docker-registry").is_none() || program_on_path("skopeo").is_none() {
            return lacking("docker-registry and skopeo");
        }
        let registry = Registry::start_with(options).unwrap();
        let finished = Run::new("skopeo")
            .args(["list-tags", "--tls-verify=false"])
            .arg(url(&registry))
            .finish()
            .unwrap();
        assert!(finished.stderr.contains(status), "{finished}");
    }

    #[test]
    fn a_plain_registry_answers() {
        check(
            RegistryOptions::default(),
            |registry| format!("docker://{}/none", registry.address()),
            "404 (Not Found)",
        );
    }

    #[test]
    fn a_registry_with_a_password_refuses_strangers() {
        let options = RegistryOptions { password: true, tls: true, ..RegistryOptions::default() };
        check(options, |registry| format!("docker://{}/none", registry.address()), "unauthorized");
    }
}
