//! Giving space back without being asked: what was used least goes when the volume of the store is too full.

use std::time::SystemTime;

use strake_store::gc::{NotRoots, PrunePolicy};
use strake_store::room::{self, Room, RoomLimit};
use strake_store::{Store, StoreError};

use super::prune::{NAMES, nanoseconds};
use crate::project::STAGE_PREFIX;

/// What nobody uses for this long is used by no build that runs, in nanoseconds.
const DAY_NS: i64 = 86_400_000_000_000;

/// What is to be done about a store.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// How full its volume is.
    pub(crate) room: Room,
    /// Bytes of its layers and blobs.
    pub(crate) stored: u64,
    /// What is to be removed; nothing if there is room enough.
    pub(crate) policy: Option<PrunePolicy>,
}

/// Finds out whether a store takes too much.
///
/// # Errors
/// When the store cannot be measured.
pub(crate) fn judge(store: &Store, limit: RoomLimit) -> Result<Verdict, StoreError> {
    let (room, stored) = (Room::of(store)?, room::stored(store)?);
    let policy = room.to_keep(limit, stored).map(|keep| PrunePolicy {
        root_kinds: vec![NAMES.to_owned()],
        // The stages of stage files have names, but no user gave them.
        not_roots: Some(NotRoots {
            kind: NAMES.to_owned(),
            prefix: format!("docker.io/library/{STAGE_PREFIX}"),
            unused_since: nanoseconds(SystemTime::now()).saturating_sub(DAY_NS),
        }),
        keep_bytes: Some(keep),
        ..PrunePolicy::default()
    });
    Ok(Verdict { room, stored, policy })
}
