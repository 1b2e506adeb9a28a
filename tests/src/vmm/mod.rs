//! A tiny KVM virtual machine monitor: guests of a few bytes whose vCPUs burn, sleep, halt or exit as a test
//! asks for.
//!
//! A [`Vm`] has one memory slot with a handful of 16-bit instructions (see `program`), and one thread for
//! each vCPU, as every KVM VMM has. It needs no guest operating system and no device, so a host can have
//! hundreds of them. x86-64; where KVM cannot run real mode natively it emulates it, which changes how long
//! an instruction takes and nothing else.
//!
//! # Halting
//! Who puts a halted vCPU to sleep depends on who owns the interrupt controller ([`HaltIn`]): the kernel,
//! inside `KVM_RUN`, as with every VMM of production, or the VMM, after an exit to user space. The first
//! thread sleeps inside a vCPU ioctl, the second outside of one.

mod config;
mod error;
mod load;
mod page;
mod program;
mod relay;
mod turns;
mod vcpu;
mod vm;

pub use config::{HaltIn, VcpuConfig, VmConfig};
pub use error::VmmError;
pub use load::{Load, LoadError};
pub use page::Page;
pub use program::take_page_away;
pub use relay::Relay;
pub use turns::Turns;
pub use vcpu::VcpuInfo;
pub use vm::{Unused, Vm, available};
