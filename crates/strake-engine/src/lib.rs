//! Signatures, cache, locks, scheduling, steps, images and export.
//!
//! The engine takes a [`strake_graph::Graph`] and makes it real. It knows no frontend: what a step means to the
//! user who wrote it is in the step's label and span, and only passes through here into events.

pub mod build_context;
mod cache;
mod clock;
mod error;
mod event;
pub mod export;
pub mod files;
pub mod image;
pub mod lock;
mod outage;
mod remote;
mod request;
mod schedule;
mod signature;
mod signing;
mod step;

pub use error::{BuildError, ProcessFailure, StepError, StepFailure};
pub use event::{Event, Events, Explanation, Holder, PlannedStep, Stream, TransferId, TransferKind};
pub use remote::{
    CacheContent, CachePlace, CacheTarget, Fate, Judged, MountSharing, OnError, RepositoryPolicy, Sharing,
    prune_repository,
};
pub use request::{BuildOutput, BuildRequest, Cancellation, ContextSource, Environment, Secret, StageOutput};
pub use schedule::build;
pub use signature::Signature;
pub use signing::{KeyError, SigningKey, TrustedKey};
pub use step::{copy, trust};
