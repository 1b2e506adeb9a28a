//! The sending task: one request at a time, in order, for as long as it takes or it is worth.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{DropReason, Shared, State, backoff::Backoff, queue::Batch, trouble::Trouble};
use crate::export::{
    client::{Answer, Client, Delivery, Failure, Step},
    settings::RetrySettings,
};

pub(super) struct Sender {
    shared: Arc<Shared>,
    client: Arc<Client>,
    max_age: Duration,
    backoff: Backoff,
    closing: watch::Receiver<bool>,
}

impl Sender {
    pub(super) const fn new(
        shared: Arc<Shared>,
        client: Arc<Client>,
        retry: RetrySettings,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self { shared, client, max_age: retry.max_age, backoff: Backoff::new(retry), closing }
    }

    /// Sends until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next().await {
            let began = Instant::now();
            let delivery = self.client.deliver(&batch.body).await;
            let wait = self.settle(&batch, delivery, began.elapsed());
            if let Some(wait) = wait {
                self.wait(wait).await;
            }
        }
    }

    async fn next(&self) -> Option<Batch> {
        loop {
            {
                let mut state = self.shared.state();
                if let Some(batch) = state.queue.begin() {
                    return Some(batch);
                }
                if state.closed {
                    return None;
                }
            }
            self.shared.batch_came.notified().await;
        }
    }

    /// Draws the consequences of an answer; returns how long to wait before the next attempt, if at all.
    fn settle(&mut self, batch: &Batch, delivery: Delivery, took: Duration) -> Option<Duration> {
        let mut state = self.shared.state();
        state.stats.send_ns += took.as_nanos() as u64;
        state.stepped(&delivery.steps);
        match delivery.answer {
            Answer::Taken { rejected, message } => {
                state.stats.exported_bytes += delivery.bytes as u64;
                state.taken(batch, rejected, message.as_deref());
                self.backoff.reset();
                None
            }
            Answer::Refused { too_large, failure } => {
                let reason = if too_large { DropReason::TooLarge } else { DropReason::Refused };
                state.failed(&failure, Trouble::Refusing(failure.kind));
                state.give_up(batch, reason);
                self.backoff.reset();
                None
            }
            Answer::Retry { after, failure } => {
                state.failed(&failure, Trouble::Failing(failure.kind));
                if batch.made.elapsed() >= self.max_age {
                    let trouble = Trouble::Dropping(DropReason::Expired);
                    state.troubles.seen(
                        trouble,
                        "requests failed for longer than export.retry.max_age",
                        Instant::now(),
                    );
                    state.give_up(batch, DropReason::Expired);
                } else {
                    state.stats.retried_attempts += 1;
                    state.queue.keep();
                }
                Some(self.backoff.next(after))
            }
        }
    }

    /// Waits, but not once the pipeline begins to close: there may not be time for another chance.
    async fn wait(&mut self, wait: Duration) {
        if *self.closing.borrow_and_update() {
            tokio::time::sleep(wait).await;
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = self.closing.changed() => self.backoff.reset(),
        }
    }
}

impl State {
    fn taken(&mut self, batch: &Batch, rejected: u64, message: Option<&str>) {
        let now = Instant::now();
        let rejected = rejected.min(batch.points);
        self.stats.exported_requests += 1;
        self.stats.exported_points += batch.points - rejected;
        self.stats.rejected_points += rejected;
        if rejected > 0 || message.is_some() {
            let text = format!(
                "{rejected} of {} points rejected: {}",
                batch.points,
                message.unwrap_or("no reason given")
            );
            self.troubles.seen(Trouble::Rejecting, &text, now);
            self.stats.keep_error(&text);
        }
        self.troubles.succeeded(now);
        self.queue.finish();
    }

    /// Attempts in an encoding that the receiver refused. The request is not lost, so this is no trouble.
    fn stepped(&mut self, steps: &[Step]) {
        self.stats.failed_attempts += steps.len() as u64;
        self.stats.retried_attempts += steps.len() as u64;
        for step in steps {
            self.troubles.stepped(step);
            self.stats.keep_error(&step.failure.text);
        }
    }

    fn failed(&mut self, failure: &Failure, trouble: Trouble) {
        self.stats.failed_attempts += 1;
        self.troubles.seen(trouble, &failure.text, Instant::now());
        self.stats.keep_error(&failure.text);
    }

    fn give_up(&mut self, batch: &Batch, reason: DropReason) {
        self.stats.count_drop(reason, batch.points, batch.ends);
        self.queue.finish();
    }
}
