use std::fs;
use std::os::unix::fs::symlink;

use super::spec::Repository;
use super::*;

fn git(path: &str, reference: &str, subdirectory: &str) -> Spec {
    Spec::Git(Repository {
        path: path.into(),
        reference: reference.into(),
        subdirectory: subdirectory.into(),
    })
}

#[test]
fn contexts_are_told_apart() {
    let parse = |text: &str| Spec::parse(text).map_err(|failure| failure.message);
    assert_eq!(parse("-"), Ok(Spec::Stdin));
    assert_eq!(parse("."), Ok(Spec::Directory(".".into())));
    assert_eq!(parse("/a#main"), Ok(git("/a", "main", "")));
    assert_eq!(parse("/a#v1:sub/dir/"), Ok(git("/a", "v1", "sub/dir")));
    assert_eq!(parse("/a#:sub"), Ok(git("/a", "HEAD", "sub")));
    assert_eq!(parse("file:///a.git"), Ok(git("/a.git", "HEAD", "")));
    for text in [
        "",
        "https://x/y.git",
        "git@github.com:a/b",
        "file://host/a",
        "/a#-x",
        "/a#a..b",
        "/a#a b",
        "/a#a:../x",
        "/a#a:.git/x",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_directory_with_a_hash_is_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a#b");
    fs::create_dir(&odd).unwrap();
    assert_eq!(Spec::parse(odd.to_str().unwrap()).unwrap(), Spec::Directory(odd));
}

fn open_dir(root: &Path, file: Option<&str>) -> Result<Inputs, Failure> {
    directory(root, "ctx", file)
}

#[test]
fn dockerfiles_and_ignore_files_are_found_as_docker_does() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let error = open_dir(dir.path(), None).unwrap_err();
    assert_eq!((error.message.as_str(), error.kind.code()), ("context ctx: there is no Dockerfile", 2));
    fs::write(at("dockerfile"), "FROM lower").unwrap();
    assert_eq!(open_dir(dir.path(), None).unwrap().dockerfile, b"FROM lower");
    fs::write(at("Dockerfile"), "FROM upper").unwrap();
    fs::write(at(".dockerignore"), "x").unwrap();
    let inputs = open_dir(dir.path(), None).unwrap();
    assert_eq!((inputs.dockerfile.as_slice(), inputs.name.as_str()), (&b"FROM upper"[..], "Dockerfile"));
    assert!(!inputs.context.ignore.is_empty());
    fs::write(at("Dockerfile.dockerignore"), "").unwrap();
    assert!(open_dir(dir.path(), None).unwrap().context.ignore.is_empty());
    let outside = tempfile::tempdir().unwrap();
    let named = outside.path().join("D");
    fs::write(&named, "FROM outside").unwrap();
    fs::write(outside.path().join("D.dockerignore"), "!").unwrap();
    let error = open_dir(dir.path(), named.to_str()).unwrap_err();
    assert!(error.message.starts_with("D.dockerignore:1: "), "{}", error.message);
    fs::remove_file(outside.path().join("D.dockerignore")).unwrap();
    let inputs = open_dir(dir.path(), named.to_str()).unwrap();
    assert_eq!((inputs.dockerfile, inputs.place), (b"FROM outside".to_vec(), named.display().to_string()));
}

#[test]
fn a_context_cannot_point_at_other_files() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret");
    fs::write(&secret, "FROM secret").unwrap();
    symlink(&secret, dir.path().join("Dockerfile")).unwrap();
    let error = open_dir(dir.path(), None).unwrap_err();
    assert!(error.hints[0].contains("link out of the context"), "{error:?}");
    fs::remove_file(dir.path().join("Dockerfile")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("Dockerfile"), 0o600.into()).unwrap();
    assert!(open_dir(dir.path(), None).unwrap_err().message.contains("not a regular file"));
}
