//! Debian's etcd on a free port of the loopback interface, to be stopped, frozen and started again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::requirement::program_on_path;
use crate::running::is_moving;
use crate::{Failure, Outcome, Port, Run};

/// What etcd logs when it answers clients.
const READY: &str = "ready to serve";

/// How an etcd is to behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct EtcdOptions<'a> {
    /// Speaks TLS with the server's certificate of these.
    pub tls: Option<&'a EtcdCertificates>,
    /// With TLS: asks clients for a certificate of the same authority.
    pub client_certificates: bool,
    /// Lets only users in: `root` and `strake`, who may read and write below `strake/`; both with password `secret`.
    pub users: bool,
    /// After how many seconds the token of a user expires; etcd's own default if 0.
    pub token_seconds: u32,
}

/// A running etcd of one member; stopped, and its content removed, when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Child>,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    port: Port,
    _peers: Port,
}

impl Etcd {
    /// Starts an etcd that anybody may use, by plain HTTP.
    ///
    /// # Errors
    /// When `etcd` is not installed or does not answer.
    pub fn start() -> Outcome<Self> {
        Self::start_with(EtcdOptions::default())
    }

    /// Starts an etcd.
    ///
    /// # Errors
    /// As [`Etcd::start`].
    pub fn start_with(options: EtcdOptions<'_>) -> Outcome<Self> {
        // In memory: etcd syncs every write, and a disk that others keep busy makes it lose its leader.
        let directory = tempfile::Builder::new().prefix("strake-etcd-").tempdir_in("/dev/shm");
        let directory = directory.map_err(Failure::at("create a directory for etcd"))?;
        let (port, peers) = (Port::claim()?, Port::claim()?);
        let arguments = arguments(directory.path(), &port, &peers, options);
        let mut etcd = Self { process: None, directory, arguments, port, _peers: peers };
        etcd.launch()?;
        if options.users {
            etcd.add_users()?;
        }
        Ok(etcd)
    }

    /// `127.0.0.1:PORT`, where clients are served.
    pub fn address(&self) -> String {
        self.port.address().to_string()
    }

    /// Kills it, as a power failure would. What it has acknowledged is kept.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both only fail when the process is gone already.
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// Starts it again, with the same address and content.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start_again(&mut self) -> Outcome<()> {
        self.stop();
        self.launch()
    }

    /// Stops it from answering, though connections to it are still accepted, until [`Etcd::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // What it is doing now could be the answer to what is asked next.
        let pid = self.process.as_ref().map(|process| process.id().cast_signed());
        while pid.is_some_and(is_moving) {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks by its JSON gateway, without TLS and as nobody: `ask("kv/range", "{…}")`.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn ask(&self, path: &str, body: &str) -> Outcome<String> {
        let doing = |error: std::io::Error| Failure::new(format!("ask etcd {path}: {error}"));
        let mut stream =
            TcpStream::connect_timeout(&self.port.address(), Duration::from_secs(5)).map_err(doing)?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(doing)?;
        let (address, length) = (self.address(), body.len());
        // HTTP/1.0: neither chunks nor a connection that stays open.
        let head = format!("POST /v3/{path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).map_err(doing)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(doing)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(Failure::new(format!("ask etcd {path}: {answer}"))),
        }
    }

    fn launch(&mut self) -> Outcome<()> {
        let program = program_on_path("etcd").ok_or_else(|| Failure::new("etcd"))?;
        let log = std::fs::File::create(self.log()).map_err(Failure::at("create etcd's log"))?;
        let log_too = log.try_clone().map_err(Failure::at("share etcd's log"))?;
        // setpriv: the kernel stops etcd when the test dies without running its guards.
        let run = Run::new("setpriv").args(["--pdeathsig", "KILL"]).arg(program).args(&self.arguments);
        let mut command = run.watched();
        command.stdin(Stdio::null()).stdout(log).stderr(log_too);
        self.process = Some(command.spawn().map_err(Failure::at("start etcd"))?);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let begun = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            if log.contains(READY) {
                return Ok(());
            }
            let ended = self.process.as_mut().map(Child::try_wait);
            let is_gone = !matches!(ended, Some(Ok(None)));
            if is_gone || begun.elapsed() > Duration::from_secs(60) {
                return Err(Failure::new(format!("etcd does not answer:\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().and_then(|process| Pid::from_raw(process.id().cast_signed()));
        if let Some(pid) = pid {
            // It only fails when the process is gone already.
            let _ = kill_process(pid, signal);
        }
    }

    fn add_users(&self) -> Outcome<()> {
        // Base64 of "strake/" and of what follows all that begins so, "strake0".
        let permission = r#"{"permType":"READWRITE","key":"c3RyYWtlLw==","range_end":"c3RyYWtlMA=="}"#;
        let steps = [
            ("auth/user/add", r#"{"name":"root","password":"secret"}"#.to_owned()),
            ("auth/role/add", r#"{"name":"root"}"#.to_owned()),
            ("auth/user/grant", r#"{"user":"root","role":"root"}"#.to_owned()),
            ("auth/user/add", r#"{"name":"strake","password":"secret"}"#.to_owned()),
            ("auth/role/add", r#"{"name":"strake"}"#.to_owned()),
            ("auth/role/grant", format!(r#"{{"name":"strake","perm":{permission}}}"#)),
            ("auth/user/grant", r#"{"user":"strake","role":"strake"}"#.to_owned()),
            ("auth/enable", "{}".to_owned()),
        ];
        steps.iter().try_for_each(|(path, body)| self.ask(path, body).map(drop))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn arguments(directory: &Path, port: &Port, peers: &Port, options: EtcdOptions<'_>) -> Vec<String> {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let (clients, peers) = (format!("{scheme}://{}", port.address()), format!("http://{}", peers.address()));
    let mut arguments = vec![
        "--name=strake".to_owned(),
        format!("--data-dir={}", directory.join("content").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=strake={peers}"),
        // The cheapest there is: it protects nothing but an empty etcd on loopback.
        "--bcrypt-cost=4".to_owned(),
    ];
    if let Some(certificates) = options.tls {
        let file = |name: &str| certificates.path(name).display().to_string();
        arguments.push(format!("--cert-file={}", file("server.crt")));
        arguments.push(format!("--key-file={}", file("server.key")));
        if options.client_certificates {
            arguments.push(format!("--trusted-ca-file={}", file("ca.crt")));
            arguments.push("--client-cert-auth".to_owned());
        }
    }
    if options.token_seconds > 0 {
        arguments.push(format!("--auth-token-ttl={}", options.token_seconds));
    }
    arguments
}

/// An authority, and certificates for 127.0.0.1 and for a client that it signed: `ca.crt`, `server.crt`,
/// `server.key`, `client.crt`, `client.key`.
#[derive(Debug)]
pub struct EtcdCertificates(tempfile::TempDir);

impl EtcdCertificates {
    /// Makes them anew.
    ///
    /// # Errors
    /// When `openssl` is missing or fails.
    pub fn make() -> Outcome<Self> {
        let made = Self(tempfile::tempdir().map_err(Failure::at("create a directory for certificates"))?);
        made.openssl("req -x509 -days 2 -subj /CN=etcd-authority -keyout ca.key -out ca.crt")?;
        // The gateway inside etcd shows the server's certificate to etcd: it has to be good for both ends.
        made.sign(
            "server",
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n",
        )?;
        made.sign("client", "extendedKeyUsage=clientAuth\n")?;
        Ok(made)
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sign(&self, name: &str, extensions: &str) -> Outcome<()> {
        std::fs::write(self.path("extensions"), extensions).map_err(Failure::at("write extensions"))?;
        self.openssl(&format!("req -subj /CN={name} -keyout {name}.key -out {name}.csr"))?;
        let sign = format!("x509 -req -days 2 -in {name}.csr -out {name}.crt -extfile extensions");
        let run = Run::new("openssl").directory(self.0.path()).args(sign.split(' '));
        run.args(["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]).succeed().map(drop)
    }

    fn openssl(&self, request: &str) -> Outcome<()> {
        let run = Run::new("openssl").directory(self.0.path()).args(request.split(' '));
        let run = run.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"]);
        run.succeed().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lacking;

    #[test]
    fn what_etcd_acknowledged_survives_its_death() {
        if program_on_path("etcd").is_none() {
            return lacking("etcd (package etcd-server)");
        }
        let mut etcd = Etcd::start().unwrap();
        etcd.ask("kv/put", r#"{"key":"YQ==","value":"Yg=="}"#).unwrap();
        etcd.stop();
        etcd.ask("kv/range", r#"{"key":"YQ=="}"#).unwrap_err();
        etcd.start_again().unwrap();
        let found = etcd.ask("kv/range", r#"{"key":"YQ=="}"#).unwrap();
        assert!(found.contains(r#""value":"Yg==""#), "{found}");
    }

    #[test]
    fn users_are_asked_who_they_are() {
        if program_on_path("etcd").is_none() {
            return lacking("etcd (package etcd-server)");
        }
        let etcd = Etcd::start_with(EtcdOptions { users: true, ..EtcdOptions::default() }).unwrap();
        let refused = etcd.ask("kv/range", r#"{"key":"YQ=="}"#).unwrap_err();
        assert!(refused.to_string().contains("user name is empty"), "{refused}");
        etcd.ask("auth/authenticate", r#"{"name":"strake","password":"secret"}"#).unwrap();
    }
}
