//! A shell where a stage is assembled: the same user, mounts, tools and environment, on this terminal. What is done in
//! it is dropped.

use std::collections::BTreeMap;
use std::ffi::OsString;

use strake_engine::image;
use strake_exec::{Container, Mount, MountKind, Process, Stdin};
use strake_frontend::stagefile::ImageId;
use strake_frontend::stagefile::lower::{AGENT, Below, DEFAULT_PATH, OWN};
use strake_store::ActiveSnapshot;

use super::Assembler;
use crate::commands::run::{attach, container_network, rootfs, trust};
use crate::failure::Failure;
use crate::report;

/// What a shell finds there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ground<'a> {
    /// The image that the stage stands on.
    Image,
    /// What a command of the stage left behind.
    Left(&'a ActiveSnapshot),
}

impl Assembler<'_> {
    /// Opens a shell in a container as a stage of `image` has it that stands on `on`, and waits until it ends.
    ///
    /// # Errors
    /// When the container cannot be started. How the shell ends does not matter.
    pub(crate) fn shell(&self, image: ImageId, on: &Below, ground: Ground<'_>) -> Result<(), Failure> {
        let session = self.session;
        let layers = session.with(|env| image::materialise(env, on.fact.id))?;
        let fresh;
        let active = match ground {
            Ground::Image => {
                fresh = session.store.snapshots().prepare(&layers)?;
                &fresh
            }
            Ground::Left(left) => {
                left.renew()?;
                left
            }
        };
        let tools = format!("{OWN}/tools");
        let mut container = Container {
            rootfs: rootfs(active),
            process: Process {
                args: vec![format!("{tools}/bash"), "--noprofile".into(), "--norc".into(), "-i".into()],
                env: self.environment(on, &tools),
                cwd: "/".to_owned(),
                user: "0:0".to_owned(),
                set_home: true,
                terminal: true,
            },
            mounts: self.shell_mounts(image, on, tools)?,
            network: container_network(session, self.network),
            hostname: "strake".to_owned(),
            hosts: Vec::new(),
            read_only: false,
        };
        if let Some(pem) = session.settings.ca_certificates(None)? {
            trust(session, &layers, &pem, &mut container)?;
        }
        // The terminal belongs to the shell now.
        let ended = attach(session, &container, Stdin::Terminal);
        ended.map(drop).map_err(|error| report::exec_failure(&error))
    }

    fn environment(&self, on: &Below, tools: &str) -> Vec<(String, OsString)> {
        let entries = on.fact.config.config.env.iter().filter_map(|entry| entry.split_once('='));
        let mut env: BTreeMap<String, String> =
            entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // Whoever looks around needs programs also where the stage would have none.
        let path = env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
        path.push_str(&format!(":{tools}"));
        env.insert("TERM".to_owned(), "xterm".to_owned());
        if self.ssh_agent.is_some() {
            env.insert("SSH_AUTH_SOCK".to_owned(), AGENT.to_owned());
        }
        env.into_iter().map(|(name, value)| (name, value.into())).collect()
    }

    fn shell_mounts(&self, image: ImageId, on: &Below, tools: String) -> Result<Vec<Mount>, Failure> {
        let mounts = self.assembly_mounts(image, &on.fact.config.config)?;
        let bind =
            |target: String, source, read_only| Mount { target, kind: MountKind::Bind { source }, read_only };
        let mut all = vec![bind(tools, mounts.tools, true)];
        all.extend(mounts.sources.into_iter().map(|((_, to), source)| bind(to, source, false)));
        all.extend(mounts.ssh_agent.map(|socket| bind(AGENT.to_owned(), socket, false)));
        Ok(all)
    }
}
