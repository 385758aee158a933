//! Ordinary users with subordinate ids, made when a test first needs one.

use std::fs::File;
use std::path::PathBuf;

use crate::requirement::is_root;
use crate::{Failure, Outcome, Run};

/// An ordinary user of this machine that exists for the tests alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestUser {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

impl TestUser {
    /// The user most tests run as.
    ///
    /// # Errors
    /// When this process is not root and so may not make users, or `useradd` fails.
    pub fn first() -> Outcome<Self> {
        Self::named("strake-test")
    }

    /// A second user, for tests of two users side by side.
    ///
    /// # Errors
    /// As [`TestUser::first`].
    pub fn second() -> Outcome<Self> {
        Self::named("strake-test2")
    }

    fn named(name: &str) -> Outcome<Self> {
        if !is_root() {
            return Err(Failure::new(format!("only root can become the user {name}")));
        }
        // Two test processes must not both find the user missing.
        let lock_path = PathBuf::from("/run/strake-test-users.lock");
        let lock =
            File::create(&lock_path).map_err(Failure::at(format!("create {}", lock_path.display())))?;
        lock.lock().map_err(Failure::at("lock the list of test users"))?;
        if Self::find(name).is_none() {
            Run::new("useradd")
                .args(["--create-home", "--user-group", "--shell", "/bin/sh", name])
                .succeed()?;
        }
        let user = Self::find(name).ok_or_else(|| Failure::new(format!("useradd made no user {name}")))?;
        user.ensure_subordinate_ids()?;
        Ok(user)
    }

    fn find(name: &str) -> Option<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(Self { name: name.into(), uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }

    /// `useradd` gives ranges only where `login.defs` says so; without one a range far from those is taken.
    fn ensure_subordinate_ids(&self) -> Outcome<()> {
        let first = 1_000_000_000 + u64::from(self.uid) * 65_536;
        let range = format!("{first}-{}", first + 65_535);
        for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
            let listed = std::fs::read_to_string(file).unwrap_or_default();
            if !listed.lines().any(|line| line.split(':').next() == Some(self.name.as_str())) {
                Run::new("usermod").args([option, &range, &self.name]).succeed()?;
            }
        }
        Ok(())
    }
}
