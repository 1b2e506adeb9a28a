//! Which capabilities serving needs, and how the calling thread gives up the rest.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// Files of other users: what platforms keep of guests, certificates, the configuration.
pub(super) const FILES: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
/// Processes of other users.
const PROCESSES: CapabilitySet = CapabilitySet::SYS_PTRACE;
/// Making room for more guests: a map.
const ROOM: CapabilitySet = CapabilitySet::BPF;
/// Nice values of threads, where the limit of them could not be lifted.
pub(super) const PRIORITY: CapabilitySet = CapabilitySet::SYS_NICE;
/// Interfaces in other network namespaces.
pub(super) const NAMESPACES: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::NET_ADMIN);
/// Loading the programs and attaching them.
const LOADING: CapabilitySet = ROOM.union(CapabilitySet::PERFMON);

/// What of a thread's capabilities is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// For as long as the service lives.
    pub(super) serve: CapabilitySet,
    /// Until the programs are loaded.
    pub(super) load: CapabilitySet,
}

impl Needs {
    /// Of what is permitted, with what this service needs beside what each does. A systemd before 247 does not
    /// know `CAP_BPF` and drops it, and a kernel before 5.8 has none: `CAP_SYS_ADMIN` does as well there.
    pub(super) fn of(permitted: CapabilitySet, beside: CapabilitySet) -> Self {
        let either = |wanted: CapabilitySet| match permitted.contains(wanted) {
            true => wanted,
            false => wanted | CapabilitySet::SYS_ADMIN,
        };
        let serve = FILES | PROCESSES | beside | either(ROOM);
        Self { serve: serve & permitted, load: (serve | either(LOADING)) & permitted }
    }
}

/// Has the calling thread keep these, of which it has each, and no others.
pub(super) fn keep(kept: CapabilitySet) -> io::Result<()> {
    clear_ambient_capability_set()?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// Takes all but these from the calling thread's bounding set, which takes `CAP_SETPCAP`.
pub(super) fn bound(kept: CapabilitySet) -> io::Result<()> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // The kernel knows no more.
        let Ok(is_in) = capability_is_in_bounding_set(one) else { break };
        if is_in && !kept.contains(one) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

/// As capabilities(7) writes them.
pub(super) fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: CapabilitySet = CapabilitySet::all();
    const NONE: CapabilitySet = CapabilitySet::empty();

    #[test]
    fn the_needs_of_root_are_few() {
        let needs = Needs::of(ALL, NAMESPACES);
        assert_eq!(
            names(needs.serve),
            "CAP_DAC_READ_SEARCH CAP_NET_ADMIN CAP_SYS_PTRACE CAP_SYS_ADMIN CAP_BPF"
        );
        assert_eq!(needs.load, needs.serve | CapabilitySet::PERFMON);
        let needs = Needs::of(ALL, NONE);
        assert_eq!(names(needs.serve), "CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_BPF");
        assert_eq!(needs.load, needs.serve | CapabilitySet::PERFMON);
    }

    #[test]
    fn without_cap_bpf_the_capability_stays_that_does_as_well() {
        let needs = Needs::of(ALL.difference(LOADING), NONE);
        assert_eq!(names(needs.serve), "CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_SYS_ADMIN");
        assert_eq!(needs.load, needs.serve);
        let needs = Needs::of(ALL.difference(CapabilitySet::PERFMON), NONE);
        assert!(
            !needs.serve.contains(CapabilitySet::SYS_ADMIN) && needs.load.contains(CapabilitySet::SYS_ADMIN)
        );
    }

    #[test]
    fn what_is_not_permitted_is_not_asked_for() {
        let needs = Needs::of(CapabilitySet::BPF, NAMESPACES | PRIORITY);
        assert_eq!((needs.serve, needs.load), (CapabilitySet::BPF, CapabilitySet::BPF));
    }
}
