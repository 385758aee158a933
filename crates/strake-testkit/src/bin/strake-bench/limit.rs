//! What the machine can do at best: small loops that do only the unavoidable part of a line's work.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use strake_oci::{Digest, Hasher};
use strake_testkit::{Failure, Outcome};

/// Starting a program that does nothing, in seconds.
pub(crate) fn spawn() -> Outcome<f64> {
    let begun = Instant::now();
    let status = Command::new("/bin/true").status().map_err(Failure::at("start /bin/true"))?;
    if status.success() { Ok(begun.elapsed().as_secs_f64()) } else { Err(Failure::new("/bin/true failed")) }
}

/// `count` processes one after another, each in new mount, pid, ipc and uts namespaces with /proc mounted.
pub(crate) fn namespaces(count: usize) -> Outcome<f64> {
    let begun = Instant::now();
    for _ in 0..count {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--mount-proc", "/bin/true"]);
        let status = command.stdin(Stdio::null()).status().map_err(Failure::at("start unshare"))?;
        if !status.success() {
            return Err(Failure::new("unshare failed"));
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Asking for the metadata of every file, on all cores.
pub(crate) fn stat_all(files: &[PathBuf]) -> Outcome<f64> {
    on_all_cores(files, |file| file.symlink_metadata().map(|metadata| metadata.size()).map(drop))
}

/// Reading, hashing and writing every file into the flat directory `to`, on all cores.
pub(crate) fn copy_all(files: &[PathBuf], to: &Path) -> Outcome<f64> {
    std::fs::create_dir_all(to).map_err(Failure::at("create a directory"))?;
    let next = AtomicUsize::new(0);
    on_all_cores(files, |file| {
        let content = std::fs::read(file)?;
        std::hint::black_box(Digest::of(&content));
        std::fs::write(to.join(next.fetch_add(1, Ordering::Relaxed).to_string()), content)
    })
}

/// Giving every file a second name in the flat directory `to`, on all cores.
pub(crate) fn link_all(files: &[PathBuf], to: &Path) -> Outcome<f64> {
    std::fs::create_dir_all(to).map_err(Failure::at("create a directory"))?;
    let next = AtomicUsize::new(0);
    on_all_cores(files, |file| {
        std::fs::hard_link(file, to.join(next.fetch_add(1, Ordering::Relaxed).to_string()))
    })
}

/// Compressing `file` in blocks of 1 MiB with libdeflate at `level`, and hashing the result, on all cores.
pub(crate) fn gzip(file: &Path, level: i32) -> Outcome<f64> {
    let content = std::fs::read(file).map_err(Failure::at("read the file to compress"))?;
    let blocks: Vec<&[u8]> = content.chunks(1 << 20).collect();
    let level = libdeflater::CompressionLvl::new(level).map_err(|_| Failure::new("no such level"))?;
    on_all_cores(&blocks, |block| {
        let mut compressor = libdeflater::Compressor::new(level);
        let mut out = vec![0; compressor.gzip_compress_bound(block.len())];
        let length = compressor.gzip_compress(block, &mut out).map_err(std::io::Error::other)?;
        std::hint::black_box(Digest::of(&out[..length]));
        Ok(())
    })
}

/// Hashing, inflating, hashing again and writing the entries of every compressed layer, on all cores.
pub(crate) fn unpack(layers: &[PathBuf], to: &Path) -> Outcome<f64> {
    let next = AtomicUsize::new(0);
    on_all_cores(layers, |layer| {
        let compressed = Hashing { inner: File::open(layer)?, hasher: Hasher::new() };
        let inflated =
            Hashing { inner: flate2::read::MultiGzDecoder::new(compressed), hasher: Hasher::new() };
        let mut archive = tar::Archive::new(inflated);
        let directory = to.join(next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir_all(&directory)?;
        for (number, entry) in archive.entries()?.enumerate() {
            let mut entry = entry?;
            if entry.header().entry_type().is_file() {
                std::io::copy(&mut entry, &mut File::create(directory.join(number.to_string()))?)?;
            }
        }
        Ok(())
    })
}

/// `count` runs of the shell command `work` on as many cores as there are.
pub(crate) fn processes(count: usize, work: &str) -> Outcome<f64> {
    on_all_cores(&vec![(); count], |()| {
        let status =
            Command::new("sh").args(["-c", work]).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(std::io::Error::other("the work failed")) }
    })
}

fn on_all_cores<T: Sync>(items: &[T], work: impl Fn(&T) -> std::io::Result<()> + Sync) -> Outcome<f64> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let result: std::io::Result<()> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(item)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(std::io::Error::other("panic"))))
    });
    result.map_err(Failure::at("measure a limit"))?;
    Ok(begun.elapsed().as_secs_f64())
}

/// A reader that hashes what passes.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
