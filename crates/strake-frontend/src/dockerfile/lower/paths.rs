//! Paths inside an image, as text: nothing here looks at a file system.

/// An absolute path without `.`, `..`, double and trailing slashes. `..` of the root is the root.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `path`, seen from `directory` if it is relative; cleaned.
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{directory}/{path}")) }
}

/// Like [`join`], but a path that can only mean a directory ends in a slash.
pub(super) fn join_keeping_slash(directory: &str, path: &str) -> String {
    let joined = join(directory, path);
    if names_directory(path) && joined != "/" { joined + "/" } else { joined }
}

/// Whether a path can only mean a directory. The empty one means the working directory.
pub(super) fn names_directory(path: &str) -> bool {
    path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.")
}

/// A pattern for files below the root of a source: cleaned, relative; `.` is the root itself.
pub(super) fn source_pattern(path: &str) -> String {
    let cleaned = clean(path);
    match cleaned.get(1..) {
        None | Some("") => ".".to_owned(),
        Some(relative) => relative.to_owned(),
    }
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(clean("../../x"), "/x");
        assert_eq!(clean(""), "/");
        assert_eq!(join("/w", "a/../../b"), "/b");
        assert_eq!(join("/w/", "/a"), "/a");
        assert_eq!(join_keeping_slash("/w", "a/"), "/w/a/");
        assert_eq!(join_keeping_slash("/w", "."), "/w/");
        assert_eq!(join_keeping_slash("/", "."), "/");
        assert_eq!(join_keeping_slash("/w", ""), "/w/");
        assert_eq!(join_keeping_slash("/w", "/a/."), "/a/");
        assert_eq!(join_keeping_slash("/w", ".."), "/");
        assert_eq!(source_pattern("../../etc/*"), "etc/*");
        assert_eq!(source_pattern("./"), ".");
        assert_eq!(base_name("/a/b/"), "b");
    }
}
