//! Signatures that were printed elsewhere (reference §6.6), and the worked examples of the reference (§14).

use super::super::{StageFile, UserStage, scheme31};
use super::Conveyor;
use super::world::{EXAMPLE_1, World, file, one_commit, show, signatures};

/// Stands in for the templates: the only actions of the example are raw strings.
fn symfony(appended: &str) -> StageFile {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/symfony-demo/dappfile.yaml");
    let text = std::fs::read_to_string(path).unwrap().replace("{{`", "").replace("`}}", "");
    file(&text.replace("\ngit:\n", &format!("\n{appended}git:\n")))
}

fn check(conveyor: &Conveyor, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(kind, signature)| (*kind, (*signature).to_owned())).collect();
    let found = signatures(conveyor);
    assert_eq!(found, expected.iter().map(|(kind, text)| (*kind, text.clone())).collect::<Vec<_>>());
}

const V1: [(&str, &str); 9] = [
    ("from", "41772c141b158349804ad27b354247df8984ead077a5dd601f3940536ebe9a11"),
    ("before_install", "959613a71298e283ed72bb7cddb5ed6edf73738db5af5cf1f2cae441a570cbde"),
    ("g_a_archive", "49b8b3452794072ffd7d0bee0a7fca462d7e52c8617fe9d616471d9e088985c4"),
    ("g_a_pre_install_patch", "52c4136e84f019e4f66e568a030319dd997bc47793f679e6feb3bb5efb633add"),
    ("install", "39db371edb409cdd295dc2dea2dab71bd9fb542274c4ee603db6f9341a8d24fb"),
    ("g_a_pre_setup_patch", "c1220652b4d1aa684e7ac2f1858af14c97c31758812f95c4fb15f577be47ed2b"),
    ("setup", "d3d219122901d4ff5d92977aee1f47e691f6799a9e2511d6bc9853e191100e70"),
    ("g_a_post_setup_patch", "18144cd51f8a4dbee9d3513c8d3a858c9792da7f22912b3c0f593729d968e548"),
    ("docker_instructions", "bda2d7aef23fafa50e29e2a00812dad14f2249e5b123598f8911555717a9160e"),
];

#[test]
fn vector_1_the_file_of_the_distributed_build() {
    let file = symfony("");
    check(one_commit().plan(&file).conveyor(), &V1);
    let (_, image) = file.dimgs().next().unwrap();
    let builder = |stage| scheme31::builder_checksum(&image.rules.assembly, stage);
    for (stage, start, end) in [
        (UserStage::BeforeInstall, "1b80dd53", "8ab5"),
        (UserStage::Install, "673bab86", "c339"),
        (UserStage::Setup, "97b90694", "0121"),
    ] {
        assert!(builder(stage).starts_with(start) && builder(stage).ends_with(end));
    }
    let hash = scheme31::params_hash(&image.rules.git[0]);
    assert!(hash.starts_with("763de52a") && hash.ends_with("b6f1"));
}

#[test]
fn vector_2_the_same_file_after_the_change() {
    let changed = symfony("  - raw: echo \"Some changes\"\n");
    let mut expected = V1.to_vec();
    expected.truncate(5);
    expected.extend([
        ("g_a_pre_setup_patch", "61b955e81eec1c644be1a87a0a5df4143643f1bcf6020a7d68b14efe9db2c107"),
        ("setup", "fade684bc8e7a98d76c1266a705b3b791bd5740b651277dee201d446b90c1c6a"),
        ("g_a_post_setup_patch", "588c2f45f2382431c1d79bb3c869a968fa37eb07ffff55d692c4c9c3e03d93e6"),
        ("docker_instructions", "c1814e7488c8c81e9fd7f7046a4a44522f99062952ef79e9997823069372b572"),
    ]);
    check(one_commit().plan(&changed).conveyor(), &expected);
}

#[test]
fn vector_3_shell_without_git() {
    let file = file(
        "dimg: x\nfrom: ubuntu:16.04\nshell:\n  beforeInstall:\n  - apt-get update\n  \
         - apt-get install -y curl --quiet\n  install: apt-get install -y non-existing\n",
    );
    let found = signatures(World::new().plan(&file).conveyor());
    assert_eq!(
        found[1..],
        [
            ("before_install", "8f8307adb4d2434822cdbb44950868b1a312d1a0e536ae54debff9640f371645".to_owned()),
            ("install", "1c0aca95f86933173709388f4f75cdc50e210a861d3e85193f14556bf4a798f8".to_owned()),
        ]
    );
}

#[test]
fn vector_4_a_stage_that_is_skipped_adds_nothing() {
    let archive = "d1aa6029faae81733618867c217c9e0e9d70e56ab1fc2554e790d9b14f16b96c";
    let expected = "336636cedd354d7903d71d242b4a8c40dd0bf81728b0e189deee26cd1d59ec6b";
    assert_eq!(scheme31::checksum([archive, "31", "0", "0"]), expected);
    let file = file("dimg: ~\nfrom: debian:12\ngit:\n- to: /app\n");
    let plan = one_commit().plan(&file);
    let stages = &plan.conveyor().stages;
    assert_eq!(show(plan.conveyor()), "+from +g_a_archive +g_a_post_setup_patch");
    assert_eq!(stages[2].signature, scheme31::checksum([stages[1].signature.as_str(), "31", "0", "0"]));
}

#[test]
fn example_14_1_of_the_reference() {
    let file = file(EXAMPLE_1);
    let expected = [
        ("from", "b6168e9cdcc83f42ffe6f6ec1620cda41bfd729d15898e878fecc5aecd00e7cc"),
        ("before_install", "9f35f637265236176a62412fc920cd23cb7161d2168d1004af0b1fb950d4a7a5"),
        ("g_a_archive", "56dd230261cd298cb11775735fc448edebcd431ac4ab4837c927035f2ce835bb"),
        ("g_a_pre_install_patch", "36bafce4147a2c0b99da6bc57ebead6ff4ebcc9012881f70bfa7cd64cac4ca7f"),
        ("install", "972164330b672fd8120855ce0e2621e05ee96fab6ced8c7b8194c0c298656e52"),
        ("g_a_post_setup_patch", "d3ae72bb253bff5460698c06f63e8071c1e82f6a350cbf322812e1317aa85275"),
        ("docker_instructions", "aedfe9cbcb7384dc12764c208b9944c5a89bab8240c29994df9c0d74d1a91843"),
    ];
    let mut world = one_commit();
    check(world.plan(&file).conveyor(), &expected);
    world.build(&file);
    world.write("docs/x", 1, 1);
    check(world.plan(&file).conveyor(), &expected);
    world.write("src/main.py", 2, 10);
    let plan = world.plan(&file);
    assert_eq!(signatures(plan.conveyor())[..6], signatures(world.plan(&file).conveyor())[..6]);
    assert_eq!(
        show(plan.conveyor()),
        "-from -before_install -g_a_archive -g_a_pre_install_patch -install =g_a_post_setup_patch \
         +g_a_latest_patch +docker_instructions"
    );
    let image = world.build(&file);
    world.check(&file, &image);
}

const EXAMPLE_2: &str = r#"
artifact: web-assets
from: node:20
git:
- add: /web
  to: /build
  stageDependencies:
    install: [package.json, package-lock.json]
    buildArtifact: "**/*"
shell:
  install:
  - cd /build && npm ci
  buildArtifact:
  - cd /build && npm run build
---
dimg: site
from: nginx:1.27
import:
- artifact: web-assets
  add: /build/dist
  to: /usr/share/nginx/html
  after: setup
git:
- add: /conf
  to: /etc/nginx/conf.d
  stageDependencies:
    setup: "*.conf"
shell:
  setup:
  - nginx -t
docker:
  EXPOSE: "80"
"#;

#[test]
fn example_14_2_of_the_reference() {
    let file = file(EXAMPLE_2);
    let mut world = World::new();
    world.commit(|tree| {
        for path in ["web/package.json", "web/src/x.js", "conf/a.conf", "conf/readme", "readme"] {
            tree.insert(path.into(), (1, 10));
        }
    });
    world.build(&file);
    let artifact = |world: &World| show(world.plan(&file).conveyors.values().next().unwrap());
    let site = |world: &World| show(world.plan(&file).conveyor());
    let all = "-from -g_a_archive -g_a_pre_install_patch -install -g_a_artifact_patch =build_artifact";
    let done = "-from -g_a_archive -g_a_pre_setup_patch -setup -g_a_post_setup_patch -after_setup_artifact \
                =docker_instructions";
    assert_eq!((artifact(&world), site(&world)), (all.into(), done.into()));
    world.write("readme", 2, 10);
    assert_eq!((artifact(&world), site(&world)), (all.into(), done.into()));
    world.write("web/src/x.js", 2, 10);
    assert_eq!(
        artifact(&world),
        "-from -g_a_archive -g_a_pre_install_patch =install +g_a_artifact_patch +build_artifact"
    );
    assert_eq!(
        site(&world),
        "-from -g_a_archive -g_a_pre_setup_patch -setup =g_a_post_setup_patch +after_setup_artifact \
         +docker_instructions"
    );
    world.write("web/package.json", 2, 10);
    assert_eq!(
        artifact(&world),
        "-from =g_a_archive +g_a_pre_install_patch +install +g_a_artifact_patch +build_artifact"
    );
    world.build(&file);
    world.write("conf/readme", 2, 10);
    assert_eq!(
        site(&world),
        "-from -g_a_archive -g_a_pre_setup_patch -setup -g_a_post_setup_patch =after_setup_artifact \
         +g_a_latest_patch +docker_instructions"
    );
    world.write("conf/a.conf", 2, 10);
    assert_eq!(
        site(&world),
        "-from =g_a_archive +g_a_pre_setup_patch +setup +g_a_post_setup_patch +after_setup_artifact \
         +docker_instructions"
    );
}

#[test]
fn example_14_3_of_the_reference() {
    let file = file(
        "dimg: base\nfrom: alpine:3.20\nmount:\n- from: build_dir\n  to: /var/cache/apk\nshell:\n  \
         beforeInstall: apk add git make\n---\ndimg: [api, worker]\nfromDimg: base\ngit:\n- add: /\n  to: /opt/app\n  \
         excludePaths: [docs, '**/*.md']\nshell:\n  cacheVersion: '2'\n  beforeSetup: make -C /opt/app\n",
    );
    let ids: Vec<_> = file.dimgs().map(|(id, image)| (image.name.to_string(), id)).collect();
    assert_eq!(ids.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["base", "api", "worker"]);
    let rules = |index: usize| &file.image(ids[index].1).rules;
    assert!(std::sync::Arc::ptr_eq(rules(1), rules(2)));
    assert_eq!(rules(1).needs(), [ids[0].1]);
}
