//! A request body that is fed by a thread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Pieces that may wait to be sent. They are large, so few do.
const PIECES_AHEAD: usize = 3;

/// The receiving end, given to the request.
#[derive(Debug)]
pub(crate) struct FedBody {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    /// Bytes to come, where it is known.
    left: Option<u64>,
    state: Arc<BodyState>,
}

/// What a body that is being sent tells whoever waits for the answer.
#[derive(Debug, Default)]
pub(crate) struct BodyState {
    /// Bytes taken from it so far.
    pub(crate) taken: AtomicU64,
    /// It waits for us, not for the peer.
    pub(crate) starving: AtomicBool,
}

/// A body, the end to feed it with, and its state. A body of known `length` is sent with `Content-Length`.
pub(crate) fn fed_body(length: Option<u64>) -> (FedBody, mpsc::Sender<io::Result<Bytes>>, Arc<BodyState>) {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let state = Arc::new(BodyState::default());
    (FedBody { receiver, left: length, state: Arc::clone(&state) }, sender, state)
}

impl Body for FedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let received = self.receiver.poll_recv(context);
        self.state.starving.store(received.is_pending(), Ordering::Relaxed);
        received.map(|piece| match piece? {
            Ok(piece) => {
                let length = piece.len() as u64;
                self.left = self.left.map(|left| left.saturating_sub(length));
                self.state.taken.fetch_add(length, Ordering::Relaxed);
                Some(Ok(Frame::data(piece)))
            }
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
