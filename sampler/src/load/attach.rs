//! Attaching one hook, by the first of its ways that the kernel takes.

use std::{
    cell::OnceCell,
    time::{Duration, Instant},
};

use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{BtfTracePoint, Iter, Program, ProgramError, RawTracePoint},
};

use super::{
    error::{AttachError, HookError, Refusal, WayError},
    hooks::{Attach, Hook, When},
};
use crate::kernel::btf::Btf;

/// The kernel's types as aya reads them: many small pieces of memory, so only where a program is loaded by
/// them.
#[derive(Default)]
pub(super) struct KernelTypes(OnceCell<AyaBtf>);

impl KernelTypes {
    fn get(&self) -> Result<&AyaBtf, Refusal> {
        if let Some(btf) = self.0.get() {
            return Ok(btf);
        }
        let btf = AyaBtf::from_sys_fs().map_err(Refusal::Types)?;
        Ok(self.0.get_or_init(|| btf))
    }
}

/// A hook that is loaded, and at work unless it is paused.
pub struct Attached {
    /// Name of the hook.
    pub hook: &'static str,
    /// The way that the kernel took.
    pub way: Attach,
    /// Dropping it detaches the program. An iterator has none: it is attached anew for each walk.
    link: Option<Link>,
}

type Link = Box<dyn Send>;

impl Attached {
    /// Detaches the program and keeps it loaded.
    pub fn pause(&mut self) {
        self.link = None;
    }

    /// Attaches the program again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resume(&mut self, ebpf: &mut Ebpf) -> Result<(), AttachError> {
        self.link = link(ebpf, self.way).map_err(|reason| AttachError {
            hook: self.hook,
            gives: "what it gave before",
            reason: HookError::Ways(vec![WayError { way: self.way, reason }]),
        })?;
        Ok(())
    }
}

/// How attaching a hook went.
#[derive(Debug)]
pub struct Probe {
    /// The hook.
    pub hook: &'static Hook,
    /// The way that the kernel took, or why it took none.
    pub result: Result<Attach, HookError>,
}

/// How loading and attaching one program went.
#[derive(Debug)]
pub struct WayProbe {
    /// Name of the hook.
    pub hook: &'static str,
    /// The way, and by it the program.
    pub way: Attach,
    /// Instructions that the verifier followed, where the kernel reports them (5.16 and later), or why the
    /// kernel refused it.
    pub result: Result<Option<u32>, Refusal>,
    /// How long the kernel took to check and load the program, or to refuse it.
    pub load_time: Duration,
    /// What the program needs and the kernel lacks: it cannot be loaded or attached then.
    pub lacks: Option<&'static str>,
}

/// Which of a hook's ways are tried, and in which order.
pub(super) type Ways = fn(&'static Hook) -> &'static [Attach];

/// Attaches the hooks of one time; those that are not needed as far as the kernel lets.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    btf: &Btf,
    types: &KernelTypes,
    (hooks, when): (&'static [Hook], When),
    ways: Ways,
) -> Result<Vec<Attached>, AttachError> {
    let mut attached = Vec::new();
    for hook in hooks.iter().filter(|hook| hook.when == when) {
        match attach(ebpf, hook, ways(hook), btf, types) {
            Ok((way, link)) => attached.push(Attached { hook: hook.name, way, link }),
            Err(reason) if hook.needed => {
                return Err(AttachError { hook: hook.name, gives: hook.gives, reason });
            }
            Err(reasons) => tracing::warn!(hook = hook.name, %reasons, "optional hook not attached"),
        }
    }
    Ok(attached)
}

/// Loads the programs of the hooks of a later time: when that has come, this process may have given up the
/// privilege. By all of its ways: which of them can be attached follows from the module that is there then.
/// What the kernel refuses is said now; such a hook is refused when it is to be attached.
pub(super) fn load_all(
    ebpf: &mut Ebpf,
    types: &KernelTypes,
    (hooks, when): (&'static [Hook], When),
    ways: Ways,
) {
    for hook in hooks.iter().filter(|hook| hook.when == when) {
        let mut refused = Vec::new();
        for &way in ways(hook) {
            if let Err(reason) = load(ebpf, way, types) {
                refused.push(WayError { way, reason });
            }
        }
        if refused.len() == ways(hook).len() {
            let reasons = HookError::Ways(refused);
            tracing::warn!(hook = hook.name, %reasons, "a hook is not loaded that guests would need");
        }
    }
}

pub(super) fn probe(ebpf: &mut Ebpf, hook: &'static Hook, btf: &Btf, types: &KernelTypes) -> Probe {
    Probe { hook, result: attach(ebpf, hook, hook.ways, btf, types).map(|(way, _)| way) }
}

pub(super) fn probe_way(
    ebpf: &mut Ebpf,
    hook: &'static str,
    way: Attach,
    btf: &Btf,
    types: &KernelTypes,
) -> WayProbe {
    // They are read once for all programs: that is not this one's time. Where they cannot be read, loading
    // says so.
    drop(types.get());
    let began = Instant::now();
    let loaded = load(ebpf, way, types);
    let load_time = began.elapsed();
    let result = loaded.and_then(|()| {
        let _link = link(ebpf, way)?;
        Ok(program(ebpf, way)?.info().ok().and_then(|info| info.verified_instruction_count()))
    });
    WayProbe { hook, way, result, load_time, lacks: way.lacks(btf) }
}

fn attach(
    ebpf: &mut Ebpf,
    hook: &Hook,
    ways: &[Attach],
    btf: &Btf,
    types: &KernelTypes,
) -> Result<(Attach, Option<Link>), HookError> {
    (hook.shape)(btf)?;
    let mut refused = Vec::new();
    for &way in ways {
        let loaded = match way.lacks(btf) {
            Some(what) => Err(Refusal::Lacks(what)),
            None => load(ebpf, way, types),
        };
        match loaded.and_then(|()| link(ebpf, way)) {
            Ok(link) => return Ok((way, link)),
            Err(reason) => refused.push(WayError { way, reason }),
        }
    }
    Err(HookError::Ways(refused))
}

fn program(ebpf: &mut Ebpf, way: Attach) -> Result<&mut Program, Refusal> {
    let name = way.program();
    ebpf.program_mut(name).ok_or(Refusal::Missing(name))
}

fn load(ebpf: &mut Ebpf, way: Attach, types: &KernelTypes) -> Result<(), Refusal> {
    let program = program(ebpf, way)?;
    // A hook that comes and goes with the guests is loaded once.
    if program.fd().is_ok() {
        return Ok(());
    }
    let result = match way {
        Attach::BtfTracepoint { tracepoint, .. } => {
            let btf = types.get()?;
            <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(tracepoint, btf))
        }
        Attach::RawTracepoint { .. } => {
            <&mut RawTracePoint>::try_from(program).and_then(|program| program.load())
        }
        Attach::Iterator { over, .. } => {
            let btf = types.get()?;
            <&mut Iter>::try_from(program).and_then(|program| program.load(over, btf))
        }
    };
    result.map_err(|error| Refusal::of_load(way.program(), error))
}

fn link(ebpf: &mut Ebpf, way: Attach) -> Result<Option<Link>, Refusal> {
    let program = program(ebpf, way)?;
    let link: Result<Option<Link>, ProgramError> = match way {
        Attach::BtfTracepoint { .. } => <&mut BtfTracePoint>::try_from(program).and_then(|program| {
            let id = program.attach()?;
            Ok(Some(Box::new(program.take_link(id)?) as Link))
        }),
        Attach::RawTracepoint { tracepoint, .. } => {
            <&mut RawTracePoint>::try_from(program).and_then(|program| {
                let id = program.attach(tracepoint)?;
                Ok(Some(Box::new(program.take_link(id)?) as Link))
            })
        }
        // Each walk attaches it anew. Once here as well, so that a refusal is reported at the start.
        Attach::Iterator { .. } => <&mut Iter>::try_from(program).and_then(|program| {
            let id = program.attach()?;
            program.take_link(id)?;
            Ok(None)
        }),
    };
    link.map_err(|reason| Refusal::Attach { program: way.program(), reason })
}

impl Attach {
    /// Name of the program in the object.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::BtfTracepoint { program, .. }
            | Self::RawTracepoint { program, .. }
            | Self::Iterator { program, .. } => program,
        }
    }

    /// What the program needs and the kernel lacks: an argument of the tracepoint.
    #[must_use]
    pub fn lacks(self, btf: &Btf) -> Option<&'static str> {
        match self {
            // Of a module that does not publish its types it is not known.
            Self::RawTracepoint { tracepoint, reads, .. }
                if btf.tracepoint(tracepoint).is_ok_and(|passed| passed.len() < reads) =>
            {
                Some("argument that the program reads")
            }
            _ => None,
        }
    }

    /// The way, in the kernel's words.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BtfTracepoint { .. } => "tp_btf",
            Self::RawTracepoint { .. } => "raw_tracepoint",
            Self::Iterator { .. } => "iter",
        }
    }
}
