//! Deleting, showing it, and writing down why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use strake_engine::image::{self, Force, ImageError};
use strake_oci::{Digest, Reference};

use super::policy::Verdict;
use super::remote::Tag;
use crate::commands::containers;
use crate::commands::dimg::printer::Printer;
use crate::failure::Failure;
use crate::project::Use;
use crate::report;
use crate::session::Session;
use crate::ui::conveyor::State;

/// Deletes, or only says so.
pub(super) struct Deletion<'a> {
    session: &'a Session,
    printer: &'a Printer,
    dry_run: bool,
    /// Tags, names and digests that somebody wants to keep.
    listed: BTreeSet<String>,
    kept: BTreeMap<String, String>,
    deleted: BTreeMap<String, String>,
}

impl<'a> Deletion<'a> {
    pub(super) fn new(session: &'a Session, printer: &'a Printer, dry_run: bool) -> Self {
        let (listed, kept, deleted) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { session, printer, dry_run, listed, kept, deleted }
    }

    /// Keeps what has one of these tags, names or digests.
    pub(super) fn keep_listed(&mut self, names: &[String]) {
        self.listed.extend(names.iter().cloned());
    }

    /// Whether somebody wants to keep what a tag stands for.
    pub(super) fn is_listed(&self, tag: &Tag) -> Option<&'static str> {
        let named = |name: &str| self.listed.contains(name);
        let place = format!("{}/{}", tag.reference.registry(), tag.reference.repository());
        let has_digest = |digest: Digest| named(&digest.to_string()) || named(&format!("{place}@{digest}"));
        let is_listed = named(&tag.reference.selector())
            || named(&tag.reference.familiar())
            || named(&tag.reference.to_string())
            || tag.digest.is_some_and(has_digest);
        is_listed.then_some("it is on the list of what is kept")
    }

    /// Deletes or keeps tags of a repository, of which these are all, by the names of their images.
    pub(super) fn carry_out(
        &mut self,
        all: &[Tag],
        verdicts: &BTreeMap<String, Verdict>,
    ) -> Result<(), Failure> {
        let mut doomed = BTreeMap::new();
        for tag in all {
            match verdicts.get(&tag.image.name) {
                Some(Verdict::Keep(why)) => self.keep(&tag.image.name, why),
                Some(Verdict::Delete(why)) => match self.is_listed(tag) {
                    Some(listed) => self.keep(&tag.image.name, listed),
                    None => drop(doomed.insert(tag.reference.selector(), why.clone())),
                },
                None => {}
            }
        }
        self.remote(all, &doomed)
    }

    /// Deletes the note that a commit used an image.
    pub(super) fn note_of_use(
        &mut self,
        repository: &Reference,
        used: &Use,
        why: &str,
    ) -> Result<(), Failure> {
        let Ok(reference) = repository.with_tag(&used.tag()) else { return Ok(()) };
        let session = self.session;
        let Some(found) = session.with(|env| env.registry.head(&reference))? else { return Ok(()) };
        self.delete(&reference.familiar(), why, || {
            session.with(|env| env.registry.delete_manifest(&reference.with_digest(found.digest)))?;
            Ok(())
        })
    }

    /// Shows what was kept, and why.
    pub(super) fn show_kept(&self) -> Result<(), Failure> {
        let layout = self.printer.layout;
        for (name, why) in &self.kept {
            let row = layout.row(0, name, State::Keep);
            self.printer.print(&format!("{row}{}", layout.detail(1, &format!("reason: {why}"))))?;
        }
        Ok(())
    }

    /// Notes what stays, and why.
    pub(super) fn keep(&mut self, name: &str, why: &str) {
        self.kept.insert(name.to_owned(), why.to_owned());
    }

    /// Says something that is no deletion.
    pub(super) fn note(&self, text: &str) {
        report::warn(text);
    }

    pub(super) fn is_deleted(&self, name: &str) -> bool {
        self.deleted.contains_key(name)
    }

    /// Takes a name of the store away, and with its last name the image.
    pub(super) fn local(&mut self, name: &str, why: &str) -> Result<(), Failure> {
        let session = self.session;
        if let Some(why) = self.is_run(name)? {
            let layout = self.printer.layout;
            let row = layout.row(0, name, State::Keep);
            self.printer.print(&format!("{row}{}", layout.detail(1, &format!("reason: {why}"))))?;
            self.keep(name, &why);
            return Ok(());
        }
        self.delete(name, why, || {
            session.with(|env| image::remove(env, name, Force::Yes))?;
            Ok(())
        })
    }

    /// Says who runs a container of an image, if anybody does.
    fn is_run(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.session.with(|env| image::find(env, name)) {
            Ok(found) => containers::runs(self.session, found.id),
            Err(ImageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes tags of a repository, of which these are all. A manifest that a kept tag shares stays.
    pub(super) fn remote(&mut self, all: &[Tag], doomed: &BTreeMap<String, String>) -> Result<(), Failure> {
        let stays = |tag: &&Tag| !doomed.contains_key(&tag.reference.selector());
        let kept: BTreeSet<_> = all.iter().filter(stays).filter_map(|tag| tag.digest).collect();
        for tag in all {
            let Some(why) = doomed.get(&tag.reference.selector()) else { continue };
            let name = tag.reference.familiar();
            let Some(digest) = tag.digest else {
                self.keep(&name, "the registry does not say its digest");
                continue;
            };
            if kept.contains(&digest) {
                self.keep(&name, "a tag that is kept stands for the same image");
                continue;
            }
            let session = self.session;
            if !self.dry_run {
                // Somebody may have published meanwhile.
                let now = session.with(|env| env.registry.head(&tag.reference))?;
                if now.is_some_and(|now| now.digest != digest) {
                    self.keep(&name, "it has changed meanwhile");
                    continue;
                }
            }
            self.delete(&name, why, || {
                session.with(|env| env.registry.delete_manifest(&tag.reference.with_digest(digest)))?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Deletes a directory with everything in it.
    pub(super) fn directory(&mut self, path: &Path) -> Result<(), Failure> {
        if !path.exists() {
            return Ok(());
        }
        self.delete(&path.display().to_string(), "clones and build directories", || {
            std::fs::remove_dir_all(path).map_err(|error| Failure::file("delete", path, &error))
        })
    }

    fn delete(
        &mut self,
        name: &str,
        why: &str,
        delete: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let result = if self.dry_run { Ok(()) } else { delete() };
        let state = match &result {
            Ok(()) if self.dry_run => State::Delete,
            Ok(()) => State::Done(begun.elapsed()),
            Err(_) => State::Failed(begun.elapsed()),
        };
        let layout = self.printer.layout;
        let row = layout.row(0, name, state);
        self.printer.print(&format!("{row}{}", layout.detail(1, &format!("reason: {why}"))))?;
        if result.is_ok() {
            self.deleted.insert(name.to_owned(), why.to_owned());
        }
        result
    }

    /// What was kept, and why, and what was deleted.
    pub(super) fn told(&self) -> Value {
        let list = |entries: &BTreeMap<String, String>| -> Vec<_> {
            entries.iter().map(|(name, why)| json!({ "name": name, "reason": why })).collect()
        };
        json!({
            "version": 1, "dry_run": self.dry_run, "kept": list(&self.kept), "deleted": list(&self.deleted),
        })
    }

    /// Writes that into a file, if there is to be one.
    pub(super) fn report(&self, path: Option<&Path>) -> Result<(), Failure> {
        let Some(path) = path else { return Ok(()) };
        std::fs::write(path, format!("{:#}\n", self.told()))
            .map_err(|error| Failure::file("write", path, &error))
    }
}
