//! Measures the store on a real layer: `measure LAYER.tar.gz [SCRATCH]`. Prints seconds.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use strake_oci::{ChainId, Compression, DiffId, Digest};
use strake_store::compress::{CompressOptions, Compressor, decompress};
use strake_store::tar::{DiffOptions, Times, content_digest, diff};
use strake_store::{FileStat, StatCache, Store, StoreOptions, unpack_layer};

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{:>8.4} s  {what}", start.elapsed().as_secs_f64());
    result
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let archive = PathBuf::from(arguments.next().unwrap());
    let scratch = arguments.next().unwrap_or_else(|| "/tmp/strake-measure".into());
    let open = || Store::open(Path::new(&scratch), &StoreOptions::default()).unwrap();
    drop(timed("create the store", open));
    drop(timed("open it again", open));
    let store = open();
    let packed = || std::fs::File::open(&archive).unwrap();
    let tar = timed("inflate alone", || {
        let mut tar = Vec::new();
        decompress(packed(), Compression::Gzip).unwrap().read_to_end(&mut tar).unwrap();
        tar
    });
    let diff_id = DiffId(timed("SHA-256 alone", || Digest::of(&tar)));
    println!("          {} bytes uncompressed", tar.len());
    let layer = timed("unpack_layer", || {
        unpack_layer(&store, &[], ChainId(diff_id.0), diff_id, Compression::Gzip, packed()).unwrap()
    });
    let dir = store.layer_dir(&layer);
    timed("content_digest", || content_digest(&dir, Times::Ignored).unwrap());
    timed("diff to nowhere", || diff(&dir, std::io::sink(), &DiffOptions::default()).unwrap());
    for (compression, level) in
        [(Compression::Gzip, 1), (Compression::Gzip, 4), (Compression::Gzip, 6), (Compression::Zstd, 3)]
    {
        timed(&format!("diff, {compression:?} {level}, both digests"), || {
            let options = CompressOptions { compression, level: Some(level), threads: None };
            let mut compressor = Compressor::new(std::io::sink(), &options).unwrap();
            diff(&dir, &mut compressor, &DiffOptions::default()).unwrap();
            compressor.finish().unwrap();
        });
    }
    timed("20 x prepare and commit an empty layer on it", || {
        for _ in 0..20 {
            let active = store.snapshots().prepare(std::slice::from_ref(&layer)).unwrap();
            store.snapshots().commit(active).unwrap();
        }
    });
    timed("open_view", || store.open_view(std::slice::from_ref(&layer)).unwrap());
    let stat = FileStat { dev: 1, ino: 2, size: 3, mtime_ns: 4, ctime_ns: 5 };
    let mut cache = StatCache::default();
    let paths: Vec<_> = (0..20_000).map(|at| format!("some/directory/{}/file{at}", at % 100)).collect();
    paths.iter().for_each(|path| cache.put(path.as_bytes(), &stat, [7; 32], i64::MAX));
    timed("save a stat cache of 20,000", || store.index().save_stat_cache("x", &cache).unwrap());
    timed("load it and look up all", || {
        let cache = store.index().stat_cache("x");
        assert!(paths.iter().all(|path| cache.get(path.as_bytes(), &stat).is_some()));
    });
    timed("remove and sweep", || {
        store.snapshots().remove(&layer).unwrap();
        store.sweep().unwrap();
    });
}
