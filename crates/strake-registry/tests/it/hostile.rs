//! A registry that means harm, or does it: whatever it answers, every operation ends soon with its reason.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use strake_oci::{Descriptor, Digest, MediaType};
use strake_registry::{BlobSource, Client, Credential, Credentials, ErrorKind, RegistryConfig, Secret};

use crate::fake::{Fake, How, Reply, Request, noise};
use crate::{client, hasty, layer, manifest_bytes};

/// More requests than any of these operations may need.
const MANY: usize = 40;

fn known(bytes: &[u8]) -> BlobSource<'static> {
    BlobSource::Bytes { bytes: bytes.to_vec(), descriptor: layer(bytes) }
}

fn stream(bytes: &[u8]) -> BlobSource<'_> {
    let finish = move || Ok(Descriptor::of(MediaType::OCI_LAYER_GZIP, bytes));
    BlobSource::Stream { reader: Box::new(bytes), finish: Box::new(finish) }
}

fn has_body(request: &Request) -> bool {
    matches!(request.method.as_str(), "PUT" | "PATCH")
}

/// A registry that has nothing, opens sessions, and answers what is sent to them as `body` says; a session that is
/// asked has `kept(asked)` bytes.
fn uploads(
    body: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    kept: impl Fn(usize) -> usize + Send + Sync + 'static,
) -> Fake {
    let asked = AtomicUsize::new(0);
    Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/session"),
        "GET" => match kept(asked.fetch_add(1, Ordering::SeqCst)) {
            0 => Reply::new(404),
            count => {
                Reply::new(204).header("Location", "/session").header("Range", format!("0-{}", count - 1))
            }
        },
        _ => body(request),
    })
}

#[test]
fn an_upload_that_is_never_taken_ends() {
    let blob = noise(1_000_000);
    let lost = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#;
    let answers: [(fn() -> Reply, ErrorKind); 11] = [
        (|| Reply::new(401), ErrorKind::Unauthorized),
        (|| Reply::new(403), ErrorKind::Denied),
        (|| Reply::new(404), ErrorKind::NotFound),
        (|| Reply::new(413), ErrorKind::Refused),
        (|| Reply::new(416), ErrorKind::Refused),
        (|| Reply::new(429).header("Retry-After", "0"), ErrorKind::RateLimited),
        (|| Reply::new(429).header("Retry-After", "86400"), ErrorKind::RateLimited),
        (|| Reply::new(429), ErrorKind::RateLimited),
        (|| Reply::new(500), ErrorKind::Unavailable),
        (|| Reply::new(503).header("Retry-After", "-1"), ErrorKind::Unavailable),
        (|| Reply::new(200).how(How::Close), ErrorKind::Unreachable),
    ];
    for (answer, kind) in answers {
        for source in [known(&blob), stream(&blob)] {
            let fake = uploads(move |_| answer(), |_| 0);
            let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.to_string().starts_with("push "), "{error}");
            assert!(fake.lines().len() < MANY, "{error}: {:?}", fake.lines());
        }
    }
    let fake = uploads(move |_| Reply::new(400).json(lost), |_| 0);
    let error = client().push_blob(&fake.reference("a"), known(&blob), &[], &()).unwrap_err();
    assert!(error.to_string().contains("BLOB_UPLOAD_UNKNOWN gone"), "{error}");
    assert!(fake.lines().len() < MANY);
}

/// One byte of progress, or progress that is taken back, is none.
#[test]
fn sessions_that_hardly_move_or_jump_end() {
    let blob = noise(1_000_000);
    let moves: [fn(usize) -> usize; 3] =
        [|asked| asked + 1, |asked| if asked % 2 == 0 { 500_000 } else { 0 }, |_| 999_999];
    for kept in moves {
        for source in [known(&blob), stream(&blob)] {
            let fake = uploads(|_| Reply::new(500), kept);
            // A client that never gives up would never come back: its requests are counted here as well.
            let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
            assert!(fake.lines().len() < MANY, "{:?}", fake.lines());
        }
    }
}

/// Everything is taken, only the end is not: each time the session is lost and all begins anew.
#[test]
fn an_upload_that_is_lost_at_its_end_each_time_ends() {
    let blob = noise(1_000_000);
    for source in [known(&blob), stream(&blob)] {
        let step = AtomicUsize::new(0);
        let body =
            move |request: &Request| match (request.method.as_str(), step.fetch_add(1, Ordering::SeqCst)) {
                (_, step) if step > 2 * MANY => Reply::new(403),
                ("PATCH", _) => Reply::new(202).header("Location", "/session"),
                _ => Reply::new(404),
            };
        // A part was kept, so that it goes on with pieces; then nothing is known of them.
        let fake = uploads(body, |asked| if asked % 2 == 0 { 300_000 } else { 0 });
        let error = client().push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        assert!(fake.lines().len() < MANY, "{}", fake.lines().len());
    }
}

/// Each answer comes before what it answers was read: what was on its way then is lost, whatever the answer says.
#[test]
fn a_registry_that_answers_before_it_has_read_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/a", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut head = String::new();
            // To the end of the head; a stream's body stays unread, and the connection open.
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|count| count > 0) {}
            let status = if head.starts_with("GET") { 404 } else { 202 };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nLocation: /s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = (&stream).write_all(answer.as_bytes());
            std::mem::forget(stream);
        }
    });
    let blob = noise(30 << 20);
    let mut config = hasty();
    config.timeouts.idle = Duration::from_millis(200);
    let error = Client::new(config).push_blob(&name, stream(&blob), &[], &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("answered before all was sent"), "{error}");
}

#[test]
fn a_token_that_ends_during_an_upload_is_replaced() {
    let blob = noise(700_000);
    for source in [known(&blob), stream(&blob)] {
        let given = AtomicUsize::new(0);
        let uploads = AtomicUsize::new(0);
        let stored = Mutex::new(Vec::new());
        let fake = Fake::start(move |request| {
            let host = request.header("host").unwrap();
            if request.path.starts_with("/token") {
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                return Reply::new(200).json(&format!(r#"{{"token":"t{number}","expires_in":300}}"#));
            }
            // The first body that is sent ends the token it was sent with.
            let is_first = has_body(request) && uploads.fetch_add(1, Ordering::SeqCst) == 0;
            let valid = format!("Bearer t{}", given.load(Ordering::SeqCst));
            if request.header("authorization") != Some(&valid) || is_first {
                let realm = format!(r#"Bearer realm="http://{host}/token",service="s""#);
                return Reply::new(401).header("WWW-Authenticate", realm);
            }
            match request.method.as_str() {
                "HEAD" | "GET" => Reply::new(404),
                "POST" => Reply::new(202).header("Location", "/session"),
                "PATCH" => {
                    stored.lock().unwrap().extend_from_slice(&request.body);
                    Reply::new(202).header("Location", "/session")
                }
                _ => {
                    stored.lock().unwrap().extend_from_slice(&request.body);
                    Reply::new(201).header("Docker-Content-Digest", Digest::of(&stored.lock().unwrap()))
                }
            }
        });
        let client = client();
        let pushed = client.push_blob(&fake.reference("a"), source, &[], &()).unwrap();
        assert_eq!(pushed.descriptor, layer(&blob));
        assert_eq!(client.transfers().tokens, 2);
    }
}

#[test]
fn a_body_is_not_redirected_and_takes_no_credential_along() {
    let elsewhere = Fake::start(|_| Reply::new(201));
    let target = format!("http://{}/x", elsewhere.address);
    let fake = Fake::start(move |request| match (request.method.as_str(), request.header("authorization")) {
        (_, None) => Reply::new(401).header("WWW-Authenticate", "Basic"),
        ("HEAD", _) => Reply::new(404),
        ("POST", _) => Reply::new(202).header("Location", "/session"),
        _ => Reply::new(307).header("Location", &target),
    });
    let mut credentials = Credentials::default();
    let basic = Credential::Basic { user: "u".to_owned(), password: Secret::new("p") };
    credentials.insert(&fake.address.to_string(), basic);
    let client = Client::new(RegistryConfig { credentials, ..hasty() });
    for source in [known(b"x"), stream(b"x")] {
        let error = client.push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("answered 307"), "{error}");
    }
    assert_eq!(elsewhere.lines(), [""; 0]);
    // A manifest can be sent twice, so it goes along, without saying who we are.
    let media_type = MediaType::from(MediaType::OCI_MANIFEST);
    client.push_manifest(&fake.reference("a"), &media_type, &manifest_bytes()).unwrap();
    assert_eq!(elsewhere.requests()[0].header("authorization"), None);
    assert_eq!(elsewhere.requests()[0].body, manifest_bytes());
}

/// A log-in page of a hotel answers everything with 200.
#[test]
fn a_web_page_is_not_taken_for_a_registry() {
    let fake =
        Fake::start(|_| Reply::new(200).header("Content-Type", "text/html; charset=utf-8").body("<html>"));
    let name = fake.reference("a");
    let client = client();
    let media_type = MediaType::from(MediaType::OCI_MANIFEST);
    let by_digest = fake.reference(&format!("a@{}", Digest::of(&manifest_bytes())));
    let failures = [
        client.resolve(&name).map(drop).unwrap_err(),
        client.head(&name).map(drop).unwrap_err(),
        client.head(&by_digest).map(drop).unwrap_err(),
        client.has_blob(&name, Digest::of(b"x")).map(drop).unwrap_err(),
        client.list_tags(&name).map(drop).unwrap_err(),
        client.push_blob(&name, known(b"x"), &[], &()).map(drop).unwrap_err(),
        client.push_blob(&name, stream(b"x"), &[], &()).map(drop).unwrap_err(),
        client.push_manifest(&name, &media_type, &manifest_bytes()).map(drop).unwrap_err(),
        client.delete_manifest(&name).map(drop).unwrap_err(),
    ];
    for error in failures {
        assert_eq!(error.kind, ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("web page") && error.hint.is_some(), "{error}");
    }
    assert_eq!(client.transfers().retries, 0);
}

/// Some registries say of an empty or trivial answer that it is HTML, as their framework does: it says the rest too.
#[test]
fn an_answer_that_only_claims_to_be_a_page_is_taken() {
    let html = |reply: Reply| reply.header("Content-Type", "text/html; charset=utf-8");
    let stored = Mutex::new(false);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "HEAD" if !*stored.lock().unwrap() => html(Reply::new(404)),
        "HEAD" => html(Reply::new(200)).header("Docker-Content-Digest", Digest::of(b"x")),
        "POST" => html(Reply::new(202)).header("Location", "/session"),
        "DELETE" => html(Reply::new(202)),
        _ if request.path.contains("manifests") => {
            html(Reply::new(202)).header("Docker-Content-Digest", Digest::of(&manifest_bytes())).body("OK")
        }
        _ => {
            *stored.lock().unwrap() = true;
            html(Reply::new(201)).header("Docker-Content-Digest", Digest::of(b"x"))
        }
    });
    let client = client();
    let name = fake.reference("a");
    client.push_blob(&name, known(b"x"), &[], &()).unwrap();
    assert!(client.has_blob(&name, Digest::of(b"x")).unwrap());
    client.push_manifest(&name, &MediaType::from(MediaType::OCI_MANIFEST), &manifest_bytes()).unwrap();
    client.delete_manifest(&name).unwrap();
}

#[test]
fn tag_lists_that_never_end_end() {
    let circle = Fake::start(|request| {
        let other = if request.path.ends_with("x=1") { "x=2" } else { "x=1" };
        let link = format!("</v2/a/tags/list?{other}>; rel=\"next\"");
        Reply::new(200).header("Link", link).json(r#"{"tags":["1"]}"#)
    });
    let error = client().list_tags(&circle.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("in circles"), "{error}");
    // Without a query, then both pages, then the first of them again.
    assert_eq!(circle.lines().len(), 4);

    // Always another page, each as large as is allowed.
    let page =
        format!(r#"{{"tags":[{}"1"]}}"#, r#""a-tag-of-the-longest-kind-that-anybody-uses","#.repeat(80_000));
    let next = AtomicUsize::new(0);
    let endless = Fake::start(move |_| {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let link = format!("</v2/a/tags/list?last={number}>; rel=\"next\"");
        Reply::new(200).header("Link", link).json(&page)
    });
    let error = client().list_tags(&endless.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    assert!(endless.lines().len() < 2 * MANY, "{}", endless.lines().len());
    let one = Fake::start(|_| Reply::new(200).how(How::Endless(0)));
    assert_eq!(client().list_tags(&one.reference("a")).unwrap_err().kind, ErrorKind::TooLarge);
}

#[test]
fn a_token_server_without_end_or_patience_ends() {
    let answers: [(fn() -> Reply, ErrorKind); 4] = [
        (|| Reply::new(200).how(How::Endless(0)), ErrorKind::TooLarge),
        (|| Reply::new(429).header("Retry-After", "99999"), ErrorKind::RateLimited),
        (|| Reply::new(307).header("Location", "/token2"), ErrorKind::Malformed),
        (|| Reply::new(401).header("WWW-Authenticate", "Basic"), ErrorKind::Unauthorized),
    ];
    for (answer, kind) in answers {
        let fake = Fake::start(move |request| {
            let host = request.header("host").unwrap();
            if request.path.starts_with("/token") {
                return answer();
            }
            let realm = format!(r#"Bearer realm="http://{host}/token",service="s""#);
            Reply::new(401).header("WWW-Authenticate", realm)
        });
        let error = client().resolve(&fake.reference("a")).unwrap_err();
        assert_eq!((error.kind, fake.lines().len()), (kind, 2), "{error}");
    }
}
