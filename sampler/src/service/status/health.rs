//! What answers are made of: it is gathered when somebody asks, from what others have at that moment.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use super::{
    document::{
        Cost, Count, Destination, Follows, GivenUp, LastError, Lost, ProgramCost, Programs, SCHEMA,
        Snapshots, Status, StatusHost,
    },
    threads,
};
use crate::{
    config::Config,
    export::{
        pipeline::{DropReason, PipelineStats},
        selfmetrics::process,
    },
    kernel::{Root, clock::Clock, program_stats},
    model::ProgramRuns,
    service::{
        exports::Exports,
        own::{Last, Own},
    },
};

/// Bytes of a receiver's last error. Its text is cut where it is made; this bounds the answer.
const ERROR_BYTES: usize = 1024;

/// Where a service has what it says of itself. Clones share it.
#[derive(Clone)]
pub(in crate::service) struct Health(Arc<Shared>);

struct Shared {
    own: Own,
    exports: Exports,
    settings: Mutex<Settings>,
    started_unix_ns: u64,
    started_boottime_ns: u64,
}

/// What holds of the configuration.
#[derive(Clone, Copy)]
struct Settings {
    level: &'static str,
    interval: Duration,
    queue_bytes: usize,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self { level: config.level.key(), interval: config.interval, queue_bytes: config.export.queue_bytes }
    }
}

impl Health {
    /// Of a service that starts now.
    pub(in crate::service) fn begin(config: &Config, own: Own, exports: Exports) -> Self {
        let clock = Clock::start();
        Self(Arc::new(Shared {
            own,
            exports,
            settings: Mutex::new(config.into()),
            started_unix_ns: clock.unix_ns(),
            started_boottime_ns: clock.boottime_ns(),
        }))
    }

    /// Another configuration holds from now on.
    pub(in crate::service) fn follow(&self, config: &Config) {
        *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner) = config.into();
    }

    /// What there is to say now.
    pub(super) fn status(&self) -> Status {
        let Shared { own, exports, settings, started_unix_ns, started_boottime_ns } = &*self.0;
        let settings = *settings.lock().unwrap_or_else(PoisonError::into_inner);
        let last = own.last();
        let (clock, host) = (Clock::start(), exports.host());
        let destination = |target| destination(target, &exports.stats(), settings.queue_bytes);
        Status {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_unix_ns: *started_unix_ns,
            uptime_ns: clock.boottime_ns().saturating_sub(*started_boottime_ns),
            at_unix_ns: clock.unix_ns(),
            host: StatusHost { name: host.name.clone(), kernel: host.kernel.clone() },
            level: settings.level.to_owned(),
            interval_ns: ns(settings.interval),
            follows: last.as_ref().map(follows),
            snapshots: last.as_ref().map(snapshots),
            destinations: exports.target().map(destination).into_iter().collect(),
            cost: cost(last.as_ref().map_or(&[][..], |last| &*last.programs)),
            lost: last.as_ref().map(|last| lost(last, own)),
        }
    }
}

fn follows(last: &Last) -> Follows {
    Follows {
        guests: last.guests as u64,
        vcpus: last.vcpus as u64,
        vcpu_threads: last.stats.slots_used,
        helper_threads: last.helpers,
    }
}

fn snapshots(last: &Last) -> Snapshots {
    let stats = &last.stats;
    Snapshots {
        last_unix_ns: last.at_unix_ns,
        taken: stats.snapshots,
        late: stats.snapshots_late,
        skipped: stats.snapshots_skipped,
        failed: stats.snapshots_failed,
        lateness_ns: stats.lateness_ns,
        last_lateness_ns: stats.last_lateness_ns,
    }
}

fn destination(target: String, stats: &PipelineStats, queue_bytes: usize) -> Destination {
    let dropped = DropReason::ALL.into_iter().map(|reason| {
        let dropped = stats.dropped(reason);
        GivenUp { reason: reason.key().to_owned(), requests: dropped.requests, points: dropped.points }
    });
    let last_error = stats.last_error.as_ref().zip(stats.last_error_at).map(|(text, at)| LastError {
        at_unix_ns: ns(at.duration_since(UNIX_EPOCH).unwrap_or_default()),
        text: text[..text.floor_char_boundary(ERROR_BYTES)].to_owned(),
    });
    Destination {
        target,
        queue_requests: stats.queue_requests,
        queue_bytes: stats.queue_bytes,
        queue_limit_bytes: queue_bytes as u64,
        requests: stats.exported_requests,
        points: stats.exported_points,
        rejected_points: stats.rejected_points,
        failed_attempts: stats.failed_attempts,
        dropped: dropped.collect(),
        last_error,
    }
}

fn cost(loaded: &[ProgramRuns]) -> Cost {
    let (threads, threads_left_out) = threads::read();
    Cost {
        cpu_ns: process::cpu_times().map(|times| times.into_iter().map(ns).sum()),
        resident_bytes: process::resident_bytes(),
        threads,
        threads_left_out,
        programs: programs(loaded, program_stats::are_enabled(&Root::system())),
    }
}

/// A program that has no run may not have run, or not have been counted: the setting says which, where it is
/// on. Whoever holds `BPF_ENABLE_STATS` has them counted as well.
fn programs(loaded: &[ProgramRuns], counting: Option<bool>) -> Programs {
    let are_counted = counting == Some(true) || loaded.iter().any(|program| program.count > 0);
    let cost = |program: &ProgramRuns| ProgramCost {
        name: program.name.to_string(),
        runs: are_counted.then_some(program.count),
        time_ns: are_counted.then_some(program.time_ns),
    };
    let mut loaded: Vec<ProgramCost> = loaded.iter().map(cost).collect();
    loaded.sort_by(|one, other| one.name.cmp(&other.name));
    let fix = (counting != Some(true)).then(|| program_stats::FIX.to_owned());
    Programs { counting, fix, loaded }
}

fn lost(last: &Last, own: &Own) -> Lost {
    let counters = last.stats.losses().into_iter();
    let counters = counters.map(|row| Count { name: row.name.to_owned(), count: row.value });
    let sinks = own.sinks.read().into_iter();
    let sinks = sinks.map(|(name, count)| Count { name: name.to_owned(), count });
    Lost { counters: counters.collect(), sinks: sinks.collect() }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, count: u64) -> ProgramRuns {
        ProgramRuns { name: name.into(), count, time_ns: count * 70 }
    }

    fn runs(programs: &Programs) -> Vec<(&str, Option<u64>, Option<u64>)> {
        programs.loaded.iter().map(|program| (&*program.name, program.runs, program.time_ns)).collect()
    }

    #[test]
    fn what_the_kernel_does_not_count_is_absent_and_how_to_have_it_is_said() {
        let idle = [program("b", 0), program("a", 0)];
        for counting in [Some(false), None] {
            let uncounted = programs(&idle, counting);
            assert_eq!(runs(&uncounted), [("a", None, None), ("b", None, None)]);
            assert!(uncounted.counting == counting && uncounted.fix.unwrap().contains("bpf_stats_enabled"));
        }
        let counted = programs(&idle, Some(true));
        assert_eq!(runs(&counted), [("a", Some(0), Some(0)), ("b", Some(0), Some(0))]);
        assert_eq!(counted.fix, None);
        // Somebody had them counted: one that has not run then has no runs.
        let before = programs(&[program("a", 3), program("b", 0)], Some(false));
        assert_eq!(runs(&before), [("a", Some(3), Some(210)), ("b", Some(0), Some(0))]);
        assert!(before.fix.is_some());
    }

    #[test]
    fn an_error_has_its_moment_and_a_bound() {
        let at = UNIX_EPOCH + Duration::from_secs(7);
        let stats = PipelineStats {
            last_error: Some("é".repeat(ERROR_BYTES).into()),
            last_error_at: Some(at),
            ..PipelineStats::default()
        };
        let error = destination("http://r".to_owned(), &stats, 9).last_error.unwrap();
        assert_eq!((error.at_unix_ns, error.text.len()), (7_000_000_000, ERROR_BYTES));
        assert_eq!(destination("http://r".to_owned(), &PipelineStats::default(), 9).last_error, None);
    }
}
