//! Several machines on one network, all of it inside this one and apart from its own network.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::requirement::{is_root, program_on_path};
use crate::{Failure, Machine, Node, Outcome};

/// Where the directories of clusters are, and what their names begin with.
const PLACE: (&str, &str) = ("/var/tmp", "strake-cluster-");

/// A network of machines, each in namespaces of its own: [nodes](Node), which have a store and run the program under
/// test, and machines for services that the nodes share.
///
/// ```text
///  node a ── eth0 ┐            ┌ eth0 ── registry          10.77.0.0/24, nothing beyond
///  node b ── eth0 ┴─ switch: br0 ┴ eth0 ── etcd
/// ```
///
/// No interface, route or rule of the host is touched, and nothing has a name outside: namespaces last as long as
/// their processes, and these as long as the guards. What a killed test leaves in `/var/tmp` is removed when the next
/// cluster starts.
#[derive(Debug)]
pub struct Cluster {
    switch: Machine,
    machines: AtomicU8,
    program: PathBuf,
    // Last: everything above may still write there until it is dropped.
    directory: tempfile::TempDir,
    _alive: File,
}

impl Cluster {
    /// What a cluster needs and this machine lacks, for [`lacking`](crate::lacking).
    pub fn missing() -> Option<&'static str> {
        if !is_root() {
            return Some("root, for namespaces of networks");
        }
        let programs = ["ip", "unshare", "nsenter", "docker-registry"];
        programs.into_iter().find(|program| program_on_path(program).is_none())
    }

    /// A network without machines, for nodes that run `program` (`env!("CARGO_BIN_EXE_strake")`).
    ///
    /// # Errors
    /// When this process is not root, or `iproute2` is not installed.
    pub fn new(program: &str) -> Outcome<Self> {
        let (directory, alive) = claim_directory(Path::new(PLACE.0))?;
        let switch = Machine::start("switch", Ipv4Addr::UNSPECIFIED, directory.path())?;
        switch.ip(&["link", "add", "br0", "type", "bridge"])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        Ok(Self { switch, machines: AtomicU8::new(0), program: program.into(), directory, _alive: alive })
    }

    /// A machine for a service: `Registry::on(&machine, …)`, or any program by [`Machine::run`].
    ///
    /// # Errors
    /// When its namespaces cannot be made.
    pub fn machine(&self, name: &str) -> Outcome<Machine> {
        let number = self.machines.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.path().join(format!("{number}-{name}"));
        std::fs::create_dir(&directory).map_err(Failure::at(format!("create {}", directory.display())))?;
        let machine = Machine::start(name, Ipv4Addr::new(10, 77, 0, number + 1), &directory)?;
        machine.connect(&self.switch, &format!("port{number}"))?;
        Ok(machine)
    }

    /// A node whose strake speaks plain HTTP to these registries (`ADDRESS:PORT`).
    ///
    /// # Errors
    /// As [`Cluster::machine`].
    pub fn node<R: AsRef<str>>(&self, name: &str, registries: &[R]) -> Outcome<Node> {
        Node::new(self.machine(name)?, &self.program, registries)
    }
}

/// A fresh directory, and a lock on it that says as long as it is held that somebody is using it. Directories whose
/// user died are removed on this occasion.
fn claim_directory(parent: &Path) -> Outcome<(tempfile::TempDir, File)> {
    // While this one is held, a directory without a locked file has no user; the file itself is never removed.
    let claims = lock_file(&parent.join("strake-cluster.lock"))?;
    claims.lock().map_err(Failure::at("wait for another test to start its cluster"))?;
    remove_abandoned(parent)?;
    let directory = tempfile::Builder::new().prefix(PLACE.1).tempdir_in(parent);
    let directory = directory.map_err(Failure::at("create a directory for the cluster"))?;
    let alive = lock_file(&directory.path().join("alive"))?;
    alive.lock().map_err(Failure::at("lock the cluster's directory"))?;
    Ok((directory, alive))
}

fn remove_abandoned(parent: &Path) -> Outcome<()> {
    let entries = std::fs::read_dir(parent).map_err(Failure::at(format!("read {}", parent.display())))?;
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PLACE.1);
        let is_used = || File::open(entry.path().join("alive")).is_ok_and(|alive| alive.try_lock().is_err());
        if is_ours && entry.path().is_dir() && !is_used() {
            // The user of that directory may be removing it right now.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    Ok(())
}

fn lock_file(path: &Path) -> Outcome<File> {
    let options = File::options().create(true).truncate(false).write(true).open(path);
    options.map_err(Failure::at(format!("open {}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::{Cut, lacking};

    fn cluster() -> Option<Cluster> {
        if let Some(what) = Cluster::missing() {
            lacking(what);
            return None;
        }
        Some(Cluster::new("/bin/true").unwrap())
    }

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let parent = tempfile::tempdir_in("/var/tmp").unwrap();
        let (used, _alive) = claim_directory(parent.path()).unwrap();
        let abandoned = parent.path().join("strake-cluster-of-a-killed-test");
        let foreign = parent.path().join("something-else");
        for directory in [&abandoned, &foreign] {
            std::fs::create_dir_all(directory.join("0-node/store")).unwrap();
            std::fs::write(directory.join("alive"), "").unwrap();
        }
        claim_directory(parent.path()).unwrap();
        assert!(used.path().exists() && foreign.exists() && !abandoned.exists());
    }

    #[test]
    fn machines_reach_each_other_and_nothing_else() {
        let Some(cluster) = cluster() else { return };
        let before = std::fs::read_to_string("/proc/net/dev").unwrap().lines().count();
        let (one, two) = (cluster.machine("one").unwrap(), cluster.machine("two").unwrap());
        let hosts_own = std::fs::read_to_string("/proc/net/dev").unwrap().lines().count();
        assert_eq!(before, hosts_own, "an interface of the host");
        let address = (two.address(), 7);
        let listener = two.within(|| std::net::TcpListener::bind(address).unwrap()).unwrap();
        let said =
            one.within(|| std::net::TcpStream::connect(address).unwrap().local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1, said);
        assert_eq!(said.ip(), one.address());
        assert!(one.traffic().unwrap().sent > 0 && one.traffic().unwrap().received > 0);
        let outside = one.within(|| std::net::TcpStream::connect("192.0.2.1:80").unwrap_err()).unwrap();
        assert_eq!(outside.kind(), std::io::ErrorKind::NetworkUnreachable);
        let name = two.run("sh").args(["-c", "hostname; pwd; echo $$"]).succeed().unwrap().stdout;
        let lines: Vec<&str> = name.lines().collect();
        assert_eq!(lines[..2], ["two", two.directory().to_str().unwrap()]);
        assert!(lines[2].parse::<u32>().unwrap() < 100, "its processes are numbered from one: {name}");
    }

    #[test]
    fn a_cut_is_of_the_kind_asked_for_and_is_healed() {
        let Some(cluster) = cluster() else { return };
        let node = cluster.node::<&str>("node", &[]).unwrap();
        let (near, far) = (cluster.machine("near").unwrap(), cluster.machine("far").unwrap());
        let listen = |machine: &Machine| {
            machine.within(|| std::net::TcpListener::bind((machine.address(), 7)).unwrap()).unwrap()
        };
        let _listeners = [listen(&near), listen(&far)];
        let connect = |machine: &Machine, milliseconds: u64| {
            let address = (machine.address(), 7).into();
            let patience = std::time::Duration::from_millis(milliseconds);
            let connected = || std::net::TcpStream::connect_timeout(&address, patience).map(drop);
            node.machine().within(connected).unwrap().map_err(|error| error.kind())
        };
        for (cut, kind) in [
            (Cut::Unreachable, std::io::ErrorKind::HostUnreachable),
            (Cut::Silent, std::io::ErrorKind::TimedOut),
        ] {
            connect(&far, 20_000).unwrap();
            node.cut_from(&far, cut).unwrap();
            assert_eq!(connect(&far, 300), Err(kind));
            connect(&near, 20_000).unwrap();
            node.heal(&far).unwrap();
            connect(&far, 20_000).unwrap();
            node.heal(&far).unwrap();
        }
    }

    #[test]
    fn what_was_frozen_on_a_machine_goes_on_to_its_end() {
        let Some(cluster) = cluster() else { return };
        let machine = cluster.machine("m").unwrap();
        let count = "echo up >&2; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo $i";
        let mut running = machine.run("sh").args(["-c", count]).seconds(120).start().unwrap();
        running.wait_for("up").unwrap();
        for _ in 0..20 {
            running.freeze().unwrap();
            running.thaw();
        }
        let finished = running.finish().unwrap();
        assert_eq!((finished.code, finished.stdout.as_str()), (0, "300000\n"));
    }

    #[test]
    fn nothing_is_left_after_a_panic() {
        let mut left = None;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let Some(cluster) = cluster() else { return };
            let machine = cluster.machine("m").unwrap();
            // Deaf to whatever can be ignored, and in a session of its own.
            let script = "trap '' TERM HUP INT; echo up >&2; while :; do sleep 1; done";
            let mut running = machine.run("setsid").args(["sh", "-c", script]).start().unwrap();
            running.wait_for("up").unwrap();
            std::fs::write(machine.directory().join("file"), "").unwrap();
            let pid_namespace =
                std::fs::read_link(format!("/proc/{}/ns/pid_for_children", machine.id())).unwrap();
            left = Some((pid_namespace, cluster.directory.path().to_owned()));
            std::mem::forget(running);
            panic!("a test that fails");
        }));
        let Some((namespace, directory)) = left else { return };
        assert!(panicked.is_err());
        assert!(!directory.exists());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let here = processes
            .filter(|p| std::fs::read_link(p.path().join("ns/pid")).is_ok_and(|found| found == namespace));
        assert_eq!(here.count(), 0);
    }
}
