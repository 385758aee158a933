//! The developer mode.

use std::collections::BTreeMap;

use strake_git::{Ancestry, GitError, Selection};

use crate::fixture::{Fixture, root};
use crate::reading::letter;

#[test]
fn the_work_tree_becomes_a_commit_and_the_repository_stays_as_it_is() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("kept", "1").write("changed", "1").write("removed", "1").write(".gitignore", "ignored\n");
    let head = repo.commit("one");
    repo.write("changed", "2")
        .remove("removed")
        .write("new/file", "3")
        .write("ignored", "4")
        .executable("kept");
    repo.write("staged", "5").git(&["add", "staged"]);
    let before = (repo.git(&["status", "--porcelain"]), repo.git(&["count-objects"]), index(&repo.path));
    let objects = fixture.path("objects");
    let repository = repo.open();
    let commit = repository.commit_worktree(&objects, None).unwrap();
    assert_eq!(
        (repo.git(&["status", "--porcelain"]), repo.git(&["count-objects"]), index(&repo.path)),
        before
    );
    fixture.assert_scratch_is_empty();

    let changes = repository.changes(head, commit, &root(), Selection::everything()).unwrap();
    let letters: BTreeMap<_, _> = changes
        .iter()
        .map(|change| (String::from_utf8_lossy(&change.path).into_owned(), letter(change)))
        .collect();
    let expected = [("changed", 'M'), ("kept", 'M'), ("new/file", 'A'), ("removed", 'D'), ("staged", 'A')];
    assert_eq!(letters, expected.map(|(path, letter)| (path.to_owned(), letter)).into());
    let mut content = Vec::new();
    repository.read(changes[0].new.unwrap().blob, &mut content).unwrap();
    assert_eq!(content, b"2");
    assert_eq!(repository.is_ancestor(head, commit).unwrap(), Ancestry::Ancestor);
    assert!(repository.patch_size(head, commit, &root(), Selection::everything()).unwrap() > 0);

    assert_eq!(repo.open().commit_worktree(&objects, None).unwrap(), commit, "equal files, equal commit");
    let later = repo.open();
    assert!(!later.exists(commit));
    later.borrow_objects(&objects).unwrap();
    assert!(later.exists(commit));
}

fn index(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path.join(".git/index")).unwrap()
}

#[test]
fn a_linked_work_tree_and_one_without_commits_become_commits_too() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("a", "1");
    let names = |repository: &strake_git::Repository, name: &str| {
        let commit = repository.commit_worktree(&fixture.path(name), None).unwrap();
        let files = repository.files(commit, &root(), Selection::everything()).unwrap();
        files.into_iter().map(|file| String::from_utf8(file.path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(&repo.open(), "first"), ["a"]);
    repo.commit("one");
    repo.git(&["worktree", "add", "-q", "-b", "side", "../linked"]);
    fixture.repo("linked").write("b/c", "2");
    assert_eq!(names(&fixture.open("linked/b"), "second"), ["a", "b/c"]);
}

#[test]
fn strange_places_and_another_configured_work_tree_do_no_harm() {
    let fixture = Fixture::new();
    let repo = fixture.init("r:\"odd\nplace\\");
    repo.write("a", "1");
    let head = repo.commit("one");
    repo.git(&["config", "core.worktree", fixture.path("home").to_str().unwrap()]);
    repo.write("b", "2");
    let repository = repo.open();
    let commit = repository.commit_worktree(&fixture.path("objects"), None).unwrap();
    let changes = repository.changes(head, commit, &root(), Selection::everything()).unwrap();
    assert_eq!(changes.iter().map(|change| &change.path[..]).collect::<Vec<_>>(), [b"b"]);
    assert!(repository.patch_size(head, commit, &root(), Selection::everything()).unwrap() > 0);
}

#[test]
fn a_bare_repository_has_no_work_tree() {
    let fixture = Fixture::new();
    fixture.init_with("r", &["--bare"]);
    let error = fixture.open("r").commit_worktree(&fixture.path("objects"), None).unwrap_err();
    assert!(matches!(error, GitError::NotARepository { .. }), "{error}");
}

#[test]
fn a_file_that_is_left_out_counts_as_it_was_added() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("sub/a", "1").write("sub/[n]*w", "2").write("sub/n", "3");
    let new = repo.path.join("sub/[n]*w");
    let repository = repo.open();
    let names = |name: &str| {
        let commit = repository.commit_worktree(&fixture.path(name), Some(&new)).unwrap();
        let files = repository.files(commit, &root(), Selection::everything()).unwrap();
        files.into_iter().map(|file| String::from_utf8(file.path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("first"), ["sub/a", "sub/n"]);
    repo.git(&["add", "sub"]);
    assert_eq!(names("second"), ["sub/[n]*w", "sub/a", "sub/n"]);
}
