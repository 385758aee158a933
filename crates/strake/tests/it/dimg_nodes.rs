//! What the tests of distributed builds share: nodes with the same project and stores of their own, and a registry.

use strake_testkit::{Base, Registry, RegistryOptions, Sandbox, lacking};

use crate::STRAKE;
use crate::dimg_scene::{Project, rows};

/// The stages of a conveyor with everything that the document's own example has, but with shell instructions.
pub(crate) const NINE: &str = "dimg: ~
from: busybox
docker:
  WORKDIR: /app
  USER: app
  EXPOSE: \"80\"
  ENV:
    LC_ALL: en_US.UTF-8
shell:
  beforeInstall:
  - echo packages > /packages
  install:
  - mkdir /app/vendor && cp /app/composer.json /app/vendor/installed
  setup:
  - printf '#!/bin/sh\\ncat /app/version.txt\\n' > /app/start.sh && chmod 755 /app/start.sh
  - echo 1 > /app/version.txt
git:
- add: /
  to: /app
  owner: app
  group: app
";

/// The titles of its stages.
pub(crate) const NINE_TITLES: [&str; 9] = [
    "From",
    "Before install",
    "Git artifacts: create archive",
    "Git artifacts: apply patches (before install)",
    "Install",
    "Git artifacts: apply patches (before setup)",
    "Setup",
    "Git artifacts: apply patches (after setup)",
    "Docker instructions",
];

/// A registry, or nothing where none is installed.
pub(crate) fn registry() -> Option<Registry> {
    if strake_testkit::program_on_path("docker-registry").is_none() {
        lacking("docker-registry");
        return None;
    }
    Some(Registry::start_with(RegistryOptions { delete: true, ..RegistryOptions::default() }).unwrap())
}

/// The first node: a project named `symfony-demo` with one commit.
pub(crate) fn first_node(stage_file: &str) -> Project {
    let node = Project::new("symfony-demo");
    node.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    node.file("strake.yaml", stage_file);
    node.file(".gitignore", ".strake.render.yaml\n.strake.yaml.render.yaml\n");
    node.file("composer.json", "{}\n");
    node.commit("first");
    node
}

impl Project {
    /// Another node: a clone of this project, and a store of its own.
    pub(crate) fn another_node(&self) -> Self {
        let sandbox = Sandbox::new(STRAKE).unwrap();
        sandbox.load_base(Base::Busybox, "busybox").unwrap();
        let from = self.sandbox.path("p");
        sandbox.run("git").args(["clone", "-q"]).arg(&from).arg("p").succeed().unwrap();
        let node = Self { sandbox };
        let origin = self.git(&["remote", "get-url", "origin"]);
        node.git(&["remote", "add", "first", from.to_str().unwrap()]);
        node.git(&["remote", "set-url", "origin", &origin]);
        node
    }

    /// The names of stages in this node's store.
    pub(crate) fn local_stages(&self) -> Vec<String> {
        let text = self.prints(&["images", "--format", "json"]);
        let images: serde_json::Value = serde_json::from_str(&text).unwrap();
        let name = |image: &serde_json::Value| {
            format!("{}:{}", image["repository"].as_str().unwrap(), image["tag"].as_str().unwrap())
        };
        let mut names: Vec<String> = images.as_array().unwrap().iter().map(name).collect();
        names.retain(|name| name.starts_with("dimgstage-"));
        names.sort();
        names
    }
}

/// The tags of images of a repository, sorted.
pub(crate) fn tags(registry: &Registry, repository: &str) -> Vec<String> {
    all_tags(registry, repository).into_iter().filter(|tag| !tag.starts_with("meta-")).collect()
}

/// The tags of a repository, sorted.
pub(crate) fn all_tags(registry: &Registry, repository: &str) -> Vec<String> {
    let run = strake_testkit::Run::new("skopeo").args(["list-tags", "--tls-verify=false"]);
    let listed = run.arg(format!("docker://{}/{repository}", registry.address())).finish().unwrap();
    if listed.code != 0 {
        assert!(listed.stderr.contains("name unknown") || listed.stderr.contains("404"), "{listed}");
        return Vec::new();
    }
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let mut tags: Vec<String> =
        listed["Tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
    tags.sort();
    tags
}

/// How many requests of a kind a registry got since its log had this length: `\"GET /v2/…/blobs/`.
pub(crate) fn requests(registry: &Registry, since: usize, method: &str, part: &str) -> usize {
    let log = registry.log();
    let is_meant = |line: &&str| line.contains(&format!("\"{method} /v2/")) && line.contains(part);
    log[since..].lines().filter(is_meant).count()
}

/// The titles of rows with this state.
pub(crate) fn with_state(text: &str, state: &str) -> Vec<String> {
    let rows = rows(text).into_iter().filter(|(_, found)| found.starts_with(state));
    rows.map(|(title, _)| title.trim_end_matches(" ...").trim().to_owned()).collect()
}
