//! Debian's registry, on a free port of the loopback interface or on a machine of a cluster.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::requirement::program_on_path;
use crate::{Failure, Machine, Outcome, Port, Run};

/// How a registry is to behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegistryOptions {
    /// Asks for user `strake` and password `secret`.
    pub password: bool,
    /// Speaks TLS with a certificate of a private authority, see [`Registry::authority`].
    pub tls: bool,
    /// Allows `DELETE`.
    pub delete: bool,
    /// Refuses whatever would change it.
    pub read_only: bool,
}

/// A running registry; stopped, and its content removed, when this is dropped.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    directory: tempfile::TempDir,
    address: SocketAddr,
    _port: Option<Port>,
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
        let (program, port) = (program()?, Port::claim()?);
        let mut registry = Self::spawn(&program, options, port.address(), Path::new("/var/tmp"), &[])?;
        registry._port = Some(port);
        registry.wait_until_ready()?;
        Ok(registry)
    }

    /// Starts a registry on a machine of a cluster, at port 5000.
    ///
    /// # Errors
    /// As [`Registry::start_with`].
    pub fn on(machine: &Machine, options: RegistryOptions) -> Outcome<Self> {
        let program = program()?;
        let address = SocketAddr::from((machine.address(), 5000));
        let mut registry =
            Self::spawn(&program, options, address, machine.directory(), &machine.words(Path::new("/")))?;
        let Self { process, .. } = &mut registry;
        let listening = machine.wait_until_listening(address.port(), || has_ended(process));
        listening.map_err(|failure| registry.silent(&failure))?;
        Ok(registry)
    }

    /// `ADDRESS:PORT`, the registry part of a reference.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where the registry keeps its content, to be damaged by tests.
    pub fn content(&self) -> PathBuf {
        self.directory.path().join("content")
    }

    /// Removes every blob that no manifest names, and every manifest without a tag, as its operator would.
    ///
    /// # Errors
    /// When the registry's own collection fails.
    pub fn collect_garbage(&self) -> Outcome<()> {
        let config = self.directory.path().join("config.yml");
        let collect = Run::new(program()?).args(["garbage-collect", "--delete-untagged"]);
        collect.arg(config).succeed().map(drop)
    }

    /// What the registry has logged: one line per request, to count them.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The requests that came from `address`, each as its method and path, oldest first.
    pub fn requests_from(&self, address: IpAddr) -> Vec<String> {
        self.log().lines().filter_map(|line| request_from(line, address)).collect()
    }

    /// The certificate of the authority that signed this registry's, when it speaks TLS.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// Starts the program by way of `words`, with its files below `parent`.
    fn spawn(
        program: &Path,
        options: RegistryOptions,
        address: SocketAddr,
        parent: &Path,
        words: &[OsString],
    ) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("strake-registry-").tempdir_in(parent);
        let directory = directory.map_err(Failure::at("create a directory for the registry"))?;
        let config = directory.path().join("config.yml");
        let text = settings(directory.path(), address, options)?;
        std::fs::write(&config, text).map_err(Failure::at("write the registry's settings"))?;
        let log = std::fs::File::create(directory.path().join("log"))
            .map_err(Failure::at("create the registry's log"))?;
        let log_too = log.try_clone().map_err(Failure::at("share the registry's log"))?;
        // setpriv: the kernel stops the registry when the test dies without running its guards. Twice, because
        // entering a machine leaves a process in between.
        let guard = ["setpriv", "--pdeathsig", "KILL"];
        let run = Run::new(guard[0]).args(&guard[1..]).args(words).args(guard);
        let mut command = run.arg(program).arg("serve").arg(&config).watched();
        command.stdin(Stdio::null()).stdout(log).stderr(log_too);
        let process = command.spawn().map_err(Failure::at("start docker-registry"))?;
        Ok(Self { process, directory, address, _port: None })
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let begun = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            if has_ended(&mut self.process) || begun.elapsed() > Duration::from_secs(60) {
                return Err(self.silent(&Failure::new("no answer")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn silent(&self, failure: &Failure) -> Failure {
        Failure::new(format!("docker-registry does not answer: {failure}\n{}", self.log()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both only fail when the process is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn program() -> Outcome<PathBuf> {
    program_on_path("docker-registry").ok_or_else(|| Failure::new("docker-registry"))
}

fn has_ended(process: &mut Child) -> bool {
    process.try_wait().is_ok_and(|status| status.is_some())
}

/// Method and path of a line of the access log (Apache's format) when the request came from `address`.
fn request_from(line: &str, address: IpAddr) -> Option<String> {
    let (from, rest) = line.split_once(' ')?;
    if from.parse() != Ok(address) {
        return None;
    }
    let request = rest.split('"').nth(1)?;
    Some(request.rsplit_once(' ')?.0.to_owned())
}

fn settings(directory: &Path, address: SocketAddr, options: RegistryOptions) -> Outcome<String> {
    let root = directory.display();
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: false\nstorage:\n  delete:\n    enabled: {}\n  \
         maintenance:\n    readonly:\n      enabled: {}\n  filesystem:\n    rootdirectory: {root}/content\nhttp:\n  addr: {address}\n",
        options.delete, options.read_only
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
    fn requests_are_told_apart_by_who_asks() {
        let line = r#"10.77.0.3 - - [26/Nov/2026:13:30:33 +0000] "HEAD /v2/a/manifests/1 HTTP/1.1" 404 96 "" "strake/0.1.0""#;
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(request_from(line, address("10.77.0.3")).as_deref(), Some("HEAD /v2/a/manifests/1"));
        assert_eq!(request_from(line, address("10.77.0.30")), None);
        assert_eq!(request_from("time=\"x\" level=info", address("10.77.0.3")), None);
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
