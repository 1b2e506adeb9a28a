//! The sampler at work: a thread that samples, and what starts it.

mod bpf_log;
mod follower;
mod sampling;
mod start;

pub use bpf_log::BpfLog;
pub use follower::Follower;
pub use sampling::{Sampling, Schedule};
pub use start::{obstacles, options, start};
