//! Ancestry and resets, also with misleading dates, commit-graphs and shallow clones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use strake_git::{Ancestry, CommitId, Memo, References, Repository};

use crate::fixture::{Fixture, Repo, url_of};

/// Every pair, compared with git.
fn compare_all(repo: &Repo<'_>, repository: &Repository, commits: &[CommitId]) {
    for old in commits {
        for new in commits {
            let expected =
                repo.git_succeeds(&["merge-base", "--is-ancestor", &old.to_string(), &new.to_string()]);
            let found = repository.is_ancestor(*old, *new).unwrap();
            assert_eq!(found.is_ancestor(), expected, "{old} {new}");
            assert_ne!(found, Ancestry::CutOff);
        }
    }
}

/// A history with a merge, a side branch and an unrelated root.
fn branched(repo: &Repo<'_>) -> Vec<CommitId> {
    let mut commits = vec![repo.commit("1"), repo.commit("2")];
    repo.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    commits.push(repo.commit("side 1"));
    commits.push(repo.commit("side 2"));
    repo.git(&["checkout", "-q", "main"]);
    commits.push(repo.commit("3"));
    commits.push(repo.merge("side"));
    repo.git(&["checkout", "-q", "side"]);
    commits.push(repo.commit("side 3"));
    repo.git(&["checkout", "-q", "--orphan", "unrelated"]);
    commits.push(repo.commit("root"));
    repo.git(&["checkout", "-q", "main"]);
    commits.push(repo.commit("4"));
    commits
}

#[test]
fn ancestry_is_what_git_says() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let commits = branched(&repo);
    compare_all(&repo, &repo.open(), &commits);
    repo.git(&["commit-graph", "write", "--reachable"]);
    compare_all(&repo, &repo.open(), &commits);
    let later = repo.commit("not in the graph");
    compare_all(&repo, &repo.open(), &[&commits[..], &[later]].concat());
}

#[test]
fn dates_that_go_backwards_change_no_answer() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let mut commits = Vec::new();
    for (index, time) in [900, 100, 800, 200, 700, 300].into_iter().enumerate() {
        repo.set_clock(1_000_000_000 + time);
        commits.push(repo.commit(&index.to_string()));
        if index == 2 {
            repo.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
            repo.set_clock(1_900_000_000);
            commits.push(repo.commit("side"));
            repo.git(&["checkout", "-q", "main"]);
        }
    }
    repo.set_clock(1_000_000_000);
    commits.push(repo.merge("side"));
    compare_all(&repo, &repo.open(), &commits);
}

#[test]
fn a_commit_that_is_gone_is_no_ancestor() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let commit = repo.commit("1");
    let gone = CommitId::from_hex(&"12".repeat(20)).unwrap();
    let repository = repo.open();
    assert!(!repository.exists(gone));
    assert_eq!(repository.is_ancestor(gone, commit).unwrap(), Ancestry::NotAncestor);
    assert!(repository.is_ancestor(commit, gone).is_err());
    let sha256 = CommitId::from_hex(&"12".repeat(32)).unwrap();
    assert!(!repository.exists(sha256));
    assert_eq!(repository.is_ancestor(sha256, commit).unwrap(), Ancestry::NotAncestor);
}

#[test]
fn a_shallow_clone_says_where_its_knowledge_ends() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    for index in 0..5 {
        repo.commit(&index.to_string());
    }
    fixture.repo("").git(&["clone", "-q", "--depth=2", &url_of(&repo.path), "shallow"]);
    let shallow = fixture.open("shallow");
    let head = shallow.head().unwrap().unwrap();
    let parent = CommitId::from_hex(&repo.git(&["rev-parse", "HEAD~1"])).unwrap();
    let beyond = CommitId::from_hex(&repo.git(&["rev-parse", "HEAD~3"])).unwrap();
    assert_eq!(shallow.is_ancestor(parent, head).unwrap(), Ancestry::Ancestor);
    assert_eq!(shallow.is_ancestor(beyond, head).unwrap(), Ancestry::NotAncestor, "it does not exist here");
    fixture.repo("shallow").git(&["fetch", "-q", "--depth=1", "origin", &beyond.to_string()]);
    assert_eq!(fixture.open("shallow").is_ancestor(beyond, head).unwrap(), Ancestry::CutOff);
    let reset = fixture.open("shallow").reset_commit(head, Memo::none()).unwrap();
    assert_eq!((reset.commit, reset.is_cut), (None, true));
}

/// Remembers, and counts nothing.
#[derive(Default)]
struct Memory(RefCell<BTreeMap<String, Vec<u8>>>);

impl Memory {
    fn ask(&self, repository: &Repository, head: CommitId) -> Option<CommitId> {
        let get = |key: &str| self.0.borrow().get(key).cloned();
        let put = |key: &str, value: &[u8]| drop(self.0.borrow_mut().insert(key.to_owned(), value.to_vec()));
        let warm = repository.reset_commit(head, Memo { get: &get, put: &put }).unwrap();
        let cold = repository.reset_commit(head, Memo::none()).unwrap();
        assert_eq!(warm, cold, "the memo changes the answer for {head}");
        warm.commit
    }
}

#[test]
fn the_nearest_reset_is_found_breadth_first() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let memory = Memory::default();
    let first = repo.commit("1");
    assert_eq!(memory.ask(&repo.open(), first), None);
    let old = repo.commit("all\n\nplease [dapp reset]");
    assert_eq!(memory.ask(&repo.open(), old), Some(old));
    let base = repo.commit("2");
    assert_eq!(memory.ask(&repo.open(), base), Some(old));
    repo.git(&["checkout", "-q", "-b", "side", &first.to_string()]);
    repo.commit("side 1");
    let side_reset = repo.commit("[reset strake]");
    assert_eq!(memory.ask(&repo.open(), side_reset), Some(side_reset));
    assert_eq!(memory.ask(&repo.open(), first), None, "back before all of them");
    assert_eq!(memory.ask(&repo.open(), side_reset), Some(side_reset));
    repo.git(&["checkout", "-q", "main"]);
    assert_eq!(memory.ask(&repo.open(), base), Some(old), "back on the other branch");
    let merge = repo.merge("side");
    assert_eq!(memory.ask(&repo.open(), merge), Some(side_reset), "one step away");
    repo.git(&["checkout", "-q", "-b", "other", &old.to_string()]);
    let other = repo.commit("other");
    repo.git(&["merge", "-q", "--no-ff", "-m", "m", "main"]);
    // Both are two steps away: the one through the first parent counts.
    assert_eq!(memory.ask(&repo.open(), repo.head()), Some(old));
    assert_eq!(memory.ask(&repo.open(), other), Some(old));
    let late = repo.commit("[strake reset]");
    assert_eq!(memory.ask(&repo.open(), late), Some(late));
}

/// Makes a commit unreadable: who comes to it fails.
fn hide(repo: &Repo<'_>, commit: CommitId) {
    let id = commit.to_string();
    std::fs::remove_file(repo.path.join(format!(".git/objects/{}/{}", &id[..2], &id[2..]))).unwrap();
}

#[test]
fn with_the_memo_only_new_messages_are_read() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let reset = repo.commit("[dapp reset]");
    let middle = repo.commit("2");
    let memory = Memory::default();
    memory.ask(&repo.open(), middle);
    let head = repo.commit("3");
    hide(&repo, reset);
    assert!(repo.open().reset_commit(head, Memo::none()).is_err());
    let get = |key: &str| memory.0.borrow().get(key).cloned();
    let found = repo.open().reset_commit(head, Memo { get: &get, put: &|_, _| () }).unwrap();
    assert_eq!(found.commit, Some(reset));
}

#[test]
fn a_walk_ends_where_two_histories_parted() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let first = repo.commit("1");
    for index in 2..6 {
        repo.commit(&index.to_string());
    }
    repo.git(&["checkout", "-q", "-b", "side"]);
    let side = repo.commit("side");
    repo.git(&["checkout", "-q", "main"]);
    let parent = repo.commit("6");
    let head = repo.commit("7");
    hide(&repo, first);
    let repository = repo.open();
    assert_eq!(repository.is_ancestor(parent, head).unwrap(), Ancestry::Ancestor);
    assert_eq!(repository.is_ancestor(side, head).unwrap(), Ancestry::NotAncestor);
    assert_eq!(repository.is_ancestor(head, side).unwrap(), Ancestry::NotAncestor);
    assert_eq!(repository.is_ancestor(head, parent).unwrap(), Ancestry::NotAncestor);
}

#[test]
fn the_history_is_walked_back_from_what_references_stand_for() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let commits: Vec<CommitId> = (0..4).map(|index| repo.commit(&index.to_string())).collect();
    repo.git(&["tag", "-m", "annotated", "v1", &commits[1].to_string()]);
    repo.git(&["update-ref", "refs/remotes/origin/feature/x", &commits[2].to_string()]);
    let repository = repo.open();
    let heads = |references| repository.heads(references).unwrap();
    assert_eq!(heads(References::Tags), BTreeMap::from([("v1".to_owned(), commits[1])]));
    assert_eq!(heads(References::RemoteBranches), BTreeMap::from([("feature/x".to_owned(), commits[2])]));
    let walked = |enough: usize| {
        let mut seen = Vec::new();
        let mut visit = |commit, time| {
            assert_eq!(repository.commit_time(commit).unwrap(), time);
            seen.push(commit);
            if seen.len() == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        repository.walk_back(commits[3], i64::MAX, &mut visit).unwrap();
        seen
    };
    let back: Vec<CommitId> = commits.iter().rev().copied().collect();
    assert_eq!(walked(9), back);
    assert_eq!(walked(2), back[..2]);
    assert!(!repository.is_shallow().unwrap());
    std::fs::write(repo.path.join(".git/shallow"), format!("{}\n", commits[1])).unwrap();
    assert!(repo.open().is_shallow().unwrap());
}

#[test]
fn a_memo_of_a_rewritten_history_is_not_believed() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let one = repo.commit("1");
    let two = repo.commit("[dapp reset]");
    let memory = Memory::default();
    assert_eq!(memory.ask(&repo.open(), two), Some(two));
    repo.git(&["reset", "-q", "--hard", &one.to_string()]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
    assert!(!repo.open().exists(two));
    assert_eq!(memory.ask(&repo.open(), one), None);
}
