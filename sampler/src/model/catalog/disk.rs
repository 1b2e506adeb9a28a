//! Families of a guest's disks.

use super::{Bound, Dimension, Family, Series, Start, Unit, Values};
use crate::model::{DISK_OPERATIONS, Disk, DiskOperation, Histogram};

const OPERATION: Dimension = Dimension { key: "hypervisor.disk.operation", values: DISK_OPERATIONS };

/// Of those with data.
const TRANSFER: Dimension = Dimension {
    key: "hypervisor.disk.operation",
    values: DISK_OPERATIONS.split_at(DiskOperation::WITH_DATA).0,
};

const COUNTED: Bound = Bound::By(
    "none up to the last reading, but for requests that the kernel does not report: hypervisor.sampler.requests_missed counts \
     those",
);

const TIMED: Bound = Bound::By(
    "counts as the operations. Up to Linux 6.8 the sum by some hundred nanoseconds a request; later a request may seem to \
     have begun with the first of its batch. A quantile is an upper bound, at most twice the true value",
);

pub(super) const SERIES: &[Series<Disk>] = &[
    Series {
        family: Family::counter(
            "hypervisor.vm.disk.operations",
            Unit::Count("{operation}"),
            COUNTED,
            "Requests of the VM that the disk has ended, as the kernel counts them in /proc/diskstats: what it merged into one \
             is one.",
        ),
        attributes: &[OPERATION],
        start: Start::Own,
        values: Values::Numbers(|disk, to| {
            for (place, operations) in disk.counts.operations.iter().enumerate() {
                to.set(place, *operations);
            }
        }),
    },
    Series {
        family: Family::counter(
            "hypervisor.vm.disk.io",
            Unit::Bytes,
            COUNTED,
            "Bytes of these requests; of discards those that are not needed any more.",
        ),
        attributes: &[OPERATION],
        start: Start::Own,
        values: Values::Numbers(|disk, to| {
            for (place, bytes) in disk.counts.bytes.iter().enumerate() {
                // A flush has no bytes: that is not none of them.
                if place != DiskOperation::Flush as usize {
                    to.set(place, *bytes);
                }
            }
        }),
    },
    Series {
        family: Family::counter(
            "hypervisor.vm.disk.errors",
            Unit::Count("{error}"),
            COUNTED,
            "Requests of the VM that failed. One that fails in parts counts for each.",
        ),
        attributes: &[OPERATION],
        start: Start::Own,
        values: Values::Numbers(|disk, to| {
            for (place, errors) in disk.counts.errors.iter().enumerate() {
                to.set(place, *errors);
            }
        }),
    },
    Series {
        family: Family::histogram(
            "hypervisor.vm.disk.operation.duration",
            TIMED,
            "Time of a request from when the kernel made it to its end. Absent where the disk keeps no statistics \
             (queue/iostats is 0).",
        ),
        attributes: &[OPERATION],
        start: Start::Own,
        values: Values::Histograms(|disk, place| kept(&disk.counts.durations[place])),
    },
    Series {
        family: Family::histogram(
            "hypervisor.vm.disk.queue.duration",
            TIMED,
            "The part of that before the driver was given the request. Where the kernel keeps it: as a rule for disks whose \
             writes it throttles (queue/wbt_lat_usec is not 0).",
        ),
        attributes: &[TRANSFER],
        start: Start::Own,
        values: Values::Histograms(|disk, place| kept(&disk.counts.queued[place])),
    },
    Series {
        family: Family::histogram(
            "hypervisor.vm.disk.service.duration",
            TIMED,
            "The part from then to the request's end: what driver and disk took. Where the kernel keeps it, as the part before.",
        ),
        attributes: &[TRANSFER],
        start: Start::Own,
        values: Values::Histograms(|disk, place| kept(&disk.counts.served[place])),
    },
];

/// A distribution, where the kernel keeps what is in it.
fn kept(durations: &Histogram) -> Option<&Histogram> {
    (*durations != Histogram::EMPTY).then_some(durations)
}
