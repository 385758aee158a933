//! Logins for one command, against a real registry with passwords.

use strake_testkit::{Base, Finished, Registry, RegistryOptions, Run, Sandbox, lacking, program_on_path};

use crate::dimg_scene::Project;
use crate::{STRAKE, for_both_users};

/// The registry's user and password.
const USER: &str = "strake";
const PASSWORD: &str = "secret";

const TYPED: [&str; 4] = ["--registry-username", USER, "--registry-password", PASSWORD];
const PIPED: [&str; 3] = ["--registry-username", USER, "--registry-password-stdin"];

/// A registry that asks for a password, or nothing where it is not installed.
fn registry() -> Option<Registry> {
    if program_on_path("docker-registry").is_none() {
        lacking("docker-registry");
        return None;
    }
    Some(Registry::start_with(RegistryOptions { password: true, ..RegistryOptions::default() }).unwrap())
}

fn with_variables(run: Run) -> Run {
    run.env("STRAKE_REGISTRY_USERNAME", USER).env("STRAKE_REGISTRY_PASSWORD", PASSWORD)
}

/// Finishes with this code, and shows the password nowhere, not even to developers.
#[track_caller]
fn quietly(code: i32, run: Run) -> Finished {
    let finished = run.env("STRAKE_LOG", "trace").finish().unwrap();
    assert_eq!(finished.code, code, "{finished}");
    let said = [finished.stdout.as_str(), &finished.stderr].concat();
    // `strake:secret` in base64.
    assert!(!said.contains(PASSWORD) && !said.contains("c3RyYWtlOnNlY3JldA"), "{finished}");
    finished
}

#[test]
fn a_login_holds_for_one_command_however_it_is_given() {
    let Some(registry) = registry() else { return };
    for_both_users(|sandbox| {
        let name = format!("{}/app:1", registry.address());
        sandbox.strake(["tag", "busybox", &name]).succeed().unwrap();
        let strake = |words: &[&str]| sandbox.strake(words);
        let refused = quietly(3, strake(&["push", &name]));
        assert!(refused.stderr.contains("no credentials for"), "{refused}");
        let warned = quietly(0, strake(&[&["push", &name], &TYPED[..]].concat()));
        assert_eq!(
            warned.stderr.matches("--registry-password can be seen by everybody").count(),
            1,
            "{warned}"
        );
        let piped = quietly(0, strake(&[&["push", &name], &PIPED[..]].concat()).input("secret\n"));
        assert!(!piped.stderr.contains("warning"), "{piped}");
        quietly(0, with_variables(strake(&["pull", &name])));
        quietly(3, strake(&["pull", &name]));
        let wrong = strake(&["pull", &name, "--registry-username", USER, "--registry-password-stdin"]);
        let wrong = wrong.input("no secret!").finish().unwrap();
        assert!(wrong.code == 3 && wrong.stderr.contains("not accepted"), "{wrong}");
        assert!(!wrong.stderr.contains("secret!"), "{wrong}");
        sandbox.strake(["rmi", &name]).succeed().unwrap();
        quietly(
            0,
            strake(&[&["run", "--network=none"], &PIPED[..], &[&name, "true"]].concat()).input(PASSWORD),
        );
    });
}

#[test]
fn builds_log_in_where_it_is_said_and_nowhere_else() {
    let (Some(registry), Some(other)) = (registry(), registry()) else { return };
    let sandbox = Sandbox::new(STRAKE).unwrap();
    sandbox.load_base(Base::Busybox, "busybox").unwrap();
    let base = |registry: &Registry| format!("{}/base:1", registry.address());
    for registry in [&registry, &other] {
        sandbox.strake(["tag", "busybox", &base(registry)]).succeed().unwrap();
        quietly(0, sandbox.strake([&["push", &base(registry)], &PIPED[..]].concat()).input(PASSWORD));
        sandbox.strake(["rmi", &base(registry)]).succeed().unwrap();
    }
    let address = registry.address();
    let dockerfile =
        |registry: &Registry| sandbox.write("c/Dockerfile", format!("FROM {}\n", base(registry))).unwrap();
    dockerfile(&registry);
    let unsaid = quietly(2, sandbox.strake([&["build", "c"], &PIPED[..]].concat()).input(PASSWORD));
    assert!(
        unsaid.stderr.contains("which registry") && unsaid.stderr.contains("--registry HOST"),
        "{unsaid}"
    );
    let pushed = format!("{address}/made:1");
    let words = [&["build", "--push", "-t", &pushed, "c"], &PIPED[..]].concat();
    quietly(0, sandbox.strake(words).input(PASSWORD));
    // A Dockerfile may name any registry: the password is not for it.
    dockerfile(&other);
    let before = other.log();
    let refused = quietly(3, sandbox.strake([&["build", "--registry", &address, "c"], &TYPED[..]].concat()));
    assert!(refused.stderr.contains("no credentials for"), "{refused}");
    let log = other.log();
    let asked = &log[before.len()..];
    assert!(asked.contains("/v2/base/manifests/1") && !asked.contains("auth.user.name"), "{asked}");
    quietly(0, with_variables(sandbox.strake(["build", "c"])).env("STRAKE_REGISTRY", other.address()));
    let both =
        quietly(2, sandbox.strake([&["build", "-f", "-", "c"], &PIPED[..]].concat()).input("FROM scratch"));
    assert!(both.stderr.contains("standard input"), "{both}");
}

#[test]
fn stage_files_take_their_base_with_a_login() {
    let Some(registry) = registry() else { return };
    let project = Project::new("app");
    let name = format!("{}/base:1", registry.address());
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    project.prints(&["tag", "busybox", &name]);
    quietly(0, project.command(&[&["push", &name], &PIPED[..]].concat()).input(PASSWORD));
    project.prints(&["rmi", &name]);
    project.file("strake.yaml", &format!("dimg: ~\nfrom: {name}\nshell:\n  install: echo 1 > /made\n"));
    project.commit("first");
    quietly(3, project.command(&["dimg", "build"]));
    let unsaid = quietly(2, project.command(&[&["dimg", "build"], &TYPED[..]].concat()));
    assert!(unsaid.stderr.contains("--registry HOST"), "{unsaid}");
    let address = registry.address();
    let words = [&["dimg", "export", "--build", "/made", "out", "--registry", &address], &PIPED[..]].concat();
    quietly(0, project.command(&words).input(PASSWORD));
    assert_eq!(project.sandbox.read("p/out/made").unwrap(), "1\n");
    // In a job of GitLab the project's registry is meant.
    project.prints(&["rmi", &name]);
    project.file("strake.yaml", &format!("dimg: ~\nfrom: {name}\nfromCacheVersion: 2\n"));
    let job = project.command(&[&["dimg", "build"], &PIPED[..]].concat()).input(PASSWORD);
    quietly(
        0,
        job.env("GITLAB_CI", "true").env("CI_REGISTRY", registry.address()).env("CI_JOB_TOKEN", "wrong"),
    );
    let refused = quietly(2, project.command(&[&["dimg", "run", "~"], &TYPED[..], &["--", "true"]].concat()));
    assert!(refused.stderr.contains("no registry is asked"), "{refused}");
}

#[test]
fn a_login_comes_before_helpers_and_a_named_directory_before_all_files() {
    let Some(registry) = registry() else { return };
    let sandbox = Sandbox::new(STRAKE).unwrap();
    sandbox.load_base(Base::Busybox, "busybox").unwrap();
    let name = format!("{}/app:1", registry.address());
    sandbox.strake(["tag", "busybox", &name]).succeed().unwrap();
    sandbox.write("config/config.json", "{\"credsStore\": \"of-nobody\"}").unwrap();
    let config = sandbox.path("config");
    let push =
        |words: &[&str]| sandbox.strake([&["push", &name], words].concat()).env("DOCKER_CONFIG", &config);
    quietly(3, push(&[]));
    quietly(0, push(&PIPED).input(PASSWORD));
    let auths =
        format!("{{\"auths\": {{\"{}\": {{\"auth\": \"c3RyYWtlOnNlY3JldA==\"}}}}}}", registry.address());
    sandbox.write("named/config.json", auths).unwrap();
    for variable in ["STRAKE_DOCKER_CONFIG", "DAPP_DOCKER_CONFIG"] {
        quietly(0, push(&[]).env(variable, sandbox.path("named")));
    }
}
