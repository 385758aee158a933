//! `COPY` and `ADD`.

use strake_graph::{CopyOp, CopySource, ModeChange, Op, Span, StepId};

use crate::Diagnostic;
use crate::dockerfile::ast::{CopyAst, CopySourceAst, Word};
use crate::dockerfile::expand::Style;
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::lower::stage::{Place, StageState};
use crate::dockerfile::lower::{Lowerer, mode, paths};

/// Which of the two.
fn name(is_add: bool) -> &'static str {
    if is_add { "ADD" } else { "COPY" }
}

impl Lowerer<'_> {
    pub(super) fn copy_step(
        &mut self,
        state: &mut StageState,
        place: &Place<'_>,
        copy: &CopyAst,
        is_add: bool,
    ) -> Option<()> {
        let span = place.instruction.span;
        // All parts are looked at before any of them ends it, to say everything at once.
        let written = self.destination(state, copy, is_add);
        let chown = self.flag(copy.chown.as_ref(), state);
        let chmod_text = self.flag(copy.chmod.as_ref(), state);
        let chmod = chmod_text.as_ref().and_then(|text| self.mode(copy, text.as_deref()));
        let sources = self.sources(state, place, copy, is_add);
        if let Some(checksum) = &copy.checksum {
            let message = "a checksum needs a source on the network";
            self.diagnostics.push(Diagnostic::error("checksum-of-local-file", checksum.span, message));
            return None;
        }
        self.link(state, copy, is_add)?;
        let (written, chown, chmod_text, chmod) = (written?, chown?, chmod_text?, chmod?);
        let (sources, shown) = sources?;
        let mut created_by = name(is_add).to_owned();
        let flags = [("chown", &chown), ("chmod", &chmod_text)];
        for (name, value) in
            flags.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)))
        {
            created_by.push_str(&format!(" --{name}={value}"));
        }
        shown.iter().for_each(|source| created_by.push_str(&format!(" {source}")));
        created_by.push_str(&format!(" {written}"));
        let label = self.display(state, place.instruction, Style::new(self.escape))?;
        let op = CopyOp {
            base: state.step,
            sources,
            destination: paths::join_keeping_slash(state.directory(), &written),
            chown,
            chmod,
            unpack: is_add && copy.unpack.unwrap_or(true),
        };
        let step = self.push_step(state, Op::Copy(Box::new(op)), place.instruction, label);
        self.remember_layer(state, &created_by, step, span)
    }

    fn destination(&mut self, state: &StageState, copy: &CopyAst, is_add: bool) -> Option<String> {
        let written = self.expand_word(&copy.destination, state)?;
        if copy.sources.len() > 1 && !names_directory(&written) {
            self.diagnostics.push(several_sources(copy, &written, is_add));
            return None;
        }
        Some(written)
    }

    /// `--link` makes a layer that never saw what is below it: links there are not followed, and parent directories
    /// are made anew and cover those below. On top of nothing that is what a copy does anyway; elsewhere the files can
    /// differ, so it is refused (docs/decisions/0003).
    fn link(&mut self, state: &StageState, copy: &CopyAst, is_add: bool) -> Option<()> {
        let Some(span) = copy.link else { return Some(()) };
        if !state.may_be_empty {
            let message = format!("not supported yet: `{} --link` on top of other files", name(is_add));
            self.diagnostics.push(
                Diagnostic::error("unsupported-flag", span, message)
                    .hint("leave it out: the files are the same unless directories of the destination exist below as links, \
                         or with a mode or owner of their own"),
            );
            return None;
        }
        Some(())
    }

    /// An expanded flag; an empty one counts as not given.
    fn flag(&mut self, word: Option<&Word>, state: &StageState) -> Option<Option<String>> {
        match word {
            None => Some(None),
            Some(word) => Some(Some(self.expand_word(word, state)?).filter(|value| !value.is_empty())),
        }
    }

    fn mode(&mut self, copy: &CopyAst, text: Option<&str>) -> Option<Option<ModeChange>> {
        let Some(text) = text else { return Some(None) };
        match mode::parse(text) {
            Ok(mode) => Some(Some(mode)),
            Err(reason) => {
                let span = copy.chmod.as_ref().map_or(Span::default(), |word| word.span);
                let message = format!("`{text}` is not a mode: {reason}");
                self.diagnostics.push(
                    Diagnostic::error("invalid-mode", span, message).hint("for example 0644 or u=rwX,go=rX"),
                );
                None
            }
        }
    }

    /// What is copied, and how the history shows it. Files come first, then heredocs, as in BuildKit.
    fn sources(
        &mut self,
        state: &StageState,
        place: &Place<'_>,
        copy: &CopyAst,
        is_add: bool,
    ) -> Option<(Vec<CopySource>, Vec<String>)> {
        let mut from = None;
        let (mut files, mut documents) = (Vec::new(), Vec::new());
        let mut shown = Vec::new();
        let mut shown_documents = Vec::new();
        let mut is_fine = true;
        for source in &copy.sources {
            match source {
                CopySourceAst::Path(word) => {
                    let Some(path) = self.expand_word(word, state) else {
                        is_fine = false;
                        continue;
                    };
                    if is_remote(&path) {
                        self.diagnostics.push(remote(word, &path, is_add));
                        is_fine = false;
                        continue;
                    }
                    let step = match from {
                        Some(step) => step,
                        None => *from.insert(self.source_of(place, copy)?),
                    };
                    files.push(CopySource::Path { from: step, pattern: paths::source_pattern(&path) });
                    shown.push(path);
                }
                CopySourceAst::Heredoc(heredoc) => {
                    let Some(content) = self.document(state, heredoc) else {
                        is_fine = false;
                        continue;
                    };
                    let content = content.into_bytes();
                    documents.push(CopySource::Inline { name: heredoc.name.clone(), content });
                    shown_documents.push(format!("<<{}", heredoc.name));
                }
            }
        }
        files.extend(documents);
        shown.extend(shown_documents);
        is_fine.then_some((files, shown))
    }

    fn source_of(&mut self, place: &Place<'_>, copy: &CopyAst) -> Option<StepId> {
        let Some(from) = &copy.from else { return Some(self.context_step("")) };
        match place.plan.source(self, place.index, from) {
            Ok(source) => self.source_step(&source, place.states, from.span),
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// The content of a heredoc: variables replaced unless its delimiter is quoted; quotes are letters. The escape
    /// character here is always the backslash.
    fn document(&mut self, state: &StageState, heredoc: &Heredoc) -> Option<String> {
        let body = heredoc.body();
        if !heredoc.expands {
            return Some(body);
        }
        let style = Style { plain_quotes: true, ..Style::new('\\') };
        self.expand_text(&body, heredoc.span, style, state).map(|expansion| expansion.text)
    }
}

/// Several sources need a destination that is a directory for certain; `..` can be nothing else.
fn names_directory(path: &str) -> bool {
    paths::names_directory(path) || path == ".." || path.ends_with("/..")
}

fn several_sources(copy: &CopyAst, written: &str, is_add: bool) -> Diagnostic {
    let message =
        format!("{} of several sources needs a directory, but `{written}` may be a file", name(is_add));
    Diagnostic::error("several-sources-one-file", copy.destination.span, message)
        .hint(format!("end it with a slash: `{written}/`"))
}

fn remote(word: &Word, path: &str, is_add: bool) -> Diagnostic {
    if is_add {
        Diagnostic::error("unsupported-source", word.span, format!("not supported yet: ADD of `{path}`"))
            .hint("fetch it in a RUN, or put it into the build context")
    } else {
        Diagnostic::error("remote-copy", word.span, format!("COPY takes files, not `{path}`"))
            .hint("fetch it in a RUN, or put it into the build context")
    }
}

/// Whether a source is on the network: a URL, or git's `user@host:path`.
fn is_remote(path: &str) -> bool {
    let lower = path.get(..8).unwrap_or(path).to_ascii_lowercase();
    if ["http://", "https://", "git://", "ssh://"].iter().any(|scheme| lower.starts_with(scheme)) {
        return true;
    }
    let word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let parts = path.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)));
    parts.is_some_and(|(user, host)| word(user) && word(host))
}
