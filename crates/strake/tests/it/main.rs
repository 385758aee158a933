//! Tests of the whole program through its real executable: one test binary, one module per subject.

mod oracle;
