//! Several nodes write to, read from and delete in one repository of a real registry: what a reader gets is right, or
//! it is told what is missing, and the next push repairs it.

use std::path::PathBuf;

use strake_testkit::{Node, Running};

use crate::nodes::{Place, build, said};
use crate::scene::eventually;

/// Bytes of a file that does not compress, so that its transfer takes a while.
const LARGE: usize = 24 << 20;

/// Builds an image with a small layer that says `content` and a large one, under the name `name`.
fn build_large(node: &Node, name: &str, content: &str) {
    build(node, "small", content);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 24).to_le_bytes()
    });
    let noise: Vec<u8> = words.take(LARGE / 8).flatten().collect();
    node.sandbox().write("large/noise", noise).unwrap();
    node.sandbox().write("large/Dockerfile", "FROM small\nCOPY noise /\n").unwrap();
    node.strake(["build", "--network=none", "-t", name, "large"]).succeed().unwrap();
}

/// Waits until the registry has logged a request of `node` with `what`.
fn wait_for_request(place: &Place, node: &Node, what: &str) {
    eventually(what, || place.requests_of(node).iter().any(|line| line.contains(what)).then_some(()));
}

/// How many blobs `node` has sent so far.
fn blobs_sent(place: &Place, node: &Node) -> usize {
    place.requests_of(node).iter().filter(|line| line.starts_with("PUT /v2/app/blobs/uploads/")).count()
}

/// Where the registry keeps the manifests of `app`.
fn manifests(place: &Place) -> PathBuf {
    place.registry.content().join("docker/registry/v2/repositories/app/_manifests")
}

/// The files of all blobs in the registry that begin as a gzipped layer does.
fn layers(place: &Place) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let blobs = place.registry.content().join("docker/registry/v2/blobs/sha256");
    for prefix in std::fs::read_dir(blobs).unwrap() {
        for blob in std::fs::read_dir(prefix.unwrap().path()).unwrap() {
            let path = blob.unwrap().path().join("data");
            if std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]) {
                found.push(path);
            }
        }
    }
    found
}

/// Removes the tag's manifest and everything that only it named.
fn delete(place: &Place, name: &str) {
    let skopeo = place.at.run("skopeo").args(["delete", "--tls-verify=false"]);
    skopeo.arg(format!("docker://{name}")).succeed().unwrap();
    place.registry.collect_garbage().unwrap();
}

#[test]
fn of_two_writers_one_wins_whole() {
    let Some(place) = Place::new() else { return };
    let (one, two, reader) = (place.node("one"), place.node("two"), place.node("reader"));
    let name = place.name("app:1");
    build_large(&one, &name, "one");
    build_large(&two, &name, "two");
    let pushes: Vec<Running> =
        [&one, &two].map(|node| node.strake(["push", &name]).start().unwrap()).into_iter().collect();
    for push in pushes {
        let finished = push.finish().unwrap();
        assert_eq!(finished.code, 0, "{finished}");
    }
    reader.strake(["pull", &name]).succeed().unwrap();
    let first = said(&reader, &name);
    assert!(first == "one\n" || first == "two\n", "{first}");
    // Who writes last is who is read.
    for (node, expected) in [(&one, "one\n"), (&two, "two\n"), (&one, "one\n")] {
        node.strake(["push", &name]).succeed().unwrap();
        reader.strake(["pull", &name]).succeed().unwrap();
        assert_eq!(said(&reader, &name), expected);
    }
}

#[test]
fn a_writer_that_dies_before_its_manifest_leaves_nothing_to_read_and_less_to_do() {
    let Some(place) = Place::new() else { return };
    let (writer, other, reader) = (place.node("writer"), place.node("other"), place.node("reader"));
    let name = place.name("app:1");
    build(&writer, &name, "hello");
    // A registry that cannot store manifests holds the writer between its last blob and its manifest.
    std::fs::create_dir_all(manifests(&place)).unwrap();
    let in_the_way = manifests(&place).join("revisions");
    std::fs::write(&in_the_way, "in the way").unwrap();
    let push = writer.strake(["push", &name]).start().unwrap();
    wait_for_request(&place, &writer, "PUT /v2/app/manifests/");
    let killed = push.kill().unwrap();
    assert_eq!(killed.code, 137, "{killed}");
    std::fs::remove_file(in_the_way).unwrap();
    let sent = blobs_sent(&place, &writer);
    assert!(sent >= 3, "two layers and the configuration: {sent}");

    let nothing = reader.strake(["pull", &name]).finish().unwrap();
    assert_ne!(nothing.code, 0, "{nothing}");
    assert!(nothing.stderr.contains(&name), "{nothing}");
    // The same writer goes on with the manifest alone; another one makes the same image of it.
    writer.strake(["push", &name]).succeed().unwrap();
    assert_eq!(blobs_sent(&place, &writer), sent);
    reader.strake(["pull", &name]).succeed().unwrap();
    assert_eq!(said(&reader, &name), "hello\n");
    build(&other, &name, "another");
    other.strake(["push", &name]).succeed().unwrap();
    reader.strake(["pull", &name]).succeed().unwrap();
    assert_eq!(said(&reader, &name), "another\n");
}

#[test]
fn a_writer_killed_in_the_middle_of_a_layer_is_succeeded() {
    let Some(place) = Place::new() else { return };
    let (writer, reader) = (place.node("writer"), place.node("reader"));
    let name = place.name("app:1");
    build_large(&writer, &name, "hello");
    let push = writer.strake(["push", &name]).start().unwrap();
    let before = writer.machine().traffic().unwrap().sent;
    eventually("a part of the layers to be sent", || {
        (writer.machine().traffic().unwrap().sent > before + (4 << 20)).then_some(())
    });
    push.kill().unwrap();
    // Half a layer is no layer: whatever the registry kept of it is not used under the layer's name.
    writer.strake(["push", &name]).succeed().unwrap();
    reader.strake(["pull", &name]).succeed().unwrap();
    assert_eq!(said(&reader, &name), "hello\n");
}

#[test]
fn what_is_missing_behind_a_manifest_is_named_and_repaired_by_a_push() {
    let Some(place) = Place::new() else { return };
    let (writer, reader) = (place.node("writer"), place.node("reader"));
    let name = place.name("app:1");
    build(&writer, &name, "hello");
    writer.strake(["push", &name]).succeed().unwrap();
    let layers = layers(&place);
    assert_eq!(layers.len(), 2);
    layers.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let failed = reader.strake(["pull", &name]).finish().unwrap();
    assert_eq!(failed.code, 3, "{failed}");
    assert!(failed.stderr.contains("/blobs/sha256:") && failed.stderr.contains("404"), "{failed}");
    reader.sandbox().write("on/Dockerfile", format!("FROM {name}\nRUN cat /said\n")).unwrap();
    let failed = reader.strake(["build", "--network=none", "on"]).finish().unwrap();
    assert_eq!(failed.code, 3, "{failed}");
    assert!(failed.stderr.contains("404"), "{failed}");

    let before = blobs_sent(&place, &writer);
    writer.strake(["push", &name]).succeed().unwrap();
    assert_eq!(blobs_sent(&place, &writer), before + 2, "the layers, and nothing else");
    reader.strake(["pull", &name]).succeed().unwrap();
    assert_eq!(said(&reader, &name), "hello\n");
    reader.strake(["build", "--network=none", "on"]).succeed().unwrap();

    // A newer image that cannot be had does not take the place of the one that is here.
    let known = self::layers(&place);
    build(&writer, &name, "newer");
    writer.strake(["push", &name]).succeed().unwrap();
    let fresh: Vec<PathBuf> = self::layers(&place).into_iter().filter(|path| !known.contains(path)).collect();
    assert_eq!(fresh.len(), 1);
    std::fs::remove_file(&fresh[0]).unwrap();
    let failed = reader.strake(["pull", &name]).finish().unwrap();
    assert_eq!(failed.code, 3, "{failed}");
    assert_eq!(said(&reader, &name), "hello\n");
}

/// The reader is stopped as soon as it has the manifest, and what it was about to read is deleted. Whether it had read
/// all of it by then is a matter of luck; that it got the image or was told why not is not.
#[test]
fn a_reader_whose_image_is_deleted_gets_it_or_is_told() {
    let Some(place) = Place::new() else { return };
    let (writer, spare) = (place.node("writer"), place.node("spare"));
    let name = place.name("app:1");
    build_large(&writer, &name, "hello");
    for round in 0..3 {
        writer.strake(["push", &name]).succeed().unwrap();
        let reader = place.node(&format!("reader{round}"));
        let pull = reader.strake(["pull", &name]).start().unwrap();
        wait_for_request(&place, &reader, "GET /v2/app/manifests/1");
        pull.freeze().unwrap();
        delete(&place, &name);
        pull.thaw();
        let pulled = pull.finish().unwrap();
        if pulled.code == 0 {
            assert_eq!(said(&reader, &name), "hello\n");
        } else {
            assert_eq!(pulled.code, 3, "{pulled}");
            assert!(pulled.stderr.contains("sha256:"), "{pulled}");
            // What did arrive is not taken for the image.
            let listed = reader.strake(["images"]).succeed().unwrap().stdout;
            assert!(!listed.contains("app"), "{listed}");
            writer.strake(["push", &name]).succeed().unwrap();
            reader.strake(["pull", &name]).succeed().unwrap();
            assert_eq!(said(&reader, &name), "hello\n");
            delete(&place, &name);
        }
        let gone = spare.strake(["pull", &name]).finish().unwrap();
        assert_ne!(gone.code, 0, "{gone}");
    }
}
