//! Tars made to do harm. Each must be refused with a clear message or do what a careful reader would do, and nothing
//! may appear outside the new directory.

use std::path::Path;

use strake_store::tar::{Applied, TarError, apply};

use super::fixture::{
    Raw, apply_options, dir, file, fixture, hard_link, header, is_root, pax, raw, seal, symlink, tar,
    tar_without_end, xattrs,
};

struct Outcome {
    result: Result<Applied, TarError>,
    folder: tempfile::TempDir,
}

impl Outcome {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("dest").join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn applied(&self) -> &Applied {
        self.result.as_ref().unwrap()
    }

    fn refused(&self, word: &str) {
        let message = self.result.as_ref().unwrap_err().to_string();
        assert!(message.contains(word), "{message:?} does not say {word:?}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

/// Applies a tar beside a file that must stay as it is.
fn check(tar: &[u8]) -> Outcome {
    // One store for all, only to learn which attributes can be written here.
    static FLAVOUR: std::sync::OnceLock<strake_store::Flavour> = std::sync::OnceLock::new();
    let flavour = *FLAVOUR.get_or_init(|| fixture().store.flavour());
    let folder = tempfile::tempdir().unwrap();
    let (dest, outside) = (folder.path().join("dest"), folder.path().join("outside"));
    std::fs::create_dir(&dest).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "untouched").unwrap();
    let result = apply(tar, &dest, &apply_options(flavour));
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "something was written outside");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "something was written outside");
    Outcome { result, folder }
}

fn check_entries(entries: &[Raw<'_>]) -> Outcome {
    check(&tar(entries))
}

#[test]
fn names_that_lead_upwards_are_refused() {
    for name in ["../outside/file", "a/../../outside/file", "..", "a/..", "/../outside/file"] {
        check_entries(&[file(name, "evil")]).refused("..");
    }
    check(&[pax(&[("path", b"../outside/file")]), tar(&[file("x", "evil")])].concat()).refused("..");
}

#[test]
fn absolute_names_stay_inside() {
    let outcome = check_entries(&[file("//etc//./passwd", "inside")]);
    assert_eq!(outcome.text("etc/passwd"), "inside");
    assert!(outcome.applied().implicit_dirs.contains(&Path::new("etc").to_owned()));
}

#[test]
fn zero_bytes_and_endless_names_are_refused() {
    check(&[pax(&[("path", b"a\0b")]), tar(&[file("x", "")])].concat()).refused("zero byte");
    check(&[pax(&[("path", &[b'a'; 256])]), tar(&[file("x", "")])].concat()).refused("255");
    check(&[pax(&[("path", &b"a/".repeat(2100))]), tar(&[file("x", "")])].concat()).refused("4095");
}

#[test]
fn names_of_any_bytes_are_kept() {
    use std::os::unix::ffi::OsStrExt as _;
    let name = b"\xff\xfe\n\x1b[31m\xc3\xa4";
    let outcome = check(&tar(&[Raw { name, ..file("", "x") }]));
    assert!(outcome.path("").join(std::ffi::OsStr::from_bytes(name)).exists());
    // The same in decomposed form is another name.
    let outcome =
        check_entries(&[file("\u{e4}", "one"), file("a\u{308}", "two"), file("A", "x"), file("a", "y")]);
    assert_eq!(std::fs::read_dir(outcome.path("")).unwrap().count(), 4);
    check(&tar(&[Raw { name: b"a/../\x1b[31m", ..file("", "x") }])).refused("..");
}

#[test]
fn a_planted_link_leads_nowhere_outside() {
    for target in ["../outside", "/outside", "/../../outside", "../../../../../../outside"] {
        let outcome = check_entries(&[symlink("a", target), file("a/file", "evil")]);
        assert_eq!(
            outcome.text("outside/file"),
            "evil",
            "the link is followed inside, as the container would"
        );
        check_entries(&[
            symlink("a", target),
            dir("a/new"),
            symlink("a/new/x", "y"),
            hard_link("h", "a/file"),
        ]);
    }
}

#[test]
fn writing_over_a_link_replaces_the_link() {
    let outcome = check_entries(&[symlink("a", "../outside/file"), file("a", "mine")]);
    assert_eq!(outcome.text("a"), "mine");
    let outcome = check_entries(&[symlink("a", "../outside"), Raw { mode: 0o777, ..dir("a") }]);
    assert!(outcome.path("a").is_dir() && !outcome.path("a").is_symlink());
}

#[test]
fn a_directory_replaced_by_a_link_is_not_written_into_by_what_was_open() {
    let outcome = check_entries(&[
        dir("d"),
        file("d/one", "1"),
        symlink("d", "e"),
        file("d/two", "2"),
        dir("d"),
        file("d/3", ""),
    ]);
    assert_eq!(outcome.text("e/two"), "2");
    assert!(!outcome.path("d/one").exists());
}

#[test]
fn links_in_a_circle_are_refused() {
    check_entries(&[symlink("a", "b"), symlink("b", "a"), file("a/x", "")]).refused("symbolic links");
    check_entries(&[symlink("a", "a/b"), file("a/x", "")]).refused("symbolic links");
}

#[test]
fn hard_links_stay_inside() {
    check_entries(&[hard_link("a", "../outside/file")]).refused("..");
    let outcome = check_entries(&[file("x", "1"), hard_link("a", "/x")]);
    assert_eq!(outcome.text("a"), "1");
    // To a file that only a layer below can have.
    let outcome = check_entries(&[hard_link("a", "/etc/hostname")]);
    assert_eq!(outcome.applied().deferred_links.len(), 1);
    assert!(!outcome.path("a").exists() && !outcome.path("etc").exists());
    // To a link: the link itself gets another name.
    let outcome = check_entries(&[symlink("l", "../outside/file"), hard_link("a", "l")]);
    assert!(outcome.path("a").is_symlink());
    // Through a link.
    let outcome = check_entries(&[symlink("l", "../outside"), hard_link("a", "l/file")]);
    assert_eq!(outcome.applied().deferred_links.len(), 1);
    check_entries(&[dir("d"), hard_link("a", "d")]).refused("directory");
    check_entries(&[file("a", ""), hard_link("a", "a")]).refused("itself");
    check_entries(&[hard_link("a", "/")]).refused("root");
}

#[test]
fn whiteouts_that_name_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        check_entries(&[file(name, "")]).refused("names nothing");
    }
    check_entries(&[symlink("a", "../outside"), file("a/.wh.file", "")]);
}

#[test]
fn a_whiteout_does_not_touch_what_its_own_layer_brings() {
    let outcome = check_entries(&[file("x", "kept"), file(".wh.x", "")]);
    assert_eq!(outcome.text("x"), "kept");
    let outcome = check_entries(&[file(".wh.x", ""), file("x", "kept")]);
    assert_eq!(outcome.text("x"), "kept");
    for entries in [
        vec![file(".wh.d", ""), dir("d"), file("d/x", "kept")],
        vec![dir("d"), file("d/x", "kept"), file(".wh.d", "")],
        vec![file(".wh.d", ""), file("d/x", "kept")],
        vec![dir("d"), file("d/x", "kept"), file("d/.wh..wh..opq", "")],
    ] {
        let outcome = check_entries(&entries);
        assert_eq!(outcome.text("d/x"), "kept");
        assert!(xattrs(&outcome.path("d")).keys().any(|name| name.ends_with("overlay.opaque")));
    }
}

#[test]
fn a_device_cannot_pose_as_a_whiteout() {
    let outcome = check_entries(&[raw(b'3', "x")]);
    assert!(!outcome.path("x").exists());
    assert!(outcome.applied().notes[0].contains("0:0"));
}

#[test]
fn devices_and_pipes_are_made_where_that_is_possible() {
    let outcome = check_entries(&[Raw { device: (1, 3), ..raw(b'3', "null") }, raw(b'6', "pipe")]);
    assert_eq!(outcome.path("null").exists(), is_root() && outcome.applied().notes.is_empty());
    assert!(outcome.path("pipe").exists());
}

#[test]
fn overlayfs_attributes_do_not_come_in() {
    for name in
        ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "user.overlay.metacopy"]
    {
        let key = format!("SCHILY.xattr.{name}");
        let outcome = check(&[pax(&[(&key, b"y")]), tar(&[dir("d")])].concat());
        assert!(xattrs(&outcome.path("d")).is_empty());
        assert!(outcome.applied().notes[0].contains("overlayfs"));
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let outcome = check_entries(&[
        file("a", "1"),
        file("a", "2"),
        dir("d"),
        file("d/x", ""),
        file("d", "now a file"),
        file("e", ""),
        dir("e"),
        file("e/x", "in"),
        dir("e"),
        symlink("s", "a"),
        raw(b'6', "s"),
    ]);
    assert_eq!(
        (outcome.text("a"), outcome.text("d"), outcome.text("e/x")),
        ("2".into(), "now a file".into(), "in".into())
    );
    assert!(!outcome.path("s").is_symlink());
}

#[test]
fn a_file_where_a_directory_is_needed_is_an_error() {
    check_entries(&[file("a", ""), file("a/b", "")]).refused("directory");
}

#[test]
fn setuid_bits_survive_the_change_of_owner() {
    use std::os::unix::fs::MetadataExt as _;
    if !is_root() {
        return super::fixture::missing("root");
    }
    let outcome = check_entries(&[Raw { mode: 0o6755, owner: 12, ..file("su", "x") }]);
    let metadata = std::fs::metadata(outcome.path("su")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o6755, 12, 12));
}

#[test]
fn times_far_away_and_before_1970() {
    use std::os::unix::fs::MetadataExt as _;
    for (time, expect) in
        [(&b"-2.5"[..], Some(-3)), (b"253370764800", None), (b"-99999999999999999999", None)]
    {
        let outcome = check(&[pax(&[("mtime", time)]), tar(&[file("x", "")])].concat());
        let mtime = std::fs::metadata(outcome.path("x")).unwrap().mtime();
        assert!(expect.is_none_or(|expect| expect == mtime), "{mtime}");
    }
}

#[test]
fn owners_that_are_none_are_refused() {
    for id in [&b"4294967295"[..], b"4294967296", b"99999999999"] {
        check(&[pax(&[("uid", id)]), tar(&[file("x", "")])].concat()).refused("owner");
    }
    check(&[pax(&[("uid", b"-1")]), tar(&[file("x", "")])].concat()).refused("owner");
}

#[test]
fn claims_of_enormous_size_are_refused_before_anything_is_allocated() {
    let huge = |flag: u8| header(&raw(flag, "x"), 0o77777777777).to_vec();
    for flag in [b'x', b'g', b'L', b'K'] {
        check(&huge(flag)).refused("extended headers");
    }
    check(&huge(b'0')).refused("bytes in its files");
    let sparse = pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"9223372036854775807"),
    ]);
    let map = file("x", "1\n0\n0\n");
    check(&[sparse, tar(&[Raw { content: &[map.content, &[0; 506]].concat(), ..map }])].concat())
        .refused("bytes in its");
    let many: Vec<_> = (0..100_001).map(|_| dir("d")).collect();
    check_entries(&many).refused("entries");
}

#[test]
fn sparse_files_of_all_dialects() {
    let expect = [&[0; 1000][..], b"data", &[0; 20]].concat();
    let mut old = header(&raw(b'S', "s"), 4);
    old[257..265].copy_from_slice(b"ustar  \0");
    old[386..397].copy_from_slice(format!("{:011o}", 1000).as_bytes());
    old[398..409].copy_from_slice(format!("{:011o}", 4).as_bytes());
    old[483..494].copy_from_slice(format!("{:011o}", 1024).as_bytes());
    seal(&mut old);
    let old = [&old[..], b"data", &[0; 508], &[0; 1024]].concat();
    let data = tar(&[file("x", "data")]);
    let zero = [
        pax(&[
            ("GNU.sparse.size", b"1024"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.offset", b"1000"),
            ("GNU.sparse.numbytes", b"4"),
            ("path", b"s"),
        ]),
        data.clone(),
    ]
    .concat();
    let one = [
        pax(&[("GNU.sparse.size", b"1024"), ("GNU.sparse.map", b"1000,4"), ("GNU.sparse.name", b"s")]),
        data,
    ]
    .concat();
    let content = [&b"1\n1000\n4\n"[..], &[0; 503], b"data"].concat();
    let last = [
        pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", b"1024"),
        ]),
        tar(&[Raw { content: &content, ..file("GNUSparseFile.0/s", "") }]),
    ]
    .concat();
    for (dialect, bytes) in [("old", old), ("0.0", zero), ("0.1", one), ("1.0", last)] {
        let outcome = check(&bytes);
        outcome.applied();
        assert_eq!(std::fs::read(outcome.path("s")).unwrap(), expect, "{dialect}");
    }
    for map in ["1000,40", "1020,4,1000,0", "18446744073709551615,4", "4", "a,b"] {
        let bytes = [
            pax(&[("GNU.sparse.size", b"1024"), ("GNU.sparse.map", map.as_bytes())]),
            tar(&[file("x", "data")]),
        ];
        assert!(check(&bytes.concat()).result.is_err(), "{map}");
    }
}

#[test]
fn what_is_no_tar_is_refused_wherever_it_is_cut() {
    let good = tar(&[file("a", "content"), dir("d"), symlink("l", "a")]);
    for at in 0..good.len() - 1024 {
        if at % 512 == 0 && at != 512 {
            continue;
        }
        check(&good[..at]).refused("tar at byte");
    }
    for at in (0..512).chain(1024..1100) {
        let mut broken = good.clone();
        broken[at] = broken[at].wrapping_add(1);
        if let Err(error) = check(&broken).result {
            assert!(error.to_string().starts_with("tar "), "{error}");
        }
    }
    check(&[7; 2048]).refused("not a tar header");
    assert_eq!(check(&[]).applied().entries, 0);
    assert_eq!(check(&[0; 1024]).applied().entries, 0);
}

#[test]
fn long_names_of_gnu_tar() {
    let name = "d/".repeat(80) + "file";
    let long =
        tar_without_end(&[Raw { content: format!("{name}\0").as_bytes(), ..raw(b'L', "././@LongLink") }]);
    let outcome = check(&[long, tar(&[file("short", "x")])].concat());
    assert_eq!(outcome.text(&name), "x");
}
