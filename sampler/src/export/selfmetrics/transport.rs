//! The SDK's requests over the client of the data path.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::{Request, Response, StatusCode, header};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use tracing::debug;

use crate::export::client::{Answer, Client, Framer};

/// Takes what the SDK would send over HTTP and sends it as the settings say. URL and headers of the SDK's
/// request are of no interest: its body is the message.
#[derive(Debug)]
pub(super) struct Transport {
    client: Arc<Client>,
    runtime: Handle,
}

impl Transport {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), runtime: Handle::current() }
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let framed = Framer::new(self.client.protocol()).frame(request.body(), self.client.encoding());
        let client = self.client.clone();
        // This future is polled on the SDK's thread, which knows no tokio.
        let answer = self.runtime.spawn(async move { client.deliver(&framed).await.answer }).await?;
        let mut response = Response::new(Bytes::new());
        match answer {
            Answer::Taken { rejected, message } => {
                if rejected > 0 {
                    debug!(
                        ?message,
                        "the receiver rejected {rejected} points of the sampler's own telemetry"
                    );
                }
            }
            // The data path goes the same way and has said the same louder.
            Answer::Retry { after, failure } => {
                debug!("the sampler's own telemetry is not taken: {failure}");
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                if let Some(after) = after {
                    response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
                }
            }
            Answer::Refused { failure, .. } => {
                debug!("the sampler's own telemetry is refused: {failure}");
                *response.status_mut() = StatusCode::BAD_REQUEST;
            }
        }
        Ok(response)
    }
}
