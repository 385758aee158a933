use strake_testkit::{keygen, lacking, program_on_path};

use super::*;

/// A directory with the key `key`, made by ssh-keygen.
fn generated(options: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    keygen(directory.path(), "key", options).unwrap();
    directory
}

/// Says so if ssh-keygen is missing.
fn has_keygen() -> bool {
    let is_there = program_on_path("ssh-keygen").is_some();
    if !is_there {
        lacking("ssh-keygen (package openssh-client)");
    }
    is_there
}

fn read(options: &[&str]) -> Result<PrivateKey, KeyError> {
    PrivateKey::read(&generated(options).path().join("key"))
}

#[test]
fn what_ssh_keygen_makes_is_read_as_it_says_itself() {
    if !has_keygen() {
        return;
    }
    let old_form = ["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""];
    let pkcs8 = ["-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", ""];
    for (options, has_comment) in [
        (&["-t", "ed25519", "-N", ""][..], true),
        (&["-t", "ecdsa", "-b", "256", "-N", ""], true),
        (&["-t", "ecdsa", "-b", "384", "-N", ""], true),
        (&["-t", "rsa", "-b", "2048", "-N", ""], true),
        (&["-t", "rsa", "-b", "3072", "-N", ""], true),
        (&old_form, false),
        (&pkcs8, false),
    ] {
        let directory = generated(options);
        let path = directory.path().join("key");
        let key = PrivateKey::read(&path).unwrap();
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        let mut words = public.split_whitespace();
        let blob = STANDARD.decode(words.nth(1).unwrap()).unwrap();
        assert_eq!(key.public, blob, "{options:?}");
        let named = path.display().to_string();
        assert_eq!(key.comment, if has_comment { "key" } else { &named });
    }
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    if !has_keygen() {
        return;
    }
    let locked = ["-N", "secret"];
    let check = |options: &[&str], expected: &str| {
        let error = read(options).unwrap_err().to_string();
        assert!(error.contains(expected), "{options:?}: {error}");
    };
    check(&[&["-t", "ed25519"][..], &locked].concat(), "passphrase");
    check(&[&["-t", "rsa", "-b", "2048", "-m", "PEM"][..], &locked].concat(), "passphrase");
    check(&[&["-t", "rsa", "-b", "2048", "-m", "PKCS8"][..], &locked].concat(), "passphrase");
    check(&["-t", "ecdsa", "-m", "PEM", "-N", ""], "\"EC PRIVATE KEY\"");
    check(&["-t", "ecdsa", "-b", "521", "-N", ""], "ecdsa-sha2-nistp521");
    check(&["-t", "rsa", "-b", "1024", "-N", ""], "RSA");
    let public = generated(&["-t", "ed25519", "-N", ""]).path().join("key.pub");
    assert!(matches!(PrivateKey::read(&public), Err(KeyError::Io(_))));
    for (text, expected) in [
        ("ssh-ed25519 AAAA me", "public"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "public"),
        ("hello", "no private key"),
        ("", "no private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "no private key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n!\n-----END OPENSSH PRIVATE KEY-----", "damaged"),
    ] {
        let error = PrivateKey::parse(text.as_bytes(), "name").unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

/// Wherever a file is cut or a byte is changed, it is refused or still the same key, and nothing panics.
#[test]
fn a_damaged_key_is_never_another_key() {
    if !has_keygen() {
        return;
    }
    for options in
        [&["-t", "ed25519", "-N", ""][..], &["-t", "ecdsa", "-N", ""], &["-t", "rsa", "-b", "2048", "-N", ""]]
    {
        let directory = generated(options);
        let text = std::fs::read_to_string(directory.path().join("key")).unwrap();
        let (_, bytes) = armoured(&text).unwrap();
        let public = PrivateKey::of_openssh(&bytes, "name").unwrap().public;
        for length in 0..bytes.len().saturating_sub(16) {
            let cut = PrivateKey::of_openssh(&bytes[..length], "name");
            assert!(cut.is_err(), "cut to {length} of {}", bytes.len());
        }
        for at in (0..bytes.len()).step_by(31) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x41;
            let key = PrivateKey::of_openssh(&changed, "name");
            assert!(key.is_err() || key.unwrap().public == public, "byte {at}");
        }
    }
}

#[test]
fn remainders_are_as_the_processor_has_them() {
    let bytes = |number: u64| {
        let all = number.to_be_bytes();
        let start = all.iter().position(|byte| *byte != 0).unwrap_or(all.len());
        all[start..].to_vec()
    };
    for number in [0, 1, 255, 256, 65_537, 0xdead_beef_cafe, u64::MAX] {
        for divisor in [1, 2, 3, 255, 256, 257, 65_536, 0xffff_fffe, u64::MAX - 1, u64::MAX] {
            assert_eq!(
                *remainder(&bytes(number), &bytes(divisor)),
                bytes(number % divisor),
                "{number} {divisor}"
            );
        }
    }
}
