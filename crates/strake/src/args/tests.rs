use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(normalise(line.split_whitespace().map(OsString::from)))
}

fn build(line: &str) -> BuildArgs {
    match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).command {
        Command::Build(args) => *args,
        other => panic!("{other:?}"),
    }
}

fn run(line: &str) -> RunArgs {
    match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).command {
        Command::Run(args) => *args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_parser_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn docker_habits_work() {
    let args =
        build("strake build -t a -t b:1 --build-arg A=1 --build-arg B --no-cache=true --pull=false --rm .");
    assert_eq!(args.tags.len(), 2);
    assert_eq!(args.build_args[1], Assignment { name: "B".into(), value: None });
    assert!(args.no_cache);
    assert!(!args.pull);
    assert_eq!(args.context, ".");
    assert_eq!(build("strake build -f - .").file.as_deref(), Some("-"));
    assert_eq!(build("strake build -").context, "-");
    assert_eq!(build("strake --root /x build --provenance=false .").provenance.as_deref(), Some("false"));
    assert!(parse("strake build --provenance=true .").is_err());
}

#[test]
fn the_command_of_a_container_is_not_ours() {
    let args = run("strake run -it --rm -e A=1 debian sh -c -x --rm");
    assert!(args.interactive && args.tty && args.rm);
    assert_eq!(args.image_and_command, ["debian", "sh", "-c", "-x", "--rm"]);
}

#[test]
fn unknown_flags_name_their_neighbour() {
    let error = parse("strake build --taget x .").unwrap_err().to_string();
    assert!(error.contains("--target"), "{error}");
    assert!(parse("strake biuld .").unwrap_err().to_string().contains("build"));
    assert_eq!(parse("strake build --nonsense .").unwrap_err().exit_code(), 2);
    let error = parse("strake build -t UPPER .").unwrap_err().to_string();
    assert!(error.contains("UPPER"), "{error}");
}

#[test]
fn amounts() {
    for (text, expect) in
        [("0", 0), ("512", 512), ("1k", 1024), ("1.5GiB", 3 << 29), ("2TB", 2 << 40), ("10mb", 10 << 20)]
    {
        assert_eq!(bytes(text), Ok(expect), "{text}");
    }
    for text in ["", "g", "1x", "-1", "99999999999t", "1.2.3k"] {
        assert!(bytes(text).is_err(), "{text}");
    }
    for (text, expect) in [("90s", 90), ("1h30m", 5400), ("7d", 604_800)] {
        assert_eq!(duration(text).map(|span| span.as_secs()), Ok(expect), "{text}");
    }
    for text in ["", "5", "h", "1x", "99999999999999999999h", "9999999999999999d", "1é"] {
        assert!(duration(text).is_err(), "{text}");
    }
}
