//! How each builder shares what it has built through a registry, as its own documentation says.

use std::ops::AddAssign;
use std::path::Path;
use std::time::Duration;

use strake_testkit::{Outcome, Run};

use super::meter::Meter;
use crate::line::Bench;
use crate::measure::{Watch, cost};
use crate::peer::Peer;

/// What a flow cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Price {
    pub(crate) seconds: f64,
    /// Millions of bytes between the builder and the registry, both ways.
    pub(crate) megabytes: f64,
    pub(crate) requests: f64,
}

impl AddAssign for Price {
    fn add_assign(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.megabytes += more.megabytes;
        self.requests += more.requests;
    }
}

/// What is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nothing; the image stays where it was built.
    Nothing,
    /// Steps are looked for in the registry; the image stays where it was built.
    Steps,
    /// Steps are looked for in the registry, and the image is pushed with whatever is needed to find its steps again.
    Image,
}

/// Builds `directory` on a node that knows the registry, by all the commands this takes.
///
/// - strake: `build --repo --push`.
/// - classic: `pull`, `build --cache-from`, `push`.
/// - `BuildKit`: `build --cache-from` with `BUILDKIT_INLINE_CACHE=1`, `push`.
/// - buildah: `build --layers --cache-from --cache-to`, `push`.
pub(crate) fn build(
    bench: &Bench,
    meter: &Meter,
    peer: Peer,
    sharing: Sharing,
    directory: &Path,
) -> Outcome<Price> {
    let own = format!("{peer:?}").to_lowercase();
    let image = meter.name(&format!("{own}:latest"));
    let cache = meter.name(&format!("{own}-cache"));
    let mut price = Price::default();
    let shares = sharing != Sharing::Nothing;
    if shares && peer == Peer::Classic && is_there(&image)? {
        price += run(bench, meter, peer, &["pull", "--quiet", &image])?;
    }
    let directory = directory.display().to_string();
    let mut words = vec!["build", "--quiet", "--network=none", "--tag", &image];
    match peer {
        Peer::Buildah => words.extend(["--layers", "--runtime=runc", "--tls-verify=false"]),
        Peer::Strake | Peer::Classic | Peer::BuildKit => {}
    }
    match peer {
        _ if !shares => {}
        Peer::Strake => words.extend(["--repo", &cache]),
        Peer::Classic => words.extend(["--cache-from", &image]),
        Peer::BuildKit => words.extend(["--cache-from", &image, "--build-arg", "BUILDKIT_INLINE_CACHE=1"]),
        Peer::Buildah => words.extend(["--cache-from", &cache, "--cache-to", &cache]),
    }
    let pushes = sharing == Sharing::Image;
    if pushes && peer == Peer::Strake {
        words.push("--push");
    }
    words.push(&directory);
    price += run(bench, meter, peer, &words)?;
    match peer {
        Peer::Classic | Peer::BuildKit if pushes => {
            price += run(bench, meter, peer, &["push", "--quiet", &image])?;
        }
        Peer::Buildah if pushes => {
            price += run(bench, meter, peer, &["push", "--quiet", "--tls-verify=false", &image])?;
        }
        _ => {}
    }
    Ok(price)
}

/// Measures one command of a builder.
pub(crate) fn run(bench: &Bench, meter: &Meter, peer: Peer, words: &[&str]) -> Outcome<Price> {
    let mut command = bench.peers.command(peer);
    command.args(words);
    measure(meter, || cost(command, Watch::Nothing).map(|cost| cost.seconds))
}

/// Measures what `work`, which answers with its seconds, moves.
pub(crate) fn measure(meter: &Meter, work: impl FnOnce() -> Outcome<f64>) -> Outcome<Price> {
    let before = meter.moved();
    let seconds = work()?;
    let after = meter.moved();
    Ok(Price {
        seconds,
        megabytes: as_figure(after.bytes - before.bytes) / 1e6,
        requests: as_figure(after.requests - before.requests),
    })
}

/// Puts an image from a docker archive into the registry.
pub(crate) fn put(meter: &Meter, archive: &Path, name: &str) -> Outcome<String> {
    meter.set_round_trip(Duration::ZERO);
    let image = meter.name(name);
    let run = Run::new("skopeo").args(["copy", "--insecure-policy", "--dest-tls-verify=false", "--quiet"]);
    run.arg(format!("docker-archive:{}", archive.display())).arg(format!("docker://{image}")).succeed()?;
    Ok(image)
}

fn is_there(image: &str) -> Outcome<bool> {
    let run = Run::new("skopeo").args(["inspect", "--raw", "--tls-verify=false"]);
    Ok(run.arg(format!("docker://{image}")).finish()?.success())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
pub(crate) fn as_figure(value: usize) -> f64 {
    value as f64
}
