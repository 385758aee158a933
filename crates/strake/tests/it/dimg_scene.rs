//! What the tests of stage files share: a project in a git repository, and what was printed of it.

use strake_testkit::{Base, Finished, Run, Sandbox};

use crate::STRAKE;

/// A sandbox whose work directory has a project `p`, a git repository without commits.
pub(crate) struct Project {
    pub(crate) sandbox: Sandbox,
}

impl Project {
    /// A project whose origin has this name.
    pub(crate) fn new(origin: &str) -> Self {
        Self::in_sandbox(Sandbox::new(STRAKE).unwrap(), origin)
    }

    /// The same of whoever the sandbox is.
    pub(crate) fn in_sandbox(sandbox: Sandbox, origin: &str) -> Self {
        let project = Self { sandbox };
        project.sandbox.write("p/.keep", "").unwrap();
        project.git(&["init", "-q", "-b", "main"]);
        project.git(&["remote", "add", "origin", &format!("https://git.example.org/some/{origin}.git")]);
        project
    }

    /// A project `app` with one commit, of a file and this stage file.
    pub(crate) fn with(stage_file: &str) -> Self {
        let project = Self::new("app");
        project.file("strake.yaml", stage_file);
        project.file("src/main.sh", "echo 1\n");
        project.commit("first");
        project
    }

    /// A project `app` without commits, with this stage file and a base image `busybox`.
    pub(crate) fn on_busybox(stage_file: &str) -> Self {
        let project = Self::new("app");
        project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
        project.file("strake.yaml", stage_file);
        project
    }

    /// Builds, and answers the titles of the stages that were assembled.
    #[track_caller]
    pub(crate) fn build(&self, words: &[&str]) -> Vec<String> {
        assembled(&self.prints(&[&["dimg", "build"], words].concat()))
    }

    /// Writes a file of the project.
    pub(crate) fn file(&self, path: &str, content: &str) {
        self.sandbox.write(&format!("p/{path}"), content).unwrap();
    }

    /// Whether the local store was never opened.
    pub(crate) fn has_no_store(&self) -> bool {
        std::fs::read_dir(self.sandbox.store()).unwrap().next().is_none()
    }

    /// Runs git in the project.
    pub(crate) fn git(&self, words: &[&str]) -> String {
        let who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null"];
        let run = self.sandbox.run("git").args(who).args(words).directory(&self.sandbox.path("p"));
        run.succeed().unwrap().stdout.trim().to_owned()
    }

    /// Commits everything and answers the commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// strake in the project.
    pub(crate) fn command(&self, words: &[&str]) -> Run {
        self.sandbox.strake(words).directory(&self.sandbox.path("p"))
    }

    /// What it prints when it succeeds.
    #[track_caller]
    pub(crate) fn prints(&self, words: &[&str]) -> String {
        self.command(words).succeed().unwrap().stdout
    }

    /// What it says when it ends with this code.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> Finished {
        let finished = self.command(words).finish().unwrap();
        assert_eq!(finished.code, code, "{finished}");
        finished
    }

    /// The rows of a dry run as (title, state), without details and the running time.
    #[track_caller]
    pub(crate) fn dry_run(&self, words: &[&str]) -> Vec<(String, String)> {
        rows(&self.prints(&[&["dimg", "build", "--dry-run"], words].concat()))
    }
}

/// The titles of the stages that were assembled.
pub(crate) fn assembled(printed: &str) -> Vec<String> {
    let rows = rows(printed).into_iter().filter(|(_, state)| state.starts_with("[OK]"));
    rows.map(|(title, _)| title.trim_end_matches(" ...").trim().to_owned()).collect()
}

/// Lines that end in a state.
pub(crate) fn rows(text: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let (title, state) = line.split_once("  [")?;
        Some((title.trim().to_owned(), format!("[{state}")))
    };
    text.lines().filter_map(row).collect()
}

/// The signatures in the order of the rows.
pub(crate) fn signatures(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.trim_start().starts_with("signature: "));
    lines.filter_map(|line| line.rsplit_once(':').map(|(_, signature)| signature)).collect()
}
