use super::super::{StageFile, UserStage, scheme31};
use super::world::{World, file, options, refused, show, signatures};
use super::{Conveyor, Found, Presence, Refusal};

/// Stands in for the templates: the only actions of the example are raw strings.
fn symfony(appended: &str) -> StageFile {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/symfony-demo/dappfile.yaml");
    let text = std::fs::read_to_string(path).unwrap().replace("{{`", "").replace("`}}", "");
    file(&text.replace("\ngit:\n", &format!("\n{appended}git:\n")))
}

fn one_commit() -> World {
    let mut world = World::new();
    world.write("src/main.py", 1, 10);
    world
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

pub(super) const EXAMPLE_1: &str = r#"
dimg: ~
from: debian:12
git:
- add: /src
  to: /srv/app
  owner: "1000"
  group: "1000"
shell:
  beforeInstall:
  - apt-get update
  - apt-get install -y --no-install-recommends python3
  install:
  - python3 -m compileall /srv/app
docker:
  WORKDIR: /srv/app
  CMD: ["python3", "main.py"]
"#;

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

#[test]
fn small_changes_gather_until_they_are_a_mebibyte() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    let mut row = |size: u64| {
        let content = world.commits.len() as u64;
        world.write(&format!("src/{content}"), content, size);
        let plan = world.plan(&file);
        let stages = plan.conveyor().stages[5..].iter();
        let steps = stages.filter_map(|stage| match &stage.action {
            super::Action::Patch(steps) => {
                let step = steps.first();
                let commits =
                    step.map_or(String::new(), |step| format!("{}→{}", &step.from[39..], &step.to[39..]));
                Some(format!("{}{commits}", &stage.kind.id()[4..]))
            }
            _ => None,
        });
        let steps = steps.collect::<Vec<_>>().join(" ");
        let image = world.build(&file);
        world.check(&file, &image);
        steps
    };
    // The first build; the patch after setup is there, and has nothing to do.
    assert_eq!(row(10), "post_setup_patch1→1");
    assert_eq!(row(10), "post_setup_patch latest_patch1→2");
    assert_eq!(row(10), "post_setup_patch latest_patch1→3");
    assert_eq!(row(1 << 20), "post_setup_patch1→4");
    assert_eq!(row(10), "post_setup_patch latest_patch4→5");
}

#[test]
fn a_node_that_only_has_the_last_stage_notices_a_newer_commit() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.build(&file);
    let last = world.plan(&file).conveyor().signature().to_owned();
    // Another node pulls only the last stage: nothing below it is needed while nothing changes.
    world.images.retain(|signature, _| *signature == last);
    let before = show(world.plan(&file).conveyor());
    assert!(before.starts_with("-from") && before.ends_with("=docker_instructions"), "{before}");
    world.write("src/main.py", 2, 10);
    let plan = world.plan(&file);
    assert!(show(plan.conveyor()).ends_with("+g_a_latest_patch +docker_instructions"));
    let image = world.build(&file);
    world.check(&file, &image);
}

#[test]
fn stages_that_are_only_recorded_decide_signatures_and_nothing_else() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.build(&file);
    world.write("src/main.py", 2, 10);
    world.build(&file);
    let last = world.plan(&file).conveyor().signature().to_owned();
    for (signature, image) in &mut world.images {
        if *signature != last {
            image.known.presence = Presence::Recorded;
        }
    }
    let shown = show(world.plan(&file).conveyor());
    assert!(shown.ends_with("-g_a_latest_patch =docker_instructions"), "{shown}");
    world.images.remove(&last);
    let shown = show(world.plan(&file).conveyor());
    assert!(shown.starts_with("+from"), "{shown}");
    let image = world.build(&file);
    world.check(&file, &image);
}

#[test]
fn foreign_and_lost_commits_do_not_count() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.write("src/a", 1, 1);
    world.build(&file);
    // Another branch from the first commit on.
    world.head = 0;
    world.write("src/b", 1, 1);
    let plan = world.plan(&file);
    let expected = "-from =before_install +g_a_archive +g_a_pre_install_patch +install +g_a_post_setup_patch \
                    +docker_instructions";
    assert_eq!(show(plan.conveyor()), expected);
    assert_eq!(refused(plan.conveyor()), 5);
    let image = world.build(&file);
    world.check(&file, &image);
    // That commit is rewritten.
    world.lost.insert(world.head);
    world.head = 0;
    world.write("src/c", 1, 1);
    assert_eq!(show(world.plan(&file).conveyor()), expected);
}

#[test]
fn an_image_made_on_something_else_is_not_stood_on() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.build(&file);
    let old = world.images.clone();
    world.write("src/main.py", 2, 10);
    world.images.clear();
    world.build(&file);
    // The configuration is still there as it was made on the older files.
    let last = world.plan(&file).conveyor().signature().to_owned();
    world.images.insert(last.clone(), old[&last].clone());
    let plan = world.plan(&file);
    let stage = plan.conveyor().stages.last().unwrap();
    assert!(matches!(stage.found, Found::Refused(_, Refusal::OtherBase)), "{:?}", stage.found);
    assert!(show(plan.conveyor()).ends_with("=g_a_post_setup_patch +docker_instructions"));
}

#[test]
fn what_stands_on_a_foreign_stage_does_not_count() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.write("src/a", 1, 1);
    world.build(&file);
    let archive = world.plan(&file).conveyor().stages[2].signature.clone();
    let foreign = world.images[&archive].clone();
    world.head = 0;
    world.write("src/b", 1, 1);
    world.build(&file);
    world.images.insert(archive, foreign);
    let plan = world.plan(&file);
    assert!(show(plan.conveyor()).starts_with("-from =before_install +g_a_archive"));
    let refusals = plan.conveyor().stages[2..].iter().map(|stage| match &stage.found {
        Found::Refused(_, refusal) => refusal.clone(),
        other => panic!("{other:?}"),
    });
    let refusals: Vec<_> = refusals.collect();
    assert!(matches!(refusals[0], Refusal::ForeignCommit(0, _)), "{refusals:?}");
    assert!(refusals[1..].iter().all(|refusal| *refusal == Refusal::StandsOnRefused), "{refusals:?}");
}

#[test]
fn no_patch_makes_a_directory_of_a_file() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.build(&file);
    let plan = world.plan(&file);
    let hash = &plan.conveyor().mappings[0].params_hash;
    for stage in &plan.conveyor().stages[2..] {
        let labels = &mut world.images.get_mut(&stage.signature).unwrap().known.labels;
        assert_eq!(labels.insert(super::kind_label(hash), "file".into()).as_deref(), Some("directory"));
    }
    assert!(show(world.plan(&file).conveyor()).starts_with("-from =before_install +g_a_archive"));
}

#[test]
fn labels_of_the_older_tool_are_read() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.build(&file);
    for image in world.images.values_mut() {
        let labels = std::mem::take(&mut image.known.labels);
        let renamed = labels.into_iter().map(|(name, value)| (name.replace("strake-", "dapp-"), value));
        image.known.labels = renamed.collect();
    }
    assert!(show(world.plan(&file).conveyor()).ends_with("=docker_instructions"));
    for image in world.images.values_mut() {
        image.known.labels.clear();
    }
    assert!(show(world.plan(&file).conveyor()).starts_with("-from =before_install +g_a_archive"));
}

#[test]
fn whatever_labels_say_the_last_stage_has_the_current_files() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.build(&file);
    world.write("src/main.py", 2, 10);
    world.write("src/main.py", 3, 10);
    world.build(&file);
    // Both stages above claim a commit that their signature cannot have come from.
    let plan = world.plan(&file);
    let label = super::commit_label(&plan.conveyor().mappings[0].params_hash);
    for stage in &plan.conveyor().stages[6..] {
        let image = world.images.get_mut(&stage.signature).unwrap();
        image.known.labels.insert(label.clone(), format!("{:040}", 1));
    }
    let plan = world.plan(&file);
    let stages = &plan.conveyor().stages[6..];
    assert!(stages.iter().all(|stage| matches!(stage.found, Found::Refused(_, Refusal::OldFiles(0)))));
    assert!(show(plan.conveyor()).ends_with("=g_a_post_setup_patch +g_a_latest_patch +docker_instructions"));
}

#[test]
fn a_reset_commit_makes_a_fresh_archive() {
    let file = file(EXAMPLE_1);
    let mut world = one_commit();
    world.build(&file);
    world.write("src/a", 1, 1);
    world.commits[1].reset = true;
    let shown = show(world.plan(&file).conveyor());
    assert!(shown.starts_with("-from =before_install +g_a_archive"), "{shown}");
    world.build(&file);
    world.write("docs/a", 1, 1);
    assert!(show(world.plan(&file).conveyor()).ends_with("=docker_instructions"));
}

#[test]
fn images_with_the_same_mapping_wait_for_it_alike() {
    let artifact = |name| format!("artifact: {name}\nfrom: a:1\ngit:\n- to: /app\n---\n");
    let import = |name| format!("- {{artifact: {name}, add: /app, to: /{name}, after: setup}}\n");
    let dimg = format!("dimg: z\nfrom: a:1\nimport:\n{}{}", import("x"), import("y"));
    let file = file(&(artifact("x") + &artifact("y") + &dimg));
    let (id, _) = file.dimgs().next().unwrap();
    let super::Planning::Needs(needs) = super::plan(&file, id, &options(), &super::Facts::default()).unwrap()
    else {
        panic!("nothing is known yet");
    };
    assert!(needs.iter().all(|need| !matches!(need, super::Need::Stage(_))), "{needs:?}");
    assert_eq!(needs.len(), 2);
}

#[test]
fn layers_are_stages_of_their_own() {
    let one = file("dimg: ~\nfrom: a:1\nshell:\n  setup: [a, b, c]\n  setupCacheVersion: 1\n");
    let many =
        file("dimg: ~\nfrom: a:1\nasLayers: true\nshell:\n  setup: [a, b, c]\n  setupCacheVersion: 1\n");
    assert_eq!(show(World::new().plan(&one).conveyor()), "+from +setup");
    let plan = World::new().plan(&many);
    assert_eq!(show(plan.conveyor()), "+from +setup.1 +setup.2 +setup.3");
    let changed =
        file("dimg: ~\nfrom: a:1\nasLayers: true\nshell:\n  setup: [a, b, d]\n  setupCacheVersion: 1\n");
    let changed = World::new().plan(&changed);
    assert_eq!(signatures(changed.conveyor())[..3], signatures(plan.conveyor())[..3]);
    assert_ne!(signatures(changed.conveyor())[3], signatures(plan.conveyor())[3]);
}

#[test]
fn other_platforms_and_developer_mode_have_signatures_of_their_own() {
    let file = file(EXAMPLE_1);
    let world = one_commit();
    let plain = signatures(world.plan(&file).conveyor());
    let arm = super::PlanOptions::new(strake_oci::Platform::linux("arm64"));
    let developer = super::PlanOptions { mode: super::Mode::Developer, ..options() };
    for options in [arm, developer] {
        let other = signatures(world.plan_with(&file, &options).conveyor());
        assert!(plain.iter().zip(&other).all(|(a, b)| a.0 == b.0 && a.1 != b.1));
    }
}

#[test]
fn a_mapping_that_takes_nothing_is_refused_or_left_out() {
    let file = file("dimg: ~\nfrom: a:1\ngit:\n- add: /nowhere\n  to: /app\n");
    let mut facts = super::Facts::default();
    let (id, image) = file.dimgs().next().unwrap();
    let selection = image.rules.git[0].selection.clone();
    facts.mappings.insert(selection, super::MappingState::Empty);
    let error = super::plan(&file, id, &options(), &facts).unwrap_err();
    assert!(error.to_string().contains("to `/app` of `~`"), "{error}");
    let lenient = super::PlanOptions { empty_mappings: super::EmptyMappings::LeaveOut, ..options() };
    let plan = one_commit().plan_with(&file, &lenient);
    assert_eq!(show(plan.conveyor()), "+from");
}
