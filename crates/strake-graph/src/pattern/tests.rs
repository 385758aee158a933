use proptest::prelude::*;

use super::*;

/// (pattern, path, whether the whole path matches)
const MATCHES: &[(&str, &str, bool)] = &[
    ("abc", "abc", true),
    ("*", "abc", true),
    ("*c", "abc", true),
    ("a*", "a", true),
    ("a*", "abc", true),
    ("a*", "ab/c", false),
    ("a*/b", "abc/b", true),
    ("a*/b", "a/c/b", false),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
    ("a*b?c*x", "abxbbxdbxebxczzx", true),
    ("a*b?c*x", "abxbbxdbxebxczzy", false),
    ("ab[c]", "abc", true),
    ("ab[b-d]", "abc", true),
    ("ab[e-g]", "abc", false),
    ("ab[^c]", "abc", false),
    ("ab[^e-g]", "abc", true),
    ("a\\*b", "a*b", true),
    ("a\\*b", "ab", false),
    ("a?b", "a☺b", true),
    ("a[^a]b", "a☺b", true),
    ("a???b", "a☺b", false),
    ("[a-ζ]*", "α", true),
    ("*[a-ζ]", "A", false),
    ("a?b", "a/b", false),
    ("a[^x]b", "a/b", false),
    ("[\\]a]", "]", true),
    ("[\\-x]", "-", true),
    ("[a\\-c]", "b", false),
    ("*x", "xxx", true),
    ("**", "dir/file", true),
    ("**/", "dir/file", true),
    ("**/**", "dir/file", true),
    ("dir/**", "dir/a/file", true),
    ("dir/**", "dir", false),
    ("**/dir", "dir", true),
    ("**/dir2/*", "dir/dir2/file", true),
    ("**/dir2/**", "dir/dir2/dir3/file", true),
    ("**file", "dir/dir/file", true),
    ("**/file", "file", true),
    ("**/file", "dir/afile", false),
    ("**/**/*.txt", "file.txt", true),
    ("**/**/*.txt2", "dir/dir/file.txt", false),
    ("a**/*.txt", "a/file.txt", true),
    ("a**/*.txt", "a/dir/dir/file.txt", true),
    ("a**/*.txt", "b/file.txt", false),
    ("a/*.txt**", "a/file.txt", true),
    ("a/**/b", "a/b", true),
    ("a/**/b", "a/x/y/b", true),
    ("a/**/b", "a/xb", false),
    (".*", ".foo", true),
    (".*", "foo", false),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
    ("", "", true),
    ("", "a", false),
];

#[test]
fn globs_match_as_go_and_the_ignore_file_say() {
    for (pattern, path, expected) in MATCHES {
        let glob = Glob::new(pattern).unwrap();
        assert_eq!(glob.matches(path.as_bytes()), *expected, "{pattern} {path}");
    }
}

#[test]
fn malformed_globs_are_refused() {
    for pattern in ["[", "[a", "[]", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "a\\", "[^", "[^]", "a[\\"] {
        assert!(Glob::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn names_that_are_not_text_are_bytes() {
    assert!(Glob::new(b"a?b").unwrap().matches(b"a\xffb"));
    assert!(!Glob::new(b"a?b").unwrap().matches(b"a\xff\xfeb"));
    assert!(Glob::new(b"\xff*").unwrap().matches(b"\xffx"));
    assert!(!Glob::new(b"\xff").unwrap().matches("ÿ".as_bytes()));
    assert!(Glob::literal(b"a*[\\\xff").matches(b"a*[\\\xff"));
}

#[test]
fn a_hostile_pattern_takes_no_time() {
    let path = "a".repeat(4000);
    for pattern in ["a*".repeat(2000) + "b", "**/".repeat(500) + &"a**".repeat(500) + "b"] {
        let began = std::time::Instant::now();
        assert!(!Glob::new(&pattern).unwrap().matches(path.as_bytes()));
        assert!(began.elapsed().as_secs() < 20, "{}", &pattern[..9]);
    }
}

#[test]
fn a_glob_knows_where_it_can_reach() {
    let reaches =
        |pattern: &str, folder: &str| Glob::new(pattern).unwrap().may_match_below(folder.as_bytes());
    for (pattern, folder) in [
        ("a/b", "a"),
        ("a/b/c", "a/b"),
        ("*/b", "x"),
        ("**/b", "x/y/z"),
        ("a/**", "a/b"),
        ("a", ""),
        ("a*/c", "abc"),
        ("a\\*/c", "a*"),
    ] {
        assert!(reaches(pattern, folder), "{pattern} {folder}");
    }
    for (pattern, folder) in
        [("a/b", "b"), ("a/b", "a/b"), ("a/b", "ab"), ("ab", "a"), ("*/b", "x/y"), ("*", "x"), ("a/**", "b")]
    {
        assert!(!reaches(pattern, folder), "{pattern} {folder}");
    }
}

#[test]
fn literal_folders_can_be_replaced() {
    let replaced =
        |pattern: &str, folders: &str| Glob::new(pattern).unwrap().with_literal_folders(folders.as_bytes());
    assert_eq!(Glob::new("a/b/c*/d").unwrap().literal_folders(), b"a/b");
    assert_eq!(Glob::new("c*/d").unwrap().literal_folders(), b"");
    assert_eq!(Glob::new("a/b").unwrap().literal_folders(), b"a/b");
    assert!(replaced("a/b/c*/d", "x").matches(b"x/cc/d"));
    assert!(replaced("a/c*/d", "").matches(b"cc/d"));
    assert!(replaced("c*/d", "x/y").matches(b"x/y/c/d"));
    assert!(replaced("a/b", "x*").matches(b"x*"));
}

fn rules(text: &str) -> IgnoreRules {
    IgnoreRules::parse(text.as_bytes()).unwrap()
}

#[test]
fn ignore_rules_decide_by_the_last_match() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("", &[], &["a"]),
        ("a", &["a", "a/b", "a/b/c"], &["b/a", "ab"]),
        ("/a/", &["a", "a/b"], &["b/a"]),
        ("./a//b/../c/.", &["a/c", "a/c/d"], &["a/b"]),
        ("*", &["a", "a/b"], &[]),
        ("*\n!a/b", &["a", "c", "a/c"], &["a/b", "a/b/c"]),
        ("*.md\n!README*.md\nREADME-secret.md", &["x.md", "README-secret.md"], &["README.md", "README-x.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", &["x.md"], &["README.md", "README-secret.md"]),
        ("# comment\n  \n  a  \r\n\t\n", &["a"], &["# comment", "b"]),
        (" #a", &["#a"], &["a"]),
        ("\u{feff}a\nb", &["a", "b"], &["\u{feff}a"]),
        ("**/*.o\n! keep.o", &["x.o", "a/b/x.o", "a/keep.o"], &["keep.o"]),
        (".\n/\n", &[], &["a"]),
        ("../a\n../../x", &[], &["a", "x"]),
        ("!a", &[], &["a"]),
        ("a\n!a\na", &["a"], &[]),
        ("a\\ b", &["a b"], &["a"]),
        (
            "node_modules\n!node_modules/keep\nnode_modules/keep/x*",
            &["node_modules/keep/xy"],
            &["node_modules/keep/a"],
        ),
    ];
    for (text, ignored, kept) in cases {
        let rules = rules(text);
        for path in *ignored {
            assert!(rules.ignores(path.as_bytes()), "{text:?} ignores {path}");
        }
        for path in *kept {
            assert!(!rules.ignores(path.as_bytes()), "{text:?} keeps {path}");
        }
    }
}

#[test]
fn senseless_rules_name_their_line() {
    for (text, message) in [
        ("a\n!\n", "line 2: `!` needs a pattern that says what to bring back"),
        ("\n! \t\r\n", "line 2: `!` needs a pattern that says what to bring back"),
        ("a\nb\n[", "line 3: `[` is not a valid pattern: a `[` is not closed"),
    ] {
        assert_eq!(IgnoreRules::parse(text.as_bytes()).unwrap_err().to_string(), message);
    }
}

#[test]
fn only_folders_without_a_way_back_are_skipped() {
    let enters = |text: &str, folder: &str| rules(text).may_descend(folder.as_bytes());
    assert!(!enters("target", "target"));
    assert!(!enters("target\n!src", "target"));
    assert!(!enters("!target/x\ntarget", "target"));
    assert!(enters("target\n!target/x/y", "target"));
    assert!(enters("target\n!target/x/y", "target/x"));
    assert!(!enters("target\n!target/x/y", "target/z"));
    assert!(enters("target\n!**/keep", "target/z"));
    assert!(enters("*\n!a/*/c", "a/b"));
    assert!(enters("", "a"));
}

#[test]
fn the_line_that_hides_a_file_is_known() {
    let rules = rules("# all\n*\n!src\n");
    assert_eq!(rules.ignored_by_line(b"a/b"), Some(2));
    assert_eq!(rules.ignored_by_line(b"src/b"), None);
}

/// The definition of matching, without any cleverness.
fn naive(pattern: &[u8], path: &[u8]) -> bool {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    if stars >= 2 {
        let mut rest = &pattern[stars..];
        if rest.first() == Some(&b'/') {
            rest = &rest[1..];
        }
        if rest.is_empty() {
            return true;
        }
        return naive(rest, path)
            || (0..path.len()).any(|at| path[at] == b'/' && naive(rest, &path[at + 1..]));
    }
    match (pattern.first(), path.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            naive(&pattern[1..], path)
                || (path.first().is_some_and(|byte| *byte != b'/') && naive(pattern, &path[1..]))
        }
        (Some(b'?'), Some(byte)) => *byte != b'/' && naive(&pattern[1..], &path[1..]),
        (Some(b'['), Some(byte)) => {
            let end = pattern.iter().position(|byte| *byte == b']').unwrap();
            let negated = pattern[1] == b'^';
            let found = pattern[1 + usize::from(negated)..end].contains(byte);
            *byte != b'/' && found != negated && naive(&pattern[end + 1..], &path[1..])
        }
        (Some(wanted), Some(byte)) => wanted == byte && naive(&pattern[1..], &path[1..]),
        _ => false,
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just("/"),
        Just("*"),
        Just("?"),
        Just("**"),
        Just("**/"),
        Just("[ab]"),
        Just("[^a]")
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]{1,3}", 1..4).prop_map(|parts| parts.join("/"))
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn matching_is_what_its_definition_says(pattern in pattern(), path in path()) {
        let glob = Glob::new(&pattern).unwrap();
        prop_assert_eq!(glob.matches(path.as_bytes()), naive(pattern.as_bytes(), path.as_bytes()));
        let above = parents(&path).any(|parent| naive(pattern.as_bytes(), parent.as_bytes()));
        prop_assert_eq!(glob.matches_or_parent(path.as_bytes()), above || glob.matches(path.as_bytes()));
        if glob.matches(path.as_bytes()) {
            for parent in parents(&path) {
                prop_assert!(glob.may_match_below(parent.as_bytes()), "{}", parent);
            }
        }
    }

    #[test]
    fn what_is_kept_is_never_in_a_folder_that_is_skipped(
        lines in prop::collection::vec((any::<bool>(), pattern()), 0..6),
        path in path(),
    ) {
        let text: Vec<_> = lines.iter()
            .filter(|(_, pattern)| !pattern.is_empty())
            .map(|(exception, pattern)| format!("{}{pattern}", if *exception { "!" } else { "" }))
            .collect();
        let rules = rules(&text.join("\n"));
        if !rules.ignores(path.as_bytes()) {
            for parent in parents(&path) {
                prop_assert!(rules.may_descend(parent.as_bytes()), "{}", parent);
            }
        }
    }

    #[test]
    fn any_bytes_give_rules_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60), path in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(rules) = IgnoreRules::parse(&bytes) {
            rules.ignores(&path);
            rules.may_descend(&path);
        }
    }
}
