//! The slots: memory that the programs share, and that grows with what is followed.
//!
//! A segment is a map of its own. To put it into the map of segments the kernel waits until all programs that
//! might look there have ended, and its memory is some megabytes. So a thread of its own makes segments, and
//! the sampling thread takes them in when they are there.

use std::{
    cell::Cell,
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::maps::{Array, ArrayOfMaps, IterableMap, MapData};
use sampler_ebpf::abi::{
    Event, Followed, MAX_SLOTS, Modes, SEGMENT, SEGMENTS, SlotShares, Timeline, VcpuSlot, WalkRecord,
};

use super::mmap::{MapError, Mapped, Plain};
use crate::load::{Causes, Object};

/// The map of segments.
const NAME: &str = "SLOTS";
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// Time after which a segment is tried again that could not be made.
const RETRY: Duration = Duration::from_secs(10);

/// A segment as it is made: what is in it is nobody's business here.
type Segment = Array<MapData, [u8; size_of::<Followed>()]>;
type Outer = ArrayOfMaps<MapData, Segment>;
/// What the thread has made, and why it made no more.
type Made = (Vec<Mapped<Followed>>, Result<(), MapError>);

/// The segments that there are.
pub(super) struct Segments {
    mapped: Vec<Mapped<Followed>>,
    outer: Arc<Mutex<Outer>>,
    /// The thread that makes more.
    making: Option<JoinHandle<Made>>,
    failed: u64,
    /// Readings of slots that were being written at each attempt.
    torn: Cell<u64>,
    /// When more could not be made.
    failed_at: Option<Instant>,
}

impl Segments {
    /// Makes the first segment.
    pub(super) fn open(object: &mut Object) -> Result<Self, MapError> {
        let map = object.take_map(NAME).ok_or(MapError::Missing(NAME))?;
        let mut outer = Outer::try_from(map).map_err(|_| MapError::Missing(NAME))?;
        let first = make(&mut outer, 0)?;
        let outer = Arc::new(Mutex::new(outer));
        Ok(Self { mapped: vec![first], outer, making: None, failed: 0, torn: Cell::new(0), failed_at: None })
    }

    /// Slots that there are, slot 0 included.
    pub(super) fn slots(&self) -> u32 {
        (SEGMENT * self.count()).min(MAX_SLOTS)
    }

    /// Segments that could not be made.
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    /// Readings of slots that were being written at each attempt: whoever reads next has what they lack.
    pub(super) const fn torn(&self) -> u64 {
        self.torn.get()
    }

    /// Takes in what was made meanwhile. Returns whether there are more slots now.
    pub(super) fn take(&mut self) -> bool {
        let Some(making) = self.making.take_if(|making| making.is_finished()) else { return false };
        let panicked =
            || MapError::System { name: NAME, call: "thread", source: io::Error::other("it panicked") };
        let (made, result) = making.join().unwrap_or_else(|_| (Vec::new(), Err(panicked())));
        let more = !made.is_empty();
        self.mapped.extend(made);
        match result {
            Ok(()) => self.failed_at = None,
            Err(error) => self.fail(&error),
        }
        more
    }

    /// Whether more can be made now.
    pub(super) fn can_grow(&self) -> bool {
        self.making.is_none()
            && self.count() < SEGMENTS
            && self.failed_at.is_none_or(|failed_at| failed_at.elapsed() >= RETRY)
    }

    /// Whether more are being made.
    pub(super) const fn grows(&self) -> bool {
        self.making.is_some()
    }

    /// Lets room be made for so many slots more, if that is possible now.
    pub(super) fn grow(&mut self, slots: u32) {
        if slots == 0 || !self.can_grow() {
            return;
        }
        let first = self.count();
        let segments = first..first.saturating_add(slots.div_ceil(SEGMENT)).min(SEGMENTS);
        let outer = Arc::clone(&self.outer);
        let thread = thread::Builder::new().name("slots".to_owned());
        match thread.spawn(move || make_all(&outer, segments)) {
            Ok(making) => self.making = Some(making),
            Err(source) => self.fail(&MapError::System { name: NAME, call: "thread", source }),
        }
    }

    /// Copies a part of a slot out, `at` bytes from its begin.
    pub(super) fn part<P: Plain>(&self, slot: u16, at: usize) -> P {
        let (segment, index) = place(slot);
        self.mapped[segment].read_part(index, at)
    }

    /// Reads what is written under a slot's sequence number that is `seq` bytes from its begin.
    pub(super) fn read_with<U>(&self, slot: u16, seq: usize, read: impl Fn() -> U) -> Option<U> {
        let (segment, index) = place(slot);
        let value = self.mapped[segment].read_with(index, seq, read);
        if value.is_none() {
            self.torn.set(self.torn.get() + 1);
        }
        value
    }

    /// Begins a slot for the thread of an event: nothing of an earlier owner is left.
    pub(super) fn begin(&mut self, slot: u16, event: &Event) {
        let (segment, index) = place(slot);
        self.mapped[segment].write(index, new_slot(event));
    }

    /// Writes a part of a slot, `at` bytes from its begin.
    pub(super) fn write_part<P: Plain>(&mut self, slot: u16, at: usize, value: P) {
        let (segment, index) = place(slot);
        self.mapped[segment].write_part(index, at, value);
    }

    /// Writes a part of all slots that were given out so far.
    pub(super) fn write_part_of_all<P: Plain>(&mut self, at: usize, value: P) {
        for segment in &mut self.mapped {
            segment.touched().into_iter().for_each(|index| segment.write_part(index, at, value));
        }
    }

    /// Says the first time why there is no more room.
    fn fail(&mut self, error: &MapError) {
        self.failed += 1;
        self.failed_at = Some(Instant::now());
        if self.failed == 1 {
            let slots = self.slots() - 1;
            tracing::error!(%error, slots, "there is no memory to follow more vCPUs than these");
        }
    }

    fn count(&self) -> u32 {
        self.mapped.len() as u32
    }
}

fn make_all(outer: &Mutex<Outer>, segments: Range<u32>) -> Made {
    let mut outer = outer.lock().unwrap_or_else(PoisonError::into_inner);
    let mut made = Vec::new();
    for segment in segments {
        match make(&mut outer, segment) {
            Ok(one) => made.push(one),
            Err(error) => return (made, Err(error)),
        }
    }
    (made, Ok(()))
}

/// Makes a segment, and lets the programs find it.
fn make(outer: &mut Outer, segment: u32) -> Result<Mapped<Followed>, MapError> {
    let system = |call, error| MapError::System {
        name: NAME,
        call,
        source: io::Error::other(Causes(&error).to_string()),
    };
    let map = Segment::create(SEGMENT, MMAPABLE).map_err(|error| system("bpf(BPF_MAP_CREATE)", error))?;
    let mapped = Mapped::of(IterableMap::map(&map), NAME)?;
    mapped.map_all()?;
    outer.set(segment, &map, 0).map_err(|error| system("bpf(BPF_MAP_UPDATE_ELEM)", error))?;
    Ok(mapped)
}

const fn place(slot: u16) -> (usize, usize) {
    let slot = slot as usize;
    (slot / SEGMENT as usize, slot % SEGMENT as usize)
}

const fn new_slot(event: &Event) -> Followed {
    let slot = VcpuSlot {
        task: event.task,
        vcpu: event.vcpu,
        counters: event.counters,
        left_ns: event.sched_ns,
        left: event.left,
        fresh: 1,
        begun_ns: event.sched_ns,
        ..VcpuSlot::EMPTY
    };
    let mut modes = Modes::new(event.tgid, event.tid);
    // No guest is to know which of its exits are timed.
    modes.dice = (event.task >> 4 ^ event.sched_ns) as u32;
    Followed { modes, slot, timeline: Timeline::EMPTY, shares: SlotShares::NONE, record: WalkRecord::EMPTY }
}
