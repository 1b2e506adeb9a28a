//! The sampler at work: a thread that samples, and the tasks that carry its snapshots away.

mod sampling;

pub use sampling::{Sampling, Schedule};
