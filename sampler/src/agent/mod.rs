//! The sampler at work: a thread that samples, what starts it, and where its snapshots go.

mod bpf_log;
mod driver;
mod rhythm;
mod sampling;
mod sinks;
mod start;

pub use bpf_log::BpfLog;
pub use driver::Driver;
pub use sampling::{Panicked, Sampling, Schedule};
pub use sinks::{Sink, SinkCounts, Sinks};
pub use start::{
    Opened, Opener, SETTLE, SOURCE, StartOptions, begin, load, obstacles, open, options, settle,
    shortcomings, start,
};
