//! Debian's docker-registry, started for one test: on a port of its own, with or without password, TLS, tokens.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use strake_oci::Reference;
use strake_testkit::{Port, Run};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/bin/docker-registry";

/// bcrypt of `open sesame` for `aladdin`, at the lowest cost there is.
const HTPASSWD: &str = "aladdin:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

pub(crate) struct RealRegistry {
    port: Port,
    child: Child,
    _directory: TempDir,
}

#[derive(Default)]
pub(crate) struct Options<'a> {
    pub(crate) password: bool,
    pub(crate) tls: Option<&'a Certificates>,
    /// Whether clients must show a certificate.
    pub(crate) client_certificates: bool,
    /// The token server's address.
    pub(crate) tokens: Option<(&'a str, &'a Certificates)>,
}

/// Whether the real registry can be tested against here. What is missing is said, and is a failure where all tests
/// must run.
pub(crate) fn is_available() -> bool {
    are_available(&[PROGRAM, "/usr/bin/openssl"])
}

/// The same for any programs.
pub(crate) fn are_available(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|path| !Path::new(path).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    let text = format!("not tested against a real registry: {} missing", missing.join(" and "));
    #[expect(clippy::disallowed_methods, reason = "how the test run says that nothing may be skipped")]
    let must = std::env::var_os("STRAKE_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!must, "{text}");
    eprintln!("SKIPPED: {text} (packages docker-registry, openssl)");
    false
}

impl RealRegistry {
    pub(crate) fn start(options: &Options<'_>) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        let port = Port::claim().unwrap();
        let config = directory.path().join("config.yml");
        fs::write(&config, yaml(directory.path(), port.address(), options)).unwrap();
        // Ends with the test, even when the test is killed.
        let run = Run::new("setpriv").args(["--pdeathsig", "KILL", PROGRAM, "serve"]).arg(&config);
        let mut command = run.watched();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut registry = Self { child: command.spawn().unwrap(), port, _directory: directory };
        registry.wait_until_up();
        registry
    }

    fn wait_until_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.port.address()).is_err() {
            let is_up = Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None));
            assert!(is_up, "docker-registry does not start");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub(crate) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address()).parse().unwrap()
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn yaml(directory: &Path, address: SocketAddr, options: &Options<'_>) -> String {
    let root = directory.join("storage");
    let mut text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: {address}\n",
        root.display()
    );
    if let Some(certificates) = options.tls {
        let (certificate, key) = (certificates.path("server.crt"), certificates.path("server.key"));
        let ca = certificates.path("ca.crt");
        let clients = if options.client_certificates {
            format!(", clientcas: [{}]", ca.display())
        } else {
            String::new()
        };
        text +=
            &format!("  tls: {{certificate: {}, key: {}{clients}}}\n", certificate.display(), key.display());
    }
    if options.password {
        let file = directory.join("htpasswd");
        text += &format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", file.display());
    }
    if let Some((realm, certificates)) = options.tokens {
        let bundle = certificates.path("server.crt");
        text += &format!(
            "auth:\n  token: {{realm: \"{realm}\", service: real, issuer: tests, rootcertbundle: {}}}\n",
            bundle.display()
        );
    }
    text
}

/// A CA, and a certificate for 127.0.0.1 signed by it.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    /// Made once for all tests of the process.
    pub(crate) fn shared() -> &'static Self {
        static MADE: OnceLock<Certificates> = OnceLock::new();
        MADE.get_or_init(|| {
            let made = Self(TempDir::new().unwrap());
            let request = ["req", "-newkey", "rsa:2048", "-nodes", "-batch"];
            let own = ["-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test CA"];
            made.openssl(&[&request[..], &own[..]].concat());
            let signed = ["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server"];
            made.openssl(&[&request[..], &signed[..]].concat());
            fs::write(made.path("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
            made.openssl(&[
                "x509",
                "-req",
                "-in",
                "server.csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "extensions",
                "-out",
                "server.crt",
            ]);
            made
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn ca(&self) -> Vec<u8> {
        fs::read(self.path("ca.crt")).unwrap()
    }

    fn openssl(&self, arguments: &[&str]) {
        Run::new("openssl").args(arguments).directory(self.0.path()).succeed().unwrap();
    }

    /// An RS256 signature with the server's key.
    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        let run = Run::new("openssl").args(["dgst", "-sha256", "-sign", "server.key"]);
        let mut command = run.directory(self.0.path()).watched();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    }
}

/// A wire to a server that breaks after so many bytes in each direction, once for each number given.
pub(crate) struct BreakingWire {
    pub(crate) address: SocketAddr,
    pub(crate) breaks: Arc<AtomicI64>,
}

impl BreakingWire {
    /// `breaks` connections are cut after `after` bytes from the client (`upwards`) or from the server.
    pub(crate) fn start(target: SocketAddr, after: u64, upwards: bool, breaks: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self { address: listener.local_addr().unwrap(), breaks: Arc::new(AtomicI64::new(breaks)) };
        let breaks = Arc::clone(&wire.breaks);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else { return };
                let pairs = [
                    (client.try_clone(), server.try_clone(), upwards),
                    (server.try_clone(), client.try_clone(), !upwards),
                ];
                for (from, to, may_break) in pairs {
                    let breaks = Arc::clone(&breaks);
                    thread::spawn(move || {
                        let (Ok(from), Ok(to)) = (from, to) else { return };
                        forward(from, to, may_break.then_some((after, &*breaks)));
                    });
                }
            }
        });
        wire
    }

    pub(crate) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, limit: Option<(u64, &AtomicI64)>) {
    let mut buffer = vec![0; 65536];
    let mut passed = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        passed += count as u64;
        let breaks_now =
            limit.is_some_and(|(after, breaks)| passed > after && breaks.fetch_sub(1, Ordering::SeqCst) > 0);
        if breaks_now || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
