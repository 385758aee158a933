//! Stage files and templates: where they are, and what is said when they are wrong.

use crate::dimg_scene::Project;

#[test]
fn all_mistakes_are_told_in_the_words_of_what_was_written() {
    let file = "{{- $base := \"debian:12\" }}\n{{- if true }}\ndimg: web\nfrom: {{ $base }}\n{{- end }}\nform: x\n---\n\
                {{ include \"api\" . }}\n";
    let project = Project::with(file);
    project.file(".dappfiles/api.tmpl", "{{ define \"api\" }}dimg: web\nshell: 7\n{{ end }}");
    let failed = project.fails(2, &["dimg", "build", "--dry-run"]);
    let told = &failed.stderr;
    assert!(told.contains("strake.yaml:6:1") && told.contains("6 | form: x"), "{failed}");
    assert!(told.contains("strake.yaml:8:") && told.contains("8 | {{ include \"api\" . }}"), "{failed}");
    assert!(told.contains("rendered, line"), "{failed}");
    assert!(told.contains("strake.yaml has "), "{failed}");
    let rendered = project.sandbox.read("p/.strake.render.yaml").unwrap();
    assert!(rendered.contains("form: x"), "it is written although it is wrong: {rendered}");
}

#[test]
fn mistakes_in_templates_stop_before_anything_is_rendered() {
    let project = Project::with("dimg: ~\nfrom: {{ template \"base\" }}\n");
    let failed = project.fails(2, &["dimg", "build", "--dry-run"]);
    assert!(failed.stderr.contains("strake.yaml:2:") && failed.stderr.contains("\"base\""), "{failed}");
    project.file("strake.yaml", "dimg: ~\nfrom: {{ if }}\n");
    let failed = project.fails(2, &["dimg", "list"]);
    assert!(failed.stderr.contains("strake.yaml:2:") && failed.stderr.contains("{{ if }}"), "{failed}");
}

#[test]
fn templates_see_files_variables_and_each_other() {
    let file = "dimg: {{ env \"NAME\" }}\nfrom: {{ .Files.Get \"base.txt\" | trim }}\n\
                shell:\n  install:\n{{ include \"dir/steps.tmpl\" . | indent 2 }}\n  setup: x{{ .Files.Get \"nothing\" }}\n";
    let project = Project::with(file);
    project.file("base.txt", "debian:12\n");
    project.file(".dappfiles/dir/steps.tmpl", "- one\n- two");
    let listed = project.command(&["list"]).env("NAME", "web").succeed().unwrap();
    assert_eq!(listed.stdout, "web\n");
    assert!(listed.stderr.contains("warning: .Files.Get \"nothing\": there is no such file"), "{listed}");
    let rendered = project.sandbox.read("p/.strake.render.yaml").unwrap();
    assert_eq!(rendered, "dimg: web\nfrom: debian:12\nshell:\n  install:\n  - one\n  - two\n  setup: x\n");
}

#[test]
fn a_mapping_without_files_is_told_with_its_place() {
    let project = Project::with("dimg: ~\nfrom: a\ngit:\n- add: /scr\n  to: /app\n");
    let failed = project.fails(2, &["dimg", "build", "--dry-run"]);
    assert!(failed.stderr.contains("strake.yaml:4:3") && failed.stderr.contains("takes no file"), "{failed}");
    project.file("strake.yaml", "dimg: ~\nfrom: a\ngit:\n- add: /src\n  to: /app\n  includePaths: '*.js'\n");
    let failed = project.fails(2, &["dimg", "build", "--dry-run"]);
    assert!(failed.stderr.contains("strake.yaml:4:3") && failed.stderr.contains("takes no file"), "{failed}");
    let nowhere = Project::with("dimg: ~\nfrom: a\ngit:\n- to: /app\n");
    nowhere.sandbox.run("rm").args(["-rf", "p/.git"]).succeed().unwrap();
    let failed = nowhere.fails(2, &["dimg", "build", "--dry-run"]);
    assert!(failed.stderr.contains("is in none") && failed.stderr.contains("git init"), "{failed}");
}

#[test]
fn a_pattern_that_watches_nothing_is_warned_of() {
    let project = Project::with(
        "dimg: ~\nfrom: a\ngit:\n- add: /src\n  to: /app\n  stageDependencies:\n    install: [main.sh, no.lock]\n\
         shell:\n  install: x\n",
    );
    let finished = project.command(&["build", "--dry-run"]).succeed().unwrap();
    assert_eq!(finished.stderr.matches("warning: ").count(), 1, "{finished}");
    assert!(finished.stderr.contains("no.lock"), "{finished}");
}

#[test]
fn two_files_and_no_word_ask_for_a_choice() {
    let project = Project::with("dimg: ~\nfrom: a\n");
    project.file("Dockerfile", "FROM scratch\n");
    let failed = project.fails(2, &["build", "."]);
    assert!(failed.stderr.contains("both Dockerfile and strake.yaml"), "{failed}");
    assert!(
        failed.stderr.contains("strake build -f Dockerfile .") && failed.stderr.contains("strake dimg build")
    );
    assert_eq!(project.dry_run(&[]).len(), 1);
    assert_eq!(project.fails(2, &["build", "--dry-run"]).stdout, "");
    project.sandbox.run("rm").arg("p/strake.yaml").succeed().unwrap();
    let failed = project.fails(2, &["dimg", "build"]);
    assert!(failed.stderr.contains("there is no stage file"), "{failed}");
    let failed = project.fails(2, &["build"]);
    assert!(failed.stderr.contains("build what?"), "{failed}");
}
