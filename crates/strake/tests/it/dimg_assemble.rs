//! Stages that are really assembled: what is in the images, which stages ran, who waits for whom.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use strake_testkit::{Base, Sandbox, TestUser, is_root, lacking};

use crate::STRAKE;
use crate::dimg_scene::{Project, rows};

/// Every file with mode and content, every link with its target, every directory.
const LISTING: &str = r#"cd "$0" && find . ! -type d | sort | while IFS= read -r f; do
  if [ -L "$f" ]; then echo "$f -> $(readlink "$f")"; else echo "$f $(stat -c %a "$f") $(sha256sum <"$f")"; fi
done; find . -type d | sort"#;

impl Project {
    /// What `LISTING` says of a directory of the built image.
    fn listing(&self, path: &str) -> String {
        let name = self.prints(&["stage", "image"]);
        self.command(&["run", "--network", "none", name.trim(), "sh", "-c", LISTING, path])
            .succeed()
            .unwrap()
            .stdout
    }

    /// The same of a part of the current commit, less what `without` removes.
    fn committed(&self, part: &str, without: &str) -> String {
        let script = format!(
            "rm -rf ../expect && mkdir ../expect && git -c tar.umask=0022 archive HEAD:{part} | tar -xpC ../expect \
             && cd ../expect && {without} && find . -mindepth 1 -type d -empty -delete && busybox sh -c \"$0\" ."
        );
        let run = self.sandbox.run("sh").args(["-c", &script, LISTING]).directory(&self.sandbox.path("p"));
        run.succeed().unwrap().stdout
    }
}

const WATCHING: &str = "dimg: ~
from: busybox
git:
- add: /app
  to: /srv/app
  excludePaths: [docs, '**/*.log']
  stageDependencies:
    install: package.json
    setup: conf/*.conf
shell:
  install:
  - cp /srv/app/package.json /installed
  setup:
  - cat /srv/app/conf/*.conf > /configured
";

const FROM: &str = "From";
const ARCHIVE: &str = "Git artifacts: create archive";
const BEFORE_INSTALL: &str = "Git artifacts: apply patches (before install)";
const INSTALL: &str = "Install";
const BEFORE_SETUP: &str = "Git artifacts: apply patches (before setup)";
const SETUP: &str = "Setup";
const AFTER_SETUP: &str = "Git artifacts: apply patches (after setup)";
const LATEST: &str = "Git artifacts: latest patch";

const FROM_SETUP: [&str; 3] = [BEFORE_SETUP, SETUP, AFTER_SETUP];
const FROM_INSTALL: [&str; 5] = [BEFORE_INSTALL, INSTALL, BEFORE_SETUP, SETUP, AFTER_SETUP];
const FROM_ARCHIVE: [&str; 6] = [ARCHIVE, BEFORE_INSTALL, INSTALL, BEFORE_SETUP, SETUP, AFTER_SETUP];

#[test]
fn after_every_commit_the_image_has_its_files_and_only_the_named_stages_ran() {
    let project = Project::on_busybox(WATCHING);
    let check = |what: &str, message: &str, expect: &[&str]| {
        project.commit(message);
        assert_eq!(project.build(&[]), expect, "{what}");
        assert_eq!(
            project.listing("/srv/app"),
            project.committed("app", "rm -rf docs && find . -name '*.log' -delete"),
            "{what}"
        );
        assert_eq!(project.build(&[]), [""; 0], "{what}: nothing is left to do");
    };
    let shell = |script: &str| {
        project
            .sandbox
            .run("sh")
            .args(["-c", script])
            .directory(&project.sandbox.path("p/app"))
            .succeed()
            .unwrap();
    };
    for (path, content) in [
        ("package.json", "1"),
        ("conf/a.conf", "a"),
        ("src/main.js", "main"),
        ("src/x.log", "no"),
        ("docs/d", "no"),
    ] {
        project.file(&format!("app/{path}"), content);
    }
    check("the first build", "first", &[&[FROM][..], &FROM_ARCHIVE].concat());
    project.file("elsewhere", "x");
    project.file("app/docs/d", "still no");
    check("a change outside of the mapping", "outside", &[]);
    project.file("app/src/main.js", "main 2");
    check("a small change", "small", &[LATEST]);
    project.file("app/package.json", "2");
    check("a watched file", "watched", &FROM_INSTALL);
    project.file("app/big.txt", &"a line of a large file\n".repeat(70_000));
    check("more than a MiB", "large", &[AFTER_SETUP]);
    shell("printf '\\000\\001\\377binary' > blob; echo more >> src/main.js");
    check("a binary file", "binary", &[LATEST]);
    shell("git mv src source");
    check("a rename", "rename", &[LATEST]);
    shell("chmod 755 source/main.js; ln -s source/main.js link; ln -s ../../etc/passwd out");
    check("modes and links", "modes", &[LATEST]);
    shell("rm -r source/main.js link; mkdir link; echo in > link/file");
    check("types of files", "types", &[LATEST]);
    shell("git rm -qr blob link");
    check("a removal", "removal", &[LATEST]);
    project.git(&["revert", "--no-edit", "HEAD"]);
    check("a revert", "after the revert", &[LATEST]);
    project.file("app/conf/b.conf", "b");
    check("a new file that is watched", "conf", &FROM_SETUP);
    project.file("app/odd name 'with' \"quotes\"", "odd");
    check("odd names", "odd", &[LATEST]);
    project.file("app/reset", "x");
    check("a reset", "from scratch [strake reset]", &FROM_ARCHIVE);
    project.git(&["checkout", "-q", "-b", "side", "HEAD~2"]);
    project.file("app/side", "side");
    check("another branch, from before the reset", "side", &[LATEST]);
    project.git(&["checkout", "-q", "main"]);
    project.git(&["merge", "-q", "--no-edit", "side"]);
    check("a merge", "after the merge", &[LATEST]);
}

#[test]
fn rewritten_history_leaves_nothing_of_the_old_one() {
    let project = Project::on_busybox(WATCHING);
    for (path, content) in [("package.json", "1"), ("conf/a.conf", "a"), ("old", "of the first commit")] {
        project.file(&format!("app/{path}"), content);
    }
    let check = |what: &str| {
        project.build(&[]);
        assert_eq!(project.listing("/srv/app"), project.committed("app", "true"), "{what}");
    };
    project.commit("first");
    check("first");
    project.file("app/more", "x");
    project.commit("second");
    check("second");
    // A branch without a common commit, and the old one is gone altogether.
    project.git(&["checkout", "-q", "--orphan", "new"]);
    project.git(&["rm", "-qf", "app/old", "app/more"]);
    project.file("app/new", "y");
    project.commit("rewritten");
    check("an unrelated history");
    project.git(&["branch", "-D", "main"]);
    project.git(&["reflog", "expire", "--expire=now", "--all"]);
    project.git(&["gc", "-q", "--prune=now"]);
    check("the old commits are gone");
    project.git(&["commit", "-q", "--amend", "-m", "amended"]);
    check("amended");
}

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn whatever_is_committed_is_in_the_image_and_nothing_else() {
    for seed in 1..=3 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let watched = ["a/*", "b", "**/c"][random.below(3)];
        let stage_file = format!(
            "dimg: ~\nfrom: busybox\ngit:\n- add: /app\n  to: /srv/app\n  stageDependencies:\n    install: '{watched}'\n\
             shell:\n  install: 'true'\n  setup: 'true'\n"
        );
        let project = Project::on_busybox(&stage_file);
        project.file("app/keep", "x");
        project.commit("first");
        for step in 0..12 {
            for _ in 0..=random.below(4) {
                let name = |random: &mut Random| ["a", "b", "c", "d"][random.below(4)];
                let depth = random.below(3);
                let path = (0..=depth).map(|_| name(&mut random)).collect::<Vec<_>>().join("/");
                let script = match random.below(6) {
                    0 => format!("rm -rf '{path}'"),
                    1 => format!(
                        "p=$(dirname '{path}'); [ -d \"$p\" ] || rm -rf \"$(echo '{path}' | cut -d/ -f1)\"; mkdir -p \"$p\"; rm -rf '{path}'; ln -s target{} '{path}'",
                        random.below(9)
                    ),
                    2 => format!("[ -f '{path}' ] && chmod 755 '{path}'; true"),
                    _ => format!(
                        "rm -rf '{path}'; r='{path}'; while [ \"$r\" != . ]; do r=$(dirname \"$r\"); [ -d \"$r\" ] || rm -rf \"$r\"; done; \
                         mkdir -p \"$(dirname '{path}')\"; head -c {} /dev/zero | tr '\\0' {} > '{path}'",
                        random.below(700_000),
                        name(&mut random)
                    ),
                };
                let directory = project.sandbox.path("p/app");
                project.sandbox.run("sh").args(["-c", &script]).directory(&directory).succeed().unwrap();
            }
            if random.below(4) == 0 && step > 2 {
                project.git(&["checkout", "-q", "-f", "-B", "main", &format!("HEAD~{}", random.below(3))]);
            }
            project.commit(&format!("step {step}"));
            // Some commits are never built.
            if random.below(3) > 0 {
                project.build(&[]);
                assert_eq!(
                    project.listing("/srv/app"),
                    project.committed("app", "true"),
                    "seed {seed}, step {step}"
                );
            }
        }
    }
}

#[test]
fn a_failing_command_tells_what_failed_and_the_next_commit_helps() {
    let stage_file = "dimg: ~\nfrom: busybox\ngit:\n- add: /app\n  to: /srv/app\nshell:\n  install:\n  - echo begun\n  - cat /srv/app/needed\n";
    let project = Project::on_busybox(stage_file);
    project.file("app/x", "x");
    project.commit("first");
    let failed = project.fails(1, &["dimg", "build"]);
    assert!(failed.stdout.contains("begun\n") && failed.stdout.contains("Install"), "{failed}");
    assert!(
        rows(&failed.stdout).iter().any(|(title, state)| title == "Install" && state.starts_with("[FAILED]")),
        "{failed}"
    );
    assert!(failed.stdout.lines().last().unwrap().starts_with("Running time "), "{failed}");
    assert!(failed.stderr.contains("cat /srv/app/needed"), "{failed}");
    // The signature of the patch says nothing of commits: kept, it would never bring the file.
    project.file("app/needed", "here");
    project.commit("the file that was missing");
    assert_eq!(project.build(&[]), [BEFORE_INSTALL, INSTALL, AFTER_SETUP]);
    assert_eq!(project.listing("/srv/app"), project.committed("app", "true"));
}

#[test]
fn artifacts_mounts_and_configuration() {
    let stage_file = "artifact: assets
from: busybox
shell:
  install: mkdir -p /out/js && echo 1 > /out/js/a.js && echo 2 > /out/js/a.map && chown 5:6 /out/js/a.js
---
dimg: web
from: busybox
git:
- add: /src/main.sh
  to: /opt/run
  owner: app
  group: staff
import:
- artifact: assets
  add: /out
  to: /srv/assets
  after: install
  excludePaths: '**/*.map'
mount:
- from: build_dir
  to: /cache
- from: tmp_dir
  to: /bin/tmp
shell:
  beforeInstall:
  - cd /cache; N=7
  - echo $N $PWD > /seen; echo x >> /cache/count; cp /cache/count /count; echo left > /bin/tmp/behind
docker:
  ENV: {GREETING: hello there}
  WORKDIR: /opt
  USER: app
  EXPOSE: [80, 53/udp]
  LABEL: {team: a}
  CMD: [sh, -c, 'echo $GREETING from $PWD as $(id -un)']
";
    let project = Project::on_busybox(stage_file);
    project.file("src/main.sh", "echo 1\n");
    project.commit("first");
    let printed = project.prints(&["dimg", "build"]);
    let nested: Vec<_> =
        rows(&printed).into_iter().filter(|(title, _)| title == "building artifact assets").collect();
    assert_eq!(nested[0].1, "[RUNNING]", "{printed}");
    assert!(nested[1].1.starts_with("[OK] "), "{printed}");
    let name = project.prints(&["stage", "image", "web"]);
    let name = name.trim();
    assert_eq!(project.prints(&["run", "--network", "none", name]), "hello there from /opt as app\n");
    let look = "cat /seen /count /opt/run; ls /cache /bin/tmp; find /srv/assets -type f; stat -c '%u:%g' /srv/assets/js/a.js /opt/run; ls -d /.strake 2>&1";
    let seen = project
        .command(&["run", "--network", "none", "--user", "0", name, "sh", "-c", look])
        .finish()
        .unwrap();
    assert_eq!(
        seen.stdout,
        "7 /cache\nx\necho 1\n/bin/tmp:\n\n/cache:\n/srv/assets/js/a.js\n5:6\n1000:50\nls: /.strake: No such file or directory\n",
        "{seen}"
    );
    let inspected = project.prints(&["inspect", name]);
    for part in [
        "\"53/udp\"",
        "\"80/tcp\"",
        "\"team\": \"a\"",
        "\"strake-artifact-assets\"",
        "\"strake-dimg\": \"false\"",
        "\"strake-mount-build-dir\": \"/cache\"",
    ] {
        assert!(inspected.contains(part), "{part} is not in {inspected}");
    }
    // What is mounted is kept between builds and no part of any signature.
    project.file("strake.yaml", &stage_file.replace("N=7", "N=8"));
    project.commit("another command");
    project.build(&[]);
    let name = project.prints(&["stage", "image", "web"]);
    assert_eq!(
        project.prints(&["run", "--network", "none", name.trim(), "cat", "/seen", "/count"]),
        "8 /cache\nx\nx\n"
    );
}

#[test]
fn an_image_without_a_shell_is_as_good() {
    let project = Project::new("app");
    project.file(
        "strake.yaml",
        "dimg: ~\nfrom: bare\nshell:\n  install: mkdir /made && echo $((1 + 1)) > /made/n\n",
    );
    project.commit("first");
    let dockerfile = "FROM scratch\nCOPY strake.yaml /only\n";
    project.command(&["build", "-q", "-t", "bare", "-f", "-", "."]).input(dockerfile).succeed().unwrap();
    project.build(&[]);
    let name = project.prints(&["stage", "image"]);
    let dockerfile = format!("FROM {name}");
    project.command(&["build", "-o", "type=local,dest=out", "-"]).input(dockerfile).succeed().unwrap();
    let listed = project.sandbox.run("find").args(["p/out", "-mindepth", "1"]).succeed().unwrap().stdout;
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["p/out/made", "p/out/made/n", "p/out/only"]);
    assert_eq!(project.sandbox.read("p/out/made/n").unwrap(), "2\n");
}

#[test]
fn processes_that_build_the_same_assemble_each_stage_once() {
    for count in [2, 5, 20] {
        let project = Project::on_busybox(WATCHING);
        for (path, content) in [("package.json", "1"), ("conf/a.conf", "a")] {
            project.file(&format!("app/{path}"), content);
        }
        project.commit("first");
        let mut assembled: Vec<String> = std::thread::scope(|scope| {
            let builds: Vec<_> = (0..count).map(|_| scope.spawn(|| project.build(&[]))).collect();
            builds.into_iter().flat_map(|build| build.join().unwrap()).collect()
        });
        assembled.sort_unstable();
        let mut once: Vec<&str> = [&[FROM][..], &FROM_ARCHIVE].concat();
        once.sort_unstable();
        assert_eq!(assembled, once, "{count} processes");
        assert_eq!(project.listing("/srv/app"), project.committed("app", "true"));
    }
}

#[test]
fn who_waits_is_told_for_whom_and_goes_on_when_the_holder_is_killed() {
    let project = Project::on_busybox("");
    let flag = project.sandbox.path("flag");
    std::fs::create_dir(&flag).unwrap();
    project.file(
        "strake.yaml",
        &format!(
            "dimg: ~\nfrom: busybox\nmount:\n- fromPath: {}\n  to: /flag\nshell:\n  install: echo at it; [ -e /flag/go ] || sleep 1000\n",
            flag.display()
        ),
    );
    project.commit("first");
    let mut holder = project.command(&["dimg", "build"]).watched();
    let mut holder = holder.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(holder.stdout.take().unwrap());
    output.lines().map(Result::unwrap).find(|line| line == "at it").expect("the stage begins");

    let late = project.fails(3, &["dimg", "build", "--lock-timeout", "1"]);
    let resource = format!("app.image.{}", project.prints(&["stage", "image"]).trim());
    assert!(late.stderr.contains(&format!("waiting for locked resource `{resource}`")), "{late}");
    assert!(late.stderr.contains(&format!("process {}", holder.id())), "{late}");
    assert!(late.stderr.contains("still locked after 1 s"), "{late}");

    std::fs::write(flag.join("go"), "").unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(project.build(&[]), [INSTALL]);
}

#[test]
fn an_ordinary_user_assembles_stages_too() {
    if !is_root() {
        lacking("root, to run as a second, ordinary user");
        return;
    }
    let sandbox = Sandbox::of_user(STRAKE, TestUser::first().unwrap()).unwrap();
    let project = Project::in_sandbox(sandbox, "app");
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    let stage_file = WATCHING.replace("  to: /srv/app\n", "  to: /srv/app\n  owner: app\n  group: staff\n");
    project.file(
        "strake.yaml",
        &stage_file.replace("  setup:\n  -", "  setup:\n  - mkdir /own && chown 7:8 /own\n  -"),
    );
    for (path, content) in [("package.json", "1"), ("conf/a.conf", "a"), ("old", "o")] {
        project.file(&format!("app/{path}"), content);
    }
    project.commit("first");
    assert_eq!(project.build(&[]), [&[FROM][..], &FROM_ARCHIVE].concat());
    project.git(&["mv", "app/old", "app/new"]);
    project.commit("second");
    assert_eq!(project.build(&[]), [LATEST]);
    assert_eq!(project.listing("/srv/app"), project.committed("app", "true"));
    let name = project.prints(&["stage", "image"]);
    let look = "stat -c '%u:%g' /own /srv/app/new /srv/app";
    let owners = project.prints(&["run", "--network", "none", name.trim(), "sh", "-c", look]);
    assert_eq!(owners, "7:8\n1000:50\n1000:50\n");
}

#[test]
fn commands_reach_the_agent_of_the_session() {
    let project = Project::on_busybox(
        "dimg: ~\nfrom: busybox\nshell:\n  install: '[ -S \"$SSH_AUTH_SOCK\" ]; echo $? $SSH_AUTH_SOCK > /agent'\n",
    );
    project.commit("first");
    let socket = project.sandbox.path("agent.sock");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let build = project.command(&["dimg", "build"]).env("SSH_AUTH_SOCK", socket.to_str().unwrap());
    build.succeed().unwrap();
    let name = project.prints(&["stage", "image"]);
    let look = "cat /agent; ls /tmp";
    let seen = project.prints(&["run", "--network", "none", name.trim(), "sh", "-c", look]);
    assert_eq!(seen, "0 /tmp/strake-ssh-agent\n", "and nothing of it is left");
}

#[test]
fn of_several_commands_the_one_that_failed_is_named() {
    let project = Project::on_busybox("");
    for (command, code) in [("cd /tmp; false", 1), ("exec sh -c 'exit 4'", 4), ("exit 5", 5)] {
        project.file(
            "strake.yaml",
            &format!(
                "dimg: ~\nfrom: busybox\nshell:\n  install:\n  - echo one\n  - {command}\n  - echo three\n"
            ),
        );
        let failed = project.fails(1, &["dimg", "build"]);
        assert!(
            failed.stderr.contains(&format!(
                "error: process \"{command}\" did not complete successfully: exit code {code}\n"
            )),
            "{failed}"
        );
        let marked: Vec<_> = failed.stderr.lines().filter(|line| line.contains(">>>")).collect();
        assert!(marked.len() == 1 && marked[0].contains(command), "{failed}");
    }
    // Where it is told is only a file; whatever else is written there says nothing.
    for junk in ["7", "-1", "yes", "99999999999999999999999999999999999999999", "''"] {
        project.file(
            "strake.yaml",
            &format!(
                "dimg: ~\nfrom: busybox\nshell:\n  install: [echo one, echo {junk} > /.strake/at; false]\n"
            ),
        );
        let failed = project.fails(1, &["dimg", "build"]);
        assert!(failed.stderr.contains("exit code 1") && failed.stderr.contains("stage.sh"), "{failed}");
    }
    let temporary = std::fs::read_dir(project.sandbox.store().join("tmp")).unwrap();
    assert_eq!(temporary.count(), 0);
}

#[test]
fn tasks_for_ansible_are_not_carried_out_and_say_so() {
    let project = Project::on_busybox("dimg: ~\nfrom: busybox\nansible:\n  install:\n  - raw: echo 1\n");
    project.commit("first");
    let failed = project.fails(2, &["dimg", "build"]);
    assert!(
        failed.stderr.contains("running ansible tasks is not built yet")
            && failed.stderr.contains("raw: echo 1"),
        "{failed}"
    );
}
