//! A machine of a cluster that runs the program under test, with a store and a home of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::{Base, Failure, Finished, Machine, Outcome, Run, Sandbox};

/// How two machines lose each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing arrives in either direction, and nobody is told: a cable pulled somewhere in between. What waits, waits
    /// for its own time limit, and goes on when healed before that.
    Silent,
    /// The node knows at once that there is no way: a new connection fails.
    Unreachable,
}

/// A node of a [`Cluster`](crate::Cluster); everything on it is killed when this is dropped.
#[derive(Debug)]
pub struct Node {
    // First: nothing may run any more when the store is removed.
    machine: Machine,
    sandbox: Sandbox,
    cuts: Mutex<BTreeMap<Ipv4Addr, Cut>>,
}

impl Node {
    pub(crate) fn new<R: AsRef<str>>(machine: Machine, program: &Path, registries: &[R]) -> Outcome<Self> {
        let sandbox = Sandbox::within(program, machine.directory())?;
        let mut settings = String::new();
        for registry in registries {
            // Writing to a String cannot fail.
            let _ = writeln!(settings, "[registry.{:?}]\ninsecure = true", registry.as_ref());
        }
        let directory = sandbox.home().join(".config/strake");
        let written = std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(directory.join("config.toml"), settings));
        written.map_err(Failure::at("write the settings of a node"))?;
        Ok(Self { machine, sandbox, cuts: Mutex::default() })
    }

    /// Its store, home and work directory. What the sandbox itself runs has the host's network.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The machine: address, traffic, other programs.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The program with `args` on this node, in the work directory.
    pub fn strake<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.sandbox.strake(args).through(self.machine.words(&self.sandbox.work()))
    }

    /// Puts a base image into this node's store under the name `name:latest`.
    ///
    /// # Errors
    /// As [`Sandbox::load_base`].
    pub fn load_base(&self, base: Base, name: &str) -> Outcome<Finished> {
        let archive = self.sandbox.base_archive(base, name)?;
        self.strake(["load", "--input"]).arg(archive).succeed()
    }

    /// Cuts the connection with one machine until it is [healed](Self::heal); to the others nothing changes.
    ///
    /// # Errors
    /// When the network cannot be changed.
    pub fn cut_from(&self, other: &Machine, cut: Cut) -> Outcome<()> {
        self.heal(other)?;
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.insert(other.address(), cut);
        match cut {
            Cut::Silent => {
                send_astray(&self.machine, other.address())?;
                send_astray(other, self.machine.address())
            }
            Cut::Unreachable => self.machine.ip(&["route", "add", "unreachable", &host(other)]),
        }
    }

    /// Ends a cut; nothing happens where there is none.
    ///
    /// # Errors
    /// When the network cannot be changed.
    pub fn heal(&self, other: &Machine) -> Outcome<()> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        match cuts.remove(&other.address()) {
            None => Ok(()),
            Some(Cut::Unreachable) => self.machine.ip(&["route", "del", "unreachable", &host(other)]),
            Some(Cut::Silent) => {
                self.machine.ip(&["neigh", "del", &other.address().to_string(), "dev", "eth0"])?;
                other.ip(&["neigh", "del", &self.machine.address().to_string(), "dev", "eth0"])
            }
        }
    }
}

/// Lets everything that `machine` sends to `address` go to a hardware address that nobody has. Neither a packet filter
/// nor a scheduler of the kernel is needed for that, which not every kernel has.
fn send_astray(machine: &Machine, address: Ipv4Addr) -> Outcome<()> {
    let nobody = "02:00:00:00:00:01";
    let address = address.to_string();
    machine.ip(&["neigh", "replace", &address, "lladdr", nobody, "dev", "eth0", "nud", "permanent"])
}

fn host(machine: &Machine) -> String {
    format!("{}/32", machine.address())
}
