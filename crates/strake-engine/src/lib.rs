//! Signatures, cache, locks, scheduling, steps and export.
