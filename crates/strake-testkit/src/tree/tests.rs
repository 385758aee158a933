use super::*;

/// A layer of `(path, what)`: `dir`, `link TARGET`, `sym TARGET`, anything else is a file's content.
fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, what) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        if *what == "dir" {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, path, &b""[..]).unwrap();
        } else if let Some(target) = what.strip_prefix("link ") {
            header.set_entry_type(tar::EntryType::Link);
            builder.append_link(&mut header, path, target).unwrap();
        } else if let Some(target) = what.strip_prefix("sym ") {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_size(what.len() as u64);
            builder.append_data(&mut header, path, what.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn check(layers: &[&[(&str, &str)]], expected: &[&str]) {
    let mut flattener = Flattener::default();
    for entries in layers {
        flattener.layer(&layer(entries)).unwrap();
    }
    let shown: Vec<String> =
        flattener.finish().nodes.iter().map(|(path, node)| format!("{path}: {node}")).collect();
    assert_eq!(shown, expected);
}

#[test]
fn a_whiteout_removes_what_is_below() {
    check(
        &[&[("a", "dir"), ("a/x", "1"), ("b", "2")], &[("a/.wh.x", ""), (".wh.b", "")]],
        &["a: directory 0644 0:0"],
    );
}

#[test]
fn an_opaque_directory_keeps_what_its_own_layer_brings() {
    check(
        &[&[("a", "dir"), ("a/x", "1"), ("a/y", "1")], &[("a", "dir"), ("a/x", "2"), ("a/.wh..wh..opq", "")]],
        &["a: directory 0644 0:0", "a/x: file \"2\" 0644 0:0"],
    );
}

#[test]
fn a_file_over_a_directory_removes_its_children() {
    check(&[&[("a", "dir"), ("a/x", "1")], &[("a", "f")]], &["a: file \"f\" 0644 0:0"]);
}

#[test]
fn hard_links_are_one_file_until_one_is_replaced() {
    let below: &[(&str, &str)] = &[("a", "1"), ("b", "link a")];
    check(
        &[below],
        &["a: file \"1\" 0644 0:0 same file as [\"b\"]", "b: file \"1\" 0644 0:0 same file as [\"a\"]"],
    );
    check(&[below, &[("b", "2")]], &["a: file \"1\" 0644 0:0", "b: file \"2\" 0644 0:0"]);
}

#[test]
fn a_directory_on_disk_and_its_tar_give_the_same_tree() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    std::fs::write(directory.path().join("sub/file"), "content").unwrap();
    std::os::unix::fs::symlink("file", directory.path().join("sub/link")).unwrap();
    std::fs::hard_link(directory.path().join("sub/file"), directory.path().join("again")).unwrap();
    let tar =
        std::process::Command::new("tar").arg("-C").arg(directory.path()).args(["-c", "."]).output().unwrap();
    let from_disk = Tree::of_directory(directory.path()).unwrap();
    let from_tar = Tree::of_tar(&tar.stdout).unwrap();
    assert_eq!(from_disk.differences(&from_tar), []);
    assert_eq!(from_disk.nodes.len(), 5);
}

#[test]
fn every_kind_of_change_is_seen() {
    let base = Tree::of_tar(&layer(&[("d", "dir"), ("d/f", "1"), ("g", "1"), ("s", "sym g")])).unwrap();
    type Change = fn(&mut Entry);
    let changes: &[(&str, Change)] = &[
        ("d", |node| node.mode = 0o700),
        ("d/f", |node| node.kind = file(b"2")),
        ("g", |node| node.uid = 1),
        ("g", |node| node.gid = 1),
        ("g", |node| drop(node.xattrs.insert("user.a".into(), "b".into()))),
        ("g", |node| node.hard_links.push("h".into())),
        ("s", |node| node.kind = Kind::Symlink("h".into())),
        ("s", |node| node.kind = Kind::Fifo),
    ];
    for (path, change) in changes {
        let mut other = base.clone();
        change(other.nodes.get_mut(*path).unwrap());
        let differences = base.differences(&other);
        assert_eq!(
            differences.iter().map(|difference| difference.path.as_str()).collect::<Vec<_>>(),
            [*path]
        );
    }
    let mut other = base.clone();
    other.nodes.remove("g");
    assert_eq!(base.differences(&other).len(), 1);
}
