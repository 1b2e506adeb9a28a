//! In which threads requests at disks end, as the kernel's own tracing has it: the event `block_rq_complete`,
//! in a buffer of ours. A request ends in an interrupt, and so in whatever thread has the CPU.

use std::path::Path;

use super::error::OracleError;
use super::trace::{Mistake, TraceBuffer, TracedEvent, events_of, head_of};

/// The buffer. Dropping it takes it away.
#[derive(Debug)]
pub struct BlockTrace(TraceBuffer);

impl BlockTrace {
    /// Starts recording; mounts tracefs on a directory of ours where nobody has mounted it.
    ///
    /// # Errors
    /// When it cannot be mounted, or the kernel does not have the event.
    pub fn start(directory: &Path) -> Result<Self, OracleError> {
        let event = TracedEvent { name: "block/block_rq_complete", filter: None };
        TraceBuffer::start(directory, "mono", &[event]).map(Self)
    }

    /// The threads in which requests ended so far: one for each request.
    ///
    /// # Errors
    /// When a line is not understood, or the buffer had no room for all.
    pub fn ended_in(&self) -> Result<Vec<u32>, OracleError> {
        self.0.read(parse)
    }
}

fn parse(text: &str) -> Result<Vec<u32>, Mistake> {
    let thread = |line: &str| Some(head_of(line.split_once(": block_rq_complete: ")?.0)?.tid);
    events_of(text)?.map(|line| thread(line).ok_or_else(|| ("no request ends", line.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_in_threads() {
        let text = "# entries-in-buffer/entries-written: 2/2   #P:2\n\
            ksoftirqd/1-22      [001] ..s.. 83801.466838: block_rq_complete: 7,0 RS () 48 + 8 be,0,4 [0]\n\
            a worker-75      [000] .Ns1. 83801.491939: block_rq_complete: 7,0 RS () 232 + 8 be,0,4 [0]\n";
        assert_eq!(parse(text).unwrap(), [22, 75]);
    }

    #[test]
    fn anything_else_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("# entries-in-buffer/entries-written: 1/1\n what is this\n").is_err());
    }
}
