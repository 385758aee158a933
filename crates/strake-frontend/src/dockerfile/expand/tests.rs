use super::*;

fn env() -> Env {
    let mut env = Env::default();
    for (name, value) in [
        ("A", "alpha"),
        ("E", ""),
        ("P", "/usr/local/lib/x.tar.gz"),
        ("S", "a b  c"),
        ("T", "x*y?z\\w"),
        ("\u{dc}", "umlaut"),
        ("1", "one"),
    ] {
        env.set(name, value);
    }
    env
}

fn check(text: &str, expect: &str) {
    let result = expand(text, Style::new('\\'), &env()).map(|expansion| expansion.text);
    assert_eq!(result, Ok(expect.to_owned()), "{text}");
}

fn check_error(text: &str, expect: &str) {
    let result = expand(text, Style::new('\\'), &env()).map_err(|error| error.to_string());
    assert_eq!(result, Err(expect.to_owned()), "{text}");
}

#[test]
fn variables_are_replaced() {
    check("$A ${A} $A$A ${A}b $Ab", "alpha alpha alphaalpha alphab ");
    check("$", "$");
    check("a$", "a$");
    check("$.", "$.");
    check("$$", "");
    check("$1 $12 $@", "one  ");
    check("$\u{dc}", "umlaut");
    check("\u{20ac}$A\u{20ac}", "\u{20ac}alpha\u{20ac}");
}

#[test]
fn quotes_and_escapes_are_resolved() {
    check("'$A' \"$A\" \\$A", "$A alpha $A");
    check("\"a\\\"b\\$c\\\\d\\e\"", "a\"b$c\\d\\e");
    check("'a\\'b", "a\\b");
    check("a\\ b\\", "a b");
    check("\"'\" '\"'", "' \"");
    let backtick = expand("a`$A\\$A", Style::new('`'), &env()).unwrap();
    assert_eq!(backtick.text, "a$A\\alpha");
    check_error("'a", "single quote is never closed");
    check_error("\"a", "double quote is never closed");
}

#[test]
fn conditions_choose() {
    check("${A:-b}|${E:-b}|${U:-b}", "alpha|b|b");
    check("${A-b}|${E-b}|${U-b}", "alpha||b");
    check("${A:+b}|${E:+b}|${U:+b}", "b||");
    check("${A+b}|${E+b}|${U+b}", "b|b|");
    check("${A:?b}|${E?b}", "alpha|");
    check("${U:-${E:-${A}}}", "alpha");
    check("${U:-\"a}b\"}", "a}b");
    check("${U:-a\\}b}", "a}b");
    check("${U:-$A}", "alpha");
    check_error("${U?}", "U: is not allowed to be unset");
    check_error("${E:?}", "E: is not allowed to be empty");
    check_error("${U:?say why}", "U: say why");
}

#[test]
fn patterns_cut_and_replace() {
    check(
        "${P#*/}|${P##*/}|${P%.*}|${P%%.*}",
        "usr/local/lib/x.tar.gz|x.tar.gz|/usr/local/lib/x.tar|/usr/local/lib/x",
    );
    check("${P#x}|${P%x}", "/usr/local/lib/x.tar.gz|/usr/local/lib/x.tar.gz");
    check("${A#?}|${A%??}|${A##*}|${A#*}", "lpha|alp||alpha");
    check("${A/a/b}|${A//a/b}|${A//a/}", "blpha|blphb|lph");
    check("${P//\\//-}", "-usr-local-lib-x.tar.gz");
    check("${A/?l*h/X}", "Xa");
    check("${S// /_}", "a_b__c");
    check("${T#x\\*}|${T%%\\?*}", "y?z\\w|x*y");
    check("${U#a}${U/a/b}", "");
    check("${A#$E}|${P##*$U/}", "alpha|x.tar.gz");
    check("${A/./x}", "alpha");
    check_error(
        "${A#\\a}",
        "invalid pattern `\\a`: only * ? } / and the escape character itself can be escaped",
    );
    check_error("${A/a}", "`${…/` lacks the second `/`");
}

#[test]
fn malformed_substitutions_are_errors() {
    for text in ["${", "${A", "${A:-", "${A:", "${A/a/b", "${A#", "${U:-${A}"] {
        assert!(expand(text, Style::new('\\'), &env()).is_err(), "{text}");
    }
    check_error("${}", "`${` is not followed by a variable name");
    check_error("${:a}", "`${` is not followed by a variable name");
    check_error("${{A}}", "`${` is not followed by a variable name");
    check_error("${A.b}", "`.` is not a modifier of a substitution (known: :- - :+ + :? ? # ## % %% / //)");
    check_error("${A:=b}", "`:=` is not a modifier of a substitution (known: :- - :+ + :? ? # ## % %% / //)");
}

#[test]
fn words_are_split_outside_of_quotes() {
    let words = |text| expand(text, Style::new('\\'), &env()).unwrap().words;
    assert_eq!(words("$S d"), ["a", "b", "c", "d"]);
    assert_eq!(words("\"$S\" d\\ e 'f g'"), ["a b  c", "d e", "f g"]);
    assert_eq!(words("  "), Vec::<String>::new());
    assert_eq!(words("80 $A/tcp"), ["80", "alpha/tcp"]);
}

#[test]
fn unset_variables_are_remembered_or_kept() {
    let expansion = expand("$U ${V} ${W:-x} $A", Style::new('\\'), &env()).unwrap();
    assert_eq!(expansion.unset.into_iter().collect::<Vec<_>>(), ["U", "V"]);
    let style = Style { keep_unset: true, raw_quotes: true, ..Style::new('\\') };
    let kept = expand("$U ${V} ${W:-x} ${X#y} ${Y/a/b} '$A' \"$A\"", style, &env()).unwrap();
    assert_eq!(kept.text, "$U ${V} ${W:-x} ${X#y} ${Y/a/b} '$A' \"alpha\"");
    let plain = Style { plain_quotes: true, ..Style::new('\\') };
    assert_eq!(expand("'$A' \\$A \"", plain, &env()).unwrap().text, "'alpha' $A \"");
}

#[test]
fn growth_is_bounded() {
    let mut env = Env::default();
    env.set("A", &"x".repeat(MAX_LENGTH / 2));
    for text in ["$A$A$A", "\"$A$A$A\"", "${U:-$A$A$A}", "${A//x/yyy}"] {
        assert_eq!(expand(text, Style::new('\\'), &env), Err(ExpandError::TooLong), "{text}");
    }
    env.set("B", &"ab".repeat(200_000));
    let slow = expand("${B//*a*b*c/x}", Style::new('\\'), &env).map_err(|error| error.to_string());
    assert_eq!(slow, Err("invalid pattern `*a*b*c`: matching it takes too long".into()));
    let deep = "${U:-".repeat(10_000);
    assert_eq!(expand(&deep, Style::new('\\'), &env), Err(ExpandError::TooDeep));
}
