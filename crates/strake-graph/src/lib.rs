//! The build graph: what is to be done, as plain data.
//!
//! Frontends make a [`Graph`], the engine consumes it, and nobody else has a say. The graph is acyclic by
//! construction: an operation can only name steps that were pushed before it.

mod dump;
mod encode;
mod graph;
mod mount;
mod op;
pub mod pattern;
mod span;

pub use dump::dump;
pub use encode::{Encode, Encoder};
pub use graph::{Graph, History, Stage, StageId, Step, StepId};
pub use mount::{Mount, MountKind, Sharing};
pub use op::{
    ContextOp, CopyOp, CopySource, HostEntry, ImageOp, MakeDirOp, ModeChange, ModeClause, Network, Op,
    PlaceOp, PlaceSource, Placement, RunOp,
};
pub use span::Span;
