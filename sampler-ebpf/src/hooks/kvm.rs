//! KVM's own hooks: what a vCPU's thread does with its CPU time, and why the guest was left.
//!
//! Entries and exits are timed with `CLOCK_MONOTONIC`: at these hooks no clock of the scheduler's is up to
//! date. Whose event it is follows from the current thread, not from what is passed: on arm64 that is no
//! vCPU.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use sampler_ebpf::{
    abi::{
        EXIT_BUCKETS, EXIT_CODES, ExitCounts, ExitReason, Mode, Modes, NO_SLOT, OTHER_EXITS, SLOT_PENDING,
        SVM_EXITS, VMX_EXITS, exit_place, exit_rows, rows_of,
    },
    histogram::bucket_of,
};

use super::modes::{change, is_observed, mode, pass, pass_preemptible, set_mode};
use crate::{
    maps::{exit_offsets, kept, pid_entry},
    shared::{Shared, bump, field, load, store},
    task::{monotonic_ns, probe},
};

/// `KVM_ISA_VMX` and `KVM_ISA_SVM`, as `kvm_exit` passes them.
const ISA_VMX: u32 = 1;
const ISA_SVM: u32 = 2;

/// The row of each reason, by [`exit_place`].
static VMX_ROWS: [u8; EXIT_CODES] = exit_rows(VMX_EXITS);
static SVM_ROWS: [u8; EXIT_CODES] = exit_rows(SVM_EXITS);
/// Which rows are halts.
const VMX_HALTS: u32 = rows_of(VMX_EXITS, ExitReason::Halt);
const SVM_HALTS: u32 = rows_of(SVM_EXITS, ExitReason::Halt);

/// The row of an exit's reason.
#[derive(Clone, Copy)]
struct Row {
    index: u8,
    is_halt: bool,
}

impl Row {
    const OTHER: Self = Self { index: OTHER_EXITS as u8, is_halt: false };
}

/// `kvm_entry(struct kvm_vcpu *vcpu[, bool force_immediate_exit])`; on arm64
/// `kvm_entry(unsigned long vcpu_pc)`
#[raw_tracepoint(tracepoint = "kvm_entry")]
fn kvm_entry(_ctx: RawTracePointContext) -> i32 {
    if let Some(modes) = mine() {
        enter_guest(modes);
    }
    0
}

/// `kvm_exit(struct kvm_vcpu *vcpu, u32 isa)`, since 5.16
#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit(ctx: RawTracePointContext) -> i32 {
    if let Some(modes) = mine() {
        leave_guest(modes, || row_read(ctx.arg(0), ctx.arg(1)));
    }
    0
}

/// `kvm_exit(unsigned int exit_reason, struct kvm_vcpu *vcpu, u32 isa)`, up to 5.15
///
/// A kernel refuses a program that reads more arguments than it passes, so this one is tried first. Where the
/// first of three is a pointer, they are those of a newer kernel with one more.
#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit_with_reason(ctx: RawTracePointContext) -> i32 {
    if let Some(modes) = mine() {
        leave_guest(modes, || {
            let (first, second, third): (u64, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
            if first > u64::from(u32::MAX) { row_read(first, second) } else { row_of(first, third as u32) }
        });
    }
    0
}

/// `kvm_userspace_exit(__u32 reason, int errno)`: the end of `KVM_RUN`
#[raw_tracepoint(tracepoint = "kvm_userspace_exit")]
fn kvm_userspace_exit(_ctx: RawTracePointContext) -> i32 {
    if let Some(modes) = mine() {
        leave_kvm(modes);
    }
    0
}

/// `kvm_fpu(int load)`, x86: 1 at the begin of `KVM_RUN` and 0 at its end; both also where a vCPU is reset
/// inside it, and where its state is asked for. Where it is missing the time until the next entry is the
/// VMM's.
#[raw_tracepoint(tracepoint = "kvm_fpu")]
fn kvm_fpu(ctx: RawTracePointContext) -> i32 {
    if let Some(modes) = mine() {
        let load: u64 = ctx.arg(0);
        if load as u32 == 0 {
            not_entered(modes);
        } else {
            enter_kvm(modes);
        }
    }
    0
}

/// The modes of the current thread, if they are observed.
#[inline(always)]
fn mine() -> Option<Shared<Modes>> {
    let thread = bpf_get_current_pid_tgid();
    let index = pid_entry(thread as u32)?.load();
    if index == NO_SLOT || index == SLOT_PENDING {
        return None;
    }
    let kept = kept(index)?;
    let modes = field!(kept.modes);
    // Those of another process's thread that had this id are not this one's.
    if load!(modes.thread) != thread || !is_observed(modes) {
        return None;
    }
    Some(modes)
}

#[inline(always)]
fn enter_guest(modes: Shared<Modes>) {
    let is_timed = load!(modes.exit_ns) != 0;
    let is_mixed = are_mixed(modes) && !is_timed;
    let goes_on = is_mixed && mode(modes) == Mode::Inside as u32;
    // Where the VMM's part has not ended yet, it ends now.
    let needs_clock = !goes_on || load!(modes.user_ns) != 0 && load!(modes.inside_ns) == 0;
    let now = if needs_clock { monotonic_ns() } else { 0 };
    change(modes, || {
        if mode(modes) == Mode::Guest as u32 {
            // It was not entered after all, or the exit was not reported: how long it ran is not known.
            bump!(modes.unpaired, 1);
            set_mode(modes, Mode::Kernel);
        }
        back_from_vmm(modes, now);
        if !goes_on {
            pass(modes, if is_mixed { Mode::Inside } else { Mode::Guest }, now);
        }
        store!(modes.is_cut, 0);
        store!(modes.is_out, 0);
        if is_timed {
            end_exit(modes, now);
        }
    });
}

/// Adds a timed exit to those of its reason, as often as it stands for others.
#[inline(always)]
fn end_exit(modes: Shared<Modes>, now: u64) {
    let latency = now.saturating_sub(load!(modes.exit_ns));
    store!(modes.exit_ns, 0);
    let (exit, weight) = (exit(modes), load!(modes.weight));
    bump!(exit.ns, latency * u64::from(weight));
    let bucket = bucket_of(latency);
    let bucket = if bucket < EXIT_BUCKETS { bucket } else { EXIT_BUCKETS - 1 };
    field!(exit.counts).element(bucket).bump(u32::from(weight));
}

#[inline(always)]
fn leave_guest(modes: Shared<Modes>, row: impl FnOnce() -> Row) {
    let mask = load!(modes.timed_mask);
    let is_chosen = mask == 0 || is_chosen(modes, mask);
    let is_mixed = mode(modes) == Mode::Inside as u32;
    // Before the reason, which takes a while to find.
    let early = if is_chosen || !is_mixed { monotonic_ns() } else { 0 };
    let row = row();
    // A halt may take an hour: it is to stand for itself. And it costs a sleep, so that a look at the clock
    // does not matter.
    let is_timed = is_chosen || row.is_halt;
    let now = if is_timed && early == 0 { monotonic_ns() } else { early };
    change(modes, || {
        let mode = mode(modes);
        let is_cut = load!(modes.is_cut) != 0;
        let is_known = mode == Mode::Kernel as u32 || mode == Mode::Vmm as u32;
        if is_known && !is_cut {
            bump!(modes.unpaired, 1);
            if mode == Mode::Kernel as u32 && load!(modes.is_out) != 0 {
                // KVM for Intel up to 5.10 reports every exit, but of entries only the first where it handles
                // exits at once and goes back in: between two exits was the guest.
                set_mode(modes, Mode::Guest);
            }
        }
        if now != 0 {
            pass(modes, if is_timed { Mode::Kernel } else { Mode::Inside }, now);
        }
        store!(modes.is_cut, 0);
        store!(modes.exit_ns, if is_timed { now } else { 0 });
        store!(modes.weight, if row.is_halt { 1 } else { mask + 1 });
        store!(modes.is_out, 1);
        store!(modes.exit_row, row.index);
        store!(modes.is_vmms, 0);
        let exit = exit(modes);
        bump!(exit.count, 1);
    });
}

/// Whether not every exit is timed.
#[inline(always)]
fn are_mixed(modes: Shared<Modes>) -> bool {
    load!(modes.timed_mask) != 0
}

/// Whether an exit is one of those that are timed. Nobody else reads the dice.
#[inline(always)]
fn is_chosen(modes: Shared<Modes>, mask: u8) -> bool {
    let dice = load!(modes.dice).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    store!(modes.dice, dice);
    // The lower bits of such a generator have short periods.
    dice >> 16 & u32::from(mask) == 0
}

#[inline(always)]
fn leave_kvm(modes: Shared<Modes>) {
    change(modes, || {
        if mode(modes) == Mode::Guest as u32 {
            bump!(modes.unpaired, 1);
            set_mode(modes, Mode::Kernel);
        }
        let now = pass_preemptible(modes, Mode::Vmm);
        // Not a second time where KVM_RUN returns again before the guest was entered.
        if load!(modes.is_out) != 0 && load!(modes.is_vmms) == 0 {
            store!(modes.is_vmms, 1);
            store!(modes.user_ns, now);
            let exit = exit(modes);
            bump!(exit.user_count, 1);
        }
    });
}

#[inline(always)]
fn enter_kvm(modes: Shared<Modes>) {
    let is_mixed = are_mixed(modes) && load!(modes.exit_ns) == 0;
    change(modes, || {
        let now = pass_preemptible(modes, if is_mixed { Mode::Inside } else { Mode::Kernel });
        store!(modes.inside_ns, now);
    });
}

/// What looked like the begin of `KVM_RUN` ends without the guest having been entered: the VMM goes on with
/// what it was about.
#[inline(always)]
fn not_entered(modes: Shared<Modes>) {
    if load!(modes.inside_ns) == 0 {
        return;
    }
    change(modes, || {
        pass_preemptible(modes, Mode::Vmm);
        store!(modes.inside_ns, 0);
    });
}

/// Ends the time outside `KVM_RUN` that an exit took: where `KVM_RUN` began again, as far as that was
/// reported.
#[inline(always)]
fn back_from_vmm(modes: Shared<Modes>, now: u64) {
    let user_ns = load!(modes.user_ns);
    let inside_ns = load!(modes.inside_ns);
    store!(modes.inside_ns, 0);
    if user_ns == 0 {
        return;
    }
    store!(modes.user_ns, 0);
    let until = if inside_ns == 0 { now } else { inside_ns };
    let exit = exit(modes);
    bump!(exit.user_ns, until.saturating_sub(user_ns));
}

/// The counts of the last exit's reason.
#[inline(always)]
fn exit(modes: Shared<Modes>) -> Shared<ExitCounts> {
    field!(modes.exits).element(usize::from(load!(modes.exit_row)))
}

/// The row of a reason that is read where KVM for this processor keeps it.
#[inline(always)]
fn row_read(vcpu: u64, isa: u64) -> Row {
    let offsets = exit_offsets();
    let isa = isa as u32;
    let reason: u32 = if isa == ISA_VMX && offsets.vmx_reason != 0 {
        probe(vcpu, offsets.vmx_reason)
    } else if isa == ISA_SVM && offsets.svm_vmcb != 0 {
        probe(probe(vcpu, offsets.svm_vmcb), offsets.svm_code)
    } else {
        return Row::OTHER;
    };
    row_of(u64::from(reason), isa)
}

#[inline(always)]
fn row_of(reason: u64, isa: u32) -> Row {
    let (rows, halts) = match isa {
        ISA_VMX => (&raw const VMX_ROWS, VMX_HALTS),
        ISA_SVM => (&raw const SVM_ROWS, SVM_HALTS),
        _ => return Row::OTHER,
    };
    // SAFETY: the index is inside the table by the remainder.
    let index = unsafe { rows.cast::<u8>().add(exit_place(reason) % EXIT_CODES).read_volatile() };
    Row { index, is_halt: halts >> (index & 31) & 1 != 0 }
}
