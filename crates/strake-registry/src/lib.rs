//! The distribution protocol: pull, push, authentication.
