//! From the sampling loop to the receiver, without the one ever waiting for the other.
//!
//! Two tasks: one encodes, compresses and queues, the other sends, one request at a time and in order. A few
//! snapshots may wait for the first and a bounded number of bytes for the second; what does not fit is
//! dropped, oldest first, and counted.

mod backoff;
mod queue;
mod sender;
mod stats;
mod trouble;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, watch},
    task::{JoinSet, spawn_blocking},
};

pub use self::stats::{DropReason, Dropped, PipelineStats};
use self::{
    queue::{Batch, Queue},
    sender::Sender,
    trouble::{Trouble, Troubles},
};
use super::{
    client::{Client, ClientError, Encoding, Framer},
    otlp::{self, Encoder, Request, Selection},
    resource::Resource,
    settings::ExportSettings,
};
use crate::model::{Host, Snapshot};

/// Snapshots that may wait for the encoder. It takes milliseconds for each, so more would hide a fault.
const MAX_PENDING_SNAPSHOTS: usize = 4;

/// Exports the snapshots of one host to one receiver.
#[derive(Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    closing: watch::Sender<bool>,
    /// Dropping the set aborts the tasks.
    tasks: JoinSet<()>,
}

impl Pipeline {
    /// Starts the tasks on the current tokio runtime. No connection is made before there is something to
    /// send.
    ///
    /// # Errors
    /// No endpoint is set, or a setting, key or certificate cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(settings: &ExportSettings, host: &Host) -> Result<Self, ClientError> {
        let client = Arc::new(Client::new(settings)?);
        let receiver = settings.target().map_err(ClientError::from)?.label();
        let shared = Arc::new(Shared::new(settings, &receiver));
        let (closing, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(encode(shared.clone(), Resource::new(settings, host), client.clone()));
        tasks.spawn(Sender::new(shared.clone(), client, settings.retry.clone(), closed).run());
        Ok(Self { shared, closing, tasks })
    }

    /// Hands a snapshot over. Never waits: where the encoder does not keep up, the oldest snapshot is dropped
    /// and counted, and this returns false.
    pub fn offer(&self, snapshot: Arc<Snapshot>) -> bool {
        self.shared.offer(snapshot)
    }

    /// Counters and state.
    #[must_use]
    pub fn stats(&self) -> PipelineStats {
        self.shared.stats()
    }

    /// Sends what waits, for `deadline` at most, and stops. What is left then is dropped and counted.
    pub async fn shutdown(mut self, deadline: Duration) -> PipelineStats {
        self.shared.inbox().closed = true;
        self.shared.snapshot_came.notify_one();
        self.closing.send_replace(true);
        let finish = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, finish).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.shared.abandon();
        self.shared.stats()
    }
}

/// Encodes snapshots as they come, until the inbox is closed and empty.
async fn encode(shared: Arc<Shared>, resource: Resource, client: Arc<Client>) {
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fresh = || {
        let encoder = Encoder::new(&resource, start.as_nanos() as u64).selecting(shared.selection.clone());
        (encoder, Framer::new(client.protocol()))
    };
    let (mut encoder, mut framer) = fresh();
    while let Some(snapshot) = shared.next_snapshot().await {
        let (encoding, room) = (client.encoding(), shared.state().queue.room_for_plain());
        let began = Instant::now();
        // Milliseconds of CPU on a large host: not on a thread that other tasks wait for.
        let encoded = Arc::clone(&snapshot);
        let work = spawn_blocking(move || {
            let mut requests = Vec::new();
            encoder.encode(&encoded, &mut requests);
            let batches = batches(&requests, &mut framer, encoding, room);
            (encoder, framer, batches)
        });
        match work.await {
            Ok((used_encoder, used_framer, batches)) => {
                (encoder, framer) = (used_encoder, used_framer);
                shared.enqueue(batches, began.elapsed());
            }
            Err(error) => {
                (encoder, framer) = fresh();
                let points = otlp::points_of(&snapshot, &shared.selection);
                shared.encoder_failed(points, &error.to_string());
            }
        }
    }
    shared.close();
}

/// Frames requests as the receiver is to get them. What is to go out uncompressed and finds no `room` waits
/// compressed all the same: decompression at sending costs less than a request that is dropped.
fn batches(requests: &[Request], framer: &mut Framer, encoding: Encoding, mut room: usize) -> Vec<Batch> {
    let mut batch = |request: &Request| {
        let fits = request.body.len() <= room;
        room = room.saturating_sub(request.body.len());
        let encoding = if encoding == Encoding::None && !fits { Encoding::Zstd } else { encoding };
        let body = framer.frame_shared(&request.body, encoding);
        Batch { body, points: request.points, ends: request.ends, made: Instant::now() }
    };
    requests.iter().map(&mut batch).collect()
}

/// What the two tasks and their owner share.
#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    snapshot_came: Notify,
    state: Mutex<State>,
    batch_came: Notify,
    /// What a snapshot's points are, also of those that are dropped before they are encoded.
    selection: Selection,
}

/// Snapshots that wait for the encoder. It has a lock of its own, which is never held for longer than a few
/// instructions: the sampling loop takes it.
#[derive(Debug, Default)]
struct Inbox {
    snapshots: VecDeque<Arc<Snapshot>>,
    closed: bool,
    dropped: Dropped,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    closed: bool,
    stats: PipelineStats,
    troubles: Troubles,
}

impl Shared {
    fn new(settings: &ExportSettings, receiver: &str) -> Self {
        let state = State {
            queue: Queue::new(settings.queue_bytes),
            closed: false,
            stats: PipelineStats::default(),
            troubles: Troubles::new(receiver),
        };
        Self {
            inbox: Mutex::default(),
            snapshot_came: Notify::new(),
            state: Mutex::new(state),
            batch_came: Notify::new(),
            selection: Selection::of(settings),
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, snapshot: Arc<Snapshot>) -> bool {
        let mut inbox = self.inbox();
        inbox.snapshots.push_back(snapshot);
        let late =
            if inbox.snapshots.len() > MAX_PENDING_SNAPSHOTS { inbox.snapshots.pop_front() } else { None };
        if let Some(late) = &late {
            inbox.count(late, &self.selection);
        }
        drop(inbox);
        self.snapshot_came.notify_one();
        late.is_none()
    }

    async fn next_snapshot(&self) -> Option<Arc<Snapshot>> {
        loop {
            {
                let mut inbox = self.inbox();
                if let Some(snapshot) = inbox.snapshots.pop_front() {
                    return Some(snapshot);
                }
                if inbox.closed {
                    return None;
                }
            }
            self.snapshot_came.notified().await;
        }
    }

    fn enqueue(&self, batches: Vec<Batch>, took: Duration) {
        let mut state = self.state();
        let State { queue, stats, troubles, .. } = &mut *state;
        stats.encode_ns += took.as_nanos() as u64;
        for batch in batches {
            queue.push(batch, |victim| {
                stats.count_drop(DropReason::QueueFull, victim.points, victim.ends);
                let trouble = Trouble::Dropping(DropReason::QueueFull);
                troubles.seen(
                    trouble,
                    "the receiver is away for longer than export.queue_bytes lasts",
                    Instant::now(),
                );
            });
        }
        drop(state);
        self.batch_came.notify_one();
    }

    fn encoder_failed(&self, points: u64, error: &str) {
        let mut state = self.state();
        state.stats.count_drop(DropReason::EncoderBusy, points, 0);
        state.troubles.seen(Trouble::Dropping(DropReason::EncoderBusy), error, Instant::now());
    }

    fn close(&self) {
        self.state().closed = true;
        self.batch_came.notify_one();
    }

    /// Counts what is left as dropped.
    fn abandon(&self) {
        let left: Vec<_> = self.inbox().snapshots.drain(..).collect();
        let mut state = self.state();
        let State { queue, stats, .. } = &mut *state;
        for snapshot in left {
            stats.count_drop(DropReason::Shutdown, otlp::points_of(&snapshot, &self.selection), 0);
        }
        for batch in queue.drain() {
            stats.count_drop(DropReason::Shutdown, batch.points, batch.ends);
        }
    }

    fn stats(&self) -> PipelineStats {
        let late = self.inbox().dropped;
        let state = self.state();
        let mut stats = state.stats.clone();
        stats.queue_requests = state.queue.len() as u64;
        stats.queue_bytes = state.queue.bytes() as u64;
        let busy = &mut stats.dropped[DropReason::EncoderBusy as usize];
        busy.requests += late.requests;
        busy.points += late.points;
        stats
    }
}

impl Inbox {
    /// Ends are not lost with a snapshot: the encoder finds them in the next one.
    fn count(&mut self, late: &Snapshot, selection: &Selection) {
        self.dropped.requests += 1;
        self.dropped.points += otlp::points_of(late, selection);
    }
}
