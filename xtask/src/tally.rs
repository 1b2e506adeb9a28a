//! Counting results.

use std::{
    fmt,
    ops::{Add, AddAssign},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How many tests had which result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// Results of some tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    /// What failed and why, to be said again at the end: what a test printed is far up by then.
    pub(crate) failures: Vec<String>,
    /// How long each took, as far as that is known.
    pub(crate) times: Vec<Timed>,
}

/// A test and the time that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) name: String,
    pub(crate) time: Duration,
}

impl Tally {
    pub(crate) fn passed() -> Self {
        Self::from(Counts { passed: 1, ..Counts::default() })
    }

    pub(crate) fn failed(name: &str, reason: impl fmt::Display) -> Self {
        let counts = Counts { failed: 1, ..Counts::default() };
        Self { counts, failures: vec![format!("{name}: {reason}")], times: Vec::new() }
    }

    fn skipped() -> Self {
        Self::from(Counts { skipped: 1, ..Counts::default() })
    }

    /// One test that is a command of ours, printed and timed as the others are.
    pub(crate) fn of(name: &str, test: impl FnOnce() -> Result<()>) -> Self {
        let begun = Instant::now();
        let result = test();
        let time = begun.elapsed();
        let seconds = time.as_secs_f64();
        let tally = match result {
            Ok(()) => {
                println!("test {name} ... ok [{seconds:.1} s]");
                Self::passed()
            }
            Err(error) => {
                println!("test {name} ... FAILED: {error:#} [{seconds:.1} s]");
                Self::failed(name, format_args!("{error:#}"))
            }
        };
        tally.timed(name, time)
    }

    /// The same, with the time that the test took.
    fn timed(mut self, name: &str, time: Duration) -> Self {
        self.times.push(Timed { name: name.to_owned(), time });
        self
    }

    /// One test that this machine cannot run.
    pub(crate) fn skip(name: &str, reason: impl fmt::Display) -> Self {
        println!("test {name} ... skipped: {reason}");
        Self::skipped()
    }

    /// The same, with each failure's place said before it.
    pub(crate) fn within(mut self, place: &str) -> Self {
        for failure in &mut self.failures {
            *failure = format!("[{place}] {failure}");
        }
        for timed in &mut self.times {
            timed.name = format!("[{place}] {}", timed.name);
        }
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Name and result of one line of the test runner, `test NAME ... ok (detail) [1.2 s]`, or of libtest.
    pub(crate) fn from_runner(line: &str) -> Option<(&str, Self)> {
        let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let (outcome, time) = split_time(outcome);
        let word = outcome.split([' ', ':']).next()?;
        let result = match word {
            "ok" => Self::passed(),
            "FAILED" => {
                Self::failed(name, outcome.trim_start_matches("FAILED").trim_start_matches([':', ' ']))
            }
            "skipped" => Self::skipped(),
            _ => return None,
        };
        Some((name, time.into_iter().fold(result, |result, time| result.timed(name, time))))
    }
}

/// A result and the time in brackets at its end, if it has one.
fn split_time(outcome: &str) -> (&str, Option<Duration>) {
    let split = || {
        let (result, seconds) = outcome.strip_suffix(" s]")?.rsplit_once(" [")?;
        Some((result, Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
    };
    split().map_or((outcome, None), |(result, time)| (result, Some(time)))
}

impl Counts {
    pub(crate) fn total(self) -> u32 {
        self.passed + self.failed + self.skipped
    }

    /// What libtest says of one binary: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(crate) fn from_libtest(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count =
            |word: &str| counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }

    /// The runner's own sum: `2 passed, 0 failed, 1 skipped`.
    pub(crate) fn from_sum(line: &str) -> Option<Self> {
        let mut parts = line.split(", ");
        let mut count = |word: &str| parts.next()?.strip_suffix(word)?.trim_end().parse().ok();
        let sum = Self { passed: count("passed")?, failed: count("failed")?, skipped: count("skipped")? };
        parts.next().is_none().then_some(sum)
    }
}

impl From<Counts> for Tally {
    fn from(counts: Counts) -> Self {
        Self { counts, ..Self::default() }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.counts += other.counts;
        self.failures.extend(other.failures);
        self.times.extend(other.times);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_counts_ignored_tests_as_skipped() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s";
        assert_eq!(Counts::from_libtest(line), Some(Counts { passed: 12, failed: 3, skipped: 1 }));
        assert_eq!(Counts::from_libtest("test result: ok"), None);
    }

    #[test]
    fn runner_lines_count_one_each() {
        assert_eq!(
            Tally::from_runner("test a::b ... ok (2,000 comparisons)"),
            Some(("a::b", Tally::passed()))
        );
        assert_eq!(
            Tally::from_runner("test a::b ... FAILED: 3 mismatches ... ok"),
            Some(("a::b", Tally::failed("a::b", "3 mismatches ... ok")))
        );
        assert_eq!(
            Tally::from_runner("test a::b ... skipped: no /dev/kvm"),
            Some(("a::b", Tally::skipped()))
        );
        assert_eq!(Tally::from_runner("test a::b ... FAILED"), Some(("a::b", Tally::failed("a::b", ""))));
        assert_eq!(Tally::from_runner("test result: ok. 1 passed"), None);
        assert_eq!(Tally::from_runner("testing ... ok"), None);
    }

    #[test]
    fn a_time_in_brackets_is_of_the_test_and_not_of_its_result() {
        let timed = |line, outcome: Tally| {
            assert_eq!(
                Tally::from_runner(line),
                Some(("a", outcome.timed("a", Duration::from_millis(1500))))
            );
        };
        timed("test a ... ok [1.5 s]", Tally::passed());
        timed("test a ... ok (in [2 s]) [1.5 s]", Tally::passed());
        timed("test a ... FAILED: no [1.5 s]", Tally::failed("a", "no"));
        let untimed = Tally::failed("a", "after [some s]");
        assert_eq!(Tally::from_runner("test a ... FAILED: after [some s]"), Some(("a", untimed)));
        assert_eq!(Tally::from_runner("test a ... ok [-1 s]"), Some(("a", Tally::passed())));
    }

    #[test]
    fn a_sum_is_read_as_it_is_printed() {
        let sum = Counts { passed: 7, failed: 1, skipped: 2 };
        assert_eq!(Counts::from_sum(&sum.to_string()), Some(sum));
        assert_eq!(Counts::from_sum("7 passed, 1 failed"), None);
        assert_eq!(Counts::from_sum("7 passed, 1 failed, 2 skipped, 1 lost"), None);
    }
}
