//! The history of an image, in the words of BuildKit, so that tools which read it see what they know.

use strake_graph::{History, Span, StepId};

use crate::dockerfile::lower::Lowerer;
use crate::dockerfile::lower::stage::StageState;

impl Lowerer<'_> {
    /// Adds an instruction that only changes the configuration.
    pub(super) fn remember(&mut self, state: &mut StageState, created_by: String, span: Span) -> Option<()> {
        self.push_history(state, created_by, None, span)
    }

    /// Adds an instruction that made a layer with `RUN`, `COPY` or `ADD`; BuildKit marks those.
    pub(super) fn remember_layer(
        &mut self,
        state: &mut StageState,
        created_by: &str,
        step: StepId,
        span: Span,
    ) -> Option<()> {
        self.push_history(state, format!("{created_by} # buildkit"), Some(step), span)
    }

    pub(super) fn push_history(
        &mut self,
        state: &mut StageState,
        created_by: String,
        step: Option<StepId>,
        span: Span,
    ) -> Option<()> {
        if !self.charge(created_by.len(), span) {
            return None;
        }
        state.history.push(History::Instruction { created_by, step });
        Some(())
    }
}
