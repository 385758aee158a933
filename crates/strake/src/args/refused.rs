//! What docker has and strake has not: said by name, with what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;

/// Flags of `docker build` and `docker buildx build`.
const FLAGS: [(&[&str], &str, &str); 11] = [
    (
        &["--ssh"],
        "RUN --mount=type=ssh is not supported yet",
        "give the step a key with --secret id=ID,src=FILE",
    ),
    (&["--attest"], "attestations are not supported yet", "leave it out"),
    (&["--annotation"], "annotations are not supported", "use --label KEY=VALUE"),
    (
        &["--squash"],
        "layers are not squashed",
        "end with a stage FROM scratch that has COPY --from=STAGE / /",
    ),
    (&["--allow"], "there are no entitlements", "leave it out: RUN --network=host needs none"),
    (&["--builder"], "there is no daemon and no builder to choose", "leave it out"),
    (
        &["--no-cache-filter"],
        "single stages cannot be left out of the cache",
        "use --no-cache, or change an ARG",
    ),
    (
        &["--call", "--check", "--print"],
        "build checks are not supported yet",
        "build: mistakes are all said at once",
    ),
    (
        &[
            "--memory",
            "-m",
            "--memory-swap",
            "--cpu-period",
            "--cpu-quota",
            "--cpu-shares",
            "-c",
            "--cpuset-cpus",
            "--cpuset-mems",
            "--cgroup-parent",
            "--resource",
            "--shm-size",
            "--ulimit",
        ],
        "limits for steps are not supported",
        "limit the whole build: systemd-run --scope -p MemoryMax=2G strake build …",
    ),
    (
        &["--build-context-directory"],
        "the context of a failed build is not exported yet",
        "leave it out: --introspect-error opens a shell where the command failed",
    ),
    (&["--isolation", "--security-opt"], "steps have docker's default rights, always", "leave it out"),
];

/// Flags of `docker build`, where a stage file is built.
const DIMG_FLAGS: [(&[&str], &str, &str); 5] = [
    (
        &["-t", "--tag"],
        "images of a stage file get their names when they are built",
        "strake dimg tag REPO, or build and push: strake dimg bp --tag TAG REPO",
    ),
    (&["-f", "--file"], "a stage file is found by its name", "name the project's directory with --dir DIR"),
    (
        &["--build-arg"],
        "a stage file has no build arguments",
        "its templates read variables of the environment: {{ env \"NAME\" }}",
    ),
    (&["--push"], "images of a stage file are sent by a command of their own", "strake dimg bp REPO"),
    (
        &["--no-cache"],
        "the stages of a stage file say themselves when they are assembled anew",
        "change `cacheVersion` or `fromCacheVersion`, or drop all stages: strake dimg stages flush local",
    ),
];

/// Commands of `dapp dimg`.
const DIMG_COMMANDS: [(&[&str], &str, &str); 1] = [(
    &["build-context"],
    "stages are not written into files yet",
    "share them through a registry: strake dimg push --with-stages REPO",
)];

/// Commands of `docker`.
const COMMANDS: [(&[&str], &str, &str); 5] = [
    (
        &["login", "logout"],
        "credentials are docker's, and kept where docker keeps them",
        "use docker, podman or skopeo login, or for one command --registry-username USER --registry-password-stdin",
    ),
    (
        &["buildx", "builder", "image"],
        "there is only one level of commands",
        "leave the word out: strake build",
    ),
    (&["ps", "exec", "start", "stop", "rm", "logs"], "no container outlives its command", "use strake run"),
    (
        &["bp", "spush", "stages", "flush", "cleanup", "mrproper", "export"],
        "this is a command on images of stage files",
        "put `dimg` in front of it: strake dimg …",
    ),
    (&["compose"], "compose files are not supported yet", "build each image with strake build -f FILE DIR"),
];

/// The failure for a flag or a command of docker's, or for a build without a context; `None` otherwise.
pub(crate) fn refusal(error: &clap::Error) -> Option<Failure> {
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
        && missing.iter().any(|name| name == "<CONTEXT>")
    {
        let failure =
            Failure::input("build what? a CONTEXT is needed: the directory with the files to build from");
        return Some(failure.hint("for the directory here: strake build ."));
    }
    let (kind, table, what): (_, &[(&[&str], &str, &str)], _) = match error.kind() {
        ErrorKind::UnknownArgument
            if usage_has(error, "strake dimg build") && is_one_of(error, &DIMG_FLAGS) =>
        {
            (ContextKind::InvalidArg, &DIMG_FLAGS, "")
        }
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, &FLAGS, ""),
        ErrorKind::InvalidSubcommand => {
            let (table, what) = match usage_has(error, "dimg") {
                true => (&DIMG_COMMANDS[..], "strake dimg "),
                false => (&COMMANDS[..], "strake "),
            };
            (ContextKind::InvalidSubcommand, table, what)
        }
        _ => return None,
    };
    let Some(ContextValue::String(written)) = error.get(kind) else { return None };
    let (_, why, instead) = table.iter().find(|(words, ..)| words.contains(&written.as_str()))?;
    Some(Failure::input(format!("{what}{written}: {why}")).hint(*instead))
}

/// Whether it was these words, or what is behind them, that were not understood.
fn usage_has(error: &clap::Error, words: &str) -> bool {
    matches!(error.get(ContextKind::Usage), Some(ContextValue::StyledStr(usage)) if usage.to_string().contains(words))
}

fn is_one_of(error: &clap::Error, table: &[(&[&str], &str, &str)]) -> bool {
    let written = error.get(ContextKind::InvalidArg);
    matches!(written, Some(ContextValue::String(written)) if table.iter().any(|(words, ..)| words.contains(&written.as_str())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn a_build_without_a_context_says_what_to_type() {
        let error = Cli::try_parse_from(["strake", "build", "-t", "x"]).unwrap_err();
        assert!(refusal(&error).unwrap().hints[0].ends_with("strake build ."));
        let error = Cli::try_parse_from(["strake", "run"]).unwrap_err();
        assert_eq!(refusal(&error), None);
    }

    #[test]
    fn words_of_dockers_are_refused_by_name() {
        let refused = |line: &str| Cli::try_parse_from(line.split(' ')).err().as_ref().and_then(refusal);
        for word in FLAGS.iter().flat_map(|(words, ..)| *words) {
            for line in [format!("strake build {word} x ."), format!("strake build {word}=x .")] {
                let failure = refused(&line).unwrap_or_else(|| panic!("{line}"));
                assert!(failure.message.starts_with(&format!("{word}: ")) && failure.hints.len() == 1);
            }
        }
        for word in DIMG_FLAGS.iter().flat_map(|(words, ..)| *words) {
            let failure = refused(&format!("strake dimg build {word} x")).unwrap_or_else(|| panic!("{word}"));
            assert!(failure.message.starts_with(&format!("{word}: ")), "{failure:?}");
        }
        assert_eq!(refused("strake dimg list --push"), None);
        for word in COMMANDS.iter().flat_map(|(words, ..)| *words) {
            let failure = refused(&format!("strake {word} x")).unwrap_or_else(|| panic!("{word}"));
            assert!(failure.message.starts_with(&format!("strake {word}: ")));
        }
        for word in DIMG_COMMANDS.iter().flat_map(|(words, ..)| *words) {
            let failure = refused(&format!("strake dimg {word} x")).unwrap_or_else(|| panic!("{word}"));
            assert!(failure.message.starts_with(&format!("strake dimg {word}: ")));
        }
        for line in ["strake dimg biuld", "strake build --no-cahce .", "strake biuld", "strake build ."] {
            assert_eq!(refused(line), None, "{line}");
        }
    }
}
