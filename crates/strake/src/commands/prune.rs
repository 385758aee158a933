//! `du` and `prune`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use strake_engine::{Fate, Judged, RepositoryPolicy};
use strake_oci::Reference;
use strake_store::gc::{self, Item, ItemUsage, PrunePolicy, Reason, Report};
use strake_store::room::RoomLimit;

use super::{in_session, output, room, ui};
use crate::args::{DuArgs, Format, PruneArgs};
use crate::failure::Failure;
use crate::project::repository_name;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui as show;

/// The kind of document that keeps what the user named.
pub(super) const NAMES: &str = "name";

/// The kind of document that says what was built where, a few bytes each: the next build can say that its cache was
/// removed, instead of that it never was there. Those go when nobody built there for long.
const PLACES: &str = "place";

/// What `prune` without any choice removes: what nobody used for this long.
const DEFAULT_AGE: Duration = Duration::from_secs(14 * 86_400);

/// `strake du`.
pub(super) fn usage(args: &DuArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Counting", None, false);
    in_session(settings, options, |session| {
        let usage = gc::usage(&session.store)?;
        let layers: u64 = usage.layers.iter().map(|layer| layer.bytes).sum();
        let blobs: u64 = usage.blobs.iter().map(|blob| blob.bytes).sum();
        let unneeded = unneeded(&usage.layers) + unneeded(&usage.blobs);
        let total =
            layers + blobs + usage.cache_mounts + usage.logs + usage.stat_caches + usage.locks + usage.trash;
        if args.format == Format::Json {
            let documents: BTreeMap<_, _> =
                usage.documents.iter().map(|(kind, (count, _))| (kind, count)).collect();
            output::json(&json!({
                "root": session.store.root(), "total": total, "layers": layers, "blobs": blobs,
                "cache_mounts": usage.cache_mounts, "logs": usage.logs,
                "stat_caches": usage.stat_caches, "locks": usage.locks, "trash": usage.trash, "unneeded": unneeded,
                "documents": documents,
            }))?;
            return Ok(0);
        }
        if args.verbose {
            let layers = usage.layers.iter().map(|layer| item_row("layer", layer.item.as_str(), layer));
            let blobs = usage.blobs.iter().map(|blob| item_row("blob", &blob.item.to_string(), blob));
            let rows: Vec<_> = layers.chain(blobs).collect();
            output::table(&["KIND", "ID", "SIZE", "NEEDED BY", "LAST USED"], &rows)?;
            output::line("")?;
        }
        let row = |kind: &str, count: usize, bytes: u64| {
            vec![kind.to_owned(), count.to_string(), show::size(bytes)]
        };
        let mut rows = vec![
            row("layers", usage.layers.len(), layers),
            row("blobs", usage.blobs.len(), blobs),
            vec!["cache mounts".to_owned(), "-".to_owned(), show::size(usage.cache_mounts)],
            vec!["logs".to_owned(), "-".to_owned(), show::size(usage.logs)],
            vec!["stat caches".to_owned(), "-".to_owned(), show::size(usage.stat_caches)],
            vec!["locks".to_owned(), "-".to_owned(), show::size(usage.locks)],
            vec!["trash".to_owned(), "-".to_owned(), show::size(usage.trash)],
        ];
        rows.push(vec!["total".to_owned(), "-".to_owned(), show::size(total)]);
        output::table(&["KIND", "COUNT", "SIZE"], &rows)?;
        if unneeded > 0 {
            output::line(&format!(
                "\n{} needed by nothing; `strake prune` gives it back",
                show::size(unneeded)
            ))?;
        }
        Ok(0)
    })
}

fn unneeded<T>(items: &[ItemUsage<T>]) -> u64 {
    items.iter().filter(|item| item.documents == 0).map(|item| item.bytes).sum()
}

fn item_row<T>(kind: &str, id: &str, item: &ItemUsage<T>) -> Vec<String> {
    let now = nanoseconds(SystemTime::now());
    let age = u64::try_from(now.saturating_sub(item.used_ns)).unwrap_or(0) / 1_000_000_000;
    let id = id.trim_start_matches("sha256:").trim_start_matches("sha256-");
    let id = id.get(..12).unwrap_or(id);
    vec![kind.to_owned(), id.to_owned(), show::size(item.bytes), item.documents.to_string(), show::ago(age)]
}

pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// `strake prune`.
pub(super) fn prune(args: &PruneArgs, mut settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Pruning", None, false);
    settings.log_in(&args.login, &args.repo.iter().collect::<Vec<_>>())?;
    // What is asked for here is all that is done.
    let limit = settings.auto_prune.take();
    in_session(settings, options, |session| match &args.repo {
        Some(repository) => prune_repository(session, repository, args),
        None => prune_store(session, limit, args),
    })
}

fn prune_store(session: &Session, limit: Option<RoomLimit>, args: &PruneArgs) -> Result<u8, Failure> {
    let judged = if args.auto { Some(Room::judge(session, limit)?) } else { None };
    if args.format == Format::Table
        && let Some(room) = &judged
    {
        output::line(&room.to_string())?;
    }
    let policy = match &judged {
        Some(room) => room.policy().map(|policy| PrunePolicy { dry_run: args.dry_run, ..policy }),
        None => Some(policy(args, SystemTime::now())),
    };
    let report = match &policy {
        Some(policy) => gc::prune(&session.store, policy)?,
        None => Report::default(),
    };
    if policy.is_some() && !args.dry_run {
        session.store.sweep()?;
    }
    match args.format {
        Format::Json => output::json(&report_json(&report, judged.as_ref(), args.dry_run))?,
        // Nothing has to go: that is said already.
        Format::Table if policy.is_none() => {}
        Format::Table => show_report(&report, args.dry_run)?,
    }
    Ok(0)
}

fn show_report(report: &Report, dry_run: bool) -> Result<(), Failure> {
    for (item, bytes, reason) in &report.removed {
        output::line(&format!("remove {}", explain(item, *bytes, *reason)))?;
    }
    if dry_run {
        for (item, bytes, reason) in &report.kept {
            output::line(&format!("keep   {}", explain(item, *bytes, *reason)))?;
        }
    }
    let verb = if dry_run { "would be given back" } else { "given back" };
    output::line(&format!("{} {verb}", show::size(report.freed_bytes)))
}

/// What was removed; what stays where nothing was. Of all that stays a store has too much to tell it each time.
fn report_json(report: &Report, room: Option<&Room>, dry_run: bool) -> Value {
    let items = |items: &[(Item, u64, Reason)]| -> Vec<Value> {
        let item = |(item, bytes, reason): &(Item, u64, Reason)| {
            let (kind, id) = named(item);
            json!({ "kind": kind, "id": id, "bytes": bytes, "reason": reason.to_string() })
        };
        items.iter().map(item).collect()
    };
    let mut value = json!({
        "dry_run": dry_run, "freed": report.freed_bytes, "removed": items(&report.removed),
    });
    if dry_run {
        value["kept"] = items(&report.kept).into();
    }
    if let Some(room) = room {
        value["room"] = room.json();
    }
    value
}

/// How much room the store takes of what it may.
enum Room {
    /// Nothing is removed by itself.
    Off,
    Judged(RoomLimit, room::Verdict),
}

impl Room {
    fn judge(session: &Session, limit: Option<RoomLimit>) -> Result<Self, Failure> {
        let Some(limit) = limit else { return Ok(Self::Off) };
        Ok(Self::Judged(limit, room::judge(&session.store, limit)?))
    }

    /// What goes if the store takes too much.
    fn policy(&self) -> Option<PrunePolicy> {
        match self {
            Self::Off => None,
            Self::Judged(_, verdict) => verdict.policy.clone(),
        }
    }

    /// The limit, how full the volume is, and what the store has and is to keep (nothing: whatever it has), in bytes.
    fn json(&self) -> Value {
        let Self::Judged(limit, verdict) = self else { return Value::Null };
        let limit = match limit {
            RoomLimit::Volume(percent) => json!({ "volume_percent": percent }),
            RoomLimit::Bytes(bytes) => json!({ "bytes": bytes }),
        };
        json!({
            "limit": limit, "volume_percent": verdict.room.percent(), "stored": verdict.stored,
            "keep": verdict.policy.as_ref().and_then(|policy| policy.keep_bytes),
        })
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Judged(limit, verdict) = self else {
            return f.write_str(
                "nothing is removed by itself: STRAKE_AUTO_PRUNE or the setting auto-prune is `off`",
            );
        };
        let (has, percent) = (show::size(verdict.stored), verdict.room.percent());
        let limit = match limit {
            RoomLimit::Volume(percent) => format!("{percent} % of the volume"),
            RoomLimit::Bytes(bytes) => show::size(*bytes),
        };
        write!(f, "limit {limit}; the volume is {percent} % full, the store has {has}: ")?;
        match verdict.policy.as_ref().and_then(|policy| policy.keep_bytes) {
            Some(keep) => write!(f, "the store is to keep {}", show::size(keep)),
            None => f.write_str("nothing has to go"),
        }
    }
}

/// Removes from a repository what builds of Dockerfiles shared and nobody used lately.
fn prune_repository(session: &Session, repository: &Reference, args: &PruneArgs) -> Result<u8, Failure> {
    session.permit(repository)?;
    let age = match policy(args, SystemTime::now()).keep_newer_than {
        Some(_) => args.filters.iter().map(|filter| filter.until).max().unwrap_or(DEFAULT_AGE),
        None => Duration::ZERO,
    };
    let policy = RepositoryPolicy { unused_for: age, dry_run: args.dry_run };
    let shared = session.with(|env| strake_engine::prune_repository(env, repository, &policy))?;
    if args.format == Format::Json {
        output::json(&judged_json(repository, &shared, args.dry_run))?;
        return Ok(0);
    }
    let mut removed = 0usize;
    for Judged { tag, fate } in &shared {
        match fate {
            Fate::Removed(why) => {
                removed += 1;
                output::line(&format!("remove {tag}: {why}"))?;
            }
            Fate::Kept(why) if args.dry_run => output::line(&format!("keep   {tag}: {why}"))?,
            Fate::Kept(_) => {}
        }
    }
    let verb = if args.dry_run { "would be removed" } else { "removed" };
    output::line(&format!("{removed} of {} {verb}", shared.len()))?;
    Ok(0)
}

fn judged_json(repository: &Reference, judged: &[Judged], dry_run: bool) -> Value {
    let (mut removed, mut kept) = (Vec::new(), Vec::new());
    for Judged { tag, fate } in judged {
        let (list, why) = match fate {
            Fate::Removed(why) => (&mut removed, why),
            Fate::Kept(why) => (&mut kept, why),
        };
        list.push(json!({ "tag": tag, "reason": why }));
    }
    json!({ "repository": repository_name(repository), "dry_run": dry_run, "removed": removed, "kept": kept })
}

fn policy(args: &PruneArgs, now: SystemTime) -> PrunePolicy {
    let ages = args.filters.iter().map(|filter| filter.until);
    // The strictest of several filters holds: all of them must be met.
    let age = ages.max().or((!args.all && args.keep_bytes.is_none()).then_some(DEFAULT_AGE));
    // With a time or an amount, those decide what of everything goes.
    let all = args.all && args.filters.is_empty() && args.keep_bytes.is_none();
    let root_kinds: &[&str] = if all { &[NAMES, PLACES] } else { &[NAMES] };
    PrunePolicy {
        root_kinds: root_kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        not_roots: None,
        all,
        keep_newer_than: age.map(|age| nanoseconds(now.checked_sub(age).unwrap_or(UNIX_EPOCH))),
        keep_bytes: args.keep_bytes,
        dry_run: args.dry_run,
    }
}

fn explain(item: &Item, bytes: u64, reason: Reason) -> String {
    let (kind, id) = named(item);
    format!("{kind} {id} ({}): {reason}", show::size(bytes))
}

/// What kind of thing an item is, and which one.
fn named(item: &Item) -> (&str, String) {
    match item {
        Item::Document { kind, key } => (kind, show::clean(key.as_bytes())),
        Item::Layer(layer) => ("layer", layer.to_string()),
        Item::Blob(digest) => ("blob", digest.to_string()),
        Item::CacheMount(id) => ("cache mount", id.hex()),
        Item::Log(name) => ("log", show::clean(name.as_bytes())),
        Item::StatCache(name) => ("stat cache", show::clean(name.as_bytes())),
        Item::Lock(name) => ("lock", show::clean(name.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(all: bool, keep_bytes: Option<u64>, until: &[u64]) -> PruneArgs {
        let filters = until.iter().map(|seconds| format!("until={seconds}s").parse().unwrap()).collect();
        let (repo, login) = (None, crate::args::LoginArgs::default());
        PruneArgs {
            all,
            keep_bytes,
            auto: false,
            repo,
            login,
            filters,
            dry_run: false,
            format: Format::Table,
            force: false,
        }
    }

    #[test]
    fn what_may_go_is_what_was_said() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000_000);
        let policy = |all, keep, until: &[u64]| policy(&args(all, keep, until), now);
        assert_eq!(
            policy(false, None, &[]).keep_newer_than,
            Some((10_000_000 - 14 * 86_400) * 1_000_000_000)
        );
        assert!(policy(true, None, &[]).all);
        assert_eq!(policy(true, None, &[]).keep_newer_than, None);
        assert!(!policy(true, None, &[60]).all);
        assert_eq!(policy(false, None, &[60, 120]).keep_newer_than, Some((10_000_000 - 120) * 1_000_000_000));
        assert_eq!(policy(false, Some(5), &[]).keep_newer_than, None);
    }
}
