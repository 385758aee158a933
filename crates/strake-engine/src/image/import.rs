//! An image of one layer from a plain tar.

use std::io::{BufReader, Read};

use strake_oci::{HistoryEntry, ImageConfig, ImageId};
use strake_store::compress::{decoder, detect};
use strake_store::tar::{ApplyOptions, Whiteouts, apply, settle};
use strake_store::{StoreError, UnpackOptions};

use super::commit::commit;
use super::error::ImageError;
use super::rfc3339;
use super::types::{CommitOptions, ImportOptions};
use crate::event::Event;
use crate::request::Environment;

pub(crate) fn import(
    env: &Environment<'_>,
    tar: impl Read + Send,
    options: &ImportOptions,
) -> Result<ImageId, ImageError> {
    let tar = open_compressed(tar, "the tar to import")?;
    let layer = env.store.prepare_layer()?;
    let limits = UnpackOptions::default();
    let apply_options = ApplyOptions {
        flavour: env.store.flavour(),
        max_bytes: limits.max_bytes,
        max_entries: limits.max_entries,
        // A file system of its own has nothing below that could be deleted.
        whiteouts: Whiteouts::Plain,
    };
    let tar_error = |source| StoreError::Tar { what: "import".to_owned(), source };
    let applied = apply(tar, layer.upper(), &apply_options).map_err(tar_error)?;
    if applied.entries == 0 {
        return Err(ImageError::malformed("the tar to import", "it has no entries"));
    }
    settle(env.store, layer.upper(), &[], &applied)?;
    for note in &applied.notes {
        (env.events)(Event::Warning(format!("import: {note}")));
    }
    let layer = env.store.snapshots().commit(layer)?;
    let created = rfc3339(options.created);
    let mut config = ImageConfig::empty(&options.platform);
    config.config = options.config.clone();
    config.created = Some(created.clone());
    config.history = vec![HistoryEntry {
        created: Some(created),
        comment: Some(options.comment.clone()).filter(|comment| !comment.is_empty()),
        ..HistoryEntry::default()
    }];
    let commit_options = CommitOptions { created: options.created, source_date_epoch: None };
    commit(env, &[layer], config, &options.names, &commit_options)
}

/// Decompresses whatever the first bytes betray.
pub(crate) fn open_compressed<'a>(
    reader: impl Read + Send + 'a,
    what: &str,
) -> Result<Box<dyn Read + Send + 'a>, ImageError> {
    let mut reader = BufReader::with_capacity(256 << 10, reader);
    let mut prefix = [0; 8];
    let count = read_prefix(&mut reader, &mut prefix).map_err(|error| ImageError::malformed(what, error))?;
    let codec = detect(&prefix[..count]);
    let whole = std::io::Cursor::new(prefix).take(count as u64).chain(reader);
    decoder(whole, codec).map_err(|error| ImageError::malformed(what, error))
}

fn read_prefix(reader: &mut impl Read, prefix: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < prefix.len() {
        match reader.read(&mut prefix[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}
