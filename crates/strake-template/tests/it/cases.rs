//! The tables in `testdata`: what a template renders to.

use crate::render;

/// Checks every template of a table; a line of `=` has what it renders to, one of `!` its error.
fn check_table(table: &str) {
    let lines: Vec<&str> = table.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    let mut wrong = Vec::new();
    for case in lines.chunks(2) {
        let [template, expect] = case else { panic!("{case:?} has no result") };
        let found = match render(&template.replace('⏎', "\n")) {
            Ok(text) => format!("= {text}"),
            Err(error) => format!("! {}", error.to_string().trim_start_matches("main:")),
        };
        let found = found.replace('\n', "⏎");
        if found != *expect {
            wrong.push(format!("{template}\n  expected {expect}\n  found    {found}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases are wrong:\n{}",
        wrong.len(),
        lines.len() / 2,
        wrong.join("\n")
    );
}

#[test]
fn the_language() {
    check_table(include_str!("../../testdata/language.txt"));
}

#[test]
fn printf() {
    check_table(include_str!("../../testdata/printf.txt"));
}

#[test]
fn sprig() {
    check_table(include_str!("../../testdata/sprig.txt"));
}

#[test]
fn where_we_differ_from_go_on_purpose() {
    check_table(include_str!("../../testdata/ours.txt"));
}
