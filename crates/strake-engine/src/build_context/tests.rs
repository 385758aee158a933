use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use strake_store::StatCache;

use super::*;

/// A directory that is removed at the end of the test.
struct Dir(tempfile::TempDir);

impl Dir {
    fn with(files: &[&str]) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        for file in files {
            dir.write(file, file);
        }
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn scan(&self, ignore: &str, wanted: &[&str]) -> SourceTree {
        let ignore = IgnoreRules::parse(ignore.as_bytes()).unwrap();
        let wanted: Vec<_> = wanted.iter().map(|text| glob(text)).collect();
        SourceTree::of_context(self.0.path(), &ignore, &wanted, &Cancellation::new()).unwrap()
    }
}

fn glob(text: &str) -> Glob {
    Glob::new(strake_graph::pattern::clean(text.as_bytes())).unwrap()
}

fn paths(tree: &SourceTree) -> Vec<String> {
    tree.entries().iter().map(|entry| shown(&entry.path)).collect()
}

fn found(tree: &SourceTree, pattern: &str) -> Vec<String> {
    let path = |found: &Found| found.entry.map_or("/".into(), |index| shown(&tree.entries()[index].path));
    tree.lookup(&glob(pattern)).found.iter().map(path).collect()
}

#[test]
fn only_what_patterns_reach_is_scanned() {
    let dir = Dir::with(&["a/x", "a/y/z", "a-b/q", "b/x", "c.txt", "d.txt"]);
    assert_eq!(
        paths(&dir.scan("", &["."])),
        ["a", "a/x", "a/y", "a/y/z", "a-b", "a-b/q", "b", "b/x", "c.txt", "d.txt"]
    );
    assert_eq!(paths(&dir.scan("", &["a/y"])), ["a", "a/y", "a/y/z"]);
    assert_eq!(paths(&dir.scan("", &["*.txt"])), ["c.txt", "d.txt"]);
    assert_eq!(paths(&dir.scan("", &["*/x"])), ["a", "a/x", "a-b", "b", "b/x"]);
    assert!(paths(&dir.scan("", &[])).is_empty());
}

#[test]
fn what_nobody_wants_is_not_even_opened() {
    let dir = Dir::with(&["a/x", "secret/y"]);
    fs::set_permissions(dir.path("secret"), fs::Permissions::from_mode(0o0)).unwrap();
    assert_eq!(paths(&dir.scan("", &["a"])), ["a", "a/x"]);
    assert_eq!(paths(&dir.scan("secret", &["."])), ["a", "a/x"]);
}

#[test]
fn ignored_folders_come_back_with_what_exceptions_bring_back() {
    let dir = Dir::with(&["a/b/keep", "a/b/drop", "a/c/drop", "d", "e/f/g"]);
    assert_eq!(paths(&dir.scan("*\n!a/b/keep", &["."])), ["a", "a/b", "a/b/keep"]);
    assert_eq!(paths(&dir.scan("**/drop\ne", &["."])), ["a", "a/b", "a/b/keep", "a/c", "d"]);
    assert_eq!(paths(&dir.scan("*\n!**/nothing", &["."])), [""; 0]);
}

#[test]
fn links_on_the_way_are_followed_within_the_root() {
    let dir = Dir::with(&["real/in/f", "other/g", "etc/passwd"]);
    symlink("real", dir.path("link")).unwrap();
    symlink("link/in", dir.path("two")).unwrap();
    symlink("/other", dir.path("absolute")).unwrap();
    symlink("../../../../etc/passwd", dir.path("out")).unwrap();
    symlink("loop", dir.path("loop")).unwrap();
    symlink("nothing", dir.path("dangling")).unwrap();
    for (pattern, expected) in [
        ("link/in/f", &["real/in/f"][..]),
        ("two", &["real/in"]),
        ("two/f", &["real/in/f"]),
        ("two/*", &["real/in/f"]),
        ("t*o", &["real/in"]),
        ("absolute/g", &["other/g"]),
        ("out", &["etc/passwd"]),
        ("loop", &[]),
        ("dangling", &[]),
        ("nothing", &[]),
    ] {
        let tree = dir.scan("", &[pattern]);
        assert_eq!(found(&tree, pattern), expected, "{pattern}");
    }
    let tree = dir.scan("", &["two"]);
    assert_eq!(tree.lookup(&glob("two")).found[0].name, b"two");
    assert!(tree.find(b"real/in/f").is_some(), "what the link leads to is scanned as a whole");
}

#[test]
fn sockets_are_skipped_and_pipes_never_block() {
    let dir = Dir::with(&["a"]);
    let _socket = std::os::unix::net::UnixListener::bind(dir.path("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let tree = dir.scan("", &["."]);
    assert_eq!(paths(&tree), ["a", "pipe"]);
    assert_eq!(tree.digest_files(0..2, None, 0).unwrap(), 1);
}

#[test]
fn names_are_bytes_and_paths_may_be_deep() {
    let dir = Dir::with(&[]);
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe\n");
    fs::write(dir.0.path().join(name), "x").unwrap();
    fs::write(dir.path(&"n".repeat(255)), "y").unwrap();
    let mut folder =
        rustix::fs::open(dir.0.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..60 {
        let name = "d".repeat(200);
        rustix::fs::mkdirat(&folder, &name, rustix::fs::Mode::RWXU).unwrap();
        folder =
            rustix::fs::openat(&folder, &name, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    rustix::fs::openat(&folder, "deep", flags, rustix::fs::Mode::RUSR).unwrap();
    let tree = dir.scan("", &["."]);
    assert_eq!(tree.entries().len(), 63);
    let longest = tree.entries().iter().map(|entry| entry.path.len()).max();
    assert_eq!(longest, Some(60 * 201 + 4), "far beyond what one system call can name");
    assert_eq!(tree.digest_files(0..63, None, 0).unwrap(), 3);
    assert_eq!(shown(b"\xff\n"), "\\xff\\n");
}

#[test]
fn a_file_that_changes_after_the_scan_is_refused_by_name() {
    let dir = Dir::with(&["a", "b"]);
    let tree = dir.scan("", &["."]);
    dir.write("b", "longer than before");
    let error = tree.digest_files(0..2, None, 0).unwrap_err();
    assert!(matches!(&error, SourceError::Changed { path } if path == b"b"), "{error}");
    fs::remove_file(dir.path("a")).unwrap();
    let error = dir_error(&tree);
    assert!(error.contains("open a:") && error.contains("vanished"), "{error}");
}

fn dir_error(tree: &SourceTree) -> String {
    tree.digest_files(0..1, None, 0).unwrap_err().to_string()
}

#[test]
fn a_link_in_place_of_a_scanned_file_is_not_followed() {
    let dir = Dir::with(&["a/x", "b"]);
    let tree = dir.scan("", &["."]);
    fs::rename(dir.path("a"), dir.path("c")).unwrap();
    symlink("/etc", dir.path("a")).unwrap();
    fs::remove_file(dir.path("b")).unwrap();
    symlink("/etc/passwd", dir.path("b")).unwrap();
    for index in 0..tree.entries().len() {
        if tree.entries()[index].kind == EntryKind::File {
            assert!(tree.digest_files([index], None, 0).is_err());
        }
    }
}

#[test]
fn digests_are_of_content() {
    let dir = Dir::with(&["a"]);
    dir.write("big", &"x".repeat(300_000));
    let tree = dir.scan("", &["."]);
    assert_eq!(tree.digest_files([0, 1, 1], None, 0).unwrap(), 2);
    assert_eq!(tree.digest_files([0, 1], None, 0).unwrap(), 0, "nothing is read twice");
    assert_eq!(tree.digest(0), Some(FileDigest::of(b"a")));
    assert_eq!(tree.digest(1), Some(FileDigest::of("x".repeat(300_000).as_bytes())));
}

#[test]
fn remembered_files_are_not_read_again() {
    let dir = Dir::with(&["a"]);
    let mut cache = StatCache::default();
    let later = i64::MAX / 2;
    let first = dir.scan("", &["."]);
    assert_eq!(first.digest_files([0], Some(&mut cache), later).unwrap(), 1);
    assert_eq!(dir.scan("", &["."]).digest_files([0], Some(&mut cache), later).unwrap(), 0);
    // Same size, same time of modification, other content: the time of change gives it away.
    let modified = fs::metadata(dir.path("a")).unwrap().modified().unwrap();
    dir.write("a", "b");
    fs::File::options().write(true).open(dir.path("a")).unwrap().set_modified(modified).unwrap();
    let third = dir.scan("", &["."]);
    assert_eq!(third.digest_files([0], Some(&mut cache), later).unwrap(), 1);
    assert_eq!(third.digest(0), Some(FileDigest::of(b"b")));
    // A file as young as the clock's grain is not remembered.
    let entry = &third.entries()[0];
    let mut young = StatCache::default();
    third_again(&dir, &mut young, entry.ctime_ns);
    assert_eq!(third_again(&dir, &mut young, entry.ctime_ns), 1);
}

fn third_again(dir: &Dir, cache: &mut StatCache, now: i64) -> usize {
    dir.scan("", &["."]).digest_files([0], Some(cache), now).unwrap()
}

#[test]
fn a_stopped_build_looks_at_nothing_more() {
    let dir = Dir::with(&["a", "b/c"]);
    let cancellation = Cancellation::new();
    let scan = || SourceTree::of_context(dir.0.path(), &IgnoreRules::default(), &[glob(".")], &cancellation);
    let tree = scan().unwrap();
    cancellation.cancel();
    assert!(matches!(tree.digest_files([0, 2], None, 0), Err(SourceError::Stopped)));
    assert_eq!(tree.digest(0), None);
    assert!(matches!(scan(), Err(SourceError::Stopped)));
}
