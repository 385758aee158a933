//! Sending a small blob with the very request that would open an upload (distribution-spec v1.1 §Single POST).
//!
//! Registries need not know this way: one that does not opens an upload as if there were no content, and the content
//! goes there. So the first small blob finds out, and a wrong guess costs its bytes but no request.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use strake_oci::Descriptor;

use crate::RegistryError;
use crate::host::SinglePost;
use crate::push::Push;
use crate::transport::{Document, Target};
use crate::upload::{Known, PIECE, Session, range_end, with_digest};

/// Bytes that are risked where it is not known whether the registry takes them.
const RISKED: u64 = 32 << 10;

/// Bytes that are sent this way at most: all of them have to go within the time that an answer is waited for.
const MOST: u64 = PIECE as u64;

/// What a registry says that does not take content with a `POST`, although it could have opened an upload.
const NOT_TAKEN: [u16; 9] = [400, 404, 405, 411, 413, 415, 422, 500, 501];

/// How far a blob came with the first request.
pub(crate) enum Opened {
    Stored,
    /// It is to be sent there.
    Session(Session),
}

impl Push<'_> {
    /// Opens an upload, with all the content if the registry takes it at once.
    pub(crate) fn open_with(
        &self,
        known: &Known<'_>,
        descriptor: &Descriptor,
    ) -> Result<Opened, RegistryError> {
        let host = &self.endpoint.host;
        let most = match host.single_post.get() {
            Some(SinglePost::Taken) => MOST,
            None => RISKED,
            Some(SinglePost::NotTaken) => 0,
        };
        if let Known::Bytes(bytes) = known
            && descriptor.size <= most
            && descriptor.size == bytes.len() as u64
        {
            let document = self.post_whole(bytes, descriptor)?;
            // Only the first such answer is not believed: a registry that opens uploads with it is no good for this.
            let is_known = matches!(host.single_post.get(), Some(SinglePost::Taken));
            let is_taken = document.status == 201 && (is_known || self.exists(descriptor.digest)?);
            let answer = if is_taken { SinglePost::Taken } else { SinglePost::NotTaken };
            // Several first blobs may find out at the same time, all the same thing.
            let _ = host.single_post.set(answer);
            if is_taken {
                self.agrees(&document, descriptor.digest)?;
                return Ok(Opened::Stored);
            }
            if let Some(url) = document.location().filter(|_| document.status == 202) {
                // Whoever counts the content towards the session would have it twice.
                if document.header("range").and_then(range_end).unwrap_or(0) == 0 {
                    return Ok(Opened::Session(Session { url, offset: 0 }));
                }
                self.abandon(url);
            }
        }
        Ok(Opened::Session(Session { url: self.open()?, offset: 0 }))
    }

    fn post_whole(&self, bytes: &[u8], descriptor: &Descriptor) -> Result<Document, RegistryError> {
        let path = with_digest(&Url::parse("q:blobs/uploads/").expect("it is an address"), descriptor.digest);
        let target = Target::Path(path.as_str().trim_start_matches("q:").to_owned());
        let mut accept = vec![201, 202];
        // Who has taken one before and does not take this one has something to say about it.
        if self.endpoint.host.single_post.get().is_none() {
            accept.extend(NOT_TAKEN);
        }
        let mut call = self.call(Method::POST, target, &accept);
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.body = Bytes::copy_from_slice(bytes);
        let document = self.request(&call)?;
        if document.status == 201 {
            self.progress.advance(descriptor.size);
        }
        Ok(document)
    }
}
