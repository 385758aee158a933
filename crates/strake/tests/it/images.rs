//! The commands on images, against a real registry and on the command line.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use strake_testkit::{Base, Registry, RegistryOptions, Sandbox, base_tar, lacking, program_on_path};

use crate::scene::{Scene, text};

const DOCKERFILE: &str =
    "FROM busybox\nENV GREETING=hello\nWORKDIR /w\nCOPY f .\nRUN echo made > made\nCMD [\"cat\", \"f\"]\n";

/// A registry, or nothing where it is not installed.
fn registry(options: RegistryOptions) -> Option<Registry> {
    if program_on_path("docker-registry").is_none() {
        lacking("docker-registry");
        return None;
    }
    Some(Registry::start_with(options).unwrap())
}

/// A scene whose store has the image `app`.
fn app() -> Scene {
    let scene = Scene::new(DOCKERFILE);
    scene.file("f", "from a file\n");
    scene.build(&["-t", "app"]);
    scene
}

#[test]
fn tags_lists_and_removals() {
    let scene = app();
    let id = scene
        .build(&["--iidfile", "iid", "--metadata-file", "meta.json", "-t", "app:2", "-t", "other/app"])
        .id()
        .to_owned();
    assert_eq!(scene.sandbox.read("iid").unwrap(), id);
    let meta: Value = serde_json::from_str(&scene.sandbox.read("meta.json").unwrap()).unwrap();
    assert_eq!(text(&meta["containerimage.config.digest"]), id);
    assert!(text(&meta["image.name"]).contains("docker.io/other/app:latest"), "{meta}");
    let listed = |words: &[&str]| scene.strake(words).stdout;
    let images = listed(&["images"]);
    for name in ["app", "other/app", "busybox"] {
        assert!(images.lines().any(|line| line.starts_with(name)), "{images}");
    }
    assert_eq!(listed(&["images", "--quiet", "--no-trunc", "app:2"]).trim(), id);
    scene.strake(&["tag", &id[7..19], "third:x"]);
    scene.strake(&["rmi", "app:2", "other/app", "app"]);
    assert!(!listed(&["images"]).contains("other/app"));
    assert_eq!(listed(&["run", "--network=none", "third:x"]), "from a file\n");
    scene.strake(&["rmi", "third:x"]);
    let gone = scene.sandbox.strake(["inspect", "third:x"]).finish().unwrap();
    assert_eq!(gone.code, 2, "{gone}");
    // What nobody names is given back, what is named stays.
    scene.strake(&["prune", "--all"]);
    assert_eq!(listed(&["run", "--network=none", "busybox", "echo", "still here"]), "still here\n");
    let usage: Value = serde_json::from_str(&listed(&["du", "--format=json"])).unwrap();
    assert!(usage["total"].as_u64().unwrap() > 1_000_000 && usage["unneeded"] == 0, "{usage}");
}

#[test]
fn inspect_and_history_tell_what_made_it() {
    let scene = app();
    let inspected: Value = serde_json::from_str(&scene.strake(&["inspect", "app"]).stdout).unwrap();
    let config = &inspected[0]["Config"];
    assert_eq!(config["WorkingDir"], "/w");
    assert_eq!(config["Cmd"], serde_json::json!(["cat", "f"]));
    assert!(config["Env"].as_array().unwrap().contains(&"GREETING=hello".into()));
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(), 4);
    let history: Value =
        serde_json::from_str(&scene.strake(&["history", "--format=json", "app"]).stdout).unwrap();
    let all = history.to_string();
    for instruction in ["CMD", "RUN /bin/sh -c echo made", "COPY f .", "WORKDIR /w", "ENV GREETING=hello"] {
        assert!(all.contains(instruction), "no {instruction}: {all}");
    }
}

#[test]
fn archives_go_round() {
    let scene = app();
    let id = scene.build(&[]).id().to_owned();
    for (format, file) in [("docker", "d.tar"), ("oci", "o.tar")] {
        scene.strake(&["save", "--format", format, "-o", file, "app"]);
        let elsewhere = Sandbox::new(crate::STRAKE).unwrap();
        let archive = scene.sandbox.path(file);
        elsewhere.strake(["load", "-i"]).arg(&archive).succeed().unwrap();
        assert_eq!(elsewhere.strake(["images", "-q", "--no-trunc"]).succeed().unwrap().stdout.trim(), id);
        let said = elsewhere.strake(["run", "--network=none", "app"]).succeed().unwrap();
        assert_eq!(said.stdout, "from a file\n");
        // Through standard input as well.
        let piped = Sandbox::new(crate::STRAKE).unwrap();
        piped.strake(["load", "--quiet"]).input(std::fs::read(&archive).unwrap()).succeed().unwrap();
        assert!(piped.strake(["images"]).succeed().unwrap().stdout.contains("app"));
    }
    let to_stdout = scene.sandbox.run("sh").args([
        "-c",
        "\"$0\" save app | tar -t | grep -c manifest.json",
        crate::STRAKE,
    ]);
    assert_eq!(to_stdout.succeed().unwrap().stdout.trim(), "1");
}

#[test]
fn an_import_is_an_image_to_build_on() {
    let sandbox = Sandbox::new(crate::STRAKE).unwrap();
    let tar = base_tar(Base::Busybox).unwrap();
    sandbox
        .strake(["import"])
        .arg(&tar)
        .args([
            "made:here",
            "--change",
            "CMD [\"echo\", \"imported\"]",
            "-c",
            "ENV PATH=/bin A=b",
            "-c",
            "USER app",
        ])
        .succeed()
        .unwrap();
    assert_eq!(
        sandbox.strake(["run", "--network=none", "made:here"]).succeed().unwrap().stdout,
        "imported\n"
    );
    sandbox.write("c/Dockerfile", "FROM made:here\nRUN echo $A $(id -un) > /tmp/said\n").unwrap();
    sandbox.strake(["build", "--network=none", "-o", "out", "c"]).succeed().unwrap();
    assert_eq!(sandbox.read("out/tmp/said").unwrap(), "b app\n");
    let wrong = sandbox.strake(["import"]).arg(&tar).args(["x", "-c", "RUN true"]).finish().unwrap();
    assert!(wrong.code == 2 && wrong.stderr.contains("RUN"), "{wrong}");
}

#[test]
fn run_as_people_run_things() {
    let scene = app();
    let run = |words: &[&str]| {
        let run = scene.sandbox.strake(["run", "--network=none"]).args(words);
        run.env("FROM_HERE", "given").finish().unwrap()
    };
    assert_eq!(run(&["app"]).stdout, "from a file\n");
    assert_eq!(run(&["app", "sh", "-c", "exit 42"]).code, 42);
    assert_eq!(run(&["app", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code, 137);
    assert_eq!(run(&["app", "/no/such"]).code, 127);
    assert_eq!(run(&["app", "/etc/passwd"]).code, 126);
    assert_eq!(
        run(&["-e", "A=1", "-e", "FROM_HERE", "app", "sh", "-c", "echo $A $FROM_HERE $GREETING"]).stdout,
        "1 given hello\n"
    );
    assert_eq!(run(&["-w", "/etc", "app", "pwd"]).stdout, "/etc\n");
    assert_eq!(run(&["-u", "app", "app", "id", "-un"]).stdout, "app\n");
    assert_eq!(run(&["-u", "7:8", "app", "sh", "-c", "echo $(id -u):$(id -g)"]).stdout, "7:8\n");
    assert_eq!(run(&["--entrypoint", "echo", "app", "x"]).stdout, "x\n");
    assert_eq!(run(&["--hostname", "named", "app", "hostname"]).stdout, "named\n");
    scene.sandbox.write("v/f", "in a volume").unwrap();
    assert_eq!(run(&["-v", "./v:/v:ro", "app", "cat", "/v/f"]).stdout, "in a volume");
    let refused = run(&["-v", "./v:/v:ro", "app", "touch", "/v/g"]);
    assert!(refused.code == 1 && refused.stderr.contains("Read-only"), "{refused}");
    run(&["-v", "./v:/v", "app", "sh", "-c", "echo new > /v/g; echo lost > /lost"]);
    assert_eq!(scene.sandbox.read("v/g").unwrap(), "new\n");
    // What is written elsewhere is dropped.
    assert_eq!(run(&["app", "cat", "/lost"]).code, 1);
    let piped = scene
        .sandbox
        .strake(["run", "-i", "--network=none", "app", "cat"])
        .input("through")
        .succeed()
        .unwrap();
    assert_eq!(piped.stdout, "through");
}

#[test]
fn run_with_a_terminal() {
    let scene = app();
    if program_on_path("script").is_none() {
        return lacking("script (package bsdutils)");
    }
    let command = format!("stty cols 91 rows 17; {} run -it --network=none app sh", crate::STRAKE);
    let script =
        scene.sandbox.run("script").args(["-q", "-e", "-c", &command, "/dev/null"]).env("TERM", "xterm");
    let finished = script.input("tty; stty size; exit 5\n").seconds(60).finish().unwrap();
    assert_eq!(finished.code, 5, "{finished}");
    assert!(finished.stdout.contains("/dev/pts/0") || finished.stdout.contains("/dev/console"), "{finished}");
    assert!(finished.stdout.contains("17 91"), "{finished}");
}

#[test]
fn a_private_authority_and_a_credential_helper() {
    let options = RegistryOptions { password: true, tls: true, ..RegistryOptions::default() };
    let Some(registry) = registry(options) else { return };
    let scene = app();
    let address = registry.address();
    let name = format!("{address}/private/app:1");
    scene.strake(&["tag", "app", &name]);
    let unknown = scene.sandbox.strake(["push", &name]).finish().unwrap();
    assert!(unknown.code == 3 && unknown.stderr.to_lowercase().contains("certificate"), "{unknown}");

    let certs = scene.sandbox.docker_config().join("certs.d").join(&address);
    std::fs::create_dir_all(&certs).unwrap();
    std::fs::copy(registry.authority(), certs.join("ca.crt")).unwrap();
    let refused = scene.sandbox.strake(["push", &name]).finish().unwrap();
    assert!(refused.code == 3 && !refused.stderr.contains("certificate"), "{refused}");

    // A helper on the search path, as docker's own are: `docker-credential-<name> get` with the host on stdin.
    let helper = scene.sandbox.write("bin/docker-credential-testing", "#!/bin/sh\nread host\n[ \"$1\" = get ] && echo \"{\\\"ServerURL\\\":\\\"$host\\\",\\\"Username\\\":\\\"strake\\\",\\\"Secret\\\":\\\"secret\\\"}\"\n").unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(r#"{{"credHelpers": {{"{address}": "testing"}}}}"#);
    std::fs::write(scene.sandbox.docker_config().join("config.json"), config).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", helper.parent().unwrap().display());
    scene.sandbox.strake(["push", &name]).env("PATH", &path).succeed().unwrap();
    scene.strake(&["rmi", &name]);
    scene.sandbox.strake(["pull", &name]).env("PATH", &path).succeed().unwrap();
    assert_eq!(scene.strake(&["run", "--network=none", &name]).stdout, "from a file\n");
}

#[test]
fn a_mirror_is_asked_first() {
    let Some(registry) = registry(RegistryOptions::default()) else { return };
    let scene = app();
    let pushed = format!("{}/library/mirrored:1", registry.address());
    scene.strake(&["tag", "app", &pushed]);
    scene.strake(&["push", &pushed]);
    let config = format!("[registry.\"docker.io\"]\nmirrors = [\"http://{}\"]\n", registry.address());
    let config = scene.sandbox.write("config.toml", config).unwrap();
    let elsewhere = Sandbox::new(crate::STRAKE).unwrap();
    let strake = |words: &[&str]| elsewhere.strake(words).env("STRAKE_CONFIG", &config).succeed().unwrap();
    strake(&["pull", "mirrored:1"]);
    assert_eq!(strake(&["run", "--network=none", "mirrored:1"]).stdout, "from a file\n");
    elsewhere.write("c/Dockerfile", "FROM mirrored:1\nRUN cat f > g\n").unwrap();
    strake(&["build", "--network=none", "c"]);
}

#[test]
fn pruning_keeps_what_an_image_can_be_fetched_by() {
    let Some(registry) = registry(RegistryOptions::default()) else { return };
    let scene = app();
    let pushed = format!("{}/app:1", registry.address());
    scene.strake(&["tag", "app", &pushed]);
    scene.strake(&["push", &pushed]);
    // Known by manifest and configuration alone: a label needs no layer.
    let elsewhere = Sandbox::new(crate::STRAKE).unwrap();
    let strake = |words: &[&str]| elsewhere.strake(words).succeed().unwrap();
    elsewhere.write("c/Dockerfile", format!("FROM {pushed}\nLABEL a=b\n")).unwrap();
    strake(&["build", "-t", "labelled", "c"]);
    strake(&["prune", "--all", "--force"]);
    assert_eq!(strake(&["run", "--network=none", "labelled"]).stdout, "from a file\n");
}

#[test]
fn what_the_registry_has_is_mounted_and_what_is_here_is_not_fetched() {
    let Some(registry) = registry(RegistryOptions::default()) else { return };
    let scene = app();
    let name = |repository: &str| format!("{}/{repository}:1", registry.address());
    scene.build(&["-t", &name("one"), "--push"]);
    let count = |log: &str, what: &str| log.lines().filter(|line| line.contains(what)).count();
    let before = registry.log();
    scene.build(&["-t", &name("two/deep"), "--push"]);
    let log = registry.log()[before.len()..].to_owned();
    // Mounted: nothing is sent but the manifest.
    assert_eq!(count(&log, "PATCH /v2/"), 0, "{log}");
    assert!(count(&log, "mount=") > 0, "{log}");

    scene.strake(&["pull", &name("one")]);
    let before = registry.log();
    scene.strake(&["pull", &name("one")]);
    scene.strake(&["pull", &name("two/deep")]);
    let log = registry.log()[before.len()..].to_owned();
    assert_eq!(count(&log, "GET /v2/one/blobs/") + count(&log, "GET /v2/two/deep/blobs/"), 0, "{log}");
}

/// The registry's disk holds something else than it says: it is found, said, and not used.
#[test]
fn wrong_content_in_a_registry_is_found() {
    let Some(registry) = registry(RegistryOptions::default()) else { return };
    let scene = app();
    let name = format!("{}/damaged:1", registry.address());
    scene.build(&["-t", &name, "--push"]);
    let mut damaged = 0;
    let blobs = registry.content().join("docker/registry/v2/blobs/sha256");
    for prefix in std::fs::read_dir(blobs).unwrap() {
        for blob in std::fs::read_dir(prefix.unwrap().path()).unwrap() {
            let path = blob.unwrap().path().join("data");
            let mut bytes = std::fs::read(&path).unwrap();
            // Layers only: they begin as gzip does. One bit in the middle, the size stays.
            if bytes.starts_with(&[0x1f, 0x8b]) {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
    let elsewhere = Sandbox::new(crate::STRAKE).unwrap();
    let failed = elsewhere.strake(["pull", &name]).seconds(120).finish().unwrap();
    assert!(failed.code == 3 && failed.stderr.contains("sha256:"), "{failed}");
    elsewhere.write("c/Dockerfile", format!("FROM {name}\nRUN true\n")).unwrap();
    let failed = elsewhere.strake(["build", "--network=none", "c"]).seconds(120).finish().unwrap();
    assert_eq!(failed.code, 3, "{failed}");
}

/// Contexts that are no directory: a Dockerfile or a tar on standard input, a git repository with ref and folder.
#[test]
fn contexts_of_all_kinds() {
    let scene = app();
    let build = |words: &[&str]| scene.sandbox.strake(["build", "--network=none", "-o", "out"]).args(words);
    let said = || scene.sandbox.read("out/said").unwrap();
    build(&["-"]).input("FROM busybox\nRUN echo stdin > /said\n").succeed().unwrap();
    assert_eq!(said(), "stdin\n");
    scene.sandbox.write("t/Dockerfile", "FROM busybox\nCOPY words /said\n").unwrap();
    scene.sandbox.write("t/words", "from a tar\n").unwrap();
    scene.sandbox.run("tar").args(["-C", "t", "-czf", "t.tgz", "."]).succeed().unwrap();
    build(&["-"]).input(std::fs::read(scene.sandbox.path("t.tgz")).unwrap()).succeed().unwrap();
    assert_eq!(said(), "from a tar\n");
    build(&["-f", "-", "t"])
        .input("FROM busybox\nCOPY words /said\nRUN echo more >> /said\n")
        .succeed()
        .unwrap();
    assert_eq!(said(), "from a tar\nmore\n");

    if program_on_path("git").is_none() {
        return lacking("git");
    }
    let script = "git init -q -b main r && cd r && git config user.email a@b && git config user.name n && mkdir sub \
        && printf 'FROM busybox\\nCOPY words /said\\n' > sub/Dockerfile && echo tagged > sub/words && git add . && git commit -qm 1 && git tag v1 \
        && echo newer > sub/words && git commit -qam 2 && echo uncommitted > sub/words";
    scene.sandbox.run("sh").args(["-c", script]).succeed().unwrap();
    let here = scene.sandbox.path("r");
    build(&[&format!("{}#v1:sub", here.display())]).succeed().unwrap();
    assert_eq!(said(), "tagged\n");
    build(&[&format!("file://{}#main:sub", here.display())]).succeed().unwrap();
    assert_eq!(said(), "newer\n");
    for bad in ["#nosuchref", "#v1:nosuchdir", "#v1:../..", "#--upload-pack=touch${IFS}/tmp/x"] {
        let failed = build(&[&format!("file://{}{bad}", here.display())]).finish().unwrap();
        assert_eq!(failed.code, 2, "{failed}");
    }
}
