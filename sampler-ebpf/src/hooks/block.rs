//! The block layer's hooks: what guests ask of disks, and how long it takes.
//!
//! A request is counted once, at its end, as `/proc/diskstats` does. Whose it is says the control group that
//! its bio is charged to: the kernel has chosen that when the bio was submitted, also for what it writes back
//! later, and the bio keeps it. So nothing is kept of a request while it is under way.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use sampler_ebpf::{
    abi::{ABSENT, DiskCounts, DiskKey, DiskOperation, FIRST_COMMAND, Member, device_of},
    histogram::{Histogram, bucket_of},
};

use crate::{
    maps::{disk_counts, flush_sequence, io_group, offset, on_untracked_request},
    shared::{Shared, field, load},
    task::{Access, Object, Probed, Typed, monotonic_ns, probe},
};

/// `block_rq_complete(struct request *rq, blk_status_t error, unsigned int nr_bytes)`; `int error` up to 5.15
///
/// Called for each part of a request that ends.
#[btf_tracepoint(function = "block_rq_complete")]
fn block_rq_complete_btf(ctx: BtfTracePointContext) -> i32 {
    let (request, error, bytes): (Object, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    ended::<Typed>(request, error, bytes);
    0
}

/// The same, for kernels that refuse the typed one.
#[raw_tracepoint(tracepoint = "block_rq_complete")]
fn block_rq_complete_raw(ctx: RawTracePointContext) -> i32 {
    let (request, error, bytes): (Object, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    ended::<Probed>(request, error, bytes);
    0
}

/// Counts a part of a request that ended, if it is a guest's.
#[inline(always)]
fn ended<A: Access>(request: Object, error: u64, bytes: u64) {
    let bio = A::u64(request, Member::RequestBio) as Object;
    let Some(owner) = owner::<A>(bio) else { return };
    let operation = A::u32(request, Member::RequestOperation) & 0xff;
    if operation >= FIRST_COMMAND {
        return;
    }
    let Some(counts) = disk_counts(&DiskKey { owner, device: device::<A>(request) }) else {
        return on_untracked_request();
    };
    let bytes = u64::from(bytes as u32);
    let is_last = bytes >= u64::from(A::u32(request, Member::RequestLength))
        && A::u32(request, Member::RequestFlags) & flush_sequence() == 0;
    let operation = match DiskOperation::of(operation) {
        DiskOperation::Write if bytes == 0 && !has_data(bio) => DiskOperation::Flush,
        other => other,
    };
    let place = operation as usize;
    if bytes != 0 {
        field!(counts.bytes).element(place).add(bytes);
    }
    if error as u32 != 0 {
        field!(counts.errors).element(place).add(1);
    }
    if is_last {
        field!(counts.operations).element(place).add(1);
        time::<A>(request, counts, place);
    }
}

/// Whether a bio is more than a flush by itself, which is a write without data. A write after which the disk
/// is to flush ends twice, the second time without bytes.
#[inline(always)]
fn has_data(bio: Object) -> bool {
    // A typed load would be a pointer, which the compiler takes for a number.
    probe::<u64>(bio as u64, offset(Member::BioVectors)) != 0
}

/// Whose a bio is: the guest that has its control group to itself.
#[inline(always)]
fn owner<A: Access>(bio: Object) -> Option<u32> {
    let group = A::u64(bio, Member::BioGroup) as Object;
    let blkcg = A::u64(group, Member::GroupBlkcg) as Object;
    let known = io_group(A::u32(blkcg, Member::BlkcgId))?;
    let owner = load!(known.owner);
    (owner != 0 && load!(known.serial) == A::u64(blkcg, Member::BlkcgSerial)).then_some(owner)
}

/// The disk that serves a request.
#[inline(always)]
fn device<A: Access>(request: Object) -> u32 {
    let disk = if offset(Member::RequestDisk) == ABSENT {
        A::u64(A::u64(request, Member::RequestQueue) as Object, Member::QueueDisk)
    } else {
        A::u64(request, Member::RequestDisk)
    } as Object;
    device_of(A::u32(disk, Member::DiskMajor), A::u32(disk, Member::DiskMinor))
}

/// Adds how long a request took, as far as the kernel keeps that.
#[inline(always)]
fn time<A: Access>(request: Object, counts: Shared<DiskCounts>, place: usize) {
    let made = A::u64(request, Member::RequestStart);
    if made == 0 {
        return;
    }
    let (issued, now) = (A::u64(request, Member::RequestIssued), monotonic_ns());
    add(field!(counts.durations).element(place), now.saturating_sub(made));
    if issued != 0 && place < DiskOperation::WITH_DATA {
        add(field!(counts.queued).element(place), issued.saturating_sub(made));
        add(field!(counts.served).element(place), now.saturating_sub(issued));
    }
}

#[inline(always)]
fn add(histogram: Shared<Histogram>, ns: u64) {
    field!(histogram.sum_ns).add(ns);
    field!(histogram.counts).element(bucket_of(ns)).add(1);
}
