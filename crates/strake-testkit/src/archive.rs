//! Reading images as any builder writes them (docker archives and OCI layouts, in a tar or a directory),
//! and writing a docker archive out of a root file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::{Value, json};
use strake_oci::Digest;

use crate::tree::Flattener;
use crate::{Failure, Outcome, Tree};

/// All images of one archive.
#[derive(Debug)]
pub struct ImageArchive {
    /// The images, in the archive's order.
    pub images: Vec<ArchiveImage>,
}

/// One image of an archive, its layers already laid over each other.
#[derive(Debug)]
pub struct ArchiveImage {
    /// The whole config document.
    pub config: Value,
    /// How many layers it has.
    pub layers: usize,
    /// The file system its layers give.
    pub tree: Tree,
}

impl ImageArchive {
    /// Reads a docker archive or an OCI layout, whichever `path` is; every digest in it is verified.
    ///
    /// # Errors
    /// When it is neither, is incomplete, or a digest is wrong.
    pub fn read(path: &Path) -> Outcome<Self> {
        let files = if path.is_dir() { Files::of_directory(path)? } else { Files::of_tar(path)? };
        if files.contains("index.json") && files.contains("oci-layout") {
            files.oci()
        } else {
            files.docker()
        }
    }

    /// The only image of the archive.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn only(mut self) -> Outcome<ArchiveImage> {
        let count = self.images.len();
        self.images
            .pop()
            .filter(|_| count == 1)
            .ok_or_else(|| Failure::new(format!("{count} images instead of one")))
    }
}

/// The archive's members by name. Test images are small enough to be held in memory.
struct Files {
    bytes: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, String>,
}

impl Files {
    fn of_tar(path: &Path) -> Outcome<Self> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(Failure::at(format!("open {shown}")))?;
        let mut archive = tar::Archive::new(BufReader::new(file));
        let mut files = Self { bytes: BTreeMap::new(), links: BTreeMap::new() };
        for entry in archive.entries().map_err(Failure::at(format!("read {shown}")))? {
            let mut entry = entry.map_err(Failure::at(format!("read {shown}")))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            if let Some(target) = entry.link_name_bytes() {
                files.links.insert(name, String::from_utf8_lossy(&target).into_owned());
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(Failure::at(format!("read {name} in {shown}")))?;
            files.bytes.insert(name, bytes);
        }
        Ok(files)
    }

    fn of_directory(path: &Path) -> Outcome<Self> {
        let mut files = Self { bytes: BTreeMap::new(), links: BTreeMap::new() };
        let mut waiting = vec![path.to_path_buf()];
        while let Some(directory) = waiting.pop() {
            for entry in
                std::fs::read_dir(&directory).map_err(Failure::at(format!("list {}", directory.display())))?
            {
                let entry = entry.map_err(Failure::at(format!("list {}", directory.display())))?.path();
                if entry.is_dir() {
                    waiting.push(entry);
                    continue;
                }
                let bytes =
                    std::fs::read(&entry).map_err(Failure::at(format!("read {}", entry.display())))?;
                let name = entry.strip_prefix(path).unwrap_or(&entry).to_string_lossy().into_owned();
                files.bytes.insert(name, bytes);
            }
        }
        Ok(files)
    }

    fn contains(&self, name: &str) -> bool {
        self.bytes.contains_key(name)
    }

    fn get(&self, name: &str) -> Outcome<&[u8]> {
        // docker save writes a layer that two images share once, and links to it from the other place.
        let name = match self.links.get(name) {
            Some(target) => &join(name, target),
            None => name,
        };
        self.bytes
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| Failure::new(format!("the archive has no member {name}")))
    }

    fn json(&self, name: &str) -> Outcome<Value> {
        serde_json::from_slice(self.get(name)?).map_err(Failure::at(format!("read {name}")))
    }

    fn blob(&self, descriptor: &Value) -> Outcome<&[u8]> {
        let digest = text(&descriptor["digest"])?;
        let hex = digest
            .strip_prefix("sha256:")
            .ok_or_else(|| Failure::new(format!("no sha256 digest: {digest}")))?;
        let bytes = self.get(&format!("blobs/sha256/{hex}"))?;
        expect_digest("blob", &digest, bytes)?;
        if descriptor["size"].as_u64() != u64::try_from(bytes.len()).ok() {
            return Err(Failure::new(format!(
                "blob {digest} has {} bytes, its descriptor says {}",
                bytes.len(),
                descriptor["size"]
            )));
        }
        Ok(bytes)
    }

    fn docker(&self) -> Outcome<ImageArchive> {
        let manifest = self.json("manifest.json")?;
        let mut images = Vec::new();
        for image in list(&manifest)? {
            let config = self.json(&text(&image["Config"])?)?;
            let layers: Vec<&[u8]> =
                list(&image["Layers"])?.iter().map(|name| self.get(&text(name)?)).collect::<Outcome<_>>()?;
            images.push(assemble(config, &layers)?);
        }
        Ok(ImageArchive { images })
    }

    fn oci(&self) -> Outcome<ImageArchive> {
        let index = self.json("index.json")?;
        let mut images = Vec::new();
        let mut waiting: Vec<Value> = list(&index["manifests"])?.iter().rev().cloned().collect();
        while let Some(descriptor) = waiting.pop() {
            let document: Value =
                serde_json::from_slice(self.blob(&descriptor)?).map_err(Failure::at("read a manifest"))?;
            if let Some(manifests) = document["manifests"].as_array() {
                waiting.extend(manifests.iter().rev().cloned());
                continue;
            }
            let config = serde_json::from_slice(self.blob(&document["config"])?)
                .map_err(Failure::at("read a config"))?;
            let layers: Vec<&[u8]> =
                list(&document["layers"])?.iter().map(|layer| self.blob(layer)).collect::<Outcome<_>>()?;
            images.push(assemble(config, &layers)?);
        }
        Ok(ImageArchive { images })
    }
}

/// Lays the layers over each other and checks them against the diff IDs of the config.
fn assemble(config: Value, layers: &[&[u8]]) -> Outcome<ArchiveImage> {
    let diff_ids = list(&config["rootfs"]["diff_ids"])?.clone();
    if diff_ids.len() != layers.len() {
        return Err(Failure::new(format!(
            "{} layers, but {} diff IDs in the config",
            layers.len(),
            diff_ids.len()
        )));
    }
    let mut flattener = Flattener::default();
    for (number, (layer, diff_id)) in layers.iter().zip(&diff_ids).enumerate() {
        let uncompressed = uncompressed(layer).map_err(Failure::at(format!("decompress layer {number}")))?;
        expect_digest(&format!("layer {number}"), &text(diff_id)?, &uncompressed)?;
        flattener.layer(&uncompressed).map_err(Failure::at(format!("layer {number}")))?;
    }
    Ok(ArchiveImage { config, layers: layers.len(), tree: flattener.finish() })
}

fn uncompressed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_vec());
    }
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out)?;
    Ok(out)
}

fn expect_digest(what: &str, expected: &str, bytes: &[u8]) -> Outcome<()> {
    let found = Digest::of(bytes).to_string();
    if found == expected {
        Ok(())
    } else {
        Err(Failure::new(format!("{what} is called {expected} but is {found}")))
    }
}

fn list(value: &Value) -> Outcome<&Vec<Value>> {
    value.as_array().ok_or_else(|| Failure::new(format!("not a list: {value}")))
}

fn text(value: &Value) -> Outcome<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| Failure::new(format!("not a text: {value}")))
}

/// Resolves a link target against the directory of the link's name.
fn join(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Writes `layers` (uncompressed tars) with `config` (the inner `config` object) as a docker archive that
/// docker, skopeo and strake load under the name `tag`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_docker_archive(to: &Path, tag: &str, layers: &[&[u8]], config: &Value) -> Outcome<()> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let history: Vec<Value> =
        layers.iter().map(|_| json!({"created": EPOCH, "created_by": "base"})).collect();
    let document = json!({
        "architecture": architecture(), "os": "linux", "created": EPOCH, "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
    });
    let document = document.to_string().into_bytes();
    let config_name = format!("{}.json", Digest::of(&document).hex());
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let manifest =
        json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]).to_string().into_bytes();

    let file = File::create(to).map_err(Failure::at(format!("create {}", to.display())))?;
    let mut archive = tar::Builder::new(file);
    let members = std::iter::once((config_name.as_str(), document.as_slice()))
        .chain(names.iter().map(String::as_str).zip(layers.iter().copied()))
        .chain(std::iter::once(("manifest.json", manifest.as_slice())));
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len()).map_err(Failure::at("size of a member"))?);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, name, bytes).map_err(Failure::at(format!("write {name}")))?;
    }
    archive.finish().map_err(Failure::at(format!("finish {}", to.display())))
}

/// A fixed time, so that the same base gives the same digest in every run.
const EPOCH: &str = "2023-11-14T22:13:20Z";

/// The machine's architecture in the names of image-spec's `architecture` property (those of Go).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
