//! The base images of the tests, made by `scripts/base-images`.

use std::path::{Path, PathBuf};

use crate::requirement::setting;
use crate::{Failure, Outcome, Run};

/// Which base image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// A static busybox with its applets, users `app` (1000) and `nobody`.
    Busybox,
    /// Debian's essential packages with `setcap`, `setfattr`, `ssh` and the certificates.
    Tools,
    /// Debian with Node's npm, as the examples use it.
    Web,
    /// Debian with PHP and composer, for `examples/symfony-like`.
    Php,
}

impl Base {
    /// Name of the recipe in `scripts/base-images`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Tools => "tools",
            Self::Web => "web",
            Self::Php => "php",
        }
    }
}

/// Path of the root file system of `base` as a tar; it is made when this machine has none yet.
///
/// # Errors
/// When the script fails, for instance because packages are missing.
pub fn base_tar(base: Base) -> Outcome<PathBuf> {
    let script = workspace().join("scripts/base-images");
    let mut run = Run::new(script).arg(base.name()).seconds(600);
    for name in ["STRAKE_TEST_CACHE", "HOME", "XDG_CACHE_HOME"] {
        if let Some(value) = setting(name) {
            run = run.env(name, value);
        }
    }
    let finished = run.succeed()?;
    let path =
        finished.stdout.lines().last().ok_or_else(|| Failure::new("scripts/base-images printed no path"))?;
    Ok(path.into())
}

/// The root of the source tree the tests were compiled in.
fn workspace() -> PathBuf {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.ancestors().nth(2).unwrap_or(crate_root).into()
}
