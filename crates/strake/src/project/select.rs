//! Which images of a stage file are meant.

use strake_frontend::stagefile::{ImageId, StageFile};
use strake_graph::pattern::Glob;

use crate::args::nearest;
use crate::failure::Failure;

/// The images that names and shell patterns mean, in the order of the file; without any, all. The image without a name
/// is meant by every pattern.
///
/// # Errors
/// When a pattern is wrong or means no image.
pub(crate) fn select(file: &StageFile, patterns: &[String]) -> Result<Vec<ImageId>, Failure> {
    let mut selected = Vec::new();
    for pattern in patterns {
        let glob = Glob::new(pattern).map_err(|error| Failure::input(format!("DIMG {pattern}: {error}")))?;
        let is_meant =
            |name: Option<&str>| name.is_none_or(|name| name == pattern || glob.matches(name.as_bytes()));
        let meant = file.dimgs().filter(|(_, image)| is_meant(image.name.as_str())).map(|(id, _)| id);
        let before = selected.len();
        selected.extend(meant);
        if selected.len() == before {
            return Err(unknown(file, pattern));
        }
    }
    let dimgs = file.dimgs().map(|(id, _)| id);
    Ok(dimgs.filter(|id| patterns.is_empty() || selected.contains(id)).collect())
}

fn unknown(file: &StageFile, pattern: &str) -> Failure {
    let failure = Failure::input(format!("the stage file has no dimg {pattern}"));
    let names: Vec<_> = file.dimgs().filter_map(|(_, image)| image.name.as_str()).collect();
    let is_artifact =
        file.images().any(|(_, image)| image.is_artifact() && image.name.as_str() == Some(pattern));
    match nearest(pattern, names.iter().copied()) {
        _ if is_artifact => failure.hint("it is an artifact: it is built when a dimg needs it"),
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None if names.len() <= 20 => failure.hint(format!("it has {}", names.join(", "))),
        None => failure.hint("`strake dimg list` lists them"),
    }
}

#[cfg(test)]
mod tests {
    use strake_frontend::stagefile::parse;

    use super::*;

    fn selected(text: &str, patterns: &[&str]) -> Result<Vec<String>, Failure> {
        let file = parse(text).file.unwrap();
        let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let ids = select(&file, &patterns)?;
        Ok(ids.into_iter().map(|id| file.image(id).name.to_string()).collect())
    }

    #[test]
    fn names_and_patterns_select_in_the_order_of_the_file() {
        let text = "dimg: [web-a, api, web-b]\nfrom: x\n---\nartifact: tools\nfrom: x\n";
        assert_eq!(selected(text, &[]).unwrap(), ["web-a", "api", "web-b"]);
        assert_eq!(selected(text, &["web-b", "ap?", "web-b"]).unwrap(), ["api", "web-b"]);
        assert_eq!(selected(text, &["web-*"]).unwrap(), ["web-a", "web-b"]);
        assert_eq!(selected(text, &["[aw]*"]).unwrap().len(), 3);
        let hint = |pattern: &str| selected(text, &["api", pattern]).unwrap_err().hints.join("");
        assert_eq!(hint("web-c"), "did you mean web-a?");
        assert_eq!(hint("frontend"), "it has web-a, api, web-b");
        assert!(hint("tools").contains("artifact"));
        assert!(selected(text, &["["]).is_err());
    }

    #[test]
    fn the_nameless_image_is_meant_by_everything() {
        for pattern in ["~", "web", "*"] {
            assert_eq!(selected("dimg: ~\nfrom: x\n", &[pattern]).unwrap(), ["~"]);
        }
    }
}
