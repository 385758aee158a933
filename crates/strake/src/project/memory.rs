//! What was found out about repositories, remembered in the store's index: documents of a kind of their own, whose keys
//! name the repository and the question. All of it can be found out again.

use std::cell::RefCell;
use std::collections::BTreeMap;

use strake_oci::Digest;
use strake_store::{NewDocument, Store};

/// The kind of these documents.
const KIND: &str = "git-fact";

/// What is remembered, and what is new in it.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    store: Option<&'a Store>,
    new: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl<'a> Memory<'a> {
    /// Without a store nothing outlives the command.
    pub(super) fn new(store: Option<&'a Store>) -> Self {
        Self { store, new: RefCell::default() }
    }

    /// The same for somebody else.
    pub(super) fn another(&self) -> Self {
        Self { store: self.store, new: self.new.clone() }
    }

    /// The answer to a question about the repository at a place.
    pub(super) fn get(&self, place: &str, question: &str) -> Option<Vec<u8>> {
        let key = key(place, question);
        if let Some(known) = self.new.borrow().get(&key) {
            return Some(known.clone());
        }
        // What cannot be read is found out again.
        self.store?.index().get(KIND, &key).ok().flatten().map(|document| document.body)
    }

    /// Notes an answer; [`Self::keep`] writes it.
    pub(super) fn put(&self, place: &str, question: &str, answer: &[u8]) {
        self.new.borrow_mut().insert(key(place, question), answer.to_vec());
    }

    /// A number that is found out at most once.
    pub(super) fn number<E>(
        &self,
        place: &str,
        question: &str,
        find: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        let known = self.get(place, question).and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        if let Some(known) = known {
            return Ok(known);
        }
        let found = find()?;
        self.put(place, question, found.to_string().as_bytes());
        Ok(found)
    }

    /// Writes what is new, all at once. Losing it costs time only, so nobody hears of a failure.
    pub(super) fn keep(&self) {
        let document = |(key, body)| NewDocument { kind: KIND.to_owned(), key, body, links: Vec::new() };
        let new: Vec<_> = std::mem::take(&mut *self.new.borrow_mut()).into_iter().map(document).collect();
        if let Some(store) = self.store.filter(|_| !new.is_empty())
            && let Err(error) = store.index().put_many(&new)
        {
            tracing::debug!("remember what git said: {error}");
        }
    }
}

fn key(place: &str, question: &str) -> String {
    format!("{} {question}", Digest::of(place.as_bytes()).short())
}
