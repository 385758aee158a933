//! Certificates that the clients inside a step trust on top of the image's own (`--ca-certs`).
//!
//! There is no one place that all programs look at, but each widely used client reads an environment variable that
//! names a bundle. The bundle is a file in memory: the image's own certificates and the given ones. Neither the
//! file nor the variables reach a layer, the image's configuration or a signature. The image's bundle is not mounted
//! over, because a step that installs or updates certificates replaces that very file.

use std::path::Path;

use strake_store::View;

/// Where the bundle is seen inside a step.
const BUNDLE: &str = "/run/strake/ca-certificates.crt";

/// Where distributions keep the image's own bundle.
const OWN_BUNDLES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];

/// The largest bundle of an image that is read, in bytes; the usual one has 200 KiB.
const MAX_OWN_BUNDLE: u64 = 4 << 20;

/// The variables that clients read: OpenSSL and Go, Python's requests, pip, curl, Node.js, npm, cargo, git, AWS.
const VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
];

/// What makes a step trust.
#[derive(Debug, Default)]
pub struct Trust {
    /// The bundle.
    pub mount: Option<strake_exec::Mount>,
    /// The variables that name it.
    pub env: Vec<(String, String)>,
}

/// Puts the image's certificates and `pem` together.
pub fn prepare(image: &View, pem: &[u8]) -> Trust {
    let own =
        OWN_BUNDLES.iter().find_map(|path| image.root().read_bounded(Path::new(path), MAX_OWN_BUNDLE).ok());
    let mut content = own.unwrap_or_default();
    if !content.is_empty() && !content.ends_with(b"\n") {
        content.push(b'\n');
    }
    content.extend_from_slice(pem);
    let kind = strake_exec::MountKind::File { content, mode: 0o444, uid: 0, gid: 0 };
    Trust {
        mount: Some(strake_exec::Mount { target: BUNDLE.to_owned(), kind, read_only: true }),
        env: VARIABLES.iter().map(|name| ((*name).to_owned(), BUNDLE.to_owned())).collect(),
    }
}
