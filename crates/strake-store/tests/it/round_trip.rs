//! `apply(diff(a)) = a`, and `diff(apply(diff(a))) = diff(a)`, for trees of any kind.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use proptest::prelude::*;
use strake_store::tar::{DiffOptions, Times, apply, content_digest, diff};
use strake_store::{Flavour, Store};

use super::fixture::{apply_options, describe, fixture, is_root};

/// One thing to make; numbers choose among what there is by then.
#[derive(Debug, Clone)]
enum Make {
    Dir { parent: usize, name: Vec<u8>, opaque: bool },
    File { parent: usize, name: Vec<u8>, size: usize },
    Link { parent: usize, name: Vec<u8>, target: Vec<u8> },
    HardLink { parent: usize, name: Vec<u8>, file: usize },
    Whiteout { parent: usize, name: Vec<u8> },
    Fifo { parent: usize, name: Vec<u8> },
    Attributes { file: usize, mode: u32, owner: u32, time: i64, xattr: Option<(String, Vec<u8>)> },
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_byte = prop::collection::vec((1..=255_u8).prop_filter("no slash", |byte| *byte != b'/'), 1..20);
    let long = prop::collection::vec(prop::num::u8::ANY.prop_map(|byte| b'a' + byte % 26), 90..255);
    prop_oneof![any_byte, long, Just(b" ".to_vec()), Just(b"a-b".to_vec()), Just(b"a".to_vec())]
        .prop_filter("a name", |name| name != b"." && name != b".." && !name.starts_with(b".wh."))
}

fn make() -> impl Strategy<Value = Make> {
    let at = || 0..1000_usize;
    let target = prop::collection::vec(1..=255_u8, 1..200);
    let xattr = prop::option::of(("[a-z]{1,20}", prop::collection::vec(any::<u8>(), 0..300)));
    prop_oneof![
        3 => (at(), name(), any::<bool>()).prop_map(|(parent, name, opaque)| Make::Dir { parent, name, opaque }),
        4 => (at(), name(), 0..3000_usize).prop_map(|(parent, name, size)| Make::File { parent, name, size }),
        1 => (at(), name(), target).prop_map(|(parent, name, target)| Make::Link { parent, name, target }),
        1 => (at(), name(), at()).prop_map(|(parent, name, file)| Make::HardLink { parent, name, file }),
        1 => (at(), name()).prop_map(|(parent, name)| Make::Whiteout { parent, name }),
        1 => (at(), name()).prop_map(|(parent, name)| Make::Fifo { parent, name }),
        3 => (at(), 0..0o10000_u32, 0..3_000_000_u32, -1000..20_000_000_000_i64, xattr)
            .prop_map(|(file, mode, owner, time, xattr)| Make::Attributes { file, mode, owner, time, xattr }),
    ]
}

fn build(root: &Path, steps: &[Make], flavour: Flavour) {
    use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
    let (mut dirs, mut files, mut all) = (vec![root.to_owned()], Vec::new(), Vec::new());
    let opaque_name =
        if flavour == Flavour::Trusted { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    let node = |path: &Path, kind, mode| rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), 0);
    for step in steps {
        let (Make::Dir { parent, name, .. }
        | Make::File { parent, name, .. }
        | Make::Link { parent, name, .. }
        | Make::HardLink { parent, name, .. }
        | Make::Whiteout { parent, name }
        | Make::Fifo { parent, name }) = step
        else {
            continue;
        };
        let path = dirs[parent % dirs.len()].join(std::ffi::OsStr::from_bytes(name));
        if path.as_os_str().len() > 3500 || path.symlink_metadata().is_ok() {
            continue;
        }
        match step {
            Make::Dir { opaque, .. } => {
                std::fs::create_dir(&path).unwrap();
                if *opaque {
                    rustix::fs::setxattr(&path, opaque_name, b"y", XattrFlags::empty()).unwrap();
                }
                dirs.push(path.clone());
                all.push(path);
            }
            Make::File { size, .. } => {
                std::fs::write(&path, vec![u8::try_from(size % 251).unwrap(); *size]).unwrap();
                files.push(path.clone());
                all.push(path);
            }
            Make::Link { target, .. } => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap();
                all.push(path);
            }
            Make::HardLink { file, .. } if !files.is_empty() => {
                std::fs::hard_link(&files[file % files.len()], &path).unwrap();
            }
            Make::Whiteout { .. } => node(&path, FileType::CharacterDevice, 0).unwrap(),
            Make::Fifo { .. } => {
                node(&path, FileType::Fifo, 0o600).unwrap();
                all.push(path);
            }
            _ => {}
        }
    }
    // Deepest first, so that times stay.
    all.sort();
    for (at, path) in all.iter().enumerate().rev() {
        let step =
            steps.iter().find(|step| matches!(step, Make::Attributes { file, .. } if file % all.len() == at));
        let Some(Make::Attributes { mode, owner, time, xattr, .. }) = step else { continue };
        let metadata = path.symlink_metadata().unwrap();
        let owner = (Some(Uid::from_raw(*owner)), Some(Gid::from_raw(*owner)));
        if is_root() && flavour == Flavour::Trusted {
            rustix::fs::chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        if !metadata.is_symlink() {
            let mode = if is_root() { *mode } else { mode | 0o700 };
            rustix::fs::chmod(path, Mode::from_raw_mode(mode)).unwrap();
        }
        if let Some((name, value)) = xattr.as_ref().filter(|_| metadata.is_file() || metadata.is_dir()) {
            rustix::fs::setxattr(path, format!("user.{name}"), value, XattrFlags::empty()).unwrap();
        }
        let time = Timespec { tv_sec: *time % 15_000_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn tar_of(layer: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    diff(layer, &mut tar, &DiffOptions::default()).unwrap();
    tar
}

fn check(store: &Store, steps: &[Make]) {
    let (one, two) = (store.prepare_layer().unwrap(), store.prepare_layer().unwrap());
    build(one.upper(), steps, store.flavour());
    let tar = tar_of(one.upper());
    let applied = apply(&tar[..], two.upper(), &apply_options(store.flavour())).unwrap();
    assert_eq!(applied.notes, Vec::<String>::new());
    assert_eq!(describe(one.upper()), describe(two.upper()));
    assert_eq!(tar, tar_of(two.upper()));
    let content = |layer: &Path| content_digest(layer, Times::Ignored).unwrap();
    assert_eq!(content(one.upper()), content(two.upper()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_survives_the_way_through_tar(steps in prop::collection::vec(make(), 0..40)) {
        let fixture = fixture();
        check(&fixture.store, &steps);
    }
}

#[test]
fn content_digests_see_everything_else_where_times_are_ignored() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = fixture();
    let digest = |change: &dyn Fn(&Path)| {
        let layer = fixture.store.prepare_layer().unwrap();
        std::fs::create_dir(layer.upper().join("d")).unwrap();
        std::fs::write(layer.upper().join("d/f"), "content").unwrap();
        change(layer.upper());
        content_digest(layer.upper(), Times::Ignored).unwrap()
    };
    let plain = digest(&|_| {});
    assert_eq!(
        plain,
        digest(&|root| {
            let file = std::fs::File::options().write(true).open(root.join("d/f")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        })
    );
    let changes: [&dyn Fn(&Path); 8] = [
        &|root| assert_eq!(std::fs::copy(root.join("d/f"), root.join("d/h")).unwrap(), 7),
        &|root| std::fs::hard_link(root.join("d/f"), root.join("d/h")).unwrap(),
        &|root| std::fs::write(root.join("d/f"), "Content").unwrap(),
        &|root| std::fs::set_permissions(root.join("d/f"), std::fs::Permissions::from_mode(0o600)).unwrap(),
        &|root| std::fs::rename(root.join("d/f"), root.join("d/g")).unwrap(),
        &|root| std::fs::rename(root.join("d/f"), root.join("f")).unwrap(),
        &|root| std::os::unix::fs::symlink("f", root.join("d/l")).unwrap(),
        &|root| {
            rustix::fs::setxattr(root.join("d"), "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap()
        },
    ];
    let mut digests: Vec<_> = changes.iter().map(|change| digest(change)).collect();
    digests.push(plain);
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn content_digests_see_the_times_that_a_step_chose() {
    let fixture = fixture();
    let second = |seconds: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let set = |path: std::path::PathBuf, seconds: u64| {
        std::fs::File::open(path).unwrap().set_modified(second(seconds)).unwrap();
    };
    let below = fixture.store.prepare_layer().unwrap();
    std::fs::write(below.upper().join("kept"), "").unwrap();
    set(below.upper().join("kept"), 50);
    let below = strake_store::RootDir::open(below.upper()).unwrap();
    let digest = |kept: u64, written: u64| {
        let layer = fixture.store.prepare_layer().unwrap();
        for (name, seconds) in [("kept", kept), ("written", written)] {
            std::fs::write(layer.upper().join(name), "").unwrap();
            set(layer.upper().join(name), seconds);
        }
        let (began_ns, ended_ns) = (100_000_000_000, 110_000_000_000);
        content_digest(layer.upper(), Times::Chosen { began_ns, ended_ns, below: Some(&below) }).unwrap()
    };
    let plain = digest(50, 100);
    assert_eq!(plain, digest(50, 109), "the step wrote it at another moment");
    assert_eq!(
        plain,
        digest(105, 105),
        "the time of what was changed without being written is nobody's choice"
    );
    let mut others = [digest(50, 99), digest(50, 111), digest(50, 50), digest(51, 100), plain];
    others.sort();
    assert!(others.windows(2).all(|two| two[0] != two[1]), "{others:?}");
}

#[test]
fn times_are_clamped_when_asked() {
    let fixture = fixture();
    let layer = fixture.store.prepare_layer().unwrap();
    std::fs::write(layer.upper().join("f"), "").unwrap();
    let mut tar = Vec::new();
    diff(layer.upper(), &mut tar, &DiffOptions { clamp_mtime: Some(5) }).unwrap();
    assert_eq!(&tar[136..147], b"00000000005");
}
