//! The shell of assembly containers, and programs for images that have none.
//!
//! A stage must run the same on every image, also on one without a shell, and must leave nothing of ours in it. So a
//! `bash` that needs no library is mounted in. Debian builds one (`bash-static`), and a static `busybox` with the
//! programs that every script takes for granted; both are what people's scripts were written for, which an imitation
//! would only almost be. They are found where the package puts them, or in a folder that was named.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use strake_store::{Store, TempDir};

use crate::failure::Failure;

/// Where packages put the shell.
const BASH: [&str; 3] = ["/usr/lib/strake/tools/bash", "/bin/bash-static", "/usr/bin/bash-static"];
/// Where packages put the other programs.
const BUSYBOX: [&str; 3] = ["/usr/lib/strake/tools/busybox", "/bin/busybox", "/usr/bin/busybox"];

const REMEDY: &str = "apt-get install bash-static busybox-static, or set STRAKE_TOOLS to a folder with a static bash and busybox";

/// The folder that is mounted; it goes when the build ends.
#[derive(Debug)]
pub(crate) struct Tools(TempDir);

impl Tools {
    /// Puts the programs together, on the file system of the store. `named` is the folder that the user named.
    ///
    /// # Errors
    /// When one of them is not on this machine, or is not static.
    pub(crate) fn prepare(store: &Store, named: Option<&Path>) -> Result<Self, Failure> {
        let bash = find("bash", named, &BASH)?;
        let busybox = find("busybox", named, &BUSYBOX)?;
        let folder = store.temp_dir()?;
        let failed = |path: &Path, error: &std::io::Error| Failure::file("write", path, error);
        for (name, from) in [("bash", &bash), ("busybox", &busybox)] {
            let to = folder.path().join(name);
            std::fs::copy(from, &to).map_err(|error| failed(&to, &error))?;
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&to, mode).map_err(|error| failed(&to, &error))?;
        }
        for applet in applets(&busybox)? {
            let link = folder.path().join(applet);
            match symlink("busybox", &link) {
                // `bash` and `busybox` themselves.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                result => result.map_err(|error| failed(&link, &error))?,
            }
        }
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).map_err(|error| failed(folder.path(), &error))?;
        Ok(Self(folder))
    }

    /// The folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

fn find(name: &str, named: Option<&Path>, places: &[&str]) -> Result<PathBuf, Failure> {
    let candidates: Vec<PathBuf> = match named {
        Some(folder) => vec![folder.join(name)],
        None => places.iter().map(PathBuf::from).collect(),
    };
    let found = candidates.iter().find(|path| path.is_file()).ok_or_else(|| {
        let places: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        let message = format!("stages need a static {name}, which is in none of {}", places.join(", "));
        Failure::environment(message).hint(REMEDY)
    })?;
    match is_static(found) {
        Ok(true) => Ok(found.clone()),
        Ok(false) => {
            let message = format!("{} needs libraries, so it cannot be mounted into images", found.display());
            Err(Failure::environment(message).hint(REMEDY))
        }
        Err(error) => Err(Failure::file("read", found, &error)),
    }
}

/// What busybox can do; names that would lead elsewhere are left out.
fn applets(busybox: &Path) -> Result<Vec<String>, Failure> {
    let listed = Command::new(busybox).arg("--list").env_clear().output();
    let listed = listed.map_err(|error| Failure::file("run", busybox, &error))?;
    let names = String::from_utf8_lossy(&listed.stdout);
    Ok(names.lines().filter(|name| !name.contains('/') && !name.is_empty()).map(str::to_owned).collect())
}

/// Whether a program is an ELF file that names no interpreter (System V ABI, "Program Header"), of either word size.
fn is_static(path: &Path) -> std::io::Result<bool> {
    const INTERPRETER: u32 = 3;
    let mut head = Vec::new();
    // Program headers follow the file header in every file that a linker writes.
    std::fs::File::open(path)?.take(8 << 10).read_to_end(&mut head)?;
    let half = |at: usize| head.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    let word = |at: usize| {
        head.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if !head.starts_with(b"\x7fELF") {
        return Ok(false);
    }
    // Offset, size and number of program headers; the upper half of a 64-bit offset is zero in so short a head.
    let (offset, size, count) = match head.get(4) {
        Some(2) => (word(32), half(54), half(56)),
        _ => (word(28), half(42), half(44)),
    };
    let headers =
        (0..u32::from(count)).map(|number| offset.saturating_add(number * u32::from(size)) as usize);
    Ok(!headers.into_iter().any(|at| word(at) == INTERPRETER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_with_libraries_are_told_from_those_without() {
        assert!(!is_static(Path::new("/bin/ls")).unwrap());
        assert!(!is_static(Path::new("/etc/passwd")).unwrap());
        assert!(is_static(Path::new("/bin/busybox")).unwrap(), "busybox-static is installed for the tests");
    }

    #[test]
    fn a_named_folder_is_the_only_place() {
        let folder = tempfile::tempdir().unwrap();
        let failure = find("bash", Some(folder.path()), &BASH).unwrap_err();
        assert!(failure.message.contains(&folder.path().display().to_string()), "{}", failure.message);
        std::fs::copy("/bin/ls", folder.path().join("bash")).unwrap();
        let failure = find("bash", Some(folder.path()), &BASH).unwrap_err();
        assert!(failure.message.contains("needs libraries"), "{}", failure.message);
    }
}
