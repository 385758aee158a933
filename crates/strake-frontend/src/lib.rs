//! Text to build graph. Frontends are pure: they read no file, no clock and no environment; what they must know of
//! the outside (the configuration of a base image) they ask for and are called again with the answer.

mod diagnostic;
pub mod dockerfile;
pub mod stagefile;

pub use diagnostic::{Diagnostic, LineIndex, Note, Position, Severity};
