//! Mappings and imports that reach into each other's targets (reference §7.8).

use strake_graph::Span;

/// What a mapping or import covers in the image.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) to: String,
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    /// What others name within it.
    pub(super) yields: Vec<String>,
    pub(super) span: Span,
}

impl Target {
    /// The paths that it covers; none if it is everything.
    fn covers(&self) -> Vec<String> {
        match (self.to.as_str(), self.include.as_slice()) {
            ("/", []) => Vec::new(),
            (to, []) => vec![to.to_owned()],
            (_, include) => include.iter().map(|path| self.join(path)).collect(),
        }
    }

    fn join(&self, path: &str) -> String {
        format!("{}/{}", self.to.trim_end_matches('/'), path.trim_end_matches('/'))
    }
}

/// Keeps each target out of those within it, by excludes added to the outer one (these are part of signatures), and out
/// of what an outer one names within it.
///
/// # Errors
/// The two targets that cannot be separated, by their places in the slice.
pub(super) fn separate(targets: &mut [Target]) -> Result<(), (usize, usize)> {
    for outer in 0..targets.len() {
        for inner in 0..targets.len() {
            if outer != inner {
                let inside = targets[inner].clone();
                exclude(&mut targets[outer], &inside)
                    .map_err(|Inseparable| (outer.min(inner), outer.max(inner)))?;
                let around = targets[outer].clone();
                yield_to(&mut targets[inner], &around);
            }
        }
    }
    Ok(())
}

struct Inseparable;

fn exclude(outer: &mut Target, inner: &Target) -> Result<(), Inseparable> {
    if !is_below(&inner.to, &outer.to) {
        return Ok(());
    }
    let covered = outer.covers();
    let reached = inner.covers();
    if covered.is_empty() && reached.is_empty() {
        return Err(Inseparable);
    }
    for path in reached {
        if covered.contains(&path) {
            return Err(Inseparable);
        }
        let narrower = covered.iter().any(|covered| is_below(covered, &path));
        let excluded = outer.exclude.iter().any(|excluded| is_below(&path, &outer.join(excluded)));
        if !narrower && !excluded {
            let relative = path.strip_prefix(outer.to.trim_end_matches('/')).unwrap_or(&path);
            outer.exclude.push(relative.trim_start_matches('/').to_owned());
        }
    }
    Ok(())
}

/// Keeps the inner target out of what the outer one names within it: whoever names less has it.
fn yield_to(inner: &mut Target, outer: &Target) {
    // Of two with the same target each is the outer one once.
    if inner.to == outer.to || !is_below(&inner.to, &outer.to) {
        return;
    }
    let reached = inner.covers();
    for path in outer.covers() {
        let is_within = reached.iter().any(|reached| is_below(&path, reached));
        let excluded = inner.exclude.iter().any(|excluded| is_below(&path, &inner.join(excluded)));
        if is_within && !excluded {
            let relative = path.strip_prefix(inner.to.as_str()).unwrap_or(&path);
            inner.yields.push(relative.trim_start_matches('/').to_owned());
        }
    }
}

/// Whether a path is another one or below it.
fn is_below(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(to: &str, include: &[&str], exclude: &[&str]) -> Target {
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        Target {
            to: to.into(),
            include: owned(include),
            exclude: owned(exclude),
            yields: Vec::new(),
            span: Span::default(),
        }
    }

    /// What is yielded stands behind the excludes, with a mark.
    fn check(targets: &[(&str, &[&str], &[&str])], expected: Result<&[&[&str]], (usize, usize)>) {
        let mut made: Vec<_> =
            targets.iter().map(|(to, include, exclude)| target(to, include, exclude)).collect();
        let result = separate(&mut made);
        let patterns = |target: &Target| {
            let yields = target.yields.iter().map(|path| format!("~{path}"));
            target.exclude.iter().cloned().chain(yields).collect::<Vec<_>>()
        };
        let found: Vec<_> = made.iter().map(patterns).collect();
        match expected {
            Ok(expected) => {
                let expected = expected.iter().map(|one| one.iter().map(|path| (*path).to_owned()).collect());
                assert_eq!((result, found), (Ok(()), expected.collect()))
            }
            Err(pair) => assert_eq!(result, Err(pair)),
        }
    }

    #[test]
    fn the_inner_target_is_kept_out_of_the_outer_one() {
        check(&[("/app", &[], &[]), ("/app/vendor", &[], &[])], Ok(&[&["vendor"], &[]]));
        check(&[("/app/vendor", &[], &[]), ("/", &[], &[])], Ok(&[&[], &["app/vendor"]]));
        check(&[("/app", &[], &[]), ("/apple", &[], &[])], Ok(&[&[], &[]]));
        check(&[("/app", &[], &["vendor"]), ("/app/vendor/x", &[], &[])], Ok(&[&["vendor"], &[]]));
        check(&[("/app", &[], &[]), ("/app", &["a", "b"], &[])], Ok(&[&["a", "b"], &[]]));
        check(&[("/app", &["a"], &[]), ("/app", &["b"], &[])], Ok(&[&["b"], &["a"]]));
        check(&[("/a", &[], &[]), ("/a/b", &[], &[]), ("/a/b/c", &[], &[])], Ok(&[&["b"], &["c"], &[]]));
    }

    #[test]
    fn what_is_named_within_another_target_has_its_place_to_itself() {
        check(&[("/app", &["x/y"], &[]), ("/app/x", &[], &[])], Ok(&[&[], &["~y"]]));
        check(&[("/app/x", &[], &[]), ("/app", &["x/*.js", "z"], &[])], Ok(&[&["~*.js"], &[]]));
        check(&[("/app", &["x/s/t"], &[]), ("/app/x", &["s", "u"], &[])], Ok(&[&["x/u"], &["~s/t"]]));
        check(&[("/", &["x/y"], &[]), ("/x", &[], &["y"])], Ok(&[&[], &["y"]]));
    }

    #[test]
    fn what_means_the_same_path_cannot_be_separated() {
        check(&[("/app", &[], &[]), ("/app", &[], &[])], Err((0, 1)));
        check(&[("/", &[], &[]), ("/", &[], &[])], Err((0, 1)));
        check(&[("/app", &["a"], &[]), ("/app/a", &[], &[])], Err((0, 1)));
        check(&[("/x", &[], &[]), ("/app", &["a", "b"], &[]), ("/app", &["b"], &[])], Err((1, 2)));
    }
}
