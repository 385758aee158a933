//! Which of some names was meant.

/// The nearest of `names` if it is near enough to be meant: at most a third of its letters differ.
pub(crate) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance is quadratic, and nobody mistypes a name into something of this length.
    if written.len() > 64 {
        return None;
    }
    let near = |name: &&str| distance(written, name) <= name.len().div_ceil(3).min(3);
    names.into_iter().filter(near).min_by_key(|name| distance(written, name))
}

/// The number of letters to change, add, drop, or swap with the next (optimal string alignment), without regard to
/// case.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut two_above = above.clone();
    for (i, letter) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let changed = above[j] + usize::from(letter != other);
            let is_swapped = i > 0 && j > 0 && *letter == b[j - 1] && a[i - 1] == *other;
            let swapped = if is_swapped { two_above[j - 1] + 1 } else { usize::MAX };
            row.push(changed.min(above[j + 1] + 1).min(row[j] + 1).min(swapped));
        }
        two_above = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_only() {
        let names = ["local", "registry", "dest"];
        assert_eq!(nearest("locla", names), Some("local"));
        assert_eq!(nearest("Registri", names), Some("registry"));
        assert_eq!(nearest("zip", names), None);
        assert_eq!(nearest("scr", ["id", "src"]), Some("src"));
        assert_eq!(nearest("srcx", ["id", "src"]), Some("src"));
        assert_eq!(nearest("crs", ["id", "src"]), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), names), None);
    }
}
