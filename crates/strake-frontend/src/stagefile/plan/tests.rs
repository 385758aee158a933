use super::world::{EXAMPLE_1, World, file, one_commit, options, refused, show, signatures};
use super::{Found, Presence, Refusal};

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
