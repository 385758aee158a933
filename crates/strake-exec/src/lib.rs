//! One process in one container.
