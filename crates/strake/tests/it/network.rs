//! The network of a step reaches outwards, by name as well; in a network of the test's own, where nobody else is.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use strake_testkit::{Base, Finished, Run, Sandbox, TestUser, is_root, lacking, program_on_path};

use crate::scene::Started;
use crate::{STRAKE, of_ordinary_user};

/// Where the test's services are: neither the loopback's address nor the outer interface's, which a step's network
/// shares with the host's.
const OUTSIDE: &str = "198.51.100.77";

/// The loopback address of a resolver such as systemd's, which a step does not share with the host.
const LOOPBACK_RESOLVER: &str = "127.0.0.53";

/// Addresses without an interface behind them, a default route into a tap that nobody reads, `/etc/resolv.conf`, and
/// the device that pasta needs, with the rights that udev gives it.
const SET_UP: &str = "set -e
    busybox ip link set lo up
    busybox ip addr add $1/32 dev lo
    busybox tunctl -t outer > /dev/null
    busybox ip addr add 10.77.0.1/24 dev outer
    busybox ip link set outer up
    busybox ip route add default via 10.77.0.254
    mount --bind $2/resolv.conf /etc/resolv.conf
    mknod $2/tun c 10 200
    chmod 666 $2/tun
    mount --bind $2/tun /dev/net/tun
    echo ready >&2
    exec sleep infinity";

/// A network namespace, and a mount namespace with a `/etc/resolv.conf` of its own.
struct Place {
    process: Started,
    resolv_conf: PathBuf,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("strake-net-").tempdir_in("/var/tmp").unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        File::create(&resolv_conf).unwrap();
        std::fs::set_permissions(&resolv_conf, PermissionsExt::from_mode(0o644)).unwrap();
        let run = Run::new("setpriv").args(["--pdeathsig", "KILL", "unshare", "--net", "--mount"]);
        let run = run.args(["sh", "-c", SET_UP, "sh", OUTSIDE]).arg(directory.path());
        let mut process = Started::new(run.watched());
        process.wait_for("ready");
        Self { process, resolv_conf, _directory: directory }
    }

    /// Does something with the calling thread in the network namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.process.pid())).unwrap();
        let in_a_thread = || {
            use std::os::fd::AsFd;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(in_a_thread).join().unwrap())
    }

    /// Runs strake here, as the user.
    fn strake(&self, sandbox: &Sandbox, user: Option<&TestUser>, words: &[&str]) -> Finished {
        let (uid, gid) = user.map_or((0, 0), |user| (user.uid, user.gid));
        let program = match user {
            Some(_) => sandbox.work().with_file_name("strake"),
            None => STRAKE.into(),
        };
        let ids = ["-S", &uid.to_string(), "-G", &gid.to_string()];
        let run = Run::new("nsenter").args(["-t", &self.process.pid().to_string(), "-n", "-m"]).args(ids);
        let run = run.arg("--").arg(program).args(words).seconds(60);
        let home = sandbox.docker_config();
        run.env("STRAKE_ROOT", sandbox.store())
            .env("HOME", &home)
            .env("DOCKER_CONFIG", &home)
            .finish()
            .unwrap()
    }
}

/// Answers every question for an address of `web.strake.test` with [`OUTSIDE`]: RFC 1035, as far as that needs it.
fn answer_questions(socket: &UdpSocket) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        let Some(question) = query[..length].get(12..) else { continue };
        let name_length = question.iter().position(|byte| *byte == 0).unwrap() + 1;
        let (name, kind) = (&question[..name_length], &question[name_length..name_length + 4]);
        let is_known = name.eq_ignore_ascii_case(b"\x03web\x06strake\x04test\0");
        let has_address = is_known && kind == [0, 1, 0, 1];
        // A response to a recursive question: no error, or no such name.
        let flags = [0x81, if is_known { 0x80 } else { 0x83 }];
        let mut reply =
            [&query[..2], &flags, &[0, 1, 0, u8::from(has_address), 0, 0, 0, 0], name, kind].concat();
        if has_address {
            // The name of the question, an address, of the internet, for a minute, of four bytes.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            reply.extend(OUTSIDE.parse::<std::net::Ipv4Addr>().unwrap().octets());
        }
        // Whoever asked may be gone.
        drop(socket.send_to(&reply, from));
    }
}

#[test]
fn a_step_reaches_the_world_by_name() {
    if !is_root() || program_on_path("pasta").is_none() {
        return lacking("root and pasta (package passt), to make a network");
    }
    let place = Place::new();
    let (resolvers, web) = place.inside(|| {
        let resolvers = [OUTSIDE, LOOPBACK_RESOLVER].map(|address| UdpSocket::bind((address, 53)).unwrap());
        (resolvers, TcpListener::bind((OUTSIDE, 0)).unwrap())
    });
    let port = web.local_addr().unwrap().port();
    // These threads end with the test run.
    for resolver in resolvers {
        std::thread::spawn(move || answer_questions(&resolver));
    }
    std::thread::spawn(move || {
        web.incoming().flatten().for_each(|mut visitor| drop(visitor.write_all(b"reached\n")));
    });
    let root = Sandbox::new(STRAKE).unwrap();
    root.load_base(Base::Busybox, "busybox").unwrap();
    let user = TestUser::first().unwrap();
    let rootless = of_ordinary_user(user.clone());
    // Only what arrives is of interest: some versions of pasta do not pass on the end of a connection.
    let dockerfile = format!(
        "FROM busybox\n\
         RUN <<'END'\n\
         for name in web.strake.test added.strake.test; do\n\
           nc -w 10 $name {port} < /dev/null > /arrived &\n\
           for i in $(seq 1000); do grep -q . /arrived && break; usleep 10000; done\n\
           kill $! 2> /dev/null; echo $name $(head -n 1 /arrived); : > /arrived\n\
         done > /said\n\
         nslookup -type=a web.strake.test >> /said; nslookup -type=a none.strake.test >> /said 2>&1\n\
         cat /etc/resolv.conf >> /said\n\
         END\n"
    );
    for (sandbox, user) in [(&root, None), (&rootless, Some(&user))] {
        sandbox.write("c/Dockerfile", &dockerfile).unwrap();
        for (server, seen) in [(OUTSIDE, OUTSIDE), (LOOPBACK_RESOLVER, "169.254.1.1")] {
            std::fs::write(&place.resolv_conf, format!("nameserver {server}\n")).unwrap();
            let (out, context) = (sandbox.path("out"), sandbox.path("c"));
            let (out, context) = (out.to_str().unwrap(), context.to_str().unwrap());
            let host = format!("added.strake.test:{OUTSIDE}");
            let words = ["build", "--progress=plain", "--no-cache", "--network=default", "--add-host", &host];
            let built = place.strake(sandbox, user, &[&words[..], &["-o", out, context]].concat());
            assert!(built.code == 0 && !built.stderr.contains("warning"), "{built}");
            let said = sandbox.read("out/said").unwrap();
            for expected in [
                "web.strake.test reached\n",
                "added.strake.test reached\n",
                "NXDOMAIN",
                &format!("Address: {OUTSIDE}\n"),
                &format!("nameserver {seen}\n"),
            ] {
                assert!(said.contains(expected), "no {expected:?} with resolver {server}, {user:?}:\n{said}");
            }
        }
    }
}
