//! TLS, certificates, users and passwords.

use strake_etcd::{Attempt, Coordinator, ErrorKind, EtcdConfig, EtcdError, Secret};
use strake_testkit::{Etcd, EtcdCertificates, EtcdOptions};

use crate::{at, busy, error, etcd, etcd_with, lock, me, wait};

fn attempt(address: &str) -> Result<(), EtcdError> {
    let node = at(address);
    match node.try_lock("a", &me("a test"))? {
        Attempt::Held(guard) => assert!(guard.is_held()),
        Attempt::Busy(busy) => panic!("{busy:?}"),
    }
    Ok(())
}

fn refused(address: &str, kind: ErrorKind, words: &str) {
    let failed = attempt(address).unwrap_err();
    let text = failed.to_string();
    assert_eq!(failed.kind, kind, "{text}");
    assert!(text.contains(words), "{text}");
    assert!(!text.contains("secret") && !text.contains("wrong-password"), "{text}");
}

#[test]
fn tls_trusts_whom_it_is_told_to() {
    let Some(plain) = etcd() else { return };
    let (ours, others) = (EtcdCertificates::make().unwrap(), EtcdCertificates::make().unwrap());
    let etcd = Etcd::start_with(EtcdOptions { tls: Some(&ours), ..EtcdOptions::default() }).unwrap();
    let (address, ca) = (etcd.address(), ours.path("ca.crt"));
    let good = format!("etcds://{address}?ca={}", ca.display());
    attempt(&good).unwrap();
    // A stream goes through as well.
    let (first, second) = (at(&good), at(&good));
    let guard = lock(&first, "a");
    let seen = busy(&second, "a");
    drop(guard);
    wait(&second, &seen);
    let wrong = others.path("ca.crt");
    refused(&format!("etcds://{address}?ca={}", wrong.display()), ErrorKind::Tls, "ca=FILE");
    refused(&format!("etcds://{address}"), ErrorKind::Tls, "ca=FILE");
    let plain = plain.address();
    refused(&format!("etcds://{plain}?ca={}", ca.display()), ErrorKind::Tls, "write etcd://");
    refused(&format!("etcds://{address}?ca=/nonexistent"), ErrorKind::Settings, "/nonexistent");
    let key = ours.path("server.key");
    refused(&format!("etcds://{address}?ca={}", key.display()), ErrorKind::Settings, "no certificate");
    assert!(attempt(&format!("etcd://{address}")).is_err());
}

#[test]
fn a_client_certificate_is_shown() {
    if etcd().is_none() {
        return;
    }
    let ours = EtcdCertificates::make().unwrap();
    let options = EtcdOptions { tls: Some(&ours), client_certificates: true, ..EtcdOptions::default() };
    let etcd = Etcd::start_with(options).unwrap();
    let file = |name: &str| ours.path(name).display().to_string();
    let base = format!("etcds://{}?ca={}", etcd.address(), file("ca.crt"));
    attempt(&format!("{base}&cert={}&key={}", file("client.crt"), file("client.key"))).unwrap();
    assert!(attempt(&base).is_err());
    let mixed = format!("{base}&cert={}&key={}", file("client.crt"), file("server.key"));
    refused(&mixed, ErrorKind::Settings, "do not fit");
}

#[test]
fn users_say_who_they_are() {
    let Some(mut etcd) = etcd_with(EtcdOptions { users: true, ..EtcdOptions::default() }) else { return };
    let address = etcd.address();
    attempt(&format!("etcd://strake:secret@{address}")).unwrap();
    refused(&format!("etcd://{address}"), ErrorKind::Unauthorized, "etcd://USER@HOST");
    refused(&format!("etcd://strake@{address}"), ErrorKind::Unauthorized, "check user and password");
    let wrong = format!("etcd://strake:wrong-password@{address}");
    refused(&wrong, ErrorKind::Unauthorized, "check user and password");
    let elsewhere = format!("etcd://strake:secret@{address}/elsewhere");
    refused(&elsewhere, ErrorKind::Denied, "read and write the prefix");
    let config: EtcdConfig = format!("etcd://strake@{address}").parse().unwrap();
    let node = Coordinator::new(config.with_password(Secret::new("secret")));
    let guard = lock(&node, "a");
    // etcd forgets its tokens when it ends: the next request brings a new one, and so does the next stream.
    let seen = busy(&node, "a");
    etcd.start_again().unwrap();
    drop(guard);
    wait(&node, &seen);
    drop(lock(&node, "a"));
}

#[test]
fn tokens_that_expire_are_renewed() {
    let options = EtcdOptions { users: true, token_seconds: 1, ..EtcdOptions::default() };
    let Some(etcd) = etcd_with(options) else { return };
    // Extended each second: each time the token is too old.
    let node = at(&format!("etcd://strake:secret@{}?ttl=3s", etcd.address()));
    let guard = lock(&node, "a");
    let begun = std::time::Instant::now();
    while begun.elapsed().as_secs() < 7 {
        assert!(guard.is_held());
        drop(lock(&node, "b"));
    }
}

#[test]
fn a_password_that_nobody_asks_for_does_no_harm() {
    let Some(etcd) = etcd() else { return };
    attempt(&format!("etcd://strake:secret@{}", etcd.address())).unwrap();
}

#[test]
fn errors_are_the_same_on_each_try() {
    let Some(etcd) = etcd_with(EtcdOptions { users: true, ..EtcdOptions::default() }) else { return };
    let node = at(&format!("etcd://strake:wrong-password@{}", etcd.address()));
    assert_eq!(error(&node, "a"), error(&node, "a"));
}
