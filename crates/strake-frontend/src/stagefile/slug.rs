//! Names that fit everywhere (reference §3.2, §3.3).

/// The project's name: `name` if given, else the last part of the origin's URL, else the directory's name; slugged.
pub fn project_name(name: Option<&str>, origin: Option<&str>, directory: &str) -> String {
    let from_origin = || origin.map(last_part).filter(|name| !name.is_empty());
    let directory = || directory.trim_end_matches('/').rsplit('/').next().unwrap_or(directory);
    slug(name.or_else(from_origin).unwrap_or_else(directory))
}

fn last_part(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    let part = url.rsplit(['/', ':']).next().unwrap_or(url);
    part.strip_suffix(".git").unwrap_or(part)
}

/// A text of lower-case letters, digits and single dashes between them: the text itself if it is one already, else
/// what resembles it, with a checksum of the original, so that different texts stay different.
pub fn slug(text: &str) -> String {
    if is_slug(text) {
        return text.to_owned();
    }
    let hash = format!("{:08x}", murmur3(text.as_bytes()).swap_bytes());
    let clean = clean(text);
    if clean.is_empty() { hash } else { format!("{clean}-{hash}") }
}

fn is_slug(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.split('-').all(part)
}

fn clean(text: &str) -> String {
    let mut clean = String::new();
    for letter in text.chars() {
        // White space and punctuation outside ASCII is dropped, as are signs that only have a description.
        let latin = match letter.is_ascii() || !letter.is_alphanumeric() {
            true => None,
            false => deunicode::deunicode_char(letter),
        };
        let mut buffer = [0; 4];
        for letter in latin.unwrap_or(letter.encode_utf8(&mut buffer)).chars() {
            match letter.to_ascii_lowercase() {
                'a'..='z' | '0'..='9' => clean.push(letter.to_ascii_lowercase()),
                '-' | ' ' | '~' | '>' | '<' | '+' | '=' | ':' | ';' | '.' | ',' | '[' | ']' | '{' | '}'
                | '(' | ')' | '_' | '&' | '/'
                    if !clean.is_empty() && !clean.ends_with('-') =>
                {
                    clean.push('-');
                }
                _ => {}
            }
        }
    }
    clean.truncate(clean.trim_end_matches('-').len());
    clean
}

/// MurmurHash3 for x86, 32 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |word: u32| word.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = words.iter().fold(0_u32, |hash, word| {
        let mixed = (hash ^ scramble(u32::from_le_bytes(*word))).rotate_left(13);
        mixed.wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    hash ^= scramble(u32::from_le_bytes(last));
    // The algorithm takes the length modulo 2³².
    hash ^= u32::try_from(bytes.len() & 0xffff_ffff).expect("it was cut to 32 bits");
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_as_published() {
        for (text, expected) in [
            ("feature-fix-2", "feature-fix-2"),
            ("branch/one/!@#4.4-3", "branch-one-4-4-3-5589e04f"),
            ("feature/using_cache", "feature-using-cache-81644ed0"),
            ("core/feature/ADD_SETTINGS", "core-feature-add-settings-c3fd80df"),
            ("v2.3.1", "v2-3-1-5cb8b0a4"),
            ("fix/memory-leak", "fix-memory-leak-b3715a6e"),
            ("/var/cache/apt", "var-cache-apt-28143ccf"),
            ("------", "587c09c4"),
        ] {
            assert_eq!(slug(text), expected);
        }
    }

    #[test]
    fn letters_of_other_scripts_are_spelled() {
        assert!(slug("Ветка").starts_with("vetka-"), "{}", slug("Ветка"));
        assert!(slug("Größe: 3\u{a0}m").starts_with("grosse-3m-"), "{}", slug("Größe: 3\u{a0}m"));
        assert_eq!(slug("\u{1f600}").len(), 8);
        assert_eq!(slug("").len(), 8);
        assert_ne!(slug("a--b"), "a--b");
        assert_ne!(slug("a_b"), slug("a.b"));
    }

    #[test]
    fn a_project_is_named_by_whom_comes_first() {
        let origin = Some("https://github.com/symfony/symfony-demo.git");
        assert_eq!(project_name(None, origin, "/x/y"), "symfony-demo");
        assert_eq!(project_name(Some("mine"), origin, "/x/y"), "mine");
        assert_eq!(project_name(None, Some("git@host:thing.git"), "/x/y"), "thing");
        assert_eq!(project_name(None, Some("/srv/git/thing/"), "/x/y"), "thing");
        assert_eq!(project_name(None, None, "/x/y/"), "y");
        assert_eq!(project_name(None, Some(""), "/x/My App"), slug("My App"));
    }
}
