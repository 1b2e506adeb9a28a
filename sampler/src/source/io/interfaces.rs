//! From what the kernel counts of interfaces to those of guests.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    collect::network::{FoundInterface, FoundInterfaces, LinkCounts, Links, Moment, TapKind},
    model::{Interface, InterfaceCounts, VmKey},
};

/// An interface of a guest.
#[derive(Debug)]
struct Known {
    found: FoundInterface,
    /// Absent before the first reading.
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    /// What had been counted when the counts began.
    before: InterfaceCounts,
    /// What has been counted now.
    now: InterfaceCounts,
    /// When, by `CLOCK_MONOTONIC` in ns.
    monotonic_ns: u64,
    shown: Interface,
}

/// The interfaces of all guests.
#[derive(Debug, Default)]
pub(in crate::source) struct Interfaces {
    guests: BTreeMap<VmKey, Vec<Known>>,
    unseen: BTreeSet<VmKey>,
}

impl Interfaces {
    /// The interfaces that a guest has now. One that is known goes on, unless it has another name.
    pub(in crate::source) fn found(
        &mut self,
        guest: VmKey,
        FoundInterfaces { all, is_partial }: FoundInterfaces,
    ) {
        let known = self.guests.entry(guest).or_default();
        let mut before = std::mem::take(known);
        known.extend(all.into_iter().map(|found| {
            let same = before.iter().position(|known| known.found == found);
            same.map_or(Known { found, reading: None }, |at| before.swap_remove(at))
        }));
        if is_partial {
            before.retain(|before| known.iter().all(|known| known.found.id != before.found.id));
            known.append(&mut before);
            self.unseen.insert(guest);
        }
    }

    /// Nobody could look for a guest's interfaces.
    pub(in crate::source) fn unseen(&mut self, guest: VmKey) {
        self.unseen.insert(guest);
    }

    /// Guests whose interfaces are to be looked for again.
    pub(in crate::source) fn take_unseen(&mut self) -> BTreeSet<VmKey> {
        std::mem::take(&mut self.unseen)
    }

    /// Forgets guests that have ended.
    pub(in crate::source) fn retain(&mut self, mut lives: impl FnMut(VmKey) -> bool) {
        self.guests.retain(|guest, _| lives(*guest));
    }

    /// The network namespaces that they are in.
    #[must_use]
    pub(in crate::source) fn namespaces(&self) -> BTreeSet<u64> {
        self.guests.values().flatten().map(|known| known.found.id.namespace).collect()
    }

    /// Takes in what the kernel has counted. The counts of an interface begin when it is read first; one
    /// whose counts fall counts anew.
    pub(in crate::source) fn read(&mut self, links: &Links) {
        for known in self.guests.values_mut().flatten() {
            if let Some((counts, at)) = links.get(&known.found.id) {
                known.read(of_guest(counts, known.found.kind), *at);
            }
        }
    }

    /// Those of a guest that were read.
    #[must_use]
    pub(in crate::source) fn shown(&self, guest: VmKey) -> Vec<Interface> {
        let known = self.guests.get(&guest).into_iter().flatten();
        known.filter_map(|known| Some(known.reading.as_ref()?.shown.clone())).collect()
    }

    /// What was shown is not new any more.
    pub(in crate::source) fn are_shown(&mut self) {
        for reading in self.guests.values_mut().flatten().filter_map(|known| known.reading.as_mut()) {
            reading.shown.is_new = false;
        }
    }
}

impl Known {
    fn read(&mut self, now: InterfaceCounts, at: Moment) {
        let at_unix_ns = at.unix_ns;
        if let Some(reading) = &mut self.reading
            && let Some(added) = now.since(&reading.now)
            && let Some(counts) = now.since(&reading.before)
        {
            let passed_ns = at.monotonic_ns.saturating_sub(reading.monotonic_ns);
            (reading.now, reading.monotonic_ns) = (now, at.monotonic_ns);
            let added = Some((added, passed_ns));
            reading.shown = Interface { counts, added, at_unix_ns, is_new: true, ..reading.shown.clone() };
            return;
        }
        let FoundInterface { id, name, .. } = &self.found;
        let shown = Interface {
            id: (id.namespace, id.index),
            name: name.as_str().into(),
            since_unix_ns: at_unix_ns,
            counts: InterfaceCounts::default(),
            added: None,
            at_unix_ns,
            is_new: true,
        };
        self.reading = Some(Reading { before: now, now, monotonic_ns: at.monotonic_ns, shown });
    }
}

/// What the host counts, as the guest sees it.
const fn of_guest(counts: &LinkCounts, kind: TapKind) -> InterfaceCounts {
    let received =
        [counts.received_bytes, counts.received_packets, counts.receive_dropped, counts.receive_errors];
    let sent = [counts.sent_bytes, counts.sent_packets, counts.send_dropped, counts.send_errors];
    let (into, out) = match kind {
        TapKind::Tap => (sent, received),
        TapKind::Macvtap => (received, sent),
    };
    InterfaceCounts {
        bytes: [into[0], out[0]],
        packets: [into[1], out[1]],
        dropped: [into[2], out[2]],
        errors: [into[3], out[3]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::network::InterfaceId;

    const GUEST: VmKey = VmKey::new([1, 1]);
    const ID: InterfaceId = InterfaceId { namespace: 9, index: 4 };

    fn tap(name: &str) -> FoundInterface {
        FoundInterface { id: ID, name: name.into(), kind: TapKind::Tap }
    }

    fn found(names: &[&str]) -> FoundInterfaces {
        FoundInterfaces { all: names.iter().map(|name| tap(name)).collect(), is_partial: false }
    }

    fn sent(bytes: u64, at_unix_ns: u64) -> Links {
        let counts = LinkCounts { sent_bytes: bytes, received_bytes: 7, ..LinkCounts::default() };
        // The host's clock goes twice as fast as it should.
        let at = Moment { unix_ns: at_unix_ns, monotonic_ns: at_unix_ns / 2 };
        Links::from([(ID, (counts, at))])
    }

    fn shown(interfaces: &Interfaces) -> (u64, u64, u64, bool) {
        let [interface] = interfaces.shown(GUEST).try_into().unwrap();
        (interface.since_unix_ns, interface.at_unix_ns, interface.counts.bytes[0], interface.is_new)
    }

    #[test]
    fn counts_begin_with_the_first_reading_and_each_is_new_once() {
        let mut interfaces = Interfaces::default();
        interfaces.found(GUEST, found(&["tap0"]));
        assert!(interfaces.shown(GUEST).is_empty(), "nothing was read");
        interfaces.read(&sent(100, 50));
        assert_eq!(shown(&interfaces), (50, 50, 0, true));
        interfaces.are_shown();
        interfaces.found(GUEST, found(&["tap0"]));
        assert_eq!(shown(&interfaces), (50, 50, 0, false));
        interfaces.read(&Links::new());
        assert_eq!(shown(&interfaces), (50, 50, 0, false), "it was not among them");
        interfaces.read(&sent(130, 60));
        assert_eq!(shown(&interfaces), (50, 60, 30, true));
    }

    #[test]
    fn the_length_between_readings_is_no_matter_of_the_host_s_clock() {
        let mut interfaces = Interfaces::default();
        interfaces.found(GUEST, found(&["tap0"]));
        interfaces.read(&sent(100, 50));
        interfaces.read(&sent(130, 60));
        let (added, passed_ns) = interfaces.shown(GUEST)[0].added.unwrap();
        assert_eq!((added.bytes[0], passed_ns), (30, 5));
    }

    #[test]
    fn what_could_not_be_looked_at_goes_on_and_is_looked_for_again() {
        let mut interfaces = Interfaces::default();
        interfaces.found(GUEST, found(&["tap0"]));
        interfaces.read(&sent(100, 50));
        interfaces.found(GUEST, FoundInterfaces { all: Vec::new(), is_partial: true });
        interfaces.read(&sent(130, 60));
        assert_eq!(shown(&interfaces), (50, 60, 30, true));
        assert_eq!(interfaces.take_unseen(), BTreeSet::from([GUEST]));
        interfaces.unseen(GUEST);
        assert_eq!(interfaces.take_unseen(), BTreeSet::from([GUEST]));
        let renamed = FoundInterfaces { all: vec![tap("web")], is_partial: true };
        interfaces.found(GUEST, renamed);
        assert!(interfaces.shown(GUEST).is_empty(), "the one it was is known not to be there");
    }

    #[test]
    fn counts_that_fall_begin_anew() {
        let mut interfaces = Interfaces::default();
        interfaces.found(GUEST, found(&["tap0"]));
        interfaces.read(&sent(100, 50));
        interfaces.read(&sent(150, 60));
        interfaces.read(&sent(120, 70));
        assert_eq!(shown(&interfaces), (70, 70, 0, true));
    }

    #[test]
    fn an_index_that_is_used_again_has_nothing_of_the_one_before() {
        let mut interfaces = Interfaces::default();
        interfaces.found(GUEST, found(&["tap0"]));
        interfaces.read(&sent(100, 50));
        interfaces.read(&sent(150, 60));
        // Nobody has looked yet that another one has it.
        interfaces.read(&sent(5, 70));
        assert_eq!(shown(&interfaces), (70, 70, 0, true));
        interfaces.found(GUEST, found(&["tap1"]));
        interfaces.read(&sent(8, 80));
        assert_eq!(shown(&interfaces), (80, 80, 0, true));
        assert_eq!(&*interfaces.shown(GUEST)[0].name, "tap1");
    }

    #[test]
    fn another_name_or_place_is_another_interface() {
        let mut interfaces = Interfaces::default();
        interfaces.found(GUEST, found(&["tap0"]));
        interfaces.read(&sent(100, 50));
        interfaces.found(GUEST, found(&["web"]));
        interfaces.read(&sent(130, 60));
        assert_eq!(shown(&interfaces), (60, 60, 0, true));
        assert_eq!(&*interfaces.shown(GUEST)[0].name, "web");
        assert_eq!(interfaces.namespaces(), BTreeSet::from([9]));
        interfaces.found(GUEST, found(&[]));
        assert!(interfaces.shown(GUEST).is_empty() && interfaces.namespaces().is_empty());
    }

    #[test]
    fn what_a_tap_sends_the_guest_receives_and_what_a_macvtap_receives() {
        let counts =
            LinkCounts { received_packets: 1, sent_packets: 2, send_dropped: 3, ..LinkCounts::default() };
        let of = |kind| of_guest(&counts, kind);
        assert_eq!((of(TapKind::Tap).packets, of(TapKind::Tap).dropped), ([2, 1], [3, 0]));
        assert_eq!((of(TapKind::Macvtap).packets, of(TapKind::Macvtap).dropped), ([1, 2], [0, 3]));
    }

    #[test]
    fn guests_that_have_ended_are_forgotten() {
        let mut interfaces = Interfaces::default();
        interfaces.found(GUEST, found(&["tap0"]));
        interfaces.retain(|_| false);
        assert!(interfaces.namespaces().is_empty());
    }
}
