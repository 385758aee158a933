//! All documents of a file → the file: names, what they refer to, and in which order that can be built.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use strake_graph::Span;

use super::config::{Base, Image, ImageId, ImageName, Import, Rules, StageFile};
use super::decode::Spanned;
use super::document::{BaseName, Document, DocumentKind};
use super::overlap::{Target, separate};
use crate::Diagnostic;
use crate::diagnostic::nearest;

/// Comparing targets takes time that grows with the square of their number.
const MAX_TARGETS: usize = 500;

/// How many images may need each other in a row: planning asks for facts once for each, and far more than people
/// can follow.
const MAX_DEPTH: usize = 100;

/// How many names are looked at for one that could have been meant.
const MAX_SUGGESTED: usize = 50;

/// Makes the file of its documents. `None` if anything is wrong; what, is added to `diagnostics`.
pub(super) fn resolve(mut documents: Vec<Document>, diagnostics: &mut Vec<Diagnostic>) -> Option<StageFile> {
    let names = Names::collect(&documents, diagnostics);
    for document in &mut documents {
        separate_targets(document, diagnostics);
    }
    let mut images = Vec::new();
    for document in documents {
        let ids = images.len()..images.len() + document.names.len();
        let imports = imports(&document, &names, diagnostics);
        let base = document.base.as_ref().and_then(|base| base_of(base, &names, diagnostics));
        refuse_itself(&document, &ids, base.as_ref(), &imports, diagnostics);
        let rules = Arc::new(Rules {
            span: document.span,
            // Without a base there is an error already, and the rules are never seen.
            base: base.unwrap_or(Base::Reference(String::new())),
            from_cache_version: document.from_cache_version,
            mounts: document.mounts,
            git: document.git,
            imports,
            assembly: document.assembly,
            docker: document.docker,
            layers: document.layers,
        });
        images.extend(
            document
                .names
                .into_iter()
                .map(|name| Image { name: image_name(document.kind, name.value), rules: Arc::clone(&rules) }),
        );
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        return None;
    }
    match order(&images) {
        Ok(order) => check_depth(&images, &order, diagnostics).then(|| StageFile::new(images, order)),
        Err(cycle) => {
            diagnostics.push(cycle_error(&images, &cycle));
            None
        }
    }
}

fn image_name(kind: DocumentKind, name: Option<String>) -> ImageName {
    match (kind, name) {
        (_, None) => ImageName::Nameless,
        (DocumentKind::Dimg, Some(name)) => ImageName::Dimg(name),
        (DocumentKind::Artifact, Some(name)) => ImageName::Artifact(name),
    }
}

/// The images that have a name.
struct Names {
    by_name: BTreeMap<String, (ImageId, DocumentKind)>,
}

impl Names {
    fn collect(documents: &[Document], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut by_name = BTreeMap::new();
        let mut places: BTreeMap<&str, Span> = BTreeMap::new();
        let mut nameless = Vec::new();
        let mut dimgs = 0;
        let named = documents
            .iter()
            .flat_map(|document| document.names.iter().map(move |name| (document.kind, name)));
        for (index, (kind, name)) in named.enumerate() {
            dimgs += usize::from(kind == DocumentKind::Dimg);
            let Some(text) = &name.value else {
                nameless.push(name.span);
                continue;
            };
            if let Some(first) = places.get(text.as_str()) {
                let message = format!("the name `{text}` is taken");
                diagnostics.push(
                    Diagnostic::error("duplicate-name", name.span, message)
                        .note(*first, "it is given here first")
                        .hint("names of dimgs and artifacts are unique within the file"),
                );
                continue;
            }
            places.insert(text, name.span);
            by_name.insert(text.clone(), (ImageId::new(index), kind));
        }
        if dimgs > 1 {
            for span in nameless {
                let message = "a dimg without a name must be the only one of the file";
                diagnostics.push(Diagnostic::error("nameless-dimg", span, message).hint("give it a name"));
            }
        }
        Self { by_name }
    }

    fn find(
        &self,
        name: &Spanned<String>,
        wanted: DocumentKind,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<ImageId> {
        let word = |kind| if kind == DocumentKind::Dimg { "dimg" } else { "artifact" };
        let article = |kind| if kind == DocumentKind::Dimg { "a dimg" } else { "an artifact" };
        match self.by_name.get(&name.value) {
            Some((id, kind)) if *kind == wanted => Some(*id),
            Some((_, kind)) => {
                let message = format!("`{}` is {}, not {}", name.value, article(*kind), article(wanted));
                diagnostics.push(Diagnostic::error("unknown-image", name.span, message));
                None
            }
            None => {
                let message = format!("there is no {} `{}`", word(wanted), name.value);
                let diagnostic = Diagnostic::error("unknown-image", name.span, message);
                let known = self.by_name.iter().filter(|(_, (_, kind))| *kind == wanted);
                // Each name is compared with each mistyped one.
                let known: Vec<_> = known.map(|(name, _)| name.as_str()).take(MAX_SUGGESTED).collect();
                diagnostics.push(match nearest(&name.value, &known) {
                    Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                    None => diagnostic,
                });
                None
            }
        }
    }
}

fn imports(document: &Document, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Vec<Import> {
    let mut imports = Vec::new();
    for draft in &document.imports {
        let Some(artifact) = names.find(&draft.artifact, DocumentKind::Artifact, diagnostics) else {
            continue;
        };
        imports.push(Import {
            artifact,
            position: draft.position,
            add: draft.add.clone(),
            to: draft.to.clone(),
            owner: draft.owner.clone(),
            group: draft.group.clone(),
            include: draft.include.clone(),
            exclude: draft.exclude.clone(),
            yields: draft.yields.clone(),
            span: draft.span,
        });
    }
    imports
}

fn base_of(base: &BaseName, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Option<Base> {
    match base {
        BaseName::Reference(reference) => Some(Base::Reference(reference.value.clone())),
        BaseName::Dimg(name) => names.find(name, DocumentKind::Dimg, diagnostics).map(Base::Image),
        BaseName::Artifact(name) => names.find(name, DocumentKind::Artifact, diagnostics).map(Base::Image),
    }
}

/// An image neither stands on itself nor takes files from itself, nor on another name of the same document.
fn refuse_itself(
    document: &Document,
    ids: &Range<usize>,
    base: Option<&Base>,
    imports: &[Import],
    diagnostics: &mut Vec<Diagnostic>,
) {
    if let (Some(Base::Image(id)), Some(BaseName::Dimg(name) | BaseName::Artifact(name))) =
        (base, &document.base)
        && ids.contains(&id.index())
    {
        diagnostics.push(Diagnostic::error("self-reference", name.span, "an image cannot stand on itself"));
    }
    for import in imports.iter().filter(|import| ids.contains(&import.artifact.index())) {
        let message = "an artifact cannot import from itself";
        diagnostics.push(Diagnostic::error("self-reference", import.span, message));
    }
}

fn separate_targets(document: &mut Document, diagnostics: &mut Vec<Diagnostic>) {
    let git = document.git.iter().map(|mapping| Target {
        to: mapping.to.clone(),
        include: mapping.selection.include.clone(),
        exclude: mapping.selection.exclude.clone(),
        yields: Vec::new(),
        span: mapping.span,
    });
    let imports = document.imports.iter().map(|import| Target {
        to: import.to.clone(),
        include: import.include.clone(),
        exclude: import.exclude.clone(),
        yields: Vec::new(),
        span: import.span,
    });
    let mut targets: Vec<_> = git.chain(imports).collect();
    if targets.len() > MAX_TARGETS {
        let message =
            format!("an image has at most {MAX_TARGETS} mappings and imports, not {}", targets.len());
        diagnostics.push(Diagnostic::error("too-many-targets", document.span, message));
        return;
    }
    if let Err((first, second)) = separate(&mut targets) {
        let (first, second) = (&targets[first], &targets[second]);
        let message =
            format!("`{}` and `{}` are the same target for two mappings or imports", first.to, second.to);
        diagnostics.push(
            Diagnostic::error("overlapping-targets", second.span, message)
                .note(first.span, "the other is here")
                .hint("separate them with `includePaths` or different targets"),
        );
        return;
    }
    let (git, imports) = targets.split_at(document.git.len());
    for (mapping, target) in document.git.iter_mut().zip(git) {
        mapping.selection.exclude.clone_from(&target.exclude);
        mapping.selection.yields.clone_from(&target.yields);
    }
    for (import, target) in document.imports.iter_mut().zip(imports) {
        import.exclude.clone_from(&target.exclude);
        import.yields.clone_from(&target.yields);
    }
}

/// Every image behind those it needs, or a cycle.
fn order(images: &[Image]) -> Result<Vec<ImageId>, Vec<ImageId>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; images.len()];
    let mut order = Vec::new();
    for start in 0..images.len() {
        if states[start] != State::New {
            continue;
        }
        states[start] = State::Open;
        let mut path = vec![(ImageId::new(start), images[start].rules.needs().into_iter())];
        while let Some((id, needs)) = path.last_mut() {
            let id = *id;
            let Some(next) = needs.next() else {
                states[id.index()] = State::Done;
                order.push(id);
                path.pop();
                continue;
            };
            match states[next.index()] {
                State::Done => {}
                State::Open => {
                    let chain = path.iter().map(|(id, _)| *id).skip_while(|id| *id != next);
                    return Err(chain.chain([next]).collect());
                }
                State::New => {
                    states[next.index()] = State::Open;
                    path.push((next, images[next.index()].rules.needs().into_iter()));
                }
            }
        }
    }
    Ok(order)
}

fn check_depth(images: &[Image], order: &[ImageId], diagnostics: &mut Vec<Diagnostic>) -> bool {
    let mut depths = vec![0; images.len()];
    for id in order {
        let rules = &images[id.index()].rules;
        let below = rules.needs().into_iter().map(|need| depths[need.index()]).max();
        depths[id.index()] = below.unwrap_or(0) + 1;
        if depths[id.index()] > MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} images stand on each other");
            diagnostics.push(Diagnostic::error("image-depth", rules.span, message));
            return false;
        }
    }
    true
}

fn cycle_error(images: &[Image], cycle: &[ImageId]) -> Diagnostic {
    let chain: Vec<_> = cycle.iter().map(|id| format!("`{}`", images[id.index()].name)).collect();
    let message = format!("the images need each other: {}", chain.join(" needs "));
    let diagnostic = Diagnostic::error("image-cycle", images[cycle[0].index()].rules.span, message);
    let others = cycle.iter().skip(1).take(cycle.len().saturating_sub(2));
    others.fold(diagnostic, |diagnostic, id| {
        let image = &images[id.index()];
        diagnostic.note(image.rules.span, format!("`{}` is here", image.name))
    })
}
