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
    abi::{
        ABSENT, DiskCounts, DiskKey, DiskOperation, FIRST_COMMAND, IoGroup, Member, OperationSums,
        PLAIN_WRITE, device_of,
    },
    histogram::{BUCKETS, bucket_of},
};

use crate::{
    maps::{disk_counts, first_disk, flush_sequence, io_group, offset, on_untracked_request},
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
    let Some((group, owner)) = owner::<A>(bio) else { return };
    let operation = A::u32(request, Member::RequestOperation) & 0xff;
    if operation >= FIRST_COMMAND {
        return;
    }
    let device = device::<A>(request);
    let first = load!(group.first).place_of(device).and_then(first_disk);
    let Some(counts) = first.or_else(|| disk_counts(&DiskKey { owner, device })) else {
        return on_untracked_request();
    };
    let bytes = u64::from(bytes as u32);
    // A write that goes on with a flush ends once more, with the error of its data if that failed.
    let goes_on = A::u32(request, Member::RequestFlags) & flush_sequence() != 0;
    let is_last = bytes >= u64::from(A::u32(request, Member::RequestLength)) && !goes_on;
    let operation = match operation {
        PLAIN_WRITE if bytes == 0 && !has_data(bio) => DiskOperation::Flush,
        other => DiskOperation::of(other),
    };
    let place = operation as usize;
    let sums = field!(counts.sums).element(place);
    if bytes != 0 {
        field!(sums.bytes).add(bytes);
    }
    if error as u32 != 0 && !goes_on {
        field!(sums.errors).add(1);
    }
    if is_last {
        time::<A>(request, counts, sums, place);
    }
}

/// Whether a bio is more than a flush by itself, which is a write without data. A write after which the disk
/// is to flush ends twice, the second time without bytes.
#[inline(always)]
fn has_data(bio: Object) -> bool {
    // A typed load would be a pointer, which the compiler takes for a number.
    probe::<u64>(bio as u64, offset(Member::BioVectors)) != 0
}

/// Whose a bio is: the guest that has its control group to itself, by its number, with the group.
#[inline(always)]
fn owner<A: Access>(bio: Object) -> Option<(Shared<IoGroup>, u32)> {
    let group = A::u64(bio, Member::BioGroup) as Object;
    let blkcg = A::u64(group, Member::GroupBlkcg) as Object;
    let known = io_group(A::u32(blkcg, Member::BlkcgId))?;
    // In this order: user space takes the owner of a number away first, then writes the serial number, and
    // the new owner last.
    let serial = load!(known.serial);
    let owner = load!(known.owner);
    (owner != 0 && serial == A::u64(blkcg, Member::BlkcgSerial)).then_some((known, owner))
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

/// Counts a request by how long it took, as far as the kernel keeps that.
#[inline(always)]
fn time<A: Access>(request: Object, counts: Shared<DiskCounts>, sums: Shared<OperationSums>, place: usize) {
    let made = A::u64(request, Member::RequestStart);
    if made == 0 {
        return field!(sums.untimed).add(1);
    }
    // No clock of the kernel goes back; where one did, the parts come to the whole all the same.
    let now = monotonic_ns().max(made);
    add(field!(counts.durations).element(place), now - made);
    let issued = A::u64(request, Member::RequestIssued);
    if issued == 0 || place >= DiskOperation::WITH_DATA {
        return field!(sums.whole_ns).add(now - made);
    }
    let issued = issued.clamp(made, now);
    field!(sums.queued_ns).add(issued - made);
    field!(sums.served_ns).add(now - issued);
    add(field!(counts.queued).element(place), issued - made);
    add(field!(counts.served).element(place), now - issued);
}

#[inline(always)]
fn add(buckets: Shared<[u64; BUCKETS]>, ns: u64) {
    buckets.element(bucket_of(ns)).add(1);
}
