//! What the programs read of vCPUs.

/// The rows, for [`crate::abi::Member`]: hands those before and these to `$then`, with the tables that
/// follow.
macro_rules! kvm_members {
    ($then:ident [$($tables:ident)*] $($before:tt)*) => {
        $then! {
            [$($tables)*] $($before)*
            /// The notifier that KVM registers for a vCPU; its `link` is what `preempt_notifiers` points to.
            VcpuNotifierLink = "kvm_vcpu"."preempt_notifier.link", &[16], true;
            /// The vCPU's id as user space chose it, the N of `anon_inode:kvm-vcpu:N`.
            VcpuId = "kvm_vcpu"."vcpu_id", &[4], true;
            /// The `struct pid` of the thread that ran the vCPU last: set by `KVM_RUN` alone, before it loads
            /// the vCPU.
            VcpuPid = "kvm_vcpu"."pid", &[8], true;
            /// The VM that the vCPU belongs to.
            VcpuKvm = "kvm_vcpu"."kvm", &[8], true;
            /// The thread that KVM puts to sleep because the vCPU has nothing to do; NULL while none is.
            /// `struct rcuwait` since 5.8.
            VcpuWaitTask = "kvm_vcpu"."wait.task", &[8], true;
            /// The address space of the process that created the VM: KVM lets no other run its vCPUs.
            KvmMm = "kvm"."mm", &[8], false;
            /// Passes through the loop that enters the guest.
            StatExits = "kvm_vcpu"."stat.exits", &[8], false;
            /// Exits because the guest halted.
            StatHaltExits = "kvm_vcpu"."stat.halt_exits", &[8], false;
            /// Time of halt polls that ended with a wake-up, ns.
            StatHaltPollSuccess = "kvm_vcpu"."stat.generic.halt_poll_success_ns" or "stat.halt_poll_success_ns", &[8], false;
            /// Time of halt polls that ended without one, ns.
            StatHaltPollFail =
                "kvm_vcpu"."stat.generic.halt_poll_fail_ns" or "stat.halt_poll_fail_ns", &[8], false;
            /// Halt polls.
            StatHaltPollsAttempted = "kvm_vcpu"."stat.generic.halt_attempted_poll" or "stat.halt_attempted_poll", &[8], false;
            /// Halt polls that ended with a wake-up.
            StatHaltPollsSuccessful = "kvm_vcpu"."stat.generic.halt_successful_poll" or "stat.halt_successful_poll", &[8], false;
            /// Time blocked in a halt after polling, ns. Not in 5.10.
            StatHaltWait = "kvm_vcpu"."stat.generic.halt_wait_ns" or "stat.halt_wait_ns", &[8], false;
            /// Times that a halted vCPU was woken up.
            StatHaltWakeups = "kvm_vcpu"."stat.generic.halt_wakeup" or "stat.halt_wakeup", &[8], false;
            /// Exits to user space for port I/O.
            StatIoExits = "kvm_vcpu"."stat.io_exits", &[8], false;
            /// Exits to user space for memory-mapped I/O.
            StatMmioExits = "kvm_vcpu"."stat.mmio_exits", &[8], false;
            /// Exits to user space because of a signal.
            StatSignalExits = "kvm_vcpu"."stat.signal_exits", &[8], false;
            /// Exits because of an interrupt of the host.
            StatIrqExits = "kvm_vcpu"."stat.irq_exits", &[8], false;
            /// Interrupts injected.
            StatIrqInjections = "kvm_vcpu"."stat.irq_injections", &[8], false;
            /// NMIs injected.
            StatNmiInjections = "kvm_vcpu"."stat.nmi_injections", &[8], false;
            /// Hypercalls.
            StatHypercalls = "kvm_vcpu"."stat.hypercalls", &[8], false;
            /// Instructions emulated.
            StatEmulations = "kvm_vcpu"."stat.insn_emulation", &[8], false;
            /// Page faults of the guest that KVM fixed.
            StatPageFaultsFixed = "kvm_vcpu"."stat.pf_fixed", &[8], false;
            /// Flushes of the TLB asked for.
            StatTlbFlushes = "kvm_vcpu"."stat.tlb_flush", &[8], false;
            /// Entries into a guest of the guest. Not in 5.10.
            StatNestedRuns = "kvm_vcpu"."stat.nested_run", &[8], false;
            /// Directed yields tried. Not in 5.10.
            StatYieldsAttempted = "kvm_vcpu"."stat.directed_yield_attempted", &[8], false;
            /// Directed yields that found a vCPU. Not in 5.10.
            StatYieldsSuccessful = "kvm_vcpu"."stat.directed_yield_successful", &[8], false;
            /// Preemptions that KVM reported to the guest.
            StatPreemptionsReported = "kvm_vcpu"."stat.preemption_reported", &[8], false;
        }
    };
}

pub(in crate::abi) use kvm_members;
