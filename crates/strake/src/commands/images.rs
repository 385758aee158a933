//! `tag`, `images`, `rmi`, `inspect`, `history`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use strake_engine::image::{self, Force, ImageSummary};

use super::{in_session, output, ui};
use crate::args::{Format, HistoryArgs, ImagesArgs, InspectArgs, RmiArgs, TagArgs};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::ui as show;

/// `strake tag`.
pub(super) fn tag(args: &TagArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Tagging", None, false);
    in_session(settings, options, |session| {
        session.with_image(&args.source, None, |env| image::tag(env, &args.source, &args.target))?;
        Ok(0)
    })
}

/// `strake images`.
pub(super) fn list(args: &ImagesArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Listing", None, false);
    in_session(settings, options, |session| {
        let images = session.with(image::list)?;
        let rows: Vec<_> =
            images.iter().flat_map(rows).filter(|row| is_wanted(row, args.name.as_deref())).collect();
        print_images(args, &rows)?;
        Ok(0)
    })
}

/// One name of an image, or the image without one.
struct Row<'a> {
    repository: Option<&'a str>,
    tag: Option<&'a str>,
    image: &'a ImageSummary,
}

fn rows(image: &ImageSummary) -> Vec<Row<'_>> {
    if image.names.is_empty() {
        return vec![Row { repository: None, tag: None, image }];
    }
    let row = |name| {
        let (repository, tag) = split_tag(name);
        Row { repository: Some(repository), tag, image }
    };
    image.names.iter().map(|name| row(name.as_str())).collect()
}

/// Cuts the tag off a short name; a `:` in front of a `/` is a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

fn is_wanted(row: &Row<'_>, name: Option<&str>) -> bool {
    let Some(name) = name else { return true };
    let (repository, tag) = split_tag(name);
    let repository = repository.trim_start_matches("docker.io/").trim_start_matches("library/");
    row.repository == Some(repository) && (tag.is_none() || row.tag == tag)
}

fn print_images(args: &ImagesArgs, rows: &[Row<'_>]) -> Result<(), Failure> {
    let id = |row: &Row<'_>| match args.no_trunc {
        true => row.image.id.to_string(),
        false => row.image.id.0.short(),
    };
    if args.format == Format::Json {
        let values: Vec<_> = rows.iter().map(row_json).collect();
        return output::json(&values.into());
    }
    if args.quiet {
        let mut ids: Vec<_> = rows.iter().map(id).collect();
        ids.dedup();
        return ids.iter().try_for_each(|id| output::line(id));
    }
    let mut head = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        head.insert(2, "DIGEST");
    }
    let none = || "<none>".to_owned();
    let cells = |row: &Row<'_>| {
        let mut cells = vec![
            row.repository.map_or_else(none, str::to_owned),
            row.tag.map_or_else(none, str::to_owned),
            id(row),
            row.image.created.as_deref().map_or_else(|| "-".to_owned(), since),
            row.image.size.map_or_else(|| "-".to_owned(), show::size),
        ];
        if args.digests {
            cells.insert(
                2,
                row.image.manifest.as_ref().map_or_else(none, |manifest| manifest.digest.to_string()),
            );
        }
        cells
    };
    output::table(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn row_json(row: &Row<'_>) -> serde_json::Value {
    let image = row.image;
    json!({
        "id": image.id.to_string(), "repository": row.repository, "tag": row.tag,
        "digest": image.manifest.as_ref().map(|manifest| manifest.digest.to_string()),
        "created": image.created, "size": image.size, "platform": image.platform.to_string(),
        "layers": image.layers, "unpacked": image.unpacked,
    })
}

/// How long ago a time of RFC 3339 was.
fn since(created: &str) -> String {
    let Ok(time) = created.parse::<jiff::Timestamp>() else { return show::clean(created.as_bytes()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs());
    show::ago(now.saturating_sub(u64::try_from(time.as_second()).unwrap_or(0)))
}

/// `strake rmi`.
pub(super) fn remove(args: &RmiArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Removing", None, false);
    let force = if args.force { Force::Yes } else { Force::No };
    in_session(settings, options, |session| {
        for name in &args.images {
            let removed = session.with_image(name, None, |env| match image::remove(env, name, force) {
                Err(image::ImageError::NotFound { .. }) if args.force => Ok(None),
                other => other.map(Some),
            })?;
            let Some(removed) = removed else { continue };
            removed.untagged.iter().try_for_each(|name| output::line(&format!("Untagged: {name}")))?;
            if let Some(id) = removed.deleted {
                output::line(&format!("Deleted: {id}"))?;
            }
        }
        Ok(0)
    })
}

/// `strake inspect`.
pub(super) fn inspect(args: &InspectArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Inspecting", None, false);
    in_session(settings, options, |session| {
        let found: Result<Vec<_>, Failure> = args
            .images
            .iter()
            .map(|name| session.with_image(name, None, |env| image::inspect(env, name)))
            .collect();
        output::json(&found?.into())?;
        Ok(0)
    })
}

/// The most characters of an instruction that a table shows, as docker has it.
const INSTRUCTION_MAX: usize = 45;

/// `strake history`.
pub(super) fn history(args: &HistoryArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Reading", None, false);
    in_session(settings, options, |session| {
        let rows = session.with_image(&args.image, None, |env| image::history(env, &args.image))?;
        let id = |row: &image::HistoryRow| match (row.id, args.no_trunc) {
            (None, _) => "<missing>".to_owned(),
            (Some(id), true) => id.to_string(),
            (Some(id), false) => id.0.short(),
        };
        if args.format == Format::Json {
            let value = |row: &image::HistoryRow| {
                json!({
                    "id": row.id.map(|id| id.to_string()), "created": row.created, "created_by": row.created_by,
                    "size": row.size, "comment": row.comment,
                })
            };
            output::json(&rows.iter().map(value).collect::<Vec<_>>().into())?;
            return Ok(0);
        }
        if args.quiet {
            rows.iter().try_for_each(|row| output::line(&id(row)))?;
            return Ok(0);
        }
        let cells = |row: &image::HistoryRow| {
            let instruction = show::clean(row.created_by.as_bytes());
            vec![
                id(row),
                row.created.as_deref().map_or_else(|| "-".to_owned(), since),
                if args.no_trunc { instruction } else { show::cut(&instruction, INSTRUCTION_MAX) },
                row.size.map_or_else(|| "-".to_owned(), show::size),
                show::clean(row.comment.as_bytes()),
            ]
        };
        let rows: Vec<_> = rows.iter().map(cells).collect();
        output::table(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows)?;
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_not_ports() {
        assert_eq!(split_tag("a:1"), ("a", Some("1")));
        assert_eq!(split_tag("localhost:5000/a"), ("localhost:5000/a", None));
        assert_eq!(split_tag("localhost:5000/a:1"), ("localhost:5000/a", Some("1")));
        assert_eq!(split_tag("a@sha256:00"), ("a", None));
    }
}
