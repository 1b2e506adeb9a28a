//! Entries into guests and exits from them, as the kernel's own tracing has them: the events `kvm_entry` and
//! `kvm_exit`, in a buffer of ours.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::OracleError;
use super::trace::{Head, TraceBuffer, TracedEvent, events_of, head_of};

/// What was traced of one thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TracedThread {
    /// Exits by the kernel's name of the reason.
    pub exits: BTreeMap<String, u64>,
    /// Time from each entry to the exit after it, us: the resolution of the trace.
    pub guest_us: u64,
}

/// What was traced, by thread id.
pub type Traced = BTreeMap<u32, TracedThread>;

/// The buffer. Dropping it takes it away.
#[derive(Debug)]
pub struct KvmTrace(TraceBuffer);

impl KvmTrace {
    /// Starts recording; mounts tracefs on a directory of ours where nobody has mounted it.
    ///
    /// # Errors
    /// When it cannot be mounted, or the kernel has no such event.
    pub fn start(directory: &Path) -> Result<Self, OracleError> {
        let events = ["kvm/kvm_entry", "kvm/kvm_exit"].map(|name| TracedEvent { name, filter: None });
        // As bpf_ktime_get_ns().
        TraceBuffer::start(directory, "mono", &events).map(Self)
    }

    /// What was recorded so far.
    ///
    /// # Errors
    /// When a line is not understood, or the buffer had no room for all.
    pub fn traced(&self) -> Result<Traced, OracleError> {
        self.0.read(parse)
    }
}

fn parse(text: &str) -> Result<Traced, (&'static str, String)> {
    let mut traced = Traced::new();
    let mut entered: BTreeMap<u32, u64> = BTreeMap::new();
    for line in events_of(text)? {
        let event = event(line).ok_or_else(|| ("neither entry nor exit", line.to_owned()))?;
        let Some(reason) = event.reason else {
            entered.insert(event.tid, event.at_us);
            continue;
        };
        let thread = traced.entry(event.tid).or_default();
        *thread.exits.entry(reason).or_default() += 1;
        if let Some(entered) = entered.remove(&event.tid) {
            thread.guest_us += event.at_us.saturating_sub(entered);
        }
    }
    Ok(traced)
}

struct Event {
    tid: u32,
    at_us: u64,
    /// Of an exit.
    reason: Option<String>,
}

/// `       CPU 0/KVM-219     [001] d..1.    31.123456: kvm_exit:       vcpu 0 reason io rip 0x1000 info1 ...`
fn event(line: &str) -> Option<Event> {
    let exit = line.split_once(": kvm_exit: ");
    let (head, tail) = exit.or_else(|| line.split_once(": kvm_entry: "))?;
    let Head { tid, at_us } = head_of(head)?;
    let reason = || Some(tail.split_once("reason ")?.1.split_once(" rip ")?.0.trim().to_owned());
    let reason = if exit.is_some() { Some(reason()?) } else { None };
    Some(Event { tid, at_us, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 3/3   #P:3\n#\n";

    #[test]
    fn lines_of_two_kernels_are_counted() {
        let text = format!(
            "{HEAD}       CPU 0/KVM-219     [001] d..1.    31.000001: kvm_entry:             vcpu 0, rip 0x1\n \
             CPU-1 [x] -7/KVM-220   [002] ....    31.200000: kvm_exit:             reason npf rip 0x1 info 0 0\n \
             CPU 0/KVM-219     [001] d..1.    32.000003: kvm_exit:             vcpu 0 reason io rip 0x1 info1 0x0\n \
             CPU-1 [x] -7/KVM-220   [002] ....    31.300000: kvm_exit:             reason npf rip 0x2 info 0 0\n"
        );
        let thread = |reason: &str, count, guest_us| TracedThread {
            exits: [(reason.to_owned(), count)].into(),
            guest_us,
        };
        assert_eq!(
            parse(&text).unwrap(),
            [(219, thread("io", 1, 1_000_002)), (220, thread("npf", 2, 0))].into()
        );
    }

    #[test]
    fn what_was_dropped_or_is_not_understood_is_an_error() {
        assert!(parse(&HEAD.replace("3/3", "3/4")).is_err());
        assert!(parse("").is_err());
        assert!(parse(&format!("{HEAD} what is this\n")).is_err());
        assert!(parse(HEAD).unwrap().is_empty());
    }
}
