//! Writing to registries that do not behave.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use strake_oci::{Descriptor, Digest, MediaType, Reference};
use strake_registry::{BlobSource, Client, ErrorKind, Progress, Pushed, PushedBlob, RegistryError};

use crate::fake::{Fake, Reply, Request, noise};
use crate::{client, layer, manifest_bytes};

/// The upload half of a registry, which can be told to misbehave. Strict: a session's address must be the newest
/// one, ranges must fit, the digest must be right.
#[derive(Default)]
struct Store {
    session: Option<(u32, Vec<u8>)>,
    opened: u32,
    /// Counts answers, so that each gives a new address for the session.
    step: u32,
    stored: Vec<Vec<u8>>,
}

impl Store {
    fn location(&mut self, reply: Reply) -> Reply {
        self.step += 1;
        let (number, content) = self.session.as_ref().unwrap();
        let end = content.len().saturating_sub(1);
        // Relative, and with a query of its own.
        let reply = reply.header("Location", format!("/up/{number}?_state={}%2F", self.step));
        reply.header("Range", format!("0-{end}"))
    }

    fn open(&mut self) -> Reply {
        self.opened += 1;
        self.session = Some((self.opened, Vec::new()));
        self.location(Reply::new(202))
    }

    fn handle(&mut self, request: &Request) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if request.method == "HEAD" {
            let known = self.stored.iter().any(|blob| path.ends_with(&Digest::of(blob).to_string()));
            return Reply::new(if known { 200 } else { 404 });
        }
        if request.method == "POST" {
            return self.open();
        }
        let unknown =
            || Reply::new(404).json(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#);
        let step = self.step;
        let Some((number, content)) = &mut self.session else {
            return unknown();
        };
        if path != format!("/up/{number}") {
            return unknown();
        }
        if request.method == "GET" {
            return self.location(Reply::new(204));
        }
        assert!(query.starts_with(&format!("_state={step}%2F")), "an old address was used: {}", request.path);
        if let Some(range) = request.header("content-range") {
            let end = content.len() + request.body.len() - 1;
            assert_eq!(range, format!("{}-{end}", content.len()));
        }
        content.extend_from_slice(&request.body);
        if request.method == "PATCH" {
            return self.location(Reply::new(202));
        }
        let digest = Digest::of(content);
        if !query.ends_with(&format!("digest=sha256%3A{}", digest.hex())) {
            return Reply::new(400).json(r#"{"errors":[{"code":"DIGEST_INVALID","message":"not that"}]}"#);
        }
        let (_, content) = self.session.take().unwrap();
        self.stored.push(content);
        Reply::new(201).header("Docker-Content-Digest", digest)
    }
}

type Shared = Arc<Mutex<Store>>;

/// A fake around a store; `before` may answer in its place.
fn fake(before: impl Fn(&Request, &mut Store) -> Option<Reply> + Send + Sync + 'static) -> (Fake, Shared) {
    let store = Shared::default();
    let shared = Arc::clone(&store);
    let fake = Fake::start(move |request| {
        let mut store = shared.lock().unwrap();
        before(request, &mut store).unwrap_or_else(|| store.handle(request))
    });
    (fake, store)
}

/// A fake that closes the connection after so many bytes of each of the first bodies, keeping what came.
fn cutting_fake(cuts: &'static [usize]) -> (Fake, Shared) {
    let store = Shared::default();
    let shared = Arc::clone(&store);
    let next = Mutex::new(cuts.iter());
    let cut = move |request: &Request| {
        let has_body = request.header("content-length").is_some_and(|length| length != "0")
            || request.header("transfer-encoding").is_some();
        if has_body { next.lock().unwrap().next().copied() } else { None }
    };
    let fake = Fake::start_cutting(cut, move |request| {
        let mut store = shared.lock().unwrap();
        let is_cut = request
            .header("content-length")
            .is_some_and(|l| l.parse::<usize>().unwrap() > request.body.len());
        if is_cut {
            store.session.as_mut().unwrap().1.extend_from_slice(&request.body);
            return Reply::new(500);
        }
        store.handle(request)
    });
    (fake, store)
}

fn push(client: &Client, repository: &Reference, bytes: &[u8]) -> Result<PushedBlob, RegistryError> {
    let source = BlobSource::Bytes { bytes: bytes.to_vec(), descriptor: layer(bytes) };
    client.push_blob(repository, source, &[], &())
}

fn stream<'a>(bytes: &'a [u8]) -> BlobSource<'a> {
    let finish = move || Ok(Descriptor::of(MediaType::OCI_LAYER_GZIP, bytes));
    BlobSource::Stream { reader: Box::new(bytes), finish: Box::new(finish) }
}

#[test]
fn a_blob_is_sent_once_and_as_one_request() {
    let (fake, store) = fake(|_, _| None);
    let client = client();
    let blob = noise(700_000);
    let name = fake.reference("a/b");
    assert_eq!(push(&client, &name, &blob).unwrap().how, Pushed::Uploaded);
    assert_eq!(push(&client, &name, &blob).unwrap().how, Pushed::Existed);
    assert!(store.lock().unwrap().stored == [blob.clone()]);
    let methods: Vec<String> = fake.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD"]);
    assert_eq!(client.transfers().sent, 700_000);
    assert_eq!(fake.requests()[2].header("content-length"), Some("700000"));
    assert_eq!(fake.requests()[2].header("content-type"), Some("application/octet-stream"));
}

#[test]
fn files_and_progress() {
    struct Count(AtomicU64);
    impl Progress for Count {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let (fake, store) = fake(|_, _| None);
    let blob = noise(600_000);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&blob).unwrap();
    let path = file.path().to_owned();
    let count = Count(AtomicU64::new(0));
    let source = BlobSource::File { path: path.clone(), descriptor: layer(&blob) };
    client().push_blob(&fake.reference("a"), source, &[], &count).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 600_000);
    assert!(store.lock().unwrap().stored == [blob.clone()]);
    let longer = noise(600_001);
    let source = BlobSource::File { path: path.clone(), descriptor: layer(&longer) };
    let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Local, "{error}");
    assert!(
        error.to_string().contains("shorter") && error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    let source = BlobSource::File { path: "/nonexistent/x".into(), descriptor: layer(&longer) };
    let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Local, "{error}");
}

#[test]
fn content_that_is_not_its_digest_is_not_stored() {
    let (fake, store) = fake(|_, _| None);
    let descriptor = Descriptor::new(MediaType::OCI_LAYER, Digest::of(b"other"), 4);
    let source = BlobSource::Bytes { bytes: b"this".to_vec(), descriptor };
    let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("DIGEST_INVALID not that"), "{error}");
    assert!(store.lock().unwrap().stored.is_empty());
}

#[test]
fn a_mount_is_asked_for_and_its_refusal_used() {
    let blob = noise(1000);
    let digest = Digest::of(&blob);
    let (fake, _) = fake(move |request, store| {
        let encoded = format!("sha256%3A{}", digest.hex());
        if request.path == format!("/v2/good/blobs/uploads/?mount={encoded}&from=base%2Fx") {
            return Some(Reply::new(201).header("Docker-Content-Digest", digest));
        }
        if request.path.contains("from=secret") {
            return Some(Reply::new(403));
        }
        if request.method == "DELETE" {
            store.session = None;
            return Some(Reply::new(204));
        }
        None
    });
    let client = client();
    let push = |name: &str, from: &[&str]| {
        let source = BlobSource::Bytes { bytes: blob.clone(), descriptor: layer(&blob) };
        let from: Vec<Reference> = from.iter().map(|name| fake.reference(name)).collect();
        client.push_blob(&fake.reference(name), source, &from, &()).unwrap().how
    };
    let methods = |from: usize| fake.requests()[from..].iter().map(|r| r.method.clone()).collect::<Vec<_>>();
    assert_eq!(push("good", &["base/x"]), Pushed::Mounted);
    assert_eq!(methods(0), ["POST"]);
    // 202: the session that the refusal opened is used.
    assert_eq!(push("other", &["base/x"]), Pushed::Uploaded);
    assert_eq!(methods(1), ["POST", "HEAD", "PUT"]);
    // It was there all the same, so nobody needs the session.
    assert_eq!(push("other", &["base/x"]), Pushed::Existed);
    assert_eq!(methods(4), ["POST", "HEAD", "DELETE"]);
    // What was there before is asked for before a mount is.
    assert_eq!(push("other", &["other", "base/x"]), Pushed::Existed);
    assert_eq!(methods(7), ["HEAD"]);
    let (fake2, _) = self::fake(|request, _| request.path.contains("from=secret").then(|| Reply::new(403)));
    let source = BlobSource::Bytes { bytes: blob.clone(), descriptor: layer(&blob) };
    let pushed = client.push_blob(&fake2.reference("a"), source, &[fake2.reference("secret")], &()).unwrap();
    assert_eq!(pushed.how, Pushed::Uploaded);
}

#[test]
fn a_lost_session_begins_anew() {
    let losses = Mutex::new(2);
    let (fake, store) = fake(move |request, store| {
        let mut losses = losses.lock().unwrap();
        if request.method == "PUT" && *losses > 0 {
            *losses -= 1;
            store.session = None;
        }
        None
    });
    let blob = noise(400_000);
    assert_eq!(push(&client(), &fake.reference("a"), &blob).unwrap().how, Pushed::Uploaded);
    assert_eq!(store.lock().unwrap().opened, 3);
    assert!(store.lock().unwrap().stored == [blob]);
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    let blob = noise(3_000_000);
    let (fake, store) = cutting_fake(&[1_000_000, 500_000]);
    let client = client();
    push(&client, &fake.reference("a"), &blob).unwrap();
    assert!(store.lock().unwrap().stored == [blob.clone()]);
    assert_eq!(store.lock().unwrap().opened, 1);
    let ranges: Vec<_> =
        fake.requests().iter().filter_map(|r| r.header("content-range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["1000000-2999999", "1500000-2999999"]);
    let status = fake.lines().iter().filter(|line| line.starts_with("GET /up/1")).count();
    assert_eq!(status, 2);
}

#[test]
fn an_upload_whose_answer_was_lost_is_not_repeated() {
    let (fake, store) = fake(|request, store| {
        let cut = request.method == "PUT";
        cut.then(|| store.handle(request).how(crate::fake::How::Close))
    });
    let blob = noise(100_000);
    assert_eq!(push(&client(), &fake.reference("a"), &blob).unwrap().how, Pushed::Uploaded);
    assert_eq!(store.lock().unwrap().stored.len(), 1);
}

#[test]
fn a_limit_on_requests_is_met_with_smaller_ones() {
    let blob = noise((65 << 20) + 1);
    let (fake, store) = fake(|request, _| {
        let is_large = request.body.len() > 64 << 20;
        is_large.then(|| Reply::new(413).header("Content-Type", "text/html").body("<html>"))
    });
    push(&client(), &fake.reference("a"), &blob).unwrap();
    assert!(store.lock().unwrap().stored == [blob]);
    let methods: Vec<_> = fake.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "POST", "PATCH", "PATCH", "PUT"]);
}

#[test]
fn a_stream_is_one_patch_and_a_put_unless_it_ends_soon() {
    let (fake, store) = fake(|_, _| None);
    let client = client();
    let (long, short) = (noise((1 << 20) + 1), noise(1 << 20));
    for blob in [&long[..], &short, b"", b"1"] {
        let pushed = client.push_blob(&fake.reference("a"), stream(blob), &[], &()).unwrap();
        assert_eq!(pushed, PushedBlob { descriptor: layer(blob), how: Pushed::Uploaded });
    }
    assert!(store.lock().unwrap().stored == [long, short, vec![], b"1".to_vec()]);
    let methods: Vec<_> = fake.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["POST", "PATCH", "PUT", "POST", "PUT", "POST", "PUT", "POST", "PUT"]);
}

fn push_new(client: &Client, repository: &Reference, bytes: &[u8]) -> Result<PushedBlob, RegistryError> {
    let source = BlobSource::Bytes { bytes: bytes.to_vec(), descriptor: layer(bytes) };
    client.push_new_blob(repository, source, &[], &())
}

#[test]
fn a_small_blob_goes_with_the_first_request_where_the_registry_takes_it() {
    let (fake, store) = fake(|request, store| {
        let (_, digest) = request.path.split_once("/blobs/uploads/?digest=sha256%3A")?;
        let is_right = Digest::of(&request.body).hex() == digest;
        assert_eq!(request.header("content-type"), Some("application/octet-stream"));
        if !is_right {
            return Some(Reply::new(400).json(r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#));
        }
        store.stored.push(request.body.clone());
        Some(Reply::new(201))
    });
    let (client, name) = (client(), fake.reference("a"));
    let methods = |from: usize| fake.requests()[from..].iter().map(|r| r.method.clone()).collect::<Vec<_>>();
    let (config, small, large) = (noise(3000), noise(200_000), noise(300_000));
    // As long as nothing is known, few bytes are risked.
    assert_eq!(push_new(&client, &name, &small).unwrap().how, Pushed::Uploaded);
    assert_eq!(methods(0), ["POST", "PUT"]);
    assert_eq!(push_new(&client, &name, &config).unwrap().how, Pushed::Uploaded);
    assert_eq!(methods(2), ["POST", "HEAD"], "the first time it is made sure of");
    client.push_blob(&name, stream(&small), &[], &()).unwrap();
    assert_eq!(methods(4), ["POST"]);
    push_new(&client, &name, &large).unwrap();
    assert_eq!(methods(5), ["POST", "PUT"]);
    assert!(store.lock().unwrap().stored == [small.clone(), config, small, large]);
    // What it does not take any more is an error, not another way.
    let descriptor = Descriptor::new(MediaType::OCI_LAYER, Digest::of(b"other"), 4);
    let source = BlobSource::Bytes { bytes: b"this".to_vec(), descriptor };
    let error = client.push_new_blob(&name, source, &[], &()).unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    assert_eq!(methods(7), ["POST"]);
}

#[test]
fn a_registry_that_takes_no_content_at_once_is_told_so_once() {
    let refusals = [
        None,
        Some(Reply::new(405)),
        Some(Reply::new(500)),
        // As if what came belonged to the upload already.
        Some(Reply::new(202).header("Location", "/up/9").header("Range", "0-2999")),
        // It says that it has it, and has not.
        Some(Reply::new(201)),
    ];
    let expected: [&[&str]; 5] = [
        &["POST", "PUT"],
        &["POST", "POST", "PUT"],
        &["POST", "POST", "PUT"],
        &["POST", "DELETE", "POST", "PUT"],
        &["POST", "HEAD", "POST", "PUT"],
    ];
    for (refusal, expected) in refusals.into_iter().zip(expected) {
        let refusal = Mutex::new(refusal);
        let (fake, store) = fake(move |request, _| {
            let is_whole = request.path.contains("/blobs/uploads/?digest=");
            if request.method == "DELETE" {
                return Some(Reply::new(204));
            }
            if is_whole { refusal.lock().unwrap().take() } else { None }
        });
        let (client, name) = (client(), fake.reference("a"));
        let blobs = [noise(3000), noise(4000)];
        push_new(&client, &name, &blobs[0]).unwrap();
        let methods =
            |from: usize| fake.requests()[from..].iter().map(|r| r.method.clone()).collect::<Vec<_>>();
        assert_eq!(methods(0), expected);
        push_new(&client, &name, &blobs[1]).unwrap();
        assert_eq!(methods(expected.len()), ["POST", "PUT"]);
        assert!(fake.requests()[expected.len()].body.is_empty());
        assert!(store.lock().unwrap().stored == blobs);
    }
}

#[test]
fn a_broken_stream_is_played_again_from_where_it_broke() {
    let (fake, store) = fake(|request, store| {
        // Half of the first stream is kept, and the answer lost.
        let first = request.method == "PATCH" && request.path.starts_with("/up/1?_state=1%2F");
        first.then(|| {
            let half = &request.body[..request.body.len() / 2];
            store.session.as_mut().unwrap().1.extend_from_slice(half);
            Reply::new(202).how(crate::fake::How::Close)
        })
    });
    let blob = noise(2_000_001);
    client().push_blob(&fake.reference("a"), stream(&blob), &[], &()).unwrap();
    assert!(store.lock().unwrap().stored == [blob]);
    assert_eq!(store.lock().unwrap().opened, 1);
}

#[test]
fn a_stream_that_fails_stores_nothing() {
    struct Failing(u32);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 > 100 {
                Err(io::Error::other("compressor broke"))
            } else {
                buffer.fill(7);
                Ok(buffer.len())
            }
        }
    }
    let (fake, store) = fake(|_, _| None);
    let finish = || panic!("not finished");
    let source = BlobSource::Stream { reader: Box::new(Failing(0)), finish: Box::new(finish) };
    let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Local);
    assert!(error.to_string().contains("compressor broke"), "{error}");
    let finish = || Ok(layer(b"another size"));
    let source = BlobSource::Stream { reader: Box::new(&b"x"[..]), finish: Box::new(finish) };
    let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Local, "{error}");
    assert!(store.lock().unwrap().stored.is_empty());
}

#[test]
fn manifests_are_checked_on_both_sides() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v2/a/manifests/liar" => Reply::new(201).header("Docker-Content-Digest", Digest::of(b"other")),
        "/v2/a/manifests/no" => Reply::new(400).json(
            "{\"errors\":[{\"code\":\"MANIFEST_BLOB_UNKNOWN\",\"message\":\"blob \\u001b[31munknown\"}]}",
        ),
        _ => Reply::new(201),
    });
    let media_type = MediaType::from(MediaType::OCI_MANIFEST);
    let bytes = manifest_bytes();
    let put = |name: &str| client().push_manifest(&fake.reference(name), &media_type, &bytes);
    assert_eq!(put("a:1").unwrap(), Descriptor::of(MediaType::OCI_MANIFEST, &bytes));
    assert_eq!(fake.requests()[0].header("content-type"), Some(MediaType::OCI_MANIFEST));
    assert_eq!(fake.requests()[0].body, bytes);
    put(&format!("a@{}", Digest::of(&bytes))).unwrap();
    assert_eq!(put(&format!("a@{}", Digest::of(b""))).unwrap_err().kind, ErrorKind::Corrupt);
    assert_eq!(put("a:liar").unwrap_err().kind, ErrorKind::Corrupt);
    let error = put("a:no").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.to_string().contains("MANIFEST_BLOB_UNKNOWN blob [31munknown"), "{error}");
    let large = vec![b' '; (4 << 20) + 1];
    let error = client().push_manifest(&fake.reference("a"), &media_type, &large).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
}

#[test]
fn deletion_says_what_happened() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v2/a/manifests/there" => Reply::new(202),
        "/v2/a/manifests/never" => {
            Reply::new(405).json(r#"{"errors":[{"code":"UNSUPPORTED","message":"no"}]}"#)
        }
        _ => Reply::new(404),
    });
    assert!(client().delete_manifest(&fake.reference("a:there")).unwrap());
    assert!(!client().delete_manifest(&fake.reference("a:gone")).unwrap());
    assert_eq!(client().delete_manifest(&fake.reference("a:never")).unwrap_err().kind, ErrorKind::Refused);
}
