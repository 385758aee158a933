//! A root file system of busybox, and a short way to run something in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use strake_exec::{
    Cancel, Container, ExecError, Executor, ExitStatus, Io, Mount, MountKind, Network, Options, OwnExecutor,
    Process, Rootfs, RuncExecutor, Stdin, Stream,
};
use tempfile::TempDir;

/// Where Debian's packages put them.
pub(crate) const BUSYBOX: &str = "/bin/busybox";
pub(crate) const RUNC: &str = "/usr/sbin/runc";
pub(crate) const PASTA: &str = "/usr/bin/pasta";

/// What the cases use of it.
const APPLETS: &str = "awk cat chmod chown chroot cmp cut dd df echo env false grep head hostname id ls mkdir mknod \
    mount mv nc nsenter ping printf pwd readlink rm rmdir seq setsid sh sleep stat stty swapon tail tee touch tr true \
    tty umount unshare wc nslookup wget";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\naudio:x:29:app\nvideo:x:44:app\n";

pub(crate) fn is_rootless() -> bool {
    std::env::args().any(|arg| arg == crate::rootless::ARGUMENT)
}

/// What every case needs.
pub(crate) fn check_machine() -> Result<(), String> {
    if !Path::new(BUSYBOX).exists() {
        return Err(format!("{BUSYBOX} (Debian package busybox-static)"));
    }
    if !is_rootless()
        && fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != 0)
    {
        return Err("root".to_owned());
    }
    Ok(())
}

/// A layer with busybox, a file system on top, and room for more.
pub(crate) struct Sandbox {
    pub(crate) dir: TempDir,
    pub(crate) container: Container,
    pub(crate) executor: Box<dyn Executor>,
}

/// What a run left to be looked at.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Result<ExitStatus, ExecError>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn own() -> OwnExecutor {
    let pasta = Path::new(PASTA).exists().then(|| PathBuf::from(PASTA));
    OwnExecutor::new("/proc/self/exe".into(), Options { pasta, unfiltered: false })
}

pub(crate) fn runc() -> RuncExecutor {
    RuncExecutor::new("/proc/self/exe".into(), RUNC.into())
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("strake-exec-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox = Self { container: container(dir.path()), dir, executor: Box::new(own()) };
        fill(&sandbox.base());
        for name in ["upper", "work"] {
            fs::create_dir(sandbox.dir.path().join(name)).unwrap();
        }
        sandbox
    }

    pub(crate) fn with_runc() -> Self {
        Self { executor: Box::new(runc()), ..Self::new() }
    }

    /// The layer with busybox.
    pub(crate) fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    /// A path in the base layer, whose directories are made.
    pub(crate) fn image(&self, path: &str) -> PathBuf {
        let path = self.base().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// An empty directory beside the layers.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn mount(&mut self, target: &str, kind: MountKind, read_only: bool) -> &mut Self {
        self.container.mounts.push(Mount { target: target.into(), kind, read_only });
        self
    }

    /// Runs a shell script.
    pub(crate) fn sh(&mut self, script: &str) -> Outcome {
        self.args(&["/bin/sh", "-c", script])
    }

    pub(crate) fn args(&mut self, args: &[&str]) -> Outcome {
        self.container.process.args = args.iter().map(|&arg| arg.to_owned()).collect();
        run(self.executor.as_ref(), &self.container, &Cancel::new())
    }

    /// Runs a shell script that must succeed, and returns its trimmed output.
    #[track_caller]
    pub(crate) fn output(&mut self, script: &str) -> String {
        let outcome = self.sh(script);
        assert_eq!(outcome.status, Ok(ExitStatus::Exited(0)), "{script}\n{outcome:?}");
        outcome.stdout.trim().to_owned()
    }

    /// Everything in the upper directory, sorted, directories with a slash, whiteouts with a cross.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.upper(), "", &mut found);
        found.sort();
        found
    }
}

pub(crate) fn run(executor: &dyn Executor, container: &Container, cancel: &Cancel) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut output = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => stdout.extend_from_slice(bytes),
        Stream::Stderr => stderr.extend_from_slice(bytes),
    };
    let status = executor.run(container, Io { output: &mut output, stdin: Stdin::Null }, cancel);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome { status, stdout: text(stdout), stderr: text(stderr) }
}

fn container(dir: &Path) -> Container {
    let text = |text: &str| text.to_owned();
    Container {
        rootfs: Rootfs::Overlay {
            lowers: vec![dir.join("base")],
            upper: dir.join("upper"),
            work: dir.join("work"),
            user_xattr: is_rootless(),
            volatile: false,
        },
        process: Process {
            args: Vec::new(),
            env: vec![(text("PATH"), "/usr/bin:/bin".into())],
            cwd: text("/"),
            user: String::new(),
            set_home: false,
            terminal: false,
        },
        mounts: Vec::new(),
        network: Network::None,
        hostname: text("sandbox"),
        hosts: Vec::new(),
        read_only: false,
    }
}

/// Only what a small image has: no `/proc`, no `/dev`, no `/etc/hosts`.
fn fill(base: &Path) {
    for directory in ["bin", "etc", "root", "tmp", "home/app", "var"] {
        fs::create_dir_all(base.join(directory)).unwrap();
    }
    fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", base.join("bin").join(applet)).unwrap();
    }
    fs::write(base.join("etc/passwd"), PASSWD).unwrap();
    fs::write(base.join("etc/group"), GROUP).unwrap();
    fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}

fn list(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    use std::os::unix::fs::FileTypeExt;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), found);
        } else if kind.is_char_device() {
            found.push(format!("{name} x"));
        } else {
            found.push(name);
        }
    }
}

/// Says what a single case lacks; a failure where nothing may be missing.
pub(crate) fn missing(what: &str) {
    if crate::skip(what) != std::process::ExitCode::SUCCESS {
        panic!("missing: {what}");
    }
}

/// How many processes of the machine have this command line.
/// A `sleep` that no test has which runs at the same time, or was killed before.
pub(crate) fn sleep(kind: u32) -> String {
    format!("sleep {}", 100_000_000 + std::process::id() * 10 + kind)
}

pub(crate) fn processes_named(command: &str) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line: Vec<u8> = line.into_iter().map(|byte| if byte == 0 { b' ' } else { byte }).collect();
        count += usize::from(String::from_utf8_lossy(&line).trim() == command);
    }
    count
}
