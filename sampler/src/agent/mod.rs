//! The sampler at work: a thread that samples, and what starts it.

mod bpf_log;
mod driver;
mod sampling;
mod start;

pub use bpf_log::BpfLog;
pub use driver::Driver;
pub use sampling::{Sampling, Schedule};
pub use start::{Opened, StartOptions, obstacles, open, options, settle, start};
