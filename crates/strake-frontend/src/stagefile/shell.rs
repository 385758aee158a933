//! The commands of a stage as one script for bash.

use super::config::Command;

/// One script that carries the commands out in one shell, so that a working directory and variables carry over.
///
/// Each command is evaluated by itself: a comment at its end hides nothing, and the first that fails ends the stage
/// with its status, also where `-e` alone would go on (the last of an `&&` list that failed before). Which command is
/// carried out is written into the file `at` in front of each, as its place in `commands`: a command that ends the
/// shell, or is killed together with it, has no other way to tell.
pub(super) fn script(commands: &[Command], tools: &str, at: &str) -> String {
    // An image without any shell has no programs either: then, and only then, ours are found, behind its own.
    let mut script = format!("[ -x /bin/sh ] || export PATH=\"$PATH:{tools}\"\nunset BASH_ENV\n");
    for (place, command) in commands.iter().enumerate() {
        script.push_str(&format!("builtin echo {place} >| {at} || :\neval "));
        quote(&command.text, &mut script);
        script.push_str("\n__strake=$?; [ \"$__strake\" = 0 ] || exit \"$__strake\"\n");
    }
    script
}

/// A word for the shell that means exactly this text.
fn quote(text: &str, out: &mut String) {
    out.push('\'');
    out.push_str(&text.replace('\'', r"'\''"));
    out.push('\'');
}

#[cfg(test)]
mod tests {
    use std::process::{Command as Process, Output};

    use strake_graph::Span;

    use super::*;

    fn command(text: &str) -> Command {
        Command { text: text.to_owned(), span: Span::default() }
    }

    fn carry_out(script: &str) -> Output {
        Process::new("bash").args(["--norc", "-ec", script]).output().unwrap()
    }

    /// Runs commands with the bash of this machine and answers output and status.
    fn run(commands: &[&str]) -> (String, i32) {
        let commands: Vec<_> = commands.iter().copied().map(command).collect();
        let output = carry_out(&script(&commands, "/nowhere", "/dev/null"));
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    }

    #[test]
    fn the_command_that_is_carried_out_is_told() {
        for (second, expect) in [
            ("false", 1),
            ("exit 3", 1),
            ("kill -9 $$", 1),
            ("exec false", 1),
            ("cd /; set -C", 2),
            ("echo() { :; }", 2),
        ] {
            let commands = ["true", second, "false"].map(command);
            let output = carry_out(&script(&commands, "/nowhere", "/dev/stderr"));
            let told = String::from_utf8(output.stderr).unwrap();
            let told: Vec<_> = told.lines().collect();
            assert_eq!(told, ["0", "1", "2"][..=expect], "{second}");
        }
    }

    #[test]
    fn directory_and_variables_carry_over() {
        assert_eq!(run(&["cd /tmp", "A=1; export B=2", "echo $PWD $A $B"]), ("/tmp 1 2\n".into(), 0));
    }

    #[test]
    fn the_first_failure_ends_the_stage_with_its_status() {
        assert_eq!(run(&["echo one", "exit 7", "echo two"]), ("one\n".into(), 7));
        assert_eq!(run(&["false", "echo two"]), (String::new(), 1));
        assert_eq!(run(&["false\necho not", "echo two"]), (String::new(), 1));
        assert_eq!(run(&["test -e /no/such && echo x", "echo two"]), (String::new(), 1));
        assert_eq!(run(&["(exit 3)", "echo two"]), (String::new(), 3));
        assert_eq!(run(&["if false; then echo x; fi", "echo two"]), ("two\n".into(), 0));
    }

    #[test]
    fn commands_mean_what_they_say() {
        let odd = "echo 'it'\\''s' \"$((40 + 2))\" # a comment";
        assert_eq!(run(&[odd, "echo next"]), ("it's 42\nnext\n".into(), 0));
        assert_eq!(run(&["cat <<X\n$((1 + 1))\nX", "echo next"]), ("2\nnext\n".into(), 0));
        assert_eq!(run(&["f() { echo $1; }", "f 5"]), ("5\n".into(), 0));
    }
}
