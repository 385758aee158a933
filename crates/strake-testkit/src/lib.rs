//! What the tests of strake stand on: a [`Sandbox`] that runs the real program, referees that build the
//! same Dockerfiles ([`Dockerd`]), hold images ([`Registry`]), repositories ([`SshServer`], [`HttpGitServer`]) or locks
//! ([`Etcd`]), and a comparison that shares no code with the program it judges: [`ImageArchive`] → [`Tree`] and
//! [`normalise`] read what any builder wrote.
//!
//! A [`Cluster`] has several [`Node`]s, each a machine of its own as far as network and processes go, to build on
//! together, to be cut off and killed.
//!
//! Nothing here caches a referee's answer. Every helper process is stopped when its guard is dropped, and
//! also when the test is killed. What a machine lacks is named once, by [`lacking`].

mod archive;
mod base;
mod case;
mod cluster;
mod command;
mod config;
mod dockerd;
mod etcd;
mod failure;
mod git_server;
mod machine;
mod node;
mod port;
mod registry;
mod requirement;
mod running;
mod sandbox;
mod server;
mod tree;
mod user;

pub use archive::{ArchiveImage, ImageArchive, write_docker_archive};
pub use base::{Base, base_tar};
pub use case::{Builder, Case, Expectation, KnownDifference, parse_cases, parse_known_differences};
pub use cluster::Cluster;
pub use command::{Finished, Run};
pub use config::{config_differences, normalise};
pub use dockerd::Dockerd;
pub use etcd::{Etcd, EtcdCertificates, EtcdOptions};
pub use failure::{Failure, Outcome};
pub use git_server::{HttpAccess, HttpGitServer, SshServer, keygen};
pub use machine::{Machine, Traffic};
pub use node::{Cut, Node};
pub use port::Port;
pub use registry::{Registry, RegistryOptions};
pub use requirement::{is_root, lacking, program_on_path};
pub use running::Running;
pub use sandbox::Sandbox;
pub use tree::{Difference, Entry, Kind, Tree};
pub use user::TestUser;
