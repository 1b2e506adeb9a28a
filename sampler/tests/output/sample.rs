//! Snapshots with known numbers.

use std::sync::Arc;

use hvsampler::model::{Host, Interval, SamplerStats, Snapshot, State, StateTimes, Vcpu, VcpuId, Vm, VmKey};
use sampler_ebpf::abi::{COUNTERS, Counter};

const SECOND: u64 = 1_000_000_000;
/// 2023-11-14 22:13:20 UTC.
const AT: u64 = 1_700_000_000 * SECOND;

pub(crate) fn snapshot(vms: Vec<Vm>) -> Snapshot {
    Snapshot {
        at_unix_ns: AT,
        interval_ns: 2 * SECOND,
        host: Arc::new(Host {
            id: Some("3d1219c7c4c5404aaa1f6d2a48adfda4".to_owned()),
            name: "node-7".to_owned(),
            kernel: "6.1.0-56-amd64".to_owned(),
            arch: "amd64".to_owned(),
            cpus: 16,
        }),
        vms,
        ended: Vec::new(),
        sampler: SamplerStats::default(),
    }
}

pub(crate) fn vm(pid: u32, name: Option<&str>, vcpus: Vec<Vcpu>) -> Vm {
    Vm {
        key: VmKey { pid, start_boottime_ns: 5 * SECOND, nth: 0 },
        id: format!("{pid}-5").into(),
        name: name.map(Arc::from),
        uuid: None,
        platform: "qemu",
        start_unix_ns: AT - 60 * SECOND,
        vcpus,
    }
}

/// A vCPU that in two seconds ran, waited and slept so many ms, and was preempted so often.
pub(crate) fn vcpu(index: u32, tid: u32, [run, steal, off]: [u64; 3], preemptions: u64) -> Vcpu {
    const MS: u64 = 1_000_000;
    let states = |factor: u64| {
        let mut states = StateTimes::default();
        states.set(State::Run, run * MS * factor);
        states.set(State::Steal, steal * MS * factor);
        states.set(State::Off, off * MS * factor);
        states
    };
    let counters = |factor: u64| {
        let mut counters = [0; COUNTERS.len()];
        counters[Counter::Run as usize] = run * MS * factor;
        counters[Counter::RunDelay as usize] = steal * MS * factor;
        counters[Counter::InvoluntarySwitches as usize] = preemptions * factor;
        counters[Counter::VoluntarySwitches as usize] = 3 * factor;
        counters
    };
    Vcpu {
        thread: VcpuId { tid, start_boottime_ns: 6 * SECOND },
        index,
        start_unix_ns: AT - 59 * SECOND,
        counters: counters(30),
        running_ns: 0,
        waiting_ns: 0,
        states: states(30),
        interval: Some(Interval {
            wall_ns: (run + steal + off) * MS,
            run_ns: run * MS,
            steal_ns: steal * MS,
            counters: counters(1),
            states: states(1),
        }),
    }
}
