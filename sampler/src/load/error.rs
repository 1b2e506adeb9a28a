//! What can stand in the way of programs, stage by stage. Each names the member, map, program or hook.

use std::io;

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use super::{
    causes::Causes,
    hooks::{Attach, TracepointError},
    offsets::ShapeError,
    section::SectionError,
};
use crate::kernel::btf::{BtfError, VMLINUX};

/// Why the programs could not be put to work.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel's types could not be read.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel's types are not as the programs need them.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The object was refused: most often the maps could not be created.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A variable of the programs cannot be set.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// A hook that is needed could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// Why the object with its maps was refused.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The kernel did not make a map.
    #[error("loading the eBPF object: map {map} cannot be created: {reason}")]
    Map {
        /// The map.
        map: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The programs write no log where it is looked for.
    #[error("reading the eBPF programs' messages: {0}")]
    Messages(aya_log::Error),
    /// There is no descriptor left for what was loaded.
    #[error("keeping what was loaded: {0}")]
    Descriptors(io::Error),
    /// Anything else: the object is not as the loader expects it.
    #[error("loading the eBPF object: {}", Causes(.0))]
    Other(EbpfError),
}

impl From<EbpfError> for ObjectError {
    fn from(error: EbpfError) -> Self {
        match error {
            EbpfError::MapError(MapError::CreateError { name, io_error }) => {
                Self::Map { map: name, reason: io_error }
            }
            other => Self::Other(other),
        }
    }
}

/// A needed hook that no way attached.
#[derive(Debug, thiserror::Error)]
#[error("hook {hook} cannot be attached (it gives {gives}): {reason}")]
pub struct AttachError {
    /// Name of the hook.
    pub hook: &'static str,
    /// What is lost without it.
    pub gives: &'static str,
    /// Why.
    pub reason: HookError,
}

/// Why a hook could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The kernel passes something else than the programs expect.
    #[error(transparent)]
    Shape(#[from] TracepointError),
    /// The kernel took none of the ways that were tried.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Ways(Vec<WayError>),
}

/// Why one way to attach a hook was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .way.label())]
pub struct WayError {
    /// The way, and by it the program.
    pub way: Attach,
    /// At which stage it failed, and why.
    pub reason: Refusal,
}

/// The stage at which a program was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The kernel lacks what the program needs: it was not tried.
    #[error("the kernel has no {0}")]
    Lacks(&'static str),
    /// The object has no such program.
    #[error("the object has no program {0}")]
    Missing(&'static str),
    /// It was not loaded when there was the privilege to; why, the log has said then.
    #[error("program {0} is not loaded")]
    NotLoaded(&'static str),
    /// The kernel's types, which the program is loaded by, cannot be read.
    #[error("{VMLINUX}: {0}")]
    Types(aya::BtfError),
    /// The verifier refused it.
    #[error("the kernel refused program {program}: {reason}; end of the verifier's log: {log}")]
    Verifier {
        /// The program.
        program: &'static str,
        /// What the system said.
        reason: io::Error,
        /// The end of the log, where it says what was refused.
        log: String,
    },
    /// It could not be loaded for another reason.
    #[error("loading program {program}: {}", Causes(.reason))]
    Load {
        /// The program.
        program: &'static str,
        /// Why.
        reason: ProgramError,
    },
    /// It was loaded, and could not be attached.
    #[error("attaching program {program}: {reason}")]
    Attach {
        /// The program.
        program: &'static str,
        /// What the system said.
        reason: io::Error,
    },
}

impl Refusal {
    /// Characters of the verifier's log that are kept.
    const LOG_TAIL: usize = 1500;

    pub(super) fn of_load(program: &'static str, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                tracing::debug!(program, %verifier_log, "the verifier's whole log");
                Self::Verifier { program, reason: io_error, log: tail(&verifier_log.to_string()).to_owned() }
            }
            reason => Self::Load { program, reason },
        }
    }
}

fn tail(log: &str) -> &str {
    let start = log.char_indices().rev().nth(Refusal::LOG_TAIL).map_or(0, |(at, _)| at);
    &log[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Attach =
        Attach::RawTracepoint { program: "some_program", tracepoint: "some_tracepoint", reads: 0 };

    #[test]
    fn a_map_that_cannot_be_created_is_named_with_the_kernel_s_reason() {
        let io_error = io::Error::from_raw_os_error(libc::ENOMEM);
        let error = EbpfError::MapError(MapError::CreateError { name: "SLOTS".to_owned(), io_error });
        let text = LoadError::from(ObjectError::from(error)).to_string();
        assert!(
            text.starts_with("loading the eBPF object: map SLOTS cannot be created: Cannot alloc"),
            "{text}"
        );
    }

    #[test]
    fn a_hook_that_no_way_attached_names_each_program_and_stage() {
        let refused = |reason| WayError { way: WAY, reason };
        let not_attached = io::Error::from_raw_os_error(libc::ENOENT);
        let error = AttachError {
            hook: "some hook",
            gives: "something",
            reason: HookError::Ways(vec![
                refused(Refusal::Lacks("argument")),
                refused(Refusal::Attach { program: "some_program", reason: not_attached }),
            ]),
        };
        assert_eq!(
            error.to_string(),
            "hook some hook cannot be attached (it gives something): raw_tracepoint: the kernel has no argument; \
             raw_tracepoint: attaching program some_program: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn of_the_verifiers_log_the_end_is_kept() {
        let log = format!("{}é the end", "x".repeat(2 * Refusal::LOG_TAIL));
        assert!(tail(&log).ends_with("é the end"));
        assert_eq!(tail(&log).chars().count(), Refusal::LOG_TAIL + 1);
        assert_eq!(tail("short"), "short");
    }
}
