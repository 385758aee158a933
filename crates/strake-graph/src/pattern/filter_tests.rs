use proptest::prelude::*;

use super::{Glob, PathFilter};

fn filter(include: &[&str], exclude: &[&str]) -> PathFilter {
    PathFilter::new(include, exclude).unwrap()
}

fn check(include: &[&str], exclude: &[&str], taken: &[&str], left: &[&str]) {
    let filter = filter(include, exclude);
    for path in taken {
        assert!(filter.matches(path.as_bytes()), "{path} takes part in {filter:?}");
        for (at, _) in path.match_indices('/') {
            assert!(filter.may_match_below(&path.as_bytes()[..at]), "{filter:?} enters {}", &path[..at]);
        }
    }
    for path in left {
        assert!(!filter.matches(path.as_bytes()), "{path} takes no part in {filter:?}");
    }
}

#[test]
fn without_patterns_everything_takes_part() {
    check(&[], &[], &["a", "a/b", ".hidden"], &[]);
    assert!(filter(&[], &[]).is_empty());
    assert!(filter(&[], &[]).may_match_below(b""));
}

#[test]
fn a_pattern_is_a_file_a_folder_or_a_glob() {
    check(&["src"], &[], &["src", "src/a", "src/a/b"], &["srcs", "a/src", "lib"]);
    check(&["src/"], &[], &["src/a"], &["srcs"]);
    check(&["*.php"], &[], &["a.php", ".php", "lib.php/deep/er"], &["x/a.php", "a.phpx"]);
    check(&["**/*.php"], &[], &["a.php", "x/a.php", "x/y/a.php", "x/a.php/b"], &["a.txt"]);
    check(&["a?c/[xy]"], &[], &["abc/x", "abc/y/z"], &["ac/x", "abc/z"]);
    check(&["**"], &[], &["a", "a/b"], &[]);
}

#[test]
fn wildcards_are_also_taken_letter_for_letter() {
    check(&["a[b]"], &[], &["a[b]", "a[b]/c", "ab", "ab/c"], &["a[c]"]);
}

#[test]
fn excludes_beat_includes() {
    check(&["src"], &["src/gen", "**/*.md"], &["src/a"], &["src/gen", "src/gen/a", "src/x/read.md"]);
    let filter = filter(&["src"], &["src/gen"]);
    assert!(!filter.may_match_below(b"src/gen"));
    assert!(!filter.may_match_below(b"lib"));
    assert!(filter.may_match_below(b"src"));
    assert!(filter.may_match_below(b""));
}

#[test]
fn a_malformed_pattern_is_refused() {
    assert!(PathFilter::new(["[a"], [""; 0]).is_err());
    assert!(PathFilter::new([""; 0], ["a\\"]).is_err());
}

/// What the definition says, component by component and without any state machine.
fn says_the_definition(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_end_matches('/');
    let glob = Glob::new(pattern).unwrap();
    let mut prefixes = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
    prefixes.any(|prefix| prefix == pattern || glob.matches(prefix.as_bytes()))
}

proptest! {
    #[test]
    fn a_filter_is_its_definition(
        include in proptest::collection::vec("[ab*?]{1,2}(/(\\*\\*|[ab*]{1,2})){0,2}/?", 0..3),
        exclude in proptest::collection::vec("[ab*?]{1,2}(/(\\*\\*|[ab*]{1,2})){0,2}/?", 0..3),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let filter = PathFilter::new(&include, &exclude).unwrap();
        let any = |patterns: &[String]| patterns.iter().any(|pattern| says_the_definition(pattern, &path));
        let expected = (include.is_empty() || any(&include)) && !any(&exclude);
        prop_assert_eq!(filter.matches(path.as_bytes()), expected);
        if expected {
            // A walk that asks before it enters a folder must come to every file that takes part.
            for (at, _) in path.match_indices('/') {
                prop_assert!(filter.may_match_below(&path.as_bytes()[..at]));
            }
            prop_assert!(filter.may_match_below(b""));
        }
    }
}
