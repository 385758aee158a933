//! The distribution protocol (distribution-spec v1.1): pull, push, authentication.
//!
//! Every public function blocks. The async runtime behind them is this crate's own affair and starts with the first
//! request; a build that needs no registry never starts it.

mod client;
mod config;
mod error;
mod transfers;

mod manifest;

mod blob;
mod reader;

mod push;
mod stream;
mod upload;
mod whole;

mod body;
mod failure;
mod sending;
mod transport;

mod auth;
mod credentials;
mod helper;
mod secret;
mod token;

mod host;
mod retry;
mod runtime;
mod server_text;
mod tls;

pub use client::{BlobSource, Client, Pushed, PushedBlob, RawManifest};
pub use config::{
    ClientIdentity, HostTls, Mirror, ProxyConfig, RegistryConfig, RetryPolicy, Timeouts, TlsConfig,
};
pub use credentials::{Credential, Credentials};
pub use error::{ErrorKind, RegistryError};
pub use reader::BlobReader;
pub use secret::Secret;
pub use transfers::{Notice, Progress, Transfers};
