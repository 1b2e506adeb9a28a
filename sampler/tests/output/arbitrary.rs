//! Arbitrary snapshots, with strings that mean harm.

use std::sync::Arc;

use hvsampler::model::{Ended, Host, Interval, Snapshot, State, StateTimes, Vcpu, VcpuId, Vm, VmKey};
use proptest::{collection, option, prelude::*};
use sampler_ebpf::abi::COUNTERS;

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        "[\x00-\x1f\u{7f}-\u{9f}\u{202a}-\u{202e}\"\\\\]{0,20}",
        Just("x\n\u{1b}[2J".repeat(1024)),
    ]
}

/// Small enough that sums over a snapshot do not overflow, as no kernel's counts do.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..3, 0..u64::from(u32::MAX), 0..u64::MAX >> 8]
}

fn counters() -> impl Strategy<Value = [u64; COUNTERS.len()]> {
    collection::vec(number(), COUNTERS.len()).prop_map(|counts| counts.try_into().unwrap())
}

fn states() -> impl Strategy<Value = StateTimes> {
    collection::vec(option::of(number()), State::ALL.len()).prop_map(|times| {
        let mut states = StateTimes::default();
        for (state, ns) in State::ALL.into_iter().zip(times) {
            if let Some(ns) = ns {
                states.set(state, ns);
            }
        }
        states
    })
}

fn interval() -> impl Strategy<Value = Interval> {
    ([number(), number(), number()], counters(), states()).prop_map(
        |([wall_ns, run_ns, steal_ns], counters, states)| Interval {
            wall_ns,
            run_ns,
            steal_ns,
            counters,
            states,
        },
    )
}

fn vcpu() -> impl Strategy<Value = Vcpu> {
    (any::<[u32; 2]>(), any::<[u64; 2]>(), counters(), [number(), number()], states(), option::of(interval()))
        .prop_map(
            |(
                [tid, index],
                [start_boottime_ns, start_unix_ns],
                counters,
                [running_ns, waiting_ns],
                states,
                interval,
            )| Vcpu {
                thread: VcpuId { tid, start_boottime_ns },
                index,
                start_unix_ns,
                counters,
                running_ns,
                waiting_ns,
                states,
                interval,
            },
        )
}

fn vm() -> impl Strategy<Value = Vm> {
    (
        any::<u32>(),
        any::<[u64; 2]>(),
        text(),
        option::of(text()),
        option::of(text()),
        collection::vec(vcpu(), 0..4),
    )
        .prop_map(|(pid, [start_boottime_ns, start_unix_ns], id, name, uuid, vcpus)| Vm {
            key: VmKey { pid, start_boottime_ns, nth: 0 },
            id: id.into(),
            name: name.map(Into::into),
            uuid: uuid.map(Into::into),
            platform: "qemu",
            start_unix_ns,
            vcpus,
        })
}

fn ended() -> impl Strategy<Value = Ended> {
    (text(), any::<[u32; 2]>(), any::<[u64; 2]>(), counters(), states(), any::<bool>()).prop_map(
        |(vm_id, [tid, index], [start_boottime_ns, start_unix_ns], counters, states, vm_gone)| Ended {
            vm_id: vm_id.into(),
            thread: VcpuId { tid, start_boottime_ns },
            index,
            start_unix_ns,
            counters,
            states,
            vm_gone,
        },
    )
}

pub(crate) fn host() -> impl Strategy<Value = Host> {
    (option::of(text()), text(), text(), any::<u32>()).prop_map(|(id, name, kernel, cpus)| Host {
        id,
        name,
        kernel,
        arch: "amd64".to_owned(),
        cpus,
    })
}

pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    (any::<[u64; 2]>(), host(), collection::vec(vm(), 0..5), collection::vec(ended(), 0..3)).prop_map(
        |([at_unix_ns, interval_ns], host, vms, ended)| Snapshot {
            at_unix_ns,
            interval_ns,
            host: Arc::new(host),
            vms,
            ended,
            sampler: Default::default(),
        },
    )
}
