//! `--ssh-key`: which keys commands of stages may use, and what is left of them.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use strake_testkit::{Base, Sandbox, SshServer, TestUser, is_root, keygen, lacking};

use crate::STRAKE;
use crate::dimg_scene::Project;

/// A stage asks the agent which keys there are, and logs in with them.
fn check_logging_in(sandbox: Sandbox, server: &SshServer) {
    let project = Project::in_sandbox(sandbox, "app");
    project.sandbox.load_base(Base::Tools, "tools").unwrap();
    let text = std::fs::read_to_string(server.key()).unwrap();
    let key = project.sandbox.write("key", &text).unwrap();
    // Others may read it, which ssh-add would refuse; it is not for a builder to change that.
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let known_hosts = std::fs::read_to_string(server.known_hosts()).unwrap();
    project.sandbox.write("known/hosts", known_hosts).unwrap();
    let options = "-o BatchMode=yes -o UserKnownHostsFile=/known/hosts";
    let (port, address) = (server.port(), server.address());
    let host = address.rsplit_once(':').unwrap().0;
    project.file(
        "strake.yaml",
        &format!(
            "dimg: ~\nfrom: tools\nmount:\n- fromPath: {}\n  to: /known\nshell:\n  install:\n\
             \x20 - ssh-add -l > /listed; ssh -p {port} {options} {host} echo '$((6 * 7))' > /said\n\
             \x20 - su -s /bin/sh -c 'SSH_AUTH_SOCK=/tmp/strake-ssh-agent ssh-add -l' nobody > /nobody\n",
            project.sandbox.path("known").display()
        ),
    );
    project.commit("first");
    let run = project.command(&["dimg", "build", "--ssh-key"]).arg(&key).env("STRAKE_NETWORK", "host");
    // An agent with another key, which nobody may see.
    let session = "umask 077; cat > session && ssh-add -q session && exec \"$0\" \"$@\"";
    let other = std::fs::read_to_string(server.other_key()).unwrap();
    run.through(["ssh-agent", "sh", "-c", session]).input(other).succeed().unwrap();
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let name = project.prints(&["stage", "image"]);
    let look = "cat /said; wc -l </listed; cat /listed; cmp /listed /nobody; ls /tmp";
    let seen = project.prints(&["run", "--network", "none", name.trim(), "sh", "-c", look]);
    let public = key_of(&text);
    let expected = format!("42\n1\n256 {} key (ED25519)\n", fingerprint(server));
    assert_eq!(seen, expected, "only the named key, for every user, and nothing is left");
    let store = project.sandbox.run("grep").args(["-rlF", public]).arg(project.sandbox.store());
    assert_eq!(store.finish().unwrap().stdout, "", "the key is nowhere in the store");
}

/// A line of the secret part.
fn key_of(text: &str) -> &str {
    text.lines().nth(3).unwrap()
}

fn fingerprint(server: &SshServer) -> String {
    let run = strake_testkit::Run::new("ssh-keygen").args(["-l", "-f"]).arg(server.key());
    run.succeed().unwrap().stdout.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn commands_of_stages_log_in_with_the_named_key_and_no_other() {
    if let Some(missing) = SshServer::lacks() {
        return lacking(missing);
    }
    let server = SshServer::start().unwrap();
    check_logging_in(Sandbox::new(STRAKE).unwrap(), &server);
    if !is_root() {
        return lacking("root, to run as a second, ordinary user");
    }
    check_logging_in(Sandbox::of_user(STRAKE, TestUser::first().unwrap()).unwrap(), &server);
}

#[test]
fn keys_that_cannot_be_used_are_told() {
    if let Some(missing) = SshServer::lacks() {
        return lacking(missing);
    }
    let project = Project::on_busybox("dimg: ~\nfrom: busybox\n");
    let directory = project.sandbox.path("");
    keygen(&directory, "locked", &["-t", "ed25519", "-N", "secret"]).unwrap();
    keygen(&directory, "huge", &["-t", "ecdsa", "-b", "521", "-N", ""]).unwrap();
    for (name, message, hint) in [
        ("nowhere", "No such file", ""),
        ("locked", "it is locked with a passphrase", "hint: add it to an agent with: ssh-add "),
        ("locked.pub", "this is a public key", "without .pub"),
        ("huge", "keys of the type ecdsa-sha2-nistp521 are not supported", "ssh-add "),
        ("p/strake.yaml", "this is no private key", "hint: name the file of a private key"),
    ] {
        let path = format!("../{name}");
        for words in [&["dimg", "build"][..], &["dimg", "build", "--dry-run"]] {
            let failed = project.fails(2, &[words, &["--ssh-key", &path]].concat());
            assert!(failed.stderr.contains("use the ssh key ../"), "{failed}");
            assert!(failed.stderr.to_lowercase().contains(&message.to_lowercase()), "{failed}");
            assert!(failed.stderr.contains(hint), "{failed}");
        }
    }
}

#[test]
fn the_agent_dies_with_the_program() {
    if let Some(missing) = SshServer::lacks() {
        return lacking(missing);
    }
    let project = Project::on_busybox("dimg: ~\nfrom: busybox\nshell:\n  install: echo at it; sleep 1000\n");
    project.commit("first");
    keygen(&project.sandbox.path(""), "key", &["-t", "ed25519", "-N", ""]).unwrap();
    let temp = project.sandbox.path("temp");
    std::fs::create_dir(&temp).unwrap();
    let agent = || {
        let folders = std::fs::read_dir(&temp).unwrap().map(|entry| entry.unwrap().path());
        let agents: Vec<_> =
            folders.map(|folder| folder.join("agent")).filter(|agent| agent.exists()).collect();
        agents.into_iter().next()
    };
    let mut holder =
        project.command(&["dimg", "build", "--ssh-key", "../key"]).env("TMPDIR", &temp).watched();
    let mut holder = holder.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(holder.stdout.take().unwrap());
    output.lines().map(Result::unwrap).find(|line| line == "at it").expect("the stage begins");
    let socket = agent().expect("an agent");
    assert_eq!(std::fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    drop(UnixStream::connect(&socket).unwrap());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(UnixStream::connect(&socket).is_err(), "nobody listens");
    std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    project.file("strake.yaml", "dimg: ~\nfrom: busybox\n");
    let build = project.command(&["dimg", "build", "--ssh-key", "../key"]).env("TMPDIR", &temp);
    build.succeed().unwrap();
    assert_eq!(agent(), None, "who ends in peace leaves nothing");
}
