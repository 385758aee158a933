//! What takes space, and giving it back.
use crate::{Store, StoreError};
/// placeholder filled in with the module
#[derive(Debug, Clone, Default)]
pub struct Usage {}
/// What may be removed.
#[derive(Debug, Clone, Default)]
pub struct PrunePolicy {}
/// What a collection did, and why.
#[derive(Debug, Clone, Default)]
pub struct Report {}
/// What takes space in the store.
///
/// # Errors
/// When the index cannot be read.
pub fn usage(_store: &Store) -> Result<Usage, StoreError> {
    unimplemented!()
}
/// Removes what `policy` allows and nobody needs.
///
/// # Errors
/// When the index cannot be written.
pub fn prune(_store: &Store, _policy: &PrunePolicy) -> Result<Report, StoreError> {
    unimplemented!()
}
