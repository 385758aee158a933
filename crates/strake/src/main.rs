//! The command line of strake.

fn main() {}
