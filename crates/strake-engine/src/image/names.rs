//! What is in the store, by name and by id.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strake_oci::{Digest, HistoryEntry, ImageConfig, ImageId, Reference};

use super::Force;
use super::error::ImageError;
use super::record::{self, IMAGE, ImageLayer, ImageRecord, NAME, NameRecord};
use super::resolve::local_name;
use super::types::{HistoryRow, ImageSummary, LocalImage, Removed};
use crate::request::Environment;

/// As many digits as a short id may have at least: fewer are more likely a mistake.
const MIN_DIGITS: usize = 4;

pub(crate) fn find(env: &Environment<'_>, text: &str) -> Result<LocalImage, ImageError> {
    if let Ok(reference) = text.parse::<Reference>()
        && let Some(record) = local_name(env, &reference)?
    {
        return Ok(LocalImage { id: record.image, reference: Some(reference) });
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = (MIN_DIGITS..=64).contains(&digits.len())
        && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        return Err(ImageError::unknown(text));
    }
    let found = env.store.index().list_prefix(IMAGE, digits)?;
    match found.as_slice() {
        [] => Err(ImageError::unknown(text)),
        [one] => Ok(LocalImage { id: image_id(&one.key, text)?, reference: None }),
        many => Err(ImageError::Ambiguous {
            prefix: text.to_owned(),
            candidates: many.iter().take(5).map(|entry| entry.key.chars().take(12).collect()).collect(),
        }),
    }
}

fn image_id(key: &str, text: &str) -> Result<ImageId, ImageError> {
    Digest::from_hex(key)
        .map(ImageId)
        .map_err(|error| ImageError::malformed(format!("record of image {text}"), error))
}

/// The record and configuration of an image that must be there.
pub(crate) fn load(
    env: &Environment<'_>,
    id: ImageId,
) -> Result<(ImageRecord, ImageConfig, Vec<u8>), ImageError> {
    let record = record::image(env.store, id)?.ok_or_else(|| ImageError::unknown(&id.0.short()))?;
    let (config, bytes) = record::config(env.store, id)?;
    Ok((record, config, bytes))
}

/// Lets a name that a failed pull gave to `image` stand for what it stood for before, or for nothing. A name that
/// somebody else has changed meanwhile stays.
pub(crate) fn give_back(
    env: &Environment<'_>,
    name: &Reference,
    image: ImageId,
    before: Option<&NameRecord>,
) -> Result<(), ImageError> {
    if record::name_record(env.store, name)?.is_none_or(|now| now.image != image) {
        return Ok(());
    }
    match before {
        Some(before) => record::put_name(env.store, name, before)?,
        None => {
            env.store.index().delete(NAME, &name.to_string())?;
        }
    }
    Ok(())
}

pub(crate) fn tag(env: &Environment<'_>, source: &str, target: &Reference) -> Result<(), ImageError> {
    if target.digest().is_some() {
        return Err(ImageError::Usage(format!("{target}: a name given to an image has a tag, not a digest")));
    }
    let found = find(env, source)?;
    let known = match &found.reference {
        Some(reference) => local_name(env, reference)?,
        None => names_of(env, found.id)?
            .into_iter()
            .map(|(_, record)| record)
            .find(|record| record.manifest.is_some()),
    };
    let record = known.unwrap_or_else(|| NameRecord::new(found.id));
    Ok(record::put_name(env.store, target, &record)?)
}

fn names_of(env: &Environment<'_>, id: ImageId) -> Result<Vec<(Reference, NameRecord)>, ImageError> {
    Ok(record::names(env.store)?.into_iter().filter(|(_, record)| record.image == id).collect())
}

pub(crate) fn remove(env: &Environment<'_>, text: &str, force: Force) -> Result<Removed, ImageError> {
    let found = find(env, text)?;
    let names = names_of(env, found.id)?;
    let going: Vec<&Reference> = match &found.reference {
        Some(reference) => names.iter().map(|(name, _)| name).filter(|name| *name == reference).collect(),
        None => names.iter().map(|(name, _)| name).collect(),
    };
    if found.reference.is_none() && going.len() > 1 && force == Force::No {
        let list: Vec<String> = going.iter().map(|name| name.familiar()).collect();
        let text = format!(
            "image {text} has several names ({}); remove them one by one, or use --force",
            list.join(", ")
        );
        return Err(ImageError::Usage(text));
    }
    let mut removed = Removed::default();
    for name in going {
        if env.store.index().delete(NAME, &name.to_string())? {
            removed.untagged.push(name.familiar());
        }
    }
    if names_of(env, found.id)?.is_empty() && env.store.index().delete(IMAGE, &found.id.0.hex())? {
        removed.deleted = Some(found.id);
    }
    Ok(removed)
}

pub(crate) fn list(env: &Environment<'_>) -> Result<Vec<ImageSummary>, ImageError> {
    let mut names: BTreeMap<ImageId, Vec<(Reference, NameRecord)>> = BTreeMap::new();
    for (name, record) in record::names(env.store)? {
        names.entry(record.image).or_default().push((name, record));
    }
    let mut summaries = Vec::new();
    for entry in env.store.index().list(IMAGE)? {
        let Ok(id) = Digest::from_hex(&entry.key).map(ImageId) else { continue };
        // A record without its configuration is what a crash or a prune left; it is no image.
        let Ok((record, config, _)) = load(env, id) else { continue };
        let names = names.remove(&id).unwrap_or_default();
        let mut unpacked = 0;
        for layer in &record.layers {
            unpacked += usize::from(env.store.index().layer(&layer.layer)?.is_some());
        }
        summaries.push(ImageSummary {
            id,
            manifest: names.iter().find_map(|(_, name)| name.manifest.clone()),
            names: names.iter().map(|(name, _)| name.familiar()).collect(),
            created: config.created.clone(),
            platform: config.platform(),
            size: total(&sizes(env, &record)?),
            layers: record.layers.len(),
            unpacked,
        });
    }
    summaries.sort_by(|a, b| b.created.cmp(&a.created).then(a.id.cmp(&b.id)));
    Ok(summaries)
}

fn sizes(env: &Environment<'_>, record: &ImageRecord) -> Result<Vec<Option<u64>>, ImageError> {
    record.layers.iter().map(|layer| size(env, layer)).collect()
}

/// The bytes of a layer: of its tar where that was seen, otherwise of a blob.
fn size(env: &Environment<'_>, layer: &ImageLayer) -> Result<Option<u64>, ImageError> {
    let known =
        env.store.index().layer(&layer.layer)?.and_then(|layer| layer.tar_size.or(layer.size_on_disk));
    if known.is_some() {
        return Ok(known);
    }
    Ok(env.store.index().layer_blobs(layer.diff_id)?.first().map(|blob| blob.size))
}

fn total(sizes: &[Option<u64>]) -> Option<u64> {
    sizes.iter().copied().sum()
}

pub(crate) fn inspect(env: &Environment<'_>, text: &str) -> Result<Value, ImageError> {
    let id = find(env, text)?.id;
    let (record, config, bytes) = load(env, id)?;
    let names = names_of(env, id)?;
    let tags: Vec<String> = names.iter().map(|(name, _)| name.familiar()).collect();
    let mut digests: Vec<String> = names
        .iter()
        .filter_map(|(name, record)| Some(name.with_digest(record.manifest.as_ref()?.digest).familiar()))
        .collect();
    digests.sort();
    digests.dedup();
    let raw: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let size = total(&sizes(env, &record)?);
    let comment = config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default();
    let layers: Vec<String> = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    Ok(json!({
        "Id": id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment,
        "Created": config.created,
        "DockerVersion": raw.get("docker_version").cloned().unwrap_or_else(|| json!("")),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": raw.get("config").cloned().unwrap_or(Value::Null),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": size,
        "RootFS": { "Type": "layers", "Layers": layers },
    }))
}

pub(crate) fn history(env: &Environment<'_>, text: &str) -> Result<Vec<HistoryRow>, ImageError> {
    let id = find(env, text)?.id;
    let (record, config, _) = load(env, id)?;
    let mut sizes = sizes(env, &record)?.into_iter();
    let mut entries = config.history.clone();
    // An image without a history still has layers to tell of.
    if entries.is_empty() {
        entries = vec![HistoryEntry::default(); record.layers.len()];
    }
    let mut rows: Vec<HistoryRow> = entries
        .into_iter()
        .map(|entry| HistoryRow {
            id: None,
            size: if entry.empty_layer { Some(0) } else { sizes.next().flatten() },
            created: entry.created,
            created_by: entry.created_by.unwrap_or_default(),
            comment: entry.comment.unwrap_or_default(),
        })
        .collect();
    rows.reverse();
    if let Some(top) = rows.first_mut() {
        top.id = Some(id);
    }
    Ok(rows)
}
