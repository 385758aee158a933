//! Reading from registries that do not behave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use strake_oci::{Digest, MediaType};
use strake_registry::{Client, ErrorKind, Mirror, Notice, RegistryConfig, RegistryError};

use crate::fake::{Fake, How, Reply, Request, blob_path, drain, noise};
use crate::{client, hasty, layer, manifest_bytes};

fn manifest_reply() -> Reply {
    Reply::new(200).header("Content-Type", MediaType::OCI_MANIFEST).body(manifest_bytes())
}

/// Pulls a manifest from a server that answers like this, expecting an error.
fn refused_manifest(name: &str, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> RegistryError {
    let fake = Fake::start(reply);
    client().resolve(&fake.reference(name)).unwrap_err()
}

#[test]
fn a_manifest_is_verified_and_described() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v2/a/b/manifests/latest" => manifest_reply(),
        // Some servers know no media types.
        "/v2/a/b/manifests/plain" => Reply::new(200).json("").body(manifest_bytes()),
        _ => Reply::new(404).json(r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
    });
    let client = client();
    assert!(!client.is_started());
    let found = client.resolve(&fake.reference("a/b")).unwrap().unwrap();
    assert_eq!(found.bytes, manifest_bytes());
    assert_eq!(found.descriptor.digest, Digest::of(&found.bytes));
    assert_eq!(found.descriptor.size, found.bytes.len() as u64);
    assert_eq!(found.descriptor.media_type.as_str(), MediaType::OCI_MANIFEST);
    assert_eq!(client.resolve(&fake.reference("a/b:plain")).unwrap(), Some(found));
    assert_eq!(client.resolve(&fake.reference("a/b:none")).unwrap(), None);
    assert!(client.is_started());
    assert_eq!(client.transfers().requests, 3);
    let accept: Vec<_> =
        fake.requests()[0].headers.iter().filter(|(name, _)| name == "accept").cloned().collect();
    assert_eq!(accept.len(), 4);
}

#[test]
fn head_trusts_headers_only_where_they_are_complete() {
    let digest = Digest::of(&manifest_bytes());
    let fake = Fake::start(move |request| {
        let reply = manifest_reply();
        if request.path.ends_with("full") { reply.header("Docker-Content-Digest", digest) } else { reply }
    });
    let client = client();
    assert_eq!(client.head(&fake.reference("a:full")).unwrap().unwrap().digest, digest);
    assert_eq!(fake.lines(), ["HEAD /v2/a/manifests/full"]);
    assert_eq!(client.head(&fake.reference("a:bare")).unwrap().unwrap().digest, digest);
    assert_eq!(fake.lines()[1..], ["HEAD /v2/a/manifests/bare", "GET /v2/a/manifests/bare"]);
}

#[test]
fn manifests_that_are_something_else_are_refused() {
    let other = Digest::of(b"other");
    let error = refused_manifest(&format!("a@{other}"), |_| manifest_reply());
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    let error = refused_manifest("a", move |_| manifest_reply().header("Docker-Content-Digest", other));
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    let html =
        |_: &Request| Reply::new(200).header("Content-Type", "text/html; charset=utf-8").body("<html>");
    let error = refused_manifest("a", html);
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.to_string().contains("web page") && error.hint.is_some(), "{error}");
    for body in ["", "null", "[]", "{}", "<html>", r#"{"schemaVersion":1,"fsLayers":[]}"#] {
        let error = refused_manifest("a", move |_| Reply::new(200).json(body));
        assert_eq!(error.kind, ErrorKind::Malformed, "{body}: {error}");
    }
    let error = refused_manifest("a", |_| manifest_reply().header("Content-Type", "x").how(How::CutAfter(3)));
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.detail.contains("(tried 4 times)"), "{error}");
}

#[test]
fn a_manifest_of_500_mb_is_not_read() {
    for (how, most) in [(How::Endless(500 << 20), 1 << 20), (How::Endless(0), 8 << 20)] {
        let how = Mutex::new(Some(how));
        let fake = Fake::start(move |_| Reply::new(200).how(how.lock().unwrap().take().unwrap()));
        let client = client();
        let error = client.resolve(&fake.reference("a")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
        assert!(client.transfers().received < most);
        assert_eq!(fake.lines().len(), 1, "such an answer is not asked for twice");
    }
}

#[test]
fn a_blob_that_breaks_off_is_resumed() {
    let blob = noise(300_000);
    let served = blob.clone();
    let fake = Fake::start(move |request| {
        let reply = Reply::ranged(request, &served);
        let left = reply.body.len();
        if left > 100_000 { reply.how(How::CutAfter(100_000)) } else { reply }
    });
    let client = client();
    let mut out = Vec::new();
    client.fetch_blob(&fake.reference("a"), &layer(&blob), &mut out, &()).unwrap();
    assert!(out == blob);
    let starts: Vec<usize> = fake.requests().iter().map(Request::range_start).collect();
    assert_eq!(starts, [0, 100_000, 200_000]);
    assert_eq!(client.transfers().received, 300_000);
    assert_eq!(client.transfers().retries, 2);
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_start() {
    let blob = noise(300_000);
    let served = blob.clone();
    let tries = Mutex::new(0);
    let fake = Fake::start(move |_| {
        *tries.lock().unwrap() += 1;
        let reply = Reply::new(200).body(served.clone());
        if *tries.lock().unwrap() == 1 { reply.how(How::CutAfter(123_457)) } else { reply }
    });
    let client = client();
    let mut reader = client.open_blob(&fake.reference("a"), &layer(&blob)).unwrap();
    assert!(drain(&mut reader).unwrap() == blob);
}

/// Pulls `blob` from a server that answers like this, expecting an error.
fn refused_blob(
    blob: &[u8],
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (RegistryError, u64, usize) {
    let fake = Fake::start(reply);
    let client = client();
    let mut reader = client.open_blob(&fake.reference("a"), &layer(blob)).unwrap();
    let mut got = 0;
    let mut buffer = [0; 4096];
    let error = loop {
        match std::io::Read::read(&mut reader, &mut buffer) {
            Ok(count) => got += count as u64,
            Err(error) => break error,
        }
        assert_ne!(got, blob.len() as u64, "all bytes were given");
    };
    let again = drain(&mut reader).unwrap_err();
    let error = RegistryError::from_io(&error).unwrap().clone();
    assert_eq!(RegistryError::from_io(&again), Some(&error), "an error stays an error");
    assert_eq!(reader.finish(), Err(error.clone()));
    (error, got, fake.lines().len())
}

#[test]
fn wrong_content_never_looks_complete() {
    let blob = noise(200_000);
    let mut wrong = blob.clone();
    wrong[100_000] ^= 1;
    let (error, _, requests) = refused_blob(&blob, move |_| Reply::new(200).body(wrong.clone()));
    assert_eq!((error.kind, requests), (ErrorKind::Corrupt, 1), "{error}");
    for length in [199_999, 200_001] {
        let (error, got, requests) = refused_blob(&blob, move |_| Reply::new(200).body(noise(length)));
        assert_eq!((error.kind, got, requests), (ErrorKind::Corrupt, 0, 1), "{error}");
    }
    let (error, _, _) = refused_blob(&blob, |_| Reply::new(200).body(noise(200_001)).how(How::Chunked));
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    // A range from the middle instead of the one that was asked for.
    let (error, ..) =
        refused_blob(&blob, |_| Reply::new(206).header("Content-Range", "bytes 5-9/10").body("12345"));
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    let html = |_: &Request| Reply::new(200).header("Content-Type", "text/html").body("<html>");
    let (error, ..) = refused_blob(&blob, html);
    assert!(error.to_string().contains("web page"), "{error}");
}

#[test]
fn a_blob_that_stays_too_short_ends() {
    let (error, got, requests) = refused_blob(&noise(200_000), |request| {
        if request.range_start() >= 1000 {
            return Reply::new(416);
        }
        Reply::new(200).body(noise(1000)).how(How::Chunked)
    });
    assert_eq!((error.kind, got, requests), (ErrorKind::Corrupt, 1000, 2), "{error}");
    let (error, got, requests) =
        refused_blob(&noise(200_000), |_| Reply::new(200).body(noise(1000)).how(How::Chunked));
    assert_eq!((error.kind, got, requests), (ErrorKind::Corrupt, 1000, 4), "{error}");
}

#[test]
fn an_empty_blob_is_a_blob() {
    let fake = Fake::start(|request| Reply::new(if request.path.starts_with("/v2/a/") { 200 } else { 404 }));
    let client = client();
    client.fetch_blob(&fake.reference("a"), &layer(b""), &mut Vec::new(), &()).unwrap();
    let error = client.fetch_blob(&fake.reference("b"), &layer(b""), &mut Vec::new(), &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

#[test]
fn mirrors_are_asked_first_and_forgiven() {
    let blob = noise(50_000);
    let (served, damaged) = (blob.clone(), noise(50_000).into_iter().rev().collect::<Vec<_>>());
    let origin = Fake::start(move |request| match request.path.as_str() {
        "/v2/team/app/manifests/latest" => manifest_reply(),
        path if path == blob_path("team/app", &served) => Reply::ranged(request, &served),
        _ => Reply::new(404),
    });
    let empty = Fake::start(|_| Reply::new(404));
    let broken = Fake::start(|_| Reply::new(500));
    let liar = Fake::start(move |_| Reply::new(200).body(damaged.clone()));
    let mirror =
        |fake: &Fake, path: &str| Mirror { host: format!("{}{path}", fake.address), insecure: false };
    let mirrors = vec![mirror(&empty, "/cache"), mirror(&broken, ""), mirror(&liar, "")];
    let key = format!("{}/team", origin.address);
    let config = RegistryConfig { mirrors: BTreeMap::from([(key, mirrors)]), ..hasty() };
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    let client = Client::with_notices(config, move |notice| heard.lock().unwrap().push(notice.clone()));
    let name = origin.reference("team/app");
    assert_eq!(client.resolve(&name).unwrap().unwrap().bytes, manifest_bytes());
    assert_eq!(empty.lines(), ["GET /v2/cache/app/manifests/latest"]);
    assert_eq!(broken.lines(), ["GET /v2/app/manifests/latest"; 2]);
    let skipped =
        notices.lock().unwrap().iter().filter(|n| matches!(n, Notice::MirrorSkipped { .. })).count();
    assert_eq!(skipped, 2);
    let first = client.fetch_blob(&name, &layer(&blob), &mut Vec::new(), &()).unwrap_err();
    assert!(first.to_string().contains("this mirror is not asked again"), "{first}");
    let mut out = Vec::new();
    client.fetch_blob(&name, &layer(&blob), &mut out, &()).unwrap();
    assert!(out == blob);
    // Other repositories are not mirrored.
    assert_eq!(client.resolve(&origin.reference("other/app")).unwrap(), None);
    assert_eq!(empty.lines().len(), 3);
}

#[test]
fn tags_come_in_pages() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v2/a/tags/list" => Reply::new(200)
            .header("Link", r#"</v2/a/tags/list?last=2>; rel="next""#)
            .json(r#"{"tags":["1","2"]}"#),
        "/v2/a/tags/list?last=2" => Reply::new(200).json(r#"{"name":"a","tags":["3"]}"#),
        "/v2/loop/tags/list" => {
            Reply::new(200).header("Link", "<http://127.0.0.1:1/x>; rel=next").json(r#"{"tags":["1"]}"#)
        }
        "/v2/empty/tags/list" => Reply::new(200).json(r#"{"tags":null}"#),
        _ => Reply::new(404),
    });
    let tags = |name: &str| client().list_tags(&fake.reference(name)).unwrap();
    assert_eq!(tags("a"), Some(vec!["1".to_owned(), "2".to_owned(), "3".to_owned()]));
    assert_eq!(tags("loop"), Some(vec!["1".to_owned()]));
    assert_eq!(tags("empty"), Some(vec![]));
    assert_eq!(tags("none"), None);
}
