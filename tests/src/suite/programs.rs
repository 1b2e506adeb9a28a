//! The kernel takes every program of the object.

use std::time::Duration;

use anyhow::ensure;
use hvsampler::load::{self, Reporting, StandIn, Target};
use sampler_ebpf::abi::Member;

use super::sampler;
use crate::runner::{Context, Outcome};
use crate::twin;

/// What of core scheduling a kernel without it lacks.
const CORE_SCHEDULING: &[StandIn] = &[
    (Member::RqCore, "rq", "cfs.rq"),
    (Member::RqForcedIdle, "rq", "nr_running"),
    (Member::RqForcedIdles, "rq", "nr_running"),
    (Member::CfsRqForcedIdles, "cfs_rq", "throttle_count"),
];

/// Every way of every hook, not only the best: a kernel that refuses that one must get the next.
pub(super) fn all_load(context: &Context) -> anyhow::Result<Outcome> {
    let probe = |object, hooks, target| load::probe_programs(object, hooks, (sampler::options(), target));
    let report = probe(load::OBJECT, load::HOOKS, Target::RUNNING)?;
    // What kernels get that differ from this one is verified on this one too: those whose ring has a lock
    // that sleeps, and those with core scheduling, as the large distributions' are and the lab's are not.
    let by_walks = Target { reporting: Reporting::WalksAlone, ..Target::RUNNING };
    let by_walks = probe(load::OBJECT, load::HOOKS, by_walks)?;
    let with_cores = Target { stand_ins: CORE_SCHEDULING, ..Target::RUNNING };
    let with_cores = probe(load::OBJECT, load::HOOKS, with_cores)?;
    let twins = probe(twin::OBJECT, twin::TWINS, Target::RUNNING)?;
    let mut refused = Vec::new();
    let ways = || report.ways.iter().chain(&by_walks.ways).chain(&with_cores.ways).chain(&twins.ways);
    for probe in ways() {
        let (program, label) = (probe.way.program(), probe.way.label());
        match &probe.result {
            Ok(verified) => {
                let verified = verified.map_or("an unknown number of".to_owned(), |count| count.to_string());
                context.detail(format!(
                    "{}: {program} attached as {label}, {verified} instructions verified, loaded in {:.1} ms",
                    probe.hook,
                    milliseconds(probe.load_time),
                ));
            }
            Err(_) if probe.lacks.is_some() => {
                let lacks = probe.lacks.unwrap_or_default();
                context.detail(format!("{}: {program} not loaded, the kernel has no {lacks}", probe.hook));
            }
            Err(reason) => refused.push(format!("{program} as {label}: {reason}")),
        }
    }
    ensure!(refused.is_empty(), "the kernel refused {}", refused.join("; "));
    ensure!(report.unused.is_empty(), "nothing attaches {:?}", report.unused);
    // Printed and not judged: a machine that compiles something beside it takes longer.
    let own: Duration = report.ways.iter().map(|probe| probe.load_time).sum();
    context.detail(format!(
        "the sampler's programs, each in every way, took {:.0} ms to load; aimed at: 1 s, and 10 s on an emulated machine",
        milliseconds(own),
    ));
    Ok(Outcome::Passed(format!("{} programs loaded and attached", ways().count())))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
