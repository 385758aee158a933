//! `examples/symfony-like`, commit by commit: a real application with npm's packages, of which after every commit
//! the image has the files, only the named stages ran, and in the end the page is served.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use strake_testkit::{Base, Entry, Kind, Tree, base_tar, is_root, lacking, program_on_path};

use crate::dimg_scene::{Project, rows};
use crate::referees::Podman;
use crate::scene::Started;

const ARCHIVE: &str = "Git artifacts: create archive";
const BEFORE_INSTALL_PATCH: &str = "Git artifacts: apply patches (before install)";
const INSTALL: &str = "Install";
const AFTER_INSTALL_PATCH: &str = "Git artifacts: apply patches (after install)";
const AFTER_INSTALL_IMPORT: &str = "After install artifact";
const BEFORE_SETUP_IMPORT: &str = "Before setup artifact";
const BEFORE_SETUP_PATCH: &str = "Git artifacts: apply patches (before setup)";
const AFTER_SETUP_PATCH: &str = "Git artifacts: apply patches (after setup)";
const LATEST: &str = "Git artifacts: latest patch";
const DOCKER: &str = "Docker instructions";
const ARTIFACT_PATCH: &str = "Git artifacts: artifact patch";
const BUILD_ARTIFACT: &str = "Build artifact";

/// The conveyor of the image, less the latest patch, which only small changes have.
const IMAGE: [&str; 14] = [
    "From",
    "Before install",
    ARCHIVE,
    BEFORE_INSTALL_PATCH,
    INSTALL,
    AFTER_INSTALL_PATCH,
    AFTER_INSTALL_IMPORT,
    "Before setup",
    BEFORE_SETUP_IMPORT,
    BEFORE_SETUP_PATCH,
    "Setup",
    AFTER_SETUP_PATCH,
    "After setup artifact",
    DOCKER,
];

/// The conveyor of the artifact that npm works in.
const ASSETS: [&str; 6] = ["From", ARCHIVE, BEFORE_INSTALL_PATCH, INSTALL, ARTIFACT_PATCH, BUILD_ARTIFACT];

/// The stages of the image from this one on: what is built when this one has to be.
fn from(title: &str) -> Vec<&'static str> {
    let first = IMAGE.iter().position(|stage| *stage == title).unwrap();
    IMAGE[first..].to_vec()
}

/// The stages that were assembled, in order.
#[derive(Debug, Default, PartialEq)]
struct Ran {
    image: Vec<String>,
    assets: Vec<String>,
    translations: Vec<String>,
}

impl Ran {
    fn image(titles: &[&str]) -> Self {
        Self { image: titles.iter().map(|title| (*title).to_owned()).collect(), ..Self::default() }
    }

    fn assets(self, titles: &[&str]) -> Self {
        Self { assets: Self::image(titles).image, ..self }
    }

    fn translations(self, titles: &[&str]) -> Self {
        Self { translations: Self::image(titles).image, ..self }
    }

    /// What the rows of a build say.
    fn of(printed: &str) -> Self {
        let mut ran = Self::default();
        let mut artifact = None;
        for (title, state) in rows(printed) {
            if let Some(name) = title.strip_prefix("building artifact ") {
                artifact = (state == "[RUNNING]").then(|| name.to_owned());
            } else if title.starts_with("copying artifact ") {
                // Part of the stage whose row follows.
            } else if state.starts_with("[OK]") {
                let title = title.trim_end_matches(" ...").to_owned();
                match artifact.as_deref() {
                    None => ran.image.push(title),
                    Some("assets") => ran.assets.push(title),
                    Some("translations") => ran.translations.push(title),
                    Some(other) => panic!("an artifact {other}: {printed}"),
                }
            }
        }
        ran
    }
}

/// The example in a repository of its own.
struct Replay {
    project: Project,
    /// What the base image has where the second mapping puts its file.
    base: Tree,
    /// Kept between test runs, so that only the first one on a machine downloads packages.
    build_dir: PathBuf,
    /// How often npm said that it installed packages.
    npm: usize,
    /// The network of stages: taken away after the first build, because nothing may be downloaded again.
    network: &'static str,
    /// How many images are assembled at once: the first time one after the other, since any of those that go on at once
    /// may make the stage that they begin with.
    jobs: &'static str,
}

/// Where the second mapping puts its file.
const SETTINGS: &str = "etc/php/8.2/cli/conf.d";

/// Where the first one does.
const APPLICATION: &str = "srv/app";

impl Replay {
    fn new() -> Self {
        let project = Project::new("symfony-like");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/symfony-like/.");
        project.sandbox.run("cp").arg("-a").arg(example).arg("p").succeed().unwrap();
        let node = base_tar(Base::Web).unwrap();
        for (tar, name) in [(&node, "node-base"), (&base_tar(Base::Php).unwrap(), "php-base")] {
            project.sandbox.strake(["import"]).arg(tar).arg(name).succeed().unwrap();
        }
        std::fs::create_dir(project.sandbox.path("out")).unwrap();
        let build_dir = node.with_file_name("symfony-like");
        let mut replay =
            Self { project, base: Tree::default(), build_dir, npm: 0, network: "default", jobs: "1" };
        replay.base = replay.packed("php-base", &[SETTINGS]);
        replay
    }

    /// Builds, and answers what was assembled.
    #[track_caller]
    fn build(&mut self) -> Ran {
        let build = self.project.command(&["dimg", "build", "--build-dir"]).arg(&self.build_dir);
        let build = build
            .env("STRAKE_CA_CERTS", "host")
            .env("STRAKE_NETWORK", self.network)
            .env("STRAKE_JOBS", self.jobs);
        let printed = build.succeed().unwrap().stdout;
        self.npm += printed.lines().filter(|line| line.starts_with("added ")).count();
        Ran::of(&printed)
    }

    /// Expects that a build of the current commit assembles these stages, that the image then has the files of the
    /// commit, and that nothing is left to do.
    #[track_caller]
    fn check(&mut self, what: &str, expected: &Ran) {
        assert_eq!(self.build(), *expected, "{what}");
        assert_eq!(
            self.packed(&self.name(), &[APPLICATION, SETTINGS]).differences(&self.committed()),
            [],
            "{what}"
        );
        assert_eq!(self.build(), Ran::default(), "{what}: nothing is left to do");
    }

    /// The same after committing everything.
    #[track_caller]
    fn commit(&mut self, what: &str, expected: &Ran) {
        self.project.commit(what);
        self.check(what, expected);
    }

    fn name(&self) -> String {
        self.project.prints(&["stage", "image"]).trim().to_owned()
    }

    /// Runs a script in the repository.
    fn shell(&self, script: &str) {
        let run = self.project.sandbox.run("sh").args(["-e", "-c", script]);
        run.directory(&self.project.sandbox.path("p")).succeed().unwrap();
    }

    /// What an image has below these directories, less what its stages made themselves.
    fn packed(&self, image: &str, paths: &[&str]) -> Tree {
        let out = format!("{}:/out", self.project.sandbox.path("out").display());
        let words = ["run", "--network", "none", "--user", "0", "-w", "/", "-v", &out, image];
        let made = ["vendor", "var", "public/build"].map(|path| format!("--exclude={APPLICATION}/{path}"));
        let tar = self.project.command(&words).args(["tar", "-cf", "/out/image.tar"]).args(made).args(paths);
        tar.succeed().unwrap();
        Tree::of_tar(&std::fs::read(self.project.sandbox.path("out/image.tar")).unwrap()).unwrap()
    }

    /// The same as the current commit wants it, by git's own archive.
    fn committed(&self) -> Tree {
        // Of the tree, as an archive of a commit begins with an entry that is no file.
        self.project.git(&["-c", "tar.umask=0022", "archive", "-o", "../commit.tar", "HEAD^{tree}"]);
        let archive = std::fs::read(self.project.sandbox.path("commit.tar")).unwrap();
        let mut nodes = self.base.nodes.clone();
        for (path, node) in Tree::of_tar(&archive).unwrap().nodes {
            let Some((path, owner)) = mapped(&path).filter(|_| node.kind != Kind::Directory) else {
                continue;
            };
            let parent = |path: &str| Some(path.rsplit_once('/')?.0.to_owned());
            let folders = std::iter::successors(parent(&path), |path| parent(path));
            for folder in folders.take_while(|folder| folder.starts_with(APPLICATION)) {
                nodes.insert(folder, owned(directory(), owner));
            }
            nodes.insert(path, owned(node, owner));
        }
        Tree { nodes }
    }
}

/// Where the image has a file of the repository, and whose it is: what the mappings take, said in other words than
/// the stage file's.
fn mapped(path: &str) -> Option<(String, u64)> {
    let settings = path.strip_prefix("deploy/");
    match path.split('/').next()? {
        "deploy" => {
            settings.filter(|name| name.ends_with(".ini")).map(|name| (format!("{SETTINGS}/{name}"), 0))
        }
        "assets" | "tests" | "translations" | "strake.yaml" | ".gitignore" => None,
        _ if path.ends_with(".md") => None,
        _ => Some((format!("{APPLICATION}/{path}"), 1000)),
    }
}

fn owned(node: Entry, id: u64) -> Entry {
    Entry { uid: id, gid: id, ..node }
}

fn directory() -> Entry {
    let (xattrs, hard_links) = (BTreeMap::new(), Vec::new());
    Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, xattrs, hard_links }
}

#[test]
fn a_real_application_follows_its_commits_and_serves_its_page() {
    let mut replay = Replay::new();
    let nothing = Ran::default();
    let patched = Ran::image(&[LATEST, DOCKER]);
    // Its first stage is the image's.
    let translations = [ARCHIVE, ARTIFACT_PATCH, BUILD_ARTIFACT];
    let everything = Ran::image(&IMAGE).assets(&ASSETS).translations(&translations);
    replay.commit("the first", &everything);
    assert_eq!(replay.npm, 1);
    (replay.network, replay.jobs) = ("none", "4");

    replay.shell("echo '# more' >> tests/health.sh; echo more >> README.md; mkdir docs; echo a > docs/a.md");
    replay.commit("outside of the mappings", &nothing);
    replay.commit("an empty commit", &nothing);
    replay.shell("echo '// the end' >> src/Response.php");
    replay.commit("a small change", &patched);
    // The patch since the setup is of the current commit, whatever that one changed.
    replay.commit("an empty commit after a change", &patched);
    replay.shell("printf '\\211PNG\\r\\n\\032\\n\\000\\001\\377' > public/images/logo.png; cp /bin/true public/images/second");
    replay.commit("binary files", &patched);
    replay.shell("git mv data/2026-03-02-what-a-stage-is.txt data/2026-03-03-stages.txt; git mv public/images public/pictures");
    replay.commit("a file and a folder get other names", &patched);
    replay.shell("chmod 755 data/*.txt; chmod 644 public/pictures/second");
    replay.commit("modes", &patched);
    replay.shell("ln -sfn pictures/logo.png public/favicon.png; ln -s ../../etc/passwd public/out; ln -s data public/posts");
    replay.commit("links", &patched);
    replay.shell("rm public/posts public/out data/2026-03-03-stages.txt; mkdir public/posts; echo 1 > public/posts/1; ln -s x public/out");
    replay.commit("types of files, and a removal", &patched);
    replay.project.git(&["revert", "--no-edit", "HEAD"]);
    replay.check("a revert", &patched);
    replay.shell("yes 'a line of a long text' | head -c 1500000 > data/long.dat");
    replay.commit("more than a MiB", &Ran::image(&from(AFTER_SETUP_PATCH)));
    replay.shell("echo 1 > assets/README.md; echo 1 > deploy/README.md; echo 1 > docs/b.md");
    replay.commit("only what is excluded", &nothing);

    replay.shell("echo '<!-- the end -->' >> templates/show.html");
    replay.commit("watched by setup", &Ran::image(&from(BEFORE_SETUP_PATCH)));
    replay.shell("sed -i 's/Stages/Only what changed/' config/blog.php");
    replay.commit("watched by beforeSetup", &Ran::image(&from(AFTER_INSTALL_PATCH)));
    replay.shell("sed -i 's/A small blog/A blog/' composer.json");
    replay.commit("watched by install", &Ran::image(&from(BEFORE_INSTALL_PATCH)));
    replay.shell("echo 'console.log(\"a mark of the test\");' >> assets/src/app.js");
    let imported = || Ran::image(&from(BEFORE_SETUP_IMPORT));
    replay.commit("watched by buildArtifact", &imported().assets(&ASSETS[4..]));
    assert_eq!(replay.npm, 1, "npm installed nothing since the first commit");
    replay.shell("sed -i 's/1.0.0/1.0.1/' assets/package.json");
    replay.commit("watched by the artifact's install", &imported().assets(&ASSETS[2..]));
    assert_eq!(replay.npm, 2);
    replay.shell("sed -i 's/Only what/Just what/' translations/en.json");
    let translated = Ran::image(&from(AFTER_INSTALL_IMPORT)).translations(&translations[1..]);
    replay.commit("the other artifact", &translated);
    replay.shell(
        "echo 'short_open_tag = Off' >> deploy/90-app.ini; echo 'html_errors = Off' > deploy/91-more.ini",
    );
    replay.commit("the other mapping", &patched);

    replay.shell("sed -i 's/^  - .srv.app.bin.console cache:warmup/&\\n  - echo set up > \\/srv\\/app\\/var\\/done/' strake.yaml");
    replay.commit("another command of setup", &Ran::image(&from(BEFORE_SETUP_PATCH)));
    replay.shell("sed -i 's/APP_ENV: prod/APP_ENV: test/' strake.yaml");
    replay.commit("another variable of the image", &Ran::image(&[DOCKER]));
    replay.project.git(&["revert", "--no-edit", "HEAD"]);
    replay.check("a revert of what the image says of itself", &nothing);
    replay.project.git(&["revert", "--no-edit", "HEAD~2"]);
    // The stages from before the command are used again; the other mapping's change came after them.
    replay.check("a revert of the command", &patched);

    replay.project.git(&["checkout", "-q", "-b", "side", "HEAD~3"]);
    replay.shell("printf 'A side\\n\\nOf another branch.\\n' > data/2026-05-01-a-side.txt");
    replay.project.commit("on the side");
    replay.project.git(&["checkout", "-q", "main"]);
    replay.project.git(&["merge", "-q", "--no-ff", "--no-edit", "side"]);
    replay.check("a merge", &patched);
    replay.shell("echo '<!-- really -->' >> templates/show.html");
    replay.commit("to be rewritten", &Ran::image(&from(BEFORE_SETUP_PATCH)));
    replay.shell("echo 1 > data/amended; git add data/amended");
    replay.project.git(&["commit", "-q", "--amend", "-m", "rewritten"]);
    // The same signatures, but of a commit that is no ancestor any more.
    replay.check("an amended commit", &Ran::image(&from(BEFORE_SETUP_PATCH)));
    replay.shell("git reset -q --hard HEAD~1; echo 1 > data/other");
    replay.commit("a branch that was set back", &patched);
    assert_eq!(replay.npm, 2, "of all the commits two are npm's");

    serves(&replay);
    is_run_by_podman(&replay);
}

/// Expects the application to answer over HTTP, as the image's own user.
fn serves(replay: &Replay) {
    let sandbox = &replay.project.sandbox;
    let run = sandbox.strake(["run", "--network", "host", "-e", "HOST=127.0.0.1", "-e", "PORT=0"]);
    let mut server = Started::new(run.arg(replay.name()).watched());
    let line = server.wait_for("Development Server (http://");
    let address = line.split(['/', ')']).find(|part| part.starts_with("127.0.0.1:")).unwrap();

    assert_eq!(get(address, "/health"), b"ok: prod in /srv/app as app\n");
    let page = String::from_utf8(get(address, "/")).unwrap();
    for part in ["<h1>Only what changed</h1>", "<p>Just what changed is built again.</p>", ">A side</a>"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let script = page.split('"').find(|part| part.ends_with(".js")).unwrap();
    let script = String::from_utf8(get(address, script)).unwrap();
    assert!(script.contains("a mark of the test"), "{script}");
    let style = page.split('"').find(|part| part.ends_with(".css")).unwrap();
    assert!(get(address, style).starts_with(b"body{"), "it is compressed");
    assert_eq!(get(address, "/favicon.png"), b"\x89PNG\r\n\x1a\n\x00\x01\xff", "through the link");
    let post = String::from_utf8(get(address, "/post/a-side")).unwrap();
    assert!(post.contains("Of another branch.") && post.contains("<!-- the end -->"), "{post}");

    server.send(Signal::TERM);
    assert_eq!(server.end().0, 143);
}

/// The body of an answer with status 200.
fn get(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    // In one piece: the server does not always wait for the rest.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]);
    assert!(head.starts_with("HTTP/1.0 200 "), "{path}: {head}");
    answer[end + 4..].to_vec()
}

/// Expects another program to run the image as well, with the same answer.
fn is_run_by_podman(replay: &Replay) {
    if program_on_path("podman").is_none() || !is_root() {
        return lacking("root and podman");
    }
    let name = replay.name();
    let ours = ["run", "--network", "none", &name, "bin/console", "page", "/"];
    let ours = replay.project.prints(&ours);
    replay.project.prints(&["save", "-o", "../image.tar", &name]);
    let podman = Podman::new();
    let archive = replay.project.sandbox.path("image.tar");
    podman.run(&["load", "--quiet", "--input"]).arg(archive).succeed().unwrap();
    let command = ["sh", "-c", "bin/console page / && echo $APP_ENV $PWD $(id -un)"];
    let printed = podman.command(&name).args(command).finish().unwrap();
    assert_eq!(printed.stdout, format!("{ours}prod /srv/app app\n"), "{printed}");
}
