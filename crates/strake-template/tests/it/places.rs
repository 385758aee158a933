//! Where errors and lines come from.

use strake_template::{ErrorKind, Host, Place, Templates, Value};

use crate::{check_error, sample};

fn set(files: &[(&str, &str)]) -> Templates {
    let mut templates = Templates::new();
    for (name, text) in files {
        templates.add(name, text).unwrap();
    }
    templates
}

fn place(template: &str, line: usize, column: usize) -> Place {
    Place { template: template.into(), line, column }
}

#[test]
fn an_error_in_an_included_file_says_who_included_it() {
    let templates = set(&[
        ("a/inner.tmpl", "one\n  {{ fail \"broken\" }}\n"),
        ("outer.tmpl", "{{ template \"a/inner.tmpl\" . }}"),
        ("main", "x\n{{ include \"outer.tmpl\" . | indent 2 }}\n"),
    ]);
    let error = templates.render("main", &sample(), &Host::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert_eq!(error.message, "broken");
    assert_eq!(error.place, place("a/inner.tmpl", 2, 6));
    assert_eq!(error.called_from, [place("outer.tmpl", 1, 1), place("main", 2, 4)]);
}

#[test]
fn an_error_in_a_definition_is_in_its_file() {
    let templates = set(&[
        ("lib", "{{ define \"d\" }}\n{{ .a.b.c }}{{ end }}"),
        ("main", "{{ template \"d\" (dict \"a\" 1) }}"),
    ]);
    let error = templates.render("main", &Value::Null, &Host::default()).unwrap_err();
    assert_eq!(error.place, place("lib", 2, 4));
    assert_eq!(error.message, "can't evaluate field b in type int");
}

#[test]
fn an_error_in_a_text_given_to_tpl_is_called_tpl() {
    let error = check_error("a\n{{ tpl \"x\\n{{ upper 1 }}\" . }}", "tpl:2:4: upper: wrong type");
    assert_eq!(error.called_from, [place("main", 2, 4)]);
    let error = check_error("{{ tpl \"{{ if }}\" . }}", "tpl:1:7: missing value for if");
    assert_eq!(error.kind, ErrorKind::Syntax);
    assert_eq!(error.called_from, [place("main", 1, 4)]);
}

#[test]
fn errors_say_what_to_do_where_that_is_known() {
    assert_eq!(check_error("{{ trimsuffix 1 }}", "not defined").hint.unwrap(), "did you mean trimSuffix?");
    assert_eq!(check_error("{{ .Files.Gte }}", "Gte").hint.unwrap(), "it has Exists, Get, Glob");
    assert!(check_error("{{ eq 1 \"1\" }}", "incompatible").hint.unwrap().contains("toString"));
}

/// Checks where each line of the rendered text comes from.
#[track_caller]
fn check_lines(templates: &Templates, expect: &[(&str, usize, usize)]) {
    let rendered = templates.render("main", &sample(), &Host::default()).unwrap();
    let found: Vec<Place> =
        (1..=rendered.text.lines().count()).map(|line| rendered.origin(line).unwrap()).collect();
    let expect: Vec<Place> = expect.iter().map(|(name, line, column)| place(name, *line, *column)).collect();
    assert_eq!(found, expect, "{:?}", rendered.text);
}

#[test]
fn literal_lines_come_from_their_own_lines() {
    check_lines(
        &set(&[("main", "a\n  b\n\nc")]),
        &[("main", 1, 1), ("main", 2, 3), ("main", 3, 1), ("main", 4, 1)],
    );
}

#[test]
fn lines_after_an_action_that_prints_nothing_keep_their_numbers() {
    check_lines(
        &set(&[("main", "{{ $x := 1 -}}\n\n\na\n{{ if true }}\n b{{ end }}")]),
        &[("main", 4, 1), ("main", 5, 14), ("main", 6, 2)],
    );
}

#[test]
fn a_line_comes_from_its_first_character_that_is_no_blank() {
    check_lines(&set(&[("main", "  {{ .num }}: x\n  y: {{ .num }}\n")]), &[("main", 1, 6), ("main", 2, 3)]);
}

#[test]
fn turns_of_a_loop_come_from_the_same_line() {
    check_lines(
        &set(&[("main", "{{ range .list }}\n- {{ . }}\n{{- end }}\nend")]),
        &[("main", 1, 18), ("main", 2, 1), ("main", 2, 1), ("main", 2, 1), ("main", 4, 1)],
    );
}

#[test]
fn lines_of_another_template_come_from_there_unless_it_became_a_value() {
    let templates = set(&[
        ("lib", "{{ define \"d\" -}}\nx: 1\ny: 2\n{{- end }}"),
        ("main", "{{ template \"d\" }}\nz: 3\n{{ include \"d\" . | indent 2 }}\nw: 4"),
    ]);
    check_lines(
        &templates,
        &[("lib", 2, 1), ("lib", 3, 1), ("main", 2, 1), ("main", 3, 4), ("main", 3, 4), ("main", 4, 1)],
    );
}

#[test]
fn a_value_of_many_lines_comes_from_one_place() {
    check_lines(
        &set(&[("main", "a: {{ \"x\\ny\\n\" }}b\nc{{ \"\\n\\n\" }}\nd")]),
        &[
            ("main", 1, 1),
            ("main", 1, 7),
            ("main", 1, 18),
            ("main", 2, 1),
            ("main", 2, 5),
            ("main", 2, 14),
            ("main", 3, 1),
        ],
    );
}
