//! The comparison: see the module's documentation for why it is made this way.

use std::thread;
use std::time::{Duration, Instant};

use super::oracle::{Oracle, Thread};
use super::plan::{Moves, Plan};
use super::report::{Mismatch, MismatchKind, Report};
use super::{CounterReader, Reading};
use crate::oracle::{OracleError, Schedstat, Switches, TaskState};

/// Switches are compared with every so many comparisons of a thread: reading them costs ten times as much.
const SWITCHES_EVERY: u64 = 8;
/// Disagreements that are kept: one switch that was missed may be found as often as its thread is compared.
const DETAILS: usize = 64;
/// Enough to know that something is wrong.
const MISMATCHES: u64 = 1000;

/// Compares until the plan is fulfilled or its deadline has passed; [`Report::verdict`] judges.
///
/// # Errors
/// When the oracle's answers are not understood. Threads that end are no error: they are no longer compared.
pub fn compare(
    reader: &impl CounterReader,
    oracle: &impl Oracle,
    threads: &[Thread],
    plan: &Plan,
) -> Result<Report, OracleError> {
    let begin = Instant::now();
    let watched = threads.iter().map(|&thread| Watched::new(thread)).collect();
    let mut comparison = Comparison {
        reader,
        oracle,
        plan,
        threads: watched,
        report: Report { threads: threads.len(), ..Report::default() },
    };
    while begin.elapsed() < plan.deadline && !comparison.done() {
        comparison.round()?;
        thread::sleep(plan.pause);
    }
    let Comparison { threads, mut report, .. } = comparison;
    report.least = threads
        .iter()
        .min_by_key(|watched| watched.compared)
        .map(|watched| (watched.thread, watched.compared));
    report.elapsed = begin.elapsed();
    Ok(report)
}

struct Watched {
    thread: Thread,
    compared: u64,
    last_seq: Option<u64>,
    running: Option<Running>,
    gone: bool,
}

/// Since when a thread is said to be on a CPU with one and the same run time.
struct Running {
    seq: u64,
    run_ns: u64,
    since: Instant,
    looks: u32,
}

impl Watched {
    fn new(thread: Thread) -> Self {
        Self { thread, compared: 0, last_seq: None, running: None, gone: false }
    }

    /// Whether the thread has been on its CPU for `limit` without any run time.
    fn stands_still(&mut self, seq: u64, run_ns: u64, limit: Duration) -> bool {
        // One long pause between two looks says nothing about the time between them.
        const LOOKS: u32 = 20;
        match &mut self.running {
            Some(running) if (running.seq, running.run_ns) == (seq, run_ns) => {
                running.looks += 1;
                let still = running.looks >= LOOKS && running.since.elapsed() >= limit;
                if still {
                    self.running = None;
                }
                still
            }
            running => {
                *running = Some(Running { seq, run_ns, since: Instant::now(), looks: 1 });
                false
            }
        }
    }
}

/// Everything read within one window.
struct Window {
    before: Reading,
    first: Schedstat,
    second: Schedstat,
    switches: Option<Switches>,
    state: Option<TaskState>,
    after: Reading,
}

enum Finding {
    Agree,
    Moved,
    Requeued,
    Disagree(MismatchKind),
}

struct Comparison<'a, R, O> {
    reader: &'a R,
    oracle: &'a O,
    plan: &'a Plan,
    threads: Vec<Watched>,
    report: Report,
}

impl<R: CounterReader, O: Oracle> Comparison<'_, R, O> {
    fn done(&self) -> bool {
        let enough = self.report.compared >= self.plan.comparisons;
        // Nothing is to be expected of a thread that ended; the verdict takes it for one that was compared
        // too seldom.
        let everywhere =
            || self.threads.iter().all(|watched| watched.gone || watched.compared >= self.plan.per_thread);
        self.report.mismatches >= MISMATCHES || (enough && everywhere())
    }

    fn round(&mut self) -> Result<(), OracleError> {
        for index in 0..self.threads.len() {
            if self.threads[index].gone {
                continue;
            }
            match self.look(index) {
                Ok(()) => {}
                Err(error) if error.is_gone() => {
                    self.threads[index].gone = true;
                    self.report.skips.gone += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn look(&mut self, index: usize) -> Result<(), OracleError> {
        let thread = self.threads[index].thread;
        let Some(before) = self.reader.read(thread.tid) else {
            self.report.skips.absent += 1;
            return Ok(());
        };
        if before.on_cpu {
            self.report.skips.on_cpu += 1;
            return self.expect_progress(index, before);
        }
        self.threads[index].running = None;
        let with_switches = self.threads[index].compared.is_multiple_of(SWITCHES_EVERY);
        let Some(window) = self.window(thread, before, with_switches)? else {
            self.report.skips.absent += 1;
            return Ok(());
        };
        match judge(&window, self.plan.moves) {
            Finding::Agree => self.agree(index, &window),
            Finding::Moved => self.report.skips.moved += 1,
            Finding::Requeued => self.report.skips.requeued += 1,
            Finding::Disagree(kind) => self.disagree(thread, kind, &window),
        }
        Ok(())
    }

    fn window(
        &self,
        thread: Thread,
        before: Reading,
        with_switches: bool,
    ) -> Result<Option<Window>, OracleError> {
        let first = self.oracle.schedstat(thread)?;
        let second = self.oracle.schedstat(thread)?;
        let switches = if with_switches { Some(self.oracle.switches(thread)?) } else { None };
        // The state costs as much as everything else and only ever excuses something.
        let differs = !equal(&before, &first) || !equal(&before, &second);
        let state = if differs { Some(self.oracle.state(thread)?) } else { None };
        let after = self.reader.read(thread.tid);
        Ok(after.map(|after| Window { before, first, second, switches, state, after }))
    }

    fn agree(&mut self, index: usize, window: &Window) {
        let watched = &mut self.threads[index];
        if watched.last_seq.replace(window.before.seq) == Some(window.before.seq) {
            self.report.repeated += 1;
            return;
        }
        watched.compared += 1;
        self.report.compared += 1;
        self.report.switches_compared += u64::from(window.switches.is_some());
    }

    fn disagree(&mut self, thread: Thread, kind: MismatchKind, window: &Window) {
        self.report.mismatches += 1;
        if self.report.details.len() < DETAILS {
            let &Window { before, first, second, switches, state, after } = window;
            self.report.details.push(Mismatch {
                thread,
                kind,
                before,
                first,
                second,
                switches,
                state,
                after,
            });
        }
    }

    /// A thread that is said to be on a CPU must be there since the reader's last write, and must be seen to
    /// run.
    fn expect_progress(&mut self, index: usize, before: Reading) -> Result<(), OracleError> {
        let thread = self.threads[index].thread;
        let counts = self.oracle.schedstat(thread)?;
        let Some(after) = self.reader.read(thread.tid) else { return Ok(()) };
        if after.seq != before.seq {
            self.threads[index].running = None;
            return Ok(());
        }
        let kind = if after != before {
            MismatchKind::Torn
        } else if counts.timeslices > before.timeslices + 1 {
            MismatchKind::MissedDeparture
        } else if self.threads[index].stands_still(before.seq, counts.run_ns, self.plan.stuck_after) {
            MismatchKind::StuckOnCpu
        } else {
            return Ok(());
        };
        let window = Window { before, first: counts, second: counts, switches: None, state: None, after };
        self.disagree(thread, kind, &window);
        Ok(())
    }
}

fn judge(window: &Window, moves: Moves) -> Finding {
    let Window { before, first, second, switches, state, after } = window;
    if after.on_cpu || after.seq != before.seq {
        return Finding::Moved;
    }
    if after != before {
        return Finding::Disagree(MismatchKind::Torn);
    }
    if equal(before, first) && equal(before, second) {
        let switched = switches.map(|seen| (seen.voluntary, seen.involuntary));
        let agrees = switched.is_none_or(|switched| switched == (before.voluntary, before.involuntary));
        return if agrees { Finding::Agree } else { Finding::Disagree(MismatchKind::Switches) };
    }
    let runnable = *state == Some(TaskState::Runnable);
    let credited = delay_alone_grew(before, first) && delay_alone_grew(before, second);
    if moves == Moves::Possible && runnable && credited && first.run_delay_ns <= second.run_delay_ns {
        return Finding::Requeued;
    }
    Finding::Disagree(if first == second { MismatchKind::Counts } else { MismatchKind::Unseen })
}

fn equal(ours: &Reading, kernel: &Schedstat) -> bool {
    let counts =
        Schedstat { run_ns: ours.run_ns, run_delay_ns: ours.run_delay_ns, timeslices: ours.timeslices };
    counts == *kernel
}

fn delay_alone_grew(ours: &Reading, kernel: &Schedstat) -> bool {
    ours.run_ns == kernel.run_ns
        && ours.timeslices == kernel.timeslices
        && ours.run_delay_ns <= kernel.run_delay_ns
}
