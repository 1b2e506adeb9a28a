//! Every map of the programs, once, with its flags and why.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    btf_maps,
    macros::{btf_map, map},
    maps::{Array, HashMap, RingBuf},
};
use sampler_ebpf::abi::{
    BlockStats, CHECKPOINTS, Control, DiskCounts, DiskKey, ExitOffsets, FILTER_BITS, Filter, Followed,
    HelperRecord, HookStats, IoGroup, MAX_DISKS, MAX_FIRST_DISKS, MAX_HELPERS, MAX_IO_GROUPS, MAX_PIDS,
    MAX_VCPU_FILES, Occupancy, Offsets, PIDS_PER_BLOCK, PidBlock, SEGMENT, SEGMENTS, Shares, VMMS_PER_WORD,
    VcpuFile, VcpuFiles, WalkStats,
};
use sampler_ebpf::{
    occupancy::place,
    shared::{Shared, field},
};

/// Offsets of the running kernel. Frozen by the loader, so that the verifier knows each value.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNKNOWN;

/// Whether the scheduler's hooks report births and deaths. Not where the ring's lock sleeps, for they run
/// with a run queue locked; walks find both then. Frozen as the offsets, so that the verifier leaves out what
/// is not to be.
#[unsafe(no_mangle)]
static SWITCHES_REPORT: u32 = 0;

/// Which thread ids may have a slot: all that a switch between strangers reads. A section of its own, so that
/// it becomes a map of its own, whose single value programs address without a look-up; user space replaces it
/// as a whole when a thread is followed or ends.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.filter")]
static mut FILTER: Filter = [0; (FILTER_BITS / 64) as usize];

/// Slot of each thread by its id. A hash look-up would cost some 30 ns, here and wherever the filter errs.
/// User space writes slots into it.
#[map]
static PIDS: Array<PidBlock> = Array::with_max_entries(MAX_PIDS / PIDS_PER_BLOCK, BPF_F_MMAPABLE);

/// The slots, segment by segment; read by user space without a system call. It makes the segments too: there
/// is none at the start.
#[btf_map]
static SLOTS: btf_maps::ArrayOfMaps<Segment, { SEGMENTS as usize }> = btf_maps::ArrayOfMaps::new();

/// A segment of slots. Its values are words to the kernel and no structure: from 5.15 to 6.1 a map whose
/// values are a structure with types is not taken for the same kind as one without, and user space makes
/// segments without types (`timer_off` in `bpf_map_meta_equal`, `kernel/bpf/map_in_map.c`).
type Segment = btf_maps::Array<Words, { SEGMENT as usize }, { BPF_F_MMAPABLE as usize }>;

/// A slot as words.
type Words = [u64; size_of::<Followed>() / size_of::<u64>()];

/// Length of a timeline's tick as a power of two, ns. Not frozen: it follows the interval, which may change.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.ticks")]
static mut TICK_SHIFT: u32 = 0;

/// Where the reasons of exits are. Not frozen as the other offsets: they are of a module that may be loaded
/// late, or anew.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.exits")]
static mut EXIT_OFFSETS: ExitOffsets = ExitOffsets::UNSET;

/// Who had each CPU lately; read by user space for waits that go on. One entry per CPU; the loader sizes it.
#[map]
static OCCUPANCY: Array<Occupancy> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Time of each CPU's stretches that have ended, by occupant. One entry per CPU; the loader sizes it.
#[map]
static TOTALS: Array<Shares> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Those totals at each CPU's checkpoints, around and around. [`CHECKPOINTS`] entries per CPU; the loader
/// sizes it.
#[map]
static CHECKPOINT_TABLES: Array<Shares> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// For how many more stretches each CPU remembers who has it; 0 where no vCPU was lately. A switch between
/// strangers reads no more than this of all that attribution needs. One entry per CPU, each a cache line of
/// its own; the loader sizes it.
#[map]
static ARMED: Array<[u32; LINE]> = Array::with_max_entries(1, 0);

/// Words of a cache line.
const LINE: usize = 16;

/// Which processes are VMMs, one bit each by process id: all that a walk asks of a thread that is no vCPU's.
/// Bits of its own, and not marks in the pid table: that one is of threads, its entry of a VMM's first thread
/// may name a slot, and programs write it. User space alone writes this.
#[map]
static VMMS: Array<u64> = Array::with_max_entries(MAX_PIDS / VMMS_PER_WORD, BPF_F_MMAPABLE);

/// Helper threads that the last walk found, listed from the first record on.
#[map]
static HELPERS: Array<HelperRecord> = Array::with_max_entries(MAX_HELPERS, BPF_F_MMAPABLE);

/// Descriptors of vCPUs that the last look found, listed from the first record on.
#[map]
static VCPU_FILES: Array<VcpuFile> = Array::with_max_entries(MAX_VCPU_FILES, BPF_F_MMAPABLE);

/// One entry: how many those are.
#[map]
static VCPU_FILE_COUNTS: Array<VcpuFiles> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry: the walk's number, and its clock.
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry per CPU: plain additions without atomics, and user space adds up. The loader sizes it.
#[map]
static HOOK_STATS: Array<HookStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry: switches of vCPU threads on CPUs that have no entry above. There is none unless the kernel does
/// not say how many CPUs may come online. CPUs may write over each other's: what counts is that it is not 0.
#[map]
static UNKNOWN_CPUS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry: a walk runs on one CPU at a time.
#[map]
static WALK_STATS: Array<WalkStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Whose the requests of a control group are, by its number in the io controller. User space alone writes
/// this.
#[map]
static IO_GROUPS: Array<IoGroup> = Array::with_max_entries(MAX_IO_GROUPS, BPF_F_MMAPABLE);

/// What was counted of each disk of each guest, unless it has a place in [`FIRST_DISKS`]. A hash, for a new
/// disk: the programs cannot give out places, which takes an addition that says what was there, and kernels
/// before 5.12 have none. Its memory is there from the start, for what asks may be an interrupt.
#[map]
static DISKS: HashMap<DiskKey, DiskCounts> = HashMap::with_max_entries(MAX_DISKS, 0);

/// What was counted of the disk of a guest that user space has given a place: it is in the row of the guest's
/// control group, so that nothing is searched for.
#[map]
static FIRST_DISKS: Array<DiskCounts> = Array::with_max_entries(MAX_FIRST_DISKS, BPF_F_MMAPABLE);

/// One entry, which nobody writes: what a disk's counts begin with. They would not fit on the stack.
#[map]
static NO_COUNTS: Array<DiskCounts> = Array::with_max_entries(1, 0);

/// One entry, written with atomic operations.
#[map]
static BLOCK_STATS: Array<BlockStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The flag of a request that is in the middle of a sequence with flushes, and goes on when it has ended.
/// Frozen as the offsets.
#[unsafe(no_mangle)]
static FLUSH_SEQUENCE: u32 = 0;

/// Lifecycle events: 80 bytes each with their header, so some 3,200 births or deaths may wait.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// A map's value.
#[inline(always)]
fn value<T>(map: &Array<T>, index: u32) -> Option<Shared<T>> {
    // SAFETY: the pointer comes from the look-up.
    Some(unsafe { Shared::new(map.get_ptr_mut(index)?) })
}

/// The offset of a member; a constant to the verifier.
#[inline(always)]
pub(crate) fn offset(member: sampler_ebpf::abi::Member) -> u32 {
    // SAFETY: a static of the object's own, which is never written. The loader fills it in after compilation:
    // a plain read would be folded into the placeholder.
    let offsets = unsafe { Shared::new((&raw const OFFSETS).cast_mut()) };
    field!(offsets.at[member as usize]).load()
}

/// Whether the scheduler's hooks may use the ring, or write to the log, which is another ring.
#[inline(always)]
pub(crate) fn switches_report() -> bool {
    // SAFETY: as for the offsets.
    unsafe { Shared::new((&raw const SWITCHES_REPORT).cast_mut()) }.load() != 0
}

/// Whether a thread may have a slot; if not it certainly has none.
#[inline(always)]
pub(crate) fn may_have_slot(pid: u32) -> bool {
    let bit = pid % FILTER_BITS;
    // SAFETY: a static of the object's own.
    let filter = unsafe { Shared::new(&raw mut FILTER) };
    let word = filter.element((bit / 64) as usize).load();
    (word >> (bit % 64)) & 1 != 0
}

/// The pid table's entry for a thread.
#[inline(always)]
pub(crate) fn pid_entry(pid: u32) -> Option<Shared<u16>> {
    Some(value(&PIDS, pid / PIDS_PER_BLOCK)?.element(pid as usize))
}

/// All that is kept in a slot, by its number.
#[inline(always)]
pub(crate) fn kept(index: u16) -> Option<Shared<Followed>> {
    let index = u32::from(index);
    // SAFETY: the pointer comes from the look-up.
    Some(unsafe { Shared::new(SLOTS.get_value_ptr_mut(index / SEGMENT, &(index % SEGMENT))?.cast()) })
}

/// Length of a timeline's tick as a power of two, ns.
#[inline(always)]
pub(crate) fn tick_shift() -> u32 {
    // SAFETY: a static of the object's own.
    unsafe { Shared::new(&raw mut TICK_SHIFT) }.load()
}

/// Where the reasons of exits are.
#[inline(always)]
pub(crate) fn exit_offsets() -> ExitOffsets {
    // SAFETY: a static of the object's own. User space changes it while no hook of KVM's is attached.
    unsafe { Shared::new(&raw mut EXIT_OFFSETS) }.load()
}

/// What a CPU remembers of itself.
#[inline(always)]
pub(crate) fn occupancy(cpu: u32) -> Option<Shared<Occupancy>> {
    value(&OCCUPANCY, cpu)
}

/// Time of a CPU's stretches that have ended.
#[inline(always)]
pub(crate) fn totals(cpu: u32) -> Option<Shared<Shares>> {
    value(&TOTALS, cpu)
}

/// The same at a checkpoint.
#[inline(always)]
pub(crate) fn checkpoint(cpu: u32, number: u64) -> Option<Shared<Shares>> {
    value(&CHECKPOINT_TABLES, cpu * CHECKPOINTS as u32 + place(number) as u32)
}

/// For how many more stretches a CPU remembers who has it.
#[inline(always)]
pub(crate) fn armed(cpu: u32) -> u32 {
    match patience(cpu) {
        Some(stretches) => stretches.load(),
        None => 0,
    }
}

/// Lets a CPU remember its next `stretches`. Others may do so too, for a thread that comes to wait there:
/// whichever value stays is about as good.
#[inline(always)]
pub(crate) fn arm(cpu: u32, stretches: u32) {
    if let Some(left) = patience(cpu) {
        left.store(stretches);
    }
}

#[inline(always)]
fn patience(cpu: u32) -> Option<Shared<u32>> {
    Some(value(&ARMED, cpu)?.element(0))
}

/// Whether a process is a VMM's.
#[inline(always)]
pub(crate) fn is_vmm(tgid: u32) -> bool {
    let Some(word) = value(&VMMS, tgid / VMMS_PER_WORD) else { return false };
    (word.load() >> (tgid % VMMS_PER_WORD)) & 1 != 0
}

/// A record for a helper thread.
#[inline(always)]
pub(crate) fn helper_record(index: u32) -> Option<Shared<HelperRecord>> {
    value(&HELPERS, index)
}

/// A record for a vCPU's descriptor.
#[inline(always)]
pub(crate) fn vcpu_file(index: u32) -> Option<Shared<VcpuFile>> {
    value(&VCPU_FILES, index)
}

/// How many descriptors of vCPUs are listed.
#[inline(always)]
pub(crate) fn vcpu_files() -> Option<Shared<VcpuFiles>> {
    value(&VCPU_FILE_COUNTS, 0)
}

/// The walk's control block.
#[inline(always)]
pub(crate) fn control() -> Option<Shared<Control>> {
    value(&CONTROL, 0)
}

/// The statistics block of a CPU.
#[inline(always)]
pub(crate) fn hook_stats(cpu: u32) -> Option<Shared<HookStats>> {
    value(&HOOK_STATS, cpu)
}

/// Counts a switch on a CPU that has no statistics block.
#[inline(always)]
pub(crate) fn on_unknown_cpu() {
    if let Some(switches) = value(&UNKNOWN_CPUS, 0) {
        switches.bump(1);
    }
}

/// The statistics block of the walks.
#[inline(always)]
pub(crate) fn walk_stats() -> Option<Shared<WalkStats>> {
    value(&WALK_STATS, 0)
}

/// Whose the requests of a control group are; `None` beyond the table's end.
#[inline(always)]
pub(crate) fn io_group(number: u32) -> Option<Shared<IoGroup>> {
    value(&IO_GROUPS, number)
}

/// The counts of the disk that has this place.
#[inline(always)]
pub(crate) fn first_disk(place: u32) -> Option<Shared<DiskCounts>> {
    value(&FIRST_DISKS, place)
}

/// The counts of a guest's disk; `None` where there is no room for one more.
#[inline(always)]
pub(crate) fn disk_counts(key: &DiskKey) -> Option<Shared<DiskCounts>> {
    let known = || {
        // SAFETY: the pointer comes from the look-up.
        DISKS.get_ptr_mut(key).map(|counts| unsafe { Shared::new(counts) })
    };
    if let Some(counts) = known() {
        return Some(counts);
    }
    let none = NO_COUNTS.get_ptr(0)?;
    // SAFETY: the pointer comes from the look-up, and nobody writes there. Another CPU may be faster, which
    // does no harm.
    let _ = DISKS.insert(key, unsafe { &*none }, BPF_NOEXIST.into());
    known()
}

/// Counts a request of a guest for whose disk there is no room.
#[inline(always)]
pub(crate) fn on_untracked_request() {
    if let Some(stats) = value(&BLOCK_STATS, 0) {
        field!(stats.untracked).add(1);
    }
}

/// See [`FLUSH_SEQUENCE`].
#[inline(always)]
pub(crate) fn flush_sequence() -> u32 {
    // SAFETY: as for the offsets.
    unsafe { Shared::new((&raw const FLUSH_SEQUENCE).cast_mut()) }.load()
}

/// The ring of lifecycle events.
#[inline(always)]
pub(crate) fn events() -> &'static RingBuf {
    &EVENTS
}
