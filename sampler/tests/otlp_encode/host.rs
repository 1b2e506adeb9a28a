//! What the messages have of the host beside its guests.

use hvsampler::model::{HostState, Resource, Stalled};
use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::number_data_point::Value};

use super::expected::{double, integer, string};

type Point = (&'static str, Vec<KeyValue>, Option<Value>);

const CPU_MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"];

/// Series that go on while the host is known, whether a reading is sent or was sent before.
pub(super) fn of_host(host: &HostState) -> Vec<Point> {
    [pressure(host), cpus(host), memory(host), huge_pages(host), threads(host)].concat()
}

fn pressure(host: &HostState) -> Vec<Point> {
    let resources =
        [(Resource::Cpu, "cpu"), (Resource::Memory, "memory"), (Resource::Io, "io"), (Resource::Irq, "irq")];
    let mut all = Vec::new();
    for (resource, name) in resources {
        for (stalled, which) in [(Stalled::AtLeastOne, "some"), (Stalled::All, "full")] {
            let Some(ns) = host.pressure.get(resource, stalled) else { continue };
            let attributes = [("hypervisor.pressure.resource", name), ("hypervisor.pressure.stalled", which)];
            let attributes = attributes.map(|(key, value)| string(key, value)).to_vec();
            all.push(("hypervisor.host.pressure.time", attributes, double(ns)));
        }
    }
    all
}

fn cpus(host: &HostState) -> Vec<Point> {
    let known = CPU_MODES.into_iter().zip(host.cpu_ns);
    let known = known.filter_map(|(mode, ns)| Some((mode, ns?)));
    known.map(|(mode, ns)| ("system.cpu.time", vec![string("cpu.mode", mode)], double(ns))).collect()
}

fn memory(host: &HostState) -> Vec<Point> {
    let states = ["used", "free", "buffers", "cached"].into_iter().zip(host.memory.into_iter().flatten());
    let states = states.map(|(state, bytes)| {
        ("system.memory.usage", vec![string("system.memory.state", state)], integer(bytes))
    });
    let available = host.available.map(|bytes| ("system.memory.linux.available", vec![], integer(bytes)));
    states.chain(available).collect()
}

fn huge_pages(host: &HostState) -> Vec<Point> {
    let mut all = Vec::new();
    for (size, pages) in ["2MiB", "1GiB"].into_iter().zip(host.huge_pages) {
        let Some(pages) = pages else { continue };
        let size = string("hypervisor.huge_page.size", size);
        for (state, pages) in ["used", "free"].into_iter().zip(pages.states) {
            let attributes = vec![size.clone(), string("system.memory.linux.hugepages.state", state)];
            all.push(("system.memory.linux.hugepages.usage", attributes, integer(pages)));
        }
        all.push(("system.memory.linux.hugepages.reserved", vec![size], integer(pages.reserved)));
    }
    all
}

fn threads(host: &HostState) -> Vec<Point> {
    let states = ["runnable", "blocked"].into_iter().zip(host.threads);
    let known = states.filter_map(|(state, threads)| Some((state, threads?)));
    let of = |state| vec![string("hypervisor.host.thread.state", state)];
    known.map(|(state, threads)| ("hypervisor.host.threads", of(state), integer(threads))).collect()
}
