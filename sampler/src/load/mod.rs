//! The table of hooks, and from it loaded and attached programs.

mod attach;
mod causes;
mod error;
mod exits;
mod hooks;
pub mod manifest;
mod object;
mod offsets;
mod requests;
mod section;
mod types;

use std::os::fd::BorrowedFd;

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use sampler_ebpf::abi::{ABSENT, CHECKPOINTS, Member, Offsets};

use attach::KernelTypes;
pub use attach::{Attached, Probe, WayProbe};
pub(crate) use causes::Causes;
pub use error::{AttachError, HookError, LoadError, ObjectError, Refusal, WayError};
pub use exits::Processor;
use hooks::READS_REASONS;
pub use hooks::{Attach, HOOKS, Hook, KVM_EXIT, MAY_BE_INTERRUPTED, MAY_BE_PREEMPTED, TracepointError, When};
pub use object::Object;
pub use offsets::{ShapeError, resolve};
pub use section::SectionError;
pub(crate) use section::publish;
use types::Types;

use crate::kernel::{descriptors::Part, limits::MAX_CPUS, ring::RingLock};

/// The programs, built with this binary.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sampler-programs"));

/// What can be chosen when the programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Level of the programs' own log, by [`aya_log::Level`] as a number; 0 is off.
    pub log_level: u8,
    /// CPUs that may come online.
    pub possible_cpus: u32,
}

impl Options {
    /// For how many CPUs maps by CPU are made.
    fn cpus(self) -> u32 {
        self.possible_cpus.clamp(1, MAX_CPUS)
    }
}

/// Who reports births and deaths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// The scheduler's hooks and walks; walks alone where the kernel's types do not let the hooks.
    Allowed,
    /// Walks alone, on every kernel.
    WalksAlone,
}

/// What reads the programs' own log.
pub type Messages = EbpfLogger<&'static dyn log::Log>;

/// Programs at work: dropping it detaches them.
pub struct Loaded {
    /// Maps and programs.
    pub object: Object,
    /// Reads the programs' own log, where they write one.
    pub messages: Option<Messages>,
    /// How each hook was attached.
    pub attached: Vec<Attached>,
    /// The same of those that are attached while there are guests.
    pub attached_to_kvm: Vec<Attached>,
    /// Whose KVM runs the guests, as it was found when those were attached last.
    pub processor: Option<Processor>,
    /// Where the members are that the programs read.
    pub offsets: Offsets,
    /// Whether the scheduler's hooks report births and deaths; where not, walks alone do.
    pub switches_report: bool,
    /// Flag of requests that are in the middle of a sequence with flushes.
    pub flush_sequence: u32,
    /// For how many CPUs the maps by CPU were made.
    pub possible_cpus: u32,
}

impl Loaded {
    /// The descriptors of maps, of programs and of what attaches them now, each with what it is of.
    pub fn descriptors(&self) -> impl Iterator<Item = (Part, BorrowedFd<'_>)> {
        let maps = self.object.maps().map(|(name, fd)| (Part::Map(name.to_owned()), fd));
        let programs = self.object.programs().map(|(name, fd)| (Part::Program(name.to_owned()), fd));
        let attached = self.attached.iter().chain(&self.attached_to_kvm);
        maps.chain(programs).chain(attached.filter_map(Attached::named_link))
    }

    /// Attaches the hooks of KVM's: while there are guests, for these keep its module loaded anyhow.
    ///
    /// # Errors
    /// When the kernel refuses one that the others are no use without; none is attached then.
    pub fn attach_to_kvm(&mut self) -> Result<(), LoadError> {
        let types = Types::running()?;
        let published = exits::publish(&mut self.object, &types)?;
        self.processor = published.processor;
        self.attached_to_kvm = attach::attach_loaded(&self.object, types.all(), (HOOKS, When::Guests))?;
        let reads = |attached: &Attached| attached.way.program() == READS_REASONS;
        if !published.reasons && self.attached_to_kvm.iter().any(reads) {
            tracing::warn!(
                "why guests exit is not known: this kernel neither passes the reason nor publishes where its module for this \
                 processor keeps it (BTF of modules); all exits are \"other\""
            );
        }
        Ok(())
    }

    /// Detaches the hooks of KVM's.
    pub fn detach_from_kvm(&mut self) {
        self.attached_to_kvm.clear();
    }

    /// Detaches every program; they stay loaded, with their maps.
    pub fn pause(&mut self) {
        self.attached.iter_mut().for_each(Attached::pause);
    }

    /// Attaches every program again.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn resume(&mut self) -> Result<(), AttachError> {
        self.attached.iter_mut().try_for_each(|attached| attached.resume(&self.object))
    }
}

/// Reads the running kernel's types, loads the programs with them and attaches every hook.
///
/// # Errors
/// Names the kernel member, the map or the hook that stood in the way.
pub fn load(options: Options) -> Result<Loaded, LoadError> {
    load_by(options, Reporting::Allowed, |hook| hook.ways)
}

/// As [`load`], but no scheduler's hook reports births and deaths: what a kernel gets whose ring has a lock
/// that sleeps.
///
/// # Errors
/// As [`load`].
pub fn load_reported_by_walks(options: Options) -> Result<Loaded, LoadError> {
    load_by(options, Reporting::WalksAlone, |hook| hook.ways)
}

/// As [`load`], but attaches each hook by the last of its ways alone: what a kernel gets that refuses all
/// others.
///
/// # Errors
/// As [`load`].
pub fn load_fallback(options: Options) -> Result<Loaded, LoadError> {
    load_by(options, Reporting::Allowed, |hook| &hook.ways[hook.ways.len().saturating_sub(1)..])
}

fn load_by(options: Options, reporting: Reporting, ways: attach::Ways) -> Result<Loaded, LoadError> {
    load_hooks(OBJECT, HOOKS, (options, reporting), ways)
}

/// As [`load`], of another object with the same maps, by hooks of its own: what benchmarks compare with.
///
/// # Errors
/// As [`load`].
pub fn load_others(object: &[u8], hooks: &'static [Hook], options: Options) -> Result<Loaded, LoadError> {
    load_hooks(object, hooks, (options, Reporting::Allowed), |hook| hook.ways)
}

fn load_hooks(
    object: &[u8],
    hooks: &'static [Hook],
    (options, reporting): (Options, Reporting),
    ways: attach::Ways,
) -> Result<Loaded, LoadError> {
    let target = Target { reporting, ..Target::RUNNING };
    let Prepared { types, constants, mut ebpf } = prepare(object, options, target)?;
    let kernel_types = KernelTypes::default();
    let attached = attach::attach_all(&mut ebpf, types.all(), &kernel_types, (hooks, When::Start), ways)?;
    attach::load_all(&mut ebpf, &kernel_types, (hooks, When::Guests), ways);
    let Constants { offsets, switches_report, flush_sequence, obstacle } = constants;
    if let Some(obstacle) = obstacle {
        tracing::warn!(
            "births and deaths of vCPUs are found by the walk of each snapshot alone: {obstacle}; no scheduler's \
             hook may take it; ends show two snapshots late"
        );
    }
    let messages = (options.log_level > 0).then(|| EbpfLogger::init(&mut ebpf)).transpose();
    let messages = messages.map_err(ObjectError::Messages)?;
    let object = Object::of(ebpf).map_err(ObjectError::Descriptors)?;
    Ok(Loaded {
        object,
        messages,
        attached,
        attached_to_kvm: Vec::new(),
        processor: None,
        offsets,
        switches_report,
        flush_sequence,
        possible_cpus: options.cpus(),
    })
}

/// Loads and attaches each hook alone and says how that went, for `hvsampler check`. Everything is detached
/// again.
///
/// # Errors
/// When not even the maps can be made.
pub fn probe(options: Options) -> Result<Vec<Probe>, LoadError> {
    let Prepared { types, mut ebpf, .. } = prepare(OBJECT, options, Target::RUNNING)?;
    let kernel_types = KernelTypes::default();
    Ok(HOOKS.iter().map(|hook| attach::probe(&mut ebpf, hook, types.all(), &kernel_types)).collect())
}

/// Whether a hook that can be attached in this way has the reasons of exits: the kernel passes the reason, or
/// publishes where the processor's module of KVM keeps it, which takes that module to be loaded.
///
/// # Errors
/// When the kernel's types cannot be read.
pub fn has_exit_reasons(way: Attach) -> Result<bool, LoadError> {
    Ok(way.program() != READS_REASONS || exits::are_published(&Types::running()?)?)
}

/// What the kernel says of every program in the object.
#[derive(Debug)]
pub struct ProgramReport {
    /// Every way of every hook.
    pub ways: Vec<WayProbe>,
    /// Programs of the object that nothing attaches.
    pub unused: Vec<String>,
}

/// A member that a kernel may lack, and structure and path of one of the same type that stands in for it.
pub type StandIn = (Member, &'static str, &'static str);

/// What programs are loaded for: the running kernel, or one that would differ from it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Who reports births and deaths.
    pub reporting: Reporting,
    /// What the other kernel has: the verifier follows ways then that it never follows on this one.
    pub stand_ins: &'static [StandIn],
}

impl Target {
    /// The running kernel.
    pub const RUNNING: Self = Self { reporting: Reporting::Allowed, stand_ins: &[] };
}

/// Loads every program of an object and attaches it alone, also where a better way was taken already: a
/// kernel that takes only the last way of a hook must get it. Everything is detached again. The product's are
/// [`OBJECT`] and [`HOOKS`].
///
/// # Errors
/// When not even the maps can be made, or when what stands in is missing itself.
pub fn probe_programs(
    object: &[u8],
    hooks: &'static [Hook],
    (options, target): (Options, Target),
) -> Result<ProgramReport, LoadError> {
    let Prepared { types, mut ebpf, .. } = prepare(object, options, target)?;
    let kernel_types = KernelTypes::default();
    let all = hooks.iter().flat_map(|hook| hook.ways.iter().map(|way| (hook.name, *way)));
    let mut probe = |hook, way| attach::probe_way(&mut ebpf, hook, way, types.all(), &kernel_types);
    let ways: Vec<_> = all.map(|(hook, way)| probe(hook, way)).collect();
    let is_unused = |name: &String| !ways.iter().any(|probe| probe.way.program() == name);
    let unused = ebpf.programs().map(|(name, _)| name.to_owned()).filter(is_unused).collect();
    Ok(ProgramReport { ways, unused })
}

/// An object that knows the running kernel, with nothing attached.
struct Prepared {
    types: Types,
    constants: Constants,
    ebpf: Ebpf,
}

/// The one way to it, for the sampler's start and for all that says beforehand how that would go.
fn prepare(object: &[u8], options: Options, target: Target) -> Result<Prepared, LoadError> {
    let types = Types::running()?;
    let constants = Constants::of(&types, target)?;
    let ebpf = load_object(object, &constants, options)?;
    Ok(Prepared { types, constants, ebpf })
}

/// What the programs are given that never changes: the verifier knows it.
struct Constants {
    offsets: Offsets,
    switches_report: bool,
    /// Flag of requests that are in the middle of a sequence with flushes.
    flush_sequence: u32,
    /// Why the kernel's types do not let the scheduler's hooks report births and deaths.
    obstacle: Option<String>,
}

impl Constants {
    fn of(types: &Types, target: Target) -> Result<Self, LoadError> {
        let obstacle = RingLock::of(types.all()).obstacle();
        let switches_report = obstacle.is_none() && target.reporting == Reporting::Allowed;
        let mut offsets = types.offsets()?;
        for (member, container, path) in target.stand_ins {
            let at = &mut offsets.at[*member as usize];
            if *at == ABSENT {
                *at = types.all().field(container, path)?.offset;
            }
        }
        let flush_sequence = requests::flush_sequence(types.all());
        Ok(Self { offsets, switches_report, flush_sequence, obstacle })
    }
}

fn load_object(object: &[u8], constants: &Constants, options: Options) -> Result<Ebpf, LoadError> {
    let cpus = options.cpus();
    Ok(EbpfLoader::new()
        .override_global("OFFSETS", &constants.offsets.at[..], true)
        .override_global("SWITCHES_REPORT", &u32::from(constants.switches_report), true)
        .override_global("FLUSH_SEQUENCE", &constants.flush_sequence, true)
        .override_global(aya_log::LEVEL, &options.log_level, true)
        .map_max_entries("HOOK_STATS", cpus)
        .map_max_entries("ARMED", cpus)
        .map_max_entries("OCCUPANCY", cpus)
        .map_max_entries("TOTALS", cpus)
        .map_max_entries("CHECKPOINT_TABLES", cpus * CHECKPOINTS as u32)
        .load(object)
        .map_err(ObjectError::from)?)
}
