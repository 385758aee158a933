//! Slow, throttling, looping and wrongly encrypted peers.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use strake_oci::Reference;
use strake_registry::{
    Client, ErrorKind, HostTls, Notice, ProxyConfig, RegistryConfig, RegistryError, Timeouts,
};
use strake_testkit::Port;

use crate::fake::{Fake, How, Reply, Request, noise};
use crate::{client, hasty, layer, manifest_bytes};

fn manifest() -> Reply {
    Reply::new(200).json("").body(manifest_bytes())
}

/// A fake that answers `first` once, then as it should.
fn once(first: impl Fn() -> Reply + Send + Sync + 'static) -> Fake {
    let asked = Mutex::new(false);
    Fake::start(
        move |_| if std::mem::replace(&mut *asked.lock().unwrap(), true) { manifest() } else { first() },
    )
}

/// The waits before each repetition of one pull.
fn waits(fake: &Fake, config: RegistryConfig) -> (Vec<Duration>, Result<(), RegistryError>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    let client = Client::with_notices(config, move |notice| {
        if let Notice::Retry { delay, .. } = notice {
            heard.lock().unwrap().push(*delay);
        }
    });
    let result = client.resolve(&fake.reference("a")).map(|_| ());
    let waits = notices.lock().unwrap().clone();
    (waits, result)
}

#[test]
fn throttling_is_obeyed_as_asked() {
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    for (asked, expect) in [("0", Some(0)), (date, Some(0)), ("soon", None), ("-5", None)] {
        for status in [429, 503] {
            let fake = once(move || Reply::new(status).header("Retry-After", asked).header("Date", date));
            let (waits, result) = waits(&fake, hasty());
            result.unwrap();
            assert_eq!(waits.len(), 1, "{asked}");
            match expect {
                Some(seconds) => assert_eq!(waits[0], Duration::from_secs(seconds), "{asked}"),
                None => assert!(waits[0] >= Duration::from_millis(1), "{asked}"),
            }
        }
    }
}

#[test]
fn an_hour_is_not_waited() {
    for asked in ["3600", "Wed, 21 Oct 2015 08:28:00 GMT", "99999999999999999999"] {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        let fake = once(move || Reply::new(429).header("Retry-After", asked).header("Date", date));
        let (waits, result) = waits(&fake, hasty());
        let error = result.unwrap_err();
        assert!(waits.is_empty());
        assert_eq!(error.kind, ErrorKind::RateLimited);
        assert!(error.to_string().contains("longer than strake waits"), "{error}");
    }
}

#[test]
fn only_what_may_pass_is_repeated() {
    for (status, kind, tries) in [
        (400, ErrorKind::Refused, 1),
        (403, ErrorKind::Denied, 1),
        (405, ErrorKind::Refused, 1),
        (408, ErrorKind::TimedOut, 4),
        (429, ErrorKind::RateLimited, 4),
        (500, ErrorKind::Unavailable, 4),
        (501, ErrorKind::Unavailable, 1),
        (502, ErrorKind::Unavailable, 4),
        (503, ErrorKind::Unavailable, 4),
        (301, ErrorKind::Malformed, 1),
    ] {
        let body = "{\"errors\":[{\"code\":\"X\",\"message\":\"a\\u001b]0;title\\u0007b\"}]}";
        let fake = Fake::start(move |_| Reply::new(status).json(body));
        let error = client().resolve(&fake.reference("a")).unwrap_err();
        assert_eq!((error.kind, fake.lines().len()), (kind, tries), "{status}: {error}");
        let text = error.to_string();
        assert!(text.contains(&status.to_string()) && text.contains("X a ]0;title b"), "{text}");
        assert!(text.starts_with("pull manifest 127.0.0.1:") && !text.contains(char::is_control), "{text}");
    }
}

#[test]
fn a_dropped_connection_is_tried_again() {
    let fake = once(|| Reply::new(200).how(How::Close));
    // Undecided whether this host speaks TLS, both are tried: neither counts as an answer.
    let (_, result) = waits(&fake, hasty());
    result.unwrap();
}

#[test]
fn nobody_there_is_said() {
    let port = Port::claim().unwrap();
    let closed = port.address();
    // The usual patience, which must not be used.
    let client = Client::new(RegistryConfig::default());
    let error = client.resolve(&format!("{closed}/a").parse().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.to_string().contains(&format!("cannot connect to {closed}")), "{error}");
    assert_eq!(client.transfers().retries, 0);
}

/// A reference to an address of this machine that does not look like one.
fn elsewhere(closed: &Port) -> Reference {
    format!("0.0.0.0:{}/a", closed.number()).parse().unwrap()
}

#[test]
fn a_refused_connection_is_tried_once_more_and_soon() {
    let client = Client::with_notices(RegistryConfig::default(), |notice| {
        if let Notice::Retry { delay, .. } = notice {
            assert!(*delay <= Duration::from_millis(300), "{delay:?}");
        }
    });
    let closed = Port::claim().unwrap();
    let error = client.resolve(&elsewhere(&closed)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("(tried 2 times)"), "{error}");
    assert_eq!(client.transfers().retries, 1);
}

fn impatient(idle: u64, all: u64) -> RegistryConfig {
    let idle = Duration::from_millis(idle);
    let mut config = hasty();
    config.timeouts =
        Timeouts { answer: idle, idle, small_answer: Duration::from_millis(all), ..config.timeouts };
    config.retry.retries = 1;
    config
}

#[test]
fn silence_and_dripping_end() {
    let silent = Fake::start(|_| Reply::new(200).how(How::Silence));
    let error = Client::new(impatient(30, 10_000)).resolve(&silent.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("sent nothing for 30ms"), "{error}");
    let dripping = Fake::start(|_| Reply::new(200).header("Content-Length", "9999").how(How::Drip));
    let error = Client::new(impatient(10_000, 50)).resolve(&dripping.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
    let blob = noise(9999);
    let mut out = Vec::new();
    let slow = Client::new(impatient(50, 10_000));
    let error = slow.fetch_blob(&dripping.reference("a"), &layer(&blob), &mut out, &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
}

#[test]
fn in_a_hurry_silence_is_given_up_sooner_and_an_answer_is_not() {
    let silent = Fake::start(|_| Reply::new(200).how(How::Silence));
    let mut config = impatient(30, 10_000);
    config.retry.retries = 3;
    let patient = Client::new(config);
    let error = patient.resolve(&silent.reference("a")).unwrap_err();
    assert!(error.to_string().contains("(tried 4 times)"), "{error}");
    let hurried = patient.hurried();
    let error = hurried.resolve(&silent.reference("a")).unwrap_err();
    assert!(error.to_string().contains("(tried 2 times)"), "{error}");
    // An answer, however late it comes.
    let busy = Fake::start(|_| Reply::new(503));
    let mut config = hasty();
    config.retry.retries = 3;
    let error = Client::new(config).hurried().resolve(&busy.reference("a")).unwrap_err();
    assert!(error.to_string().contains("(tried 4 times)"), "{error}");
    // It is the same client otherwise.
    assert_eq!(patient.transfers(), hurried.transfers());
    patient.cancel();
    assert_eq!(hurried.resolve(&busy.reference("a")).unwrap_err().kind, ErrorKind::Cancelled);
}

#[test]
fn a_body_that_nobody_reads_ends() {
    let fake = Fake::start_cutting(
        |request| {
            (request.method == "PUT").then(|| {
                thread::sleep(Duration::from_millis(300));
                0
            })
        },
        |request| match request.method.as_str() {
            "POST" => Reply::new(202).header("Location", "/u"),
            _ => Reply::new(404),
        },
    );
    let blob = noise(32 << 20);
    let source = strake_registry::BlobSource::Bytes { descriptor: layer(&blob), bytes: blob };
    let error =
        Client::new(impatient(30, 10_000)).push_blob(&fake.reference("a"), source, &[], &()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
}

#[test]
fn redirects_in_circles_end() {
    let fake = Fake::start(|request| Reply::new(307).header("Location", &request.path));
    let error = client().resolve(&fake.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.to_string().contains("in circles"), "{error}");
    assert_eq!(fake.lines().len(), 11);
}

#[test]
fn plain_http_where_tls_was_expected_is_named_with_the_remedy() {
    let fake = Fake::start(|_| manifest());
    let mut config = hasty();
    // Who puts certificates for a host means TLS, even on loopback.
    config.tls.hosts.insert(fake.address.to_string(), HostTls::default());
    let error = Client::new(config).resolve(&fake.reference("a")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls);
    let text = error.to_string();
    assert!(text.contains("answered plain HTTP to an HTTPS request"), "{text}");
    assert!(text.contains(&format!("list `{}` as an insecure registry", fake.address)), "{text}");
}

#[test]
fn requests_at_one_time_are_limited() {
    let fake = Fake::start(|_| {
        thread::sleep(Duration::from_millis(5));
        manifest()
    });
    let client = Client::new(RegistryConfig { max_parallel: 2, ..hasty() });
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.resolve(&fake.reference("a")).unwrap());
        }
    });
    assert_eq!(fake.lines().len(), 8);
    assert!(fake.most_at_once.load(std::sync::atomic::Ordering::SeqCst) <= 2);
}

#[test]
fn connections_are_kept() {
    let fake = Fake::start(|_| manifest());
    let client = client();
    for _ in 0..60 {
        client.resolve(&fake.reference("a")).unwrap();
    }
    assert_eq!(fake.lines().len(), 60);
    // On a loaded machine a request may come before its predecessor's connection is back in the pool.
    assert!(fake.connection_count() <= 20, "{}", fake.connection_count());
}

#[test]
fn more_open_readers_than_connections_do_not_block_each_other() {
    let blob = noise(100_000);
    let served = blob.clone();
    let fake = Fake::start(move |request| Reply::ranged(request, &served));
    let client = Client::new(RegistryConfig { max_parallel: 2, ..hasty() });
    let open = |_| client.open_blob(&fake.reference("a"), &layer(&blob)).unwrap();
    let readers: Vec<_> = (0..6).map(open).collect();
    assert!(
        client.has_blob(&fake.reference("a"), layer(&blob).digest).unwrap(),
        "questions have a lane of their own"
    );
    for reader in readers {
        reader.finish().unwrap();
    }
}

#[test]
fn a_reader_that_stops_early_frees_its_connection() {
    let blob = noise(100 << 20);
    let served = Arc::new(blob);
    let bytes = Arc::clone(&served);
    let fake = Fake::start(move |request| Reply::ranged(request, &bytes));
    let client = Client::new(RegistryConfig { max_parallel: 1, ..hasty() });
    let mut reader = client.open_blob(&fake.reference("a"), &layer(&served)).unwrap();
    std::io::Read::read_exact(&mut reader, &mut [0; 10]).unwrap();
    drop(reader);
    let mut reader = client.open_blob(&fake.reference("a"), &layer(&served)).unwrap();
    std::io::Read::read_exact(&mut reader, &mut [0; 10]).unwrap();
    assert!(client.transfers().received < 100 << 20);
}

#[test]
fn cancelling_ends_what_runs_and_what_comes() {
    let fake = Fake::start(|_| Reply::new(200).how(How::Silence));
    let client = client();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.resolve(&fake.reference("a")).unwrap_err());
        let reading = scope.spawn(|| {
            client.fetch_blob(&fake.reference("a"), &layer(b"x"), &mut Vec::new(), &()).unwrap_err()
        });
        while fake.lines().len() < 2 {
            thread::yield_now();
        }
        client.cancel();
        assert_eq!(waiting.join().unwrap().kind, ErrorKind::Cancelled);
        assert_eq!(reading.join().unwrap().kind, ErrorKind::Cancelled);
    });
    assert_eq!(client.head(&fake.reference("a")).unwrap_err().kind, ErrorKind::Cancelled);
}

#[test]
fn proxies_are_used_except_where_not() {
    let proxy = Fake::start(|request: &Request| match request.method.as_str() {
        "CONNECT" => Reply::new(403),
        _ => manifest(),
    });
    let address = format!("http://{}", proxy.address);
    let settings = ProxyConfig {
        http: Some(address.clone()),
        https: Some(address),
        no_proxy: Some("direct.invalid, 192.0.2.0/24".to_owned()),
    };
    let mut config = RegistryConfig { proxy: settings, ..hasty() };
    config.retry.retries = 0;
    config.timeouts.connect = Duration::from_millis(200);
    let client = Client::new(config);
    let pull = |name: &str| client.resolve(&name.parse().unwrap()).unwrap_err().kind;
    assert_eq!(pull("registry.invalid/a"), ErrorKind::Unreachable);
    assert_eq!(proxy.lines(), ["CONNECT registry.invalid:443"]);
    assert_eq!(pull("direct.invalid/a"), ErrorKind::Unreachable);
    pull("192.0.2.1:5000/a");
    assert_eq!(proxy.lines().len(), 1, "neither the name nor the range went through the proxy");
    // Loopback never does.
    let local = Fake::start(|_| manifest());
    client.resolve(&local.reference("a")).unwrap();
    assert_eq!(proxy.lines().len(), 1);
}

#[test]
fn an_insecure_host_may_lack_tls_and_no_other() {
    // A proxy stands in for a host that is not on loopback. In the tunnel it speaks plain HTTP.
    let proxy = Fake::start(|request| if request.method == "CONNECT" { Reply::new(200) } else { manifest() });
    let settings = ProxyConfig {
        http: Some(format!("http://user:hunter2@{}", proxy.address)),
        https: Some(format!("http://user:hunter2@{}", proxy.address)),
        no_proxy: None,
    };
    let insecure = vec!["lab.invalid:5000".to_owned()];
    let config = RegistryConfig { proxy: settings, insecure, ..hasty() };
    assert!(!format!("{config:?}").contains("hunter2"));
    let client = Client::new(config);
    client.resolve(&"lab.invalid:5000/a".parse().unwrap()).unwrap().unwrap();
    client.resolve(&"lab.invalid:5000/b".parse().unwrap()).unwrap().unwrap();
    let plain = "GET http://lab.invalid:5000/v2";
    assert_eq!(
        proxy.lines(),
        [
            "CONNECT lab.invalid:5000",
            &format!("{plain}/a/manifests/latest"),
            &format!("{plain}/b/manifests/latest")
        ]
    );
    let error = client.resolve(&"other.invalid:5000/a".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls);
    assert!(error.to_string().contains("list `other.invalid:5000` as an insecure registry"), "{error}");
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn a_registry_that_comes_up_late_is_reached() {
    let port = Port::claim().unwrap();
    let (name, own) = (elsewhere(&port), port.address().to_string());
    let late = Arc::new(Mutex::new(None));
    let started = Arc::clone(&late);
    let config = RegistryConfig { insecure: vec![format!("0.0.0.0:{}", port.number())], ..hasty() };
    // Refused once, as a name that does not resolve once would be.
    let client = Client::with_notices(config, move |_| {
        started.lock().unwrap().get_or_insert_with(|| Fake::start_at(&own, |_| None, |_| manifest()));
    });
    client.resolve(&name).unwrap().unwrap();
    assert_eq!(client.transfers().retries, 1);
}
