use proptest::prelude::*;
use strake_graph::Span;

use super::{Kind, Node, Scalar, Value, documents, read};
use crate::Diagnostic;

fn whole(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let node = read(text, Span::new(0, text.len()), &mut diagnostics);
    (node, diagnostics)
}

fn tree(text: &str) -> Node {
    let (node, diagnostics) = whole(text);
    assert_eq!(diagnostics, [], "{text}");
    node.unwrap()
}

fn code(text: &str) -> (&'static str, String) {
    let (node, diagnostics) = whole(text);
    assert_eq!(node, None);
    let Span { start, end } = diagnostics[0].span;
    (diagnostics[0].code, text[start..end].to_owned())
}

/// The tree as text: `{k=v}`, `[a,b]`, texts in quotes.
fn show(node: &Node) -> String {
    fn scalar(scalar: &Scalar) -> String {
        match scalar.value {
            Value::Null => "~".into(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => format!("{value}u"),
            Value::Float(value) => format!("{value}f"),
            Value::Text => format!("{:?}", scalar.text),
        }
    }
    match &node.kind {
        Kind::Scalar(value) => scalar(value),
        Kind::List(nodes) => format!("[{}]", nodes.iter().map(show).collect::<Vec<_>>().join(",")),
        Kind::Map(entries) => {
            let entry = |entry: &super::Entry| format!("{}={}", scalar(&entry.key), show(&entry.node));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
        }
    }
}

#[test]
fn a_separator_is_a_line_of_its_own() {
    let check = |text: &str, expected: &[&str]| {
        let found: Vec<_> = documents(text).into_iter().map(|span| &text[span.start..span.end]).collect();
        assert_eq!(found, expected, "{text:?}");
    };
    check("a: 1\n---\nb: 2\n", &["a: 1\n", "b: 2\n"]);
    check("---\n# nothing\n---  # next\na: 1\n---#x\nb: 2\n--- \t\r\nc: 3", &["a: 1\n", "b: 2\n", "c: 3"]);
    check("---", &[]);
    check("", &[]);
    check("\u{feff}# x\n", &[]);
    check("----\n--- x\n ---\n", &["----\n--- x\n ---\n"]);
}

#[test]
fn plain_scalars_mean_what_go_says() {
    for (text, expected) in [
        ("yes", "true"),
        ("Y", "true"),
        ("on", "true"),
        ("No", "false"),
        ("n", "false"),
        ("OFF", "false"),
        ("yEs", "\"yEs\""),
        ("~", "~"),
        ("null", "~"),
        ("Null", "~"),
        ("nULL", "\"nULL\""),
        ("0755", "493"),
        ("0x1F", "31"),
        ("-0x10", "-16"),
        ("0b101", "5"),
        ("-0b11", "-3"),
        ("0o17", "\"0o17\""),
        ("0", "0"),
        ("00", "0"),
        ("08", "8f"),
        ("+12", "12"),
        ("--1", "\"--1\""),
        ("0x-1", "\"0x-1\""),
        ("1_000", "1000"),
        ("_1", "\"_1\""),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775808u"),
        ("18446744073709551616", "18446744073709552000f"),
        ("1.5", "1.5f"),
        ("1.", "1f"),
        (".5", "0.5f"),
        ("1e3", "1000f"),
        ("-1.5e-3", "-0.0015f"),
        ("1e999", "\"1e999\""),
        (".inf", "inff"),
        ("-.INF", "-inff"),
        (".nan", "NaNf"),
        ("1:30", "\"1:30\""),
        ("2001-12-14", "\"2001-12-14\""),
        ("2001-12-14T21:59:43Z", "\"2001-12-14T21:59:43Z\""),
        ("'0755'", "\"0755\""),
        ("\"yes\"", "\"yes\""),
        ("!!str 12", "\"12\""),
        ("! 12", "\"12\""),
        ("!!int 0755", "493"),
        ("!!float 1", "1"),
        ("-", "[~]"),
        (".", "\".\""),
        ("1.2.3", "\"1.2.3\""),
        ("12e", "\"12e\""),
        ("a b", "\"a b\""),
        ("|\n  a\n  b\n", "\"a\\nb\\n\""),
        (">-\n  a\n  b\n", "\"a b\""),
    ] {
        assert_eq!(show(&tree(text)), expected, "{text}");
    }
}

#[test]
fn aliases_and_merges_are_followed() {
    assert_eq!(show(&tree("a: &x [1, 2]\nb: *x\n")), r#"{"a"=[1,2],"b"=[1,2]}"#);
    let merged = "base: &b {a: 1, b: 2}\nover: &o {b: 3, c: 4}\nx:\n  <<: [*b, *o]\n  a: 0\n";
    let expected = r#"{"base"={"a"=1,"b"=2},"over"={"b"=3,"c"=4},"x"={"a"=0,"b"=2,"c"=4}}"#;
    assert_eq!(show(&tree(merged)), expected);
    assert_eq!(show(&tree("'<<': {a: 1}\n")), r#"{"<<"={"a"=1}}"#);
    assert_eq!(code("<<: 1\n"), ("wrong-type", "1".into()));
}

#[test]
fn spans_are_bytes_of_the_text() {
    let text = "ä: ü\nlist:\n- \u{20ac}uro\n\n\nnext: 1\n";
    let Kind::Map(entries) = tree(text).kind else { panic!() };
    let at = |span: Span| &text[span.start..span.end];
    assert_eq!((at(entries[0].key_span), at(entries[0].node.span)), ("ä", "ü"));
    let Kind::List(nodes) = &entries[1].node.kind else { panic!() };
    assert_eq!(at(nodes[0].span), "\u{20ac}uro");
    assert_eq!(at(entries[1].node.span), "\u{20ac}uro");
    assert_eq!(at(entries[2].node.span), "1");
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_mean_nothing() {
    let text = "\u{feff}a: |\r\n  x\r\n  y\r\nb: ä\r\n";
    assert_eq!(show(&tree(text)), r#"{"a"="x\ny\n","b"="ä"}"#);
    let Kind::Map(entries) = tree(text).kind else { panic!() };
    assert_eq!(&text[entries[1].node.span.start..entries[1].node.span.end], "ä");
}

#[test]
fn what_is_wrong_has_a_place() {
    assert_eq!(code("...\n").0, "yaml-syntax");
    assert_eq!(code("%YAML 1.1\n").0, "yaml-syntax");
    assert_eq!(code("a: 1\nb: 2\na: 3\n"), ("duplicate-key", "a".into()));
    assert_eq!(code("yes: 1\ntrue: 3\n"), ("duplicate-key", "true".into()));
    assert_eq!(code("{[a]: 1}\n"), ("wrong-type", "[a]".into()));
    assert_eq!(code("a: !thing 1\n").0, "unknown-tag");
    assert_eq!(code("a: !!int x\n").0, "unknown-tag");
    assert_eq!(code("a: !!set {b: 1}\n").0, "unknown-tag");
    assert_eq!(code("a: [1\n").0, "yaml-syntax");
    assert_eq!(code("a: *x\n").0, "yaml-syntax");
    assert_eq!(code("a:\n\t- b\n").0, "yaml-syntax");
    assert_eq!(code("a: &x [*x]\n"), ("yaml-alias", "*x".into()));
    assert_eq!(code("a: 1\n--- b\n").0, "yaml-syntax");
    assert_eq!(whole("a: 1\na: 2\nb: 1\nb: 2\n").1.len(), 2);
}

#[test]
fn hostile_documents_are_bounded() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let name = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", [name.as_str(); 10].join(", ")));
    }
    assert_eq!(code(&laughs).0, "yaml-size");
    assert_eq!(code(&format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(100))).0, "yaml-size");
    assert_eq!(code(&format!("a: {}", "[".repeat(100))).0, "yaml-depth");
    assert_eq!(code(&format!("a: {}", "[".repeat(100_000))).0, "yaml-syntax");
    assert_eq!(code(&(0..500).map(|depth| " ".repeat(depth) + "a:\n").collect::<String>()).0, "yaml-depth");
    assert_eq!(code(&"- a\n".repeat(1_000_000)).0, "yaml-size");
    let merges = |levels: usize| {
        let level = |level| format!("m{level}: &m{level} {{<<: [*m{0}, *m{0}]}}\n", level - 1);
        format!("m0: &m0 {{a: 1}}\n{}", (1..levels).map(level).collect::<String>())
    };
    assert_eq!(show(&tree(&merges(4))), r#"{"m0"={"a"=1},"m1"={"a"=1},"m2"={"a"=1},"m3"={"a"=1}}"#);
    assert_eq!(code(&merges(60)).0, "yaml-size");
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "[-a:&*<>|!#'\"\\[\\]{},~\n \t\u{e9}%@?]{0,80}") {
        for span in documents(&text) {
            let mut diagnostics = Vec::new();
            let node = read(&text, span, &mut diagnostics);
            prop_assert!(node.is_none() || diagnostics.is_empty());
            let spans = diagnostics.iter().map(|diagnostic| diagnostic.span);
            for place in spans.chain(node.map(|node| node.span)) {
                prop_assert!(span.start <= place.start && place.end <= span.end, "{place:?} {span:?}");
                prop_assert!(text.get(place.start..place.end).is_some(), "{place:?}");
            }
        }
    }
}
