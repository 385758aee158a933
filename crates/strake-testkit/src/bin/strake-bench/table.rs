//! The rows of the table.

use std::collections::BTreeMap;
use std::fmt;

use crate::peer::Peer;

/// Headings of the table.
pub(crate) const HEAD: &str = "\
| work                                   |   strake |  classic | buildkit |  buildah |    limit | strake / buildkit | must be | |
|----------------------------------------|---------:|---------:|---------:|---------:|---------:|------------------:|--------:|-|";

/// One line of figures, in seconds unless it says otherwise.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) work: String,
    /// All measurements of each builder.
    pub(crate) samples: BTreeMap<Peer, Vec<f64>>,
    /// Physical limit, where one was measured.
    pub(crate) limit: Option<f64>,
    /// What it is measured by.
    pub(crate) target: Target,
}

/// What `performance.md` asks of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At most this part of `BuildKit`'s time.
    OfBuildKit(f64),
    /// At most this many times the physical limit.
    OfLimit(f64),
    /// At most this absolute figure.
    Absolute(f64),
    /// Nothing; the figure explains another one.
    None,
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strake = self.median(Peer::Strake);
        let build_kit = self.median(Peer::BuildKit);
        let ratio = strake.zip(build_kit).map(|(strake, other)| strake / other);
        write!(out, "| {:38} |", self.work)?;
        for peer in [Peer::Strake, Peer::Classic, Peer::BuildKit, Peer::Buildah] {
            write!(out, " {:>8} |", shown(self.median(peer)))?;
        }
        write!(out, " {:>8} | {:>17} |", shown(self.limit), ratio.map_or("–".into(), as_ratio))?;
        let (text, met) = match self.target {
            Target::OfBuildKit(part) => (format!("≤ 1/{:.0}", 1.0 / part), ratio.map(|ratio| ratio <= part)),
            Target::OfLimit(times) => {
                let of_limit = strake.zip(self.limit).map(|(strake, limit)| strake / limit <= times);
                (format!("≤ {times}×lim"), of_limit)
            }
            Target::None => return write!(out, " {:>7} |   |", "–"),
            Target::Absolute(most) => (format!("≤ {most}"), strake.map(|strake| strake <= most)),
        };
        let verdict = met.map_or("?", |met| if met { "yes" } else { "NO" });
        write!(out, " {text:>7} | {verdict}")?;
        write!(out, " |")
    }
}

impl Row {
    fn median(&self, peer: Peer) -> Option<f64> {
        let mut samples = self.samples.get(&peer)?.clone();
        samples.sort_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied()
    }
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(value) if value < 1.0 => format!("{value:.4}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn as_ratio(ratio: f64) -> String {
    if ratio < 1.0 { format!("1/{:.1}", 1.0 / ratio) } else { format!("{ratio:.2}") }
}
