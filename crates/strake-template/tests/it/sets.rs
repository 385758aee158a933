//! Several files in one set.

use strake_template::{Host, Map, Templates, Value};

use crate::{check_error, host};

fn rendered(files: &[(&str, &str)]) -> String {
    let mut templates = Templates::new();
    for (name, text) in files {
        templates.add(name, text).unwrap();
    }
    let dot = Value::Map(Map::new());
    templates.render("main", &dot, &Host::default()).unwrap().text
}

#[test]
fn definitions_are_known_in_all_files() {
    let text = rendered(&[
        ("a/lib.tmpl", "{{ define \"x\" }}X{{ end }}file"),
        ("main", "{{ template \"x\" }} {{ include \"a/lib.tmpl\" . }}"),
    ]);
    assert_eq!(text, "X file");
}

#[test]
fn a_later_definition_wins_unless_it_is_blank() {
    let first = ("a", "{{ define \"x\" }}first{{ end }}");
    let main = ("main", "{{ template \"x\" }}");
    assert_eq!(rendered(&[first, ("b", "{{ define \"x\" }}second{{ end }}"), main]), "second");
    assert_eq!(rendered(&[first, ("b", "{{ define \"x\" }} \n {{ end }}"), main]), "first");
    assert_eq!(rendered(&[first, ("b", "{{ define \"x\" }}{{/* c */}}{{ end }}"), main]), "first");
    assert_eq!(rendered(&[("b", "{{ define \"x\" }}{{ end }}"), first, main]), "first");
    assert_eq!(rendered(&[("main", "old"), ("main", "new")]), "new");
}

#[test]
fn a_file_that_cannot_be_parsed_leaves_the_set_as_it_was() {
    let mut templates = Templates::new();
    templates.add("main", "old").unwrap();
    assert!(templates.add("main", "{{ define \"x\" }}x{{ end }}{{").is_err());
    assert!(templates.contains("main") && !templates.contains("x"));
    assert_eq!(templates.render("main", &Value::Null, &Host::default()).unwrap().text, "old");
}

#[test]
fn what_is_set_in_one_template_is_seen_in_another() {
    let text = rendered(&[
        ("lib", "{{ define \"set\" }}{{ $_ := set . \"N\" 1 }}{{ $_ := set .in \"M\" 2 }}{{ end }}"),
        ("main", "{{ $_ := set . \"in\" (dict) }}{{ include \"set\" . }}{{ .N }}{{ .in.M }}"),
    ]);
    assert_eq!(text, "12");
}

#[test]
fn what_tpl_defines_is_its_own() {
    check_error(
        "{{ tpl \"{{ define \\\"q\\\" }}q{{ end }}\" . }}{{ template \"q\" }}",
        "template \"q\" is not defined",
    );
}

#[test]
fn a_template_that_is_not_there_is_an_error() {
    let error = Templates::new().render("nope", &Value::Null, &host()).unwrap_err();
    assert_eq!(error.message, "template \"nope\" is not defined");
}

#[test]
fn without_answers_of_the_host_there_is_no_clock_and_no_environment() {
    for text in [
        "{{ now }}",
        "{{ env \"HOME\" }}",
        "{{ expandenv \"$HOME\" }}",
        "{{ ago 5 }}",
        "{{ date \"2006\" nil }}",
    ] {
        let mut templates = Templates::new();
        templates.add("main", text).unwrap();
        let error = templates.render("main", &Value::Null, &Host::default()).unwrap_err();
        assert!(error.message.contains("is not to be had here"), "{error}");
    }
}
