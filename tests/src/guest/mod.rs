//! A guest as a process: the tiny VMM started, watched and ended from outside.
//!
//! The kernel kills a guest when the *thread* that started it ends: start guests from a thread that lives
//! as long as they shall.

mod process;
mod ready;
pub(crate) mod strays;

pub(crate) use process::Starting;
pub use process::{Ending, Guest, GuestConfig, GuestError, Guests, tiny_vmm};
pub use ready::{Ready, ReadyError, ReadyVcpu};
