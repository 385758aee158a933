//! Against Debian's docker-registry.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use strake_oci::{Descriptor, Digest, ImageManifest, MediaType, ParsedManifest, Reference};
use strake_registry::{
    BlobSource, Client, ClientIdentity, Credential, Credentials, ErrorKind, HostTls, Pushed, RegistryConfig,
    RegistryError, Secret,
};
use strake_testkit::Run;

use crate::fake::{Fake, Reply, Request, noise};
use crate::real_registry::{BreakingWire, Certificates, Options, RealRegistry, are_available, is_available};
use crate::{client, hasty, layer};

fn bytes_source(bytes: &[u8]) -> BlobSource<'static> {
    BlobSource::Bytes { bytes: bytes.to_vec(), descriptor: layer(bytes) }
}

fn stream_source(bytes: &[u8]) -> BlobSource<'_> {
    let finish = move || Ok(layer(bytes));
    BlobSource::Stream { reader: Box::new(bytes), finish: Box::new(finish) }
}

fn fetch(client: &Client, repository: &Reference, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let mut out = Vec::new();
    client.fetch_blob(repository, &layer(bytes), &mut out, &())?;
    Ok(out)
}

/// Pushes an image of one layer, and pulls it again.
fn there_and_back(client: &Client, name: &Reference) -> Result<(), RegistryError> {
    let (blob, config) = (noise(400_000), b"{}".to_vec());
    client.push_blob(name, bytes_source(&blob), &[], &())?;
    let config_descriptor = Descriptor::of(MediaType::OCI_CONFIG, &config);
    let source = BlobSource::Bytes { bytes: config, descriptor: config_descriptor.clone() };
    client.push_blob(name, source, &[], &())?;
    let manifest = ImageManifest::oci(config_descriptor, vec![layer(&blob)]).to_bytes();
    let pushed = client.push_manifest(name, &MediaType::OCI_MANIFEST.into(), &manifest)?;
    let found = client.resolve(name)?.expect("just pushed");
    assert_eq!((&found.descriptor, &found.bytes), (&pushed, &manifest));
    assert_eq!(client.head(name)?, Some(pushed));
    assert!(fetch(client, name, &blob)? == blob);
    Ok(())
}

#[test]
fn an_image_goes_there_and_back() {
    if !is_available() {
        return;
    }
    let registry = RealRegistry::start(&Options::default());
    let client = client();
    let name = registry.reference("team/app:1");
    assert_eq!(client.resolve(&name).unwrap(), None);
    assert_eq!(client.head(&name).unwrap(), None);
    assert_eq!(client.list_tags(&name).unwrap(), None);
    there_and_back(&client, &name).unwrap();
    there_and_back(&client, &registry.reference("team/app:2")).unwrap();
    let mut tags = client.list_tags(&name).unwrap().unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2"]);
    let blob = noise(400_000);
    assert!(client.has_blob(&name, Digest::of(&blob)).unwrap());
    assert!(!client.has_blob(&name, Digest::of(b"never")).unwrap());
    assert_eq!(client.push_blob(&name, bytes_source(&blob), &[], &()).unwrap().how, Pushed::Existed);
    let mounted =
        client.push_blob(&registry.reference("copy"), bytes_source(&blob), std::slice::from_ref(&name), &());
    assert_eq!(mounted.unwrap().how, Pushed::Mounted);
    assert!(fetch(&client, &registry.reference("copy"), &blob).unwrap() == blob);
    // A mount that cannot be: the upload follows in the same session.
    let other = noise(1001);
    let uploaded =
        client.push_blob(&registry.reference("copy"), bytes_source(&other), std::slice::from_ref(&name), &());
    assert_eq!(uploaded.unwrap().how, Pushed::Uploaded);
    assert!(fetch(&client, &registry.reference("copy"), &other).unwrap() == other);
    let digest = client.head(&name).unwrap().unwrap().digest;
    assert!(client.resolve(&name.with_digest(digest)).unwrap().is_some());
    assert!(client.delete_manifest(&name.with_digest(digest)).unwrap());
    assert_eq!(client.resolve(&name).unwrap(), None);
    assert_eq!(client.transfers().retries, 0);
}

#[test]
fn another_client_reads_and_writes_the_same() {
    if !is_available() || !are_available(&["/usr/bin/skopeo"]) {
        return;
    }
    let registry = RealRegistry::start(&Options::default());
    let client = client();
    let name = registry.reference("ours:1");
    there_and_back(&client, &name).unwrap();
    let home = tempfile::tempdir().unwrap();
    let skopeo = |arguments: &[&str]| {
        Run::new("skopeo").env("HOME", home.path()).args(arguments).succeed().unwrap().stdout.into_bytes()
    };
    let ours = client.resolve(&name).unwrap().unwrap();
    assert_eq!(skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]), ours.bytes);
    let theirs = registry.reference("theirs:1");
    let (from, to) = (format!("docker://{name}"), format!("docker://{theirs}"));
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
    // Our layer is not really gzip, so skopeo makes it so: another blob, which we read and verify.
    let found = client.resolve(&theirs).unwrap().unwrap();
    let ParsedManifest::Image(image) = ParsedManifest::parse(&found.bytes, None).unwrap() else {
        panic!("skopeo wrote an index");
    };
    for descriptor in image.layers.iter().chain([&image.config]) {
        client.open_blob(&theirs, descriptor).unwrap().finish().unwrap();
    }
}

#[test]
fn streams_and_odd_sizes() {
    if !is_available() {
        return;
    }
    let registry = RealRegistry::start(&Options::default());
    let client = client();
    let name = registry.reference("a");
    for size in [0, 1, 2, 65_536, 262_144, 262_145, 5_000_000] {
        let blob = noise(size);
        client.push_blob(&name, stream_source(&blob), &[], &()).unwrap();
        assert!(fetch(&client, &name, &blob).unwrap() == blob, "{size}");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&blob).unwrap();
        let source = BlobSource::File { path: file.path().to_owned(), descriptor: layer(&blob) };
        client.push_blob(&registry.reference("b"), source, &[], &()).unwrap();
        assert!(fetch(&client, &registry.reference("b"), &blob).unwrap() == blob, "{size}");
    }
    assert_eq!(client.transfers().retries, 0);
}

#[test]
fn broken_wires_are_mended() {
    if !is_available() {
        return;
    }
    let registry = RealRegistry::start(&Options::default());
    let blob = noise(9_000_000);
    let push = |wire: &BreakingWire, name: &str, source: BlobSource<'_>| {
        let client = client();
        client.push_blob(&wire.reference(name), source, &[], &()).unwrap();
        assert!(client.transfers().retries >= 1);
        assert!(wire.breaks.load(Ordering::SeqCst) <= 0, "it did break");
        assert!(fetch(&self::client(), &registry.reference(name), &blob).unwrap() == blob);
        client.transfers().sent
    };
    let wire = || BreakingWire::start(registry.address(), 3_000_000, true, 2);
    push(&wire(), "known", bytes_source(&blob));
    push(&wire(), "stream", stream_source(&blob));
    let wire = BreakingWire::start(registry.address(), 2_000_000, false, 2);
    let client = client();
    assert!(fetch(&client, &wire.reference("known"), &blob).unwrap() == blob);
    assert_eq!(client.transfers().retries, 2);
    assert_eq!(client.transfers().received, 9_000_000, "nothing was fetched twice");
}

#[test]
fn passwords_are_asked_for() {
    if !is_available() {
        return;
    }
    let registry = RealRegistry::start(&Options { password: true, ..Options::default() });
    let name = registry.reference("team/app:1");
    let with = |password: &str| {
        let mut credentials = Credentials::default();
        let credential = Credential::Basic { user: "aladdin".to_owned(), password: Secret::new(password) };
        credentials.insert(&registry.address().to_string(), credential);
        Client::new(RegistryConfig { credentials, ..hasty() })
    };
    there_and_back(&with("open sesame"), &name).unwrap();
    let blob = noise(400_000);
    with("open sesame").push_blob(&name, stream_source(&blob), &[], &()).unwrap();
    for client in [client(), with("open barley")] {
        assert_eq!(client.resolve(&name).unwrap_err().kind, ErrorKind::Unauthorized);
        let pushed = client.push_blob(&name, bytes_source(&blob), &[], &());
        assert_eq!(pushed.unwrap_err().kind, ErrorKind::Unauthorized);
    }
}

#[test]
fn private_certificates_are_verified() {
    if !is_available() {
        return;
    }
    let certificates = Certificates::shared();
    let registry = RealRegistry::start(&Options { tls: Some(certificates), ..Options::default() });
    let name = registry.reference("team/app:1");
    let host = registry.address().to_string();
    let with = |change: &dyn Fn(&mut RegistryConfig)| {
        let mut config = hasty();
        config.tls.system_roots.clear();
        change(&mut config);
        Client::new(config)
    };
    // On loopback plain HTTP is tried first; the registry's refusal of it leads to HTTPS, which is verified.
    let error = with(&|_| {}).resolve(&name).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains(&format!("certs.d/{host}/ca.crt")), "{error}");
    let per_host = with(&|config| {
        let own = HostTls { roots: vec![certificates.ca()], identity: None };
        config.tls.hosts.insert(host.clone(), own);
    });
    there_and_back(&per_host, &name).unwrap();
    let for_all = with(&|config| config.tls.extra_roots.push(certificates.ca()));
    there_and_back(&for_all, &name).unwrap();
    there_and_back(&with(&|config| config.insecure.push(host.clone())), &name).unwrap();
    let error =
        with(&|config| config.tls.extra_roots.push(b"no certificate".to_vec())).resolve(&name).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Settings, "{error}");
}

#[test]
fn client_certificates_are_shown() {
    if !is_available() {
        return;
    }
    let certificates = Certificates::shared();
    let options = Options { tls: Some(certificates), client_certificates: true, ..Options::default() };
    let registry = RealRegistry::start(&options);
    let name = registry.reference("team/app:1");
    let with = |identity: Option<ClientIdentity>| {
        let mut config = hasty();
        let own = HostTls { roots: vec![certificates.ca()], identity };
        config.tls.hosts.insert(registry.address().to_string(), own);
        Client::new(config)
    };
    let read = |file: &str| std::fs::read(certificates.path(file)).unwrap();
    let key = Secret::new(String::from_utf8(read("server.key")).unwrap());
    let identity = ClientIdentity { certificates: read("server.crt"), key };
    there_and_back(&with(Some(identity.clone())), &name).unwrap();
    let error = with(None).resolve(&name).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("client certificate"), "{error}");
    let wrong = ClientIdentity { key: Secret::new("hunter2"), ..identity };
    let error = with(Some(wrong)).resolve(&name).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Settings);
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

/// A token server for the real registry: whoever knows the password may do what is asked for, except in `secret`.
fn token_server(certificates: &'static Certificates) -> Fake {
    let pem = std::fs::read_to_string(certificates.path("server.crt")).unwrap();
    let chain: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Fake::start(move |request| {
        let expected = format!("Basic {}", STANDARD.encode("aladdin:open sesame"));
        if request.header("authorization") != Some(&expected) {
            return Reply::new(401);
        }
        let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5c":["{chain}"]}}"#);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = format!(
            r#"{{"iss":"tests","sub":"aladdin","aud":"real","exp":{},"nbf":{},"iat":{now},"jti":"1","access":[{}]}}"#,
            now + 300,
            now - 10,
            granted(request).join(",")
        );
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(certificates.sign(&signed)));
        Reply::new(200).json(&format!(r#"{{"token":"{token}","expires_in":300}}"#))
    })
}

fn granted(request: &Request) -> Vec<String> {
    let query =
        request.path.split_once('?').unwrap().1.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope=repository:"));
    let entry = |scope: &str| {
        let (name, actions) = scope.rsplit_once(':').unwrap();
        let actions = actions.split(',').map(|action| format!("\"{action}\"")).collect::<Vec<_>>().join(",");
        (name != "secret")
            .then(|| format!(r#"{{"type":"repository","name":"{name}","actions":[{actions}]}}"#))
    };
    scopes.filter_map(entry).collect()
}

#[test]
fn tokens_open_what_they_are_for() {
    if !is_available() {
        return;
    }
    let certificates = Certificates::shared();
    let server = Arc::new(token_server(certificates));
    let realm = format!("http://{}/token", server.address);
    let registry =
        RealRegistry::start(&Options { tokens: Some((&realm, certificates)), ..Options::default() });
    let mut credentials = Credentials::default();
    let credential = Credential::Basic { user: "aladdin".to_owned(), password: Secret::new("open sesame") };
    credentials.insert(&registry.address().to_string(), credential);
    let client = Client::new(RegistryConfig { credentials, ..hasty() });
    let name = registry.reference("team/app:1");
    there_and_back(&client, &name).unwrap();
    assert_eq!(client.transfers().tokens, 1, "the token for pushing serves for pulling");
    let blob = noise(400_000);
    let mounted =
        client.push_blob(&registry.reference("copy"), bytes_source(&blob), std::slice::from_ref(&name), &());
    assert_eq!(mounted.unwrap().how, Pushed::Mounted);
    assert_eq!(client.transfers().tokens, 2);
    let error = client.resolve(&registry.reference("secret")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error}");
    // A source that we may not read does not stop the push.
    let other = noise(1003);
    let pushed = client.push_blob(&name, bytes_source(&other), &[registry.reference("secret")], &());
    assert_eq!(pushed.unwrap().how, Pushed::Uploaded);
    let anonymous = crate::client().resolve(&name).unwrap_err();
    assert_eq!(anonymous.kind, ErrorKind::Unauthorized);
    assert!(anonymous.to_string().contains("no credentials"), "{anonymous}");
}
