//! What goes wrong is said: what, where, why, what next; and it leaves the store as it was.

use std::io::Write;

use strake_testkit::{Finished, Run, Sandbox, is_root, lacking};

use crate::STRAKE;
use crate::scene::Scene;

/// A build that fails, as people see it.
#[track_caller]
fn fails(scene: &Scene, code: i32, said: &[&str]) -> Finished {
    let run = scene.sandbox.strake(["build", "--progress=plain", "--network=none", "c"]).seconds(60);
    let failed = run.finish().unwrap();
    assert_eq!(failed.code, code, "{failed}");
    for text in said {
        assert!(failed.stderr.contains(text), "no {text:?} in {failed}");
    }
    assert_eq!(failed.stdout, "", "{failed}");
    failed
}

#[test]
fn a_failed_step_shows_its_place_its_output_and_its_log() {
    let scene = Scene::new(
        "FROM busybox\n# a comment\nRUN for i in $(seq 5000); do echo line $i; done; \\\n    echo the end >&2; exit 42\nCMD x\n",
    );
    let failed = fails(
        &scene,
        1,
        &[
            "Dockerfile:3",
            "   3 | >>> RUN for i",
            "   4 | >>> ",
            "   5 |     CMD x",
            "line 4999",
            "the end",
            "42",
        ],
    );
    let log = failed.stderr.split_whitespace().rfind(|word| word.ends_with(".log")).unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.lines().count(), 5001);
    assert!(log.starts_with("line 1\n") && log.ends_with("the end\n"));
    // The report repeats the end only.
    let report = &failed.stderr[failed.stderr.find("------").unwrap()..];
    assert!(!report.contains("line 4000\n"), "{report}");
}

#[test]
fn programs_that_are_missing_or_killed() {
    // A command that cannot be started is a step that failed, whoever was to start it.
    let scene = Scene::new("FROM busybox\nRUN [\"/no/such/program\"]\n");
    let failed = fails(&scene, 1, &["executable \"/no/such/program\" not found", "127", "Dockerfile:2"]);
    let log = failed.stderr.split_whitespace().rfind(|word| word.ends_with(".log")).unwrap();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "executable \"/no/such/program\" not found\n");
    assert_eq!(scene.fails(1, &[]).last("error")["exit_code"], 127);
    scene.file("Dockerfile", "FROM busybox\nRUN [\"nosuchcommand\"]\n");
    fails(&scene, 1, &["\"nosuchcommand\" not found in PATH=/usr/local/sbin:", "127"]);
    scene.file("Dockerfile", "FROM busybox\nRUN [\"/etc/passwd\"]\n");
    fails(&scene, 1, &["/etc/passwd", "126", "ermission denied"]);
    scene.file("Dockerfile", "FROM busybox\nRUN <<E\n#!/no/interpreter\ntrue\nE\n");
    fails(&scene, 1, &["/no/interpreter", "127"]);
    scene.file("Dockerfile", "FROM busybox\nRUN nosuchcommand\n");
    fails(&scene, 1, &["nosuchcommand", "127"]);
    scene.file("Dockerfile", "FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n");
    fails(&scene, 1, &["137"]);
    scene.file("Dockerfile", "FROM busybox\nUSER nobodyknows\nRUN true\n");
    let failed = scene.sandbox.strake(["build", "--network=none", "c"]).finish().unwrap();
    assert!([1, 2].contains(&failed.code) && failed.stderr.contains("nobodyknows"), "{failed}");
}

#[test]
fn all_mistakes_of_a_file_at_once_with_hints() {
    let scene = Scene::new("FROM busybox\nRUNN echo\nCOPY\nEXPOSE 80\nENV\nWORKDIR /w\nFORM x\n");
    let failed = fails(
        &scene,
        2,
        &["Dockerfile:2:1", "Dockerfile:3:1", "Dockerfile:5:1", "Dockerfile:7:1", "RUN", "FROM"],
    );
    assert!(failed.stderr.contains("did you mean"), "{failed}");
    scene.file("Dockerfile", "");
    fails(&scene, 2, &["Dockerfile"]);
    scene.file("Dockerfile", "RUN true\n");
    fails(&scene, 2, &["FROM"]);
    scene.file("Dockerfile", "FROM busybox\nCOPY --from=nope /a /b\nCOPY --chwon=1 a b\n");
    fails(&scene, 2, &["chown"]);
    scene.file("Dockerfile", "FROM busybox\nRUN <<E\necho never ended\n");
    fails(&scene, 2, &["Dockerfile:2:"]);
}

#[test]
fn hostile_dockerfiles_are_errors_not_crashes() {
    let scene = Scene::new("");
    let long = format!("FROM busybox\nRUN {}\nX\n", "a".repeat(2_000_000));
    let nested = format!("FROM busybox\nENV A={}x{}\nX\n", "${A:-".repeat(20_000), "}".repeat(20_000));
    let many = "FRO busybox\n".repeat(20_000);
    for text in [
        long.as_bytes(),
        nested.as_bytes(),
        many.as_bytes(),
        b"FROM busybox\nRUN \xff\xfe\0\n\x1b[2J\n",
        b"\xef\xbb\xbfFROM\r\n",
        b"# escape=x\nFROM busybox\n",
    ] {
        scene.sandbox.write("c/Dockerfile", text).unwrap();
        let failed = scene.sandbox.strake(["build", "--network=none", "c"]).seconds(30).finish().unwrap();
        assert_eq!(failed.code, 2, "{}", failed.to_string().chars().take(2000).collect::<String>());
        assert!(failed.stderr.len() < 2_000_000 && !failed.stderr.contains('\x1b'));
    }
}

#[test]
fn unknown_flags_and_contradictions() {
    let scene = Scene::new("FROM busybox\n");
    let says = |words: &[&str], said: &str| {
        let failed = scene.sandbox.strake(words).finish().unwrap();
        assert!(failed.code == 2 && failed.stderr.contains(said), "{failed}");
    };
    says(&["build", "--no-cahce", "c"], "--no-cache");
    says(&["biuld"], "build");
    says(&["build"], "CONTEXT");
    says(&["build"], "strake build .");
    says(&["build", "--cache-from=type=gha", "c"], "`type=gha` is not supported");
    says(&["build", "--ssh", "default", "c"], "--secret");
    says(&["build", "--provenance=true", "c"], "attestations are not supported");
    says(&["build", "--platform", "linux/amd64,linux/arm64", "c"], "several platforms in one build");
    says(&["build", "--secret", "id=x,scr=y", "c"], "did you mean `src`?");
    says(&["load", "-i", "nope.tar"], "read archive nope.tar: no such file or directory");
    says(&["save", "-o", "nowhere/x.tar", "busybox"], "no such file or directory");
    says(&["login", "127.0.0.1:5000"], "credentials are docker's");
    says(&["push", "busibox"], "did you mean busybox:latest, which is in the local store?");
    says(&["history", "busybox:1"], "the local store has busybox:latest");
    says(&["build", "--target=nope", "c"], "nope");
    says(&["build", "-o", "type=nope,dest=x", "c"], "nope");
    says(&["build", "-o", "type=local", "c"], "dest");
    says(&["build", "-t", "UPPER/Case", "c"], "UPPER");
    says(&["build", "--push", "c"], "-t");
    says(&["build", "--network=bogus", "c"], "bogus");
    says(&["build", "nowhere"], "nowhere");
    says(&["build", "-f", "c/None", "c"], "None");
    says(&["build", "--secret", "id=x,src=none", "c"], "none");
    says(&["build", "--secret", "id=x,src=/dev/zero", "c"], "larger than");
    says(&["build", "--platform", "what/ever/this/is", "c"], "what");
    says(&["run", "nosuchimage-here.invalid/x@bogus"], "bogus");
    says(&["tag", "missing", "other"], "missing");
    says(&["inspect", "missing"], "missing");
    says(&["rmi", "missing"], "missing");
}

#[test]
fn sources_that_are_not_there_or_ignored() {
    let scene = Scene::new("FROM busybox\nCOPY wanted/file /f\n");
    fails(&scene, 2, &["Dockerfile:2", "wanted/file"]);
    scene.file("wanted/file", "x");
    scene.file(".dockerignore", "wanted\n");
    fails(&scene, 2, &["wanted/file", "line 1 of the ignore file"]);
    scene.file("Dockerfile", "FROM busybox\nCOPY ../c/wanted /f\nCOPY --from=busybox /none /n\n");
    fails(&scene, 2, &["wanted"]);
}

#[test]
fn images_and_registries_that_are_not_there() {
    let scene = Scene::new("FROM 127.0.0.1:9/no/image\n");
    let failed = fails(&scene, 3, &["127.0.0.1:9", "Dockerfile:1"]);
    assert!(failed.stderr.to_lowercase().contains("refused"), "{failed}");
    let Ok(registry) = strake_testkit::Registry::start() else { return lacking("docker-registry") };
    scene.file("Dockerfile", &format!("FROM {}/no/image:tag\n", registry.address()));
    let failed = scene.sandbox.strake(["build", "c"]).finish().unwrap();
    assert!([2, 3].contains(&failed.code) && failed.stderr.contains("no/image:tag"), "{failed}");
    let failed = scene.sandbox.strake(["push", "missing:tag"]).finish().unwrap();
    assert!(failed.code == 2 && failed.stderr.contains("missing"), "{failed}");
    // Nobody listens there: what was not sent is not said to be there, and it is said once that nobody does.
    scene.strake(&["tag", "busybox", "127.0.0.1:9/busybox:1"]);
    let failed = scene.sandbox.strake(["push", "127.0.0.1:9/busybox:1"]).finish().unwrap();
    assert_eq!(failed.code, 3, "{failed}");
    assert!(!failed.stderr.contains("already there"), "{failed}");
    assert_eq!(
        failed.stderr.matches("cannot connect to 127.0.0.1:9: Connection refused\n").count(),
        1,
        "{failed}"
    );
    // A name that is nearly one of the local store's.
    let failed = scene.sandbox.strake(["run", "127.0.0.1:9/busybx:1"]).finish().unwrap();
    assert!(failed.code == 3 && failed.stderr.contains("did you mean 127.0.0.1:9/busybox:1"), "{failed}");
    scene.file("Dockerfile", "FROM --platform=linux/s390x 127.0.0.1:9/busybox:1\n");
    fails(&scene, 3, &["the local store has 127.0.0.1:9/busybox:1 for linux/"]);
}

/// A file system of a few megabytes, unmounted when this is dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path, size: &str) -> Self {
        std::fs::create_dir(at).unwrap();
        let options = format!("size={size}");
        Run::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(at).succeed().unwrap();
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Run::new("umount").args(["-l"]).arg(&self.0).finish());
    }
}

#[test]
fn a_full_disk_is_said_and_the_store_is_usable_afterwards() {
    if !is_root() {
        return lacking("root, to mount a small file system");
    }
    let sandbox = Sandbox::new(STRAKE).unwrap();
    let disk = SmallDisk::mount(&sandbox.path("disk"), "24m");
    let strake = |words: &[&str]| sandbox.strake(words).env("STRAKE_ROOT", &disk.0).seconds(60);
    let base = sandbox.base_archive(strake_testkit::Base::Busybox, "busybox").unwrap();
    strake(&["load", "-i"]).arg(&base).succeed().unwrap();
    sandbox
        .write(
            "c/Dockerfile",
            "FROM busybox\nRUN echo small > /small\nRUN head -c 100000000 /dev/zero > /big\n",
        )
        .unwrap();
    let failed = strake(&["build", "--network=none", "c"]).finish().unwrap();
    assert!(failed.code == 3 && failed.stderr.to_lowercase().contains("no space left"), "{failed}");
    // Of the copy it is strake itself that cannot write.
    sandbox.write("c/big", vec![7_u8; 40_000_000]).unwrap();
    sandbox.write("c/Dockerfile", "FROM busybox\nRUN echo small > /small\nCOPY big /big\n").unwrap();
    let failed = strake(&["build", "--network=none", "c"]).finish().unwrap();
    assert!(failed.code == 3 && failed.stderr.to_lowercase().contains("no space left"), "{failed}");
    sandbox.write("c/Dockerfile", "FROM busybox\nRUN echo small > /small\nRUN cat /small\n").unwrap();
    let built = strake(&["build", "--network=none", "--progress=plain", "c"]).succeed().unwrap();
    assert!(built.stderr.contains("CACHED"), "{built}");
}

/// Output goes on after the log has all that it may have; the log says where it ends.
#[test]
fn a_log_has_a_limit() {
    let scene = Scene::new(
        "FROM busybox\nRUN head -c 70000000 /dev/zero | tr '\\0' 'x' | fold -w 100; echo the end; exit 4\n",
    );
    let failed = scene.fails(1, &[]);
    assert!(failed.finished.stderr.contains("the end"));
    let log = crate::scene::text(&failed.last("error")["log"]);
    let kept = std::fs::read_to_string(log).unwrap();
    assert!(kept.len() > 64 << 20 && kept.len() < (64 << 20) + 100, "{}", kept.len());
    assert!(kept.ends_with("[the rest is not kept: the log has its 64 MiB]\n"));
}

/// A log that took the last of the disk: pruning works, whatever it is to take, and gives the room back.
#[test]
fn a_disk_that_a_log_filled_can_be_pruned() {
    if !is_root() {
        return lacking("root, to mount a small file system");
    }
    let sandbox = Sandbox::new(STRAKE).unwrap();
    let disk = SmallDisk::mount(&sandbox.path("disk"), "24m");
    let strake = |words: &[&str]| sandbox.strake(words).env("STRAKE_ROOT", &disk.0).seconds(60);
    let base = sandbox.base_archive(strake_testkit::Base::Busybox, "busybox").unwrap();
    strake(&["load", "-i"]).arg(&base).succeed().unwrap();
    let talks = "FROM busybox\nRUN head -c 40000000 /dev/zero | tr '\\0' 'x' | fold -w 100\n";
    sandbox.write("c/Dockerfile", talks).unwrap();
    // Several times: each log fills what is there.
    for number in 0..3 {
        sandbox.write("c/Dockerfile", talks.replace("40000000", &format!("4000000{number}"))).unwrap();
        let failed = strake(&["build", "--progress=quiet", "--network=none", "c"]).finish().unwrap();
        let said = failed.stderr.to_lowercase();
        assert!(failed.code == 3 && said.contains("write log") && said.contains("no space left"), "{failed}");
    }
    let free = || rustix::fs::statvfs(&disk.0).map(|found| found.f_bavail * found.f_frsize).unwrap();
    assert!(free() < 4 << 20, "{}", free());
    strake(&["prune"]).succeed().unwrap();
    // Now to the last byte: what the logs give back is what the index is written with.
    let mut rest = std::fs::File::create(disk.0.join("rest")).unwrap();
    assert!(std::io::copy(&mut std::io::repeat(1), &mut rest).is_err());
    assert_eq!(free(), 0);
    strake(&["prune", "--all"]).succeed().unwrap();
    assert!(free() > 16 << 20, "{}", free());
}

/// Name, type, link target, content.
type Entry<'a> = (&'a str, u8, &'a str, &'a [u8]);

/// A tar of these entries, without any check.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link, content) in entries {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000755\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = *kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.write_all(&header).unwrap();
        out.write_all(content).unwrap();
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Tars that try to reach outside: whatever becomes of them, nothing outside is touched.
#[test]
fn hostile_tars_stay_inside() {
    let scene = Scene::new("FROM busybox\nADD evil.tar /d/\n");
    let outside = scene.sandbox.write("outside/file", "untouched").unwrap();
    let folder = outside.parent().unwrap().to_str().unwrap().to_owned();
    let file = outside.to_str().unwrap().to_owned();
    let dots = format!("{}{}", "../".repeat(12), &file[1..]);
    let through = format!("{}{}", "../".repeat(12), &folder[1..]);
    let whiteout = format!("{folder}/.wh.file");
    let tars: Vec<Vec<Entry<'_>>> = vec![
        vec![(&dots, b'0', "", b"evil")],
        vec![(&file, b'0', "", b"evil")],
        vec![("link", b'2', &folder, b""), ("link/file", b'0', "", b"evil")],
        vec![("link", b'2', &through, b""), ("link/file", b'0', "", b"evil"), ("link/new", b'5', "", b"")],
        vec![("hard", b'1', &file, b""), ("hard", b'0', "", b"evil")],
        vec![("hard", b'1', &dots, b"")],
        vec![("link", b'2', &folder, b""), ("link/.wh.file", b'0', "", b"")],
        vec![(&whiteout, b'0', "", b"")],
        vec![(".wh...", b'0', "", b""), (".wh.", b'0', "", b""), ("a/.wh..wh..opq", b'0', "", b"")],
        vec![("fifo", b'6', "", b""), ("fifo", b'0', "", b"x"), ("d", b'5', "", b""), ("d", b'0', "", b"x")],
    ];
    for (number, entries) in tars.iter().enumerate() {
        let bytes = tar(entries);
        scene.sandbox.write("c/evil.tar", &bytes).unwrap();
        let uses: [&[&str]; 2] = [&["build", "--network=none", "c"], &["import", "c/evil.tar", "evil"]];
        for words in uses {
            let finished = scene.sandbox.strake(words).seconds(30).finish().unwrap();
            assert!([0, 2, 3].contains(&finished.code), "tar {number}: {finished}");
            assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched", "tar {number}: {finished}");
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "tar {number}: {finished}");
        }
    }
    scene.file("Dockerfile", "FROM busybox\nRUN true\n");
    scene.build(&[]);
}

#[test]
fn broken_archives_are_told_and_refused() {
    let scene = Scene::new("FROM busybox\n");
    let empty_config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let manifest = |config: &str, layer: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["evil:latest"],"Layers":["{layer}"]}}]"#)
    };
    let good_name = manifest("config.json", "layer.tar");
    let cases: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"not a tar at all".to_vec(),
        tar(&[("manifest.json", b'0', "", b"{")]),
        tar(&[("manifest.json", b'0', "", manifest("../../etc/passwd", "x").as_bytes())]),
        // The layer is not what its digest says.
        tar(&[
            ("config.json", b'0', "", empty_config),
            ("layer.tar", b'0', "", &tar(&[("f", b'0', "", b"x")])),
            ("manifest.json", b'0', "", good_name.as_bytes()),
        ]),
        // A layer that is a link to a file of the host.
        tar(&[
            ("config.json", b'0', "", empty_config),
            ("layer.tar", b'2', "/etc/passwd", b""),
            ("manifest.json", b'0', "", good_name.as_bytes()),
        ]),
        tar(&[("oci-layout", b'0', "", br#"{"imageLayoutVersion":"9.0"}"#), ("index.json", b'0', "", b"[]")]),
    ];
    for (number, bytes) in cases.iter().enumerate() {
        scene.sandbox.write("evil.tar", bytes).unwrap();
        let failed = scene.sandbox.strake(["load", "-i", "evil.tar"]).seconds(30).finish().unwrap();
        assert!([2, 3].contains(&failed.code), "archive {number}: {failed}");
        assert!(failed.stderr.contains("error:"), "archive {number}: {failed}");
    }
    assert!(!scene.strake(&["images"]).stdout.contains("evil"));
    // A gzip that says much more than it is: refused or small, never endless.
    scene.sandbox.write("short.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xff\xff").unwrap();
    let failed = scene.sandbox.strake(["import", "short.tar.gz", "x"]).finish().unwrap();
    assert!([2, 3].contains(&failed.code), "{failed}");
}
