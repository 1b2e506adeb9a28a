//! The kernel takes every program of the object.

use anyhow::ensure;
use hvsampler::load;

use super::sampler;
use crate::runner::{Context, Outcome};
use crate::twin;

/// Every way of every hook, not only the best: a kernel that refuses that one must get the next.
pub(super) fn all_load(context: &Context) -> anyhow::Result<Outcome> {
    let report = load::probe_programs(load::OBJECT, load::HOOKS, sampler::options())?;
    let twins = load::probe_programs(twin::OBJECT, twin::TWINS, sampler::options())?;
    let mut refused = Vec::new();
    let ways = || report.ways.iter().chain(&twins.ways);
    for probe in ways() {
        let (program, label) = (probe.way.program(), probe.way.label());
        match &probe.result {
            Ok(verified) => {
                let verified = verified.map_or("an unknown number of".to_owned(), |count| count.to_string());
                context.detail(format!(
                    "{}: {program} attached as {label}, {verified} instructions verified",
                    probe.hook
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
    Ok(Outcome::Passed(format!("{} programs loaded and attached", ways().count())))
}
