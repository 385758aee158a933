use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DiffId, Digest};

/// Names a stack of layers by what is in them (image-spec v1.1 `config.md` §Layer ChainID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain that ends in `layer` and stands on `below` (nothing for the bottom layer).
    pub fn push(below: Option<Self>, layer: DiffId) -> Self {
        match below {
            None => Self(layer.0),
            Some(below) => Self(Digest::of(format!("{below} {layer}").as_bytes())),
        }
    }

    /// The chain IDs of every prefix of `layers`, bottom first; as long as `layers`.
    pub fn all(layers: &[DiffId]) -> Vec<Self> {
        layers
            .iter()
            .scan(None, |below, layer| {
                let chain = Self::push(*below, *layer);
                *below = Some(chain);
                Some(chain)
            })
            .collect()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_recurrence_of_the_specification() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let chains = ChainId::all(&[a, b]);
        assert_eq!(chains[0].0, a.0);
        assert_eq!(chains[1].0, Digest::of(format!("{} {}", a.0, b.0).as_bytes()));
        assert!(ChainId::all(&[]).is_empty());
    }
}
