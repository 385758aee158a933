//! The builders that are measured, each with a store of its own and the same base image.

use std::path::{Path, PathBuf};
use std::process::Command;

use strake_testkit::{Base, Builder, Dockerd, Failure, Outcome, Sandbox};

use crate::measure::{Cost, Watch, cost, high_water, reset_high_water};

/// Who builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Strake,
    Classic,
    BuildKit,
    Buildah,
}

/// All of them, in the order they take turns.
pub(crate) const PEERS: [Peer; 4] = [Peer::Strake, Peer::Classic, Peer::BuildKit, Peer::Buildah];

/// The stores and the daemon.
#[derive(Debug)]
pub(crate) struct Peers {
    strake: PathBuf,
    directory: PathBuf,
    docker: Dockerd,
    base: PathBuf,
}

impl Peers {
    /// Starts the daemon and gives everybody the base image `busybox`.
    pub(crate) fn start(strake: &str, directory: &Path, sandbox: &Sandbox) -> Outcome<Self> {
        let docker = Dockerd::shared()?;
        let base = sandbox.base_archive(Base::Busybox, "busybox")?;
        let config = directory.join("config");
        std::fs::create_dir(&config).map_err(Failure::at("create a directory"))?;
        // buildah insists on the file.
        std::fs::write(config.join("config.json"), "{}")
            .map_err(Failure::at("write an empty config.json"))?;
        let peers = Self { strake: strake.into(), directory: directory.into(), docker, base };
        for peer in PEERS {
            peers.load_base(peer)?;
        }
        Ok(peers)
    }

    /// Builds `directory` and names the result `tag`; the cache is used.
    pub(crate) fn build(&self, peer: Peer, tag: &str, directory: &Path, watch: Watch) -> Outcome<Cost> {
        let mut command = self.command(peer);
        match peer {
            Peer::Strake | Peer::Classic | Peer::BuildKit => {
                command.args(["build", "--quiet", "--network=none"])
            }
            Peer::Buildah => command.args([
                "build",
                "--quiet",
                "--layers",
                "--network=none",
                "--runtime=runc",
                "--pull-never",
                "--tls-verify=false",
            ]),
        };
        command.args(["--tag", tag]).arg(directory);
        self.measured(peer, command, watch)
    }

    /// Gives strake a root file system as a base image.
    pub(crate) fn import(&self, tar: &Path, name: &str) -> Outcome<()> {
        let mut command = self.command(Peer::Strake);
        command.arg("import").arg(tar).arg(name);
        cost(command, Watch::Nothing).map(drop)
    }

    /// Builds the stage file in `directory`. Only strake knows such files.
    pub(crate) fn stage_file(&self, directory: &Path, words: &[&str]) -> Outcome<Cost> {
        let mut command = self.command(Peer::Strake);
        command.args(["dimg", "build"]).args(words).current_dir(directory).env("STRAKE_CA_CERTS", "host");
        self.measured(Peer::Strake, command, Watch::Nothing)
    }

    /// The same as [`Self::build`], but base images may come from a registry on loopback.
    pub(crate) fn build_from_registry(
        &self,
        peer: Peer,
        tag: &str,
        directory: &Path,
        watch: Watch,
    ) -> Outcome<Cost> {
        if peer != Peer::Buildah {
            return self.build(peer, tag, directory, watch);
        }
        let mut command = self.command(peer);
        command.args([
            "build",
            "--quiet",
            "--layers",
            "--network=none",
            "--runtime=runc",
            "--tls-verify=false",
            "--tag",
            tag,
        ]);
        command.arg(directory);
        self.measured(peer, command, watch)
    }

    /// Pushes `tag`, whose registry is on loopback.
    pub(crate) fn push(&self, peer: Peer, tag: &str) -> Outcome<Cost> {
        let mut command = self.command(peer);
        command.arg("push");
        if peer == Peer::Buildah {
            command.args(["--quiet", "--tls-verify=false", "--compression-format=gzip"]);
        }
        command.arg(tag);
        self.measured(peer, command, Watch::Nothing)
    }

    /// Forgets everything a builder knows, except the base image.
    pub(crate) fn forget(&self, peer: Peer) -> Outcome<()> {
        match peer {
            Peer::Strake | Peer::Buildah => {
                let aside = self.store(peer).with_extension("old");
                std::fs::rename(self.store(peer), &aside).map_err(Failure::at("set the store aside"))?;
                std::fs::remove_dir_all(&aside)
                    .map_err(Failure::at(format!("remove {}", aside.display())))?;
            }
            Peer::Classic | Peer::BuildKit => {
                self.docker
                    .client(Builder::Classic)
                    .args(["image", "prune", "--all", "--force"])
                    .succeed()?;
                self.docker
                    .client(Builder::BuildKit)
                    .args(["builder", "prune", "--all", "--force"])
                    .succeed()?;
            }
        }
        self.load_base(peer)
    }

    /// Makes a store of strake beside its own, with the base image.
    pub(crate) fn prepare(&self, store: &Path) -> Outcome<()> {
        let mut command = self.command(Peer::Strake);
        command.env("STRAKE_ROOT", store).args(["load", "--input"]).arg(&self.base);
        cost(command, Watch::Nothing).map(drop)
    }

    fn load_base(&self, peer: Peer) -> Outcome<()> {
        std::fs::create_dir_all(self.store(peer)).map_err(Failure::at("create a store"))?;
        let mut command = self.command(peer);
        match peer {
            Peer::Strake | Peer::Classic | Peer::BuildKit => {
                command.args(["load", "--input"]).arg(&self.base)
            }
            Peer::Buildah => command.arg("pull").arg(format!("docker-archive:{}", self.base.display())),
        };
        cost(command, Watch::Nothing).map(drop)
    }

    /// The builder's program with its store.
    pub(crate) fn command(&self, peer: Peer) -> Command {
        let mut command = match peer {
            Peer::Strake => Command::new(&self.strake),
            Peer::Classic | Peer::BuildKit => Command::new("/usr/bin/docker"),
            Peer::Buildah => Command::new("buildah"),
        };
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", &self.directory).env("DOCKER_CONFIG", self.directory.join("config"));
        match peer {
            Peer::Strake => command.env("STRAKE_ROOT", self.store(peer)),
            Peer::Classic => command.env("DOCKER_HOST", self.docker.host()).env("DOCKER_BUILDKIT", "0"),
            Peer::BuildKit => command.env("DOCKER_HOST", self.docker.host()).env("DOCKER_BUILDKIT", "1"),
            Peer::Buildah => {
                command
                    .arg("--root")
                    .arg(self.store(peer))
                    .arg("--runroot")
                    .arg(self.directory.join("buildah-run"));
                command.arg("--storage-driver=overlay")
            }
        };
        command
    }

    fn measured(&self, peer: Peer, command: Command, watch: Watch) -> Outcome<Cost> {
        let daemon = if matches!(peer, Peer::Classic | Peer::BuildKit) { self.docker.pid() } else { None };
        if let (Watch::Memory, Some(pid)) = (watch, daemon) {
            reset_high_water(pid);
        }
        let mut cost = cost(command, watch)?;
        if let (Watch::Memory, Some(pid)) = (watch, daemon) {
            cost.resident += high_water(pid).unwrap_or(0);
        }
        Ok(cost)
    }

    fn store(&self, peer: Peer) -> PathBuf {
        self.directory.join(match peer {
            Peer::Strake => "strake-store",
            Peer::Classic | Peer::BuildKit => "docker",
            Peer::Buildah => "buildah-store",
        })
    }
}
