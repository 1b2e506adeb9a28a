//! The host that the sampler runs on.

use super::{super::host, Attribute, Entity, Of, Scope, Series, Start};
use crate::model::{HostState, Snapshot, Vm};

/// The host.
#[derive(Debug)]
pub struct HostEntity;

impl Entity for HostEntity {
    type Data = Snapshot;
    type Key = ();

    const NAME: &'static str = "the host";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[];
    const SERIES: &'static [Series<Snapshot>] = host::SERIES;
    const SCOPE: Scope = Scope::Host;

    fn of_vm(_: &Vm) -> impl Iterator<Item = &Snapshot> {
        std::iter::empty()
    }

    fn each(snapshot: &Snapshot) -> impl Iterator<Item = (Of<'_>, &Snapshot)> {
        std::iter::once((None, snapshot))
    }

    fn key(_: Of<'_>, _: &Snapshot) {}

    fn start(_: Of<'_>, _: &Snapshot, _: Start) -> u64 {
        0
    }

    fn attributes(_: Of<'_>, _: &Snapshot, _: &mut dyn FnMut(&'static str, Attribute<'_>)) {}
}

/// What the host does beside its guests.
#[derive(Debug)]
pub struct HostStateEntity;

impl Entity for HostStateEntity {
    type Data = HostState;
    type Key = ();

    const NAME: &'static str = "the host beside its guests, which is read from time to time";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[];
    const SERIES: &'static [Series<HostState>] = host::STATE_SERIES;
    const SCOPE: Scope = Scope::Host;
    const OWN_TIME: Option<&'static str> = Some("host_read_unix_ns");

    fn of_vm(_: &Vm) -> impl Iterator<Item = &HostState> {
        std::iter::empty()
    }

    fn each(snapshot: &Snapshot) -> impl Iterator<Item = (Of<'_>, &HostState)> {
        snapshot.host_state.iter().map(|state| (None, state))
    }

    fn key(_: Of<'_>, _: &HostState) {}

    fn start(_: Of<'_>, state: &HostState, start: Start) -> u64 {
        if start == Start::Boot { state.booted_unix_ns } else { 0 }
    }

    fn read_unix_ns(state: &HostState) -> Option<u64> {
        Some(state.at_unix_ns)
    }

    fn is_new(state: &HostState) -> bool {
        state.is_new
    }

    fn attributes(_: Of<'_>, _: &HostState, _: &mut dyn FnMut(&'static str, Attribute<'_>)) {}
}
