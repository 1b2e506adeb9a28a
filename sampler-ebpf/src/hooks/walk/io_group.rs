//! The control group that a thread's disk requests are charged to.

use sampler_ebpf::abi::{ABSENT, Member, WalkRecord};

use crate::{
    maps::offset,
    shared::{Shared, store},
    task::{Access, Object, Typed},
};

/// Writes into the record which control group of the io controller a thread is in. Whoever moves it meanwhile
/// is seen by the next walk.
#[inline(always)]
pub(super) fn read_io_group(record: Shared<WalkRecord>, task: Object) {
    if offset(Member::TaskCgroups) == ABSENT || offset(Member::CgroupsIo) == ABSENT {
        return;
    }
    let groups = Typed::u64(task, Member::TaskCgroups) as Object;
    let group = Typed::u64(groups, Member::CgroupsIo) as Object;
    store!(record.io_group, Typed::u32(group, Member::CssId));
    store!(record.io_serial, Typed::u64(group, Member::CssSerial));
    let node = Typed::u64(Typed::u64(group, Member::CssCgroup) as Object, Member::CgroupNode) as Object;
    store!(record.io_cgroup, Typed::u64(node, Member::NodeId));
}
