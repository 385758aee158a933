//! Images against real registries and other people's tools.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use strake_engine::export::{self, Output, TreeOutput, Written};
use strake_engine::image::{
    self, CommitOptions, Dest, Force, ImageError, ImportOptions, PullPolicy, PushOptions, PushedImage,
    ResolvedImage,
};
use strake_engine::{Cancellation, Environment, StageOutput};
use strake_exec::{Cancel, Container, ExecError, Executor, ExitStatus, Io};
use strake_oci::{
    Compression, ContainerConfig, Digest, HistoryEntry, ImageConfig, ImageId, Platform, Reference,
};
use strake_registry::{Client, RegistryConfig};
use strake_store::{LayerId, Store, StoreOptions};
use strake_testkit::{Base, Builder, Dockerd, Registry, Run, base_tar, is_root, lacking, program_on_path};

/// Nothing here runs a container.
#[derive(Debug)]
struct NoExecutor;

impl Executor for NoExecutor {
    fn run(&self, _: &Container, _: Io<'_>, _: &Cancel) -> Result<ExitStatus, ExecError> {
        panic!("images need no container")
    }
}

/// A store of its own and what belongs to it.
struct Host {
    directory: tempfile::TempDir,
    store: Store,
    client: Client,
    cancellation: Cancellation,
}

const NO_NETWORK: Result<(), String> = Ok(());

impl Host {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("strake-image-").tempdir_in("/var/tmp").unwrap();
        let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
        let client = Client::new(RegistryConfig::default());
        Self { directory, store, client, cancellation: Cancellation::new() }
    }

    fn env(&self) -> Environment<'_> {
        Environment {
            store: &self.store,
            registry: &self.client,
            executor: &NoExecutor,
            events: &|_| {},
            cancellation: &self.cancellation,
            private_network: &NO_NETWORK,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn import(&self, tar: &[u8], names: &[Reference]) -> ImageId {
        let options = ImportOptions {
            names: names.to_vec(),
            platform: Platform::host(),
            created: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            comment: "a test".to_owned(),
            config: ContainerConfig { cmd: Some(vec!["/bin/sh".to_owned()]), ..ContainerConfig::default() },
        };
        image::import(&self.env(), tar, &options).unwrap()
    }

    fn push(&self, name: &Reference) -> PushedImage {
        image::push(&self.env(), name, &PushOptions::default()).unwrap()
    }

    fn pull(&self, name: &Reference) -> Result<ResolvedImage, ImageError> {
        image::pull(&self.env(), name, &Platform::host())
    }

    fn export(&self, images: &[(ImageId, Vec<Reference>)], output: &Output) -> Written {
        export::write(&self.env(), images, output).unwrap()
    }

    /// The text of a file of an image.
    fn read(&self, id: ImageId, path: &str) -> String {
        let layers = image::materialise(&self.env(), id).unwrap();
        let view = self.store.open_view(&layers).unwrap();
        let mut text = String::new();
        view.root().open_file(Path::new(path)).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// A layer that holds one file.
    fn layer(&self, name: &str, content: &[u8]) -> LayerId {
        let active = self.store.prepare_layer().unwrap();
        std::fs::write(active.upper().join(name), content).unwrap();
        self.store.snapshots().commit(active).unwrap()
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn of(registry: &Registry, name: &str) -> Reference {
    reference(&format!("{}/{name}", registry.address()))
}

/// A small tree with one of everything.
fn tree() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, mode: u32, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_600_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            builder.append_data(&mut header, name, content).unwrap();
        } else {
            builder.append_link(&mut header, name, link).unwrap();
        }
    };
    add(tar::EntryType::Directory, "etc", 0o755, "", b"");
    add(tar::EntryType::Regular, "etc/name", 0o640, "", b"strake\n");
    add(tar::EntryType::Symlink, "etc/link", 0o777, "name", b"");
    add(tar::EntryType::Symlink, "etc/out", 0o777, "/../../../../etc/passwd", b"");
    add(tar::EntryType::Link, "hard", 0o640, "etc/name", b"");
    add(tar::EntryType::Regular, "set-user", 0o4755, "", b"x");
    add(tar::EntryType::Regular, "big", 0o644, "", &b"0123456789abcdef".repeat(200_000));
    builder.into_inner().unwrap()
}

/// Whether this test can run; says what is missing otherwise.
fn ready(programs: &[&str]) -> bool {
    if !is_root() {
        lacking("root");
        return false;
    }
    for program in programs {
        if program_on_path(program).is_none() {
            lacking(program);
            return false;
        }
    }
    true
}

/// A stage that ends with these layers.
fn stage(layers: Vec<LayerId>, config: ImageConfig) -> StageOutput {
    StageOutput {
        name: "x".to_owned(),
        signature: Digest::of(b"").hex().parse().unwrap(),
        layers,
        annotations: std::collections::BTreeMap::new(),
        config,
    }
}

/// An image of [`tree`] that was pushed to a registry of its own.
struct Published {
    registry: Registry,
    here: Host,
    name: Reference,
    id: ImageId,
    pushed: PushedImage,
}

impl Published {
    /// `None`, after saying so, where one of `programs` or the registry is missing.
    fn new(programs: &[&str]) -> Option<Self> {
        if !ready(&["docker-registry"]) || !ready(programs) {
            return None;
        }
        let registry = Registry::start().unwrap();
        let here = Host::new();
        let name = of(&registry, "app:1");
        let id = here.import(&tree(), std::slice::from_ref(&name));
        let pushed = here.push(&name);
        Some(Self { registry, here, name, id, pushed })
    }
}

fn skopeo(args: &[&str]) -> String {
    Run::new("skopeo").args(args).succeed().unwrap().stdout
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let Some(Published { registry, here, name, id, pushed }) = Published::new(&["skopeo"]) else { return };
    let there = Host::new();
    assert_eq!((pushed.statistics.uploaded, pushed.statistics.existed), (2, 0));
    let again = here.push(&name);
    assert_eq!((again.statistics.uploaded, &again.descriptor), (0, &pushed.descriptor));

    let seen: Value =
        serde_json::from_str(&skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]))
            .unwrap();
    assert_eq!(seen["Digest"], pushed.descriptor.digest.to_string());

    // Known without a layer; unpacked when needed.
    let resolved = image::resolve(&there.env(), &name, &Platform::host(), PullPolicy::Missing).unwrap();
    assert_eq!(resolved.id, id);
    let layers = image::layers(&there.env(), id).unwrap();
    assert!(there.store.index().layer(&layers[0]).unwrap().is_none());
    assert_eq!(there.read(id, "etc/link"), "strake\n");
    assert!(there.store.index().layer(&layers[0]).unwrap().is_some());
    assert_eq!(there.store.blobs().list().unwrap().len(), 2, "manifest and configuration only");

    // What was pulled keeps its digest, and its blobs are mounted rather than sent.
    let other = of(&registry, "other/app:2");
    image::tag(&there.env(), &name.to_string(), &other).unwrap();
    let copied = there.push(&other);
    assert_eq!(copied.descriptor.digest, pushed.descriptor.digest);
    assert_eq!((copied.statistics.mounted, copied.statistics.uploaded), (2, 0));
}

#[test]
fn a_pulled_image_passes_from_one_registry_to_another() {
    let Some(Published { name, pushed, registry: _one, .. }) = Published::new(&[]) else { return };
    let (two, there) = (Registry::start().unwrap(), Host::new());
    image::resolve(&there.env(), &name, &Platform::host(), PullPolicy::Always).unwrap();
    let target = of(&two, "app:1");
    image::tag(&there.env(), &name.to_string(), &target).unwrap();
    let copied = there.push(&target);
    assert_eq!(copied.descriptor.digest, pushed.descriptor.digest);
    assert_eq!(copied.statistics.uploaded, 2);
}

#[test]
fn images_of_other_builders_are_understood() {
    if !ready(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = Registry::start().unwrap();
    let here = Host::new();
    let name = reference("local/app:1");
    let id = here.import(&tree(), std::slice::from_ref(&name));
    let archive = here.path("app.tar");
    let output = Output::Docker { dest: Dest::File(archive.clone()) };
    here.export(&[(id, vec![name])], &output);
    let source = format!("docker-archive:{}", archive.display());
    let forms: [(&str, &[&str]); 3] = [
        ("schema2", &["--format", "v2s2"]),
        ("oci", &["--format", "oci"]),
        ("zstd", &["--format", "oci", "--dest-compress-format", "zstd"]),
    ];
    for (tag, options) in forms {
        let target = format!("docker://{}/app:{tag}", registry.address());
        let mut args = vec!["copy", "--dest-tls-verify=false"];
        args.extend(options);
        args.extend([source.as_str(), target.as_str()]);
        skopeo(&args);
        let there = Host::new();
        let pulled = there.pull(&of(&registry, &format!("app:{tag}")));
        assert_eq!(there.read(pulled.unwrap().id, "hard"), "strake\n", "{tag}");
    }
}

#[test]
fn a_platform_that_is_not_there_is_told_from_those_that_are() {
    let Some(Published { registry, here, pushed, .. }) = Published::new(&[]) else { return };
    let mut entry = pushed.descriptor.clone();
    entry.platform = Some(Platform::host());
    let index = strake_oci::ImageIndex::oci(vec![entry]);
    let many = of(&registry, "app:many");
    here.client.push_manifest(&many, &index.media_type.clone().unwrap(), &index.to_bytes()).unwrap();

    let there = Host::new();
    let found = image::resolve(&there.env(), &many, &Platform::host(), PullPolicy::Missing).unwrap();
    assert_eq!(found.manifest.unwrap().digest, pushed.descriptor.digest);
    let error =
        image::resolve(&there.env(), &many, &Platform::linux("s390x"), PullPolicy::Missing).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("linux/s390x") && text.contains(&Platform::host().to_string()), "{text}");
    let error =
        image::resolve(&there.env(), &of(&registry, "app:none"), &Platform::host(), PullPolicy::Missing);
    assert!(matches!(error, Err(ImageError::NotFound { .. })));
    let error = image::resolve(&there.env(), &of(&registry, "b"), &Platform::host(), PullPolicy::Never);
    assert!(matches!(error, Err(ImageError::NotFound { .. })));
}

#[test]
fn outputs_are_read_by_skopeo_umoci_podman_and_docker() {
    if !ready(&["skopeo", "umoci", "podman"]) {
        return;
    }
    let here = Host::new();
    let name = reference("example.test/strake/app:1");
    let busybox = std::fs::read(base_tar(Base::Busybox).unwrap()).unwrap();
    let id = here.import(&busybox, std::slice::from_ref(&name));
    let images = [(id, vec![name.clone()])];
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let layout = here.path(&format!("layout-{compression:?}"));
        let output = Output::OciDirectory { dest: layout.clone(), compression };
        here.export(&images, &output);
        let copy = format!("oci:{}:copy", here.path("copy").display());
        skopeo(&["copy", &format!("oci:{}:1", layout.display()), &copy]);
        let archive = here.path("layout.tar");
        here.export(&images, &Output::Oci { dest: Dest::File(archive.clone()), compression });
        let raw = skopeo(&["inspect", "--config", "--raw", &format!("oci-archive:{}", archive.display())]);
        assert_eq!(ImageId(Digest::of(raw.as_bytes())), id);
    }
    let bundle = here.path("bundle");
    let layout = here.path("layout-Gzip");
    Run::new("umoci")
        .args(["unpack", "--image", &format!("{}:1", layout.display())])
        .arg(&bundle)
        .succeed()
        .unwrap();
    assert!(bundle.join("rootfs/bin/busybox").exists());

    let archive = here.path("docker.tar");
    here.export(&images, &Output::Docker { dest: Dest::File(archive.clone()) });
    skopeo(&["inspect", &format!("docker-archive:{}", archive.display())]);
    run_with_podman(&here, &archive);
    run_with_docker(&archive, &name);
}

fn run_with_podman(here: &Host, archive: &Path) {
    let root = here.path("podman");
    let podman = || {
        let run = here.path("podman-run");
        let options = ["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap()];
        Run::new("podman").env("HOME", here.path("home")).args(options).args(["--storage-driver", "vfs"])
    };
    podman().args(["load", "--input"]).arg(archive).succeed().unwrap();
    let listed = podman().args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).succeed().unwrap();
    assert!(listed.stdout.contains("example.test/strake/app:1"), "{listed}");
    podman().args(["rmi", "--all"]).succeed().unwrap();
}

fn run_with_docker(archive: &Path, name: &Reference) {
    let dockerd = match Dockerd::shared() {
        Ok(dockerd) => dockerd,
        Err(failure) => return lacking(&failure.to_string()),
    };
    dockerd.load(archive).unwrap();
    let client = || dockerd.client(Builder::Classic);
    let ran = client()
        .args(["run", "--rm", "--network=none", &name.to_string(), "/bin/echo", "it runs"])
        .succeed()
        .unwrap();
    assert_eq!(ran.stdout, "it runs\n");
    client().args(["rmi", &name.to_string()]).succeed().unwrap();
}

#[test]
fn what_was_saved_is_loaded_as_the_same_image() {
    if !ready(&["skopeo"]) {
        return;
    }
    let here = Host::new();
    let names = [reference("a/one:1"), reference("a/two:1")];
    let one = here.import(&tree(), &names[..1]);
    let two = here.import(&tree()[..1024 + 512], &names[1..]);
    let images = [(one, vec![names[0].clone()]), (two, vec![names[1].clone()])];
    let docker = here.path("docker.tar");
    here.export(&images, &Output::Docker { dest: Dest::File(docker.clone()) });
    let oci = here.path("oci.tar");
    let output = Output::Oci { dest: Dest::File(oci.clone()), compression: Compression::Gzip };
    here.export(&images, &output);
    let layout = here.path("layout");
    let output = Output::OciDirectory { dest: layout.clone(), compression: Compression::Zstd };
    here.export(&images, &output);
    Run::new("gzip").arg("--keep").arg(&docker).succeed().unwrap();
    for path in [docker.clone(), oci, layout, here.path("docker.tar.gz")] {
        let there = Host::new();
        let mut loaded = image::load(&there.env(), &path).unwrap();
        loaded.sort_by_key(|loaded| loaded.names.clone());
        assert_eq!(
            loaded.iter().map(|loaded| loaded.id).collect::<Vec<_>>(),
            [one, two],
            "{}",
            path.display()
        );
        assert_eq!(there.read(one, "hard"), "strake\n");
        // And once more, out of the store that only loaded it: byte for byte.
        let again = there.path("again.tar");
        let output = Output::Docker { dest: Dest::File(again.clone()) };
        there.export(&images, &output);
        assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&docker).unwrap());
    }
    let there = Host::new();
    let stream = std::fs::File::open(&docker).unwrap();
    assert_eq!(image::load_stream(&there.env(), stream).unwrap().len(), 2);
}

#[test]
fn hostile_archives_are_refused_with_a_reason() {
    if !ready(&[]) {
        return;
    }
    let config = json!({
        "architecture": Platform::host().architecture, "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"another tar").to_string()] },
    });
    let manifest =
        |config: &str, layers: Value| json!([{ "Config": config, "RepoTags": ["a:1"], "Layers": layers }]);
    let check = |files: &[(&str, Vec<u8>)], expect: &str| {
        let host = Host::new();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            // Not `append_data`, which would refuse the names that are to be tried.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_slice()).unwrap();
        }
        let path = host.path("archive.tar");
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        let error = image::load(&host.env(), &path).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
        assert_eq!(image::list(&host.env()).unwrap(), [], "nothing is named");
    };
    let bytes = |value: &Value| value.to_string().into_bytes();
    check(&[("file", b"x".to_vec())], "neither index.json");
    check(&[("../../etc/passwd", b"x".to_vec())], "leads out");
    check(&[("manifest.json", b"{".to_vec())], "manifest.json");
    check(&[("manifest.json", bytes(&manifest("c.json", json!([]))))], "no file c.json");
    check(
        &[("manifest.json", bytes(&manifest("../c.json", json!([])))), ("c.json", bytes(&config))],
        "leads out",
    );
    check(
        &[("manifest.json", bytes(&manifest("c.json", json!([])))), ("c.json", bytes(&config))],
        "has 1 layers, but manifest.json names 0",
    );
    check(
        &[
            ("manifest.json", bytes(&manifest("c.json", json!(["l.tar"])))),
            ("c.json", bytes(&config)),
            ("l.tar", tree()),
        ],
        "but the configuration says",
    );
    let wrong = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(b"a").to_string(), "size": 1 }] });
    let blob = format!("blobs/sha256/{}", Digest::of(b"a").hex());
    check(
        &[("oci-layout", b"{}".to_vec()), ("index.json", bytes(&wrong)), (&blob, b"b".to_vec())],
        "has the digest",
    );
    check(&[("oci-layout", b"{}".to_vec()), ("index.json", bytes(&wrong))], "there is no file");
}

#[test]
fn files_are_written_over_a_directory_without_following_its_links() {
    if !ready(&[]) {
        return;
    }
    let here = Host::new();
    let id = here.import(&tree(), &[]);
    let (dest, victim) = (here.path("out"), here.path("victim"));
    std::fs::create_dir_all(&dest).unwrap();
    std::fs::create_dir_all(&victim).unwrap();
    std::fs::write(victim.join("name"), "untouched").unwrap();
    std::os::unix::fs::symlink(&victim, dest.join("etc")).unwrap();
    std::os::unix::fs::symlink(victim.join("name"), dest.join("hard")).unwrap();
    std::fs::write(dest.join("mine"), "stays").unwrap();
    let output = Output::Tree(TreeOutput::Local(dest.clone()));
    let written = here.export(&[(id, Vec::new())], &output);
    assert_eq!(std::fs::read_to_string(victim.join("name")).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(dest.join("etc/name")).unwrap(), "strake\n");
    assert_eq!(std::fs::read_to_string(dest.join("hard")).unwrap(), "strake\n");
    assert_eq!(std::fs::read_to_string(dest.join("mine")).unwrap(), "stays");
    let metadata = std::fs::metadata(dest.join("set-user")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777, 0o755);
    assert!(written.notes.iter().any(|note| note.starts_with("/set-user")), "{:?}", written.notes);

    // A directory of the caller is not removed for a file.
    let error = {
        std::fs::remove_file(dest.join("hard")).unwrap();
        std::fs::create_dir_all(dest.join("hard/x")).unwrap();
        export::write(&here.env(), &[(id, Vec::new())], &output).unwrap_err()
    };
    assert!(error.to_string().contains("directory of this name"), "{error}");

    let archive = here.path("tree.tar");
    let output = Output::Tree(TreeOutput::Tar(Dest::File(archive.clone())));
    here.export(&[(id, Vec::new())], &output);
    let listed = Run::new("tar").arg("tf").arg(&archive).succeed().unwrap();
    assert!(listed.stdout.lines().any(|line| line.trim_start_matches("./") == "etc/name"), "{listed}");
}

#[test]
fn a_stage_becomes_the_same_image_every_time() {
    if !ready(&[]) {
        return;
    }
    let commit = |epoch: Option<i64>, entries: usize| {
        let host = Host::new();
        let layers = vec![host.layer("a", b"one"), host.layer("b", b"two")];
        let mut config = ImageConfig::empty(&Platform::host());
        config.history = (0..entries)
            .map(|_| HistoryEntry { created_by: Some("RUN x".to_owned()), ..HistoryEntry::default() })
            .collect();
        let stage = stage(layers, config);
        let options = CommitOptions { created: SystemTime::now(), source_date_epoch: epoch };
        let name = reference("a/stage:1");
        let id = image::commit_stage(&host.env(), &stage, std::slice::from_ref(&name), &options)?;
        let again = image::commit_stage(&host.env(), &stage, &[name], &options)?;
        assert!(epoch.is_none() || id == again);
        let rows = image::history(&host.env(), "a/stage:1")?;
        assert_eq!((rows.len(), rows[0].id), (2, Some(again)));
        assert_eq!(image::inspect(&host.env(), &again.0.hex()[..12])?["Id"], again.to_string());
        Ok::<_, ImageError>(id)
    };
    assert_eq!(commit(Some(1_000), 2).unwrap(), commit(Some(1_000), 2).unwrap());
    assert_ne!(commit(Some(1_000), 2).unwrap(), commit(Some(2_000), 2).unwrap());
    assert!(commit(None, 3).unwrap_err().to_string().contains("history"));
}

#[test]
fn names_come_and_go() {
    if !ready(&[]) {
        return;
    }
    let here = Host::new();
    let (one, two) = (reference("a:1"), reference("b:2"));
    let id = here.import(&tree(), std::slice::from_ref(&one));
    image::tag(&here.env(), "a:1", &two).unwrap();
    let listed = image::list(&here.env()).unwrap();
    assert_eq!((listed.len(), listed[0].names.as_slice()), (1, &["a:1".to_owned(), "b:2".to_owned()][..]));
    assert!(listed[0].size.unwrap() > 3_000_000);
    let short = &id.0.hex()[..8];
    assert!(matches!(image::remove(&here.env(), short, Force::No), Err(ImageError::Usage(_))));
    let removed = image::remove(&here.env(), "a:1", Force::No).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (1, None));
    let removed = image::remove(&here.env(), short, Force::No).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (1, Some(id)));
    assert!(matches!(image::find(&here.env(), "a:1"), Err(ImageError::NotFound { .. })));
}

#[test]
fn several_that_pull_at_once_unpack_each_layer_once() {
    if !ready(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start().unwrap();
    let here = Host::new();
    let name = of(&registry, "app:1");
    let layers: Vec<_> =
        (0..5u8).map(|number| here.layer(&format!("f{number}"), &[number; 100_000])).collect();
    let stage = stage(layers, ImageConfig::empty(&Platform::host()));
    let options = CommitOptions { created: SystemTime::now(), source_date_epoch: None };
    let id = image::commit_stage(&here.env(), &stage, std::slice::from_ref(&name), &options).unwrap();
    here.push(&name);
    let there = Host::new();
    let pull = || {
        // A handle of its own, as another process would have.
        let store = Store::open(there.store.root(), &StoreOptions::default()).unwrap();
        let env = Environment { store: &store, ..there.env() };
        image::pull(&env, &name, &Platform::host()).unwrap().id
    };
    let ids = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(pull)).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(ids, [id; 4]);
    let view = there.store.open_view(&image::layers(&there.env(), id).unwrap()).unwrap();
    assert_eq!(view.root().read_bounded(Path::new("f4"), 1 << 20).unwrap(), [4; 100_000]);
}

#[test]
fn a_damaged_registry_is_noticed_and_nothing_stays() {
    let Some(Published { registry, here, name, pushed, .. }) = Published::new(&[]) else { return };
    let manifest = here.store.blobs().read_verified(&pushed.descriptor.digest, 1 << 20).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let blob =
        registry.content().join(format!("docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]));
    let whole = std::fs::read(&blob).unwrap();
    let there = Host::new();
    for damage in [&whole[..whole.len() / 2], &[&whole[..100], &[0; 50], &whole[150..]].concat()] {
        std::fs::write(&blob, damage).unwrap();
        there.pull(&name).unwrap_err();
    }
    std::fs::write(&blob, &whole).unwrap();
    let pulled = there.pull(&name).unwrap();
    assert_eq!(there.read(pulled.id, "etc/name"), "strake\n");
}
