//! Test harness of hvsampler.
