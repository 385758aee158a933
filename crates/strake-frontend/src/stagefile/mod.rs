//! The stage file: rendered text and facts in, a plan of stages with signatures out.
//!
//! A stage file says what images are made of: a base, parts of git repositories, instructions, files of other images,
//! a configuration. An image is assembled by a *conveyor*, a fixed row of stages ([`StageKind`]); a stage that nothing
//! depends on is skipped, each other one has a signature, and what is known under a signature need not be assembled.
//!
//! ```text
//!  templates ──▶ rendered text ──parse──▶ StageFile ──plan──▶ Conveyor: stages, signatures, what to do
//!                     ▲                                │  ▲
//!  LineOrigins ───────┘ (to tell places)        Needs ─┘  └─ Facts (git, stages that are known)
//! ```
//!
//! 1. Templates are executed by others; a line of what they gave is traced back with [`LineOrigins`].
//! 2. [`parse`] cuts the text into documents, reads each into a tree (`yaml`), decodes the trees into typed values
//!    (`document`) and resolves names (`resolve`). It says everything that is wrong at once.
//! 3. [`plan::plan`] computes the signatures of an image and of all images it needs. It asks for facts, and is called
//!    again with the answers. The texts whose checksums the signatures are come from [`scheme31`].
//!
//! **What must never change.** The scheme is that of the tool whose files these are, bit for bit: people have caches
//! that were published under its signatures, and the documents print them. The tests hold the golden vectors. What the
//! scheme did not know (a platform, a stop signal) is behind what it knew, and adds nothing while it is absent.
//!
//! **What is better than in that tool.** It took an unknown stage for one with the current commit, and shipped old
//! files after a pull; see [`plan`]. It refused an import of an artifact from itself, but not a cycle of two. Errors
//! came one at a time. A mapping that took no file was dropped without a word.

mod config;
mod decode;
mod document;
pub mod lower;
mod origin;
mod overlap;
mod parse;
pub mod plan;
mod policy;
mod presets;
mod resolve;
pub mod scheme31;
mod shell;
mod slug;
mod stage;
mod yaml;

pub use config::{
    Assembly, Base, Command, DockerOptions, GitMapping, GitSource, Image, ImageId, ImageName, Import,
    Instructions, Layers, Mount, MountSource, RemoteReference, Rules, Selection, StageFile, Task,
};
pub use origin::LineOrigins;
pub use parse::{Parsed, parse};
pub use policy::{CleanupPolicy, KeepPolicy, Limit, NamePattern, Operator, ReferenceKind, seconds};
pub use presets::Presets;
pub use slug::{project_name, slug};
pub use stage::{ImportPosition, StageKind, UserStage};
