//! The distribution protocol (distribution-spec v1.1): pull, push, authentication.
//!
//! Every public function blocks. The async runtime behind them is this crate's own affair and starts with the first
//! request; a build that needs no registry never starts it.

mod client;
mod config;
mod credentials;
mod error;
mod secret;
mod transfers;

pub use client::{BlobReader, BlobSource, Client, Pushed, PushedBlob, RawManifest};
pub use config::{
    ClientIdentity, HostTls, Mirror, ProxyConfig, RegistryConfig, RetryPolicy, Timeouts, TlsConfig,
};
pub use credentials::Credentials;
pub use error::{ErrorKind, RegistryError};
pub use secret::Secret;
pub use transfers::{Notice, Progress, Transfers};
