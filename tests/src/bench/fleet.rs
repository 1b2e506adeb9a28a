//! The guests of a whole host.

use anyhow::Result;

use crate::guest::{Guest, GuestConfig, tiny_vmm};
use crate::vmm::Load;

pub(super) const GUESTS: usize = 200;
pub(super) const VCPUS: u32 = 8;
/// Guests that start side by side.
const AT_ONCE: usize = 10;

/// Starts the guests, all with the same load. `before` is called before each, and what it returns lives until
/// the guest has begun.
pub(super) fn start_each<T>(load: Load, mut before: impl FnMut(usize) -> Result<T>) -> Result<Vec<Guest>> {
    let binary = tiny_vmm()?;
    let start = |n: usize| {
        let _held = before(n)?;
        Ok(Guest::start(&binary, &GuestConfig::new(format!("bench-{n}"), VCPUS, load))?)
    };
    (0..GUESTS).map(start).collect()
}

/// Starts the guests, all with the same load.
pub(super) fn start(load: Load) -> Result<Vec<Guest>> {
    let binary = tiny_vmm()?;
    let mut guests = Vec::new();
    while guests.len() < GUESTS {
        let names = (0..AT_ONCE).map(|n| format!("bench-{}", guests.len() + n));
        let starting: Result<Vec<_>, _> =
            names.map(|name| Guest::begin(&binary, &GuestConfig::new(name, VCPUS, load))).collect();
        for guest in starting? {
            guests.push(guest.wait()?);
        }
    }
    Ok(guests)
}
