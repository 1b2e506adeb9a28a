//! The connections to a receiver, and what they are made with: keys and certificates that may be renewed
//! while the service runs.

use std::{
    error::Error as StdError,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::tls::{self, Material, TlsError};
use crate::export::settings::{Protocol, Target, TlsSettings};

/// Clones share their connections.
pub(super) type Connections = HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(super) struct Wires {
    shared: Arc<Shared>,
    /// Held by whoever reads the files: where they hang, one thread does.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Shared {
    tls: TlsSettings,
    target: Target,
    current: Mutex<Current>,
}

struct Current {
    material: Material,
    connector: HttpsConnector<HttpConnector>,
    connections: Connections,
}

impl Wires {
    /// Connects to nobody yet.
    pub(super) fn new(tls: &TlsSettings, target: &Target, material: Material) -> Result<Self, TlsError> {
        let current = Mutex::new(Current::new(tls, target, material)?);
        let shared = Shared { tls: tls.clone(), target: target.clone(), current };
        Ok(Self { shared: Arc::new(shared), turn: Arc::default() })
    }

    pub(super) fn connections(&self) -> Connections {
        self.shared.current().connections.clone()
    }

    /// Further attempts are made on a new connection.
    pub(super) fn reconnect(&self) {
        let mut current = self.shared.current();
        current.connections = connections(&current.connector, self.shared.target.protocol);
    }

    /// The same, with the keys and certificates that the files have now. Waits for so long at most; what is
    /// read later counts for later attempts.
    pub(super) async fn renew(&self, at_most: Duration) {
        self.reconnect();
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else { return };
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            shared.renew();
            drop(turn);
        });
        // A thread that panicked has said so.
        let _ = tokio::time::timeout(at_most, reading).await;
    }

    /// Whether an attempt may have failed because keys or certificates are not those that count any more.
    /// The receiver's refusal may come after the handshake, where it looks like any broken connection.
    pub(super) fn may_be_outdated(&self, error: &(dyn StdError + 'static), is_connect: bool) -> bool {
        self.shared.target.is_encrypted() && (!is_connect || speaks_of_tls(error))
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self) {
        let Self { tls, target, .. } = self;
        let receiver = target.label();
        let renewed = Material::read(tls, target).and_then(|material| {
            let is_new = material != self.current().material;
            is_new.then(|| Current::new(tls, target, material)).transpose()
        });
        match renewed {
            Ok(Some(renewed)) => {
                *self.current() = renewed;
                tracing::info!("keys or certificates for {receiver} have changed; they are used from now on");
            }
            Ok(None) => {}
            // A file may be half written. The attempts that fail are said elsewhere.
            Err(error) => {
                tracing::debug!(%error, "keys and certificates for {receiver} stay as they are");
            }
        }
    }
}

impl Current {
    fn new(tls: &TlsSettings, target: &Target, material: Material) -> Result<Self, TlsError> {
        let connector = tls::connector(&material, tls, target)?;
        let connections = connections(&connector, target.protocol);
        Ok(Self { material, connector, connections })
    }
}

fn connections(connector: &HttpsConnector<HttpConnector>, protocol: Protocol) -> Connections {
    HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        .http2_only(protocol == Protocol::Grpc)
        .build(connector.clone())
}

/// Whether TLS is among the causes. What an I/O error wraps is not among its sources.
fn speaks_of_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| speaks_of_tls(wrapped)) {
            return true;
        }
        next = error.source();
    }
    false
}
