//! Running the walk over all threads.

use std::io::Read as _;

use aya::{Ebpf, programs::Iter};

use super::CollectError;

/// Name of the iterator program in the object.
const PROGRAM: &str = "walk_tasks";

/// One walk: a new instance of the iterator, read to its end. It prints nothing; what it finds lies in the maps.
pub(super) fn run(ebpf: &mut Ebpf) -> Result<(), CollectError> {
    let failed = |step: &str, error: String| CollectError::Walk(format!("{step}: {error}"));
    let program = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| failed("looking for the program", format!("the object has no {PROGRAM}")))?;
    let program =
        <&mut Iter>::try_from(program).map_err(|error| failed("taking the program", error.to_string()))?;
    let link = program.attach().map_err(|error| failed("attaching", error.to_string()))?;
    let link = program.take_link(link).map_err(|error| failed("taking the link", error.to_string()))?;
    let mut file = link.into_file().map_err(|error| failed("creating the iterator", error.to_string()))?;
    // The walk takes the scheduler's clock from the run queue of the CPU that it runs on: make it a fresh one.
    std::thread::yield_now();
    let mut nothing = [0; 64];
    loop {
        match file.read(&mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // A very long walk asks to be continued.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock
                ) => {}
            Err(error) => return Err(failed("reading", error.to_string())),
        }
    }
}
