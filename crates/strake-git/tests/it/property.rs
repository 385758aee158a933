//! Random histories: what changed, applied to what was, gives what is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use strake_git::{Change, CommitId, FileEntry, FileVersion, Repository, Selection};

use crate::fixture::{Fixture, Repo, add};

/// What is done to one path; few names, so that files and directories take each other's place.
#[derive(Debug, Clone)]
enum Deed {
    Write { path: String, content: u8, is_executable: bool },
    Link { path: String },
    Remove { path: String },
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(vec!["a", "a.b", "b", "c"]), 1..4)
        .prop_map(|names| names.join("/"))
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (path(), 0..3u8, any::<bool>())
            .prop_map(|(path, content, is_executable)| Deed::Write { path, content, is_executable }),
        1 => path().prop_map(|path| Deed::Link { path }),
        2 => path().prop_map(|path| Deed::Remove { path }),
    ]
}

/// The files of a commit as a map, built without a work tree: deeds that contradict each other replace what is there.
#[derive(Default, Clone)]
struct Model(BTreeMap<String, (&'static str, Vec<u8>)>);

impl Model {
    fn apply(&mut self, deed: &Deed) {
        let (path, file) = match deed {
            Deed::Write { path, content, is_executable } => {
                let mode = if *is_executable { "100755" } else { "100644" };
                (path, Some((mode, vec![*content])))
            }
            Deed::Link { path } => (path, Some(("120000", b"target".to_vec()))),
            Deed::Remove { path } => (path, None),
        };
        let below = format!("{path}/");
        self.0.retain(|known, _| {
            known != path && !known.starts_with(&below) && !path.starts_with(&format!("{known}/"))
        });
        self.0.extend(file.map(|file| (path.clone(), file)));
    }

    fn commit(&self, repo: &Repo<'_>) -> CommitId {
        let mut stream =
            b"commit refs/heads/main\ncommitter A <a@b> 1500000000 +0000\ndata 0\ndeleteall\n".to_vec();
        for (path, (mode, content)) in &self.0 {
            stream.extend_from_slice(format!("M {mode} inline {path}\ndata {}\n", content.len()).as_bytes());
            stream.extend_from_slice(content);
            stream.push(b'\n');
        }
        repo.git_with_input(&["fast-import", "--quiet", "--force"], &stream);
        repo.head()
    }
}

fn applied(files: &[FileEntry], changes: &[Change]) -> BTreeMap<Vec<u8>, FileVersion> {
    let mut map: BTreeMap<_, _> = files.iter().map(|file| (file.path.clone(), file.version)).collect();
    for change in changes {
        assert_ne!(change.old, change.new, "a change that is none");
        assert_eq!(map.remove(&change.path), change.old);
        map.extend(change.new.map(|version| (change.path.clone(), version)));
    }
    map
}

fn check(repository: &Repository, from: CommitId, to: CommitId, base: &str, selection: Selection<'_>) {
    let base = add(base);
    let before = repository.files(from, &base, selection).unwrap();
    let after = repository.files(to, &base, selection).unwrap();
    let changes = repository.changes(from, to, &base, selection).unwrap();
    let after: BTreeMap<_, _> = after.into_iter().map(|file| (file.path, file.version)).collect();
    assert_eq!(applied(&before, &changes), after);
    assert_eq!(repository.differs(from, to, &base, selection).unwrap(), !changes.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_from_one_commit_to_the_other(
        before in proptest::collection::vec(deed(), 1..12),
        between in proptest::collection::vec(deed(), 0..8),
    ) {
        let fixture = Fixture::new();
        let repo = fixture.init("r");
        let mut model = Model::default();
        before.iter().for_each(|deed| model.apply(deed));
        let from = model.commit(&repo);
        between.iter().for_each(|deed| model.apply(deed));
        let to = model.commit(&repo);
        let repository = repo.open();
        let paths = |commit: CommitId| {
            let files = repository.files(commit, &add("/"), Selection::everything()).unwrap();
            files.into_iter().map(|file| String::from_utf8(file.path).unwrap()).collect::<Vec<_>>()
        };
        prop_assert_eq!(paths(to), model.0.keys().cloned().collect::<Vec<_>>());
        for (from, to) in [(from, to), (to, from)] {
            check(&repository, from, to, "/", Selection::everything());
            // A directory in both; as a mapping it is not comparable with a file of the same name.
            let selects = |path: &[u8]| !path.ends_with(b"b");
            check(&repository, from, to, "/", Selection { selects: &selects, may_descend: &|path| path != b"a" });
        }
        let size = repository.patch_size(from, to, &add("/"), Selection::everything()).unwrap();
        let arguments = ["diff", "--binary", "--full-index", "--no-renames", "-U999999999"];
        let range = [from.to_string(), to.to_string()];
        let patch = repo.git_bytes(&[&arguments[..], &[&range[0], &range[1]]].concat());
        prop_assert_eq!(size, patch.len() as u64);
    }
}
