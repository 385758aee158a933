//! `RUN`, `CMD`, `ENTRYPOINT` and `SHELL`.

use strake_graph::Network;

use crate::Diagnostic;
use crate::diagnostic::nearest;
use crate::dockerfile::ast::{CommandLine, RunAst, Word};
use crate::dockerfile::heredoc;
use crate::dockerfile::parse::Request;
use crate::dockerfile::parse::flags::Flags;
use crate::dockerfile::parse::mount::MountSpec;
use crate::dockerfile::words;

pub(super) fn parse_run(
    request: &Request<'_>,
    flags: &mut Flags<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<RunAst, Diagnostic> {
    let mut mounts = Vec::new();
    for word in flags.many("mount") {
        match MountSpec::parse(&word) {
            Ok(mount) => mounts.push(mount),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    let network = flags.one("network").map(|word| network(&word)).transpose()?;
    if let Some(word) = flags.one("security") {
        check_security(&word)?;
    }
    flags.refuse("device", "run the step without devices");
    let command = request.command_line(request.arguments)?;
    match &command {
        CommandLine::Exec(arguments) if arguments.is_empty() => {
            return Err(request.missing("a program to run"));
        }
        CommandLine::Shell(text) if text.is_empty() => {
            diagnostics.push(Diagnostic::warning("empty-run", request.span, "RUN runs nothing"));
        }
        _ => {}
    }
    for declared in request.heredocs {
        check_file_name(declared)?;
    }
    Ok(RunAst { command, heredocs: request.heredocs.to_vec(), mounts, network })
}

/// A heredoc's delimiter becomes a file name, so it must be one.
pub(super) fn check_file_name(heredoc: &heredoc::Heredoc) -> Result<(), Diagnostic> {
    if heredoc.name.contains('/') || matches!(heredoc.name.as_str(), "" | "." | "..") {
        let message = format!("heredoc delimiter `{}` cannot be a file name", heredoc.name);
        return Err(
            Diagnostic::error("invalid-heredoc", heredoc.span, message).hint("use a plain word like EOF")
        );
    }
    Ok(())
}

fn network(word: &Word) -> Result<Network, Diagnostic> {
    match word.text.as_str() {
        "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(unknown_value("network mode", other, word, &["default", "none", "host"])),
    }
}

fn check_security(word: &Word) -> Result<(), Diagnostic> {
    match word.text.as_str() {
        "sandbox" => Ok(()),
        "insecure" => {
            let message = "not supported: `RUN --security=insecure`";
            Err(Diagnostic::error("unsupported-flag", word.span, message)
                .hint("steps are always sandboxed; run what needs more outside of the build"))
        }
        other => Err(unknown_value("security mode", other, word, &["sandbox"])),
    }
}

pub(super) fn unknown_value(what: &str, written: &str, word: &Word, known: &[&str]) -> Diagnostic {
    let message = format!("`{written}` is not a {what}");
    let diagnostic = Diagnostic::error("invalid-flag-value", word.span, message);
    match nearest(written, known) {
        Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
        None => diagnostic.hint(format!("known: {}", known.join(", "))),
    }
}

pub(super) fn parse_command(
    request: &Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<CommandLine, Diagnostic> {
    let command = request.command_line(request.arguments)?;
    if let CommandLine::Shell(text) = &command
        && text.starts_with('[')
        && text.trim_end().ends_with(']')
    {
        let message =
            format!("{} looks like a JSON array but is none, so it goes to the shell", request.name);
        diagnostics.push(
            Diagnostic::warning("json-like-shell-form", request.arguments_span(), message)
                .hint("JSON wants double quotes and no trailing comma"),
        );
    }
    Ok(command)
}

pub(super) fn parse_shell(request: &Request<'_>) -> Result<Vec<String>, Diagnostic> {
    match words::json_array(request.arguments) {
        words::Json::Strings(strings) if strings.is_empty() => Err(request.missing("at least one element")),
        words::Json::Strings(strings) => Ok(strings),
        words::Json::OtherArray => Err(request.not_strings()),
        words::Json::No => {
            let message = "SHELL requires a JSON array";
            Err(Diagnostic::error("shell-not-json", request.arguments_span(), message)
                .hint("for example SHELL [\"/bin/bash\", \"-c\"]"))
        }
    }
}
