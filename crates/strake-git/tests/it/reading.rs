//! Repositories, names, files and changes.

use std::collections::BTreeMap;

use strake_git::{
    Change, DependencyPattern, FileEntry, FileMode, GitError, Memo, Repository, Revision, Selection, State,
};

use crate::fixture::{Fixture, Repo, add, root, url_of};

/// `ls-tree` of everything, as our files print.
fn listed(repo: &Repo<'_>, commit: &str) -> Vec<String> {
    let listing = repo.git_bytes(&["ls-tree", "-r", "-z", "--full-tree", commit]);
    let lines = listing.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines.map(|line| String::from_utf8_lossy(line).replace(" blob ", " ")).collect()
}

fn printed(files: &[FileEntry]) -> Vec<String> {
    let print = |file: &FileEntry| {
        let path = String::from_utf8_lossy(&file.path);
        format!("{} {}\t{path}", file.version.mode.octal(), file.version.blob)
    };
    files.iter().map(print).collect()
}

fn name_status(repo: &Repo<'_>, from: &str, to: &str) -> BTreeMap<Vec<u8>, char> {
    let output = repo.git_bytes(&["diff", "--name-status", "--no-renames", "-z", from, to]);
    let words: Vec<&[u8]> = output.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    words.chunks(2).map(|pair| (pair[1].to_vec(), char::from(pair[0][0]))).collect()
}

/// The letter git prints for a change.
pub(crate) fn letter(change: &Change) -> char {
    let is_link = |mode: FileMode| mode == FileMode::Symlink;
    match (change.old, change.new) {
        (None, _) => 'A',
        (_, None) => 'D',
        (Some(old), Some(new)) if is_link(old.mode) != is_link(new.mode) => 'T',
        _ => 'M',
    }
}

fn letters(changes: &[Change]) -> BTreeMap<Vec<u8>, char> {
    changes.iter().map(|change| (change.path.clone(), letter(change))).collect()
}

fn content(repository: &Repository, file: &FileEntry) -> Vec<u8> {
    let mut content = Vec::new();
    repository.read(file.version.blob, &mut content).unwrap();
    assert_eq!(repository.size(file.version.blob).unwrap(), content.len() as u64);
    content
}

fn varied(repo: &Repo<'_>) {
    repo.write("README", "hello\n").write("app/run", "#!/bin/sh\n").executable("app/run");
    repo.write("app.b", "1").write("app/a/b/c", "2").link("app/link", "../README").write("app-x/y", "3");
    repo.write_bytes(b"odd/new\nline", b"4").write_bytes(b"odd/\xff\xfe", b"5").write("odd/.gitignore", "x");
}

#[test]
fn files_are_those_git_lists_and_sorted() {
    for options in [&[][..], &["--object-format=sha256"]] {
        let fixture = Fixture::new();
        let repo = fixture.init_with("r", options);
        varied(&repo);
        let commit = repo.commit("one");
        let repository = repo.open();
        assert_eq!(repository.head().unwrap(), Some(commit));
        let files = repository.files(commit, &root(), Selection::everything()).unwrap();
        assert_eq!(printed(&files), listed(&repo, "HEAD"));
        assert!(files.windows(2).all(|pair| pair[0].path < pair[1].path));
        let link = files.iter().find(|file| file.path == b"app/link").unwrap();
        assert_eq!(content(&repository, link), b"../README");
        repo.git(&["gc", "-q"]);
        assert_eq!(repo.open().files(commit, &root(), Selection::everything()).unwrap(), files, "packed");
    }
}

#[test]
fn steps_may_share_a_repository() {
    fn shared<T: Send + Sync>(_: &T) {}
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("a", "1");
    let commit = repo.commit("one");
    let repository = repo.open();
    shared(&repository);
    std::thread::scope(|scope| {
        let read = || repository.files(commit, &root(), Selection::everything()).unwrap().len();
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        workers.into_iter().for_each(|worker| assert_eq!(worker.join().unwrap(), 1));
    });
}

#[test]
fn add_is_a_directory_a_file_or_nothing() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    varied(&repo);
    let commit = repo.commit("one");
    let repository = repo.open();
    let state = |path: &str| repository.state(commit, &add(path)).unwrap();
    assert_eq!(state("/"), State::Directory);
    assert_eq!(state("/app/a"), State::Directory);
    assert_eq!(state("/app/link"), State::File);
    assert_eq!(state("/app/run/x"), State::Absent);
    assert_eq!(state("/nothing"), State::Absent);
    let names = |path: &str| {
        let files = repository.files(commit, &add(path), Selection::everything()).unwrap();
        files.into_iter().map(|file| String::from_utf8(file.path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("/app"), ["a/b/c", "link", "run"]);
    assert_eq!(names("/app/a/b/c"), ["c"]);
    assert!(names("/nothing").is_empty());
}

#[test]
fn a_selection_is_asked_about_paths_relative_to_add_and_prunes() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("app/a/1", "").write("app/b/2", "").write("app/3", "");
    let commit = repo.commit("one");
    let selects = |path: &[u8]| path != b"3";
    let may_descend = |path: &[u8]| {
        assert!(path == b"a" || path == b"b", "asked about {path:?}");
        path == b"b"
    };
    let selection = Selection { selects: &selects, may_descend: &may_descend };
    let files = repo.open().files(commit, &add("/app"), selection).unwrap();
    assert_eq!(files.iter().map(|file| &file.path[..]).collect::<Vec<_>>(), [b"b/2"]);
}

#[test]
fn changes_are_those_git_names() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    varied(&repo);
    repo.write("becomes-link", "x")
        .write("becomes-dir", "x")
        .write("dir-becomes/file", "x")
        .write("moves", "y");
    let one = repo.commit("one");
    repo.remove("becomes-link").link("becomes-link", "x").remove("becomes-dir").write("becomes-dir/x", "x");
    repo.remove("dir-becomes")
        .write("dir-becomes", "z")
        .remove("moves")
        .write("moved", "y")
        .executable("README");
    repo.write("app/run", "changed").write_bytes(b"odd/new\nline", b"changed");
    let two = repo.commit("two");
    let repository = repo.open();
    for (from, to) in [(one, two), (two, one)] {
        let changes = repository.changes(from, to, &root(), Selection::everything()).unwrap();
        assert_eq!(letters(&changes), name_status(&repo, &from.to_string(), &to.to_string()));
        assert!(changes.windows(2).all(|pair| pair[0].path < pair[1].path));
        assert!(repository.differs(from, to, &root(), Selection::everything()).unwrap());
    }
    assert!(!repository.differs(one, two, &add("/app/a"), Selection::everything()).unwrap());
    assert!(repository.changes(one, one, &root(), Selection::everything()).unwrap().is_empty());
    let odd = |path: &[u8]| path.starts_with(b"app-x");
    let selection = Selection { selects: &odd, may_descend: &|_| true };
    assert!(!repository.differs(one, two, &root(), selection).unwrap());
    let file = repository.changes(one, two, &add("/app/run"), Selection::everything()).unwrap();
    assert_eq!(letters(&file), BTreeMap::from([(b"run".to_vec(), 'M')]));
    let turned = repository.changes(one, two, &add("/becomes-dir"), Selection::everything()).unwrap();
    assert_eq!(letters(&turned), BTreeMap::from([(b"becomes-dir".to_vec(), 'D'), (b"x".to_vec(), 'A')]));
}

#[test]
fn equal_directories_are_not_read() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("same/file", "1").write("other", "1");
    let one = repo.commit("one");
    repo.write("other", "2");
    let two = repo.commit("two");
    let tree = repo.git(&["rev-parse", "HEAD:same"]);
    std::fs::remove_file(repo.path.join(format!(".git/objects/{}/{}", &tree[..2], &tree[2..]))).unwrap();
    let repository = repo.open();
    assert_eq!(repository.changes(one, two, &root(), Selection::everything()).unwrap().len(), 1);
    let error = repository.files(one, &root(), Selection::everything()).unwrap_err();
    assert!(matches!(&error, GitError::Missing { kind: "tree", .. }), "{error}");
    assert!(error.to_string().contains("git fetch --unshallow"), "{error}");
}

#[test]
fn a_partial_clone_is_not_completed_behind_the_users_back() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("a", "1").write("large", vec![1; 9 << 20]);
    let commit = repo.commit("one");
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = url_of(&repo.path);
    fixture.repo("").git(&["clone", "-q", "--filter=blob:none", "--no-checkout", &url, "partial"]);
    let partial = fixture.open("partial");
    let files = partial.files(commit, &root(), Selection::everything()).unwrap();
    assert_eq!(files.len(), 2, "trees are there");
    for file in &files {
        let error = partial.read(file.version.blob, &mut std::io::sink()).unwrap_err();
        assert!(matches!(&error, GitError::Missing { kind: "blob", .. }), "{error}");
        assert!(matches!(partial.size(file.version.blob), Err(GitError::Missing { .. })));
    }
    fixture.repo("partial").git(&["fetch", "-q", "--refetch", "--no-filter"]);
    for file in &files {
        fixture.open("partial").read(file.version.blob, &mut std::io::sink()).unwrap();
    }
}

#[test]
fn names_lead_to_commits() {
    let fixture = Fixture::new();
    let origin = fixture.init("origin");
    let one = origin.commit("one");
    origin.git(&["tag", "-a", "-m", "t", "annotated"]);
    origin.git(&["tag", "-a", "-m", "t", "nested", "annotated"]);
    origin.git(&["tag", "light"]);
    origin.git(&["branch", "feature/x"]);
    let two = origin.commit("two");
    fixture.repo("").git(&["clone", "-q", "origin", "clone"]);
    let clone = fixture.open("clone");
    let check = |revision: Revision, expected| {
        assert_eq!(clone.resolve(&revision).unwrap(), expected, "{revision:?}")
    };
    check(Revision::Tag("annotated".into()), one);
    check(Revision::Tag("nested".into()), one);
    check(Revision::Tag("light".into()), one);
    check(Revision::Branch("feature/x".into()), one);
    check(Revision::Branch("main".into()), two);
    check(Revision::RemoteHead, two);
    check(Revision::Commit(one), one);
    assert_eq!(clone.origin_url().as_deref(), Some(fixture.path("origin").to_str().unwrap()));
    fixture.repo("clone").git(&["pack-refs", "--all"]);
    assert_eq!(fixture.open("clone").resolve(&Revision::Tag("nested".into())).unwrap(), one);
    for name in ["", "nothing", "../../heads/main", "a b", "x.lock", "-x", "a\nb", "heads"] {
        assert!(clone.resolve(&Revision::Tag(name.into())).is_err(), "{name:?}");
    }
    let tree = origin.git(&["rev-parse", "HEAD^{tree}"]);
    let tree = strake_git::CommitId::from_hex(&tree).unwrap();
    assert!(!clone.exists(tree), "a tree is no commit");
    assert!(clone.exists(one));
}

#[test]
fn a_repository_is_found_from_below_from_linked_work_trees_and_bare() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    assert_eq!(repo.open().head().unwrap(), None, "no commit yet");
    repo.write("a/b/c", "1");
    let one = repo.commit("one");
    assert_eq!(fixture.open("r/a/b").head().unwrap(), Some(one));
    repo.git(&["worktree", "add", "-q", "-b", "side", "../linked"]);
    repo.write("x", "2");
    let two = repo.commit("two");
    let linked = fixture.open("linked/a");
    assert_eq!(linked.head().unwrap(), Some(one));
    assert_eq!(linked.worktree(), Some(&*fixture.path("linked").canonicalize().unwrap()));
    assert!(linked.exists(two));
    fixture.repo("").git(&["clone", "-q", "--bare", "r", "bare.git"]);
    let bare = fixture.open("bare.git");
    assert_eq!((bare.head().unwrap(), bare.worktree()), (Some(two), None));
    let none = Repository::open(&fixture.path("home"), &fixture.program());
    assert!(matches!(none, Err(GitError::NotARepository { .. })));
    assert!(Repository::open(&fixture.path("nothing"), &fixture.program()).is_err());
}

#[test]
fn commits_say_when_they_were_made() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.set_clock(1_600_000_000);
    let commit = repo.commit("one");
    assert_eq!(repo.open().commit_time(commit).unwrap(), 1_600_000_001);
}

#[test]
fn large_blobs_are_streamed_and_checked() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let large: Vec<u8> =
        (0..9_000_000u32).flat_map(|number| (number % 251).to_le_bytes()).take(9 << 20).collect();
    repo.write("large", &large);
    let commit = repo.commit("one");
    for packed in [false, true] {
        if packed {
            repo.git(&["gc", "-q"]);
        }
        let repository = repo.open();
        let files = repository.files(commit, &root(), Selection::everything()).unwrap();
        assert!(content(&repository, &files[0]) == large);
    }
    fixture.assert_scratch_is_empty();
}

#[test]
fn the_dependency_checksum_is_that_of_paths_modes_and_contents() {
    use sha2::{Digest, Sha256};
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("web/package.json", "{}").write("web/src/x.js", "x").executable("web/src/x.js");
    repo.link("web/link", "src").write("other", "1");
    let one = repo.commit("one");
    let repository = repo.open();
    let any = |path: &[u8]| path != b"nothing";
    let all =
        DependencyPattern { text: "**/*", matches: Selection { selects: &any, may_descend: &|_| true } };
    let nothing = |path: &[u8]| path == b"nothing";
    let none = DependencyPattern {
        text: "nothing",
        matches: Selection { selects: &nothing, may_descend: &|_| true },
    };
    let computed = |commit, path: &str, patterns: &[DependencyPattern<'_>]| {
        let everything = ("", Selection::everything());
        repository.dependency_checksum(commit, &add(path), patterns, everything, Memo::none()).unwrap()
    };
    let expected = "web/link120000srcweb/package.json100644{}web/src/x.js100755x";
    let expected: String = Sha256::digest(expected).iter().map(|byte| format!("{byte:02x}")).collect();
    let result = computed(one, "/web", &[all, none]).unwrap();
    assert_eq!((result.checksum, result.unmatched), (expected, vec![1]));
    let empty = computed(one, "/web", &[none]).unwrap();
    assert_eq!(empty.checksum, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(computed(one, "/web", &[]), None);
    let file = computed(one, "/web/src/x.js", &[all]).unwrap();
    let expected: String =
        Sha256::digest("web/src/x.js100755x").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(file.checksum, expected);
    repo.write("other", "2");
    let two = repo.commit("two");
    assert_eq!(computed(one, "/web", &[all]), computed(two, "/web", &[all]), "another file");
    std::fs::set_permissions(
        repo.path.join("web/src/x.js"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let three = repo.commit("three");
    assert_ne!(computed(two, "/web", &[all]), computed(three, "/web", &[all]), "another mode");
}

#[test]
fn a_dependency_checksum_is_computed_once_for_a_tree() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("web/a", "1").write("copy/a", "1");
    let one = repo.commit("one");
    repo.write("other", "1");
    let two = repo.commit("two");
    let repository = repo.open();
    let memory = std::cell::RefCell::new(BTreeMap::<String, Vec<u8>>::new());
    let memo = Memo {
        get: &|key| memory.borrow().get(key).cloned(),
        put: &|key, value| drop(memory.borrow_mut().insert(key.to_owned(), value.to_vec())),
    };
    let asked = std::cell::Cell::new(0);
    let selects = |_: &[u8]| {
        asked.set(asked.get() + 1);
        true
    };
    let pattern =
        |text| DependencyPattern { text, matches: Selection { selects: &selects, may_descend: &|_| true } };
    let compute = |commit, path: &str, text, filter| {
        let filter = (filter, Selection::everything());
        repository.dependency_checksum(commit, &add(path), &[pattern(text)], filter, memo).unwrap()
    };
    let first = compute(one, "/web", "*", "");
    let after_first = asked.get();
    assert_eq!(compute(two, "/web", "*", ""), first);
    assert_eq!(asked.get(), after_first, "the tree is the same");
    compute(two, "/web", "a", "");
    compute(two, "/web", "*", "x");
    compute(two, "/", "*", "");
    assert_ne!(compute(two, "/copy", "*", ""), first, "paths count from the root");
    assert_eq!(memory.borrow().len(), 5, "each parameter is part of the key");
    for value in memory.borrow_mut().values_mut() {
        value.truncate(10);
    }
    assert_eq!(compute(two, "/web", "*", ""), first, "damage is noticed");
}

#[test]
fn the_branch_that_is_checked_out_has_a_name() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.git(&["checkout", "-q", "-b", "fix/leak"]);
    assert_eq!(repo.open().branch().unwrap().as_deref(), Some("fix/leak"), "before the first commit");
    repo.write("a", "1").commit("first");
    assert_eq!(repo.open().branch().unwrap().as_deref(), Some("fix/leak"));
    repo.git(&["worktree", "add", "-q", "-b", "other", "../linked"]);
    assert_eq!(fixture.open("linked").branch().unwrap().as_deref(), Some("other"));
    repo.git(&["checkout", "-q", "--detach"]);
    assert_eq!(repo.open().branch().unwrap(), None);
}
