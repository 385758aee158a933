//! Mounts beyond what every executor promises.

use std::fs;

use strake_exec::{ExitStatus, MountKind, Rootfs};

use crate::Case;
use crate::sandbox::{self, Sandbox};

pub(crate) const CASES: &[Case] = &[
    ("mounts::views_of_layers", views_of_layers),
    ("mounts::writable_view", writable_view),
    ("mounts::five_hundred_layers", five_hundred_layers),
    ("mounts::binds_have_no_devices_and_no_setuid", binds_have_no_devices_and_no_setuid),
    ("mounts::in_each_other", in_each_other),
    ("mounts::large_file_in_memory", large_file_in_memory),
    ("mounts::awkward_names", awkward_names),
];

/// Two layers, the upper one hiding a file of the lower one.
fn two_layers(sandbox: &Sandbox) -> Vec<std::path::PathBuf> {
    let (below, above) = (sandbox.directory("below"), sandbox.directory("above"));
    for directory in [&below, &above] {
        fs::create_dir(directory.join("out")).unwrap();
    }
    fs::write(below.join("out/both"), "below").unwrap();
    fs::write(above.join("out/both"), "above").unwrap();
    fs::write(below.join("out/only"), "only").unwrap();
    std::os::unix::fs::symlink("/out", above.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc", above.join("escape")).unwrap();
    vec![below, above]
}

fn view(sandbox: &Sandbox, lowers: Vec<std::path::PathBuf>, source: &str) -> MountKind {
    let _ = sandbox;
    MountKind::Layers { lowers, user_xattr: sandbox::is_rootless(), source: source.into(), scratch: None }
}

fn views_of_layers() {
    let mut sandbox = Sandbox::new();
    let lowers = two_layers(&sandbox);
    for (target, source) in [("/a", "/"), ("/b", "out"), ("/c", "/absolute/only"), ("/d", "/absolute")] {
        let kind = view(&sandbox, lowers.clone(), source);
        sandbox.mount(target, kind, true);
    }
    let kind = view(&sandbox, lowers[..1].to_vec(), "/out/both");
    sandbox.mount("/e", kind, true);
    let text =
        sandbox.output("cat /a/out/both /b/both /c /d/only /e; touch /b/new 2>/dev/null && exit 1; true");
    assert_eq!(text, "aboveaboveonlyonlybelow");
    // A link that would lead out of the layers is resolved inside, where there is no such thing.
    let kind = view(&sandbox, lowers, "/escape/passwd");
    sandbox.mount("/f", kind, true);
    let message = sandbox.sh("true").status.unwrap_err().to_string();
    assert_eq!(message, "mount /escape/passwd on /f: No such file or directory (os error 2)");
}

fn writable_view() {
    let mut sandbox = Sandbox::new();
    let lowers = two_layers(&sandbox);
    let scratch = Some((sandbox.directory("view-upper"), sandbox.directory("view-work")));
    let user_xattr = sandbox::is_rootless();
    let kind = MountKind::Layers { lowers: lowers.clone(), user_xattr, source: "/out".into(), scratch };
    sandbox.mount("/src", kind, false);
    assert_eq!(
        sandbox.output("echo changed >/src/both; rm /src/only; ls /src; cat /src/both"),
        "both\nchanged"
    );
    assert_eq!(fs::read_to_string(lowers[1].join("out/both")).unwrap(), "above");
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
}

fn five_hundred_layers() {
    let mut sandbox = Sandbox::new();
    for count in [499, 500, 501] {
        for directory in ["upper", "work"] {
            fs::remove_dir_all(sandbox.dir.path().join(directory)).unwrap();
            sandbox.directory(directory);
        }
        let mut layers = vec![sandbox.base()];
        for number in 1..count {
            let layer = sandbox.directory(&format!("layers/of-a-rather-long-name/{number}"));
            fs::write(layer.join(format!("file{number}")), "").unwrap();
            layers.push(layer);
        }
        let Rootfs::Overlay { lowers, .. } = &mut sandbox.container.rootfs else { unreachable!() };
        *lowers = layers;
        let outcome = sandbox.sh("ls / | grep -c ^file");
        if count > 500 {
            let message = outcome.status.unwrap_err().to_string();
            assert_eq!(message, "layers of the root file system: 501 directories, overlayfs takes 500");
        } else {
            assert_eq!(outcome.stdout.trim(), (count - 1).to_string(), "{outcome:?}");
            assert!(sandbox.changes().is_empty(), "{count}: {:?}", sandbox.changes());
        }
    }
}

fn binds_have_no_devices_and_no_setuid() {
    let mut sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    sandbox.mount("/mnt", MountKind::Bind { source }, false);
    let options = sandbox.output("grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6");
    for option in ["nosuid", "nodev", "rw"] {
        assert!(options.split(',').any(|o| o == option), "{options}");
    }
}

fn in_each_other() {
    let mut sandbox = Sandbox::new();
    let cache = sandbox.directory("cache");
    sandbox
        .mount("/cache", MountKind::Bind { source: cache.clone() }, false)
        .mount("/cache/deep/tmp", MountKind::Tmpfs { size: None, mode: 0o700 }, false)
        .mount("/dev/shm/x", MountKind::Tmpfs { size: None, mode: 0o700 }, false);
    sandbox.output("touch /cache/deep/tmp/gone /cache/deep/kept /dev/shm/x/y");
    assert!(cache.join("deep/kept").exists() && !cache.join("deep/tmp/gone").exists());
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
}

fn large_file_in_memory() {
    let mut sandbox = Sandbox::new();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    for target in ["/etc/ssl/bundle.pem", "/script"] {
        sandbox.mount(
            target,
            MountKind::File { content: content.clone(), mode: 0o755, uid: 0, gid: 0 },
            true,
        );
    }
    assert_eq!(sandbox.output("cmp /etc/ssl/bundle.pem /script && wc -c </script"), "3000000");
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
}

fn awkward_names() {
    let mut sandbox = Sandbox::new();
    let layer = sandbox.directory("a:b,c=d\\e \"f");
    fs::write(layer.join("file"), "x").unwrap();
    let long = sandbox.directory(&["n".repeat(200), "m".repeat(200)].join("/"));
    fs::write(long.join("long"), "y").unwrap();
    let Rootfs::Overlay { lowers, .. } = &mut sandbox.container.rootfs else { unreachable!() };
    lowers.extend([layer.clone(), long]);
    sandbox.mount("/m:n,o", MountKind::Bind { source: layer }, true);
    assert_eq!(sandbox.sh("cat /file /long /m:n,o/file").stdout, "xyx");
    assert_eq!(sandbox.sh("true").status, Ok(ExitStatus::Exited(0)));
}
