//! From a finished stage to an image.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use strake_oci::{DiffId, ImageConfig, ImageId, Reference};
use strake_store::{LayerId, StoreError};

use super::error::ImageError;
use super::record::{self, ImageLayer, ImageRecord, NewImage};
use super::stream::TarSource;
use super::types::CommitOptions;
use crate::event::Event;
use crate::request::{Environment, StageOutput};

pub(crate) fn commit_stage(
    env: &Environment<'_>,
    stage: &StageOutput,
    names: &[Reference],
    options: &CommitOptions,
) -> Result<ImageId, ImageError> {
    commit(env, &stage.layers, stage.config.clone(), names, options)
}

/// Makes an image of layers and a configuration that lacks only what follows from the layers.
pub(crate) fn commit(
    env: &Environment<'_>,
    layers: &[LayerId],
    mut config: ImageConfig,
    names: &[Reference],
    options: &CommitOptions,
) -> Result<ImageId, ImageError> {
    let unknown = unknown_layers(env, layers, options.source_date_epoch)?;
    if unknown > 0 {
        let plural = if unknown == 1 { "" } else { "s" };
        (env.events)(Event::Phase(format!("describing {unknown} layer{plural}")));
    }
    let layers = describe_layers(env, layers, options.source_date_epoch)?;
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    set_times(&mut config, options);
    record::check_history(&config, "the image to be made")?;
    let new = NewImage {
        config: &config.to_bytes(),
        record: ImageRecord::new(layers),
        manifest: None,
        answered: None,
        names,
    };
    Ok(record::put_image(env.store, &new)?)
}

/// With `SOURCE_DATE_EPOCH` that is the time of the image and the latest time in its history; otherwise the time
/// that the last step was really made stays, so that the same build gives the same image.
fn set_times(config: &mut ImageConfig, options: &CommitOptions) {
    let Some(epoch) = options.source_date_epoch else {
        config.created.get_or_insert_with(|| super::rfc3339(options.created));
        return;
    };
    let epoch = jiff::Timestamp::from_second(epoch).unwrap_or(jiff::Timestamp::MAX);
    config.created = Some(epoch.to_string());
    for entry in &mut config.history {
        let is_later = entry.created.as_ref().is_some_and(|created| {
            created.parse::<jiff::Timestamp>().map_or(true, |created| created > epoch)
        });
        if is_later {
            entry.created = Some(epoch.to_string());
        }
    }
}

/// Finds the diff ID of each layer, computing those that nobody knows yet, several at once.
pub(crate) fn describe_layers(
    env: &Environment<'_>,
    layers: &[LayerId],
    epoch: Option<i64>,
) -> Result<Vec<ImageLayer>, ImageError> {
    let mut known: Vec<Option<ImageLayer>> = Vec::new();
    for layer in layers {
        known.push(known_layer(env, layer, epoch)?);
    }
    let unknown: Vec<usize> = (0..layers.len()).filter(|position| known[*position].is_none()).collect();
    if !unknown.is_empty() {
        for (position, described) in compute_all(env, layers, &unknown, epoch)? {
            known[position] = Some(described);
        }
    }
    Ok(known.into_iter().flatten().collect())
}

/// How many layers have to be read for their diff IDs.
fn unknown_layers(
    env: &Environment<'_>,
    layers: &[LayerId],
    epoch: Option<i64>,
) -> Result<usize, ImageError> {
    let mut unknown = 0;
    for layer in layers {
        unknown += usize::from(known_layer(env, layer, epoch)?.is_none());
    }
    Ok(unknown)
}

/// The diff IDs of layers, where all of them are known without reading anything.
pub(crate) fn known_diff_ids(
    env: &Environment<'_>,
    layers: &[LayerId],
    epoch: Option<i64>,
) -> Result<Option<Vec<DiffId>>, ImageError> {
    let mut diff_ids = Vec::with_capacity(layers.len());
    for layer in layers {
        match known_layer(env, layer, epoch)? {
            Some(known) => diff_ids.push(known.diff_id),
            None => return Ok(None),
        }
    }
    Ok(Some(diff_ids))
}

fn known_layer(
    env: &Environment<'_>,
    layer: &LayerId,
    epoch: Option<i64>,
) -> Result<Option<ImageLayer>, ImageError> {
    let described = |diff_id, clamp| Some(ImageLayer { diff_id, layer: layer.clone(), clamp });
    // What comes from elsewhere is never rewritten: its times are part of what it is.
    if let Some((diff_id, _)) = record::chain(env.store, layer)? {
        return Ok(described(diff_id, None));
    }
    let found = env.store.index().layer(layer)?.ok_or_else(|| StoreError::NoLayer(layer.clone()))?;
    Ok(match epoch {
        None => found.diff_id.and_then(|diff_id| described(diff_id, None)),
        Some(epoch) => {
            record::clamped(env.store, layer, epoch)?.and_then(|diff_id| described(diff_id, Some(epoch)))
        }
    })
}

fn compute_all(
    env: &Environment<'_>,
    layers: &[LayerId],
    unknown: &[usize],
    epoch: Option<i64>,
) -> Result<Vec<(usize, ImageLayer)>, ImageError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Result<(usize, ImageLayer), ImageError>>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(unknown.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(position) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = compute(env, &layers[*position], epoch).map(|layer| (*position, layer));
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
}

fn compute(env: &Environment<'_>, layer: &LayerId, epoch: Option<i64>) -> Result<ImageLayer, ImageError> {
    if env.cancellation.is_requested() {
        return Err(ImageError::Canceled);
    }
    let directory = env.store.layer_dir(layer);
    let source = TarSource { directory: directory.clone(), clamp: epoch };
    let (diff_id, size) = source.digest().map_err(ImageError::io("describe layer", &directory))?;
    match epoch {
        None => env.store.index().set_layer_diff_id(layer, diff_id, size)?,
        Some(epoch) => record::put_clamped(env.store, layer, epoch, diff_id, size)?,
    }
    Ok(ImageLayer { diff_id, layer: layer.clone(), clamp: epoch })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use strake_oci::{HistoryEntry, Platform};

    use super::*;

    fn config(created: &str) -> ImageConfig {
        let mut config = ImageConfig::empty(&Platform::linux("amd64"));
        config.created = Some(created.to_owned());
        config.history = vec![HistoryEntry { created: Some(created.to_owned()), ..HistoryEntry::default() }];
        config
    }

    #[test]
    fn the_epoch_limits_every_time() {
        let options = CommitOptions { created: SystemTime::now(), source_date_epoch: Some(100) };
        let mut late = config("2024-01-01T00:00:00Z");
        set_times(&mut late, &options);
        assert_eq!(late.created.as_deref(), Some("1970-01-01T00:01:40Z"));
        assert_eq!(late.history[0].created.as_deref(), Some("1970-01-01T00:01:40Z"));
        let mut early = config("1970-01-01T00:00:01Z");
        set_times(&mut early, &options);
        assert_eq!(early.history[0].created.as_deref(), Some("1970-01-01T00:00:01Z"));
    }
}
