//! Fakes and the sandbox for tests.
