//! The sampler's own audit: it finds nothing wrong with what snapshots say of guests, and it finds a single
//! number that was falsified.

mod falsified;
mod service;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use hvsampler::agent::{Sampling, Sink};
use hvsampler::audit::{Audit, Counts};
use hvsampler::model::Snapshot;
use hvsampler::source::Source;
use rustix::time::{ClockId, clock_gettime};

use self::falsified::{Falsified, LIES};
use super::agent::{sample, schedule};
use super::sampler;
use super::states::threads_of;
use crate::guest::{Guest, GuestConfig};
use crate::host::CpuList;
use crate::runner::{Context, Outcome};
use crate::scenario::{Contention, Scale, Scenario as _};
use crate::vmm::Load;

pub(super) use service::says_its_last_hour;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// Time for what is awaited.
const PATIENCE: Duration = Duration::from_secs(90);
/// Time between snapshots.
const INTERVAL: Duration = Duration::from_secs(1);
/// As many at once as one alone would take minutes for. Each chooses for itself.
const AUDITS: usize = 4;
/// vCPUs to be compared.
const CHECKS: u64 = 200;
const IN_LAB: u64 = 60;
/// What an audit may cost, as a part of one core.
const PRICE: f64 = 0.0005;

/// Guests that all want the same CPUs.
pub(super) fn finds_nothing(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let scenario = Contention::start(&scale(context, &binary)?)?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &scenario.threads())?;
    let checks = if context.in_lab() { IN_LAB } else { CHECKS };
    let begin = Instant::now();
    let audited = Audited::start(Box::new(source), AUDITS, Audit::watch)?;
    audited.until(|counts| counts.checks >= checks)?;
    let length = begin.elapsed();
    let done = scenario.finish()?;
    let (counts, price) = audited.stop()?;
    let price = price.as_secs_f64() / length.as_secs_f64() / AUDITS as f64;
    // Everything is slow in the lab.
    ensure!(context.in_lab() || price <= PRICE, "an audit takes {:.4} % of a core", price * 100.0);
    Ok(Outcome::Passed(format!(
        "{} vCPUs compared, 0 mismatches, {} not compared; an audit takes {:.4} % of a core; {done}",
        counts.checks,
        counts.skips,
        price * 100.0
    )))
}

/// Two CPUs, and more vCPUs than they can serve.
fn scale<'a>(context: &Context, binary: &'a Path) -> anyhow::Result<Scale<'a>> {
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let few: Vec<String> = allowed.numbers().iter().take(2).map(ToString::to_string).collect();
    let (guests_per_cpu, vcpus) = if context.in_lab() { (2, 2) } else { (3, 4) };
    Ok(Scale { binary, cpus: few.join(",").parse()?, guests_per_cpu, vcpus })
}

/// A guest that sleeps and one that is busy: each lie about one of them is found, and what it is about.
pub(super) fn finds_a_falsified_number(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let start = |name: &str, load| Guest::start(&binary, &GuestConfig::new(name, 1, load));
    let guests = [start("asleep", Load::Halt)?, start("busy", Load::Busy)?];
    let threads: Vec<_> = guests.iter().flat_map(threads_of).collect();
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads)?;
    let (source, falsifier) = Falsified::new(source);
    let audited =
        Audited::start(Box::new(source), 1, |audit, snapshots| audit.watch_apart(snapshots, Duration::ZERO))?;
    audited.until(|counts| counts.checks >= 4)?;
    ensure!(audited.counts().mismatches == 0, "{}", audited.audits[0].last_hour());
    for lie in LIES {
        let (what, tid) = (lie.what, threads[lie.of].tid);
        falsifier.set(Some((lie, tid)));
        let expected = format!("{what} of vCPU 0 (thread {tid}) of ");
        audited.wait(&format!("the audit says: {expected}"), |audits| {
            let hour = audits[0].last_hour();
            hour.mismatches.last().is_some_and(|mismatch| mismatch.to_string().starts_with(&expected))
        })?;
    }
    falsifier.set(None);
    Ok(Outcome::Passed(format!("each of {} lies was found: {}", LIES.len(), audited.audits[0].last_hour())))
}

/// Audits of a source that is sampled.
struct Audited {
    audits: Vec<Audit>,
    sampling: Sampling,
    threads: Vec<JoinHandle<Duration>>,
}

impl Audited {
    fn start(
        source: Box<dyn Source>,
        audits: usize,
        by: fn(&Audit, &Receiver<Arc<Snapshot>>),
    ) -> anyhow::Result<Self> {
        let audits = vec![(); audits].into_iter().map(|()| Audit::default()).collect::<Vec<_>>();
        let (mut sinks, mut threads) = (Vec::<Box<dyn Sink>>::new(), Vec::new());
        for audit in &audits {
            audit.set(Some(INTERVAL));
            let (sender, snapshots) = sync_channel(4);
            sinks.push(Box::new(ToAudit(audit.clone(), sender)));
            let audit = audit.clone();
            threads.push(thread::spawn(move || watch(&audit, &snapshots, by)));
        }
        Ok(Self { audits, sampling: sample(source, schedule(INTERVAL), sinks)?, threads })
    }

    /// What all have counted.
    fn counts(&self) -> Counts {
        sum(&self.audits)
    }

    fn until(&self, holds: impl Fn(Counts) -> bool) -> anyhow::Result<()> {
        self.wait("vCPUs are compared", |audits| holds(sum(audits)))
    }

    fn wait(&self, what: &str, holds: impl Fn(&[Audit]) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.audits) {
            ensure!(Instant::now() < end, "it is not so that {what}: {}", self.audits[0].last_hour());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends all. Returns what all have counted, and the CPU time that it took.
    fn stop(self) -> anyhow::Result<(Counts, Duration)> {
        self.sampling.stop()?;
        let mut price = Duration::ZERO;
        for thread in self.threads {
            price += thread.join().map_err(|_| anyhow!("the audit panicked"))?;
        }
        let counts = sum(&self.audits);
        let all = self.audits.iter().map(|audit| audit.last_hour().to_string()).collect::<Vec<_>>();
        ensure!(counts.mismatches == 0, "{}", all.join(" / "));
        Ok((counts, price))
    }
}

/// Audits until nobody samples any more. Returns the CPU time that it took.
fn watch(
    audit: &Audit,
    snapshots: &Receiver<Arc<Snapshot>>,
    by: fn(&Audit, &Receiver<Arc<Snapshot>>),
) -> Duration {
    by(audit, snapshots);
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn sum(audits: &[Audit]) -> Counts {
    let mut sum = Counts::default();
    for Counts { checks, mismatches, skips } in audits.iter().map(|audit| audit.last_hour().counts) {
        sum.checks += checks;
        sum.mismatches += mismatches;
        sum.skips += skips;
    }
    sum
}

struct ToAudit(Audit, SyncSender<Arc<Snapshot>>);

impl Sink for ToAudit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        if self.0.wants(&snapshot) {
            // What finds no room is no check.
            let _ = self.1.try_send(snapshot);
        }
    }

    fn dropped(&self) -> u64 {
        0
    }
}
