//! `doctor`: what this machine lacks, with the remedies.

use std::fmt::Write as _;

use strake_exec::userns;

use super::output;
use crate::failure::Failure;
use crate::settings::Settings;

/// Looks at everything at once; status 3 when something is missing that nothing works without.
pub(super) fn doctor(settings: &Settings) -> Result<u8, Failure> {
    let mut text = String::new();
    let root = rustix::process::geteuid().is_root();
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy().into_owned();
    let user = if root { "root" } else { "an ordinary user, in a user namespace" };
    let _ = writeln!(text, "strake {} as {user}, Linux {release}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "store: {}", settings.root.display());
    let mut missing = userns::check(settings.pasta.as_deref());
    if root {
        // Subordinate ids and the programs that map them are for ordinary users only.
        missing.retain(|missing| missing.what.contains("pasta"));
    }
    if !root && is_older(&release, (5, 11)) {
        missing.push(userns::Missing {
            what: format!(
                "Linux {release} has no overlayfs for ordinary users (5.11 has); files are copied instead"
            ),
            remedy: "use a newer kernel, or run as root".to_owned(),
            fatal: false,
        });
    }
    for missing in &missing {
        let mark = if missing.fatal { "MISSING" } else { "limited" };
        let _ = writeln!(text, "{mark}: {}\n  remedy: {}", missing.what, missing.remedy);
    }
    if missing.is_empty() {
        text.push_str("nothing is missing\n");
    }
    output::write(&text)?;
    Ok(if missing.iter().any(|missing| missing.fatal) { 3 } else { 0 })
}

fn is_older(release: &str, than: (u32, u32)) -> bool {
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => (major, minor) < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernels_are_compared_as_numbers() {
        assert!(super::is_older("5.10.0-28-amd64", (5, 11)));
        assert!(!super::is_older("6.1.0", (5, 11)));
        assert!(!super::is_older("odd", (5, 11)));
    }
}
