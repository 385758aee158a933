//! The environment as it was when the program began.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, reason};

/// The environment as it was when the program began. Tests make their own.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    variables: BTreeMap<OsString, OsString>,
    etc: PathBuf,
    user: u32,
}

impl Outside {
    /// Looks at the process.
    pub(crate) fn of_process() -> Self {
        Self::new(std::env::vars_os(), "/etc".into(), rustix::process::geteuid().as_raw())
    }

    /// An environment with these variables, settings of the machine below `etc`, and the user's id.
    pub(crate) fn new(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        etc: PathBuf,
        user: u32,
    ) -> Self {
        Self { variables: variables.into_iter().collect(), etc, user }
    }

    /// Whether the user is root of the machine.
    pub(crate) fn is_root(&self) -> bool {
        self.user == 0
    }

    /// All variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone()))
    }

    /// A variable as it is.
    pub(crate) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// A variable as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.raw(name)
            .map(|value| {
                value.to_str().map(str::to_owned).ok_or_else(|| Failure::input(format!("{name}: not UTF-8")))
            })
            .transpose()
    }

    /// A variable in lower case, then in upper case, as curl and Go read the proxy settings. Of `HTTP_PROXY` a web
    /// server's clients can set the upper case form (CVE-2016-5385), so there only programs run as CGI ignore it.
    pub(crate) fn either_case(&self, name: &str) -> Result<Option<String>, Failure> {
        if name == "HTTP_PROXY" && self.raw("REQUEST_METHOD").is_some() {
            return Ok(None);
        }
        let upper = self.text(name)?.filter(|value| !value.is_empty());
        Ok(upper.or(self.text(&name.to_lowercase())?.filter(|value| !value.is_empty())))
    }

    /// A variable that names a path, unless it is empty.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// A file of the machine's settings.
    pub(crate) fn etc(&self, name: &str) -> PathBuf {
        self.etc.join(name)
    }

    /// The home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.path("HOME").or_else(|| self.is_root().then(|| PathBuf::from("/root")))
    }

    /// `~/.config`. The specification says that a relative path is to be ignored.
    pub(crate) fn config_dir(&self) -> Option<PathBuf> {
        let named = self.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        named.or_else(|| self.home().map(|home| home.join(".config")))
    }

    /// `~/.local/share`.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        let named = self.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
        named.or_else(|| self.home().map(|home| home.join(".local/share")))
    }

    /// Where a program is, by `PATH`.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let is_program = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        };
        let search = self.raw("PATH")?;
        std::env::split_paths(search)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(name))
            .find(is_program)
    }

    /// The text of a file that need not exist.
    ///
    /// # Errors
    /// When it exists and cannot be read.
    pub(crate) fn read_optional(&self, what: &str, path: &Path) -> Result<Option<String>, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => {
                Err(Failure::environment(format!("read {what} {}: {}", path.display(), reason(&error))))
            }
        }
    }
}
