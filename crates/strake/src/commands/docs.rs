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
    let pages = std::iter::once(&command).chain(command.get_subcommands().filter(|page| !page.is_hide_set()));
    for page in pages.collect::<Vec<_>>() {
        let name = match page.get_name() {
            "strake" => "strake".to_owned(),
            name => format!("strake-{name}"),
        };
        let path = directory.join(format!("{name}.1"));
        let mut text = Vec::new();
        // Without a leak the page's name cannot be changed; there are twenty of them, and then the program ends.
        let page = page.clone().name(String::leak(name) as &str).version(env!("CARGO_PKG_VERSION"));
        clap_mangen::Man::new(page)
            .render(&mut text)
            .and_then(|()| std::fs::write(&path, &text))
            .map_err(|error| Failure::file("write", &path, &error))?;
        output::line(&path.display().to_string())?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        super::man(dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("strake-build.1")).unwrap();
        assert!(page.contains("Dockerfile") && page.contains("secret"));
        assert!(dir.path().join("strake.1").exists());
    }
}
