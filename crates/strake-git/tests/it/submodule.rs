//! Submodules, from the work tree's clones and from private ones.

use std::fs;

use strake_git::{Change, CommitId, GitError, Repository, Selection, State, SubmoduleClones};

use crate::fixture::{Fixture, Repo, add, root};

/// `outer` has `lib/inner`, which has `deepest`, all with relative URLs.
fn nested(fixture: &Fixture) -> (Repo<'_>, CommitId, CommitId) {
    let deepest = fixture.init("deepest");
    deepest.write("d", "1");
    deepest.commit("one");
    let inner = fixture.init("inner");
    inner.git(&["remote", "add", "origin", inner.path.to_str().unwrap()]);
    inner.write("i", "1").git(&["submodule", "--quiet", "add", "../deepest", "deepest"]);
    inner.commit("one");
    let outer = fixture.init("outer");
    outer.git(&["remote", "add", "origin", outer.path.to_str().unwrap()]);
    outer.write("lib.a", "1").write("o", "1").git(&[
        "submodule",
        "--quiet",
        "add",
        "--name",
        "x/y",
        "../inner",
        "lib/inner",
    ]);
    let one = outer.commit("one");
    inner.write("i", "2").write("new", "3");
    inner.commit("two");
    outer.below("lib/inner").git(&["pull", "-q", "origin", "main"]);
    let two = outer.commit("two");
    (outer, one, two)
}

fn with_submodules(fixture: &Fixture, name: &str) -> Repository {
    fixture.open(name).with_submodules(SubmoduleClones::fetched(fixture.path("clones"), Fixture::ssh()))
}

fn paths(repository: &Repository, commit: CommitId, path: &str) -> Vec<String> {
    let files = repository.files(commit, &add(path), Selection::everything()).unwrap();
    for file in &files {
        repository.read(file.version.blob, &mut std::io::sink()).unwrap();
    }
    files.into_iter().map(|file| String::from_utf8(file.path).unwrap()).collect()
}

fn check_all(repository: &Repository, one: CommitId, two: CommitId) {
    let inner = ["lib/inner/.gitmodules", "lib/inner/deepest/d", "lib/inner/i"];
    let expected = [&[".gitmodules", "lib.a"][..], &inner, &["o"]].concat();
    assert_eq!(paths(repository, one, "/"), expected);
    assert_eq!(paths(repository, two, "/lib/inner"), [".gitmodules", "deepest/d", "i", "new"]);
    assert_eq!(paths(repository, two, "/lib/inner/deepest"), ["d"]);
    assert_eq!(repository.state(two, &add("/lib/inner/i")).unwrap(), State::File);
    assert_eq!(repository.state(two, &add("/lib/inner")).unwrap(), State::Directory);
    let changes = repository.changes(one, two, &root(), Selection::everything()).unwrap();
    let changed = |change: &Change| String::from_utf8(change.path.clone()).unwrap();
    assert_eq!(changes.iter().map(changed).collect::<Vec<_>>(), ["lib/inner/i", "lib/inner/new"]);
    assert!(!repository.differs(one, two, &add("/lib/inner/deepest"), Selection::everything()).unwrap());
    assert!(repository.patch_size(one, two, &root(), Selection::everything()).unwrap() > 100);
}

#[test]
fn submodules_are_read_at_the_commits_bound_in_the_tree() {
    let fixture = Fixture::new();
    let (outer, one, two) = nested(&fixture);
    check_all(&with_submodules(&fixture, "outer"), one, two);
    assert!(fixture.path("clones").exists(), "the innermost one was never checked out");
    // A clone whose submodules nobody checked out.
    fixture.repo("").git(&["clone", "-q", outer.path.to_str().unwrap(), "bare-bones"]);
    check_all(&with_submodules(&fixture, "bare-bones"), one, two);
    assert!(!fixture.path("bare-bones/.git/modules").exists(), "its own clones are not ours to make");
    // And now everything is here.
    for name in ["inner", "deepest"] {
        fs::rename(fixture.path(name), fixture.path(&format!("{name}-moved"))).unwrap();
    }
    check_all(&with_submodules(&fixture, "bare-bones"), one, two);
}

#[test]
fn what_was_never_fetched_is_told_and_not_fetched() {
    let fixture = Fixture::new();
    let (outer, one, two) = nested(&fixture);
    fixture.repo("").git(&["clone", "-q", outer.path.to_str().unwrap(), "bare-bones"]);
    let clones = SubmoduleClones::already_fetched(fixture.path("clones"));
    let offline = || fixture.open("bare-bones").with_submodules(clones.clone());
    let error = offline().files(one, &root(), Selection::everything()).unwrap_err();
    assert!(matches!(error, GitError::Submodule { .. }), "{error}");
    assert!(error.to_string().ends_with("/inner was never fetched"), "{error}");
    assert!(!fixture.path("clones").exists());
    check_all(&with_submodules(&fixture, "bare-bones"), one, two);
    check_all(&offline(), one, two);
}

#[test]
fn without_being_asked_to_submodules_are_not_read() {
    let fixture = Fixture::new();
    let (outer, one, two) = nested(&fixture);
    let repository = outer.open();
    let error = repository.files(one, &root(), Selection::everything()).unwrap_err();
    assert!(matches!(error, GitError::Submodule { .. }), "{error}");
    assert!(error.to_string().contains("lib/inner"), "{error}");
    let elsewhere = |path: &[u8]| path != b"lib/inner";
    let selection = Selection { selects: &elsewhere, may_descend: &elsewhere };
    assert_eq!(repository.files(one, &root(), selection).unwrap().len(), 3);
    assert!(!repository.differs(one, two, &root(), selection).unwrap());
}

#[test]
fn a_submodule_that_means_harm_is_refused() {
    let fixture = Fixture::new();
    let secret = fixture.init("secret");
    let commit = secret.commit("one");
    let declared = |number: usize, text: &str| {
        let repo = fixture.init(&format!("r{number}"));
        repo.git(&["remote", "add", "origin", "https://example.invalid/a/b.git"]);
        repo.write(".gitmodules", text);
        let entry = format!("160000,{commit},sub");
        repo.git(&["add", "-A"]);
        repo.git(&["update-index", "--add", "--cacheinfo", &entry]);
        repo.git(&["commit", "-q", "-m", "x"]);
        let repository = with_submodules(&fixture, &format!("r{number}"));
        repository.files(repo.head(), &root(), Selection::everything()).unwrap_err().to_string()
    };
    let section = |name: &str, url: &str| format!("[submodule \"{name}\"]\n\tpath = sub\n\turl = {url}\n");
    let cases = [
        (section("sub", secret.path.to_str().unwrap()), "files of this machine"),
        (section("sub", &format!("file://{}", secret.path.display())), "files of this machine"),
        (section("sub", "ext::sh -c true"), "not allowed"),
        (section("sub", "--upload-pack=x"), "begins with -"),
        (section("sub", "../../../../x"), "leads out"),
        (section("../../secret", "../x"), "name"),
        (section("a/../b", "../x"), "name"),
        ("[submodule \"other\"]\n\tpath = other\n\turl = ../x\n".to_owned(), "not in .gitmodules"),
        ("[submodule \"sub\"]\n\tpath = sub\n".to_owned(), "no url"),
        ("[submodule".to_owned(), "read .gitmodules"),
    ];
    for (number, (text, expected)) in cases.iter().enumerate() {
        let error = declared(number, text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains("read the submodule sub"), "{error}");
    }
    assert!(!fixture.path("clones").exists());
}
