//! Why guests leave the CPU to the host: KVM's exit reasons, as tables.
//!
//! The numbers are the processors' own and never change; the names are those that the kernel prints in
//! `kvm_exit`. `arch/x86/include/uapi/asm/vmx.h` has those of Intel (`VMX_EXIT_REASONS`),
//! `arch/x86/include/uapi/asm/svm.h` those of AMD (`SVM_EXIT_REASONS`). They were compared with the headers
//! of Linux 4.19, 6.1, 6.12 and 7.2.
//!
//! A vCPU's slot has [`EXIT_ROWS`] rows: one for each of the reasons that matter on production hosts, and one
//! for all others. The way there is short: [`exit_place`] folds a raw reason into a byte, and a table by
//! [`exit_rows`] has its row.

/// Rows of a table, [`OTHER_EXITS`] included.
pub const EXIT_ROWS: usize = 16;
/// The row of every reason that has none of its own.
pub const OTHER_EXITS: usize = EXIT_ROWS - 1;
/// Places that [`exit_place`] folds raw reasons into.
pub const EXIT_CODES: usize = 256;

/// The place of every raw reason that has none of its own. It is in no table.
const NO_PLACE: u64 = 0xef;
/// SVM's nested page faults, AVIC and VMGEXIT: 0x400 to 0x40f in `svm.h`.
const SVM_HIGH: u64 = 0x400;
/// Where they go. Neither vendor has a reason there: in 7.2's headers the highest are 85 and 0x0a6.
const SVM_HIGH_PLACE: u64 = 0xf0;
/// VMX: the basic reason. `kvm_print_exit_reason()` in `arch/x86/kvm/trace.h` masks in the same way.
const VMX_BASIC: u64 = 0xffff;
/// VMX: the entry failed (`VMX_EXIT_REASONS_FAILED_VMENTRY` in `vmx.h`).
const VMX_FAILED: u64 = 1 << 31;
/// VMX has no flag here: bit 30 is reserved (`union vmx_exit_reason` in `arch/x86/kvm/vmx/vmx.h`), and
/// reasons have 32 bits. But SVM's `SVM_EXIT_ERR` (-1) and `SVM_EXIT_SW` (0xf0000000) have them.
const NEVER_VMX: u64 = !0xbfff_ffff;

macro_rules! reasons {
    ($($name:ident = $key:literal, $help:literal;)*) => {
        /// Why a guest left the CPU, in words that hold for all vendors. Several rows of a table may have the
        /// same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum ExitReason { $(#[doc = $help] $name,)* }

        impl ExitReason {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Key in JSON output and in attributes.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// One sentence for descriptions and the documentation.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

reasons! {
    Halt = "halt", "The guest has nothing to do: it halted (arm64: WFI).";
    Pause = "pause", "The guest spins, for a lock most likely (arm64: WFE).";
    Interrupt = "interrupt", "A physical interrupt came for the host while the guest ran.";
    InterruptWindow = "interrupt-window", "The guest can take an interrupt again that KVM held ready for it.";
    Timer = "timer", "A timer of the guest expired that KVM had put on VMX's preemption timer.";
    Apic = "apic", "The guest used its interrupt controller in a way that the hardware could not complete.";
    PageFault = "page-fault",
        "An access to guest memory that has no page behind it yet, or may not be written; on SVM (npf) \
         also each access to an emulated device, which VMX distinguishes.";
    Mmio = "mmio",
        "An access to the memory of an emulated device, where the hardware distinguishes it from a page fault.";
    Io = "io", "An instruction that reads or writes I/O ports.";
    Msr = "msr", "A read or write of a model-specific register (arm64: of a system register).";
    Cpuid = "cpuid", "The guest asked which processor it has.";
    Hypercall = "hypercall",
        "The guest called its hypervisor (arm64: HVC or SMC); what encrypted SEV-ES \
         guests call it for (vmgexit) may be any other reason.";
    Exception = "exception",
        "A processor exception that the host intercepts, or a non-maskable interrupt of the host: \
         VMX has one reason for both.";
    Nested = "nested", "The guest, a hypervisor itself, starts or resumes a guest of its own.";
    Other = "other", "Any reason that the table has no row for.";
}

/// One row of a table of exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitRow {
    /// The number that the processor gives.
    pub raw: u16,
    /// The kernel's own name for it.
    pub name: &'static str,
    /// What it means, for all vendors.
    pub reason: ExitReason,
}

const fn row(raw: u16, name: &'static str, reason: ExitReason) -> ExitRow {
    ExitRow { raw, name, reason }
}

/// Intel's, by row. Numbers (`EXIT_REASON_*`) and names (`VMX_EXIT_REASONS`) are from
/// `arch/x86/include/uapi/asm/vmx.h`. Older kernels (4.19) call `INTERRUPT_WINDOW` `PENDING_INTERRUPT`.
///
/// `EPT_MISCONFIG` is how KVM marks the memory of emulated devices, hence [`ExitReason::Mmio`].
pub const VMX_EXITS: &[ExitRow; EXIT_ROWS - 1] = &[
    row(0, "EXCEPTION_NMI", ExitReason::Exception),
    row(1, "EXTERNAL_INTERRUPT", ExitReason::Interrupt),
    row(7, "INTERRUPT_WINDOW", ExitReason::InterruptWindow),
    row(10, "CPUID", ExitReason::Cpuid),
    row(12, "HLT", ExitReason::Halt),
    row(18, "VMCALL", ExitReason::Hypercall),
    row(24, "VMRESUME", ExitReason::Nested),
    row(30, "IO_INSTRUCTION", ExitReason::Io),
    row(31, "MSR_READ", ExitReason::Msr),
    row(32, "MSR_WRITE", ExitReason::Msr),
    row(40, "PAUSE_INSTRUCTION", ExitReason::Pause),
    row(48, "EPT_VIOLATION", ExitReason::PageFault),
    row(49, "EPT_MISCONFIG", ExitReason::Mmio),
    row(52, "PREEMPTION_TIMER", ExitReason::Timer),
    row(56, "APIC_WRITE", ExitReason::Apic),
];

/// AMD's, by row. Numbers (`SVM_EXIT_*`) and names (`SVM_EXIT_REASONS`) are from
/// `arch/x86/include/uapi/asm/svm.h`. 4.19 does not know `vmgexit`, 6.12 not `idle-halt`;
/// no kernel gives their numbers another meaning.
///
/// One `msr` is there for reads and writes. `npf` is [`ExitReason::PageFault`] even if an emulated device was
/// meant. Exceptions and accesses to control registers have a number for each vector and register, so they
/// are `other`.
pub const SVM_EXITS: &[ExitRow; EXIT_ROWS - 1] = &[
    row(0x060, "interrupt", ExitReason::Interrupt),
    row(0x061, "nmi", ExitReason::Exception),
    row(0x064, "vintr", ExitReason::InterruptWindow),
    row(0x072, "cpuid", ExitReason::Cpuid),
    row(0x077, "pause", ExitReason::Pause),
    row(0x078, "hlt", ExitReason::Halt),
    row(0x07b, "io", ExitReason::Io),
    row(0x07c, "msr", ExitReason::Msr),
    row(0x080, "vmrun", ExitReason::Nested),
    row(0x081, "hypercall", ExitReason::Hypercall),
    row(0x0a6, "idle-halt", ExitReason::Halt),
    row(0x400, "npf", ExitReason::PageFault),
    row(0x401, "avic_incomplete_ipi", ExitReason::Apic),
    row(0x402, "avic_unaccelerated_access", ExitReason::Apic),
    row(0x403, "vmgexit", ExitReason::Hypercall),
];

/// Which rows of a table have a reason, a bit for each.
#[must_use]
pub const fn rows_of(table: &[ExitRow], reason: ExitReason) -> u32 {
    let (mut rows, mut n) = (0, 0);
    while n < table.len() {
        if table[n].reason as u8 == reason as u8 {
            rows |= 1 << n;
        }
        n += 1;
    }
    rows
}

/// The place of a raw reason, of either vendor; always less than [`EXIT_CODES`]. Without a loop or a table,
/// for the programs.
///
/// No two reasons of a vendor share a place, except those that have none: software's codes of SVM (0x80000001
/// and up in `svm.h`), `SVM_EXIT_ERR` and what no kernel knows. VMX's flags change nothing. One of them, the
/// failed entry, is the top bit of SVM's software codes too, so it counts only where VMX has it: with
/// `INVALID_STATE` (33), `MSR_LOAD_FAIL` (34) and `MCE_DURING_VMENTRY` (41); none of those codes ends in
/// 0x0020 to 0x002f.
#[must_use]
#[inline(always)]
pub const fn exit_place(raw: u64) -> usize {
    let code = raw & VMX_BASIC;
    let place = if raw & NEVER_VMX != 0 || (raw & VMX_FAILED != 0 && code & !0xf != 0x20) {
        NO_PLACE
    } else if code < NO_PLACE {
        code
    } else if code & !0xf == SVM_HIGH {
        SVM_HIGH_PLACE | code & 0xf
    } else {
        NO_PLACE
    };
    // Changes nothing, but shows the verifier the bound.
    place as usize % EXIT_CODES
}

/// The row of each place: that of the table, or [`OTHER_EXITS`].
#[must_use]
pub const fn exit_rows(table: &[ExitRow; EXIT_ROWS - 1]) -> [u8; EXIT_CODES] {
    let mut rows = [OTHER_EXITS as u8; EXIT_CODES];
    let mut row = 0;
    while row < table.len() {
        rows[exit_place(table[row].raw as u64)] = row as u8;
        row += 1;
    }
    rows
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::{BTreeMap, BTreeSet};
    use std::vec::Vec;

    use super::*;

    /// All `EXIT_REASON_*` of `vmx.h`, Linux 7.2, with their names, if the kernel has one.
    #[rustfmt::skip]
    const VMX_KNOWN: Known = &[
        (0, "EXCEPTION_NMI"), (1, "EXTERNAL_INTERRUPT"), (2, "TRIPLE_FAULT"), (3, "INIT_SIGNAL"),
        (4, "SIPI_SIGNAL"), (6, ""), (7, "INTERRUPT_WINDOW"), (8, "NMI_WINDOW"), (9, "TASK_SWITCH"),
        (10, "CPUID"), (12, "HLT"), (13, "INVD"), (14, "INVLPG"), (15, "RDPMC"), (16, "RDTSC"),
        (18, "VMCALL"), (19, "VMCLEAR"), (20, "VMLAUNCH"), (21, "VMPTRLD"), (22, "VMPTRST"),
        (23, "VMREAD"), (24, "VMRESUME"), (25, "VMWRITE"), (26, "VMOFF"), (27, "VMON"), (28, "CR_ACCESS"),
        (29, "DR_ACCESS"), (30, "IO_INSTRUCTION"), (31, "MSR_READ"), (32, "MSR_WRITE"),
        (33, "INVALID_STATE"), (34, "MSR_LOAD_FAIL"), (36, "MWAIT_INSTRUCTION"), (37, "MONITOR_TRAP_FLAG"),
        (39, "MONITOR_INSTRUCTION"), (40, "PAUSE_INSTRUCTION"), (41, "MCE_DURING_VMENTRY"),
        (43, "TPR_BELOW_THRESHOLD"), (44, "APIC_ACCESS"), (45, "EOI_INDUCED"), (46, "GDTR_IDTR"),
        (47, "LDTR_TR"), (48, "EPT_VIOLATION"), (49, "EPT_MISCONFIG"), (50, "INVEPT"), (51, "RDTSCP"),
        (52, "PREEMPTION_TIMER"), (53, "INVVPID"), (54, "WBINVD"), (55, "XSETBV"), (56, "APIC_WRITE"),
        (57, "RDRAND"), (58, "INVPCID"), (59, "VMFUNC"), (60, "ENCLS"), (61, "RDSEED"), (62, "PML_FULL"),
        (63, "XSAVES"), (64, "XRSTORS"), (67, "UMWAIT"), (68, "TPAUSE"), (74, "BUS_LOCK"), (75, "NOTIFY"),
        (76, ""), (77, "TDCALL"), (84, "MSR_READ_IMM"), (85, "MSR_WRITE_IMM"),
    ];

    /// All `SVM_EXIT_*` of `svm.h`, Linux 7.2, that hardware gives, and all vectors.
    #[rustfmt::skip]
    const SVM_KNOWN: Known = &[
        (0x000, "read_cr0"), (0x002, "read_cr2"), (0x003, "read_cr3"), (0x004, "read_cr4"),
        (0x008, "read_cr8"), (0x010, "write_cr0"), (0x012, "write_cr2"), (0x013, "write_cr3"),
        (0x014, "write_cr4"), (0x018, "write_cr8"), (0x020, "read_dr0"), (0x021, "read_dr1"),
        (0x022, "read_dr2"), (0x023, "read_dr3"), (0x024, "read_dr4"), (0x025, "read_dr5"),
        (0x026, "read_dr6"), (0x027, "read_dr7"), (0x030, "write_dr0"), (0x031, "write_dr1"),
        (0x032, "write_dr2"), (0x033, "write_dr3"), (0x034, "write_dr4"), (0x035, "write_dr5"),
        (0x036, "write_dr6"), (0x037, "write_dr7"), (0x040, "DE excp"), (0x041, "DB excp"), (0x042, ""),
        (0x043, "BP excp"), (0x044, "OF excp"), (0x045, "BR excp"), (0x046, "UD excp"), (0x047, "NM excp"),
        (0x048, "DF excp"), (0x049, ""), (0x04a, "TS excp"), (0x04b, "NP excp"), (0x04c, "SS excp"),
        (0x04d, "GP excp"), (0x04e, "PF excp"), (0x04f, ""), (0x050, "MF excp"), (0x051, "AC excp"),
        (0x052, "MC excp"), (0x053, "XF excp"), (0x054, ""), (0x055, ""), (0x056, ""), (0x057, ""),
        (0x058, ""), (0x059, ""), (0x05a, ""), (0x05b, ""), (0x05c, ""), (0x05d, ""), (0x05e, ""),
        (0x05f, ""), (0x060, "interrupt"), (0x061, "nmi"), (0x062, "smi"), (0x063, "init"),
        (0x064, "vintr"), (0x065, "cr0_sel_write"), (0x066, "read_idtr"), (0x067, "read_gdtr"),
        (0x068, "read_ldtr"), (0x069, "read_rt"), (0x06a, "write_idtr"), (0x06b, "write_gdtr"),
        (0x06c, "write_ldtr"), (0x06d, "write_rt"), (0x06e, "rdtsc"), (0x06f, "rdpmc"), (0x070, "pushf"),
        (0x071, "popf"), (0x072, "cpuid"), (0x073, "rsm"), (0x074, "iret"), (0x075, "swint"),
        (0x076, "invd"), (0x077, "pause"), (0x078, "hlt"), (0x079, "invlpg"), (0x07a, "invlpga"),
        (0x07b, "io"), (0x07c, "msr"), (0x07d, "task_switch"), (0x07e, "ferr_freeze"), (0x07f, "shutdown"),
        (0x080, "vmrun"), (0x081, "hypercall"), (0x082, "vmload"), (0x083, "vmsave"), (0x084, "stgi"),
        (0x085, "clgi"), (0x086, "skinit"), (0x087, "rdtscp"), (0x088, "icebp"), (0x089, "wbinvd"),
        (0x08a, "monitor"), (0x08b, "mwait"), (0x08c, ""), (0x08d, "xsetbv"), (0x08e, ""),
        (0x08f, "write_efer_trap"), (0x090, "write_cr0_trap"), (0x091, ""), (0x092, ""), (0x093, ""),
        (0x094, "write_cr4_trap"), (0x095, ""), (0x096, ""), (0x097, ""), (0x098, "write_cr8_trap"),
        (0x099, ""), (0x09a, ""), (0x09b, ""), (0x09c, ""), (0x09d, ""), (0x09e, ""), (0x09f, ""),
        (0x0a2, "invpcid"), (0x0a5, "buslock"), (0x0a6, "idle-halt"), (0x400, "npf"),
        (0x401, "avic_incomplete_ipi"), (0x402, "avic_unaccelerated_access"), (0x403, "vmgexit"),
    ];

    /// `SVM_VMGEXIT_*` and `SVM_EXIT_SW` of `svm.h`, Linux 7.2: no hardware gives them.
    const SVM_SOFTWARE: &[u64] = &[
        0x8000_0001,
        0x8000_0002,
        0x8000_0003,
        0x8000_0004,
        0x8000_0005,
        0x8000_0010,
        0x8000_0011,
        0x8000_0012,
        0x8000_0013,
        0x8000_0018,
        0x8000_001a,
        0x8000_fffd,
        0x8000_fffe,
        0x8000_ffff,
        0xf000_0000,
    ];

    type Known = &'static [(u64, &'static str)];
    const TABLES: [(&[ExitRow; EXIT_ROWS - 1], Known); 2] = [(VMX_EXITS, VMX_KNOWN), (SVM_EXITS, SVM_KNOWN)];

    #[test]
    fn rows_are_those_of_the_kernel_and_unique() {
        for (table, known) in TABLES {
            let known: BTreeMap<_, _> = known.iter().copied().collect();
            for row in table {
                assert_eq!(known.get(&u64::from(row.raw)), Some(&row.name));
                assert!(!row.name.is_empty());
                assert_ne!(row.reason, ExitReason::Other, "{}", row.name);
            }
            assert!(table.is_sorted_by(|one, next| one.raw < next.raw));
            let names: BTreeSet<_> = table.iter().map(|row| row.name).collect();
            assert_eq!(names.len(), table.len());
        }
    }

    #[test]
    fn every_known_reason_has_its_own_place() {
        for (_, known) in TABLES {
            let places: BTreeSet<_> = known.iter().map(|&(raw, _)| exit_place(raw)).collect();
            // Of SVM's, the one without is `SVM_EXIT_ERR`: it is not in the list.
            assert_eq!(places.len(), known.len());
            assert!(places.iter().all(|&place| place < EXIT_CODES && place != NO_PLACE as usize));
        }
    }

    #[test]
    fn rows_lead_back_to_their_reasons() {
        for (table, known) in TABLES {
            let rows = exit_rows(table);
            assert_eq!(rows.iter().filter(|&&row| usize::from(row) != OTHER_EXITS).count(), table.len());
            for &(raw, _) in known {
                let expected = table.iter().position(|row| u64::from(row.raw) == raw).unwrap_or(OTHER_EXITS);
                assert_eq!(usize::from(rows[exit_place(raw)]), expected, "{raw:#x}");
            }
        }
    }

    #[test]
    fn flags_of_vmx_change_nothing() {
        // Bits 26 to 29: bus lock, enclave, and what goes with SMIs.
        for &(raw, _) in VMX_KNOWN {
            for flags in (0..16_u64).map(|flags| flags << 26) {
                assert_eq!(exit_place(raw | flags), exit_place(raw), "{raw} with {flags:#x}");
            }
        }
        for raw in [33, 34, 41] {
            assert_eq!(exit_place(raw | VMX_FAILED), exit_place(raw));
        }
    }

    #[test]
    fn what_no_hardware_gives_is_other() {
        let errors = [u64::MAX, u64::from(u32::MAX), u64::MAX - 1, 0xffff_fffe];
        let unknown = [0xef, 0xf0, 0xff, 0x100, 0x3ff, 0x410, 0x4ff, 0xdead, 0xffff];
        let foreign = [0xc001_0000, 0xc001_0020, 0xf000_0020, 1 << 32, 1 << 63, (1 << 32) | 0x400];
        let all = SVM_SOFTWARE.iter().copied().chain(errors).chain(unknown).chain(foreign);
        for raw in all.collect::<Vec<_>>() {
            assert_eq!(exit_place(raw), NO_PLACE as usize, "{raw:#x}");
            for (table, _) in TABLES {
                assert_eq!(usize::from(exit_rows(table)[exit_place(raw)]), OTHER_EXITS);
            }
        }
    }

    #[test]
    fn all_raw_reasons_have_a_place_within_the_table() {
        for high in [0, 1 << 16, 1 << 26, 1 << 30, 1 << 31, 1 << 32, 1 << 63] {
            assert!((0..0x1_0000).all(|low| exit_place(high | low) < EXIT_CODES));
        }
    }

    #[test]
    fn keys_are_words_with_hyphens_and_unique() {
        let keys: BTreeSet<_> = ExitReason::ALL.iter().map(|reason| reason.key()).collect();
        assert_eq!(keys.len(), ExitReason::ALL.len());
        for (index, reason) in ExitReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let key = reason.key();
            assert!(
                key.split('-').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
            );
            assert!(reason.help().ends_with('.'));
        }
        // None is there for nothing.
        for reason in ExitReason::ALL.iter().filter(|&&reason| reason != ExitReason::Other) {
            assert!(
                TABLES.iter().any(|(table, _)| table.iter().any(|row| row.reason == *reason)),
                "{reason:?}"
            );
        }
    }
}
