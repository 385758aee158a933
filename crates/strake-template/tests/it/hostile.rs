//! Templates that mean harm end in an error: no hang, no overflow of the stack, no panic.

use proptest::prelude::*;
use strake_template::{ErrorKind, Host, Limits, Templates};

use crate::{check, check_error, host, render, sample};

/// Checks that a limit stops it.
#[track_caller]
fn check_limit(text: &str, expect: &str) {
    let error = check_error(text, expect);
    assert_eq!(error.kind, ErrorKind::Limit, "{error}");
}

/// Checks that the limit of work stops it; a limit lower than usual, as these tests run without optimisation.
#[track_caller]
fn check_work(text: &str) {
    let mut templates = Templates::new();
    templates.add("main", text).unwrap();
    let limits = Limits { work: 64 << 20, ..Limits::default() };
    let error = templates.render("main", &sample(), &Host { limits, ..host() }).unwrap_err();
    assert!(error.kind == ErrorKind::Limit && error.message.contains("too much work"), "{error}");
}

const LENGTH: &str = "longer than 16777216 bytes";

#[test]
fn endless_recursion() {
    check_limit("{{ define \"f\" }}{{ template \"f\" . }}{{ end }}{{ template \"f\" . }}", "levels deep");
    check_limit("{{ define \"f\" }}{{ include \"f\" . }}{{ end }}{{ include \"f\" . }}", "levels deep");
    check_limit("{{ $t := \"{{ tpl . . }}\" }}{{ tpl $t $t }}", "levels deep");
    check_limit(
        "{{ define \"f\" }}{{ if true }}{{ if true }}{{ if (((include \"f\" .))) }}{{ end }}{{ end }}{{ end }}{{ end }}{{ template \"f\" }}",
        "are open at once",
    );
    check_limit(
        "{{ define \"f\" }}{{ range 1 }}{{ with (((1 | and (include \"f\" .)))) }}{{ end }}{{ end }}{{ end }}{{ template \"f\" }}",
        "are open at once",
    );
}

/// At the end of the deepest recursion there is still stack for whatever else goes deep.
#[test]
fn depth_upon_depth() {
    let recursion = |bottom: &str| {
        format!(
            "{{{{ define \"f\" }}}}{{{{ if gt . 0 }}}}{{{{ if (((include \"f\" (sub . 1)))) }}}}{{{{ end }}}}\
             {{{{ else }}}}{bottom}{{{{ end }}}}{{{{ end }}}}{{{{ include \"f\" 80 }}}}"
        )
    };
    let list = "{{ $l := list }}{{ range 99 }}{{ $l = list $l }}{{ end }}";
    for bottom in [
        "{{ $x := tpl (print (repeat 63 \"{{if 0}}\") (repeat 63 \"{{end}}\")) . }}",
        "{{ $x := tpl (print \"{{if 0}}{{\" (repeat 62 \"(\") 1 (repeat 62 \")\") \"}}{{end}}\") . }}",
        "{{ $x := fromJson (print (repeat 127 \"[\") (repeat 127 \"]\")) }}",
        "{{ $x := regexMatch (print (repeat 80 \"(\") (repeat 80 \")\")) \"a\" }}",
    ] {
        check(&recursion(bottom), "");
    }
    for function in [
        "print $l",
        "printf \"%q\" $l",
        "toJson $l",
        "toPrettyJson $l",
        "deepCopy $l",
        "deepEqual $l (deepCopy $l)",
    ] {
        check(&recursion(&format!("{list}{{{{ $x := {function} }}}}")), "");
    }
}

#[test]
fn recursion_that_ends_is_fine() {
    let text = "{{ define \"f\" }}{{ if gt . 0 }}.{{ template \"f\" (sub . 1) }}{{ end }}{{ end }}{{ template \"f\" 200 }}";
    check(text, &".".repeat(200));
}

#[test]
fn nesting_of_the_text() {
    let deep = |count: usize| format!("{}x{}", "{{if 1}}".repeat(count), "{{end}}".repeat(count));
    check(&deep(63), "x");
    check_error(&deep(100_000), "nested more than 64 levels deep");
    let deep = |count: usize| format!("{{{{ {}1{} }}}}", "(".repeat(count), ")".repeat(count));
    check(&deep(63), "1");
    check_error(&deep(100_000), "nested more than 64 levels deep");
    let chain = format!("{{{{if 0}}}}{}{{{{else}}}}x{{{{end}}}}", "{{else if 0}}".repeat(20_000));
    check(&chain, "x");
}

#[test]
fn loops() {
    check_work("{{ range 9223372036854775807 }}{{ end }}");
    check_work("{{ range until 9223372036854775807 }}{{ end }}");
    check_work("{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}");
    check_work("{{ seq 9223372036854775807 }}");
    check_work("{{ untilStep 0 9223372036854775807 1 }}");
    check("{{ untilStep 0 9223372036854775807 9223372036854775806 }}", "[0 9223372036854775806]");
}

#[test]
fn long_texts() {
    check_limit("{{ repeat 9223372036854775807 \"x\" }}", LENGTH);
    check_limit("{{ repeat 9223372036854775807 \"xx\" }}", LENGTH);
    check_limit("{{ indent 9223372036854775807 \"x\" }}", LENGTH);
    check_limit("{{ $s := repeat 100000 \"\\n\" }}{{ indent 100000 $s }}", LENGTH);
    check_limit("{{ $s := \"x\" }}{{ range 100 }}{{ $s = print $s $s }}{{ end }}", LENGTH);
    check_limit("{{ $s := \"x\" }}{{ range 100 }}{{ $s = replace \"x\" \"xx\" $s }}{{ end }}", LENGTH);
    check_limit("{{ $s := repeat 1000000 \"x\" }}{{ range 100 }}{{ $s }}{{ end }}", LENGTH);
    check_limit("{{ $s := repeat 1000000 \"x\" }}{{ join $s (until 100) }}", LENGTH);
    check_limit("{{ $s := repeat 1000000 \"x\" }}{{ wrapWith 1 $s $s }}", LENGTH);
    check_limit("{{ $s := repeat 1000000 \"x\" }}{{ regexReplaceAll \"x\" $s $s }}", LENGTH);
    check_limit("{{ printf \"%1000000d%1000000d\" 1 1 | repeat 9 }}", LENGTH);
    check_work("{{ $l := list }}{{ range 1000 }}{{ $l = append $l (repeat 1000000 (print .)) }}{{ end }}");
    check_work("{{ $l := list 1 }}{{ range 100 }}{{ $l = concat $l $l }}{{ end }}");
}

#[test]
fn values_that_contain_themselves() {
    check_limit("{{ $_ := set .map \"self\" .map }}{{ .map }}", "nested more than 100 levels deep");
    check_limit("{{ $_ := set .map \"self\" .map }}{{ toJson .map }}", "nested more than 100 levels deep");
    check_limit("{{ $_ := set .map \"self\" .map }}{{ deepCopy .map }}", "nested more than 100 levels deep");
    check_limit(
        "{{ $a := dict }}{{ $b := dict }}{{ $_ := set $a \"x\" $a }}{{ $_ := set $b \"x\" $b }}{{ deepEqual $a $b }}",
        "nested more than 100 levels deep",
    );
    check_limit(
        "{{ $a := dict }}{{ $b := dict }}{{ $_ := set $a \"x\" $a }}{{ $_ := set $b \"x\" $b }}{{ merge $a $b }}",
        "nested more than 100 levels deep",
    );
    check_limit("{{ $l := list }}{{ range 30 }}{{ $l = list $l $l }}{{ end }}{{ $l }}", LENGTH);
    check_work("{{ $l := list }}{{ range 90 }}{{ $l = list $l $l }}{{ end }}{{ $m := deepCopy $l }}");
    check_work(
        "{{ $l := list }}{{ $m := list }}{{ range 90 }}{{ $l = list $l $l }}{{ $m = list $m $m }}{{ end }}{{ deepEqual $l $m }}",
    );
    check("{{ $l := list }}{{ range 200000 }}{{ $l = list $l }}{{ end }}{{ len $l }}", "1");
}

/// What does not walk a list or a map costs the same for a large one.
#[test]
fn large_lists_and_maps_can_be_used() {
    check(
        "{{ $d := dict }}{{ range 5000 }}{{ $_ := set $d (print .) . }}{{ end }}{{ get $d \"777\" }}",
        "777",
    );
    check("{{ $l := until 20000 }}{{ range 20000 }}{{ if ne (index $l .) . }}wrong{{ end }}{{ end }}", "");
    check("{{ $s := repeat 50000 \"a b \" }}{{ regexReplaceAll \"[ab]\" $s \"x\" | len }}", "200000");
}

/// A blank definition is looked at once, however often it is repeated.
#[test]
fn definitions_of_blanks() {
    let text = format!("{{{{ define \"b\" }}}}{}{{{{ end }}}}", " ".repeat(1_000_000));
    check(&format!("{text}{}", "{{ define \"b\" }}{{ end }}".repeat(30_000)), "");
}

#[test]
fn long_templates() {
    check_error(&" ".repeat((2 << 20) + 1), "the template is longer than 2097152 bytes");
    check_error("{{ tpl (repeat 3000000 \" \") . }}", "the template is longer than 2097152 bytes");
    assert!(check_error("{{ include (repeat 1000000 \"x\") . }}", "main:1:4: template").message.len() < 1000);
}

#[test]
fn expensive_functions() {
    check_work("{{ uniq (until 1000000) | len }}");
    check_limit("{{ regexMatch \"((a{100}){100}){100}\" \"a\" }}", "too large");
    check_limit("{{ regexMatch (repeat 5000 \"a\") \"a\" }}", "longer than 4096 bytes");
    check_work("{{ $s := repeat 10000000 \"a\" }}{{ regexMatch \"(a|aa){300}$\" $s }}");
    check_work("{{ $s := repeat 60000 \"a\" }}{{ regexFindAll \".*b|a\" $s -1 }}");
    check_work("{{ $s := repeat 60000 \"a\" }}{{ regexReplaceAll \".*b|a\" $s \"\" }}");
    check_work("{{ $s := repeat 60000 \"a\" }}{{ regexSplit \".*b|a\" $s -1 }}");
    check_work("{{ range 1000000 }}{{ $x := regexMatch \"a\" \"b\" }}{{ end }}");
    check_error(
        "{{ regexMatch (print (repeat 200 \"(\") (repeat 200 \")\")) \"a\" }}",
        "not a regular expression",
    );
    check_error(
        "{{ fromJson (repeat 1000 \"[\") | kindIs \"invalid\" | ternary (fail \"nothing\") 1 }}",
        "nothing",
    );
    check_limit("{{ $s := repeat 10000000 \"[],\" }}{{ fromJson $s }}", LENGTH);
    check_work("{{ $s := repeat 5000000 \"[],\" }}{{ fromJson $s }}");
    check_work(
        "{{ $s := repeat 4000000 \",\" }}{{ splitList \",\" $s | len }}{{ range 20 }}{{ $x := splitList \",\" $s }}{{ end }}",
    );
}

#[test]
fn numbers_at_their_bounds() {
    check("{{ add 9223372036854775807 1 }}", "-9223372036854775808");
    check("{{ div -9223372036854775808 -1 }} {{ mod -9223372036854775808 -1 }}", "-9223372036854775808 0");
    check(
        "{{ int 1e300 }} {{ printf \"%d\" -9223372036854775808 }}",
        "9223372036854775807 -9223372036854775808",
    );
    check("{{ trunc -9223372036854775808 \"ab\" }} {{ substr 0 9223372036854775807 \"ab\" }}", "ab ab");
    check_error("{{ dateInZone \"2006\" 9223372036854775807 \"UTC\" }}", "dateInZone:");
    check(
        "{{ durationRound -9223372036854775808 }} {{ duration -9223372036854775808 }}",
        "292y -2562047788015215h30m8s",
    );
    check(
        "{{ printf \"%.999999f\" 1.0 | len }} {{ printf \"%.999999e\" 1.0 | len }} {{ printf \"%.999999g\" 1.0 }}",
        "1000001 1000005 1",
    );
}

#[test]
fn the_limits_are_the_callers() {
    let mut templates = Templates::new();
    templates.add("main", "{{ range 1000 }}x{{ end }}").unwrap();
    let render = |limits| {
        let host = Host { limits, ..host() };
        templates.render("main", &sample(), &host).map(|rendered| rendered.text.len())
    };
    let limits = Limits::default();
    assert_eq!(render(limits).unwrap(), 1000);
    assert_eq!(render(Limits { output: 999, ..limits }).unwrap_err().kind, ErrorKind::Limit);
    assert_eq!(render(Limits { work: 10_000, ..limits }).unwrap_err().kind, ErrorKind::Limit);
}

/// Pieces of templates, so that random texts get past the lexer.
fn piece() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "if ",
        "else ",
        "end",
        "range ",
        "with ",
        "define \"a\"",
        "template \"a\" ",
        "block \"b\" ",
        "$x",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        ".",
        ".map",
        ".list",
        ".str",
        " ",
        "\n",
        "1",
        "-2",
        "0.5",
        "\"s\"",
        "`r`",
        "'c'",
        "break",
        "continue",
        "nil",
        "true",
        "printf ",
        "\"%d %s %v\" ",
        "index ",
        "slice ",
        "dict ",
        "list ",
        "set ",
        "include ",
        "tpl ",
        "regexReplaceAll ",
        "toDate ",
        "semverCompare ",
        "/*",
        "*/",
        "é",
        "x",
        "trunc ",
        "until ",
        "merge ",
        "now",
    ]);
    prop_oneof![8 => words.prop_map(str::to_owned), 1 => "\\PC{0,3}"]
}

fn names_of_functions() -> Vec<&'static str> {
    include_str!("../../testdata/functions.txt").lines().filter(|line| !line.starts_with('#')).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_rendered_or_an_error(text in "\\PC{0,60}") {
        let _ = render(&text);
    }

    #[test]
    fn any_pieces_are_rendered_or_an_error(pieces in prop::collection::vec(piece(), 0..30)) {
        let _ = render(&pieces.concat());
    }

    #[test]
    fn any_expression_has_a_value_or_is_an_error(words in prop::collection::vec(piece(), 0..12)) {
        let _ = render(&format!("{{{{ {} }}}}", words.join(" ")));
    }

    #[test]
    fn any_function_takes_any_arguments(
        name in prop::sample::select(names_of_functions()),
        arguments in prop::collection::vec(prop::sample::select(vec![
            "nil", "0", "1", "-1", "9223372036854775807", "-9223372036854775808", "1e300", "0.5", "true", "\"\"", "\"é\"",
            "\"a,b é\"", "\"2006-01-02T15:04:05.999Z07:00\"", "\"%[2]*.*[1]d%q\"", "\"^1.2-x\"", "\"(a|é)*\"", "\"$1${x}\"",
            ".list", ".mixed", ".map", ".nomap", ".none", ".Files", "now", "(semver \"1.2\")", "(list .map .list)",
        ]), 0..5),
    ) {
        let _ = render(&format!("{{{{ {name} {} }}}}", arguments.join(" ")));
    }

    #[test]
    fn text_without_actions_renders_as_itself(text in "[^{]{0,80}") {
        prop_assert_eq!(render(&text).unwrap(), text);
    }

    #[test]
    fn quoted_text_renders_as_what_was_quoted(text in "\\PC{0,40}") {
        let quoted = render(&format!("{{{{ quote {text:?} }}}}")).ok();
        if let Some(quoted) = quoted {
            prop_assert_eq!(render(&format!("{{{{ {quoted} }}}}")).unwrap(), text);
        }
    }

    #[test]
    fn every_line_has_an_origin(pieces in prop::collection::vec(piece(), 0..30)) {
        let mut templates = Templates::new();
        let text = pieces.concat();
        if templates.add("main", &text).is_ok()
            && let Ok(rendered) = templates.render("main", &sample(), &host()) {
                for line in 1..=rendered.text.lines().count() {
                    let place = rendered.origin(line).unwrap();
                    prop_assert!(place.line <= text.split('\n').count() && place.column >= 1);
                }
            }
    }
}
