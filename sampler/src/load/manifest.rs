//! What a set of descriptors has to be so that it is all that one load left in the kernel, and nothing else.
//!
//! A process that is given descriptors knows them by names, which anybody may have chosen. So what the kernel
//! says of each is held against what it said when they were new.

mod bytes;

use std::{collections::BTreeMap, mem::discriminant, os::fd::BorrowedFd};

use sampler_ebpf::abi::{MEMBERS, Offsets};

use super::{Attach, HOOKS, Hook, Loaded, OBJECT, When};
use crate::kernel::{
    bpf::{self, Info, InfoError, LinkInfo, MapInfo, ProgramInfo},
    descriptors::{Part, Token},
};

pub use bytes::MOST_BYTES;

/// What the kernel says of each descriptor of a set.
pub type Found = BTreeMap<Part, Result<Info, InfoError>>;

/// Asks the kernel of each.
pub fn ask<'f>(descriptors: impl IntoIterator<Item = (Part, BorrowedFd<'f>)>) -> Found {
    descriptors.into_iter().map(|(part, fd)| (part, bpf::info(fd))).collect()
}

/// What a set was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of the object with the programs, as bytes of it are hashed here.
    pub object: u64,
    /// The host's boot.
    pub boot_id: [u8; 16],
    /// As [`Loaded::offsets`].
    pub offsets: Offsets,
    /// As [`Loaded::switches_report`].
    pub switches_report: bool,
    /// As [`Loaded::flush_sequence`].
    pub flush_sequence: u32,
    /// As [`Loaded::possible_cpus`].
    pub possible_cpus: u32,
}

impl Origin {
    /// Of what was loaded of this binary's object, in this boot.
    #[must_use]
    pub fn of(loaded: &Loaded, boot_id: [u8; 16]) -> Self {
        let Loaded { offsets, switches_report, flush_sequence, possible_cpus, .. } = *loaded;
        let object = bytes::hash(OBJECT);
        Self { object, boot_id, offsets, switches_report, flush_sequence, possible_cpus }
    }

    /// What is not the same.
    fn compare(&self, now: &Self) -> Result<(), Difference> {
        if self.boot_id != now.boot_id {
            return Err(Difference::Boot);
        }
        if self.object != now.object {
            return Err(Difference::Object);
        }
        match self.constants().zip(now.constants()).find(|((_, was), (_, is))| was != is) {
            Some(((what, was), (_, is))) => Err(Difference::Constant { what, was, is }),
            None => Ok(()),
        }
    }

    /// What the verifier took for constant, by words for it.
    fn constants(&self) -> impl Iterator<Item = (String, u32)> {
        let others = [
            ("who reports births and deaths", u32::from(self.switches_report)),
            ("flag of requests in the middle of a sequence with flushes", self.flush_sequence),
            ("CPUs that may come online", self.possible_cpus),
        ];
        let offset = |(n, at): (usize, &u32)| {
            let member = &MEMBERS[n];
            (format!("offset of {}.{}", member.container, member.path), *at)
        };
        let offsets = self.offsets.at.iter().enumerate().map(offset);
        others.into_iter().map(|(what, value)| (what.to_owned(), value)).chain(offsets)
    }
}

/// A hook that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRow {
    /// Its name.
    pub hook: String,
    /// The program, and by it the way that the kernel took.
    pub program: String,
    /// What attaches it. An iterator has none.
    pub link: Option<LinkInfo>,
}

impl HookRow {
    /// The hook and the way, where this version has both.
    #[must_use]
    pub fn way(&self) -> Option<(&'static Hook, Attach)> {
        let hook = HOOKS.iter().find(|hook| hook.name == self.hook && hook.when == When::Start)?;
        let way = hook.ways.iter().find(|way| way.program() == self.program)?;
        Some((hook, *way))
    }
}

/// All of a set that does not change until it is unloaded. Segments of slots and links of KVM's hooks come
/// and go, so they are not in here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which set it is of.
    pub token: Token,
    /// What the set was made from.
    pub origin: Origin,
    /// Maps by name.
    pub maps: BTreeMap<String, MapInfo>,
    /// Programs by name.
    pub programs: BTreeMap<String, ProgramInfo>,
    /// The hooks that are attached from the start on.
    pub hooks: Vec<HookRow>,
}

/// Why a set of descriptors cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The host was booted since.
    #[error("it is of another boot of this host")]
    Boot,
    /// The programs are not those of this binary.
    #[error("it has the programs of another version")]
    Object,
    /// Something that the programs take for constant has changed.
    #[error("{what}: it was loaded for {was}, now it would be {is}")]
    Constant {
        /// What.
        what: String,
        /// Its value in the set.
        was: u32,
        /// Its value now.
        is: u32,
    },
    /// This version has no such hook.
    #[error("it has program {program} attached for hook {hook}, which this version does not")]
    Hook {
        /// The hook.
        hook: String,
        /// The program.
        program: String,
    },
    /// It has no descriptor.
    #[error("{0} is missing")]
    Missing(Part),
    /// It is not known what it is.
    #[error("{part}: {reason}")]
    Unknown {
        /// What should have been there.
        part: Part,
        /// Why.
        reason: String,
    },
    /// It is of another kind.
    #[error("{part} is {is}")]
    Kind {
        /// What should have been there.
        part: Part,
        /// What is there.
        is: Info,
    },
    /// It is another one.
    #[error("{part}: {what} was {was}, is {is}")]
    Value {
        /// What should have been there.
        part: Part,
        /// What of it.
        what: &'static str,
        /// Its value when it was new.
        was: u64,
        /// Its value now.
        is: u64,
    },
    /// It was not there.
    #[error("{0} is one too many")]
    Surplus(Part),
}

impl Manifest {
    /// Of programs that were just loaded.
    ///
    /// # Errors
    /// What the kernel does not say what it is.
    pub fn of(loaded: &Loaded, token: Token, boot_id: [u8; 16]) -> Result<Self, Difference> {
        let (mut maps, mut programs, mut links) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (part, info) in ask(loaded.descriptors()) {
            let info = known(&part, Some(&info))?;
            match (part, info) {
                (Part::Map(name), Info::Map(info)) => _ = maps.insert(name, info),
                (Part::Program(name), Info::Program(info)) => _ = programs.insert(name, info),
                (Part::Link(name), Info::Link(info)) => _ = links.insert(name, info),
                (part, is) => return Err(Difference::Kind { part, is }),
            }
        }
        let row = |hook: &'static str, program: &'static str| HookRow {
            hook: hook.to_owned(),
            program: program.to_owned(),
            link: links.get(program).copied(),
        };
        let hooks = loaded.attached.iter().map(|attached| row(attached.hook, attached.way.program()));
        let (origin, hooks) = (Origin::of(loaded, boot_id), hooks.collect());
        Ok(Self { token, origin, maps, programs, hooks })
    }

    /// Holds a set against it. What comes and goes is not looked at: see [`Manifest`].
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, now: &Origin, found: &Found) -> Result<(), Difference> {
        self.origin.compare(now)?;
        if let Some(HookRow { hook, program, .. }) = self.hooks.iter().find(|row| row.way().is_none()) {
            return Err(Difference::Hook { hook: hook.clone(), program: program.clone() });
        }
        for (part, expected) in self.parts() {
            compare(&part, expected, known(&part, found.get(&part))?)?;
        }
        match found.keys().find(|part| !self.may_have(part)) {
            Some(part) => Err(Difference::Surplus(part.clone())),
            None => Ok(()),
        }
    }

    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        bytes::write(self)
    }

    /// From the begin of what was kept; `None` for what is no manifest, or one of another version.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes::read(bytes)
    }

    /// What has to be there.
    fn parts(&self) -> impl Iterator<Item = (Part, Info)> {
        let maps = self.maps.iter().map(|(name, info)| (Part::Map(name.clone()), Info::Map(*info)));
        let program =
            |(name, info): (&String, &ProgramInfo)| (Part::Program(name.clone()), Info::Program(*info));
        let link = |row: &HookRow| Some((Part::Link(row.program.clone()), Info::Link(row.link?)));
        maps.chain(self.programs.iter().map(program)).chain(self.hooks.iter().filter_map(link))
    }

    /// Whether a set may have this.
    fn may_have(&self, part: &Part) -> bool {
        match part {
            Part::Map(name) => self.maps.contains_key(name),
            Part::Program(name) => self.programs.contains_key(name),
            Part::Link(name) => {
                let is_its = |row: &HookRow| row.program == *name && row.link.is_some();
                self.hooks.iter().any(is_its) || is_of_guests(name)
            }
            Part::Segment(_) | Part::StateA | Part::StateB | Part::Manifest => true,
        }
    }
}

/// Whether a program is attached while there are guests.
fn is_of_guests(program: &str) -> bool {
    let mut hooks = HOOKS.iter().filter(|hook| hook.when == When::Guests);
    hooks.any(|hook| hook.ways.iter().any(|way| way.program() == program))
}

fn known(part: &Part, found: Option<&Result<Info, InfoError>>) -> Result<Info, Difference> {
    match found {
        Some(Ok(info)) => Ok(*info),
        Some(Err(error)) => Err(Difference::Unknown { part: part.clone(), reason: error.to_string() }),
        None => Err(Difference::Missing(part.clone())),
    }
}

fn compare(part: &Part, was: Info, is: Info) -> Result<(), Difference> {
    if discriminant(&was) != discriminant(&is) {
        return Err(Difference::Kind { part: part.clone(), is });
    }
    let mut pairs = values(was).into_iter().zip(values(is));
    match pairs.find(|((_, was), (_, is))| was != is) {
        Some(((what, was), (_, is))) => Err(Difference::Value { part: part.clone(), what, was, is }),
        None => Ok(()),
    }
}

/// All that is known of it, by words for it.
fn values(info: Info) -> Vec<(&'static str, u64)> {
    match info {
        Info::Map(MapInfo { kind, id, key_size, value_size, entries, flags }) => vec![
            ("type", kind.into()),
            ("number", id.into()),
            ("size of keys", key_size.into()),
            ("size of values", value_size.into()),
            ("number of entries", entries.into()),
            ("flags", flags.into()),
        ],
        Info::Program(ProgramInfo { kind, id, tag }) => {
            vec![("type", kind.into()), ("number", id.into()), ("tag", u64::from_be_bytes(tag))]
        }
        Info::Link(LinkInfo { kind, id, program }) => {
            vec![("type", kind.into()), ("number", id.into()), ("number of its program", program.into())]
        }
    }
}

#[cfg(test)]
mod tests;
