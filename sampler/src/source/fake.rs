//! A source without a kernel, for tests of everything to its right: guests are born, die and get their names
//! as a test says.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use super::{Answer, Answerer, GuestFacts, Question, Settings, Source, SourceError};
use crate::{
    collect::{CollectError, MapError},
    model::{Ended, Fact, Facts, Memory, Origin, Snapshot, StateTimes, Totals, Vcpu, VcpuId, Vm, VmKey},
};

/// What the source does at a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Fails,
    Panics,
    Takes(Duration),
    /// Does not return until it is let go on.
    Hangs,
}

/// The fake source.
pub(crate) struct FakeSource {
    shared: Arc<Shared>,
    readable: UnixStream,
    guests: BTreeMap<VmKey, Guest>,
    unasked: Vec<VmKey>,
    ended: Vec<Ended>,
    readings: u64,
}

/// What a test does to the source, from any thread.
pub(crate) struct FakeHost {
    shared: Arc<Shared>,
    wake: UnixStream,
}

#[derive(Default)]
struct Guest {
    facts: Option<Arc<Facts>>,
    memory: Option<Memory>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Answers that are held wait for it, and a reading that hangs.
    released: Condvar,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    faults: Vec<Fault>,
    hangs: bool,
    held: Vec<u32>,
    renamed: BTreeMap<u32, String>,
    memory_read: u64,
    configured: Vec<Settings>,
    readings: u64,
}

#[derive(Clone, Copy)]
enum Event {
    Born(u32),
    Died(u32),
}

impl FakeHost {
    pub(crate) fn new() -> (Self, FakeSource) {
        let shared = Arc::new(Shared::default());
        let (wake, readable) = UnixStream::pair().unwrap();
        readable.set_nonblocking(true).unwrap();
        let source = FakeSource {
            shared: Arc::clone(&shared),
            readable,
            guests: BTreeMap::new(),
            unasked: Vec::new(),
            ended: Vec::new(),
            readings: 0,
        };
        (Self { shared, wake }, source)
    }

    /// A guest of one vCPU begins to run.
    pub(crate) fn born(&self, pid: u32) {
        self.event(Event::Born(pid));
    }

    /// A guest ends.
    pub(crate) fn died(&self, pid: u32) {
        self.event(Event::Died(pid));
    }

    fn event(&self, event: Event) {
        self.shared.state().events.push(event);
        (&self.wake).write_all(&[0]).unwrap();
    }

    /// Whoever asks for this guest's name waits until it is released.
    pub(crate) fn hold_name(&self, pid: u32) {
        self.shared.state().held.push(pid);
    }

    pub(crate) fn release_names(&self) {
        self.shared.state().held.clear();
        self.shared.released.notify_all();
    }

    /// Whoever asks for this guest's name from now on gets this one.
    pub(crate) fn rename(&self, pid: u32, name: &str) {
        self.shared.state().renamed.insert(pid, name.to_owned());
    }

    /// The next readings have these faults, one each.
    pub(crate) fn faults(&self, faults: &[Fault]) {
        self.shared.state().faults.extend(faults);
    }

    /// No fault is to come any more.
    pub(crate) fn no_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Whether a reading hangs.
    pub(crate) fn hangs(&self) -> bool {
        self.shared.state().hangs
    }

    /// Lets the reading that hangs go on.
    pub(crate) fn go_on(&self) {
        self.shared.state().hangs = false;
        self.shared.released.notify_all();
    }

    /// Faults that are still to come.
    pub(crate) fn faults_left(&self) -> usize {
        self.shared.state().faults.len()
    }

    /// Readings that did not fail.
    pub(crate) fn readings(&self) -> u64 {
        self.shared.state().readings
    }

    /// How the source was to sample, one after the other.
    pub(crate) fn configured(&self) -> Vec<Settings> {
        self.shared.state().configured.clone()
    }
}

impl State {
    /// What is known of a guest: by its process, unless it was renamed.
    fn facts(&self, pid: u32) -> Facts {
        let name = self.renamed.get(&pid).cloned().unwrap_or_else(|| format!("guest-{pid}"));
        Facts::default().with(Fact::Platform, "fake").with(Fact::Name, name)
    }
}

impl State {
    /// What a guest has of the host's memory: more each time that it is read.
    fn memory(&mut self, pid: u32) -> Memory {
        self.memory_read += 1;
        let resident = [Some(u64::from(pid) << 20), Some(4096), None, Some(0)];
        Memory { at_unix_ns: self.memory_read, resident, swapped: Some(self.memory_read), is_new: true }
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.go_on();
        self.release_names();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns when somebody lets it go on.
    fn hang(&self) {
        let mut state = self.state();
        state.hangs = true;
        drop(self.released.wait_while(state, |state| state.hangs).unwrap());
    }

    /// What a guest is called: by its process.
    fn answer(&self, question: Question) -> Answer {
        let vm = match question {
            Question::Guest(vm) => vm,
            Question::Changes(vm) => return Answer::Changes(vm, self.state().renamed.contains_key(&pid(vm))),
            Question::Memory(vm) => return Answer::Memory(vm, Some(self.state().memory(pid(vm)))),
            Question::Process(_)
            | Question::Group(_)
            | Question::IoGroup(..)
            | Question::Disk(_)
            | Question::Devices(_)
            | Question::Host(_)
            | Question::Links => panic!("{question:?} was not asked"),
        };
        let pid = pid(vm);
        let held = |state: &mut State| state.held.contains(&pid);
        drop(self.released.wait_while(self.state(), held).unwrap());
        Answer::Guest(vm, Some(GuestFacts { facts: self.state().facts(pid), is_partial: false }))
    }
}

fn key(pid: u32) -> VmKey {
    VmKey::new([pid.into(), 1])
}

fn pid(key: VmKey) -> u32 {
    key.content()[0] as u32
}

impl Source for FakeSource {
    fn configure(&mut self, settings: Settings) -> Result<(), SourceError> {
        self.shared.state().configured.push(settings);
        Ok(())
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    fn drain(&mut self) {
        while matches!(self.readable.read(&mut [0; 64]), Ok(1..)) {}
        for event in std::mem::take(&mut self.shared.state().events) {
            match event {
                Event::Born(pid) => {
                    self.guests.insert(key(pid), Guest::default());
                    self.unasked.push(key(pid));
                }
                Event::Died(pid) => {
                    let guest = self.guests.remove(&key(pid));
                    let facts = guest.and_then(|guest| guest.facts).unwrap_or_else(Facts::unknown);
                    self.ended.push(ended(key(pid), facts));
                }
            }
        }
    }

    fn look(&mut self) -> Result<(), SourceError> {
        self.drain();
        Ok(())
    }

    fn guests(&self) -> usize {
        self.guests.len()
    }

    fn vcpus(&self) -> usize {
        self.guests.len()
    }

    fn read(&mut self) -> Result<(), SourceError> {
        self.drain();
        let fault = {
            let faults = &mut self.shared.state().faults;
            (!faults.is_empty()).then(|| faults.remove(0))
        };
        match fault {
            Some(Fault::Fails) => return Err(CollectError::Map(MapError::Missing("as asked")).into()),
            Some(Fault::Panics) => panic!("as asked"),
            Some(Fault::Takes(time)) => std::thread::sleep(time),
            Some(Fault::Hangs) => self.shared.hang(),
            None => {}
        }
        self.readings += 1;
        self.shared.state().readings = self.readings;
        Ok(())
    }

    fn compose(&mut self) -> Snapshot {
        let vms = self.guests.iter().map(|(key, guest)| Vm {
            key: *key,
            origin: Origin::Process { pid: pid(*key) },
            facts: guest.facts.clone().unwrap_or_else(Facts::unknown),
            id: id(*key).into(),
            memory: guest.memory,
            vcpus: vec![Vcpu::default()],
            ..Vm::default()
        });
        let vms = vms.collect();
        for memory in self.guests.values_mut().filter_map(|guest| guest.memory.as_mut()) {
            memory.is_new = false;
        }
        Snapshot {
            at_unix_ns: self.readings,
            vms,
            ended: std::mem::take(&mut self.ended),
            ..Snapshot::default()
        }
    }

    fn questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.unasked).into_iter().map(Question::Guest).collect()
    }

    fn checks(&self) -> Vec<Question> {
        self.guests.keys().copied().map(Question::Changes).collect()
    }

    fn slow_questions(&mut self) -> Vec<Question> {
        self.guests.keys().copied().map(Question::Memory).collect()
    }

    fn all_questions(&self) -> Vec<Question> {
        self.guests.keys().copied().map(Question::Guest).collect()
    }

    fn awaits_answers(&self) -> bool {
        self.guests.values().any(|guest| guest.facts.is_none())
    }

    fn not_asked(&mut self, question: Question) {
        panic!("there is room for {question:?}");
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Guest(vm, facts) => {
                if let Some(guest) = self.guests.get_mut(&vm) {
                    guest.facts = facts.map(|facts| Arc::new(facts.over(&Facts::default())));
                }
            }
            Answer::Memory(vm, memory) => {
                if let Some(guest) = self.guests.get_mut(&vm) {
                    guest.memory = memory;
                }
            }
            Answer::Changes(vm, true) => self.unasked.push(vm),
            Answer::Changes(_, false) => {}
            Answer::Process(..)
            | Answer::Group(..)
            | Answer::IoGroup(..)
            | Answer::Disk(..)
            | Answer::Devices(..)
            | Answer::Host(..)
            | Answer::Links(..) => panic!("{answer:?} was not asked for"),
        }
    }

    fn answerer(&self) -> Answerer {
        let shared = Arc::clone(&self.shared);
        Box::new(move |question| shared.answer(question))
    }
}

/// The guest's only vCPU ended with it.
fn ended(vm: VmKey, facts: Arc<Facts>) -> Ended {
    Ended {
        unused: false,
        vm_id: id(vm).into(),
        vm_facts: facts,
        id: VcpuId::default(),
        tid: None,
        index: 0,
        start_unix_ns: 0,
        followed_unix_ns: 0,
        counters: Default::default(),
        totals: Totals::default(),
        states: StateTimes::default(),
        vm_gone: true,
    }
}

fn id(key: VmKey) -> String {
    format!("vm-{}", pid(key))
}
