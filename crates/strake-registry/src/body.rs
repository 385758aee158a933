//! A request body that is fed by a thread.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

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

/// The end that a thread feeds.
#[derive(Debug)]
pub(crate) struct Feeder {
    sender: mpsc::Sender<io::Result<Bytes>>,
    /// Closed when the request has ended, which may be before its body was read.
    request: watch::Receiver<()>,
    runtime: Handle,
}

impl Feeder {
    /// Hands the next piece over, waiting for a place; `false` when nobody wants any more.
    pub(crate) fn give(&self, piece: io::Result<Bytes>) -> bool {
        let mut request = self.request.clone();
        self.runtime.block_on(async {
            let mut sent = pin!(self.sender.send(piece));
            let mut ended = pin!(request.changed());
            poll_fn(|context| match sent.as_mut().poll(context) {
                Poll::Ready(sent) => Poll::Ready(sent.is_ok()),
                // A peer that answers and reads no further would hold the connection, and us with it.
                Poll::Pending => ended.as_mut().poll(context).map(|_| false),
            })
            .await
        })
    }
}

/// A body, the end to feed it with, its state, and what to drop when the request has ended. A body of known `length`
/// is sent with `Content-Length`.
pub(crate) fn fed_body(
    length: Option<u64>,
    runtime: Handle,
) -> (FedBody, Feeder, Arc<BodyState>, watch::Sender<()>) {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let state = Arc::new(BodyState::default());
    let (in_flight, request) = watch::channel(());
    let body = FedBody { receiver, left: length, state: Arc::clone(&state) };
    (body, Feeder { sender, request, runtime }, state, in_flight)
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
