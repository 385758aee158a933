//! What a layer takes from the layers below it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use strake_store::{RootDir, Store};

use super::fixture::{Raw, dir, file, fixture, hard_link, symlink, tar, unpack_all};

fn merged(store: &Store, tars: &[Vec<u8>], check: impl FnOnce(&RootDir)) {
    let layers = unpack_all(store, tars).unwrap();
    check(store.open_view(&layers).unwrap().root());
}

fn text(root: &RootDir, path: &str) -> String {
    String::from_utf8(root.read_bounded(Path::new(path), 100).unwrap()).unwrap()
}

#[test]
fn a_directory_that_the_tar_leaves_out_keeps_its_mode() {
    let fixture = fixture();
    let base = tar(&[Raw { mode: 0o1777, mtime: 7, ..dir("tmp") }, Raw { mode: 0o700, ..dir("./") }]);
    merged(&fixture.store, &[base, tar(&[file("tmp/x", "1")]), tar(&[file("new/x", "2")])], |root| {
        let tmp = root.stat(Path::new("tmp")).unwrap();
        assert_eq!((tmp.mode, tmp.mtime_ns), (0o1777, 7_000_000_000));
        assert_eq!(root.stat(Path::new("")).unwrap().mode, 0o700);
        assert_eq!(root.stat(Path::new("new")).unwrap().mode, 0o755);
    });
}

#[test]
fn a_file_below_a_directory_that_is_a_link_goes_where_the_link_leads() {
    let fixture = fixture();
    let base = tar(&[
        dir("usr"),
        dir("usr/lib"),
        file("usr/lib/old", "old"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr/lib"),
        symlink("loop", "loop2"),
        symlink("two", "lib"),
    ]);
    let layer = tar(&[
        file("lib/new", "new"),
        file("lib/sub/deep", "deep"),
        file("abs/two", "2"),
        file("two/three", "3"),
        file("lib/.wh.old", ""),
    ]);
    merged(&fixture.store, &[base, layer], |root| {
        assert!(root.read_link(Path::new("lib")).is_ok(), "the link is still there");
        assert_eq!(text(root, "usr/lib/new"), "new");
        assert_eq!(text(root, "lib/sub/deep"), "deep");
        assert_eq!((text(root, "lib/two"), text(root, "lib/three")), ("2".into(), "3".into()));
        assert!(root.stat(Path::new("usr/lib/old")).is_err());
    });
}

#[test]
fn a_link_below_that_leads_outside_stays_inside() {
    let fixture = fixture();
    let outside = fixture.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let base = tar(&[symlink("a", target), symlink("b", "../../../../../../../../..")]);
    merged(&fixture.store, &[base, tar(&[file("a/x", "1"), file("b/y", "2")])], |root| {
        assert_eq!(text(root, "a/x"), "1");
        assert_eq!(text(root, "y"), "2");
    });
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_hard_link_to_a_file_below_becomes_one_copy() {
    let fixture = fixture();
    let base = tar(&[dir("d"), Raw { mode: 0o640, ..file("d/f", "content") }, symlink("l", "d")]);
    let layer = tar(&[hard_link("one", "d/f"), hard_link("two", "/d/f"), hard_link("three", "l/f")]);
    let layers = unpack_all(&fixture.store, &[base, layer]).unwrap();
    let [one, two, three] = ["one", "two", "three"]
        .map(|name| std::fs::metadata(fixture.store.layer_dir(&layers[1]).join(name)).unwrap());
    assert_eq!(one.mode() & 0o777, 0o640);
    assert_eq!((one.ino(), one.ino(), one.len()), (two.ino(), three.ino(), 7));
}

#[test]
fn a_hard_link_to_nothing_is_an_error_and_leaves_nothing() {
    let fixture = fixture();
    for deleting in [vec![], vec![tar(&[file(".wh.f", "")])]] {
        let mut tars = vec![tar(&[file("f", "x")])];
        let target = if deleting.is_empty() { "missing" } else { "f" };
        tars.extend(deleting);
        tars.push(tar(&[hard_link("l", target)]));
        let error = unpack_all(&fixture.store, &tars).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }
    assert_eq!(std::fs::read_dir(fixture.store.root().join("active")).unwrap().count(), 0);
}

#[test]
fn deleted_and_replaced_things_do_not_show_through() {
    let fixture = fixture();
    let base = tar(&[dir("d"), file("d/old", ""), file("gone", ""), dir("e"), file("e/old", "")]);
    let layer = tar(&[
        file(".wh.gone", ""),
        file("d/.wh..wh..opq", ""),
        file("d/new", ""),
        file(".wh.e", ""),
        file("e/n", ""),
    ]);
    merged(&fixture.store, &[base, layer], |root| {
        for (path, there) in
            [("gone", false), ("d/old", false), ("d/new", true), ("e/old", false), ("e/n", true)]
        {
            assert_eq!(root.stat(Path::new(path)).is_ok(), there, "{path}");
        }
    });
}
