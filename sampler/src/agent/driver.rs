//! A source and those who answer its questions, kept in step.

use std::time::{Duration, Instant};

use crate::{
    collect::{enrich::Enricher, wait_readable},
    model::Snapshot,
    source::{Answer, Question, Settings, Source, SourceError},
};

/// Time between two looks while vCPUs or answers are awaited.
const STEP: Duration = Duration::from_millis(10);

/// Time between two looks at whether what is known of guests still is so. They cost some microseconds each.
const CHECK: Duration = Duration::from_secs(10);

/// Time between two readings of what changes slowly, where nothing else is set.
const SLOW: Duration = Duration::from_secs(10);

/// Drives a source: takes in births, deaths and answers as they come, and takes snapshots.
pub struct Driver {
    source: Box<dyn Source>,
    enricher: Enricher<Question, Answer>,
    checked: Instant,
    slow: Duration,
    read_slowly: Instant,
}

impl Driver {
    /// Starts the threads that answer. They have the priority of the thread that calls this.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(source: Box<dyn Source>) -> std::io::Result<Self> {
        let enricher = Enricher::start(source.answerer())?;
        let now = Instant::now();
        Ok(Self { source, enricher, checked: now, slow: SLOW, read_slowly: now })
    }

    /// Waits for so long, or until births or deaths come, and takes in what has come.
    pub fn attend(&mut self, at_most: Duration) {
        if let Err(error) = wait_readable(self.source.descriptor(), at_most) {
            tracing::error!(%error, "waiting for lifecycle events");
            std::thread::sleep(at_most);
        }
        self.source.drain();
        if self.checked.elapsed() >= CHECK {
            self.check();
        }
        if self.read_slowly.elapsed() >= self.slow {
            self.read_slowly = Instant::now();
            let questions = self.source.slow_questions();
            self.ask(questions);
        }
        self.exchange();
    }

    /// Asks of every guest whether what is known of it still is so.
    fn check(&mut self) {
        self.checked = Instant::now();
        self.ask(self.source.checks());
    }

    /// What finds no room is counted, and asked the next time.
    fn ask(&mut self, questions: Vec<Question>) {
        for question in questions {
            self.enricher.ask(question);
        }
    }

    /// Sets the time between two readings of what changes slowly.
    pub fn read_slowly_each(&mut self, time: Duration) {
        self.slow = time;
    }

    /// Takes in what comes until this moment.
    pub fn attend_until(&mut self, end: Instant) {
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.attend(left);
        }
    }

    /// Takes in what comes until so many vCPUs are followed and no guest waits for its first answer, for so
    /// long at most.
    ///
    /// A vCPU thread shows itself when it is inside its ioctl at a switch or at a walk. One that was busy in
    /// the VMM's user space at the first walk will be found by one of the next.
    ///
    /// # Errors
    /// When the source cannot look for vCPUs.
    pub fn settle(&mut self, vcpus: usize, at_most: Duration) -> Result<(), SourceError> {
        let end = Instant::now() + at_most;
        self.exchange();
        while (self.source.vcpus() < vcpus || self.source.awaits_answers()) && Instant::now() < end {
            self.source.look()?;
            self.attend(STEP);
        }
        Ok(())
    }

    /// Guests that are followed, and their vCPUs.
    #[must_use]
    pub fn followed(&self) -> (usize, usize) {
        (self.source.guests(), self.source.vcpus())
    }

    /// Sets how often snapshots will be taken, and how much they are to have.
    ///
    /// # Errors
    /// When the source cannot do so.
    pub fn configure(&mut self, settings: Settings) -> Result<(), SourceError> {
        self.source.configure(settings)
    }

    /// Asks anew what every guest is called.
    pub fn rediscover(&mut self) {
        self.ask(self.source.all_questions());
    }

    /// Reads every vCPU.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn read(&mut self) -> Result<(), SourceError> {
        self.exchange();
        self.source.read()
    }

    /// The snapshot of the last reading.
    pub fn compose(&mut self) -> Snapshot {
        self.exchange();
        let mut snapshot = self.source.compose();
        snapshot.sampler.questions_refused = self.enricher.refused();
        snapshot.sampler.questions_waiting = self.enricher.waiting();
        snapshot
    }

    /// Reads every vCPU, and waits for the answers to what that brought up, for so long at most.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn snapshot_after(&mut self, patience: Duration) -> Result<Snapshot, SourceError> {
        self.read()?;
        self.exchange();
        let end = Instant::now() + patience;
        while self.enricher.waiting() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            self.exchange();
        }
        Ok(self.compose())
    }

    fn exchange(&mut self) {
        for question in self.source.questions() {
            if !self.enricher.ask(question) {
                self.source.not_asked(question);
            }
        }
        for (_, answer) in self.enricher.answers() {
            self.source.answer(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Fact, source::fake::FakeHost};

    #[test]
    fn what_has_changed_is_asked_again() {
        let (host, source) = FakeHost::new();
        let mut driver = Driver::new(Box::new(source)).unwrap();
        host.born(1);
        let until_named = |driver: &mut Driver, wanted: &str| {
            let end = Instant::now() + Duration::from_secs(20);
            while Instant::now() < end {
                driver.attend(STEP);
                let vms = driver.compose().vms;
                if vms.first().and_then(|vm| vm.facts.get(Fact::Name)).is_some_and(|name| &**name == wanted) {
                    return;
                }
            }
            panic!("the guest is not called {wanted}");
        };
        until_named(&mut driver, "guest-1");
        host.rename(1, "renamed");
        driver.attend(STEP);
        driver.check();
        until_named(&mut driver, "renamed");
    }

    #[test]
    fn what_changes_slowly_is_read_on_a_clock_of_its_own() {
        let (host, source) = FakeHost::new();
        let mut driver = Driver::new(Box::new(source)).unwrap();
        driver.read_slowly_each(Duration::from_millis(50));
        host.born(1);
        let begin = Instant::now();
        let mut read = Vec::new();
        while read.len() < 3 && begin.elapsed() < Duration::from_secs(20) {
            driver.attend(STEP);
            read.extend(
                driver.compose().vms.first().and_then(|vm| vm.memory).map(|memory| memory.at_unix_ns),
            );
            read.dedup();
        }
        assert_eq!(read, [1, 2, 3]);
        assert!(begin.elapsed() >= 3 * Duration::from_millis(50), "{:?}", begin.elapsed());
    }
}
