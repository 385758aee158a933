//! Mappings of repositories that real servers give away, over http and over ssh.

use std::path::Path;

use strake_testkit::{Finished, HttpAccess, HttpGitServer, Run, SshServer, keygen, lacking};

use crate::dimg_scene::{Project, assembled};

const LATEST: &str = "Git artifacts: latest patch";
/// Where the origin is, in the work directory.
const SERVED: &str = "served";
/// What the first build assembles.
const ALL: [&str; 3] =
    ["From", "Git artifacts: create archive", "Git artifacts: apply patches (after setup)"];

/// A repository beside the project, to be served.
pub(crate) struct Origin<'a> {
    project: &'a Project,
    name: &'a str,
}

impl<'a> Origin<'a> {
    pub(crate) fn new(project: &'a Project, name: &'a str) -> Self {
        let origin = Self { project, name };
        project.sandbox.write(&format!("{name}/.keep"), "").unwrap();
        origin.git(&["init", "-q", "-b", "main"]);
        origin
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.project.sandbox.path(self.name)
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        let who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"];
        let run = self.project.sandbox.run("git").args(who).args(words).directory(&self.path());
        run.succeed().unwrap().stdout.trim().to_owned()
    }

    /// Writes a file and commits everything.
    pub(crate) fn commit(&self, path: &str, content: &str) -> String {
        self.project.sandbox.write(&format!("{}/{path}", self.name), content).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "-m", path]);
        self.git(&["rev-parse", "HEAD"])
    }
}

pub(crate) fn maps(url: &str) -> String {
    format!("dimg: ~\nfrom: busybox\ngit:\n- url: {url}\n  add: /\n  to: /srv/app\n")
}

/// What is in the built image at a path.
pub(crate) fn built(project: &Project, path: &str) -> String {
    let name = project.prints(&["stage", "image"]);
    project.prints(&["run", "--network", "none", name.trim(), "cat", path])
}

#[track_caller]
fn refused(run: Run, expected: &[&str]) -> Finished {
    let finished = run.finish().unwrap();
    assert_eq!(finished.code, 3, "{finished}");
    for text in expected {
        assert!(finished.stderr.contains(text), "{text:?} is not in {finished}");
    }
    finished
}

/// Every file of clones, with its time and size.
fn clones(project: &Project) -> String {
    let builds = project.sandbox.store().join("builds");
    let find = project.sandbox.run("find").arg(&builds).args(["-type", "f", "-printf", "%p %s %T@\\n"]);
    let listed = find.finish().unwrap().stdout;
    let mut lines: Vec<_> = listed.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn check_clones(project: &Project) {
    let script = "find builds -name HEAD -path '*remote_git_repo*' | while read -r head; do
        git -C \"$(dirname \"$head\")\" fsck --full --strict 2>&1 || exit 1; done";
    project.sandbox.run("sh").args(["-c", script]).directory(&project.sandbox.store()).succeed().unwrap();
}

/// A project with an origin of one commit beside it, and a server that gives the origin away.
fn over_http(access: HttpAccess) -> Option<(Project, HttpGitServer)> {
    if let Some(missing) = HttpGitServer::lacks() {
        lacking(missing);
        return None;
    }
    let project = beside_an_origin();
    let server = HttpGitServer::start(&project.sandbox.work(), access).unwrap();
    Some((project, server))
}

/// The same with an sshd, which the project's stage file names.
fn over_ssh() -> Option<(Project, SshServer)> {
    if let Some(missing) = SshServer::lacks() {
        lacking(missing);
        return None;
    }
    let (project, server) = (beside_an_origin(), SshServer::start().unwrap());
    project.file("strake.yaml", &maps(&server.url(&origin_of(&project).path())));
    Some((project, server))
}

fn beside_an_origin() -> Project {
    let project = Project::on_busybox("");
    Origin::new(&project, SERVED).commit("a", "1\n");
    project
}

fn origin_of(project: &Project) -> Origin<'_> {
    Origin { project, name: SERVED }
}

/// Builds from a server that gets a commit, goes away and comes back.
fn follow(project: &Project, build: &dyn Fn() -> Run, switch: &mut dyn FnMut(Power)) {
    let origin = origin_of(project);
    switch(Power::Off);
    refused(build(), &["ask ", "onnect"]);
    assert!(!clones(project).contains("HEAD"), "nothing was fetched: {}", clones(project));
    switch(Power::On);
    let first = assembled(&build().succeed().unwrap().stdout);
    assert_eq!(first, ALL);
    assert_eq!(built(project, "/srv/app/a"), "1\n");
    assert_eq!(assembled(&build().succeed().unwrap().stdout), [""; 0]);
    origin.commit("a", "2\n");
    assert_eq!(assembled(&build().succeed().unwrap().stdout), [LATEST]);
    assert_eq!(built(project, "/srv/app/a"), "2\n");
    origin.commit("a", "3\n");
    switch(Power::Off);
    let before = clones(project);
    refused(build(), &["ask ", "onnect"]);
    assert_eq!(clones(project), before);
    check_clones(project);
    assert_eq!(built(project, "/srv/app/a"), "2\n");
    switch(Power::On);
    assert_eq!(assembled(&build().succeed().unwrap().stdout), [LATEST]);
    assert_eq!(built(project, "/srv/app/a"), "3\n");
    check_clones(project);
}

#[derive(Clone, Copy)]
enum Power {
    On,
    Off,
}

#[test]
fn a_repository_over_http_is_followed() {
    let Some((project, mut server)) = over_http(HttpAccess::Anybody) else { return };
    project.file("strake.yaml", &maps(&server.url("", "served/.git")));
    follow(&project, &|| project.command(&["dimg", "build"]), &mut |power| match power {
        Power::On => server.resume().unwrap(),
        Power::Off => server.stop(),
    });
}

#[test]
fn passwords_over_http_come_from_gits_credential_helpers() {
    let Some((project, server)) = over_http(HttpAccess::Password) else { return };
    let build = |user: &str| {
        project.file("strake.yaml", &maps(&server.url(user, "served/.git")));
        project.command(&["dimg", "build"])
    };
    refused(build(""), &["could not read Username", "credential helpers"]);
    let failed = refused(build("strake:wrong@"), &["Authentication failed"]);
    assert!(!failed.stderr.contains("wrong"), "{failed}");
    assert!(!clones(&project).contains("HEAD"), "{}", clones(&project));
    let home = project.sandbox.path("../home");
    std::fs::write(home.join(".gitconfig"), "[credential]\n\thelper = store\n").unwrap();
    let known = server.url("strake:secret@", "");
    std::fs::write(home.join(".git-credentials"), known).unwrap();
    assert_eq!(assembled(&build("").succeed().unwrap().stdout), ALL);
    assert_eq!(built(&project, "/srv/app/a"), "1\n");
}

#[test]
fn a_repository_over_ssh_is_followed() {
    let Some((project, mut server)) = over_ssh() else { return };
    let (key, known_hosts) = (server.key(), server.known_hosts());
    let build = || {
        let run = project.command(&["dimg", "build", "--ssh-key"]).arg(&key);
        run.env("STRAKE_SSH_KNOWN_HOSTS", &known_hosts)
    };
    follow(&project, &build, &mut |power| match power {
        Power::On => server.resume().unwrap(),
        Power::Off => server.stop(),
    });
}

#[test]
fn ssh_that_is_not_let_in_and_hosts_that_are_not_known() {
    let Some((project, server)) = over_ssh() else { return };
    let build = |key: &Path, known_hosts: &Path| {
        let run = project.command(&["dimg", "build", "--ssh-key"]).arg(key);
        run.env("STRAKE_SSH_KNOWN_HOSTS", known_hosts)
    };
    refused(
        build(&server.other_key(), &server.known_hosts()),
        &["Permission denied (publickey", "hint: name a key that the server accepts with --ssh-key"],
    );
    let empty = project.sandbox.write("no hosts", "").unwrap();
    refused(
        build(&server.key(), &empty),
        &[
            "Host key verification failed",
            "hint: keys of hosts are never accepted unseen: ssh-keyscan -p PORT HOST",
        ],
    );
    let other = std::fs::read_to_string(server.key().with_extension("pub")).unwrap();
    let line = format!("[127.0.0.1]:{} {other}", server.port());
    let changed = project.sandbox.write("other hosts", line).unwrap();
    refused(
        build(&server.key(), &changed),
        &["REMOTE HOST IDENTIFICATION HAS CHANGED", "hint: the host shows another key"],
    );
    assert!(!clones(&project).contains("HEAD"), "{}", clones(&project));
    let missing = project.sandbox.path("nowhere");
    let failed = build(&server.key(), &missing).finish().unwrap();
    assert!(failed.code == 2 && failed.stderr.contains("read ssh host keys"), "{failed}");
    build(&server.key(), &server.known_hosts()).succeed().unwrap();
    assert_eq!(built(&project, "/srv/app/a"), "1\n");
}

/// With keys named, the agent of the session is not asked; without, it is.
#[test]
fn the_agent_of_the_session_counts_only_when_no_key_is_named() {
    let Some((project, server)) = over_ssh() else { return };
    let known_hosts = server.known_hosts();
    // ssh-agent ends with the command it is given.
    let build = |words: &[&str]| {
        let key = server.key().display().to_string();
        let run = project.command(&["dimg", "build"]).args(words).env("STRAKE_SSH_KNOWN_HOSTS", &known_hosts);
        run.through(["ssh-agent", "sh", "-c", "ssh-add -q \"$0\" && exec \"$@\"", &key])
    };
    let other = server.other_key().display().to_string();
    let failed = build(&["--ssh-key", &other]).finish().unwrap();
    assert!(failed.code == 3 && failed.stderr.contains("Permission denied (publickey"), "{failed}");
    assert_eq!(assembled(&build(&[]).succeed().unwrap().stdout), ALL);
}

#[test]
fn usual_keys_are_used_when_there_is_no_agent() {
    let Some((project, server)) = over_ssh() else { return };
    let home = project.sandbox.path("../home/.ssh");
    std::fs::create_dir(&home).unwrap();
    keygen(&home, "id_rsa", &["-t", "ed25519", "-N", "locked"]).unwrap();
    std::fs::write(home.join("id_ecdsa"), "no key").unwrap();
    // Nobody listens any more.
    let dead = project.sandbox.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let build = || {
        let run = project.command(&["dimg", "build"]).env("SSH_AUTH_SOCK", &dead);
        run.env("STRAKE_SSH_KNOWN_HOSTS", server.known_hosts())
    };
    refused(build(), &["Permission denied (publickey"]);
    std::fs::copy(server.key(), home.join("id_ed25519")).unwrap();
    assert_eq!(assembled(&build().succeed().unwrap().stdout), ALL);
}
