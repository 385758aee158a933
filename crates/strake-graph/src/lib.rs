//! The build graph: steps, operations, path patterns, canonical encoding.
