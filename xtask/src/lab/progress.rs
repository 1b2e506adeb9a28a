//! What the boots of one kernel have come to, and what is open still.
//!
//! An emulated machine may err: a guest on its first CPU goes astray (`host-init.sh` says why, and keeps guests away from
//! there), and boots that stand still for no known reason were seen before that was found. So a good result counts from any
//! boot. A bad one counts when the boot came to its end and the test fails again in a boot of its own; each that did not is
//! told, and is to be looked into.

use super::machine::End;
use crate::test::{stream::RunnerLines, tally::Tally};

/// How many boots in a row may end with a machine that went astray and no test that has its result.
const RETRIES: u32 = 4;

/// What is to be done after a boot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one, for this reason.
    Boot(String),
    /// Nothing is open that another boot could settle.
    Done { tally: Tally, verdict: String },
}

#[derive(Default)]
pub(super) struct Progress {
    /// A single command runs, and no tests.
    command: bool,
    /// Names of the tests that are not to be run again.
    settled: Vec<String>,
    tally: Tally,
    /// Tests that failed in a boot that came to its end.
    doubtful: Vec<String>,
    /// Boots in a row that settled nothing.
    idle: u32,
    /// A boot ended with a fault.
    faulted: bool,
}

impl Progress {
    pub(super) fn new(command: bool) -> Self {
        Self { command, ..Self::default() }
    }

    pub(super) fn settled(&self) -> &[String] {
        &self.settled
    }

    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes in how a boot went. One fault of each kernel's machine is forgiven, aloud: it can be the doing of what is
    /// tested, or of the emulator. What a program does to a kernel it does again.
    pub(super) fn after(&mut self, end: &End, lines: &RunnerLines) -> Next {
        match end {
            End::Command { status } if self.command => self.of_command(*status),
            End::Command { status } => self.of_tests(*status == 0, lines),
            End::Stall(reason) => self.astray(lines, true, format!("its machine stood still ({reason})")),
            End::Fault(reason) => {
                let first = !std::mem::replace(&mut self.faulted, true);
                let what = format!("its machine failed ({reason}), which is forgiven once");
                self.astray(lines, first, what)
            }
        }
    }

    fn of_command(&self, status: u8) -> Next {
        match status {
            0 => Next::Done { tally: Tally::PASSED, verdict: "ok".to_owned() },
            status => self.failed(&format!("exit status {status}")),
        }
    }

    fn of_tests(&mut self, success: bool, lines: &RunnerLines) -> Next {
        if let Err(error) = lines.finish(success) {
            return self.failed(&format!("{error:#}"));
        }
        let mut again = Vec::new();
        for (name, result) in lines.results() {
            if result.failed == 0 || self.doubtful.iter().any(|doubtful| doubtful == name) {
                self.settle(name, result);
            } else {
                self.doubtful.push(name.to_owned());
                again.push(name.to_owned());
            }
        }
        if again.is_empty() { self.done() } else { Next::Boot(format!("{} failed", again.join(", "))) }
    }

    fn astray(&mut self, lines: &RunnerLines, another: bool, what: String) -> Next {
        let before = self.settled.len();
        for (name, result) in lines.results().filter(|(_, result)| result.failed == 0) {
            self.settle(name, result);
        }
        self.idle = if self.settled.len() == before { self.idle + 1 } else { 0 };
        // The same test may be what it goes astray under.
        if another && self.idle <= RETRIES { Next::Boot(what) } else { self.failed(&what) }
    }

    fn settle(&mut self, name: &str, result: Tally) {
        self.settled.push(name.to_owned());
        self.tally += result;
    }

    fn failed(&self, reason: &str) -> Next {
        Next::Done { tally: self.tally + Tally::FAILED, verdict: format!("FAILED: {reason}, {}", self.tally) }
    }

    fn done(&self) -> Next {
        let verdict = if self.tally.failed == 0 { "ok" } else { "FAILED" };
        let once = match self.doubtful.len() {
            0 => String::new(),
            _ => format!("; failed at first: {}", self.doubtful.join(", ")),
        };
        Next::Done { tally: self.tally, verdict: format!("{verdict}, {}{once}", self.tally) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: End = End::Command { status: 0 };
    const BAD_END: End = End::Command { status: 1 };

    fn lines(texts: &[&str]) -> RunnerLines {
        let mut lines = RunnerLines::default();
        texts.iter().for_each(|line| lines.push(line));
        lines
    }

    fn stall() -> End {
        End::Stall("silent".to_owned())
    }

    fn boots(next: &Next) -> bool {
        matches!(next, Next::Boot(_))
    }

    fn tally(next: Next) -> Tally {
        match next {
            Next::Done { tally, .. } => tally,
            Next::Boot(why) => panic!("another boot, for {why}"),
        }
    }

    #[test]
    fn a_machine_that_goes_astray_is_booted_again_while_tests_are_settled() {
        let mut progress = Progress::default();
        assert!(boots(&progress.after(&stall(), &lines(&["test a ... ok", "test b ... FAILED: no"]))));
        assert_eq!(progress.settled(), ["a"], "what failed there says nothing");
        assert!(boots(&progress.after(&stall(), &lines(&[]))));
        assert!(boots(&progress.after(&stall(), &lines(&["test b ... ok"]))), "it goes on");
        assert_eq!((progress.tally.passed, progress.tally.failed), (2, 0));
        assert!((0..RETRIES).all(|_| boots(&progress.after(&stall(), &lines(&["noise"])))));
        assert_eq!(tally(progress.after(&stall(), &lines(&[]))).failed, 1, "the same test again and again");
    }

    #[test]
    fn what_fails_once_is_told_and_what_fails_twice_counts() {
        let mut progress = Progress::default();
        let first = ["test a ... ok", "test b ... FAILED: no", "test c ... FAILED: no"];
        let sum = "1 passed, 2 failed, 0 skipped";
        assert!(boots(&progress.after(&BAD_END, &lines(&[first[0], first[1], first[2], sum]))));
        assert_eq!(progress.settled(), ["a"]);
        // Astray meanwhile: its failure is none.
        assert!(boots(&progress.after(&stall(), &lines(&["test b ... FAILED: no"]))));
        let second = ["test b ... FAILED: no", "test c ... ok", "1 passed, 1 failed, 0 skipped"];
        let next = progress.after(&BAD_END, &lines(&second));
        let Next::Done { tally, verdict } = next else { panic!("{next:?}") };
        assert_eq!(tally, Tally { passed: 2, failed: 1, skipped: 0 });
        assert!(verdict.ends_with("failed at first: b, c"), "{verdict}");
    }

    #[test]
    fn a_fault_is_forgiven_once() {
        let mut progress = Progress::default();
        let oops = End::Fault("Oops: 0002 [#1]".to_owned());
        let Next::Boot(why) = progress.after(&oops, &lines(&[])) else { panic!("no other boot") };
        assert!(why.contains("Oops"));
        assert!(boots(&progress.after(&stall(), &lines(&[]))));
        assert_eq!(tally(progress.after(&oops, &lines(&[]))), Tally::FAILED);
    }

    #[test]
    fn commands_and_broken_runners_end_at_once() {
        let end = |progress: &mut Progress, end: &End| tally(progress.after(end, &lines(&[])));
        assert_eq!(end(&mut Progress::new(true), &END), Tally::PASSED);
        assert_eq!(end(&mut Progress::new(true), &BAD_END), Tally::FAILED);
        assert_eq!(end(&mut Progress::default(), &END), Tally::FAILED, "no sum");
    }
}
