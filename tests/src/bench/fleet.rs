//! The guests of a whole host.

use anyhow::Result;

use crate::guest::{Guest, GuestConfig, Guests, tiny_vmm};
use crate::vmm::Load;

pub(super) const GUESTS: usize = 200;
pub(super) const VCPUS: u32 = 8;

/// Starts so many guests, all with the same load. `before` is called before each, and what it returns lives
/// until the guest has begun.
pub(super) fn start_each<T>(
    guests: usize,
    load: Load,
    mut before: impl FnMut(usize) -> Result<T>,
) -> Result<Vec<Guest>> {
    let binary = tiny_vmm()?;
    let start = |n: usize| {
        let _held = before(n)?;
        Ok(Guest::start(&binary, &GuestConfig::new(format!("bench-{n}"), VCPUS, load))?)
    };
    (0..guests).map(start).collect()
}

/// Starts the guests, all with the same load.
pub(super) fn start(load: Load) -> Result<Guests> {
    let config = |n| GuestConfig::new(format!("bench-{n}"), VCPUS, load);
    Ok(Guests::side_by_side(&tiny_vmm()?, (0..GUESTS).map(config))?)
}
