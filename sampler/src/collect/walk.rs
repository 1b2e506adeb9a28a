//! Running the walk over all threads.

use std::io::{self, Read as _};

use aya::{
    Ebpf,
    programs::{Iter, ProgramError, links::LinkError},
};

use crate::load::Causes;

/// Name of the iterator program in the object.
const PROGRAM: &str = "walk_tasks";

/// Why a walk could not be run.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The object has no such program, or one of another type.
    #[error(
        "walking over threads: the eBPF object has no iterator {PROGRAM}; program and loader were built from different sources"
    )]
    Missing,
    /// The kernel refused to attach the program.
    #[error("walking over threads: attaching program {PROGRAM}: {}", Causes(.0))]
    Attach(ProgramError),
    /// The kernel made no iterator of it.
    #[error("walking over threads: creating the iterator of program {PROGRAM}: {}", Causes(.0))]
    Create(LinkError),
    /// It ended early.
    #[error("walking over threads: reading from program {PROGRAM}: {0}")]
    Read(io::Error),
}

/// One walk: a new instance of the iterator, read to its end. It prints nothing; what it finds lies in the
/// maps.
pub(super) fn run(ebpf: &mut Ebpf) -> Result<(), WalkError> {
    let program = ebpf.program_mut(PROGRAM).ok_or(WalkError::Missing)?;
    let program = <&mut Iter>::try_from(program).map_err(|_| WalkError::Missing)?;
    let link = program.attach().map_err(WalkError::Attach)?;
    let link = program.take_link(link).map_err(WalkError::Attach)?;
    let mut file = link.into_file().map_err(WalkError::Create)?;
    // The walk takes the scheduler's clock from the run queue of the CPU that it runs on: make it a fresh
    // one.
    std::thread::yield_now();
    let mut nothing = [0; 64];
    loop {
        match file.read(&mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // A very long walk asks to be continued.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(WalkError::Read(error)),
        }
    }
}
