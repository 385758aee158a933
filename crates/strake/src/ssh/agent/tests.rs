use std::process::Command;

use strake_testkit::{keygen, lacking, program_on_path};

use super::*;

/// An agent with keys `key0`, `key1`, … in its directory. None, and said, when ssh-keygen is missing.
fn agent(kinds: &[&[&str]]) -> Option<(tempfile::TempDir, PrivateAgent)> {
    if program_on_path("ssh-keygen").is_none() {
        lacking("ssh-keygen (package openssh-client)");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let keys = kinds.iter().enumerate().map(|(number, options)| {
        let options = [&["-N", ""], *options].concat();
        PrivateKey::read(&keygen(directory.path(), &format!("key{number}"), &options).unwrap()).unwrap()
    });
    let agent = PrivateAgent::start(keys.collect(), directory.path()).unwrap();
    Some((directory, agent))
}

const ED25519: &[&str] = &["-t", "ed25519"];

fn ask(stream: &mut UnixStream, request: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_string(&mut message, request);
    stream.write_all(&message).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer
}

#[test]
fn openssh_lists_the_keys_and_accepts_their_signatures() {
    let ecdsa = |bits| ["-t", "ecdsa", "-b", bits];
    let kinds: [&[&str]; 4] = [ED25519, &ecdsa("256"), &ecdsa("384"), &["-t", "rsa", "-b", "2048"]];
    let Some((directory, agent)) = agent(&kinds) else { return };
    let run = |program: &str, args: &[&str], input: &str| {
        let file = directory.path().join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = Command::new(program);
        command.args(args).env("SSH_AUTH_SOCK", agent.socket()).current_dir(directory.path());
        let output = command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (listed, text) = run("ssh-add", &["-l"], "");
    assert!(listed && text.lines().count() == 4 && text.contains(" key3 "), "{text}");
    for number in 0..4 {
        // Whose signature it is, only the agent can make it.
        let public = format!("key{number}.pub");
        std::fs::remove_file(directory.path().join(format!("key{number}"))).unwrap();
        // Numbers in signatures of ECDSA are of any length.
        for round in 0..20 {
            let text = format!("text {round}");
            let (signed, signature) = run("ssh-keygen", &["-Y", "sign", "-n", "test", "-f", &public], &text);
            assert!(signed, "key {number}");
            std::fs::write(directory.path().join("signature"), signature).unwrap();
            let check = ["-Y", "check-novalidate", "-n", "test", "-s", "signature"];
            let (accepted, by) = run("ssh-keygen", &check, &text);
            assert!(accepted && by.contains("Good \"test\" signature"), "key {number}: {by}");
            assert!(!run("ssh-keygen", &check, "another text").0);
        }
    }
    assert!(!run("ssh-add", &["-D"], "").0, "nobody removes keys");
    assert!(!run("ssh-add", &["-X"], "secret").0, "nobody unlocks it");
}

#[test]
fn what_is_not_understood_fails_and_what_is_no_message_ends_the_connection() {
    let Some((_directory, agent)) = agent(&[ED25519]) else { return };
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    for request in [&[SIGN_REQUEST][..], &[SIGN_REQUEST, 0, 0, 0, 9], &[27, 1, 2, 3], &[0], &[255]] {
        assert_eq!(ask(&mut stream, request), [FAILURE], "{request:?}");
    }
    assert_eq!(ask(&mut stream, &[REQUEST_IDENTITIES])[..5], [IDENTITIES_ANSWER, 0, 0, 0, 1]);
    for wrong in [[0, 0, 0, 0], [255, 255, 255, 255], [0, 4, 0, 1]] {
        let mut other = UnixStream::connect(agent.socket()).unwrap();
        other.write_all(&wrong).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 0, "{wrong:?}");
    }
    assert_eq!(ask(&mut stream, &[REQUEST_IDENTITIES])[..1], [IDENTITIES_ANSWER], "the others go on");
}

#[test]
fn connections_that_say_nothing_lock_nobody_out() {
    let Some((_directory, agent)) = agent(&[ED25519]) else { return };
    let mut idle: Vec<_> =
        (0..3 * CONNECTIONS_MAX).map(|_| UnixStream::connect(agent.socket()).unwrap()).collect();
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    assert_eq!(ask(&mut stream, &[REQUEST_IDENTITIES])[..1], [IDENTITIES_ANSWER]);
    assert_eq!(idle[0].read(&mut [0]).unwrap(), 0, "the oldest had to go");
}

#[test]
fn nothing_is_left_of_an_agent() {
    let Some((directory, agent)) = agent(&[ED25519]) else { return };
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    ask(&mut stream, &[REQUEST_IDENTITIES]);
    drop(agent);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let names = std::fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["key0", "key0.pub"]);
}
