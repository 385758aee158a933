//! `completion` and `man`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell as Script;

use super::output;
use crate::args::{Cli, Shell};
use crate::failure::Failure;

/// `strake completion`.
pub(super) fn completion(shell: Shell) -> Result<u8, Failure> {
    let script = match shell {
        Shell::Bash => Script::Bash,
        Shell::Zsh => Script::Zsh,
        Shell::Fish => Script::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(script, &mut Cli::command(), "strake", &mut text);
    output::write(&String::from_utf8_lossy(&text))?;
    Ok(0)
}

/// `strake man`: one page for the program and one for each command.
pub(super) fn man(directory: &Path) -> Result<u8, Failure> {
    std::fs::create_dir_all(directory).map_err(|error| Failure::file("make directory", directory, &error))?;
    let mut command = Cli::command();
    command.build();
    pages(&command, "strake", directory)?;
    Ok(0)
}

/// The page of a command, then those of the commands below it.
fn pages(command: &clap::Command, name: &str, directory: &Path) -> Result<(), Failure> {
    let path = directory.join(format!("{name}.1"));
    let mut text = Vec::new();
    // Without a leak the page's name cannot be changed; there are thirty of them, and then the program ends.
    let page = command.clone().name(String::leak(name.to_owned()) as &str).version(env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(page)
        .render(&mut text)
        .and_then(|()| std::fs::write(&path, &text))
        .map_err(|error| Failure::file("write", &path, &error))?;
    output::line(&path.display().to_string())?;
    let mut below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.try_for_each(|below| pages(below, &format!("{name}-{}", below.get_name()), directory))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        super::man(dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("strake-build.1")).unwrap();
        assert!(page.contains("Dockerfile") && page.contains("secret"));
        for page in ["strake", "strake-dimg", "strake-dimg-build", "strake-stage-image"] {
            assert!(dir.path().join(format!("{page}.1")).exists(), "{page}");
        }
    }
}
