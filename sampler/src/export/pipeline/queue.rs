//! Framed requests waiting to be sent: in order, and bounded in bytes.

use std::{collections::VecDeque, mem, time::Instant};

use crate::export::client::Framed;

/// One framed request.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// As it is sent, unless the receiver turns out to want another encoding.
    pub(super) body: Framed,
    /// Points in it.
    pub(super) points: u64,
    /// Of these, points that end a series.
    pub(super) ends: u64,
    /// When it was made.
    pub(super) made: Instant,
}

impl Batch {
    const fn bytes(&self) -> usize {
        self.body.bytes().len() + size_of::<Self>()
    }
}

/// The queue. Its front stays where it is while it is being sent, so that a failure loses no place.
#[derive(Debug)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    limit: usize,
    sending: bool,
}

impl Queue {
    /// `limit` is in bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, limit, sending: false }
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Memory in use.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that uncompressed batches may add. They fill half of the queue at most: compressed, what waits
    /// while a receiver is away is the snapshots of a time ten times as long.
    pub(super) const fn room_for_plain(&self) -> usize {
        (self.limit / 2).saturating_sub(self.bytes)
    }

    /// Takes a batch in. Where there is no room the oldest go, but the one that is being sent: it may have
    /// arrived already. A batch that finds no room even then is dropped itself.
    pub(super) fn push(&mut self, batch: Batch, mut dropped: impl FnMut(&Batch)) {
        let oldest = usize::from(self.sending);
        while self.bytes + batch.bytes() > self.limit {
            let Some(victim) = self.batches.remove(oldest) else {
                dropped(&batch);
                return;
            };
            self.bytes -= victim.bytes();
            dropped(&victim);
        }
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }

    /// The front, which counts as being sent until it is settled.
    pub(super) fn begin(&mut self) -> Option<Batch> {
        let front = self.batches.front()?.clone();
        self.sending = true;
        Some(front)
    }

    /// The front failed and stays; from here on it may be dropped for want of room like any other.
    pub(super) const fn keep(&mut self) {
        self.sending = false;
    }

    /// The front is done with.
    pub(super) fn finish(&mut self) {
        self.sending = false;
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.bytes();
        }
    }

    /// Empties the queue.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Batch> {
        self.sending = false;
        self.bytes = 0;
        mem::take(&mut self.batches).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::{
        client::{Encoding, Framer},
        settings::Protocol,
    };

    fn batch(points: u64, len: usize) -> Batch {
        let body = Framer::new(Protocol::HttpProtobuf).frame(&vec![0; len], Encoding::None);
        Batch { body, points, ends: 0, made: Instant::now() }
    }

    fn points(queue: &Queue) -> Vec<u64> {
        queue.batches.iter().map(|batch| batch.points).collect()
    }

    #[test]
    fn the_oldest_go_first_and_the_one_being_sent_stays() {
        let one = batch(0, 100).bytes();
        let mut queue = Queue::new(3 * one);
        let mut dropped = Vec::new();
        for number in 1..=3 {
            queue.push(batch(number, 100), |_| panic!("there is room"));
        }
        assert_eq!(queue.begin().unwrap().points, 1);
        queue.push(batch(4, 100), |batch| dropped.push(batch.points));
        assert_eq!((points(&queue), &*dropped), (vec![1, 3, 4], &[2][..]));
        queue.keep();
        queue.push(batch(5, 100), |batch| dropped.push(batch.points));
        assert_eq!((points(&queue), &*dropped), (vec![3, 4, 5], &[2, 1][..]));
    }

    #[test]
    fn what_can_never_fit_is_dropped_itself() {
        let mut queue = Queue::new(batch(0, 100).bytes());
        queue.push(batch(1, 100), |_| panic!("there is room"));
        queue.begin();
        let mut dropped = Vec::new();
        queue.push(batch(2, 100), |batch| dropped.push(batch.points));
        assert_eq!((points(&queue), dropped), (vec![1], vec![2]));
    }

    #[test]
    fn half_of_the_queue_is_for_what_is_not_compressed() {
        let one = batch(0, 100).bytes();
        let mut queue = Queue::new(6 * one);
        for expected in [3 * one, 2 * one, one, 0, 0] {
            assert_eq!(queue.room_for_plain(), expected);
            queue.push(batch(1, 100), |_| panic!("there is room"));
        }
        queue.begin();
        queue.finish();
        queue.drain().for_each(drop);
        assert_eq!(queue.room_for_plain(), 3 * one);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Begin,
        Keep,
        Finish,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_usize..400).prop_map(Step::Push),
            2 => Just(Step::Begin),
            1 => Just(Step::Keep),
            1 => Just(Step::Finish),
        ]
    }

    proptest! {
        #[test]
        fn bounded_ordered_and_nothing_is_lost_unseen(
            steps in prop::collection::vec(step(), 0..100),
            limit in 0_usize..1500,
        ) {
            let mut queue = Queue::new(limit);
            let (mut pushed, mut gone) = (0, 0);
            for step in steps {
                match step {
                    Step::Push(len) => {
                        pushed += 1;
                        queue.push(batch(pushed, len), |_| gone += 1);
                    }
                    Step::Begin => drop(queue.begin()),
                    Step::Keep => queue.keep(),
                    Step::Finish if queue.sending => {
                        queue.finish();
                        gone += 1;
                    }
                    Step::Finish => {}
                }
                prop_assert!(queue.bytes() <= limit);
                prop_assert_eq!(queue.bytes(), queue.batches.iter().map(Batch::bytes).sum::<usize>());
                prop_assert!(points(&queue).is_sorted());
                prop_assert_eq!(pushed, gone + queue.len() as u64);
            }
        }
    }
}
