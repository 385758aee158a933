use std::fmt;

/// A stage whose instructions come from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserStage {
    /// Before any source is in the image.
    BeforeInstall,
    /// What is rebuilt when what it watches changes.
    Install,
    /// As above.
    BeforeSetup,
    /// As above.
    Setup,
    /// The last stage of an artifact, and only of those.
    BuildArtifact,
}

impl UserStage {
    /// All, in the order of the conveyor.
    pub const ALL: [Self; 5] =
        [Self::BeforeInstall, Self::Install, Self::BeforeSetup, Self::Setup, Self::BuildArtifact];

    /// The key in the file.
    pub fn key(self) -> &'static str {
        match self {
            Self::BeforeInstall => "beforeInstall",
            Self::Install => "install",
            Self::BeforeSetup => "beforeSetup",
            Self::Setup => "setup",
            Self::BuildArtifact => "buildArtifact",
        }
    }

    /// The key of its cache version in the file.
    pub fn version_key(self) -> &'static str {
        match self {
            Self::BeforeInstall => "beforeInstallCacheVersion",
            Self::Install => "installCacheVersion",
            Self::BeforeSetup => "beforeSetupCacheVersion",
            Self::Setup => "setupCacheVersion",
            Self::BuildArtifact => "buildArtifactCacheVersion",
        }
    }
}

/// Where in the conveyor an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImportPosition {
    /// `before: install`
    BeforeInstall,
    /// `after: install`
    AfterInstall,
    /// `before: setup`
    BeforeSetup,
    /// `after: setup`
    AfterSetup,
}

/// A stage of a conveyor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    /// The base image, with the targets of mounts emptied.
    From,
    /// Instructions.
    BeforeInstall,
    /// Imports.
    BeforeInstallArtifact,
    /// The mapped files of the current commit.
    GitArchive,
    /// What changed since, for `install`.
    GitPreInstallPatch,
    /// Instructions.
    Install,
    /// What changed since, for `before_setup`.
    GitPostInstallPatch,
    /// Imports.
    AfterInstallArtifact,
    /// Instructions.
    BeforeSetup,
    /// Imports.
    BeforeSetupArtifact,
    /// What changed since, for `setup`.
    GitPreSetupPatch,
    /// Instructions.
    Setup,
    /// What changed since, renewed with every further MiB of changes.
    GitPostSetupPatch,
    /// Imports.
    AfterSetupArtifact,
    /// What changed since then.
    GitLatestPatch,
    /// What changes only the configuration of the image.
    DockerInstructions,
    /// What changed since, for `build_artifact`.
    GitArtifactPatch,
    /// Instructions.
    BuildArtifact,
}

impl StageKind {
    /// The conveyor of a dimg (reference §5.1).
    pub const DIMG: [Self; 16] = [
        Self::From,
        Self::BeforeInstall,
        Self::BeforeInstallArtifact,
        Self::GitArchive,
        Self::GitPreInstallPatch,
        Self::Install,
        Self::GitPostInstallPatch,
        Self::AfterInstallArtifact,
        Self::BeforeSetup,
        Self::BeforeSetupArtifact,
        Self::GitPreSetupPatch,
        Self::Setup,
        Self::GitPostSetupPatch,
        Self::AfterSetupArtifact,
        Self::GitLatestPatch,
        Self::DockerInstructions,
    ];

    /// The conveyor of an artifact (reference §5.2).
    pub const ARTIFACT: [Self; 15] = [
        Self::From,
        Self::BeforeInstall,
        Self::BeforeInstallArtifact,
        Self::GitArchive,
        Self::GitPreInstallPatch,
        Self::Install,
        Self::GitPostInstallPatch,
        Self::AfterInstallArtifact,
        Self::BeforeSetup,
        Self::BeforeSetupArtifact,
        Self::GitPreSetupPatch,
        Self::Setup,
        Self::AfterSetupArtifact,
        Self::GitArtifactPatch,
        Self::BuildArtifact,
    ];

    /// What introspection options and labels call it.
    pub fn id(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::BeforeInstall => "before_install",
            Self::BeforeInstallArtifact => "before_install_artifact",
            Self::GitArchive => "g_a_archive",
            Self::GitPreInstallPatch => "g_a_pre_install_patch",
            Self::Install => "install",
            Self::GitPostInstallPatch => "g_a_post_install_patch",
            Self::AfterInstallArtifact => "after_install_artifact",
            Self::BeforeSetup => "before_setup",
            Self::BeforeSetupArtifact => "before_setup_artifact",
            Self::GitPreSetupPatch => "g_a_pre_setup_patch",
            Self::Setup => "setup",
            Self::GitPostSetupPatch => "g_a_post_setup_patch",
            Self::AfterSetupArtifact => "after_setup_artifact",
            Self::GitLatestPatch => "g_a_latest_patch",
            Self::DockerInstructions => "docker_instructions",
            Self::GitArtifactPatch => "g_a_artifact_patch",
            Self::BuildArtifact => "build_artifact",
        }
    }

    /// What is printed, letter for letter.
    pub fn title(self) -> &'static str {
        match self {
            Self::From => "From",
            Self::BeforeInstall => "Before install",
            Self::BeforeInstallArtifact => "Before install artifact",
            Self::GitArchive => "Git artifacts: create archive",
            Self::GitPreInstallPatch => "Git artifacts: apply patches (before install)",
            Self::Install => "Install",
            Self::GitPostInstallPatch => "Git artifacts: apply patches (after install)",
            Self::AfterInstallArtifact => "After install artifact",
            Self::BeforeSetup => "Before setup",
            Self::BeforeSetupArtifact => "Before setup artifact",
            Self::GitPreSetupPatch => "Git artifacts: apply patches (before setup)",
            Self::Setup => "Setup",
            Self::GitPostSetupPatch => "Git artifacts: apply patches (after setup)",
            Self::AfterSetupArtifact => "After setup artifact",
            Self::GitLatestPatch => "Git artifacts: latest patch",
            Self::DockerInstructions => "Docker instructions",
            Self::GitArtifactPatch => "Git artifacts: artifact patch",
            Self::BuildArtifact => "Build artifact",
        }
    }

    /// The heading it is printed under, if any.
    pub fn group(self) -> Option<&'static str> {
        match self {
            Self::GitPreInstallPatch | Self::Install | Self::GitPostInstallPatch => Some("Install group"),
            Self::GitPreSetupPatch | Self::Setup | Self::GitPostSetupPatch => Some("Setup group"),
            _ => None,
        }
    }

    /// The stage with this [`StageKind::id`].
    pub fn from_id(id: &str) -> Option<Self> {
        Self::DIMG.into_iter().chain(Self::ARTIFACT).find(|kind| kind.id() == id)
    }

    /// The user stage that this is.
    pub fn user_stage(self) -> Option<UserStage> {
        match self {
            Self::BeforeInstall => Some(UserStage::BeforeInstall),
            Self::Install => Some(UserStage::Install),
            Self::BeforeSetup => Some(UserStage::BeforeSetup),
            Self::Setup => Some(UserStage::Setup),
            Self::BuildArtifact => Some(UserStage::BuildArtifact),
            _ => None,
        }
    }

    /// The user stage that this patch is made for (reference §5.3).
    pub fn related(self) -> Option<UserStage> {
        match self {
            Self::GitPreInstallPatch => Some(UserStage::Install),
            Self::GitPostInstallPatch => Some(UserStage::BeforeSetup),
            Self::GitPreSetupPatch => Some(UserStage::Setup),
            Self::GitArtifactPatch => Some(UserStage::BuildArtifact),
            _ => None,
        }
    }

    /// The imports that this stage is for.
    pub fn import_position(self) -> Option<ImportPosition> {
        match self {
            Self::BeforeInstallArtifact => Some(ImportPosition::BeforeInstall),
            Self::AfterInstallArtifact => Some(ImportPosition::AfterInstall),
            Self::BeforeSetupArtifact => Some(ImportPosition::BeforeSetup),
            Self::AfterSetupArtifact => Some(ImportPosition::AfterSetup),
            _ => None,
        }
    }

    /// Whether it brings the mapped files to the current commit.
    pub fn is_git(self) -> bool {
        self == Self::GitArchive || self.is_patch()
    }

    /// Whether it brings what is already in the image to the current commit.
    pub fn is_patch(self) -> bool {
        self.related().is_some() || matches!(self, Self::GitPostSetupPatch | Self::GitLatestPatch)
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_stages() {
        for kind in StageKind::DIMG.into_iter().chain(StageKind::ARTIFACT) {
            assert_eq!(StageKind::from_id(kind.id()), Some(kind));
        }
        assert_eq!(StageKind::from_id("nonsense"), None);
    }

    #[test]
    fn a_patch_stands_somewhere_before_the_stage_it_serves() {
        for conveyor in [&StageKind::DIMG[..], &StageKind::ARTIFACT[..]] {
            for (at, kind) in conveyor.iter().enumerate() {
                let Some(related) = kind.related() else { continue };
                let served = conveyor.iter().position(|kind| kind.user_stage() == Some(related));
                assert!(served.is_some_and(|served| served > at), "{kind}");
            }
        }
    }
}
