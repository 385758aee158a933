//! What is remembered of steps: records by signature, results by content, and the latest build of each place.
//!
//! Five kinds of documents in the store's index:
//!
//! | kind     | key                                   | says                                                      |
//! |----------|---------------------------------------|-----------------------------------------------------------|
//! | `step`   | signature                             | the layer, the parts, the canonical signature             |
//! | `result` | base's canonical signature + content  | the first signature that gave this result                 |
//! | `selection` | layers + what was selected          | the digest of the files that a copy took from there       |
//! | `content` | a layer that another machine made    | its content, times aside                                  |
//! | `place`  | project, stage, number of the step    | the signature built there last: the nearest earlier build |
//!
//! Which files a copy took is a document of its own (`files`, by the digest that is a part of the signature): it is
//! read only to explain a miss or to link unchanged files from the earlier layer.

mod record;

use strake_graph::Encoder;
use strake_oci::Digest;
use strake_store::{Index, LayerId, Link, NewDocument, StoreError};

pub(crate) use record::{CacheRecord, Foreign};

use crate::image::record as image;
use crate::signature::Signature;
use crate::signing::TrustedKey;

const STEP: &str = "step";
const RESULT: &str = "result";
const PLACE: &str = "place";
const SELECTION: &str = "selection";
const CONTENT: &str = "content";

/// The records of one store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalCache<'a> {
    index: &'a Index,
    /// If there are any, of what other machines made only what was signed with one of these keys counts.
    trusted: &'a [TrustedKey],
}

/// Where in a project a step stands; survives every change of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(Digest);

impl Place {
    /// The place of the `number`th step of `stage`.
    pub(crate) fn new(project: &str, stage: &str, number: u32) -> Self {
        let mut encoder = Encoder::new("strake place 1");
        encoder.text(project).text(stage).number(u64::from(number));
        Self(encoder.finish())
    }
}

impl<'a> LocalCache<'a> {
    pub(crate) fn new(index: &'a Index) -> Self {
        Self { index, trusted: &[] }
    }

    /// The records of this store as far as they are from here or from somebody who is trusted.
    pub(crate) fn trusting(index: &'a Index, trusted: &'a [TrustedKey]) -> Self {
        Self { index, trusted }
    }

    fn is_trusted(&self, signed_by: Option<&str>) -> bool {
        self.trusted.is_empty() || signed_by.is_some_and(|id| self.trusted.iter().any(|key| key.id() == id))
    }

    /// Whether there is a record that does not count, because nobody who is trusted is known to have signed it.
    pub(crate) fn is_distrusted(&self, signature: Signature) -> Result<bool, StoreError> {
        if self.trusted.is_empty() {
            return Ok(false);
        }
        let document = self.index.get(STEP, &signature.to_string())?;
        let record = document.and_then(|document| CacheRecord::from_bytes(&document.body));
        let foreign = record.and_then(|record| record.foreign);
        Ok(foreign.is_some_and(|foreign| !self.is_trusted(foreign.signed_by.as_deref())))
    }

    /// The record of a signature, if there is one and its own layer is still there.
    pub(crate) fn find(&self, signature: Signature) -> Result<Option<CacheRecord>, StoreError> {
        let Some(document) = self.index.get(STEP, &signature.to_string())? else {
            return Ok(None);
        };
        // A document of another version, or damaged: a miss, and it will be written anew.
        let Some(record) = CacheRecord::from_bytes(&document.body) else {
            return Ok(None);
        };
        if let Some(foreign) = &record.foreign
            && !self.is_trusted(foreign.signed_by.as_deref())
        {
            return Ok(None);
        }
        let own_layer_is_there = match record.layers.last() {
            Some(layer) => image::is_known_layer(self.index, layer)?,
            None => false,
        };
        Ok(own_layer_is_there.then_some(record))
    }

    /// Whether two layers of this store have the same content, times aside.
    pub(crate) fn equal_content(&self, one: &LayerId, two: &LayerId) -> Result<bool, StoreError> {
        Ok(match (self.content(one)?, self.content(two)?) {
            (Some(one), Some(two)) => one == two,
            _ => false,
        })
    }

    /// The content of a layer, times aside, as far as it is known; of one that is not unpacked from whoever made it.
    pub(crate) fn content(&self, layer: &LayerId) -> Result<Option<Digest>, StoreError> {
        if let Some(content) = self.index.layer(layer)?.and_then(|layer| layer.content) {
            return Ok(Some(content));
        }
        let Some(document) = self.index.get(CONTENT, layer.as_str())? else { return Ok(None) };
        let text = std::str::from_utf8(&document.body).unwrap_or_default();
        let (content, signed_by) = match text.split_once(' ') {
            Some((content, signed_by)) => (content, Some(signed_by)),
            None => (text, None),
        };
        Ok(content.parse().ok().filter(|_| self.is_trusted(signed_by)))
    }

    /// Whether the directory of a layer is here.
    pub(crate) fn is_unpacked(&self, layer: &LayerId) -> Result<bool, StoreError> {
        self.index.has_layer(layer)
    }

    /// Whether the directories of all these layers are here.
    pub(crate) fn are_unpacked(&self, layers: &[LayerId]) -> Result<bool, StoreError> {
        for layer in layers {
            if !self.is_unpacked(layer)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Remembers what whoever made them says of the content of layers.
    pub(crate) fn put_contents(
        &self,
        contents: &[(LayerId, Digest)],
        signed_by: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut documents = Vec::new();
        for (layer, content) in contents {
            documents.push(NewDocument {
                kind: CONTENT.to_owned(),
                key: layer.to_string(),
                body: [Some(content.to_string().as_str()), signed_by]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .into_bytes(),
                links: vec![image::layer_link(self.index, layer)?],
            });
        }
        if documents.is_empty() { Ok(()) } else { self.index.put_many(&documents) }
    }

    /// Forgets a step: what its record names cannot be had.
    pub(crate) fn forget(&self, signature: Signature) -> Result<bool, StoreError> {
        self.index.delete(STEP, &signature.to_string())
    }

    /// Marks records, and the layers they name, as used just now, so that a collection running beside keeps them.
    /// Answers whether all are still there.
    pub(crate) fn touch(&self, signatures: &[Signature]) -> Result<bool, StoreError> {
        if signatures.is_empty() {
            return Ok(true);
        }
        let keys: Vec<String> = signatures.iter().map(Signature::to_string).collect();
        let documents: Vec<(&str, &str)> = keys.iter().map(|key| (STEP, key.as_str())).collect();
        Ok(self.index.touch_many(&documents)?.into_iter().all(|is_there| is_there))
    }

    /// The first signature that put `content` on `base`, with its record. A step that was carried out again meanwhile
    /// and came out different does not count: its record speaks of another layer now.
    pub(crate) fn find_result(
        &self,
        base: Signature,
        content: &Digest,
    ) -> Result<Option<(Signature, CacheRecord)>, StoreError> {
        let key = Signature::result_key(base, content).hex();
        let Some(document) = self.index.get(RESULT, &key)? else {
            return Ok(None);
        };
        let Some(signature) = signature_in(&document.body) else { return Ok(None) };
        let record = self.find(signature)?.filter(|record| record.content == Some(*content));
        Ok(record.map(|record| (signature, record)))
    }

    /// Keeps the record of a step that was executed, and by its content when it is the first of its kind.
    pub(crate) fn put(&self, signature: Signature, record: &CacheRecord) -> Result<(), StoreError> {
        let links = record.layers.iter().map(|layer| self.links_of(layer)).collect::<Result<Vec<_>, _>>()?;
        let mut documents = vec![NewDocument {
            kind: STEP.to_owned(),
            key: signature.to_string(),
            body: record.to_bytes(),
            links: links.into_iter().flatten().collect(),
        }];
        if let (Some(content), Some(base)) = (&record.content, record.base)
            && record.canonical == signature
        {
            documents.push(NewDocument {
                kind: RESULT.to_owned(),
                key: Signature::result_key(base, content).hex(),
                body: signature.to_string().into_bytes(),
                links: vec![Link::Document { kind: STEP.to_owned(), key: signature.to_string() }],
            });
        }
        self.index.put_many(&documents)
    }

    /// What keeps a layer, and what is known of it.
    fn links_of(&self, layer: &LayerId) -> Result<Vec<Link>, StoreError> {
        let content = Link::Document { kind: CONTENT.to_owned(), key: layer.to_string() };
        Ok(match image::layer_link(self.index, layer)? {
            directory @ Link::Layer(_) => vec![directory],
            chain => vec![chain, content],
        })
    }

    /// The signature that was built or used last at a place, with its record if that is still there.
    pub(crate) fn latest(
        &self,
        place: Place,
    ) -> Result<Option<(Signature, Option<CacheRecord>)>, StoreError> {
        let Some(document) = self.index.get(PLACE, &place.0.hex())? else {
            return Ok(None);
        };
        let Some(signature) = signature_in(&document.body) else { return Ok(None) };
        let record = self.index.get(STEP, &signature.to_string())?;
        Ok(Some((signature, record.and_then(|record| CacheRecord::from_bytes(&record.body)))))
    }

    /// Remembers what is at each place now; writes nothing that is known already.
    pub(crate) fn remember(&self, places: &[(Place, Signature)]) -> Result<(), StoreError> {
        let mut documents = Vec::new();
        for (place, signature) in places {
            let (key, body) = (place.0.hex(), signature.to_string().into_bytes());
            if self.index.get(PLACE, &key)?.is_none_or(|known| known.body != body) {
                documents.push(NewDocument { kind: PLACE.to_owned(), key, body, links: Vec::new() });
            }
        }
        if documents.is_empty() { Ok(()) } else { self.index.put_many(&documents) }
    }

    /// The digest of a selection of files from a stack of layers, if somebody computed it before who counts.
    pub(crate) fn selection(&self, key: &Digest) -> Result<Option<Selected>, StoreError> {
        let Some(document) = self.index.get(SELECTION, &key.hex())? else { return Ok(None) };
        let selected = std::str::from_utf8(&document.body).ok().and_then(Selected::parse);
        Ok(selected.filter(|selected| match &selected.told_by {
            Some(told_by) => self.is_trusted(told_by.as_deref()),
            None => true,
        }))
    }

    /// Remembers the digest of a selection of files; `layers` are those it was taken from.
    pub(crate) fn put_selection(
        &self,
        key: &Digest,
        selected: &Selected,
        layers: &[LayerId],
    ) -> Result<(), StoreError> {
        let links =
            layers.iter().map(|layer| image::layer_link(self.index, layer)).collect::<Result<Vec<_>, _>>()?;
        self.index.put(SELECTION, &key.hex(), selected.to_string().as_bytes(), &links)
    }
}

/// What a copy takes from a stack of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selected {
    pub(crate) digest: Digest,
    /// Nobody looked at the files here: another machine said so, which signed it with this key, if that was checked.
    pub(crate) told_by: Option<Option<String>>,
}

impl Selected {
    /// What was seen here.
    pub(crate) fn seen(digest: Digest) -> Self {
        Self { digest, told_by: None }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let digest = words.next()?.parse().ok()?;
        let told_by = words.next().map(|_| words.next().map(str::to_owned));
        Some(Self { digest, told_by })
    }
}

/// `DIGEST`, `DIGEST told`, or `DIGEST told KEY-ID`.
impl std::fmt::Display for Selected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.digest)?;
        if let Some(told_by) = &self.told_by {
            f.write_str(" told")?;
            told_by.iter().try_for_each(|key| write!(f, " {key}"))?;
        }
        Ok(())
    }
}

fn signature_in(body: &[u8]) -> Option<Signature> {
    std::str::from_utf8(body).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_told_of_a_selection_is_remembered_with_it() {
        let digest = Digest::of(b"files");
        for told_by in [None, Some(None), Some(Some("0123456789abcdef".to_owned()))] {
            let selected = Selected { digest, told_by };
            assert_eq!(Selected::parse(&selected.to_string()), Some(selected));
        }
        assert_eq!(Selected::parse("what is no digest"), None);
    }
}
