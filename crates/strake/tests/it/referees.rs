//! Other programs read what strake writes, and strake reads what they write.

use strake_testkit::{
    Base, Builder, Dockerd, ImageArchive, Registry, RegistryOptions, Run, Sandbox, Tree, lacking,
    program_on_path,
};

use crate::{STRAKE, for_both_users};

/// A little of everything an image can hold; `/answer` prints a line.
const DOCKERFILE: &str = "FROM busybox\nENV WHO=world\nWORKDIR /w\nCOPY f d/\n\
    RUN ln -s f d/link && ln d/f d/hard && chown app:staff d/f && chmod 2750 d && rm /etc/group && mkfifo p\n\
    RUN rm -r /home && mkdir /home && echo 'echo hello $WHO' > /answer\n\
    CMD [\"sh\", \"/answer\"]\n";

fn built(sandbox: &Sandbox, arguments: &[&str]) {
    sandbox.write("c/Dockerfile", DOCKERFILE).unwrap();
    sandbox.write("c/f", "content").unwrap();
    sandbox
        .strake(["build", "--progress=plain", "--network=none"])
        .args(arguments)
        .arg("c")
        .succeed()
        .unwrap();
}

fn has(program: &str) -> bool {
    let found = program_on_path(program).is_some();
    if !found {
        lacking(program);
    }
    found
}

#[test]
fn every_output_holds_the_same_files() {
    for_both_users(|sandbox| {
        built(
            sandbox,
            &[
                "-o",
                "type=oci,dest=oci.tar",
                "-o",
                "type=docker,dest=docker.tar",
                "-o",
                "type=tar,dest=fs.tar",
            ],
        );
        let oci = ImageArchive::read(&sandbox.path("oci.tar")).unwrap().only().unwrap();
        let docker = ImageArchive::read(&sandbox.path("docker.tar")).unwrap().only().unwrap();
        let tar = Tree::of_tar(&std::fs::read(sandbox.path("fs.tar")).unwrap()).unwrap();
        assert_eq!(oci.tree.differences(&docker.tree), []);
        assert_eq!(oci.config, docker.config);
        let mut files = oci.tree;
        // The root folder itself need not be an entry of an archive.
        files.nodes.remove("");
        let mut tar = tar;
        tar.nodes.remove("");
        assert_eq!(files.differences(&tar), []);
    });
}

#[test]
fn a_local_output_is_the_file_system() {
    let sandbox = Sandbox::new(STRAKE).unwrap();
    sandbox.load_base(Base::Busybox, "busybox").unwrap();
    built(&sandbox, &["-o", "type=oci,dest=oci.tar", "-o", "type=local,dest=out"]);
    let mut image = ImageArchive::read(&sandbox.path("oci.tar")).unwrap().only().unwrap().tree;
    let mut local = Tree::of_directory(&sandbox.path("out")).unwrap();
    image.nodes.remove("");
    local.nodes.remove("");
    if strake_testkit::is_root() {
        // As with docker's local output the files are the caller's, whoever owns them in the image; names of one
        // file become files of their own.
        for node in image.nodes.values_mut() {
            (node.uid, node.gid) = (0, 0);
            node.hard_links.clear();
        }
        assert_eq!(image.differences(&local), []);
    } else {
        assert_eq!(image.nodes.keys().collect::<Vec<_>>(), local.nodes.keys().collect::<Vec<_>>());
    }
}

#[test]
fn umoci_unpacks_what_strake_writes() {
    if !has("umoci") || !strake_testkit::is_root() {
        return lacking("root and umoci");
    }
    for_both_users(|sandbox| {
        built(sandbox, &["-t", "u:1", "-o", "type=oci,dest=oci.tar"]);
        sandbox.run("mkdir").arg("layout").succeed().unwrap();
        sandbox.run("tar").args(["-C", "layout", "-xf", "oci.tar"]).succeed().unwrap();
        // By skopeo, because umoci wants a tag and an archive need not have one.
        sandbox
            .run("skopeo")
            .args(["copy", "--insecure-policy", "oci:layout", "oci:named:x"])
            .succeed()
            .unwrap();
        let unpack = strake_testkit::Run::new("umoci").directory(&sandbox.work());
        unpack.args(["unpack", "--image", "named:x", "bundle"]).succeed().unwrap();
        let image = ImageArchive::read(&sandbox.path("oci.tar")).unwrap().only().unwrap().tree;
        let unpacked = Tree::of_directory(&sandbox.path("bundle/rootfs")).unwrap();
        let differences = image.differences(&unpacked);
        let differences: Vec<_> =
            differences.iter().filter(|difference| !difference.path.is_empty()).collect();
        assert!(differences.is_empty(), "{differences:?}");
    });
}

#[test]
fn docker_loads_and_runs_what_strake_writes() {
    let docker = match Dockerd::shared() {
        Ok(docker) => docker,
        Err(failure) => return lacking(&failure.to_string()),
    };
    for_both_users(|sandbox| {
        built(sandbox, &["-t", "loaded-by-docker:1", "-o", "type=docker,dest=docker.tar"]);
        docker.load(&sandbox.path("docker.tar")).unwrap();
        let client = || docker.client(Builder::Classic);
        let printed =
            client().args(["run", "--rm", "--network=none", "loaded-by-docker:1"]).succeed().unwrap();
        assert_eq!(printed.stdout, "hello world\n");
        // And back: what docker saves, strake loads and runs.
        let saved = sandbox.path("saved.tar");
        client().args(["save", "--output"]).arg(&saved).arg("loaded-by-docker:1").succeed().unwrap();
        sandbox.run("chmod").arg("644").arg(&saved).finish().unwrap();
        strake_testkit::Run::new("chmod").arg("644").arg(&saved).succeed().unwrap();
        sandbox.strake(["rmi", "--force", "loaded-by-docker:1"]).succeed().unwrap();
        sandbox.strake(["load", "--input"]).arg(&saved).succeed().unwrap();
        let printed = sandbox.strake(["run", "--network=none", "loaded-by-docker:1"]).succeed().unwrap();
        assert_eq!(printed.stdout, "hello world\n");
        client().args(["rmi", "--force", "loaded-by-docker:1"]).succeed().unwrap();
    });
}

#[test]
fn skopeo_reads_what_strake_pushes() {
    if !has("skopeo") || !has("docker-registry") {
        return;
    }
    for_both_users(|sandbox| {
        let registry = Registry::start().unwrap();
        let name = format!("{}/team/app:1", registry.address());
        built(sandbox, &["-t", &name, "--push", "-o", "type=oci,dest=oci.tar"]);
        let skopeo = |words: &[&str]| sandbox.run("skopeo").args(words).succeed().unwrap();
        let inspected = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
        assert!(inspected.stdout.contains("WHO=world"), "{inspected}");
        skopeo(&[
            "copy",
            "--insecure-policy",
            "--src-tls-verify=false",
            &format!("docker://{name}"),
            "oci-archive:copied.tar",
        ]);
        let ours = ImageArchive::read(&sandbox.path("oci.tar")).unwrap().only().unwrap();
        let copied = ImageArchive::read(&sandbox.path("copied.tar")).unwrap().only().unwrap();
        assert_eq!(ours.tree.differences(&copied.tree), []);
        assert_eq!(ours.config, copied.config);
    });
}

#[test]
fn strake_pulls_what_skopeo_and_docker_push() {
    let docker = match Dockerd::shared() {
        Ok(docker) => docker,
        Err(failure) => return lacking(&failure.to_string()),
    };
    if !has("skopeo") || !has("docker-registry") {
        return;
    }
    for_both_users(|sandbox| {
        let registry = Registry::start().unwrap();
        let archive = sandbox.base_archive(Base::Busybox, "pushed-by-docker").unwrap();
        let by_skopeo = format!("{}/by/skopeo:1", registry.address());
        let copy = ["copy", "--insecure-policy", "--dest-tls-verify=false"];
        let source = format!("docker-archive:{}", archive.display());
        for format in ["oci", "v2s2"] {
            sandbox
                .run("skopeo")
                .args(copy)
                .args(["--format", format, &source, &format!("docker://{by_skopeo}-{format}")])
                .succeed()
                .unwrap();
        }
        let by_docker = format!("{}/by/docker:1", registry.address());
        docker.load(&archive).unwrap();
        for words in [
            vec!["tag", "pushed-by-docker:latest", &by_docker],
            vec!["push", &by_docker],
            vec!["rmi", &by_docker],
        ] {
            docker.client(Builder::Classic).args(words).succeed().unwrap();
        }
        for name in [format!("{by_skopeo}-oci"), format!("{by_skopeo}-v2s2"), by_docker] {
            sandbox.strake(["pull", &name]).succeed().unwrap();
            let printed =
                sandbox.strake(["run", "--network=none", &name, "echo", "pulled"]).succeed().unwrap();
            assert_eq!(printed.stdout, "pulled\n");
        }
    });
}

#[test]
fn docker_pulls_and_runs_what_strake_pushes() {
    let docker = match Dockerd::shared() {
        Ok(docker) => docker,
        Err(failure) => return lacking(&failure.to_string()),
    };
    if !has("docker-registry") {
        return;
    }
    for_both_users(|sandbox| {
        let registry = Registry::start().unwrap();
        let name = |tag: &str| format!("{}/team/app:{tag}", registry.address());
        let client = |words: &[&str]| docker.client(Builder::Classic).args(words).succeed().unwrap();
        built(sandbox, &["-t", &name("1"), "--push", "-o", "type=oci,dest=ours.tar"]);
        client(&["pull", &name("1")]);
        let printed = client(&["run", "--rm", "--network=none", &name("1")]);
        assert_eq!(printed.stdout, "hello world\n");
        // And back, by the registry alone: docker commits what a container of it changed, pushes, and removes it.
        let container = format!("strake-{}", registry.address().replace(':', "-"));
        let change = "rm -r /w/d; echo 'echo changed by docker' > /answer";
        client(&["run", "--network=none", "--name", &container, &name("1"), "sh", "-c", change]);
        client(&["commit", "--change=CMD [\"sh\", \"/answer\"]", &container, &name("2")]);
        client(&["push", &name("2")]);
        client(&["rm", &container]);
        client(&["rmi", "--force", &name("1"), &name("2")]);
        sandbox.strake(["rmi", "--force", &name("1")]).succeed().unwrap();
        sandbox.strake(["pull", &name("2")]).succeed().unwrap();
        let printed = sandbox.strake(["run", "--network=none", &name("2")]).succeed().unwrap();
        assert_eq!(printed.stdout, "changed by docker\n");
        let listed = sandbox.strake(["run", "--network=none", &name("2"), "ls", "/w"]).succeed().unwrap();
        assert_eq!(listed.stdout, "p\n");
    });
}

/// podman with a store of its own, which is removed when this is dropped. It needs root.
pub(crate) struct Podman {
    store: tempfile::TempDir,
}

impl Podman {
    pub(crate) fn new() -> Self {
        Self { store: tempfile::Builder::new().prefix("strake-podman-").tempdir_in("/var/tmp").unwrap() }
    }

    /// podman with these words.
    pub(crate) fn run(&self, words: &[&str]) -> Run {
        let store = self.store.path();
        let run =
            Run::new("podman").arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        let run = run.args(["--storage-driver=overlay", "--runtime=runc", "--cgroup-manager=cgroupfs"]);
        run.args(["--events-backend=file"]).args(words).env("HOME", store)
    }

    /// An image's command in a container without a network.
    pub(crate) fn command(&self, image: &str) -> Run {
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        self.run(&["run", "--rm", "--network=none"]).args(limits).arg(image)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What these leave behind lies in /var/tmp under a telling name.
        drop(self.run(&["rmi", "--all", "--force"]).finish());
        drop(Run::new("umount").arg("--lazy").arg(self.store.path().join("root/overlay")).finish());
    }
}

#[test]
fn podman_runs_what_strake_writes() {
    if !has("podman") || !strake_testkit::is_root() {
        return lacking("root and podman");
    }
    for_both_users(|sandbox| {
        built(sandbox, &["-t", "run-by-podman:1", "-o", "type=oci,dest=oci.tar"]);
        let podman = Podman::new();
        let loaded =
            podman.run(&["load", "--quiet", "--input"]).arg(sandbox.path("oci.tar")).succeed().unwrap();
        let image = loaded.stdout.trim().rsplit(' ').next().unwrap().to_owned();
        let printed = podman.command(&image).finish().unwrap();
        assert_eq!(printed.stdout, "hello world\n", "{printed}");
    });
}

#[test]
fn nothing_is_pushed_twice() {
    if !has("docker-registry") {
        return;
    }
    for_both_users(|sandbox| {
        let registry = Registry::start().unwrap();
        let name = format!("{}/twice:1", registry.address());
        built(sandbox, &["-t", &name, "--push"]);
        let uploads = || registry.log().matches("/blobs/uploads/").count();
        let first = uploads();
        assert!(first > 0, "no upload in the registry's log");
        sandbox.strake(["push", &name]).succeed().unwrap();
        assert_eq!(uploads(), first, "a second push uploaded something");
    });
}

#[test]
fn a_registry_that_asks_for_a_password_gets_it() {
    if !has("docker-registry") {
        return;
    }
    for_both_users(|sandbox| {
        let registry =
            Registry::start_with(RegistryOptions { password: true, ..RegistryOptions::default() }).unwrap();
        let name = format!("{}/private:1", registry.address());
        built(sandbox, &["-t", &name]);
        let refused = sandbox.strake(["push", &name]).finish().unwrap();
        assert_eq!(refused.code, 3, "{refused}");
        // base64 of strake:secret
        let config =
            format!(r#"{{"auths": {{"{}": {{"auth": "c3RyYWtlOnNlY3JldA=="}}}}}}"#, registry.address());
        std::fs::write(sandbox.docker_config().join("config.json"), config).unwrap();
        sandbox.strake(["push", &name]).succeed().unwrap();
        sandbox.strake(["rmi", "--force", &name]).succeed().unwrap();
        sandbox.strake(["pull", &name]).succeed().unwrap();
    });
}
