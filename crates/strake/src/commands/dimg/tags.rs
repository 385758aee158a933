//! Which tags are meant (reference stage-cache §5.4).

use std::collections::BTreeSet;

use strake_frontend::stagefile::slug;

use crate::args::TagNames;
use crate::failure::Failure;

/// Where a tag comes from; decides when cleaning up may remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scheme {
    /// The user's choice.
    Custom,
    /// A tag of the repository.
    GitTag,
    /// A branch of the repository.
    GitBranch,
    /// A commit of the repository.
    GitCommit,
    /// A build of the CI system.
    Ci,
}

impl Scheme {
    /// As labels and headings say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::GitTag => "git_tag",
            Self::GitBranch => "git_branch",
            Self::GitCommit => "git_commit",
            Self::Ci => "ci",
        }
    }
}

/// What tags are made of, besides what was typed.
pub(super) struct Surroundings<'a> {
    /// A variable of the environment, unless it is empty.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The branch that is checked out, if any.
    pub(super) branch: &'a dyn Fn() -> Result<Option<String>, Failure>,
    /// The commit that is checked out, if any.
    pub(super) commit: &'a dyn Fn() -> Result<Option<String>, Failure>,
}

/// The tags that are asked for, by scheme, each once.
///
/// # Errors
/// When one is asked for that there is nothing to make of.
pub(super) fn tags(
    args: &TagNames,
    around: &Surroundings<'_>,
) -> Result<BTreeSet<(Scheme, String)>, Failure> {
    let first = |names: &[&str]| names.iter().find_map(|name| (around.variable)(name));
    let mut tags = BTreeSet::new();
    tags.extend(args.tags.iter().map(|tag| (Scheme::Custom, slug(tag))));
    tags.extend(args.plain_tags.iter().map(|tag| (Scheme::Custom, tag.clone())));
    if args.tag_branch {
        let branch = (around.branch)()?.ok_or_else(|| {
            Failure::input("--tag-branch: no branch is checked out")
                .hint("check one out, or use --tag-commit")
        })?;
        tags.insert((Scheme::GitBranch, slug(&branch)));
    }
    if args.tag_commit {
        let commit = (around.commit)()?.ok_or_else(|| Failure::input("--tag-commit: there is no commit"))?;
        tags.insert((Scheme::GitCommit, commit));
    }
    if args.tag_build_id {
        let id = first(&["CI_BUILD_ID", "CI_JOB_ID", "TRAVIS_BUILD_NUMBER"]);
        tags.insert((Scheme::Ci, id.ok_or_else(|| outside_ci("--tag-build-id"))?));
    }
    if args.tag_ci {
        let tag = first(&["CI_BUILD_TAG", "CI_COMMIT_TAG", "TRAVIS_TAG"]);
        let branch = || first(&["CI_BUILD_REF_NAME", "CI_COMMIT_REF_NAME", "TRAVIS_BRANCH"]);
        let tag = tag.map(|tag| (Scheme::GitTag, slug(&tag)));
        let tag = tag.or_else(|| branch().map(|branch| (Scheme::GitBranch, slug(&branch))));
        tags.insert(tag.ok_or_else(|| outside_ci("--tag-ci"))?);
    }
    if tags.is_empty() {
        tags.insert((Scheme::Custom, "latest".to_owned()));
    }
    Ok(tags)
}

fn outside_ci(option: &str) -> Failure {
    Failure::input(format!("{option}: this is no build of GitLab or Travis"))
        .hint("name a tag with --tag, or use --tag-branch")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, DimgArgs, DimgCommand};

    fn made(options: &str, variables: &[(&str, &str)], branch: Option<&str>) -> Result<String, Failure> {
        let words = format!("strake dimg tag {options} repo");
        let Command::Dimg(DimgArgs { command: DimgCommand::Tag(args) }) =
            Cli::try_parse_from(words.split_whitespace()).unwrap().command
        else {
            panic!("{words}");
        };
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let around = Surroundings {
            variable: &variable,
            branch: &|| Ok(branch.map(str::to_owned)),
            commit: &|| Ok(Some("c0ffee".to_owned())),
        };
        let tags = tags(&args.tags, &around)?;
        Ok(tags.iter().map(|(scheme, tag)| format!("{}={tag}", scheme.name())).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn tags_come_from_what_is_typed_git_and_ci() {
        assert_eq!(made("", &[], None).unwrap(), "custom=latest");
        assert_eq!(
            made("--tag v2.3.1 --tag-slug x --tag-plain v2.3.1 --tag x", &[], None).unwrap(),
            "custom=v2-3-1-5cb8b0a4 custom=v2.3.1 custom=x"
        );
        assert_eq!(
            made("--tag-branch --tag-commit", &[], Some("fix/memory-leak")).unwrap(),
            "git_branch=fix-memory-leak-b3715a6e git_commit=c0ffee"
        );
        assert!(made("--tag-branch", &[], None).is_err());
        let gitlab = [("CI_JOB_ID", "17"), ("CI_COMMIT_REF_NAME", "main")];
        assert_eq!(made("--tag-ci --tag-build-id", &gitlab, None).unwrap(), "git_branch=main ci=17");
        let travis = [("TRAVIS_TAG", "v1"), ("TRAVIS_BRANCH", "main")];
        assert_eq!(made("--tag-ci", &travis, None).unwrap(), "git_tag=v1");
        assert!(made("--tag-ci", &[], None).unwrap_err().message.starts_with("--tag-ci: "));
        assert!(made("--tag-build-id", &[], None).is_err());
    }
}
