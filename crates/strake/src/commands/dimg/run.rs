//! `strake dimg run`: `strake run` with the image of a stage.

use clap::Parser;

use super::stage::find;
use crate::args::{Cli, Command, DimgRunArgs, LoginArgs};
use crate::commands::{in_session, output, run as image, ui};
use crate::failure::Failure;
use crate::settings::Settings;

/// `strake dimg run`.
pub(super) fn run(args: &DimgRunArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Fetching", None, false);
    in_session(settings, options, |session| {
        let (dimg, words, command) = split(&args.words);
        let command = [command, &args.command].concat();
        let found = find(session, &args.project, dimg, args.stage)?;
        let words = command_line(&found.name, words, &command);
        if args.dry_run {
            output::line(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))?;
            return Ok(0);
        }
        if !found.is_present {
            let what = args.stage.map_or_else(String::new, |stage| format!("stage {} of ", stage.id()));
            let failure = Failure::input(format!("{what}dimg {} is not built", found.dimg));
            let name = if found.dimg == "~" { String::new() } else { format!(" {}", found.dimg) };
            return Err(failure.hint(format!("build it: strake dimg build{name}")));
        }
        let parsed = Cli::try_parse_from(&words).map_err(|error| {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or_default();
            Failure::input(text.strip_prefix("error: ").unwrap_or(text).to_owned())
                .hint("options behind the name of the image are those of `strake run`")
        })?;
        match parsed.command {
            // An option that is not known would be taken for the image.
            Command::Run(args) if args.login != LoginArgs::default() => {
                let failure = Failure::input("the image is in the local store: no registry is asked for it");
                Err(failure.hint("leave out the --registry options"))
            }
            Command::Run(args) if args.image_and_command.first() == Some(&found.name) => {
                image::run_in(session, &args)
            }
            Command::Run(args) => {
                let wrong = args.image_and_command.first().map_or("", String::as_str);
                Err(Failure::input(format!("{wrong} is no option of `strake run`"))
                    .hint("the command stands behind `--`: strake dimg run DIMG -- COMMAND"))
            }
            other => unreachable!("the words begin with `run`, and were read as {other:?}"),
        }
    })
}

/// The name of the image, unless there are only options; the options; and the command behind `--`. Only a `--` in front of
/// everything is seen by the parser of the command line itself.
fn split(words: &[String]) -> (Option<&str>, &[String], &[String]) {
    let end = words.iter().position(|word| word == "--");
    let (words, command) = match end {
        Some(end) => (&words[..end], &words[end + 1..]),
        None => (words, &[][..]),
    };
    match words.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (Some(first), rest, command),
        _ => (None, words, command),
    }
}

/// Without anything said, a shell on this terminal.
fn command_line(image: &str, options: &[String], command: &[String]) -> Vec<String> {
    let (options, command) = match options.is_empty() && command.is_empty() {
        true => (vec!["-ti".to_owned(), "--rm".to_owned()], vec!["/bin/bash".to_owned()]),
        false => (options.to_vec(), command.to_vec()),
    };
    let start = ["strake", "run"].map(str::to_owned).into_iter();
    start.chain(options).chain([image.to_owned()]).chain(command).collect()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_opened_unless_something_is_said() {
        let line = |words: &str, command: &[&str]| {
            let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
            let (dimg, options, behind) = split(&words);
            let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
            let line = command_line("i", options, &[behind, &command].concat());
            (dimg.map(str::to_owned), line[2..].iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(line("", &[]), (None, "-ti --rm i /bin/bash".to_owned()));
        assert_eq!(line("web", &[]), (Some("web".to_owned()), "-ti --rm i /bin/bash".to_owned()));
        assert_eq!(line("web -e A=b", &[]).1, "-e A=b i");
        assert_eq!(line("-t", &["ls", "it's"]), (None, r"-t i ls 'it'\''s'".to_owned()));
        assert_eq!(line("web -- ls --", &[]), (Some("web".to_owned()), "i ls --".to_owned()));
    }
}
