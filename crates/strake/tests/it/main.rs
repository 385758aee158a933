//! Tests of the whole program through its real executable: one test binary, one module per subject.

#![expect(clippy::unwrap_used, reason = "what the helpers of tests cannot do is a failed test")]

mod builds;
mod cache;
mod chaos;
mod cleaning;
mod cooperate;
mod dimg_assemble;
mod dimg_cached;
mod dimg_cleanup;
mod dimg_commands;
mod dimg_corners;
mod dimg_export;
mod dimg_files;
mod dimg_flow;
mod dimg_git;
mod dimg_history;
mod dimg_introspect;
mod dimg_mistakes;
mod dimg_nodes;
mod dimg_parallel;
mod dimg_plan;
mod dimg_registry;
mod dimg_registry_build;
mod dimg_replay;
mod dimg_rows;
mod dimg_scene;
mod dimg_ssh;
mod dimg_submodules;
mod explain;
mod failures;
mod images;
mod interrupt;
mod isolation;
mod locks;
mod logins;
mod manual;
mod network;
mod nodes;
mod oracle;
mod progress;
mod referees;
mod rootless;
mod scene;
mod shared_registry;
mod sharing;
mod sharing_faults;
mod sharing_repair;
mod sharing_requests;
mod team;
mod tidy;

use strake_testkit::{Base, Sandbox, TestUser, is_root, lacking};

/// The program under test.
const STRAKE: &str = env!("CARGO_BIN_EXE_strake");

/// Runs `test` as the user of the test run, and as an ordinary user as well when the run may become one; each time
/// with a fresh store that has the image `busybox`.
fn for_both_users(test: impl Fn(&Sandbox)) {
    let sandbox = Sandbox::new(STRAKE).unwrap();
    sandbox.load_base(Base::Busybox, "busybox").unwrap();
    test(&sandbox);
    if is_root() {
        test(&of_ordinary_user(TestUser::first().unwrap()));
    } else {
        lacking("root, to run as a second, ordinary user");
    }
}

/// A sandbox of an ordinary user whose store has the image `busybox`.
fn of_ordinary_user(user: TestUser) -> Sandbox {
    let sandbox = Sandbox::of_user(STRAKE, user).unwrap();
    sandbox.load_base(Base::Busybox, "busybox").unwrap();
    sandbox
}
