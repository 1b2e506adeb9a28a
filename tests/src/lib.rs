//! Test harness of hvsampler.

pub mod bench;
