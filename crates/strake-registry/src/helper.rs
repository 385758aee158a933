//! Credential helpers: programs called `docker-credential-NAME` that are asked for one server's credential
//! (docker-credential-helpers, the `get` command).

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use strake_oci::one_line;

use crate::credentials::Credential;
use crate::{ErrorKind, RegistryError, Secret};

/// More than any credential needs; a helper that says more is broken.
const MAX_OUTPUT: u64 = 1 << 20;

/// Asks a helper; `None` when it knows nothing of the server.
pub(crate) fn ask(name: &str, server: &str, timeout: Duration) -> Result<Option<Credential>, RegistryError> {
    let program = format!("docker-credential-{name}");
    let fail = |detail: String| {
        RegistryError::new(ErrorKind::Credentials, format!("ask {} for {server}", one_line(&program)), detail)
    };
    if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
    {
        return Err(fail("not the name of a credential helper".to_owned()));
    }
    let child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            fail(format!("cannot be started: {error}")).hint(format!(
                "install {program}, or remove it from `credHelpers` or `credsStore` of docker's config.json"
            ))
        })?;
    let (succeeded, output) = converse(child, server, timeout).map_err(fail)?;
    if !succeeded {
        let text = String::from_utf8_lossy(&output);
        // The protocol has no code for this; the words are fixed by the reference implementation.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(fail(format!("it failed: {}", one_line(&text))));
    }
    parse(&output).map(Some).ok_or_else(|| fail("its answer is not the JSON of a credential".to_owned()))
}

/// Sends the question and waits for the answer, at most `timeout`.
fn converse(mut child: Child, server: &str, timeout: Duration) -> Result<(bool, Vec<u8>), String> {
    let deadline = Instant::now() + timeout;
    let mut stdin = child.stdin.take().expect("stdin was asked for as a pipe");
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    // A helper may answer without reading its question.
    let _ = stdin.write_all(server.as_bytes());
    drop(stdin);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(MAX_OUTPUT).read_to_end(&mut output);
        let _ = sender.send(read.map(|_| output));
    });
    let output = match receiver.recv_timeout(timeout) {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            end(&mut child);
            return Err(format!("read its answer: {error}"));
        }
        Err(_) => {
            end(&mut child);
            return Err(format!("no answer within {} s", timeout.as_secs()));
        }
    };
    // It closed its output, so it is about to exit.
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return Ok((status.success(), output)),
            Ok(None) => thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.to_string()),
        }
    }
    end(&mut child);
    Err(format!("did not exit within {} s", timeout.as_secs()))
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn parse(output: &[u8]) -> Option<Credential> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let answer: Answer = serde_json::from_slice(output).ok()?;
    let secret = Secret::new(answer.secret);
    Some(match answer.username.as_str() {
        // By convention of the protocol: the secret is an identity token.
        "<token>" => Credential::Identity(secret),
        _ => Credential::Basic { user: answer.username, password: secret },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, timeout: Duration) -> Result<(bool, Vec<u8>), String> {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        converse(child, "host.example", timeout)
    }

    #[test]
    fn answers_are_read_and_silence_ends() {
        let long = Duration::from_secs(30);
        assert_eq!(run("cat", long), Ok((true, b"host.example".to_vec())));
        assert_eq!(run("echo no; exit 1", long), Ok((false, b"no\n".to_vec())));
        let silent = run("exec sleep 1000", Duration::from_millis(20));
        assert!(silent.unwrap_err().starts_with("no answer within"));
        let lingering = run("exec 1>&-; exec sleep 1000", Duration::from_millis(50));
        assert!(lingering.unwrap_err().starts_with("did not exit"));
    }

    #[test]
    fn both_forms_of_a_credential() {
        let basic = parse(br#"{"ServerURL":"x","Username":"u","Secret":"s"}"#);
        assert_eq!(basic, Some(Credential::Basic { user: "u".to_owned(), password: Secret::new("s") }));
        let token = parse(br#"{"ServerURL":"x","Username":"<token>","Secret":"s"}"#);
        assert_eq!(token, Some(Credential::Identity(Secret::new("s"))));
        assert_eq!(parse(b"null"), None);
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["../x", "", "a b", "x\n"] {
            assert!(ask(name, "h", Duration::from_secs(1)).is_err(), "{name}");
        }
        let missing = ask("strake-no-such-helper", "h", Duration::from_secs(1)).unwrap_err().to_string();
        assert!(missing.contains("install docker-credential-strake-no-such-helper"), "{missing}");
    }
}
