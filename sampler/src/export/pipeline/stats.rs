//! What the pipeline says of itself.

use std::{sync::Arc, time::SystemTime};

/// Why a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// The queue was full, and this was the oldest in it.
    QueueFull,
    /// The receiver refused it for good.
    Refused,
    /// The receiver does not take requests of its size.
    TooLarge,
    /// It failed, and was older than the configured bound.
    Expired,
    /// The snapshot was never encoded: the encoder had not kept up.
    EncoderBusy,
    /// Time to shut down ran out before it was sent.
    Shutdown,
}

impl DropReason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 6] =
        [Self::QueueFull, Self::Refused, Self::TooLarge, Self::Expired, Self::EncoderBusy, Self::Shutdown];

    /// Value of the attribute `reason`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::EncoderBusy => "encoder_busy",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What was dropped for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Requests; with [`DropReason::EncoderBusy`], snapshots.
    pub requests: u64,
    /// Points in them.
    pub points: u64,
    /// Of these, points that ended a series: the receiver never learns of those ends.
    pub ends: u64,
}

/// Counters of the pipeline, cumulative since its start, and its state now.
#[derive(Clone, Debug, Default)]
pub struct PipelineStats {
    /// Requests that the receiver took.
    pub exported_requests: u64,
    /// Points in them, those the receiver rejected left out.
    pub exported_points: u64,
    /// Bytes of these requests as they were sent: framed and compressed.
    pub exported_bytes: u64,
    /// Points that the receiver rejected in requests it took.
    pub rejected_points: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Of these, attempts after which the request was kept to be tried again.
    pub retried_attempts: u64,
    /// Time spent encoding and compressing, ns.
    pub encode_ns: u64,
    /// Time spent sending and waiting for answers, ns.
    pub send_ns: u64,
    /// Requests waiting, the one that is being sent included.
    pub queue_requests: u64,
    /// Memory that they use, bytes.
    pub queue_bytes: u64,
    /// The last failure in words.
    pub last_error: Option<Arc<str>>,
    /// When that was.
    pub last_error_at: Option<SystemTime>,
    /// What was dropped, by [`DropReason`].
    pub dropped: [Dropped; DropReason::ALL.len()],
}

impl PipelineStats {
    /// What was dropped for a reason.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> Dropped {
        self.dropped[reason as usize]
    }

    /// Points dropped for any reason.
    #[must_use]
    pub fn dropped_points(&self) -> u64 {
        self.dropped.iter().map(|dropped| dropped.points).sum()
    }

    /// Adds what another pipeline counted; what waits, and the last error, stay this one's.
    pub fn add(&mut self, other: &Self) {
        for (sum, term) in self.counters().into_iter().zip(other.clone().counters()) {
            *sum += *term;
        }
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut change = self.clone();
        for (now, before) in change.counters().into_iter().zip(earlier.clone().counters()) {
            *now = now.saturating_sub(*before);
        }
        change
    }

    /// All that is counted. Taken apart by name, so that a new field is either added here or left out on
    /// purpose.
    fn counters(&mut self) -> Vec<&mut u64> {
        let Self {
            exported_requests,
            exported_points,
            exported_bytes,
            rejected_points,
            failed_attempts,
            retried_attempts,
            encode_ns,
            send_ns,
            queue_requests: _,
            queue_bytes: _,
            last_error: _,
            last_error_at: _,
            dropped,
        } = self;
        let mut all = vec![
            exported_requests,
            exported_points,
            exported_bytes,
            rejected_points,
            failed_attempts,
            retried_attempts,
            encode_ns,
            send_ns,
        ];
        all.extend(
            dropped.iter_mut().flat_map(|Dropped { requests, points, ends }| [requests, points, ends]),
        );
        all
    }

    /// Keeps a failure as the last one.
    pub(super) fn keep_error(&mut self, text: &str) {
        self.last_error = Some(text.into());
        self.last_error_at = Some(SystemTime::now());
    }

    pub(super) fn count_drop(&mut self, reason: DropReason, points: u64, ends: u64) {
        let dropped = &mut self.dropped[reason as usize];
        dropped.requests += 1;
        dropped.points += points;
        dropped.ends += ends;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_pipeline_counted_is_carried_over_to_the_next() {
        let mut first = PipelineStats { exported_points: 5, queue_bytes: 9, ..PipelineStats::default() };
        first.count_drop(DropReason::Shutdown, 7, 1);
        let mut second = PipelineStats { exported_points: 2, queue_bytes: 1, ..PipelineStats::default() };
        second.add(&first);
        assert_eq!((second.exported_points, second.queue_bytes, second.dropped_points()), (7, 1, 7));
        assert_eq!(second.since(&first).exported_points, 2);
    }

    #[test]
    fn reasons_index_their_counters() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.key());
        }
    }
}
