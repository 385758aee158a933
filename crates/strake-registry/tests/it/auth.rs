//! Who gets to see which credential.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use strake_oci::MediaType;
use strake_registry::{BlobSource, Client, Credential, Credentials, ErrorKind, RegistryConfig, Secret};

use crate::fake::{Fake, How, Reply, Request, noise};
use crate::{client, hasty, layer, manifest_bytes};

fn with_credential(fake: &Fake, credential: Credential) -> RegistryConfig {
    let mut credentials = Credentials::default();
    credentials.insert(&fake.address.to_string(), credential);
    RegistryConfig { credentials, ..hasty() }
}

fn basic() -> Credential {
    Credential::Basic { user: "aladdin".to_owned(), password: Secret::new("open sesame") }
}

/// `aladdin:open sesame`, the example of RFC 7617 in lower case.
const BASIC: &str = "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==";

fn manifest() -> Reply {
    Reply::new(200).header("Content-Type", MediaType::OCI_MANIFEST).body(manifest_bytes())
}

/// A registry that accepts the tokens `accepted` says, and its token server, in one.
fn token_registry(
    token: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    accepted: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Fake {
    Fake::start(move |request| {
        let host = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            return token(request);
        }
        match request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if accepted(token) => match request.method.as_str() {
                "GET" => manifest(),
                "HEAD" => Reply::new(404),
                "POST" if !request.path.contains("mount=") => Reply::new(202).header("Location", "/x"),
                _ => Reply::new(201).header("Location", "/x"),
            },
            _ => Reply::new(401)
                .header(
                    "WWW-Authenticate",
                    format!(r#"Bearer realm="http://{host}/token",service="the, service""#),
                )
                .json(r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#),
        }
    })
}

#[test]
fn nobody_is_told_who_we_are_unasked() {
    let fake = Fake::start(|_| manifest());
    Client::new(with_credential(&fake, basic())).resolve(&fake.reference("a")).unwrap();
    assert_eq!(fake.requests()[0].header("authorization"), None);
}

#[test]
fn basic_credentials_are_sent_when_asked_for() {
    let fake = Fake::start(|request| match request.header("authorization") {
        Some(BASIC) => manifest(),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=x"),
    });
    let knowing = Client::new(with_credential(&fake, basic()));
    knowing.resolve(&fake.reference("a")).unwrap();
    knowing.resolve(&fake.reference("b")).unwrap();
    assert_eq!(fake.lines().len(), 3, "the second time without being asked");
    let error = client().resolve(&fake.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.to_string().contains("no credentials for `127.0.0.1"), "{error}");
    let wrong = Credential::Basic { user: "u".to_owned(), password: Secret::new("hunter2") };
    let error = Client::new(with_credential(&fake, wrong)).resolve(&fake.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.to_string().contains("not accepted"), "{error}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

#[test]
fn tokens_are_fetched_once_per_scope() {
    let fake =
        token_registry(|_| Reply::new(200).json(r#"{"token":"t","expires_in":300}"#), |token| token == "t");
    let client = Client::new(with_credential(&fake, basic()));
    for name in ["a:1", "a:2", "a:3", "b"] {
        client.resolve(&fake.reference(name)).unwrap();
    }
    let asked: Vec<Request> = fake.requests().into_iter().filter(|r| r.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].path, "/token?service=the%2C+service&scope=repository%3Aa%3Apull&account=aladdin");
    assert_eq!(asked[0].header("authorization"), Some(BASIC));
    // One challenge: for `b` the token was fetched without being told to.
    assert_eq!(fake.lines().len(), 1 + 2 + 4);
    assert_eq!(client.transfers().tokens, 2);
}

#[test]
fn threads_that_start_together_ask_once() {
    let fake = token_registry(|_| Reply::new(200).json(r#"{"token":"t"}"#), |token| token == "t");
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.resolve(&fake.reference("a")).unwrap());
        }
    });
    assert_eq!(client.transfers().tokens, 1);
}

#[test]
fn a_mount_asks_for_both_repositories_in_one_token() {
    let fake = token_registry(|_| Reply::new(200).json(r#"{"access_token":"t"}"#), |token| token == "t");
    let client = client();
    let source = BlobSource::Bytes { bytes: b"x".to_vec(), descriptor: layer(b"x") };
    let pushed = client.push_blob(&fake.reference("team/app"), source, &[fake.reference("base/x")], &());
    pushed.unwrap();
    let asked = fake.requests().into_iter().find(|r| r.path.starts_with("/token")).unwrap();
    let scopes = "scope=repository%3Abase%2Fx%3Apull&scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    assert!(asked.path.ends_with(scopes), "{}", asked.path);
    assert_eq!(client.transfers().tokens, 1);
}

#[test]
fn a_mount_source_that_no_token_is_given_for_is_left_out() {
    let token = |request: &Request| {
        let refused = request.path.contains("secret");
        if refused { Reply::new(403) } else { Reply::new(200).json(r#"{"token":"t"}"#) }
    };
    let fake = token_registry(token, |token| token == "t");
    let source = BlobSource::Bytes { bytes: b"x".to_vec(), descriptor: layer(b"x") };
    let pushed = client().push_blob(&fake.reference("a"), source, &[fake.reference("secret")], &());
    assert_eq!(pushed.unwrap().how, strake_registry::Pushed::Uploaded);
}

#[test]
fn a_loop_of_challenges_ends() {
    let fake = token_registry(|_| Reply::new(200).json(r#"{"token":"t"}"#), |_| false);
    let client = Client::new(with_credential(&fake, basic()));
    let error = client.resolve(&fake.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.to_string().contains("UNAUTHORIZED who are you"), "{error}");
    assert_eq!(fake.lines().len(), 3, "request, token, request");
}

#[test]
fn a_token_that_ends_during_the_build_is_replaced() {
    let counter = Arc::new(AtomicUsize::new(0));
    let (given, valid) = (Arc::clone(&counter), Arc::clone(&counter));
    let fake = token_registry(
        move |_| {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            Reply::new(200).json(&format!(r#"{{"token":"t{number}","expires_in":300}}"#))
        },
        move |token| token == format!("t{}", valid.load(Ordering::SeqCst)),
    );
    let client = client();
    client.resolve(&fake.reference("a")).unwrap();
    counter.fetch_add(1, Ordering::SeqCst);
    client.resolve(&fake.reference("a")).unwrap();
    assert_eq!(client.transfers().tokens, 2);
}

#[test]
fn a_token_that_ends_at_once_is_not_kept() {
    let fake =
        token_registry(|_| Reply::new(200).json(r#"{"token":"t","expires_in":0}"#), |token| token == "t");
    let client = client();
    client.resolve(&fake.reference("a")).unwrap();
    client.resolve(&fake.reference("a")).unwrap();
    assert_eq!(client.transfers().tokens, 2);
}

#[test]
fn identity_tokens_are_posted_and_renewed() {
    let fake = token_registry(
        |request| {
            assert_eq!(request.method, "POST");
            assert_eq!(request.header("authorization"), None);
            Reply::new(200).json(r#"{"access_token":"t","refresh_token":"second","expires_in":0}"#)
        },
        |token| token == "t",
    );
    let client = Client::new(with_credential(&fake, Credential::Identity(Secret::new("first"))));
    client.resolve(&fake.reference("a")).unwrap();
    client.resolve(&fake.reference("a")).unwrap();
    let bodies = fake.requests().into_iter().filter(|r| r.method == "POST");
    let bodies: Vec<String> = bodies.map(|r| String::from_utf8(r.body).unwrap()).collect();
    let form = "grant_type=refresh_token&service=the%2C+service&client_id=strake&scope=repository%3Aa%3Apull&refresh_token=";
    assert_eq!(bodies, [format!("{form}first"), format!("{form}second")]);
}

#[test]
fn a_token_server_that_refuses_is_named() {
    for status in [401, 403] {
        let fake = token_registry(
            move |_| Reply::new(status).json(r#"{"details":"incorrect password"}"#),
            |_| false,
        );
        let error = Client::new(with_credential(&fake, basic())).resolve(&fake.reference("a")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains("does not accept the credentials"), "{error}");
        assert!(!error.to_string().contains("sesame"));
    }
    for body in ["", "<html>", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#] {
        let fake = token_registry(move |_| Reply::new(200).json(body), |_| true);
        assert_eq!(client().resolve(&fake.reference("a")).unwrap_err().kind, ErrorKind::Malformed, "{body}");
    }
    let fake = token_registry(|_| Reply::new(500), |_| false);
    assert_eq!(client().resolve(&fake.reference("a")).unwrap_err().kind, ErrorKind::Unavailable);
    let fake = Fake::start(|_| Reply::new(401));
    assert_eq!(client().resolve(&fake.reference("a")).unwrap_err().kind, ErrorKind::Malformed);
    let fake = Fake::start(|_| {
        Reply::new(401).header("WWW-Authenticate", r#"Bearer realm="http://u:p@127.0.0.1:1/""#)
    });
    assert_eq!(client().resolve(&fake.reference("a")).unwrap_err().kind, ErrorKind::Malformed);
}

#[test]
fn a_token_server_that_was_refused_is_not_asked_by_the_next_request_either() {
    let elsewhere = Fake::start(|_| Reply::new(200).json(r#"{"token":"t"}"#));
    let realm = format!(r#"Bearer realm="http://u:p@{}/token""#, elsewhere.address);
    let fake = Fake::start(move |_| Reply::new(401).header("WWW-Authenticate", &realm));
    let client = Client::new(with_credential(&fake, basic()));
    for _ in 0..2 {
        assert_eq!(client.resolve(&fake.reference("a")).unwrap_err().kind, ErrorKind::Malformed);
    }
    assert_eq!(elsewhere.lines(), Vec::<String>::new(), "it has seen the password");
}

#[test]
fn a_redirect_to_another_host_takes_nothing_along() {
    let blob = noise(200_000);
    let served = blob.clone();
    let storage = Fake::start(move |request| {
        assert_eq!(request.header("authorization"), None);
        let reply = Reply::ranged(request, &served);
        if request.range_start() == 0 { reply.how(How::CutAfter(50_000)) } else { reply }
    });
    let target = format!("http://{}/blob?X-Signature=hunter2", storage.address);
    let fake = Fake::start(move |request| match request.header("authorization") {
        Some(BASIC) => Reply::new(307).header("Location", &target),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic"),
    });
    let client = Client::new(with_credential(&fake, basic()));
    let mut out = Vec::new();
    client.fetch_blob(&fake.reference("a"), &layer(&blob), &mut out, &()).unwrap();
    assert!(out == blob);
    assert_eq!(storage.lines().len(), 2, "the range went along");
}

#[test]
fn who_was_sent_away_and_back_is_not_known_again() {
    let back = Arc::new(Mutex::new(String::new()));
    let target = Arc::clone(&back);
    let elsewhere = Fake::start(move |_| Reply::new(307).header("Location", target.lock().unwrap()));
    let away = format!("http://{}/", elsewhere.address);
    let fake = Fake::start(move |request| match (request.path.as_str(), request.header("authorization")) {
        ("/chosen", authorization) => {
            assert_eq!(authorization, None);
            Reply::new(404)
        }
        (_, Some(BASIC)) => Reply::new(307).header("Location", &away),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic"),
    });
    *back.lock().unwrap() = format!("http://{}/chosen", fake.address);
    let client = Client::new(with_credential(&fake, basic()));
    assert_eq!(client.resolve(&fake.reference("a")).unwrap(), None);
    assert_eq!(fake.lines().last().unwrap(), "GET /chosen");
}

#[test]
fn an_upload_elsewhere_takes_nothing_along() {
    let storage = Fake::start(|request| {
        assert_eq!(request.header("authorization"), None);
        Reply::new(201)
    });
    let target = format!("http://{}/upload", storage.address);
    let fake = Fake::start(move |request| match (request.header("authorization"), request.method.as_str()) {
        (Some(BASIC), "POST") => Reply::new(202).header("Location", &target),
        (Some(BASIC), _) => Reply::new(404),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic"),
    });
    let client = Client::new(with_credential(&fake, basic()));
    let source = BlobSource::Bytes { bytes: b"x".to_vec(), descriptor: layer(b"x") };
    client.push_blob(&fake.reference("a"), source, &[], &()).unwrap();
    assert_eq!(storage.requests()[0].body, b"x");
}

#[test]
fn a_signed_address_that_expired_is_asked_for_again() {
    let blob = noise(1000);
    let served = blob.clone();
    let tries = Mutex::new(0);
    let storage = Fake::start(move |_| {
        *tries.lock().unwrap() += 1;
        if *tries.lock().unwrap() == 1 {
            Reply::new(403).body("Request has expired")
        } else {
            Reply::new(200).body(served.clone())
        }
    });
    let target = format!("http://{}/blob", storage.address);
    let fake = Fake::start(move |_| Reply::new(302).header("Location", &target));
    client().fetch_blob(&fake.reference("a"), &layer(&blob), &mut Vec::new(), &()).unwrap();
    assert_eq!(fake.lines().len(), 2);
}

#[test]
fn the_longest_path_has_its_own_credential() {
    let fake = Fake::start(|request| match request.header("authorization") {
        Some(_) => manifest(),
        None => Reply::new(401).header("WWW-Authenticate", "Basic"),
    });
    let host = fake.address;
    let text = format!(r#"{{"auths":{{"{host}":{{"auth":"YTph"}},"{host}/team":{{"auth":"Yjpi"}}}}}}"#);
    let credentials = Credentials::from_json(&text).unwrap();
    let client = Client::new(RegistryConfig { credentials, ..hasty() });
    client.resolve(&fake.reference("other/x")).unwrap();
    client.resolve(&fake.reference("team/x")).unwrap();
    let sent: Vec<_> =
        fake.requests().iter().filter_map(|r| r.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, ["Basic YTph", "Basic Yjpi"]);
}
