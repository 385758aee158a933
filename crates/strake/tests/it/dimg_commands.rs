//! `list`, `slug`, `stage image`, `run`: with the word `dimg` and without it.

use crate::dimg_scene::{Project, rows};

const TWO: &str = "dimg: [web-a, web-b]\nfrom: a\nshell:\n  install: x\n---\ndimg: api\nfrom: b\n---\nartifact: t\nfrom: c\n";

#[test]
fn names_are_listed_in_the_order_of_the_file() {
    let project = Project::with(TWO);
    assert_eq!(project.prints(&["dimg", "list"]), "web-a\nweb-b\napi\n");
    assert_eq!(project.prints(&["list", "web-*"]), "web-a\nweb-b\n");
    assert_eq!(project.sandbox.strake(["list", "--dir", "p", "api"]).succeed().unwrap().stdout, "api\n");
    let failed = project.fails(2, &["list", "web-c"]);
    assert!(
        failed.stderr.contains("no dimg web-c") && failed.stderr.contains("did you mean web-a?"),
        "{failed}"
    );
    assert!(project.fails(2, &["dimg", "build", "--dry-run", "t"]).stderr.contains("artifact"));
    assert!(project.has_no_store(), "listing needs no store");
    assert_eq!(Project::with("dimg: ~\nfrom: a\n").prints(&["list"]), "~\n");
}

#[test]
fn selected_images_are_planned_under_their_names() {
    let project = Project::with(TWO);
    let text = project.prints(&["dimg", "build", "--dry-run", "api", "web-b"]);
    assert!(text.starts_with("web-b\n  From  ") && text.contains("\napi\n  From  "), "{text}");
    assert_eq!(rows(&text).len(), 3);
}

#[test]
fn slugs_are_as_published() {
    let project = Project::new("x");
    for words in [&["slug"][..], &["dimg", "slug"]] {
        let words = [words, &["core/feature/ADD_SETTINGS"]].concat();
        assert_eq!(project.prints(&words), "core-feature-add-settings-c3fd80df\n");
    }
}

#[test]
fn stages_are_named() {
    let project = Project::with(TWO);
    let last = project.prints(&["dimg", "stage", "image", "web-a"]);
    assert_eq!(project.prints(&["stage", "image", "--stage", "install", "web-b"]), last);
    assert_ne!(project.prints(&["stage", "image", "--stage", "from", "web-a"]), last);
    assert!(last.starts_with("dimgstage-app:") && last.len() == "dimgstage-app:".len() + 65, "{last}");
    assert!(project.fails(2, &["stage", "image"]).stderr.contains("several dimgs"));
    let failed = project.fails(2, &["stage", "image", "--stage", "setup", "api"]);
    assert!(failed.stderr.contains("no stage setup") && failed.stderr.contains("it has from"), "{failed}");
    let failed = project.fails(2, &["stage", "image", "--stage", "setpu", "api"]);
    assert!(failed.stderr.contains("did you mean `setup`?"), "{failed}");
}

#[test]
fn an_image_is_run_when_it_is_there() {
    let project = Project::with(TWO);
    let name = project.prints(&["stage", "image", "web-a"]);
    let name = name.trim();
    assert_eq!(
        project.prints(&["dimg", "run", "--dry-run", "web-a"]),
        format!("strake run -ti --rm {name} /bin/bash\n")
    );
    let words = ["dimg", "run", "--dry-run", "web-a", "-e", "A=1 2", "--", "ls", "-l"];
    assert_eq!(project.prints(&words), format!("strake run -e 'A=1 2' {name} ls -l\n"));
    let nameless = Project::with("dimg: ~\nfrom: a\n");
    assert!(nameless.prints(&["dimg", "run", "--dry-run", "--", "ls"]).ends_with(" ls\n"));
    let failed = project.fails(2, &["dimg", "run", "web-a"]);
    assert!(
        failed.stderr.contains("web-a is not built") && failed.stderr.contains("strake dimg build web-a")
    );
    project.sandbox.load_base(strake_testkit::Base::Busybox, "busybox").unwrap();
    project.prints(&["tag", "busybox", name]);
    assert_eq!(
        project.prints(&["dimg", "run", "web-a", "--network", "none", "--", "echo", "it runs"]),
        "it runs\n"
    );
    let failed = project.fails(2, &["dimg", "run", "web-a", "--nonsense"]);
    assert!(failed.stderr.contains("--nonsense") && failed.stderr.contains("strake run"), "{failed}");
}

#[test]
fn options_shape_the_rows() {
    let project = Project::with("dimg: ~\nfrom: a\nshell:\n  install: make it\ndocker:\n  EXPOSE: 80\n");
    assert_eq!(project.prints(&["dimg", "build", "--dry-run", "-q"]), "");
    let coloured = project.prints(&["dimg", "build", "--dry-run", "--color", "on"]);
    assert!(
        coloured.contains("\u{1b}[1;33mFrom\u{1b}[0m") && coloured.contains("\u{1b}[1;32m[BUILD]"),
        "{coloured}"
    );
    let ci = project.command(&["dimg", "build", "--dry-run"]).env("GITLAB_CI", "true").succeed().unwrap();
    assert!(ci.stdout.contains('\u{1b}'), "{ci}");
    let plain = project
        .command(&["build", "--dry-run"])
        .env("GITLAB_CI", "1")
        .env("NO_COLOR", "1")
        .succeed()
        .unwrap();
    assert!(!plain.stdout.contains('\u{1b}'), "{plain}");
    let stamped = project.command(&["build", "--dry-run", "--time"]).env("TZ", "MSK-3").succeed().unwrap();
    assert!(
        stamped.stdout.lines().all(|line| line.as_bytes()[10] == b'T' && &line[19..26] == "+03:00 "),
        "{stamped}"
    );
    let verbose = project.prints(&["dimg", "build", "--dry-run", "--verbose"]);
    assert!(verbose.contains("    commands:\n      make it\n"), "{verbose}");
    assert!(verbose.contains("  instructions:\n    EXPOSE 80\n"), "{verbose}");
    let failed = project.fails(2, &["dimg", "build", "--introspect-error"]);
    assert!(failed.stderr.contains("no terminal"), "{failed}");
}

#[test]
fn presets_hold_when_nothing_else_is_said() {
    let project = Project::with("dimg: ~\nfrom: 127.0.0.1:1/a\n");
    project.file(".dapp_config", "dry_run: yes\ncolor: on\nbuild_dir: /nowhere\nci:\n  color: off\n");
    let printed = project.command(&["build"]).succeed().unwrap();
    assert!(printed.stdout.contains("[BUILD]") && printed.stdout.contains('\u{1b}'), "{printed}");
    assert!(printed.stderr.contains("warning: ") && printed.stderr.contains("`build_dir`"), "{printed}");
    assert!(!project.prints(&["build", "--color", "off"]).contains('\u{1b}'));
    let ci = project.command(&["build"]).env("GITLAB_CI", "true").succeed().unwrap();
    assert!(!ci.stdout.contains('\u{1b}'), "{ci}");
    project.file(".strake_config", "dry_run: no\nquiet: yes\n");
    assert_eq!(project.prints(&["build", "--dry-run"]), "");
    assert!(project.prints(&["build", "--dry-run", "--verbose"]).contains("[BUILD]"));
    project.fails(3, &["build"]);
    project.file(".strake_config", "colour: on\n");
    let failed = project.fails(2, &["build"]);
    assert!(
        failed.stderr.contains(".strake_config:1:1") && failed.stderr.contains("did you mean `color`?"),
        "{failed}"
    );
}

#[test]
fn every_command_on_a_stage_file_reads_presets() {
    let project = Project::with(
        "dimg: ~\nfrom: a\ngit:\n- add: /src\n  to: /app\n  stageDependencies: {install: '*'}\nshell: {install: x}\n",
    );
    let commands: [&[&str]; 6] = [
        &["list"],
        &["stage", "image"],
        &["dimg", "run", "--dry-run"],
        &["dimg", "tag", "--dry-run", "localhost/x"],
        &["dimg", "export", "--dry-run", "/etc", "out"],
        &["dimg", "build", "--dry-run"],
    ];
    project.file(".dapp_config", "nonsense: 1\n");
    for words in commands {
        let failed = project.fails(2, words);
        assert!(failed.stderr.contains(".dapp_config:1:1"), "{words:?}: {failed}");
    }
    // What is not committed changes the signatures as soon as presets let it take part.
    project.file(".dapp_config", "dev: no\n");
    project.file("src/main.sh", "echo 2\n");
    let images = [&["stage", "image"][..], &["dimg", "run", "--dry-run"]];
    let committed = images.map(|words| project.prints(words));
    project.file(".dapp_config", "dev: yes\n");
    for (words, committed) in images.iter().zip(&committed) {
        assert_ne!(&project.prints(words), committed, "{words:?}");
        assert_eq!(project.prints(words), project.prints(&[*words, &["--dev"]].concat()), "{words:?}");
    }
    // A dry run that is preset copies, names and runs nothing.
    project.file(".dapp_config", "dry_run: yes\n");
    assert!(project.prints(&["dimg", "run"]).starts_with("strake run -ti --rm dimgstage-app:"));
    assert_eq!(rows(&project.prints(&["dimg", "export", "/etc", "out"]))[0].1, "[COPY]");
    project.file(".dapp_config", "quiet: yes\n");
    assert_eq!(project.prints(&["dimg", "export", "--dry-run", "/etc", "out"]), "");
    // Those of the home directory hold behind those of the project.
    let home = project.sandbox.path("home");
    project.sandbox.write("home/.dapp_config", "quiet: no\ndry_run: yes\n").unwrap();
    let run = project.command(&["dimg", "run"]).env("HOME", home.to_str().unwrap());
    assert!(run.succeed().unwrap().stdout.starts_with("strake run"));
}
