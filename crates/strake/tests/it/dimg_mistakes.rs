//! Every condition of the stage file's format, and what is said when it is not met: through the program, with the place.

use crate::dimg_scene::Project;

/// What is wrong, a stage file, and for each mistake of it `line:column: message`.
type Case = (&'static str, &'static str, &'static [&'static str]);

const IMAGES: &[Case] = &[
    ("neither dimg nor artifact", "from: x\n", &["1:1: the document has neither `dimg` nor `artifact`"]),
    (
        "both",
        "dimg: a\nartifact: b\nfrom: x\n",
        &["2:1: a document is about a `dimg` or about an `artifact`, not both"],
    ),
    ("no dimg", "artifact: a\nfrom: x\n", &["1:1: the stage file has no `dimg`"]),
    ("nothing at all", "# nothing\n", &["1:1: the stage file has no `dimg`"]),
    ("two of a name", "dimg: a\nfrom: x\n---\nartifact: a\nfrom: x\n", &["4:11: the name `a` is taken"]),
    ("a name twice in a list", "dimg: [a, a]\nfrom: x\n", &["1:11: the name `a` is taken"]),
    (
        "nameless among several",
        "dimg: a\nfrom: x\n---\ndimg: ~\nfrom: x\n",
        &["4:1: a dimg without a name must be the only one of the file"],
    ),
    ("no name", "dimg: Web App\nfrom: x\n", &["1:7: `Web App` is no name for a dimg"]),
    ("no base", "dimg: a\n", &["1:1: it is not said what the image stands on"]),
    (
        "several bases",
        "artifact: b\nfrom: x\n---\ndimg: a\nfrom: x\nfromDimgArtifact: b\n",
        &["6:1: an image stands on one thing, but `from` and `fromDimgArtifact` are given"],
    ),
    ("on itself", "dimg: a\nfromDimg: a\n", &["2:11: an image cannot stand on itself"]),
    (
        "on what is not there, or of another kind",
        "dimg: web\nfromDimg: wep\n---\nartifact: t\nfromDimg: t\n---\ndimg: c\nfromDimgArtifact: web\n",
        &[
            "2:11: there is no dimg `wep`",
            "5:11: `t` is an artifact, not a dimg",
            "8:19: `web` is a dimg, not an artifact",
        ],
    ),
    (
        "one another",
        "dimg: a\nfromDimg: b\n---\ndimg: b\nfromDimg: a\n",
        &["1:1: the images need each other: `a` needs `b` needs `a`"],
    ),
    ("no reference", "dimg: a\nfrom: 'a b'\n", &["2:7: `a b` names no image"]),
];

const KEYS: &[Case] = &[
    (
        "unknown keys at any level",
        "dimg: a\nform: x\nfrom: x\ngit:\n- ad: /\n  to: /a\n  stageDependencies: {instal: x}\nshell: {setupp: x}\ndocker: {PORT: 1}\nmount:\n- form: x\n  from: tmp_dir\n  to: /m\n",
        &[
            "2:1: a document has no key `form`",
            "5:3: a `git` mapping has no key `ad`",
            "7:23: `stageDependencies` has no key `instal`",
            "8:9: `shell` has no key `setupp`",
            "9:10: `docker` has no key `PORT`",
            "11:3: a `mount` has no key `form`",
        ],
    ),
    ("a key twice", "dimg: a\nfrom: x\nfrom: y\n", &["3:1: the key `from` occurs twice"]),
    (
        "shell and ansible",
        "dimg: a\nfrom: x\nshell: {setup: x}\nansible: {setup: [{raw: x}]}\n",
        &["4:1: an image uses `shell` or `ansible`, not both"],
    ),
    (
        "docker in an artifact",
        "dimg: a\nfrom: x\n---\nartifact: b\nfrom: x\ndocker: {USER: x}\n",
        &["6:1: an artifact has no `docker` options"],
    ),
    (
        "buildArtifact in a dimg",
        "dimg: a\nfrom: x\nshell: {buildArtifact: x}\n",
        &["3:9: only an artifact has a stage `buildArtifact`"],
    ),
    (
        "neither a text nor a list of texts",
        "dimg: a\nfrom: x\nshell: {install: {a: b}, setup: [[x]]}\ngit:\n- to: /a\n  includePaths: {a: b}\ndocker: {CMD: [1], ENV: [a]}\n",
        &[
            "3:18: `install` is a text or a list of texts, not a map",
            "3:34: `setup` is a text or a list of texts, not a list",
            "6:17: `includePaths` is a text or a list of texts, not a map",
            "7:16: `CMD` is a text or a list of texts, not ",
            "7:25: `ENV` is a map, not a list",
        ],
    ),
    ("asLayers", "dimg: a\nfrom: x\nasLayers: maybe\n", &["3:11: `asLayers` is `true` or `false`, not "]),
    (
        "tasks",
        "dimg: a\nfrom: x\nansible:\n  setup:\n  - name: x\n  - raw: x\n    shell: y\n  - frobnicate: x\n",
        &[
            "5:5: the task uses no supported module",
            "7:5: a task uses one module, but this one uses `raw` and `shell`",
            "8:5: the task uses no supported module",
        ],
    ),
];

const PARTS: &[Case] = &[
    (
        "paths that are not absolute",
        "dimg: a\nfrom: x\ngit:\n- add: src\n  to: ./app\nmount:\n- from: tmp_dir\n  to: m\nimport:\n- artifact: b\n  add: out\n  to: in\n  after: setup\n---\nartifact: b\nfrom: x\n",
        &[
            "4:8: `add` is an absolute path, not `src`",
            "5:7: `to` is an absolute path, not `./app`",
            "8:7: `to` is an absolute path, not `m`",
            "11:8: `add` is an absolute path, not `out`",
            "12:7: `to` is an absolute path, not `in`",
        ],
    ),
    (
        "paths that are not relative",
        "dimg: a\nfrom: x\ngit:\n- to: /app\n  includePaths: /a\n  excludePaths: [b, /c]\n  stageDependencies: {setup: /d}\n",
        &[
            "5:17: `includePaths` takes paths relative to `add`, not `/a`",
            "6:21: `excludePaths` takes paths relative to `add`, not `/c`",
            "7:30: `setup` takes paths relative to `add`, not `/d`",
        ],
    ),
    (
        "paths that lead upwards",
        "dimg: a\nfrom: x\ngit:\n- add: /a/../../b\n  to: /app\n  includePaths: ../x\n",
        &["4:8: `add` must not lead upwards", "6:17: `includePaths` must not lead upwards"],
    ),
    (
        "an import of nothing",
        "dimg: a\nfrom: x\nimport:\n- before: setup\n",
        &["4:3: the import has no `artifact`", "4:3: the import has no `add`"],
    ),
    (
        "an import from what is not there",
        "dimg: a\nfrom: x\nimport:\n- artifact: b\n  add: /o\n  before: setup\n",
        &["4:13: there is no artifact `b`"],
    ),
    (
        "an import from itself",
        "dimg: a\nfrom: x\n---\nartifact: b\nfrom: x\nimport:\n- artifact: b\n  add: /o\n  before: setup\n",
        &["7:3: an artifact cannot import from itself"],
    ),
    (
        "where an import comes",
        "artifact: b\nfrom: x\n---\ndimg: a\nfrom: x\nimport:\n- artifact: b\n  add: /1\n- artifact: b\n  add: /2\n  before: setup\n  after: install\n- artifact: b\n  add: /3\n  after: beforeSetup\n",
        &[
            "7:3: the import does not say before or after which stage it comes",
            "12:3: an import is `before` or `after` a stage, not both",
            "15:10: `after` of an import is `install` or `setup`, not `beforeSetup`",
        ],
    ),
    (
        "a mount without a target",
        "dimg: a\nfrom: x\nmount:\n- from: tmp_dir\n",
        &["4:3: the mount does not say where `to`"],
    ),
    (
        "what is mounted",
        "dimg: a\nfrom: x\nmount:\n- to: /1\n- from: cache\n  to: /2\n- fromPath: rel\n  to: /3\n- from: tmp_dir\n  fromPath: /x\n  to: /4\n",
        &[
            "4:3: the mount does not say what is mounted",
            "5:9: `from` of a mount is `tmp_dir` or `build_dir`, not `cache`",
            "7:13: `fromPath` is an absolute path, not `rel`",
            "10:3: a mount has `from` or `fromPath`, not both",
        ],
    ),
    (
        "two mounts of a target",
        "dimg: a\nfrom: x\nmount:\n- from: tmp_dir\n  to: /m\n- from: build_dir\n  to: /m/\n",
        &["6:3: two mounts have the target `/m`"],
    ),
    (
        "a mapping without a target",
        "dimg: a\nfrom: x\ngit:\n- add: /a\n",
        &["4:3: the mapping does not say where `to`"],
    ),
    (
        "references without a repository",
        "dimg: a\nfrom: x\ngit:\n- to: /a\n  branch: b\n- to: /b\n  tag: b\n- to: /c\n  commit: b\n",
        &["5:3: `branch` needs a `url`", "7:3: `tag` needs a `url`", "9:3: `commit` needs a `url`"],
    ),
    (
        "several references",
        "dimg: a\nfrom: x\ngit:\n- url: https://h/o/n.git\n  to: /a\n  branch: b\n  tag: c\n",
        &["7:3: a mapping has one of `branch`, `tag` and `commit`, not `branch` and `tag`"],
    ),
    (
        "a URL without a name",
        "dimg: a\nfrom: x\ngit:\n- url: https://h/\n  to: /a\n",
        &["4:8: the `url` has no path that a name could be taken from"],
    ),
    (
        "targets that cannot be separated",
        "artifact: b\nfrom: x\n---\ndimg: a\nfrom: x\ngit:\n- to: /app\nimport:\n- artifact: b\n  add: /o\n  to: /app\n  after: setup\n",
        &["9:3: `/app` and `/app` are the same target for two mappings or imports"],
    ),
];

/// `line:column: message` of every mistake that was told, in that order.
fn told(stderr: &str) -> Vec<String> {
    let lines: Vec<_> = stderr.lines().map(str::trim).collect();
    let told = lines.windows(2).filter_map(|pair| {
        let (_, message) = pair[0].strip_prefix("error[")?.split_once("]: ")?;
        let place = pair[1].strip_prefix("--> strake.yaml:")?;
        Some(format!("{place}: {message}"))
    });
    told.collect()
}

#[test]
fn every_condition_is_told_with_its_place() {
    let project = Project::with("");
    let mut wrong = Vec::new();
    for (what, file, mistakes) in [IMAGES, KEYS, PARTS].concat() {
        project.file("strake.yaml", file);
        let failed = project.fails(2, &["dimg", "list"]);
        assert_eq!(failed.stdout, "", "{what}");
        let told = told(&failed.stderr);
        let is_as_expected = told.len() == mistakes.len()
            && mistakes.iter().all(|mistake| told.iter().any(|told| told.starts_with(mistake)));
        if !is_as_expected {
            wrong.push(format!("{what}: expected {mistakes:#?}, told {told:#?}\n{}", failed.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_belongs_together_is_shown_together() {
    let project = Project::with("");
    let shown = |file: &str| {
        project.file("strake.yaml", file);
        project.fails(2, &["dimg", "list"]).stderr
    };
    let overlap = shown(PARTS[14].1);
    assert!(overlap.contains("7 | - to: /app") && overlap.contains("9 | - artifact: b"), "{overlap}");
    let tasks = shown(KEYS[7].1);
    assert!(
        tasks.contains("supported are block, command, shell, raw") && tasks.contains("timezone, cron"),
        "{tasks}"
    );
    let keys = shown(KEYS[0].1);
    assert!(keys.contains("did you mean `from`?") && keys.contains("known are "), "{keys}");
    assert_eq!(keys.matches("in the document of `a`").count(), 6, "{keys}");
    assert!(shown(IMAGES[4].1).contains("1 | dimg: a"), "where the name was taken first");
}

#[test]
fn a_url_need_not_end_in_git() {
    let project =
        Project::with("dimg: a\nfrom: x\ngit:\n- url: https://git.example.org/owner/name\n  to: /a\n");
    assert_eq!(project.prints(&["dimg", "list"]), "a\n");
}
