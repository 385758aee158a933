//! What holds for every file and every history (reference §6.7, §7.9).

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::{StageFile, StageKind};
use super::world::{World, file, signatures};
use super::{Action, Conveyor, Presence};

/// The parts of a stage file that may be there or not.
#[derive(Debug, Clone, Default)]
struct Shape {
    before_install: Option<u8>,
    install: Option<u8>,
    before_setup: Option<u8>,
    setup: Option<u8>,
    version: Option<u8>,
    docker: Option<u8>,
    imports: [bool; 4],
    watched: [bool; 3],
    mappings: u8,
    layers: bool,
    name: u8,
}

impl Shape {
    fn text(&self) -> String {
        let mut text = String::from("artifact: tools\nfrom: debian:12\nshell:\n  install: make\n---\n");
        text += &format!("dimg: app{}\nfrom: debian:12\nasLayers: {}\n", self.name, self.layers);
        if self.mappings > 0 {
            text += "git:\n";
        }
        for (index, (add, filter)) in [
            ("/src", ""),
            ("/", "  excludePaths: [src/gen, '**/*.md']\n"),
            ("/conf", "  includePaths: '*.conf'\n"),
        ]
        .into_iter()
        .take(self.mappings.into())
        .enumerate()
        {
            text += &format!("- add: {add}\n  to: /app{index}\n{filter}");
            if index == 0 && self.watched.contains(&true) {
                text += "  stageDependencies:\n";
                for (stage, watched) in ["install", "beforeSetup", "setup"].iter().zip(self.watched) {
                    if watched {
                        text += &format!("    {stage}: [{stage}, {stage}.d]\n");
                    }
                }
            }
        }
        let positions = ["before: install", "after: install", "before: setup", "after: setup"];
        if self.imports.contains(&true) {
            text += "import:\n";
        }
        for (index, position) in positions.iter().enumerate().filter(|(index, _)| self.imports[*index]) {
            text += &format!("- artifact: tools\n  add: /usr/bin\n  to: /tools{index}\n  {position}\n");
        }
        let stages = [
            ("beforeInstall", self.before_install),
            ("install", self.install),
            ("beforeSetup", self.before_setup),
            ("setup", self.setup),
        ];
        if stages.iter().any(|(_, stage)| stage.is_some()) || self.version.is_some() {
            text += "shell:\n";
        }
        for (key, value) in stages.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            text += &format!("  {key}: [echo {value}, 'echo {key}']\n");
        }
        if let Some(version) = self.version {
            text += &format!("  cacheVersion: {version}\n");
        }
        if let Some(value) = self.docker {
            text += &format!("docker:\n  ENV: {{A: {value}}}\n");
        }
        text
    }

    fn file(&self) -> StageFile {
        file(&self.text())
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let stage = || proptest::option::of(0..3_u8);
    let stages = (stage(), stage(), stage(), stage(), stage(), stage());
    (stages, any::<[bool; 4]>(), any::<[bool; 3]>(), 0..4_u8, proptest::bool::weighted(0.2), 0..3_u8)
        .prop_map(|(stages, imports, watched, mappings, layers, name)| Shape {
            before_install: stages.0,
            install: stages.1,
            before_setup: stages.2,
            setup: stages.3,
            version: stages.4,
            docker: stages.5,
            imports,
            watched,
            mappings,
            layers,
            name,
        })
}

const PATHS: [&str; 9] = [
    "src/main.py",
    "src/install",
    "src/setup.d/a",
    "src/beforeSetup",
    "src/gen/x",
    "src/read.md",
    "conf/a.conf",
    "conf/b.txt",
    "readme",
];

/// Every mapping takes something of it.
fn first_commit() -> World {
    let mut world = World::new();
    world.commit(|tree| tree.extend(PATHS.map(|path| (path.to_owned(), (0, 10)))));
    world
}

fn conveyor(world: &World, shape: &Shape) -> Conveyor {
    world.plan(&shape.file()).conveyor().clone()
}

/// The signatures of the stages before the first of these kinds.
fn until(conveyor: &Conveyor, kinds: &[StageKind]) -> Vec<(&'static str, String)> {
    let end = conveyor.stages.iter().position(|stage| kinds.contains(&stage.kind));
    signatures(conveyor)[..end.unwrap_or(conveyor.stages.len())].to_vec()
}

/// Something that happens between or instead of builds.
#[derive(Debug, Clone)]
enum Event {
    Build,
    /// Writes one of [`PATHS`], large enough in some cases to be a step of its own.
    Write(Index, u64, u64),
    Remove(Index),
    /// Goes to some other commit; what is not below it any more may vanish.
    Switch(Index, bool),
    Reset,
    /// Forgets an image, or all but its labels.
    Lose(Index, bool),
    /// Keeps only the last stage, as a pull does.
    KeepLast,
    /// Edits the file.
    Edit(Shape),
}

fn event() -> impl Strategy<Value = Event> {
    let size = prop_oneof![4 => 1..1000_u64, 1 => Just(600_000_u64), 1 => Just(3_000_000_u64)];
    prop_oneof![
        6 => Just(Event::Build),
        6 => (any::<Index>(), 1..50_u64, size).prop_map(|(path, content, size)| Event::Write(path, content, size)),
        1 => any::<Index>().prop_map(Event::Remove),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(commit, vanish)| Event::Switch(commit, vanish)),
        1 => Just(Event::Reset),
        4 => (any::<Index>(), any::<bool>()).prop_map(|(image, all)| Event::Lose(image, all)),
        2 => Just(Event::KeepLast),
        1 => shape().prop_map(Event::Edit),
    ]
}

fn happen(world: &mut World, shape: &mut Shape, event: Event) {
    match event {
        Event::Build => {
            let file = shape.file();
            // A stage that is known but not to be had is assembled at the current commit, although the signatures
            // above it were those for the commit it had. The next build finds what is true now.
            let mut rounds = 0;
            while rounds == 0 || !conveyor(world, shape).to_assemble().is_empty() {
                let image = world.build(&file);
                world.check(&file, &image);
                rounds += 1;
                assert!(rounds <= 3, "what was built is found");
            }
        }
        Event::Write(path, content, size) => world.write(PATHS[path.index(PATHS.len())], content, size),
        Event::Remove(path) => {
            // One file stays for each mapping.
            let path = PATHS[path.index(PATHS.len())];
            world.commit(|tree| {
                if !["src/main.py", "conf/a.conf", "readme"].contains(&path) {
                    tree.remove(path);
                }
            });
        }
        Event::Switch(commit, vanish) => {
            let old = world.head;
            world.head = commit.index(world.commits.len());
            if vanish && old > world.head {
                world.lost.extend(world.head + 1..=old);
                world.head = (0..=world.head).rev().find(|commit| !world.lost.contains(commit)).unwrap_or(0);
            }
            world.lost.remove(&world.head);
        }
        Event::Reset => {
            world.commit(|_| {});
            let head = world.head;
            world.commits[head].reset = true;
        }
        Event::Lose(image, all) => {
            let signature = world.images.keys().nth(image.index(world.images.len().max(1))).cloned();
            if let Some(signature) = signature {
                match all {
                    true => drop(world.images.remove(&signature)),
                    false => {
                        world
                            .images
                            .entry(signature)
                            .and_modify(|image| image.known.presence = Presence::Recorded);
                    }
                }
            }
        }
        Event::KeepLast => {
            let last = conveyor(world, shape).signature().to_owned();
            if world.images.contains_key(&last) {
                world.images.retain(|signature, _| *signature == last);
            }
        }
        Event::Edit(other) => *shape = other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: the files of a built image are those of the current commit, every patch fits what it is
    /// applied to (both checked by the world), and what was built is found in the end.
    #[test]
    fn no_image_ever_has_old_or_foreign_files(
        mut shape in shape(),
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut world = first_commit();
        for event in events {
            happen(&mut world, &mut shape, event);
        }
        happen(&mut world, &mut shape, Event::Build);
    }

    #[test]
    fn names_are_in_no_signature(shape in shape()) {
        let world = first_commit();
        let other = Shape { name: shape.name + 1, ..shape.clone() };
        prop_assert_eq!(signatures(&conveyor(&world, &shape)), signatures(&conveyor(&world, &other)));
    }

    #[test]
    fn a_change_of_setup_reaches_no_stage_before_its_patch(shape in shape(), value in 3..9_u8) {
        let world = first_commit();
        let other = Shape { setup: Some(value), ..shape.clone() };
        let kinds = [StageKind::GitPreSetupPatch, StageKind::Setup, StageKind::GitPostSetupPatch,
            StageKind::AfterSetupArtifact, StageKind::DockerInstructions];
        let (one, other) = (conveyor(&world, &shape), conveyor(&world, &other));
        prop_assert_eq!(until(&one, &kinds), until(&other, &kinds));
        prop_assert_ne!(one.signature(), other.signature());
    }

    #[test]
    fn a_change_of_docker_reaches_only_the_last_stage(shape in shape(), value in 3..9_u8) {
        let world = first_commit();
        let other = Shape { docker: Some(value), ..shape.clone() };
        let kinds = [StageKind::DockerInstructions];
        let (one, other) = (conveyor(&world, &shape), conveyor(&world, &other));
        prop_assert_eq!(until(&one, &kinds), until(&other, &kinds));
        prop_assert_ne!(one.signature(), other.signature());
    }

    /// A stage that exists has the same signature whether the ones that are skipped could exist or not.
    #[test]
    fn what_is_skipped_changes_nothing(shape in shape()) {
        let world = first_commit();
        let conveyor = conveyor(&world, &shape);
        for pair in conveyor.stages.windows(2) {
            prop_assert_eq!(&pair[1].parts[0].value, &pair[0].signature);
            prop_assert!(pair[0].kind <= pair[1].kind);
        }
        for stage in &conveyor.stages {
            let parts = stage.parts.iter().map(|part| &part.value);
            prop_assert_eq!(&super::super::scheme31::checksum(parts), &stage.signature);
        }
    }

    /// A new commit adds the latest patch, unless it touches what is watched, is large, or asks for a fresh archive.
    #[test]
    fn a_new_commit_reaches_only_the_latest_patch(shape in shape(), path in 0..PATHS.len(), size in 1..1000_u64) {
        let mut world = first_commit();
        let file = shape.file();
        world.build(&file);
        let before = conveyor(&world, &shape);
        world.write(PATHS[path], 9, size);
        let after = conveyor(&world, &shape);
        let kinds = [StageKind::GitLatestPatch, StageKind::DockerInstructions];
        let watched = |stage: &str| PATHS[path].starts_with(&format!("src/{stage}"));
        let stages = ["install", "beforeSetup", "setup"];
        let is_watched = shape.mappings > 0 && stages.iter().zip(shape.watched).any(|(stage, on)| on && watched(stage));
        if is_watched {
            prop_assert_ne!(until(&before, &kinds), until(&after, &kinds));
        } else {
            prop_assert_eq!(until(&before, &kinds), until(&after, &kinds));
            let is_patch = |stage: &super::Stage| matches!(&stage.action, Action::Patch(steps) if !steps.is_empty());
            for stage in after.stages.iter().filter(|stage| is_patch(stage)) {
                prop_assert_eq!(stage.kind, StageKind::GitLatestPatch);
            }
        }
    }
}
