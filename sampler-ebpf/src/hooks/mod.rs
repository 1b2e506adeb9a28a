//! One file per subsystem. Each program has the prototype of what it hooks in a comment and a body of bounded
//! length.

#[cfg(feature = "bench-programs")]
mod baseline;
mod block;
mod core_scheduling;
mod counts;
mod kvm;
mod lifecycle;
mod modes;
mod occupancy;
mod quota;
mod sched;
mod slot;
#[cfg(feature = "bench-programs")]
mod stopwatch;
mod timeline;
mod walk;
