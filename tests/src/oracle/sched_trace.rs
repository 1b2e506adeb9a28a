//! When threads ran and waited, as the kernel's own tracing has it: the events `sched_switch` and
//! `sched_wakeup`, in a buffer of ours.

use std::path::Path;

use super::error::OracleError;
use super::trace::{Mistake, TraceBuffer, TracedEvent, events_of, head_of};

/// What a thread does from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It has a CPU.
    Runs,
    /// It could run, and has none.
    Waits,
    /// It sleeps.
    Sleeps,
}

/// A change of what a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When, by `CLOCK_MONOTONIC`, us.
    pub at_us: u64,
    /// The thread.
    pub tid: u32,
    /// What it does from then on.
    pub to: Activity,
    /// It was woken; one that runs goes on running.
    pub is_wake_up: bool,
}

/// The buffer. Dropping it takes it away.
#[derive(Debug)]
pub struct SchedTrace(TraceBuffer);

impl SchedTrace {
    /// Starts recording these threads; mounts tracefs on a directory of ours where nobody has mounted it.
    ///
    /// # Errors
    /// When it cannot be mounted, or the kernel does not take the filters.
    pub fn start(directory: &Path, threads: &[u32]) -> Result<Self, OracleError> {
        let any = |fields: &[&str]| {
            let each =
                threads.iter().flat_map(|tid| fields.iter().map(move |field| format!("{field}=={tid}")));
            each.collect::<Vec<_>>().join("||")
        };
        let (switches, wakeups) = (any(&["prev_pid", "next_pid"]), any(&["pid"]));
        let events = [
            TracedEvent { name: "sched/sched_switch", filter: Some(&switches) },
            TracedEvent { name: "sched/sched_wakeup", filter: Some(&wakeups) },
        ];
        TraceBuffer::start(directory, "mono", &events).map(Self)
    }

    /// What was recorded so far, in the order of time.
    ///
    /// # Errors
    /// When a line is not understood, or the buffer had no room for all.
    pub fn changes(&self) -> Result<Vec<Change>, OracleError> {
        self.0.read(parse)
    }
}

fn parse(text: &str) -> Result<Vec<Change>, Mistake> {
    let mut changes = Vec::new();
    for line in events_of(text)? {
        let two = event(line).ok_or_else(|| ("neither switch nor wake-up", line.to_owned()))?;
        changes.extend(two.into_iter().flatten());
    }
    // Each CPU's events are in order, and those of two may be listed in the order of writing.
    changes.sort_by_key(|change: &Change| change.at_us);
    Ok(changes)
}

/// `... 31.123456: sched_switch: prev_comm=vcpu0 prev_pid=7 prev_prio=120 prev_state=R+
/// ==> next_comm=a b next_pid=8 next_prio=120` on one line,
/// `... 31.123456: sched_wakeup: comm=vcpu0 pid=7 prio=120 target_cpu=001`
fn event(line: &str) -> Option<[Option<Change>; 2]> {
    if let Some((head, tail)) = line.split_once(": sched_wakeup: ") {
        let (at_us, tid) = (head_of(head)?.at_us, number(tail, "pid=")?);
        return Some([Some(Change { at_us, tid, to: Activity::Waits, is_wake_up: true }), None]);
    }
    let (head, tail) = line.split_once(": sched_switch: ")?;
    let at_us = head_of(head)?.at_us;
    let (prev, next) = tail.split_once(" ==> ")?;
    let (_, state) = prev.rsplit_once("prev_state=")?;
    let to = if state.starts_with('R') { Activity::Waits } else { Activity::Sleeps };
    Some([
        Some(Change { at_us, tid: number(prev, "prev_pid=")?, to, is_wake_up: false }),
        Some(Change { at_us, tid: number(next, "next_pid=")?, to: Activity::Runs, is_wake_up: false }),
    ])
}

/// The number after the last such key: what comes before it may hold anything.
fn number(text: &str, key: &str) -> Option<u32> {
    text.rsplit_once(key)?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_and_wake_ups_are_changes() {
        let text = "# entries-in-buffer/entries-written: 3/3   #P:3\n\
            a pid=9-7     [001] d..2.    31.000003: sched_switch: prev_comm=a pid=9 prev_pid=7 prev_prio=120 prev_state=R+ ==> next_comm=x ==y next_pid=8 next_prio=120\n\
            <idle>-0     [002] dNh4.    31.000001: sched_wakeup: comm=a pid=9 pid=7 prio=120 target_cpu=001\n\
            x-8     [001] d..2.    31.000009: sched_switch: prev_comm=x prev_pid=8 prev_prio=120 prev_state=S ==> next_comm=swapper/1 next_pid=0 next_prio=120\n";
        let change =
            |at_us: u64, tid, to| Change { at_us: 31_000_000 + at_us, tid, to, is_wake_up: at_us == 1 };
        assert_eq!(
            parse(text).unwrap(),
            [
                change(1, 7, Activity::Waits),
                change(3, 7, Activity::Waits),
                change(3, 8, Activity::Runs),
                change(9, 8, Activity::Sleeps),
                change(9, 0, Activity::Runs)
            ]
        );
    }

    #[test]
    fn anything_else_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("# entries-in-buffer/entries-written: 1/1\n what is this\n").is_err());
    }
}
