//! A look at open files (`iter/task_file`, 5.8 and later), run by user space every now and then: which vCPUs
//! there are. One that is paused, or was never run, no switch and no walk over threads can show. And one
//! whose VM ends while its thread lives on is known to have ended by its descriptor alone.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext, helpers::bpf_ktime_get_boot_ns};
use sampler_ebpf::abi::{ANON_INODES, MAX_VCPU_FILES, Member, NO_SLOT, VCPU_FILE, VCPU_FILE_END, WalkStats};

use super::{Logging, calibrate, sched_ns, seen};
use crate::{
    hooks::lifecycle::{announce, is_run_by, notifier_of},
    maps::{control, offset, pid_entry, vcpu_file, vcpu_files, walk_stats},
    shared::{Shared, bump, field, load, store},
    task::{Access, Object, Probed, TASK_DEAD, Typed, monotonic_ns, probe, probe_shared, state},
};

/// `struct bpf_iter__task_file { struct bpf_iter_meta *meta; struct task_struct *task; u32 fd; struct file
/// *file; }`, each in eight bytes; task and file NULL at the end. Threads that share their descriptors with
/// the first of their process are left out.
#[repr(C)]
struct FileContext {
    meta: *const c_void,
    task: Object,
    fd: u64,
    file: Object,
}

/// One call per descriptor, in process context and preemptible.
///
/// # Safety
/// Called by the kernel alone, with a context of that type.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
unsafe extern "C" fn list_vcpus(ctx: *mut FileContext) -> i32 {
    // SAFETY: the kernel passes a context of this type, and the verifier checks the loads.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if !task.is_null() && !file.is_null() {
        visit(&Logging(ctx.cast()), task, file);
    }
    0
}

#[inline(always)]
fn visit(ctx: &impl EbpfContext, task: Object, file: Object) {
    let Some(counts) = vcpu_files() else { return };
    bump!(counts.visited, 1);
    if !is_vcpu(file) {
        return;
    }
    let vcpu = Typed::u64(file, Member::FilePrivate);
    let kvm: u64 = probe(vcpu, offset(Member::VcpuKvm));
    // A child of the VMM, or whom it passed the descriptor, cannot run it.
    if probe::<u64>(kvm, offset(Member::KvmMm)) != Typed::u64(task, Member::TaskMm) {
        return;
    }
    let listed = load!(counts.listed);
    if listed >= u64::from(MAX_VCPU_FILES) {
        return bump!(counts.dropped, 1);
    }
    let (Some(record), Some(control), Some(stats)) = (vcpu_file(listed as u32), control(), walk_stats())
    else {
        return;
    };
    calibrate(control);
    store!(record.vcpu, vcpu);
    store!(record.kvm, kvm);
    store!(record.tgid, Typed::u32(task, Member::TaskTgid));
    probe_shared(vcpu, offset(Member::VcpuId), field!(record.vcpu_id));
    probe_shared(
        Typed::u64(task, Member::TaskGroupLeader),
        offset(Member::TaskStartBoottime),
        field!(record.leader_start_boottime_ns),
    );
    // SAFETY: the helper has no preconditions.
    store!(record.at_boottime_ns, unsafe { bpf_ktime_get_boot_ns() });
    store!(record.sched_ns, sched_ns(control, monotonic_ns()));
    let pid: u64 = probe(vcpu, offset(Member::VcpuPid));
    store!(record.has_run, u32::from(pid != 0));
    let runner = runner(pid, vcpu);
    store!(record.runner, if runner == 0 { 0 } else { Probed::u32(runner as Object, Member::TaskPid) });
    store!(counts.listed, listed + 1);
    if runner != 0 {
        follow(ctx, stats, runner as Object, vcpu);
    }
}

/// Whether a file is a vCPU.
#[inline(always)]
fn is_vcpu(file: Object) -> bool {
    let inode = Typed::u64(file, Member::FileInode) as Object;
    let file_system = Typed::u64(inode, Member::InodeSb) as Object;
    if Typed::u64(file_system, Member::SbMagic) != ANON_INODES {
        return false;
    }
    let name: u64 = probe(Typed::u64(file, Member::FileDentry), offset(Member::DentryName));
    probe::<u64>(name, 0) == VCPU_FILE && probe::<u8>(name, 8) == VCPU_FILE_END
}

/// The thread that ran a vCPU last, by its `struct pid`, if it lives. Nothing keeps it alive while it is
/// looked at: what is read of it is only used where it is that thread before and after.
#[inline(always)]
fn runner(pid: u64, vcpu: u64) -> u64 {
    if pid == 0 {
        return 0;
    }
    let entry: u64 = probe(pid, offset(Member::PidTasks));
    let task = entry.wrapping_sub(u64::from(offset(Member::TaskPidLinks)));
    let is_it = entry != 0 && is_run_by::<Probed>(vcpu, task as Object);
    if is_it && state::<Probed>(task as Object) & TASK_DEAD == 0 { task } else { 0 }
}

/// Announces a vCPU's thread that no switch and no walk has shown: it sleeps outside of its ioctl.
#[inline(always)]
fn follow(ctx: &impl EbpfContext, stats: Shared<WalkStats>, task: Object, vcpu: u64) {
    let pid = Probed::u32(task, Member::TaskPid);
    let (Some(entry), Some(control)) = (pid_entry(pid), control()) else { return };
    if entry.load() != NO_SLOT || !is_run_by::<Probed>(vcpu, task) {
        return;
    }
    let notifier = notifier_of(vcpu);
    let seen = seen::<Probed>(control, task, notifier);
    let sent = announce::<Probed>(ctx, task, notifier, pid, entry, seen);
    if sent { field!(stats.announced) } else { field!(stats.events_lost) }.bump(1);
}
