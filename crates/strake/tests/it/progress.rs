//! What people and programs see while something happens.

use serde_json::Value;
use strake_testkit::{Base, Sandbox, lacking, program_on_path};

use crate::STRAKE;
use crate::scene::Scene;

const DOCKERFILE: &str = "FROM busybox\nRUN echo to-stdout; echo to-stderr >&2\nRUN printf 'no newline'\n";

#[test]
fn every_line_of_json_is_an_event_with_a_version() {
    let scene = Scene::new(DOCKERFILE);
    let built = scene.build(&["-t", "json"]);
    let mut last = 0.0;
    for event in &built.events {
        assert_eq!(event["v"], 1, "{event}");
        assert!(event["event"].is_string(), "{event}");
        let time = event["t"].as_f64().unwrap();
        assert!(time >= last, "time goes backwards: {event}");
        last = time;
    }
    assert_eq!(built.events[0]["event"], "planned");
    let result = built.last("result");
    assert_eq!(result["image"], built.id());
    assert_eq!(result["names"][0], "json:latest");
    let output = |stream: &str| {
        let events =
            built.events.iter().filter(|event| event["event"] == "output" && event["stream"] == stream);
        events.map(|event| event["text"].as_str().unwrap()).collect::<String>()
    };
    assert_eq!(output("stdout"), "to-stdout\nno newline");
    assert_eq!(output("stderr"), "to-stderr\n");
}

/// A pipe is read in pieces of powers of two, so that most of them end within a character of three bytes.
#[test]
fn no_character_of_a_steps_output_is_damaged() {
    let scene = Scene::new(
        "FROM busybox\nRUN yes 漢字 | head -n 50000 | tr -d '\\n'; printf '\\377\\n\\346'\nRUN yes 漢字 | head -n 9000; exit 1\n",
    );
    let failed = scene.fails(1, &[]);
    let output = failed.events.iter().filter(|event| event["event"] == "output" && event["step"] == 2);
    let said: String = output.map(|event| event["text"].as_str().unwrap()).collect();
    assert!(said == "漢字".repeat(50_000) + "\u{fffd}\n\u{fffd}", "{} bytes", said.len());
    let shown = scene.sandbox.strake(["build", "--network=none", "--progress=plain", "--no-cache", "c"]);
    let shown = shown.finish().unwrap().stderr;
    // A line of this length is shown in several, each of whole characters.
    let lines = shown.lines().filter(|line| line.starts_with("#2 ") && !line.contains("RUN"));
    assert_eq!(lines.map(|line| line.matches(['漢', '字']).count()).sum::<usize>(), 100_000);
    assert_eq!(shown.matches('\u{fffd}').count(), 2);
}

#[test]
fn a_failure_is_an_event_as_well() {
    let scene = Scene::new("FROM busybox\nRUN exit 42\n");
    let failed = scene.fails(1, &[]);
    let error = failed.last("error");
    assert_eq!(
        (&error["kind"], &error["status"], &error["exit_code"]),
        (&"step".into(), &1.into(), &42.into())
    );
    assert!(std::path::Path::new(error["log"].as_str().unwrap()).is_file(), "{error}");
    scene.file("Dockerfile", "FROM busybox\nRUNN x\n");
    let failed = scene.fails(2, &[]);
    assert_eq!(failed.last("error")["kind"], "input", "{}", failed.finished);
}

#[test]
fn quiet_prints_the_image_id_alone() {
    let scene = Scene::new(DOCKERFILE);
    for args in [["build", "-q", "--network=none", "c"], ["build", "--progress=quiet", "--network=none", "c"]]
    {
        let finished = scene.strake(&args);
        assert_eq!(finished.stderr, "", "{finished}");
        let id = finished.stdout.strip_suffix('\n').unwrap();
        assert!(id.starts_with("sha256:") && id.len() == 71, "{finished}");
    }
    scene.file("Dockerfile", "FROM busybox\nRUN echo why; exit 1\n");
    let failed = scene.sandbox.strake(["build", "-q", "--network=none", "c"]).finish().unwrap();
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
    assert!(failed.stderr.contains("why"), "{failed}");
}

#[test]
fn plain_names_steps_and_their_output_without_any_escape() {
    let scene = Scene::new(DOCKERFILE);
    let finished = scene.strake(&["build", "--network=none", "c"]);
    for said in ["[stage-0 2/3] RUN echo to-stdout", "to-stdout", "to-stderr", "no newline", "DONE"] {
        assert!(finished.stderr.contains(said), "no {said:?} in {finished}");
    }
    assert!(!finished.stderr.contains('\x1b'), "{finished}");
    assert_eq!(finished.stdout.lines().count(), 1, "{finished}");
    let again = scene.strake(&["build", "--network=none", "c"]);
    assert!(again.stderr.contains("CACHED"), "{again}");
}

/// Output of a step may hold anything; what reaches a terminal or a log is harmless.
#[test]
fn escapes_in_output_are_not_passed_on() {
    let scene = Scene::new("FROM busybox\nRUN printf '\\033]0;title\\007\\033[2Jx\\377\\n'; exit 1\n");
    let failed = scene.sandbox.strake(["build", "--network=none", "c"]).finish().unwrap();
    assert_eq!(failed.code, 1);
    assert!(!failed.stderr.contains('\x1b') && !failed.stderr.contains('\x07'), "{failed:?}");
}

/// Runs a strake command on a terminal of its own, 100 columns wide, and answers what the terminal got.
fn on_a_terminal(sandbox: &Sandbox, variables: &str, words: &str) -> Option<(i32, String)> {
    if program_on_path("script").is_none() {
        lacking("script (package bsdutils)");
        return None;
    }
    let command = format!("stty cols 100 rows 30; {variables} {STRAKE} {words}");
    let run = sandbox.run("script").args(["-q", "-e", "-c", &command, "/dev/null"]).env("TERM", "xterm");
    let finished = run.finish().unwrap();
    Some((finished.code, finished.stdout))
}

#[test]
fn a_terminal_gets_a_live_region_and_its_cursor_back() {
    let scene = Scene::new("FROM busybox\nRUN for i in 1 2 3 4; do echo line $i; usleep 150000; done\n");
    let Some((code, seen)) = on_a_terminal(&scene.sandbox, "", "build --network=none c") else { return };
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("\x1b[?25l"), "the cursor is not hidden: {seen:?}");
    assert!(seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l"), "the cursor stays hidden: {seen:?}");
    assert!(seen.contains("RUN for i in"), "{seen:?}");
    assert!(seen.contains("line 3"), "{seen:?}");
}

#[test]
fn no_colour_where_none_is_wanted() {
    let scene = Scene::new("FROM busybox\nRUN usleep 300000; exit 1\n");
    let colour = |text: &str| {
        let mut rest = text;
        while let Some(at) = rest.find("\x1b[") {
            rest = &rest[at + 2..];
            let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
            if rest[end..].starts_with('m')
                && rest[..end].split(';').any(|code| code.len() == 2 && code.starts_with(['3', '9']))
            {
                return true;
            }
        }
        false
    };
    let Some((code, seen)) = on_a_terminal(&scene.sandbox, "", "build --network=none c") else { return };
    assert!(code == 1 && colour(&seen), "{code} {seen:?}");
    let (_, seen) = on_a_terminal(&scene.sandbox, "NO_COLOR=1", "build --network=none c").unwrap();
    assert!(!colour(&seen), "{seen:?}");
}

/// Tables and JSON go to standard output, and only they.
#[test]
fn results_can_be_piped() {
    let sandbox = Sandbox::new(STRAKE).unwrap();
    sandbox.load_base(Base::Busybox, "busybox").unwrap();
    for words in
        [["images", "--format=json"], ["history", "--format=json"], ["du", "--format=json"], ["inspect", ""]]
    {
        let mut run = sandbox.strake(words.iter().filter(|word| !word.is_empty()));
        if ["history", "inspect"].contains(&words[0]) {
            run = run.arg("busybox");
        }
        let finished = run.succeed().unwrap();
        serde_json::from_str::<Value>(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"));
        assert_eq!(finished.stderr, "", "{finished}");
    }
    // A reader that goes away early is no error.
    let script = "\"$1\" images | true; \"$1\" history busybox | head -c 1 > /dev/null";
    let finished = sandbox.run("sh").args(["-c", script, "sh", STRAKE]).succeed().unwrap();
    assert_eq!(finished.stderr, "", "{finished}");
}

#[test]
fn help_has_examples_for_every_command_and_completions_exist() {
    let sandbox = Sandbox::new(STRAKE).unwrap();
    let help = sandbox.strake(["--help"]).succeed().unwrap().stdout;
    assert!(help.contains("Examples:") && help.contains("Exit status"), "{help}");
    for command in ["build", "run", "pull", "push", "images", "import", "load", "save", "prune"] {
        let help = sandbox.strake([command, "--help"]).succeed().unwrap().stdout;
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.strake(["completion", shell]).succeed().unwrap().stdout;
        assert!(script.contains("build-arg"), "{shell}");
    }
    sandbox.strake(["man", "pages"]).succeed().unwrap();
    for page in ["strake.1", "strake-build.1", "strake-run.1"] {
        assert!(sandbox.read(&format!("pages/{page}")).unwrap().contains(".TH"), "{page}");
    }
}
