//! The client against servers that speak real HTTP: a fake that misbehaves, and Debian's docker-registry.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and skipping is said"
)]

mod auth;
mod fake;
mod hostile;
mod network;
mod pull;
mod push;
mod real;
mod real_registry;

use std::time::Duration;

use strake_oci::{Descriptor, ImageManifest, MediaType};
use strake_registry::{Client, RegistryConfig, RetryPolicy, Timeouts};

/// Settings with which no test waits for long.
fn hasty() -> RegistryConfig {
    RegistryConfig {
        retry: RetryPolicy {
            retries: 3,
            silent_retries: 3,
            first_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(2),
            max_retry_after: Duration::from_secs(60),
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(20),
            answer: Duration::from_secs(20),
            idle: Duration::from_secs(20),
            small_answer: Duration::from_secs(20),
            helper: Duration::from_secs(20),
        },
        ..RegistryConfig::default()
    }
}

fn client() -> Client {
    Client::new(hasty())
}

fn manifest_bytes() -> Vec<u8> {
    ImageManifest::oci(Descriptor::of(MediaType::OCI_CONFIG, b"{}"), vec![]).to_bytes()
}

fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OCI_LAYER_GZIP, bytes)
}
