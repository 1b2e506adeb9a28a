//! Attaching one hook, by the first of its ways that the kernel takes.

use std::{
    cell::OnceCell,
    ffi::CString,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{BtfTracePoint, Iter, Program, RawTracePoint},
};

use super::{
    error::{AttachError, HookError, Refusal, WayError},
    hooks::{Attach, Hook, When},
    object::Object,
};
use crate::kernel::{bpf, btf::Btf, descriptors::Part};

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
    /// Closing it detaches the program. An iterator has none: it is attached anew for each walk.
    link: Option<OwnedFd>,
}

impl Attached {
    /// What attaches the program; an iterator, and a hook that is paused, has nothing.
    #[must_use]
    pub fn link(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(OwnedFd::as_fd)
    }

    pub(super) fn named_link(&self) -> Option<(Part, BorrowedFd<'_>)> {
        Some((Part::Link(self.way.program().to_owned()), self.link()?))
    }

    /// Detaches the program and keeps it loaded.
    pub fn pause(&mut self) {
        self.link = None;
    }

    /// Attaches the program again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resume(&mut self, object: &Object) -> Result<(), AttachError> {
        self.link = link_loaded(object, self.way).map_err(|reason| AttachError {
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

/// Loads the programs of the hooks of one time and attaches them; those that are not needed as far as the
/// kernel lets.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    btf: &Btf,
    types: &KernelTypes,
    (hooks, when): (&'static [Hook], When),
    ways: Ways,
) -> Result<Vec<Attached>, AttachError> {
    each_of((hooks, when), |hook| attach(ebpf, hook, ways(hook), btf, types))
}

/// The same with programs that are loaded.
pub(super) fn attach_loaded(
    object: &Object,
    btf: &Btf,
    of: (&'static [Hook], When),
) -> Result<Vec<Attached>, AttachError> {
    each_of(of, |hook| first_of(hook, hook.ways, btf, |way| link_loaded(object, way)))
}

fn each_of(
    (hooks, when): (&'static [Hook], When),
    mut attach: impl FnMut(&'static Hook) -> Result<(Attach, Option<OwnedFd>), HookError>,
) -> Result<Vec<Attached>, AttachError> {
    let mut attached = Vec::new();
    for hook in hooks.iter().filter(|hook| hook.when == when) {
        match attach(hook) {
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
        let _link = link(fd_of(ebpf, way)?, way)?;
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
) -> Result<(Attach, Option<OwnedFd>), HookError> {
    first_of(hook, ways, btf, |way| {
        load(ebpf, way, types)?;
        link(fd_of(ebpf, way)?, way)
    })
}

/// Attaches by the first of these ways that the kernel takes.
fn first_of(
    hook: &Hook,
    ways: &[Attach],
    btf: &Btf,
    mut attach: impl FnMut(Attach) -> Result<Option<OwnedFd>, Refusal>,
) -> Result<(Attach, Option<OwnedFd>), HookError> {
    (hook.shape)(btf)?;
    let mut refused = Vec::new();
    for &way in ways {
        let link = match way.lacks(btf) {
            Some(what) => Err(Refusal::Lacks(what)),
            None => attach(way),
        };
        match link {
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

/// The descriptor of a program that was just loaded.
fn fd_of(ebpf: &mut Ebpf, way: Attach) -> Result<BorrowedFd<'_>, Refusal> {
    let program = program(ebpf, way)?;
    let not_loaded = |reason| Refusal::Load { program: way.program(), reason };
    Ok(program.fd().map_err(not_loaded)?.as_fd())
}

fn link_loaded(object: &Object, way: Attach) -> Result<Option<OwnedFd>, Refusal> {
    let name = way.program();
    link(object.program(name).ok_or(Refusal::NotLoaded(name))?, way)
}

fn link(program: BorrowedFd<'_>, way: Attach) -> Result<Option<OwnedFd>, Refusal> {
    let link = match way {
        Attach::BtfTracepoint { .. } => bpf::open_tracepoint(None, program).map(Some),
        Attach::RawTracepoint { tracepoint, .. } => CString::new(tracepoint)
            .map_err(io::Error::from)
            .and_then(|name| bpf::open_tracepoint(Some(&name), program))
            .map(Some),
        // Each walk attaches it anew. Once here as well, so that a refusal is reported at the start.
        Attach::Iterator { .. } => bpf::attach_iterator(program, None).map(|_| None),
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
