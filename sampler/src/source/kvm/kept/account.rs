//! What is kept of a vCPU, whichever thread runs it.

use std::sync::Arc;

use super::{
    super::{
        accounts::{Stream, VcpuAccount},
        carry::Carry,
        exits::KnownExits,
    },
    exits::by_row,
};
use crate::{
    kept::{Keep, Reader, Shape, Writer},
    kernel::clock::Clock,
    model::{Account, Counters, Distributions, Exits, KvmCounts, Reading},
};

impl Keep for Clock {
    const SHAPE: u64 = Shape::of("Clock").number(u64::SHAPE).end();

    fn put(&self, to: &mut Writer<'_>) {
        self.distance_ns().put(to);
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        u64::take(from).map(Self::of_distance)
    }
}

/// What every account has, in this order.
type Parts = (
    (Stream, Option<Counters>, Option<Box<Carry>>, Option<Reading>),
    (bool, bool, u64, u32),
    (Option<Account>, Option<Clock>, Option<KvmCounts>),
    (Arc<Distributions>, Arc<Exits>),
);

/// What the last interval added the next reading makes from `time`. The slot is read once more, whatever was
/// read of it.
impl Keep for VcpuAccount {
    const SHAPE: u64 = {
        let shape = Shape::of("VcpuAccount").number(Parts::SHAPE);
        shape.number(KnownExits::SHAPE).end()
    };

    fn put(&self, to: &mut Writer<'_>) {
        let Self {
            stream,
            seen_counters,
            carry,
            closed,
            is_handed_over,
            time,
            followed_boottime_ns,
            clock,
            interval: _,
            kvm,
            is_kvm_read,
            distributions,
            distributions_before: _,
            slot_seq: _,
            shares: _,
            exits,
            exits_added: _,
            exit_counts,
            modes_seq: _,
            unpaired,
        } = self;
        stream.put(to);
        // The first reading asks for them, and nobody later.
        time.is_none().then_some(*seen_counters).put(to);
        carry.put(to);
        closed.put(to);
        (*is_handed_over, *is_kvm_read, *followed_boottime_ns, *unpaired).put(to);
        time.put(to);
        clock.put(to);
        kvm.put(to);
        distributions.put(to);
        exits.put(to);
        exit_counts.put(carry.is_none().then(|| by_row(exits)), to);
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let ((stream, seen_counters, carry, closed), flags, (time, clock, kvm), (distributions, exits)) =
            Parts::take(from)?;
        let (is_handed_over, is_kvm_read, followed_boottime_ns, unpaired) = flags;
        let exit_counts = KnownExits::take_kept(by_row(&exits), from)?;
        Some(Self {
            stream,
            seen_counters: seen_counters.unwrap_or_default(),
            carry,
            closed,
            is_handed_over,
            time,
            followed_boottime_ns,
            clock,
            interval: None,
            kvm,
            is_kvm_read,
            distributions_before: distributions.clone(),
            distributions,
            slot_seq: None,
            shares: None,
            exits,
            exits_added: None,
            exit_counts,
            modes_seq: u64::MAX,
            unpaired,
        })
    }
}

#[cfg(test)]
mod tests;
