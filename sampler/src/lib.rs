//! hvsampler: an eBPF kernel-side hypervisor sampler.
//!
//! Data flows one way, and nothing imports to its left:
//! hooks → maps and ring → [`collect`] → [`source`] → [`model`] → [`export`].
//! [`kernel`] and [`load`] put the hooks in place.

pub mod agent;
pub mod audit;
pub mod cli;
pub mod collect;
pub mod command;
pub mod config;
pub mod duration;
pub mod export;
#[cfg(test)]
mod fuzzing;
pub mod kept;
pub mod kernel;
pub mod load;
pub mod lock;
pub mod model;
pub mod service;
pub mod source;
