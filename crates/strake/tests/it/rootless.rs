//! The whole way as an ordinary user, and what is said where a machine does not let one.

use strake_testkit::{ImageArchive, Registry, Run, Sandbox, TestUser, is_root, lacking, program_on_path};

use crate::{STRAKE, of_ordinary_user};

/// What package managers do: files of many owners, set-id bits, capabilities' kin, links, hard links, removals.
const DOCKERFILE: &str = "FROM busybox\n\
    RUN echo daemon4:x:4000:50::/srv:/bin/sh >> /etc/passwd && mkdir -p /srv/a && touch /srv/a/f && chown -R 4000:50 /srv && chmod 2755 /srv/a \
        && cp /bin/busybox /srv/su && chmod 4755 /srv/su && ln /srv/a/f /srv/a/g && ln -s g /srv/a/l\n\
    COPY --chown=4000:50 --chmod=640 f /srv/copied\n\
    ADD t.tar /srv/t/\n\
    RUN rm /srv/a/f && chown 65534:65534 /srv/a/g && mkfifo /srv/p\n\
    USER app\n\
    WORKDIR /home/app\n\
    RUN id -un > who && test \"$(stat -c %u who)\" = 1000\n\
    CMD [\"cat\", \"who\"]\n";

fn build(sandbox: &Sandbox, tag: &str) {
    sandbox.write("c/Dockerfile", DOCKERFILE).unwrap();
    sandbox.write("c/f", "content\n").unwrap();
    sandbox.write("c/t/in", "packed\n").unwrap();
    sandbox
        .run("tar")
        .args(["-C", "c/t", "--owner=4000", "--group=50", "--mtime=@1600000000", "-cf", "c/t.tar", "in"])
        .succeed()
        .unwrap();
    let args =
        ["build", "--network=none", "--timestamp=1700000000", "-t", tag, "-o", "type=oci,dest=i.tar", "c"];
    sandbox.strake(args).succeed().unwrap();
}

#[test]
fn the_whole_way_as_two_users() {
    if !is_root() {
        return lacking("root, to become two users");
    }
    if program_on_path("docker-registry").is_none() {
        return lacking("docker-registry");
    }
    let registry = Registry::start().unwrap();
    let root = Sandbox::new(STRAKE).unwrap();
    root.load_base(strake_testkit::Base::Busybox, "busybox").unwrap();
    let first = of_ordinary_user(TestUser::first().unwrap());
    let second = of_ordinary_user(TestUser::second().unwrap());
    let name = |who: &str| format!("{}/{who}:1", registry.address());
    std::thread::scope(|scope| {
        for (sandbox, who) in [(&root, "root"), (&first, "first"), (&second, "second")] {
            let name = name(who);
            scope.spawn(move || {
                build(sandbox, &name);
                sandbox.strake(["push", &name]).succeed().unwrap();
            });
        }
    });
    // Content, owners, modes and times are the same whoever builds: the very same layers.
    let image = |sandbox: &Sandbox| ImageArchive::read(&sandbox.path("i.tar")).unwrap().only().unwrap();
    let (of_root, of_first, of_second) = (image(&root), image(&first), image(&second));
    assert_eq!(of_root.tree.differences(&of_first.tree), []);
    assert_eq!(of_root.config["rootfs"], of_first.config["rootfs"]);
    assert_eq!(of_root.config, of_second.config);
    // What one pushed the other pulls, runs, and builds on.
    let pulled = name("first");
    second.strake(["pull", &pulled]).succeed().unwrap();
    let said = second.strake(["run", "--network=none", &pulled]).succeed().unwrap();
    assert_eq!(said.stdout, "app\n");
    second
        .write(
            "d/Dockerfile",
            format!("FROM {pulled}\nUSER root\nRUN stat -c %u:%g:%a /srv/a/g /srv/su /srv/copied > /said\n"),
        )
        .unwrap();
    second.strake(["build", "--network=none", "-o", "out", "d"]).succeed().unwrap();
    assert_eq!(second.read("out/said").unwrap(), "65534:65534:644\n0:0:4755\n4000:50:640\n");
    for words in [["images", "-q"], ["du", "-v"], ["prune", "--all"]] {
        second.strake(words).succeed().unwrap();
    }
}

#[test]
fn root_may_do_nothing_more_inside() {
    if !is_root() {
        return lacking("root, to become a user");
    }
    let sandbox = of_ordinary_user(TestUser::first().unwrap());
    sandbox.write("c/Dockerfile", "FROM busybox\nRUN id -u > /said; cat /proc/self/uid_map >> /said; touch /proc/sys/kernel/x 2>/dev/null; mknod /tmp/n b 8 0 2>/dev/null && echo DEVICE >> /said; true\n").unwrap();
    sandbox.strake(["build", "--network=none", "-o", "out", "c"]).succeed().unwrap();
    let said = sandbox.read("out/said").unwrap();
    assert!(said.starts_with("0\n") && !said.contains("DEVICE"), "{said}");
    // Files that a user exports belong to the user, not to a subordinate id.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(sandbox.path("out/said")).unwrap().uid(), TestUser::first().unwrap().uid);
}

/// Without subordinate ids or the program that gives them, what is missing is said with the remedy.
#[test]
fn a_machine_that_is_not_ready_says_what_is_missing() {
    if !is_root() {
        return lacking("root, to become a user");
    }
    // A machine without newuidmap and newgidmap: a mount namespace in which nothing is left of them.
    let user = TestUser::first().unwrap();
    let sandbox = Sandbox::of_user(STRAKE, user.clone()).unwrap();
    let hide = "for name in newuidmap newgidmap; do \
        for place in /usr/bin /bin; do [ ! -e $place/$name ] || mount --bind /dev/null $place/$name || exit 99; done; done; \
        exec setpriv --reuid=$1 --regid=$2 --clear-groups -- \"$3\" images";
    let program = sandbox.work().parent().unwrap().join("strake");
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    let refused = Run::new("unshare")
        .args(["--mount", "sh", "-c", hide, "sh", &uid, &gid])
        .arg(program)
        .env("STRAKE_ROOT", sandbox.store())
        .env("HOME", sandbox.docker_config())
        .finish()
        .unwrap();
    assert!(
        refused.code == 3 && refused.stderr.contains("newuidmap") && refused.stderr.contains("uidmap"),
        "{refused}"
    );
    assert!(refused.stderr.contains("hint:"), "{refused}");

    // A user of whom /etc/subuid knows nothing: `nobody` has no ranges on any distribution.
    let nobody = TestUser { name: "nobody".into(), uid: 65_534, gid: 65_534 };
    let sandbox = Sandbox::of_user(STRAKE, nobody).unwrap();
    let refused = sandbox.strake(["images"]).finish().unwrap();
    assert!(refused.code == 3 && refused.stderr.contains("subuid"), "{refused}");
    assert!(refused.stderr.contains("usermod"), "{refused}");
    let doctor = sandbox.strake(["doctor"]).finish().unwrap();
    let said = [doctor.stdout.as_str(), doctor.stderr.as_str()].concat();
    assert!(doctor.code != 0 && said.contains("subuid"), "{doctor}");
}
