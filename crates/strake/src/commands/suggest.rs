//! What may have been meant by the name of an image that cannot be had.

use strake_engine::Environment;
use strake_engine::image::{self, ImageError};
use strake_oci::{Platform, Reference};

use crate::args::nearest;
use crate::failure::Failure;
use crate::session::Session;

/// The most names that one hint repeats.
const NAMES_MAX: usize = 5;

impl Session {
    /// Does something with an image that was named by the user, for this platform if one is wanted; if it cannot be
    /// had, near names of the local store are said.
    ///
    /// # Errors
    /// As `work`.
    pub(crate) fn with_image<T>(
        &self,
        name: &str,
        platform: Option<&Platform>,
        work: impl FnOnce(&Environment<'_>) -> Result<T, ImageError>,
    ) -> Result<T, Failure> {
        self.with(|env| {
            work(env).map_err(|error| {
                let is_about_the_name = matches!(
                    error,
                    ImageError::NotFound { .. } | ImageError::Platform { .. } | ImageError::Registry(_)
                );
                let hint = if is_about_the_name { hint(env, name, platform) } else { None };
                hint.into_iter().fold(error.into(), Failure::hint)
            })
        })
    }
}

fn hint(env: &Environment<'_>, wanted: &str, platform: Option<&Platform>) -> Option<String> {
    let wanted: Reference = wanted.parse().ok()?;
    // Whoever cannot list the store is told of that by another command.
    let images = image::list(env).ok()?;
    let parse = |name: &String, platform: &Platform| Some((name.parse().ok()?, platform.clone()));
    let names = |image: &image::ImageSummary| {
        image.names.iter().filter_map(|name| parse(name, &image.platform)).collect::<Vec<_>>()
    };
    among(&wanted, platform, &images.iter().flat_map(names).collect::<Vec<_>>())
}

fn among(wanted: &Reference, platform: Option<&Platform>, known: &[(Reference, Platform)]) -> Option<String> {
    if let Some((name, found)) = known.iter().find(|(name, _)| name == wanted) {
        let is_other = platform.is_some_and(|platform| !platform.accepts(found));
        return is_other.then(|| format!("the local store has {} for {found} only", name.familiar()));
    }
    let short = untagged(wanted);
    let same: Vec<_> =
        known.iter().filter(|(name, _)| untagged(name) == short).map(|(name, _)| name.familiar()).collect();
    if !same.is_empty() {
        let more = if same.len() > NAMES_MAX { ", …" } else { "" };
        return Some(format!("the local store has {}{more}", same[..same.len().min(NAMES_MAX)].join(", ")));
    }
    let shorts: Vec<_> = known.iter().map(|(name, _)| untagged(name)).collect();
    let near = nearest(&short, shorts.iter().map(String::as_str))?;
    let name = known.iter().find(|(name, _)| untagged(name) == near)?.0.familiar();
    Some(format!("did you mean {name}, which is in the local store?"))
}

/// The short form of a name without tag and digest.
pub(super) fn untagged(name: &Reference) -> String {
    let familiar = name.familiar();
    let end = familiar.rfind('/').map_or(0, |at| at + 1);
    let cut = familiar[end..].find([':', '@']).map_or(familiar.len(), |at| end + at);
    familiar[..cut].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_of_the_store_are_said() {
        let names = ["hello", "app:1", "app:2", "localhost:5000/team/tool", "xyz"];
        let known = names.map(|name| (name.parse().unwrap(), Platform::linux("amd64")));
        let amd64 = Platform::linux("amd64");
        let said = |wanted: &str| among(&wanted.parse().unwrap(), Some(&amd64), &known);
        assert_eq!(said("helo").as_deref(), Some("did you mean hello:latest, which is in the local store?"));
        assert_eq!(said("app").as_deref(), Some("the local store has app:1, app:2"));
        assert_eq!(
            said("localhost:5000/team/toool:9").as_deref(),
            Some("did you mean localhost:5000/team/tool:latest, which is in the local store?")
        );
        for unknown in ["debian", "abc", "hello"] {
            assert_eq!(said(unknown), None);
        }
        let arm64 = among(&"hello".parse().unwrap(), Some(&Platform::linux("arm64")), &known);
        assert_eq!(arm64.as_deref(), Some("the local store has hello:latest for linux/amd64 only"));
    }
}
