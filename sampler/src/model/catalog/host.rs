//! Families of the host.

use super::{Family, Series, Start, Unit};
use crate::model::Snapshot;

pub(super) const SERIES: &[Series<Snapshot>] = &[Series::plain(
    Family::up_down_counter("hypervisor.vm.count", Unit::Count("{vm}"), "VMs on the host."),
    Start::Sampler,
    |snapshot, to| to.set(0, snapshot.vms.len() as u64),
)];
