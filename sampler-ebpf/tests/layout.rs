//! The layout of everything that both sides of the kernel boundary share, held against a snapshot: a change
//! here is a change of the ABI, and a wrong offset would be silent garbage. `HVS_BLESS=1` writes the snapshot
//! anew.

use std::{env, fmt::Write as _, fs, mem::offset_of, path::Path};

use sampler_ebpf::abi::{
    BlockStats, COUNTERS, Control, DISTRIBUTIONS, DiskCounts, DiskKey, Event, ExitCounts, ExitOffsets,
    Followed, HelperRecord, HookStats, IoGroup, KVM_STATS, MAX_HELPERS, MAX_PIDS, MAX_SLOTS, MAX_VCPU_FILES,
    MEMBERS, Modes, Occupancy, Offsets, OperationSums, PIDS_PER_BLOCK, PidBlock, SEGMENT, SEGMENTS, Shares,
    SlotShares, Stretch, Timeline, VcpuSlot, WalkRecord, WalkStats,
};
use sampler_ebpf::histogram::Histogram;

macro_rules! describe {
    ($text:ident, $($name:ident { $($field:ident),* })*) => {
        $(
            let (name, size, align) = (stringify!($name), size_of::<$name>(), align_of::<$name>());
            writeln!($text, "{name} size {size} align {align}").unwrap();
            $(writeln!($text, "  {} at {}", stringify!($field), offset_of!($name, $field)).unwrap();)*
        )*
    };
}

#[test]
fn layout_is_as_recorded() {
    let mut text = String::new();
    describe! { text,
        VcpuSlot {
            seq, task, vcpu, on_cpu, cpu, counters, left_ns, left, fresh, asleep_ns, quota_queue,
            quota_clock_ns, quota_noted_ns, throttled_ns, distributions
        }
        Histogram { sum_ns, counts }
        Shares { who, ns, others_ns, idle_ns }
        SlotShares { table, charged_ns }
        Timeline { cells }
        Modes {
            seq, thread, since_ns, mode, epoch, ns, exit_ns, user_ns, exit_row, is_cut, is_vmms,
            is_out, weight, timed_mask, epoch_seen, dice, gaps, stands_ns, unpaired, inside_ns, away_ns, exits
        }
        ExitCounts { count, user_count, ns, user_ns, counts }
        ExitOffsets { vmx_reason, svm_vmcb, svm_code }
        Followed { modes, slot, timeline, shares, record }
        Occupancy { written, who, forced_idles, checkpoints_ns, stretches }
        Stretch { start_ns, who }
        WalkRecord {
            generation, visited, monotonic_ns, sched_ns, counters, running_ns, arrived_ns, waiting_ns,
            held_back_ns, throttled_ns, asleep_ns, on_cpu, cpu, modes_ns, modes_gaps, unpaired, stands_ns,
            modes_observed, io_group, io_serial, io_cgroup, kvm_generation, kvm
        }
        DiskKey { owner, device }
        DiskCounts { sums, durations, queued, served }
        OperationSums { bytes, errors, untimed, queued_ns, served_ns, whole_ns }
        IoGroup { serial, first, owner }
        BlockStats { untracked }
        HelperRecord {
            generation, start_boottime_ns, leader_start_boottime_ns, run_ns, run_delay_ns, running_ns,
            waiting_ns, tid, tgid, kernel, read, comm
        }
        Control { generation, clock_offset_ns, calibrated, helpers }
        HookStats {
            vcpu_switches, announced, gone, events_lost, stale_slots, missed_switches, missed_moves,
            missed_ns, occupants_displaced
        }
        WalkStats { threads, announced, events_lost, torn, helpers_dropped }
        Event {
            kind, tid, tgid, vcpu_id, task, kvm, vcpu, start_time_ns, start_boottime_ns,
            leader_start_boottime_ns, at_boottime_ns, sched_ns, counters, left, comm
        }
        Offsets { at }
        PidBlock {}
    }
    writeln!(text, "slots {MAX_SLOTS} in {SEGMENTS} segments of {SEGMENT}, helpers {MAX_HELPERS}").unwrap();
    writeln!(text, "vcpu files {MAX_VCPU_FILES}, pids {MAX_PIDS}, per block {PIDS_PER_BLOCK}").unwrap();
    for (table, rows) in [("counter", COUNTERS), ("kvm stat", KVM_STATS)] {
        for (n, row) in rows.iter().enumerate() {
            let member = MEMBERS[row.member as usize];
            writeln!(text, "{table} {n} {} = {}.{}", row.key, member.container, member.path).unwrap();
        }
    }
    for (n, key) in DISTRIBUTIONS.iter().enumerate() {
        writeln!(text, "distribution {n} {key}").unwrap();
    }
    for (n, row) in MEMBERS.iter().enumerate() {
        writeln!(
            text,
            "member {n} {}.{}{} sizes {:?} needed {}",
            row.container,
            row.path,
            row.elsewhere.iter().map(|path| format!(" or {path}")).collect::<String>(),
            row.sizes,
            row.needed
        )
        .unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layout.txt");
    if env::var_os("HVS_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap();
    assert_eq!(text, recorded, "the ABI changed; if that is meant, `cargo xtask bless` records it");
}
