//! Outside programs judge what we write.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use strake_oci::Compression;
use strake_store::compress::{CompressOptions, Compressor};
use strake_store::tar::{DiffOptions, diff};

use super::fixture::{
    Raw, describe, dir, file, fixture, hard_link, is_root, missing, pax, symlink, tar, unpack_all,
};

fn run(program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {arguments:?}: {text}");
            true
        }
        Err(_) => {
            missing(program);
            false
        }
    }
}

fn sample() -> Vec<u8> {
    // Beyond the octal range where that is possible: an ordinary user has no such ids.
    let owner = if std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295") {
        "3000000"
    } else {
        "7"
    };
    let long = "long/".repeat(30) + "name";
    let mut bytes = super::fixture::tar_without_end(&[
        dir("d"),
        Raw { mode: 0o4755, owner: 1000, ..file("d/su", "x") },
        symlink("d/l", &"t".repeat(99)),
        hard_link("d/h", "d/su"),
        Raw { mode: 0o1777, ..dir("tmp") },
    ]);
    bytes.extend(pax(&[
        ("path", long.as_bytes()),
        ("SCHILY.xattr.user.note", b"a\0b\n"),
        ("uid", owner.as_bytes()),
    ]));
    bytes.extend(tar(&[file("short", &"content".repeat(300_000))]));
    bytes
}

#[test]
fn gnu_tar_extracts_the_same() {
    let fixture = fixture();
    let layers = unpack_all(&fixture.store, &[sample()]).unwrap();
    let layer = fixture.store.layer_dir(&layers[0]);
    let (archive, out) = (fixture.folder.path().join("layer.tar"), fixture.folder.path().join("out"));
    std::fs::create_dir(&out).unwrap();
    diff(&layer, std::fs::File::create(&archive).unwrap(), &DiffOptions::default()).unwrap();
    let paths = [&archive, &out].map(|path| path.to_str().unwrap());
    if run(
        "tar",
        &["--xattrs", "--xattrs-include=*", "-p", "--numeric-owner", "-xf", paths[0], "-C", paths[1]],
    ) {
        assert_eq!(describe(&layer), describe(&out));
    }
}

/// A minimal OCI layout of one image with our layer in it.
fn layout(at: &Path, layer: &Path, compression: Compression) {
    let blobs = at.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let options = CompressOptions { compression, level: None, threads: None };
    let mut compressor = Compressor::new(Vec::new(), &options).unwrap();
    diff(layer, &mut compressor, &DiffOptions::default()).unwrap();
    let (bytes, info) = compressor.finish().unwrap();
    let put = |bytes: &[u8]| {
        let digest = strake_oci::Digest::of(bytes);
        std::fs::File::create(blobs.join(digest.hex())).unwrap().write_all(bytes).unwrap();
        (digest, bytes.len())
    };
    let (layer, layer_size) = put(&bytes);
    let media = strake_oci::MediaType::oci_layer(compression);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        info.diff_id
    );
    let (config, config_size) = put(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"{media}","digest":"{layer}","size":{layer_size}}}]}}"#
    );
    let (manifest, size) = put(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{size},"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}]}}"#
    );
    std::fs::write(at.join("index.json"), index).unwrap();
    std::fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn skopeo_umoci_and_gzip_accept_our_layers() {
    let fixture = fixture();
    let layers = unpack_all(&fixture.store, &[sample()]).unwrap();
    let layer = fixture.store.layer_dir(&layers[0]);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let name = format!("{compression:?}");
        let [image, copy, bundle] =
            ["image", "copy", "bundle"].map(|part| fixture.folder.path().join(format!("{part}-{name}")));
        layout(&image, &layer, compression);
        let from = format!("oci:{}:t", image.display());
        // An uncompressed copy makes skopeo read and verify every byte.
        run(
            "skopeo",
            &["copy", "--insecure-policy", "--dest-decompress", &from, &format!("dir:{}", copy.display())],
        );
        if compression != Compression::Gzip {
            continue;
        }
        for blob in std::fs::read_dir(image.join("blobs/sha256")).unwrap() {
            let path = blob.unwrap().path();
            if std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]) {
                let gzip = fixture.folder.path().join("layer.gz");
                std::fs::copy(&path, &gzip).unwrap();
                run("gzip", &["-t", gzip.to_str().unwrap()]);
            }
        }
        if !is_root() {
            missing("root for umoci");
        } else if run(
            "umoci",
            &["unpack", "--image", &format!("{}:t", image.display()), bundle.to_str().unwrap()],
        ) {
            let (mut ours, theirs) = (describe(&layer), describe(&bundle.join("rootfs")));
            // umoci gives the directories that the layer did not name the time of unpacking; ours are in the tar.
            ours.retain(|path, _| !path.is_empty());
            assert_eq!(ours, theirs);
        }
    }
}
