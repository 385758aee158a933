//! What a template may know of the world.

use std::fmt;
use std::time::SystemTime;

use crate::limits::Limits;

/// Answers what an environment variable is: `None` if it is not set, or in words why it may not be read.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<String>, String>;

/// What a template may know of the world: nothing, unless the caller says so.
#[derive(Clone, Copy, Default)]
pub struct Host<'a> {
    /// The answer of `now`. Without it, `now` and what rests on it are errors.
    pub now: Option<SystemTime>,
    /// The answers of `env` and `expandenv`. Without it, both are errors.
    pub env: Option<Lookup<'a>>,
    /// How much a template may do.
    pub limits: Limits,
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Host")
            .field("now", &self.now)
            .field("env", &self.env.is_some())
            .field("limits", &self.limits)
            .finish()
    }
}
