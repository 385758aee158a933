//! Writes layers, blobs and documents into a store until it is killed, for the tests of crash safety. Not of use to
//! anybody else.
#![expect(clippy::unwrap_used, reason = "a tool of the tests")]

use std::path::Path;

use strake_store::{Link, Store, StoreOptions};

fn main() {
    let root = std::env::args().nth(1).unwrap();
    let store = Store::open(Path::new(&root), &StoreOptions::default()).unwrap();
    for round in 0_u64.. {
        let active = store.prepare_layer().unwrap();
        std::fs::write(active.upper().join("file"), round.to_string().repeat(100)).unwrap();
        let layer = store.snapshots().commit(active).unwrap();
        // Common to all who hammer, so that they meet.
        let blob = store.blobs().write(&(round % 50).to_le_bytes().repeat(1000)).unwrap();
        let links = [Link::Layer(layer.clone()), Link::Blob(blob.digest)];
        store
            .index()
            .put("test", &format!("{}-{round}", std::process::id()), layer.as_str().as_bytes(), &links)
            .unwrap();
        if round % 7 == 0 {
            store.blobs().delete(&blob.digest).unwrap();
        }
    }
}
