//! The service for a long time, under all that comes and goes: what it takes does not grow, and what it loses
//! it counts.
//!
//! | module | what it holds |
//! |---|---|
//! | `receiver` | a collector that refuses, hangs, resets, is busy and rejects in turn |
//! | `taken` | what it took, and what the sampler says there of itself |
//! | `watch` | what the service takes, seen from outside |
//! | `trend` | whether that grows; pure |

mod receiver;
mod taken;
mod trend;
mod watch;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use self::receiver::Receiver;
use self::watch::Watch;
use super::delivery::Daemon;
use crate::guest::{Guest, GuestConfig};
use crate::host::kernel_version;
use crate::runner::{Context, Need, Outcome, Set, Test};
use crate::scenario::Churn;
use crate::vmm::Load;

/// The tests.
pub(super) const TESTS: &[Test] = &[
    Test {
        name: "soak.short",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf],
        limit: Duration::from_secs(300),
        run: short,
    },
    Test {
        name: "soak.long",
        sets: &[Set::Soak],
        needs: &[Need::Kvm, Need::Bpf],
        // It takes as long as it is asked to.
        limit: Duration::from_secs(48 * 3600),
        run: long,
    },
];

/// How long the long one takes, minutes.
const MINUTES: &str = "HVS_SOAK_MINUTES";

/// vCPUs of a guest that stays.
const VCPUS: u32 = 8;

/// What the vCPUs of guests that stay do: little, so that all values change.
const LOAD: Load = Load::Half { burn: Duration::from_micros(20), sleep: Duration::from_millis(100) };

/// What a soak is made of.
struct Plan {
    length: Duration,
    /// Guests that stay.
    guests: usize,
    /// Guests that live for a moment, at once.
    alive: usize,
    /// Time between snapshots, in the configuration's words.
    interval: &'static str,
    /// For how long the collector behaves in one way.
    phase: Duration,
    /// Time of an attempt, in the configuration's words.
    timeout: &'static str,
    /// Bound of the queue: less than what comes of a few phases without a collector.
    queue_bytes: usize,
    /// By how much the resident memory may have grown by the end of the second half, bytes, as its trend has
    /// it.
    growth: f64,
}

/// Some seconds, as part of the test command.
fn short(context: &Context) -> anyhow::Result<Outcome> {
    let plan = Plan {
        length: Duration::from_secs(24),
        guests: 2,
        alive: 6,
        interval: "200ms",
        phase: Duration::from_millis(1500),
        timeout: "30s",
        queue_bytes: 48 << 10,
        growth: f64::from(2 << 20),
    };
    soak(context, &plan)
}

/// As long as it is asked to take, with a host's worth of vCPUs.
fn long(context: &Context) -> anyhow::Result<Outcome> {
    let minutes: u64 = env::var(MINUTES).ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(60);
    let plan = Plan {
        length: Duration::from_secs(minutes.max(1) * 60),
        guests: 25,
        alive: 24,
        interval: "1s",
        phase: Duration::from_secs(15),
        timeout: "10s",
        queue_bytes: 1 << 20,
        growth: f64::from(2 << 20),
    };
    soak(context, &plan)
}

fn soak(context: &Context, plan: &Plan) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let start = |n| Guest::start(&binary, &GuestConfig::new(format!("stays-{n}"), VCPUS, LOAD));
    let _guests = (0..plan.guests).map(start).collect::<Result<Vec<_>, _>>()?;
    let receiver = Receiver::start(plan.phase)?;
    let mut service = start_service(context, plan, &receiver.url())?;
    service.wait_until("the collector takes something", |_| Ok(receiver.taken().requests > 0))?;
    let over = AtomicBool::new(false);
    let (watch, born) = thread::scope(|scope| {
        let churn = scope.spawn(|| churn(binary.clone(), plan.alive, &over));
        let watch = watch_for(&service, plan.length);
        over.store(true, Ordering::Release);
        (watch, churn.join())
    });
    let Ok(born) = born else { bail!("the thread that starts guests panicked") };
    let (watch, born) = (watch?, born?);
    receiver.take_all();
    let log = service.stop()?;
    let taken = receiver.taken();
    let trend = judge(plan, &watch)?;
    let lost = taken.nothing_lost(kernel_version()? < (7, 0)).with_context(|| last_lines(&log))?;
    watch.details(context);
    Ok(Outcome::Passed(format!("{born} guests came and went; {trend}; {lost}")))
}

fn start_service(context: &Context, plan: &Plan, endpoint: &str) -> anyhow::Result<Daemon> {
    let directory = context.directory();
    let (config, lock) = (directory.join("config.toml"), directory.join("lock"));
    let Plan { interval, timeout, queue_bytes, .. } = plan;
    let text = format!(
        "interval = '{interval}'\nstart_delay = '0s'\nshutdown_deadline = '60s'\nlock_file = '{}'\n\
         [export]\nendpoint = '{endpoint}'\nprotocol = 'http/protobuf'\ntimeout = '{timeout}'\n\
         queue_bytes = {queue_bytes}\n\
         [export.retry]\ninitial_backoff = '100ms'\nmax_backoff = '500ms'\nmax_age = '1h'\n",
        lock.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(context.binary("hvsampler")?);
    command.arg("run").arg("--config").arg(&config);
    // They would go over the file.
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_")) {
        command.env_remove(name);
    }
    Daemon::start("hvsampler", command, directory)
}

/// Guests come and go until `over` is set; returns how many did. They end with the thread that starts them.
fn churn(binary: PathBuf, alive: usize, over: &AtomicBool) -> anyhow::Result<usize> {
    let mut churn = Churn { binary, guests: 2 * alive, alive, seed: 1 };
    let mut born = 0;
    while !over.load(Ordering::Acquire) {
        born += churn.run(|_| ())?.len();
        churn.seed += 1;
    }
    Ok(born)
}

/// Looks once a second.
fn watch_for(service: &Daemon, length: Duration) -> anyhow::Result<Watch> {
    const SECOND: Duration = Duration::from_secs(1);
    let mut watch = Watch::of(service.pid());
    let begun = Instant::now();
    let mut next = SECOND;
    while next <= length {
        thread::sleep(next.saturating_sub(begun.elapsed()));
        watch.look(begun.elapsed())?;
        next += SECOND;
    }
    Ok(watch)
}

/// Whether what the service takes has grown in the second half: by then names are asked, buffers have their
/// size, and the queue was full.
fn judge(plan: &Plan, watch: &Watch) -> anyhow::Result<String> {
    let seconds = plan.length.as_secs_f64() / 2.0;
    let slope = trend::slope(&watch.second_half(|look| look.resident as f64)).context("too few looks")?;
    let (grown, bound) = (slope * seconds, plan.growth);
    let said = format!(
        "resident memory {:.1} MiB, slope {:+.1} KiB/min over {seconds:.0} s, at most {:+.1}",
        watch.last().resident as f64 / f64::from(1 << 20),
        slope * 60.0 / 1024.0,
        bound / seconds * 60.0 / 1024.0
    );
    ensure!(grown <= bound, "it grows: {said}");
    let (before, after) = watch.most_of_halves(|look| look.descriptors);
    ensure!(after <= before + watch::SLACK, "descriptors grow from {before} to {after}");
    let (threads_before, threads) = watch.most_of_halves(|look| look.threads);
    ensure!(threads <= threads_before + watch::SLACK, "threads grow from {threads_before} to {threads}");
    Ok(format!("{said}; at most {after} descriptors, {threads} threads; {}", watch.cpu()))
}

fn last_lines(log: &str) -> String {
    const LINES: usize = 10;
    let lines: Vec<&str> = log.lines().collect();
    format!("the service says: {}", lines[lines.len().saturating_sub(LINES)..].join(" / "))
}
