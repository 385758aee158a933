use std::ffi::OsString;
use std::fs;
use std::path::Path;

use strake_registry::{Credential, Credentials, Secret};

use super::*;
use crate::args::LoginArgs;

/// A machine with settings files below `dir/etc` and a home in `dir/home`.
fn outside(dir: &Path, variables: &[(&str, &str)]) -> Outside {
    let home = dir.join("home");
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let variables = [(OsString::from("HOME"), home.into_os_string())].into_iter().chain(variables);
    Outside::new(variables.collect::<Vec<_>>(), dir.join("etc"), 1000)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn load(outside: Outside) -> Result<Settings, Failure> {
    Settings::load(&GlobalArgs::default(), outside)
}

#[test]
fn flag_then_variable_then_user_then_machine() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(load(outside(dir.path(), &[])).unwrap().root, at("home/.local/share/strake"));
    write(&at("etc/strake/config.toml"), "root = \"/machine\"\njobs = 3\nprogress = \"plain\"\n");
    let settings = load(outside(dir.path(), &[])).unwrap();
    assert_eq!((settings.root, settings.jobs.get()), ("/machine".into(), 3));
    write(&at("home/.config/strake/config.toml"), "root = \"/user\"\n");
    let settings = load(outside(dir.path(), &[])).unwrap();
    assert_eq!((settings.root, settings.progress), ("/user".into(), ProgressMode::Plain));
    let variables = [("STRAKE_ROOT", "/variable"), ("STRAKE_PROGRESS", "tty"), ("STRAKE_JOBS", "9")];
    let settings = load(outside(dir.path(), &variables)).unwrap();
    assert_eq!(
        (settings.root, settings.progress, settings.jobs.get()),
        ("/variable".into(), ProgressMode::Tty, 9)
    );
    let flags = GlobalArgs { root: Some("/flag".into()), config: None };
    assert_eq!(Settings::load(&flags, outside(dir.path(), &variables)).unwrap().root, Path::new("/flag"));
    let root = Outside::new([], at("no"), 0);
    assert_eq!(load(root).unwrap().root, Path::new("/var/lib/strake"));
}

#[test]
fn mistakes_in_files_have_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/strake/config.toml");
    let message = |text: &str| {
        write(&file, text);
        load(outside(dir.path(), &[])).unwrap_err().message.replace(&file.display().to_string(), "F")
    };
    assert!(
        message("jobs = 1\nrot = \"/x\"\n").starts_with("settings F:2:1: unknown field `rot`"),
        "{}",
        message("rot = 1")
    );
    assert!(message("jobs = 0\n").starts_with("settings F:1:8: "));
    assert!(message("jobs = \n").starts_with("settings F:1:"));
    assert!(message("progress = \"loud\"\n").contains("want one of auto, tty, plain"));
    assert!(message("executor = \"bubblewrap\"\n").contains("want own, runc or crun"));
}

#[test]
fn variables_of_others_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let settings = |name, value| load(outside(dir.path(), &[(name, value)]));
    assert_eq!(settings("BUILDKIT_PROGRESS", "plain").unwrap().progress, ProgressMode::Plain);
    assert_eq!(
        settings("DOCKER_DEFAULT_PLATFORM", "linux/arm64").unwrap().platform,
        Platform::linux("arm64")
    );
    assert_eq!(settings("SOURCE_DATE_EPOCH", "17").unwrap().source_date_epoch, Some(17));
    assert!(!settings("NO_COLOR", "1").unwrap().colour);
    assert!(settings("NO_COLOR", "").unwrap().colour);
    for value in ["x", "-1", "1.5", "99999999999999"] {
        let failure = settings("SOURCE_DATE_EPOCH", value).unwrap_err();
        assert_eq!(failure.kind.code(), 2, "{value}");
    }
    assert!(settings("STRAKE_JOBS", "0").is_err());
}

#[test]
fn registries_mirrors_and_proxies_are_read_where_people_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(
        &at("etc/containers/registries.conf"),
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
         [[registry.mirror]]\nlocation = \"mirror.example:5000\"\ninsecure = true\n[[registry]]\nlocation = \"bad.example\"\nblocked = true\n",
    );
    write(
        &at("etc/strake/config.toml"),
        "[registry.\"quay.io\"]\nmirrors = [\"m.example/quay\", \"http://n.example\"]\ninsecure = true\n",
    );
    write(&at("etc/docker/certs.d/r.example:5000/ca.crt"), "PEM");
    write(
        &at("home/.docker/config.json"),
        r#"{"auths": {}, "proxies": {"default": {"httpProxy": "http://p:1"}}}"#,
    );
    let settings = load(outside(dir.path(), &[("https_proxy", "http://q:2"), ("NO_PROXY", "x")])).unwrap();
    assert_eq!(settings.blocked, ["bad.example"]);
    assert_eq!(settings.proxy_args["HTTP_PROXY"], "http://p:1");
    let config = settings.registry().unwrap();
    assert_eq!(config.mirrors["docker.io"][0].host, "mirror.example:5000");
    assert!(config.mirrors["docker.io"][0].insecure && config.mirrors["quay.io"][1].insecure);
    assert_eq!(config.insecure, ["quay.io"]);
    assert_eq!(config.tls.hosts["r.example:5000"].roots, [b"PEM".to_vec()]);
    assert_eq!(
        (config.proxy.https.as_deref(), config.proxy.no_proxy.as_deref()),
        (Some("http://q:2"), Some("x"))
    );
}

#[test]
fn broken_credentials_name_their_file_and_no_content() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("home/.docker/config.json"), "{\"auths\": hunter2");
    let failure = load(outside(dir.path(), &[])).unwrap().registry().unwrap_err();
    assert!(failure.message.contains(".docker/config.json"), "{}", failure.message);
    assert!(!failure.message.contains("hunter2"));
    assert_eq!(failure.kind.code(), 3);
}

#[test]
fn certificates_for_steps_must_be_some() {
    let dir = tempfile::tempdir().unwrap();
    let settings = load(outside(dir.path(), &[])).unwrap();
    let file = dir.path().join("ca.pem");
    write(&file, "nonsense");
    assert_eq!(settings.ca_certificates(Some(&file)).unwrap_err().kind.code(), 2);
    write(&file, "-----BEGIN CERTIFICATE-----\nx\n");
    assert!(settings.ca_certificates(Some(&file)).unwrap().is_some());
    assert!(settings.ca_certificates(None).unwrap().is_none());
    assert!(settings.ca_certificates(Some(&dir.path().join("no"))).is_err());
}

#[test]
fn who_we_are_comes_from_options_then_a_named_directory_then_the_job_then_files() {
    let dir = tempfile::tempdir().unwrap();
    let entry = |host: &str, user: &str| {
        format!("{{\"auths\": {{\"{host}\": {{\"username\": \"{user}\", \"password\": \"p\"}}}}}}")
    };
    write(&dir.path().join("home/.docker/config.json"), &entry("reg.example", "file"));
    write(&dir.path().join("named/config.json"), &entry("reg.example", "named"));
    let named = dir.path().join("named");
    let basic = |user: &str, password: &str| Credential::Basic {
        user: user.to_owned(),
        password: Secret::new(password),
    };
    let credentials = |variables: &[(&str, &str)], args: &LoginArgs| {
        let mut settings = load(outside(dir.path(), variables)).unwrap();
        settings.log_in(args, &[]).unwrap();
        settings.registry().unwrap().credentials
    };
    let with = |text: &str, said: &[(&str, Credential)]| {
        let mut credentials = Credentials::from_json(text).unwrap();
        said.iter().for_each(|(place, credential)| credentials.say(place, credential.clone()));
        credentials
    };
    let (file, nobody) = (entry("reg.example", "file"), LoginArgs::default());
    let job = [("GITLAB_CI", "true"), ("CI_REGISTRY", "reg.example"), ("CI_JOB_TOKEN", "t")];
    let token = ("reg.example", basic("gitlab-ci-token", "t"));
    assert_eq!(credentials(&[], &nobody), with(&file, &[]));
    assert_eq!(credentials(&job, &nobody), with(&file, std::slice::from_ref(&token)));
    assert_eq!(credentials(&job[1..], &nobody), with(&file, &[]), "only in GitLab");
    for name in ["STRAKE_IGNORE_CI_DOCKER_AUTOLOGIN", "DAPP_IGNORE_CI_DOCKER_AUTOLOGIN"] {
        assert_eq!(credentials(&[&job[..], &[(name, "1")]].concat(), &nobody), with(&file, &[]), "{name}");
    }
    for googles in ["gcr.io", "eu.gcr.io", "europe-docker.pkg.dev"] {
        let job = [job[0], ("CI_REGISTRY", googles), job[2]];
        assert_eq!(credentials(&job, &nobody), with(&file, &[]), "{googles}");
    }
    for name in ["STRAKE_DOCKER_CONFIG", "DAPP_DOCKER_CONFIG"] {
        let variables = [&job[..], &[(name, named.to_str().unwrap())]].concat();
        assert_eq!(credentials(&variables, &nobody), with(&entry("reg.example", "named"), &[]), "{name}");
    }
    let me = LoginArgs {
        registry_username: Some("me".to_owned()),
        registry_password: Some(Secret::new("now")),
        ..LoginArgs::default()
    };
    assert_eq!(credentials(&job, &me), with(&file, &[("reg.example", basic("me", "now"))]));
    let there = LoginArgs { registry: Some("reg.example/team".to_owned()), ..me };
    assert_eq!(credentials(&job, &there), with(&file, &[token, ("reg.example/team", basic("me", "now"))]));
    let settings = load(outside(dir.path(), &[("STRAKE_DOCKER_CONFIG", "/nowhere")])).unwrap();
    assert!(settings.registry().unwrap_err().message.contains("/nowhere/config.json"));
}
