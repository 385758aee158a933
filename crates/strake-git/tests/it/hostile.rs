//! Repositories that were made to do harm, or were damaged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use strake_git::{CommitId, GitError, GitProgram, Repository, Selection};

use crate::fixture::{Fixture, Repo, missing, root};

/// A commit whose root tree has these bytes, which git itself would not write.
fn commit_of(repo: &Repo<'_>, tree: &[u8]) -> CommitId {
    let tree = repo.git_with_input(&["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], tree);
    CommitId::from_hex(&repo.git(&["commit-tree", "-m", "x", &tree])).unwrap()
}

fn entry(mode: &str, name: &[u8], id: &str) -> Vec<u8> {
    let id: Vec<u8> =
        (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect();
    [mode.as_bytes(), b" ", name, b"\0", &id].concat()
}

fn blob(repo: &Repo<'_>, content: &[u8]) -> String {
    repo.git_with_input(&["hash-object", "-w", "--stdin"], content)
}

fn files(repo: &Repo<'_>, commit: CommitId) -> Result<usize, GitError> {
    repo.open().files(commit, &root(), Selection::everything()).map(|files| files.len())
}

/// Where an object lies that is not packed.
fn loose(repo: &Repo<'_>, id: &str) -> std::path::PathBuf {
    repo.path.join(format!(".git/objects/{}/{}", &id[..2], &id[2..]))
}

#[test]
fn names_that_would_leave_the_tree_are_refused() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let content = blob(&repo, b"x");
    for name in [&b".."[..], b".", b".git", b".GIT", b"a/b", b"../x"] {
        let commit = commit_of(&repo, &entry("100644", name, &content));
        let error = files(&repo, commit).unwrap_err();
        assert!(matches!(error, GitError::Path { .. }), "{name:?}: {error}");
    }
    let twice = [entry("100644", b"a", &content), entry("100755", b"a", &content)].concat();
    assert!(matches!(files(&repo, commit_of(&repo, &twice)), Err(GitError::Corrupt { .. })));
    let subtree = repo.git_with_input(&["mktree"], format!("100644 blob {content}\tx").as_bytes());
    let both =
        [entry("100644", b"a", &content), entry("100644", b"a.b", &content), entry("40000", b"a", &subtree)];
    assert!(matches!(files(&repo, commit_of(&repo, &both.concat())), Err(GitError::Corrupt { .. })));
    let good = commit_of(&repo, &entry("100664", b"a\nb", &content));
    assert_eq!(files(&repo, good).unwrap(), 1);
}

#[test]
fn trees_that_name_each_other_cannot_keep_us_busy() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let content = blob(&repo, b"x");
    let mut tree = repo.git_with_input(&["mktree"], format!("100644 blob {content}\tx").as_bytes());
    for _ in 0..12 {
        let lines: String = (0..10).map(|name| format!("040000 tree {tree}\t{name}\n")).collect();
        tree = repo.git_with_input(&["mktree"], lines.as_bytes());
    }
    let commit = CommitId::from_hex(&repo.git(&["commit-tree", "-m", "x", &tree])).unwrap();
    // Somebody gives up after a while: the walk asks often enough.
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let git = fixture.program().cancelled_by(move || counter.fetch_add(1, Ordering::SeqCst) > 1000);
    let repository = Repository::open(&repo.path, &git).unwrap();
    let selection = Selection { selects: &|_| true, may_descend: &|_| true };
    assert!(matches!(repository.files(commit, &root(), selection), Err(GitError::Canceled)));
    let only_one_way = |path: &[u8]| path.iter().all(|byte| matches!(byte, b'0' | b'/'));
    let repository = repo.open();
    let selection = Selection { selects: &|_| true, may_descend: &only_one_way };
    assert_eq!(repository.files(commit, &root(), selection).unwrap().len(), 1);
}

#[test]
fn directories_may_be_deep_but_not_bottomless() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let content = blob(&repo, b"x");
    let nested = |depth: usize| {
        let mut stream =
            format!("commit refs/heads/main\ncommitter A <a@b> 1 +0000\ndata 0\nM 100644 {content} ");
        stream.push_str(&"d/".repeat(depth));
        stream.push_str("x\n");
        repo.git_with_input(
            &["-c", "core.maxTreeDepth=5000", "fast-import", "--quiet", "--force"],
            stream.as_bytes(),
        );
        repo.head()
    };
    assert_eq!(files(&repo, nested(2000)).unwrap(), 1);
    assert!(matches!(files(&repo, nested(2100)), Err(GitError::TooLarge { .. })));
}

#[test]
fn content_that_does_not_match_its_id_is_noticed() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("a", "good")
        .write("b", "evil")
        .write("large", vec![7; 9 << 20])
        .write("other", vec![8; 9 << 20]);
    let commit = repo.commit("one");
    let id = |name: &str| repo.git(&["rev-parse", &format!("HEAD:{name}")]);
    let swap = |one: &str, other: &str| {
        let target = loose(&repo, &id(one));
        std::fs::remove_file(&target).unwrap();
        std::fs::copy(loose(&repo, &id(other)), target).unwrap();
    };
    swap("a", "b");
    swap("large", "other");
    let repository = repo.open();
    let files = repository.files(commit, &root(), Selection::everything()).unwrap();
    for (index, file) in files.iter().enumerate() {
        let read = repository.read(file.version.blob, &mut std::io::sink());
        match index {
            0 | 2 => assert!(matches!(read, Err(GitError::Corrupt { .. })), "{read:?}"),
            _ => read.unwrap(),
        }
    }
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("a/b", "content\n".repeat(100)).write("c", "x");
    let one = repo.commit("one");
    repo.write("a/b", "content\n".repeat(99));
    let two = repo.commit("two");
    repo.git(&["gc", "-q"]);
    let git = fixture.program();
    let pack = std::fs::read_dir(repo.path.join(".git/objects/pack")).unwrap();
    let parts: Vec<_> = pack.map(|entry| entry.unwrap().path()).collect();
    for part in &parts {
        std::fs::set_permissions(part, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let good = std::fs::read(part).unwrap();
        for at in (0..good.len()).step_by(good.len() / 60 + 1) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            std::fs::write(part, &bad).unwrap();
            use_everything(&repo, &git, one, two);
            std::fs::write(part, &good[..at]).unwrap();
            use_everything(&repo, &git, one, two);
        }
        std::fs::write(part, &good).unwrap();
    }
    let good = use_everything(&repo, &git, one, two);
    assert_eq!(good, Some(1), "all is well again");
}

/// The number of changes, if all can be read; whatever is answered is right.
fn use_everything(repo: &Repo<'_>, git: &GitProgram, one: CommitId, two: CommitId) -> Option<usize> {
    let repository = Repository::open(&repo.path, git).ok()?;
    let _ = repository.head();
    let changes = repository.changes(one, two, &root(), Selection::everything()).ok();
    if let Some(changes) = &changes {
        assert_eq!(changes.len(), 1);
        for version in [changes[0].old, changes[0].new].into_iter().flatten() {
            let mut content = Vec::new();
            if repository.read(version.blob, &mut content).is_ok() {
                assert!(content.len() == 800 || content.len() == 792);
            }
        }
    }
    let _ = repository.is_ancestor(one, two);
    changes.map(|changes| changes.len())
}

#[test]
fn a_damaged_commit_graph_is_an_error_or_of_no_consequence() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let commits: Vec<_> = (0..4).map(|index| repo.commit(&index.to_string())).collect();
    repo.git(&["commit-graph", "write", "--reachable"]);
    let graph = repo.path.join(".git/objects/info/commit-graph");
    std::fs::set_permissions(&graph, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let good = std::fs::read(&graph).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x81;
        std::fs::write(&graph, &bad).unwrap();
        let repository = repo.open();
        let _ = repository.is_ancestor(commits[0], commits[3]);
        let _ = repository.is_ancestor(commits[3], commits[0]);
        std::fs::write(&graph, &good[..at]).unwrap();
        let _ = repo.open().is_ancestor(commits[0], commits[3]);
    }
}

/// Everything that git would start because a repository's configuration says so.
fn booby_trap(repo: &Repo<'_>, marker: &Path) {
    let script = format!("touch {}; false", marker.display());
    for key in
        ["core.fsmonitor", "core.sshCommand", "core.pager", "diff.external", "core.editor", "core.askPass"]
    {
        repo.git(&["config", key, &script]);
    }
    let hooks = repo.path.join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    for hook in
        ["post-index-change", "reference-transaction", "post-checkout", "pre-commit", "fsmonitor-watchman"]
    {
        std::fs::write(hooks.join(hook), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(hooks.join(hook), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
}

#[test]
fn nothing_a_repository_names_is_started() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("a", "1\n".repeat(10)).write("large", vec![1; 9 << 20]);
    let one = repo.commit("one");
    repo.write("a", "2\n".repeat(10));
    let two = repo.commit("two");
    repo.write("a", "3\n");
    let marker = fixture.path("marker");
    booby_trap(&repo, &marker);
    let repository = repo.open();
    repository.patch_size(one, two, &root(), Selection::everything()).unwrap();
    for file in repository.files(two, &root(), Selection::everything()).unwrap() {
        repository.read(file.version.blob, &mut std::io::sink()).unwrap();
    }
    repository.commit_worktree(&fixture.path("objects"), None).unwrap();
    assert!(!marker.exists());
    assert!(!repo.git_succeeds(&["diff", "--exit-code"]) && marker.exists(), "the trap works");
}

#[test]
fn formats_that_are_not_understood_are_named() {
    let fixture = Fixture::new();
    let repo = fixture.init_with("r", &["--ref-format=reftable"]);
    let error = Repository::open(&repo.path, &fixture.program()).unwrap_err();
    assert!(error.to_string().contains("git refs migrate --ref-format=files"), "{error}");
    let other = fixture.init("o");
    std::fs::write(other.path.join(".git/config"), "[extensions]\nobjectFormat = md5\n").unwrap();
    let error = Repository::open(&other.path, &fixture.program()).unwrap_err();
    assert!(matches!(error, GitError::Unsupported { .. }), "{error}");
    for broken in ["[core", "\u{0}", "[a]\nb = \"c", "[remote \"origin\"]\nurl = \\q\n"] {
        std::fs::write(other.path.join(".git/config"), broken).unwrap();
        let _ = Repository::open(&other.path, &fixture.program()).map(|repository| repository.origin_url());
    }
}

#[test]
fn a_repository_of_somebody_else_is_opened_only_if_git_trusts_it() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.commit("one");
    if !rustix::process::geteuid().is_root() {
        missing("root, who alone can give a directory away");
        return;
    }
    give_away(&repo.path);
    let error = Repository::open(&repo.path, &fixture.program()).unwrap_err();
    assert!(matches!(error, GitError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("git config --global --add safe.directory"), "{error}");
    let path = repo.path.canonicalize().unwrap();
    let config = format!("[safe]\n\tdirectory = {}\n", path.display());
    std::fs::write(fixture.path("home/.gitconfig"), config).unwrap();
    assert!(Repository::open(&repo.path, &fixture.program()).unwrap().head().unwrap().is_some());
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(12345), Some(12345)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
}
