//! The exporters of the service: the data path and the sampler's own telemetry, replaced together.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::{own::Own, self_stats};
use crate::{
    agent::Sink,
    config::Config,
    export::{
        client::Inputs,
        pipeline::{Pipeline, PipelineStats},
        selfmetrics::SelfTelemetry,
    },
    model::{Host, Snapshot},
};

/// The exporters of the moment, if there are any. Clones share them.
#[derive(Clone)]
pub(super) struct Exports {
    shared: Arc<Shared>,
}

struct Shared {
    own: Own,
    current: Mutex<Current>,
    /// What the pipelines before this one counted.
    past: Mutex<PipelineStats>,
    /// Pipelines before this one that still send what they hold.
    leaving: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Current {
    host: Arc<Host>,
    target: Option<String>,
    /// What was read from files for them; a moment earlier than they read it themselves.
    inputs: Option<Inputs>,
    pipeline: Option<Pipeline>,
    own: Option<SelfTelemetry>,
    /// What the last pipeline had counted when it ended.
    last: PipelineStats,
}

impl Exports {
    pub(super) fn start(config: &Config, host: Arc<Host>, own: Own) -> Result<Self> {
        let shared =
            Shared { own, current: Mutex::default(), past: Mutex::default(), leaving: Mutex::default() };
        let exports = Self { shared: Arc::new(shared) };
        let current = exports.make(config, host, inputs(config)?)?;
        *exports.current() = current;
        Ok(exports)
    }

    /// The host, as exports name it.
    pub(super) fn host(&self) -> Arc<Host> {
        Arc::clone(&self.current().host)
    }

    /// Where metrics go, for the log.
    pub(super) fn target(&self) -> Option<String> {
        self.current().target.clone()
    }

    /// Hands a snapshot over; never waits. False where an older one was dropped for it.
    fn hand_over(&self, snapshot: Arc<Snapshot>) -> bool {
        self.current().pipeline.as_ref().is_none_or(|pipeline| pipeline.offer(snapshot))
    }

    /// What all pipelines counted since the start.
    pub(super) fn stats(&self) -> PipelineStats {
        // Both at one moment: what a pipeline counted must not be missing while it passes from one to the
        // other.
        let past = self.past();
        let mut stats = self.current().stats();
        stats.add(&past);
        stats
    }

    /// Puts new exporters in the place of the old ones where settings differ, or what files say: secrets,
    /// keys and certificates, the host. The old ones send what they hold while the new ones work already, for
    /// the old deadline at most; what they cannot send is said and counted. Whether there are new ones.
    pub(super) fn replace(&self, old: &Config, new: &Config, host: Arc<Host>) -> Result<bool> {
        let read = inputs(new)?;
        let is_same = {
            let current = self.current();
            current.inputs == read && current.host == host
        };
        if is_same && old.export == new.export && old.interval == new.interval {
            return Ok(false);
        }
        let fresh = self.make(new, host, read)?;
        let mut past = self.past();
        let stale = std::mem::replace(&mut *self.current(), fresh);
        let counted = stale.stats();
        past.add(&counted);
        drop(past);
        let (exports, deadline) = (self.clone(), old.shutdown_deadline);
        self.leaving().spawn(async move {
            let target = stale.target.clone().unwrap_or_default();
            let rest = stale.shutdown(deadline).await.since(&counted);
            if rest.dropped_points() > 0 {
                let points = rest.dropped_points();
                tracing::warn!(
                    points,
                    "points were dropped that {target} had not taken when the configuration changed"
                );
            }
            exports.past().add(&rest);
        });
        Ok(true)
    }

    /// Sends what waits, for this long at most. The sampler's own telemetry goes last, for it says how the
    /// data fared; meanwhile nothing that it counts may seem to fall.
    pub(super) async fn shutdown(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        let (pipeline, own) = {
            let mut current = self.current();
            current.last = current.stats();
            (current.pipeline.take(), current.own.take())
        };
        if let Some(pipeline) = pipeline {
            let last = pipeline.shutdown(deadline).await;
            if last.dropped_points() > 0 {
                tracing::warn!(points = last.dropped_points(), "points were dropped since the export began");
            }
            self.current().last = last;
        }
        let mut leaving = std::mem::take(&mut *self.leaving());
        let left = async { while leaving.join_next().await.is_some() {} };
        if tokio::time::timeout_at(end.into(), left).await.is_err() {
            tracing::warn!("an exporter of an earlier configuration has not sent all that it held");
        }
        if let Some(own) = own {
            own.shutdown(end.saturating_duration_since(Instant::now())).await;
        }
    }

    fn make(&self, config: &Config, host: Arc<Host>, inputs: Option<Inputs>) -> Result<Current> {
        let settings = &config.export;
        let Some(inputs) = inputs else { return Ok(Current { host, ..Current::default() }) };
        if let Some(warning) = inputs.warning() {
            tracing::warn!("{warning}");
        }
        let target = settings.target().context("where to export to")?.label();
        let pipeline = Pipeline::start(settings, &host).context("starting the export")?;
        // Weak: self-telemetry is part of what is shared, and must not keep itself alive.
        let (own, shared) = (self.shared.own.clone(), Arc::downgrade(&self.shared));
        let read =
            move || shared.upgrade().map(|shared| self_stats(&own, &Self { shared })).unwrap_or_default();
        let own = SelfTelemetry::start(settings, &host, config.interval, Box::new(read))
            .context("starting the sampler's own telemetry")?;
        Ok(Current {
            host,
            target: Some(target),
            inputs: Some(inputs),
            pipeline: Some(pipeline),
            own: Some(own),
            last: PipelineStats::default(),
        })
    }

    fn past(&self) -> MutexGuard<'_, PipelineStats> {
        self.shared.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.shared.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing where nothing is exported.
fn inputs(config: &Config) -> Result<Option<Inputs>> {
    let settings = &config.export;
    settings.is_enabled().then(|| Inputs::read(settings)).transpose().context("starting the export")
}

/// The exporters as a sink.
pub(super) struct ExportSink {
    exports: Exports,
    dropped: u64,
}

impl From<Exports> for ExportSink {
    fn from(exports: Exports) -> Self {
        Self { exports, dropped: 0 }
    }
}

impl Sink for ExportSink {
    fn name(&self) -> &'static str {
        "export"
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        self.dropped += u64::from(!self.exports.hand_over(snapshot));
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Current {
    fn stats(&self) -> PipelineStats {
        self.pipeline.as_ref().map_or_else(|| self.last.clone(), Pipeline::stats)
    }

    async fn shutdown(self, deadline: Duration) -> PipelineStats {
        let last = self.stats();
        let data = async {
            match self.pipeline {
                Some(pipeline) => pipeline.shutdown(deadline).await,
                None => last,
            }
        };
        let own = async {
            if let Some(own) = self.own {
                own.shutdown(deadline).await;
            }
        };
        tokio::join!(data, own).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::settings::Secret;

    /// A configuration that exports to a port of the loopback device where nobody listens.
    fn to_nobody(interval: Duration) -> Config {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut config =
            Config { interval, shutdown_deadline: Duration::from_millis(100), ..Config::default() };
        config.export.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
        config
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < end, "it never holds");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_old_receiver_had_not_taken_stays_counted_after_a_reload() {
        let (old, new) = (to_nobody(Duration::from_secs(10)), to_nobody(Duration::from_secs(20)));
        let exports = Exports::start(&old, Arc::default(), Own::default()).unwrap();
        exports.hand_over(Arc::new(Snapshot { at_unix_ns: 1, ..Snapshot::default() }));
        until(|| exports.stats().failed_attempts > 0).await;
        let before = exports.stats();
        assert_eq!(before.dropped_points(), 0);
        let begin = Instant::now();
        assert!(exports.replace(&old, &new, exports.host()).unwrap());
        assert!(begin.elapsed() < Duration::from_secs(5), "a reload must not wait for the old receiver");
        assert!(exports.stats().failed_attempts >= before.failed_attempts, "no count falls");
        until(|| exports.stats().dropped_points() > 0).await;
        assert_ne!(exports.target().unwrap(), old.export.target().unwrap().uri.to_string());
        exports.shutdown(Duration::from_millis(100)).await;
        assert!(exports.stats().dropped_points() > 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_files_say_of_secrets_and_of_the_host_is_taken_over_at_a_reload() {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let write = |text: &str| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("first");
        let mut config = to_nobody(Duration::from_secs(10));
        config.export.headers.0.insert("x-token".to_owned(), Secret::File { file: file.clone() });
        let exports = Exports::start(&config, Arc::default(), Own::default()).unwrap();
        let replaced = |host: &Arc<Host>| exports.replace(&config, &config, Arc::clone(host));
        assert!(!replaced(&exports.host()).unwrap(), "nothing has changed");
        write("second");
        assert!(replaced(&exports.host()).unwrap(), "another secret");
        assert!(!replaced(&exports.host()).unwrap());
        let renamed = Arc::new(Host { name: "renamed".to_owned(), ..Host::default() });
        assert!(replaced(&renamed).unwrap(), "another name of the host");
        assert!(exports.host() == renamed && !replaced(&renamed).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(replaced(&renamed).is_err() && exports.target().is_some(), "the old ones go on");
        exports.shutdown(Duration::from_millis(100)).await;
    }
}
