//! Clones of repositories that live elsewhere, all of them on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use strake_git::{CommitId, GitError, RemoteClone, RemoteSource, Revision, Selection, SshAccess};

use crate::fixture::{Fixture, Repo, root, url_of};

fn update(fixture: &Fixture, url: &str, revision: Revision) -> Result<RemoteClone, GitError> {
    let source = RemoteSource { url: url.to_owned(), revision };
    RemoteClone::update(&source, &clone_path(fixture), &Fixture::ssh(), &fixture.program())
}

fn clone_path(fixture: &Fixture) -> PathBuf {
    fixture.path("build/remote_git_repo/1/name/file")
}

fn branch(name: &str) -> Revision {
    Revision::Branch(name.to_owned())
}

fn tag(name: &str) -> Revision {
    Revision::Tag(name.to_owned())
}

fn count(clone: &RemoteClone) -> usize {
    clone.repository.files(clone.commit, &root(), Selection::everything()).unwrap().len()
}

fn origin(fixture: &Fixture) -> (Repo<'_>, CommitId, String) {
    let repo = fixture.init("origin");
    repo.write("a", "1");
    let commit = repo.commit("one");
    repo.git(&["tag", "-a", "-m", "t", "v1"]);
    let url = url_of(&repo.path);
    (repo, commit, url)
}

#[test]
fn a_clone_follows_branches_and_the_default_branch() {
    let fixture = Fixture::new();
    let (repo, one, url) = origin(&fixture);
    let clone = update(&fixture, &url, branch("main")).unwrap();
    assert_eq!((clone.commit, count(&clone)), (one, 1));
    assert_eq!(clone.repository.origin_url().as_deref(), Some(&*url));
    repo.write("b", "2");
    let two = repo.commit("two");
    assert_eq!(update(&fixture, &url, branch("main")).unwrap().commit, two);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.write("c", "3").write("d", "4");
    let forced = repo.commit("forced");
    let clone = update(&fixture, &url, Revision::RemoteHead).unwrap();
    assert_eq!((clone.commit, count(&clone)), (forced, 3));
    assert!(clone.repository.exists(two), "what a build recorded is kept");
    repo.git(&["checkout", "-q", "-b", "other"]);
    let other = repo.commit("other");
    assert_eq!(update(&fixture, &url, Revision::RemoteHead).unwrap().commit, other);
    let error = update(&fixture, &url, branch("nothing")).unwrap_err();
    assert!(matches!(error, GitError::UnknownRevision { .. }), "{error}");
    assert_eq!(update(&fixture, &url, branch("main")).unwrap().commit, forced, "after an error");
}

#[test]
fn a_fixed_commit_or_tag_needs_no_network() {
    let fixture = Fixture::new();
    let (repo, one, url) = origin(&fixture);
    let loose = repo.commit("of no branch");
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(update(&fixture, &url, tag("v1")).unwrap().commit, one);
    repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    assert_eq!(update(&fixture, &url, Revision::Commit(loose)).unwrap().commit, loose);
    let gone = CommitId::from_hex(&"12".repeat(20)).unwrap();
    let error = update(&fixture, &url, Revision::Commit(gone)).unwrap_err();
    assert!(matches!(error, GitError::UnknownRevision { .. }), "{error}");
    for name in ["", "*", "v?", "v1^{}", "../v1"] {
        assert!(matches!(update(&fixture, &url, tag(name)), Err(GitError::UnknownRevision { .. })), "{name}");
    }
    fs::rename(&repo.path, fixture.path("moved")).unwrap();
    assert_eq!(update(&fixture, &url, tag("v1")).unwrap().commit, one);
    assert_eq!(update(&fixture, &url, Revision::Commit(loose)).unwrap().commit, loose);
    assert!(matches!(update(&fixture, &url, branch("main")), Err(GitError::Program { .. })));
    let moved = url_of(&fixture.path("moved"));
    let clone = update(&fixture, &moved, branch("main")).unwrap();
    assert_eq!((clone.commit, clone.repository.origin_url()), (one, Some(moved)));
}

#[test]
fn a_tag_of_another_url_is_not_taken_for_this_one() {
    let fixture = Fixture::new();
    let (_, one, url) = origin(&fixture);
    assert_eq!(update(&fixture, &url, tag("v1")).unwrap().commit, one);
    let other = fixture.init("other");
    let two = other.commit("other");
    other.git(&["tag", "v1"]);
    let nowhere = url_of(&fixture.path("nowhere"));
    assert!(update(&fixture, &nowhere, tag("v1")).is_err());
    assert!(update(&fixture, &nowhere, tag("v1")).is_err(), "also the second time");
    assert_eq!(update(&fixture, &url_of(&other.path), tag("v1")).unwrap().commit, two);
    assert_eq!(update(&fixture, &url, tag("v1")).unwrap().commit, one);
}

#[test]
fn a_fetch_that_failed_leaves_no_tag_of_another_url() {
    let fixture = Fixture::new();
    let (_, one, url) = origin(&fixture);
    assert_eq!(update(&fixture, &url, tag("v1")).unwrap().commit, one);
    let other = fixture.init("other");
    other.write("b", "2");
    let two = other.commit("other");
    other.git(&["tag", "v1"]);
    let blob = other.git(&["rev-parse", "HEAD:b"]);
    let object = other.path.join(format!(".git/objects/{}/{}", &blob[..2], &blob[2..]));
    let aside = fixture.path("aside");
    fs::rename(&object, &aside).unwrap();
    let other_url = url_of(&other.path);
    for _ in 0..2 {
        assert!(update(&fixture, &other_url, tag("v1")).is_err(), "it can be listed, but not fetched");
    }
    let old = update(&fixture, &url, Revision::Commit(one)).unwrap();
    assert_eq!(count(&old), 1, "what was here is still here");
    fs::rename(&aside, &object).unwrap();
    assert_eq!(update(&fixture, &other_url, tag("v1")).unwrap().commit, two);
}

#[test]
fn repositories_with_the_other_hash_function_can_be_cloned() {
    let fixture = Fixture::new();
    let repo = fixture.init_with("sha256", &["--object-format=sha256"]);
    repo.write("a", "1");
    let commit = repo.commit("one");
    let clone = update(&fixture, &url_of(&repo.path), branch("main")).unwrap();
    assert_eq!((clone.commit, count(&clone)), (commit, 1));
    let (_, one, url) = origin(&fixture);
    assert_eq!(update(&fixture, &url, branch("main")).unwrap().commit, one, "and back");
}

#[test]
fn urls_that_are_commands_are_refused() {
    let fixture = Fixture::new();
    let marker = fixture.path("marker");
    for url in
        [format!("ext::touch {}", marker.display()), format!("--upload-pack=touch {}", marker.display())]
    {
        assert!(matches!(update(&fixture, &url, Revision::RemoteHead), Err(GitError::Url { .. })));
    }
    // Nor may the user's configuration turn a good URL into a bad one.
    let config = format!(
        "[url \"ext::touch {} \"]\n\tinsteadOf = https://\n[protocol]\nallow = always\n",
        marker.display()
    );
    fs::write(fixture.path("home/.gitconfig"), config).unwrap();
    let error = update(&fixture, "https://example.invalid/a.git", Revision::RemoteHead).unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
    assert!(!marker.exists());
}

#[test]
fn a_clone_survives_being_killed_and_damaged() {
    let fixture = Fixture::new();
    let (repo, _, url) = origin(&fixture);
    update(&fixture, &url, branch("main")).unwrap();
    let clone = clone_path(&fixture);
    let next = |what: &str| {
        repo.write(what, what);
        let commit = repo.commit(what);
        assert_eq!(update(&fixture, &url, branch("main")).unwrap().commit, commit, "{what}");
    };
    let number = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&clone).unwrap());
    let before = number();
    fs::write(clone.join("packed-refs.lock"), "").unwrap();
    fs::write(clone.join("refs/remotes/origin/main.lock"), "").unwrap();
    fs::write(clone.join("objects/pack/tmp_pack_x"), "half").unwrap();
    next("lock files");
    fs::create_dir_all(clone.with_extension("new")).unwrap();
    fs::write(clone.join("config"), "[core]\n\thooksPath = /x\n[remote \"origin\"]\nurl = ext::x\n").unwrap();
    next("another configuration");
    assert_eq!(number(), before, "that was no reason for a new clone");
    fs::remove_file(clone.join("HEAD")).unwrap();
    next("no HEAD");
    fs::remove_dir_all(clone.join("objects")).unwrap();
    next("no objects");
    for part in fs::read_dir(clone.join("objects/pack")).unwrap() {
        let part = part.unwrap().path();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&part, "damaged").unwrap();
    }
    next("damaged packs");
    fs::remove_dir_all(&clone).unwrap();
    fs::write(&clone, "a file").unwrap();
    next("a file in its place");
}

#[test]
fn an_update_that_was_cut_off_anywhere_is_made_up_for() {
    let fixture = Fixture::new();
    let (repo, _, url) = origin(&fixture);
    let source = RemoteSource { url: url.clone(), revision: branch("main") };
    let mut completed = 0;
    for limit in 0..12 {
        repo.write("a", limit.to_string());
        let commit = repo.commit("more");
        let asked = AtomicUsize::new(0);
        let git = fixture.program().cancelled_by(move || asked.fetch_add(1, Ordering::SeqCst) >= limit);
        match RemoteClone::update(&source, &clone_path(&fixture), &Fixture::ssh(), &git) {
            Ok(clone) => completed += usize::from(clone.commit == commit),
            Err(error) => assert!(matches!(error, GitError::Canceled), "{error}"),
        }
        if limit % 3 == 0 {
            assert_eq!(update(&fixture, &url, branch("main")).unwrap().commit, commit, "after {limit}");
        }
    }
    assert!(completed < 12, "none was cut off");
    let clone = update(&fixture, &url, branch("main")).unwrap();
    assert_eq!((clone.commit, count(&clone)), (repo.head(), 1));
    fixture.repo("").git(&["-C", clone_path(&fixture).to_str().unwrap(), "fsck", "--full"]);
}

#[test]
fn only_one_at_a_time_works_on_a_clone() {
    let fixture = Fixture::new();
    let (_, one, url) = origin(&fixture);
    let (git, clone) = (fixture.program(), clone_path(&fixture));
    let source = RemoteSource { url, revision: branch("main") };
    let update = || RemoteClone::update(&source, &clone, &Fixture::ssh(), &git).unwrap().commit;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6).map(|_| scope.spawn(update)).collect();
        workers.into_iter().for_each(|worker| assert_eq!(worker.join().unwrap(), one));
    });
}

#[test]
fn waiting_and_fetching_end_when_the_caller_gives_up() {
    let fixture = Fixture::new();
    let (_, _, url) = origin(&fixture);
    let source = RemoteSource { url, revision: Revision::RemoteHead };
    let clone = clone_path(&fixture);
    fs::create_dir_all(clone.parent().unwrap()).unwrap();
    let lock = fs::File::create(clone.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let git = |limit: usize| {
        let asked = std::sync::Arc::clone(&asked);
        fixture.program().cancelled_by(move || asked.fetch_add(1, Ordering::SeqCst) >= limit)
    };
    let waited = RemoteClone::update(&source, &clone, &Fixture::ssh(), &git(2));
    assert!(matches!(waited, Err(GitError::Canceled)));
    drop(lock);
    // ssh that never answers: only killing it ends this.
    let ssh = Fixture::ssh().with_command("sleep 1000 #");
    let source = RemoteSource { url: "ssh://localhost/a.git".to_owned(), ..source };
    asked.store(0, Ordering::SeqCst);
    let fetched = RemoteClone::update(&source, &clone, &ssh, &git(5));
    assert!(matches!(fetched, Err(GitError::Canceled)), "{fetched:?}");
}

#[test]
fn ssh_is_used_as_the_caller_says() {
    let fixture = Fixture::new();
    let (repo, one, _) = origin(&fixture);
    let script = fixture.path("ssh");
    let log = fixture.path("log");
    // Stands for the other machine: runs there what it is told to.
    let text = format!(
        "#!/bin/sh\necho \"$SSH_AUTH_SOCK $*\" >> {}\nfor last; do :; done\nexec sh -c \"$last\"\n",
        log.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let ssh = SshAccess::with_agent(Some(PathBuf::from("/agent"))).with_command(&script);
    for url in [
        format!("ssh://git@127.0.0.1{}", repo.path.display()),
        format!("git@127.0.0.1:{}", repo.path.display()),
    ] {
        let source = RemoteSource { url, revision: Revision::Branch("main".to_owned()) };
        let clone = RemoteClone::update(&source, &clone_path(&fixture), &ssh, &fixture.program()).unwrap();
        assert_eq!(clone.commit, one);
    }
    let log = fs::read_to_string(log).unwrap();
    assert!(log.lines().all(|line| line.starts_with("/agent ") && line.contains("git@127.0.0.1")), "{log}");
}

#[test]
fn http_works_and_passwords_are_not_shown() {
    let fixture = Fixture::new();
    let (repo, one, _) = origin(&fixture);
    repo.git(&["update-server-info"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let directory = repo.path.join(".git");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let directory = directory.clone();
            std::thread::spawn(move || serve(&stream.unwrap(), &directory));
        }
    });
    let clone = update(&fixture, &format!("http://{address}/a.git"), branch("main")).unwrap();
    assert_eq!((clone.commit, count(&clone)), (one, 1));
    let error =
        update(&fixture, &format!("http://me:secret@{address}/nothing/x.git"), branch("main")).unwrap_err();
    assert!(matches!(error, GitError::Program { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

/// Files below `/a.git/`, one request for each connection.
fn serve(mut stream: &TcpStream, directory: &Path) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
    let content = path.strip_prefix("/a.git/").and_then(|path| fs::read(directory.join(path)).ok());
    let (status, content) = content.map_or(("404 Not Found", Vec::new()), |content| ("200 OK", content));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
}
