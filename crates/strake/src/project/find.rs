//! Where the stage file of a project is.

use std::path::Path;

use crate::args::BuildFiles;
use crate::failure::Failure;
use crate::source;

/// The names of stage files. Ours come first, so that a project can be built by both tools while it moves; of two names
/// that differ in the ending only, one was forgotten.
const NAMES: [[&str; 2]; 2] = [["strake.yaml", "strake.yml"], ["dappfile.yml", "dappfile.yaml"]];

/// What a directory has to be built from; `None` if there is no such directory.
pub(crate) fn look(dir: &Path) -> Option<BuildFiles> {
    let stage_file = NAMES.as_flattened().iter().find(|name| dir.join(name).is_file());
    dir.is_dir().then(|| BuildFiles {
        dockerfile: source::dockerfile_name(dir).map(str::to_owned),
        stage_file: stage_file.map(|name| (*name).to_owned()),
    })
}

/// The name of the stage file in a directory. `display` is what the user calls the directory.
///
/// # Errors
/// When there is none, or two whose names differ in the ending only.
pub(super) fn stage_file(dir: &Path, display: &Path) -> Result<String, Failure> {
    let display = display.display();
    for pair in NAMES {
        match pair.map(|name| dir.join(name).is_file()) {
            [true, true] => {
                let failure =
                    Failure::input(format!("{display}: there are both {} and {}", pair[0], pair[1]));
                return Err(failure.hint("remove one of them"));
            }
            [true, false] => return Ok(pair[0].to_owned()),
            [false, true] => return Ok(pair[1].to_owned()),
            [false, false] => {}
        }
    }
    let names = NAMES.as_flattened().join(", ");
    let failure = Failure::input(format!("{display}: there is no stage file ({names})"));
    Err(match source::dockerfile_name(dir) {
        Some(_) => failure.hint(format!("for the Dockerfile there: strake build {display}")),
        None => failure.hint("name the project's directory with --dir DIR"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_first_and_twins_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let found = || stage_file(dir.path(), Path::new(".")).map_err(|failure| failure.message);
        let add = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        assert!(found().unwrap_err().contains("there is no stage file"));
        add("dappfile.yaml");
        assert_eq!(found().as_deref(), Ok("dappfile.yaml"));
        assert_eq!(look(dir.path()).unwrap().stage_file.as_deref(), Some("dappfile.yaml"));
        add("dappfile.yml");
        assert_eq!(found().unwrap_err(), ".: there are both dappfile.yml and dappfile.yaml");
        add("strake.yml");
        assert_eq!(found().as_deref(), Ok("strake.yml"));
        add("Containerfile");
        assert_eq!(look(dir.path()).unwrap().dockerfile.as_deref(), Some("Containerfile"));
        assert_eq!(look(&dir.path().join("no")), None);
    }
}
