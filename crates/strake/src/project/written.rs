//! The rendered stage file, kept beside the stage file for whoever looks for a mistake.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// The name of the rendered file: `.dappfile.render.yaml` for `dappfile.yaml`.
pub(super) fn name(stage_file: &str) -> String {
    let (base, extension) = stage_file.rsplit_once('.').unwrap_or((stage_file, "yaml"));
    format!(".{base}.render.{extension}")
}

/// Writes it unless it is there already. A link of this name is replaced, never followed: the project may be hostile.
///
/// # Errors
/// When the directory is not writable.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = dir.join(name);
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    if is_file && fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let aside = dir.join(format!("{name}.{}", std::process::id()));
    // What is left of a process with the same number.
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&aside, &path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_stage_file() {
        assert_eq!(name("dappfile.yaml"), ".dappfile.render.yaml");
        assert_eq!(name("strake.yml"), ".strake.render.yml");
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("precious"), "mine").unwrap();
        std::os::unix::fs::symlink("precious", at("x")).unwrap();
        write(dir.path(), "x", "new").unwrap();
        assert_eq!(fs::read_to_string(at("x")).unwrap(), "new");
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "mine");
        write(dir.path(), "x", "newer").unwrap();
        assert_eq!(fs::read_to_string(at("x")).unwrap(), "newer");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        fs::create_dir(at("d")).unwrap();
        write(dir.path(), "d", "text").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
