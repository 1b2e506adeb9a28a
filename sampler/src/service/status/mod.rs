//! What the service says of itself to whoever asks on its unix socket: `hvsampler status`.
//!
//! A connection is the question, and one document the answer. Nothing is read from who asks, so nothing of it
//! can be misread or waited for. The sampling thread has no part in it: an answer is gathered from what sinks
//! and exporters keep of the last snapshot.

mod document;
mod health;
mod peer;
mod socket;
mod threads;

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

pub use self::document::{
    Cost, Count, Destination, Follows, GivenUp, LastError, Lost, ProgramCost, Programs, Refusal, SCHEMA,
    Snapshots, Status, StatusHost, ThreadCost,
};
pub(super) use self::health::Health;
use self::{
    peer::{Owner, Peer},
    socket::Bound,
};
use crate::export::json;

/// Bounds of what is done for those who ask.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Those who get an answer at the same time. An answer takes less than a millisecond where it is read.
    clients: usize,
    /// How long an answer may take to be read.
    patience: Duration,
}

const LIMITS: Limits = Limits { clients: 8, patience: Duration::from_secs(5) };

/// Time before the next attempt where a connection could not be taken: for want of descriptors, at most.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket at work. Dropping it ends every answer and removes the socket.
pub(super) struct Answering {
    _tasks: JoinSet<()>,
    _bound: Bound,
}

impl Answering {
    /// Answers at this path from now on; an empty one is none.
    ///
    /// # Errors
    /// Another service answers there, or no socket can be made.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) async fn start(path: &Path, health: Health) -> Result<Option<Self>> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let answer = move || {
            json::render(&health.status())
                .unwrap_or_else(|error| refusal(&format!("the answer cannot be written: {error}")))
        };
        Ok(Some(Self::with(path, Arc::new(answer), LIMITS).await?))
    }

    async fn with(path: &Path, answer: Answer, limits: Limits) -> Result<Self> {
        let bound = Bound::bind(path).await?;
        let listener = UnixListener::from_std(bound.listener.try_clone()?)?;
        let owner = Owner::of(bound.made());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, owner, answer, limits));
        Ok(Self { _tasks: tasks, _bound: bound })
    }
}

/// Makes the text of an answer.
type Answer = Arc<dyn Fn() -> String + Send + Sync>;

/// Takes connections until it is dropped, and its answers with it.
async fn serve(listener: UnixListener, owner: Owner, answer: Answer, limits: Limits) {
    let mut clients = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection to the status socket could not be taken");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            Some(_) = clients.join_next() => continue,
        };
        while clients.try_join_next().is_some() {}
        let peer = Peer::of(&stream).map_err(|error| format!("the kernel does not say who asks: {error}"));
        match peer.and_then(|peer| admit(&peer, owner, clients.len(), limits)) {
            Ok(()) => drop(clients.spawn(reply(stream, Arc::clone(&answer), limits.patience))),
            Err(reason) => {
                tracing::debug!(reason, "somebody who asked how the service is got no answer");
                // There is room for a line in a socket that is new. Who does not read it has lost nothing.
                let _ = stream.try_write(refusal(&reason).as_bytes());
            }
        }
    }
}

/// Whether who connected gets an answer, where so many do already. Strangers take nobody's place.
fn admit(peer: &Peer, owner: Owner, clients: usize, limits: Limits) -> Result<(), String> {
    if !owner.admits(peer) {
        return Err(format!(
            "root, the user of the service and its group may ask, and user {} is none of them",
            peer.uid
        ));
    }
    if clients >= limits.clients {
        return Err(format!("{clients} others are being answered; ask again"));
    }
    Ok(())
}

/// Writes the answer and closes the connection. Who does not read it in time does not get the rest.
async fn reply(mut stream: UnixStream, answer: Answer, patience: Duration) {
    let text = answer();
    let written = tokio::time::timeout(patience, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    });
    let failed = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    tracing::debug!(error = %failed, "somebody who asked how the service is did not read the answer");
}

fn refusal(reason: &str) -> String {
    // A text cannot fail to be rendered.
    json::render(&Refusal { refused: reason.to_owned() }).unwrap_or_default()
}

#[cfg(test)]
mod tests;
