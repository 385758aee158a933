//! A request on its way whose body another thread feeds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, Url};

use crate::auth::Scopes;
use crate::body::{BodyState, FedBody};
use crate::error::Failure;
use crate::failure::{silent, unanswered};
use crate::host::Lane;
use crate::server_text::MAX_ERROR_BODY;
use crate::transport::{Call, Core, Document, Endpoint, Target};

/// One request with a fed body, on its way.
pub(crate) struct Sending {
    pub(crate) core: Arc<Core>,
    pub(crate) endpoint: Endpoint,
    pub(crate) scopes: Scopes,
    pub(crate) operation: String,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

impl Sending {
    pub(crate) async fn run(mut self, body: FedBody, state: &BodyState) -> Result<Document, Failure> {
        let target = Target::Url(self.url.clone());
        let call = Call::new(&self.operation, &self.endpoint, &self.scopes, self.method.clone(), target, &[]);
        self.core.keep_encrypted(&self.operation, &self.endpoint, &self.url)?;
        // A body can be sent once only: the token is made sure of before, not after a 401.
        let is_origin = self.core.is_origin(&self.endpoint, &self.url);
        let authorization = if is_origin { self.core.authorization(&call).await? } else { None };
        if let Some(value) = &authorization {
            self.headers.insert(AUTHORIZATION, value.clone());
        }
        let host = if is_origin { Arc::clone(&self.endpoint.host) } else { self.core.host_of(&self.url) };
        let permit = host.permit(Lane::Up).await;
        let headers = std::mem::take(&mut self.headers);
        let request = self.core.prepare(&host, self.method.clone(), self.url.clone(), headers)?;
        let mut response = std::pin::pin!(request.body(reqwest::Body::wrap(body)).send());
        let idle = self.core.config.timeouts.idle;
        let mut counted = 0;
        let response = loop {
            let waited = tokio::time::timeout(idle, response.as_mut()).await;
            let taken = state.taken.load(Ordering::Relaxed);
            self.core.counters.sent.fetch_add(taken - counted, Ordering::Relaxed);
            let is_moving = taken > counted || state.starving.load(Ordering::Relaxed);
            counted = taken;
            match waited {
                Ok(answered) => break answered,
                Err(_) if is_moving => {}
                Err(_) => return Err(silent(&self.operation, &self.url, idle)),
            }
        };
        let response = response.map_err(|error| unanswered(&self.operation, &host, &self.url, &error))?;
        let document = self.core.read_response(&self.operation, response, MAX_ERROR_BODY, false).await?;
        drop(permit);
        if let Some(value) = authorization.filter(|_| document.status == 401) {
            self.core.forget_token(&self.endpoint, &value).await;
        }
        Ok(document)
    }
}
