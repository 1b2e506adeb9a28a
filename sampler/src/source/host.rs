//! From what is read of the host to what snapshots show of it, whichever hypervisor runs its guests. Pure.

use crate::model::{HostParts, HostState};

/// What is known of the host.
#[derive(Debug, Default)]
pub(super) struct HostReadings {
    parts: HostParts,
    /// These parts were asked about once.
    is_asked: bool,
    /// The last reading.
    shown: Option<HostState>,
    /// The highest values of what never falls.
    highest: HostState,
    /// When the host was booted, as it was at the first reading: a start never wavers.
    booted_unix_ns: Option<u64>,
    fell: u64,
}

impl HostReadings {
    /// Which parts are read from now on. Others are shown no longer.
    pub(super) fn set_parts(&mut self, parts: HostParts) {
        if self.parts != parts {
            (self.parts, self.is_asked, self.shown) = (parts, false, None);
        }
    }

    /// What is to be asked about, if anything is.
    pub(super) fn wanted(&self) -> Option<HostParts> {
        (self.parts != HostParts::NONE).then_some(self.parts)
    }

    /// The same, once: a first reading does not wait for the others.
    pub(super) fn take_due(&mut self) -> Option<HostParts> {
        let is_due = !std::mem::replace(&mut self.is_asked, true);
        self.wanted().filter(|_| is_due)
    }

    /// Takes in a reading of these parts. The host was booted at `booted_unix_ns`.
    pub(super) fn answer(&mut self, parts: HostParts, read: &HostState, booted_unix_ns: u64) {
        if parts != self.parts {
            // They have changed meanwhile.
            return;
        }
        let mut state = *read;
        state.booted_unix_ns = *self.booted_unix_ns.get_or_insert(booted_unix_ns);
        let pressure = state.pressure.iter_mut().zip(self.highest.pressure.iter_mut());
        let cpus = state.cpu_ns.iter_mut().zip(&mut self.highest.cpu_ns);
        for (now, highest) in pressure.chain(cpus) {
            self.fell += u64::from(hold(now, highest));
        }
        let is_known = HostState { at_unix_ns: 0, booted_unix_ns: 0, is_new: false, ..state };
        self.shown = (is_known != HostState::default()).then_some(state);
    }

    /// The last reading; it is new once.
    pub(super) fn shown(&mut self) -> Option<HostState> {
        let shown = self.shown;
        if let Some(shown) = &mut self.shown {
            shown.is_new = false;
        }
        shown
    }

    /// Counters that were lower than before.
    pub(super) const fn fell(&self) -> u64 {
        self.fell
    }
}

/// Holds a counter at its highest value; says whether it was lower. Time without work and time without work
/// while I/O was waited for may be, as proc(5) says.
fn hold(now: &mut Option<u64>, highest: &mut Option<u64>) -> bool {
    let Some(value) = *now else { return false };
    let before = highest.unwrap_or(0);
    *now = Some(value.max(before));
    *highest = *now;
    value < before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CpuMode, Resource, Stalled};

    const SYSTEM: HostParts = HostParts { pressure: false, system: true };

    fn idle(ns: u64, at_unix_ns: u64) -> HostState {
        let mut state = HostState { at_unix_ns, is_new: true, ..HostState::default() };
        state.cpu_ns[CpuMode::Idle as usize] = Some(ns);
        state
    }

    fn readings() -> HostReadings {
        let mut readings = HostReadings::default();
        readings.set_parts(SYSTEM);
        readings
    }

    #[test]
    fn a_reading_is_new_once_and_stays() {
        let mut readings = readings();
        assert_eq!(readings.shown(), None);
        readings.answer(SYSTEM, &idle(5, 70), 9);
        assert_eq!(readings.shown(), Some(HostState { booted_unix_ns: 9, ..idle(5, 70) }));
        let again = readings.shown().unwrap();
        assert_eq!((again.at_unix_ns, again.is_new), (70, false));
        readings.answer(SYSTEM, &idle(6, 80), 1_000);
        let next = readings.shown().unwrap();
        assert_eq!(
            (next.at_unix_ns, next.is_new, next.booted_unix_ns),
            (80, true, 9),
            "a start never wavers"
        );
    }

    #[test]
    fn a_counter_that_falls_is_held_and_counted() {
        let mut readings = readings();
        let mut shown = |ns| {
            readings.answer(SYSTEM, &idle(ns, 70), 9);
            (readings.shown().unwrap().cpu_ns[CpuMode::Idle as usize], readings.fell())
        };
        assert_eq!(
            [shown(50), shown(40), shown(45), shown(60)],
            [(Some(50), 0), (Some(50), 1), (Some(50), 2), (Some(60), 2),]
        );
        let mut pressure = HostState::default();
        for ns in [7, 6] {
            pressure.pressure.set(Resource::Io, [Some(ns), None]);
            readings.answer(SYSTEM, &pressure, 9);
        }
        let shown = readings.shown().unwrap();
        assert_eq!(shown.pressure.get(Resource::Io, Stalled::AtLeastOne), Some(7));
        assert_eq!(shown.cpu_ns[CpuMode::Idle as usize], None, "it was not read: absent is not what was");
        assert_eq!(readings.fell(), 3);
        readings.answer(SYSTEM, &idle(55, 90), 9);
        assert_eq!(
            readings.shown().unwrap().cpu_ns[CpuMode::Idle as usize],
            Some(60),
            "nor lower afterwards"
        );
    }

    #[test]
    fn what_is_not_wanted_is_not_asked_and_not_shown() {
        let mut readings = HostReadings::default();
        assert_eq!(readings.take_due(), Some(HostParts::default()));
        assert_eq!((readings.take_due(), readings.wanted()), (None, Some(HostParts::default())));
        readings.set_parts(SYSTEM);
        assert_eq!(readings.take_due(), Some(SYSTEM), "others are asked about at once");
        readings.answer(HostParts::default(), &idle(5, 70), 9);
        assert_eq!(readings.shown(), None, "nobody wants that any more");
        readings.answer(SYSTEM, &idle(5, 70), 9);
        assert!(readings.shown().is_some());
        readings.set_parts(HostParts::NONE);
        assert_eq!((readings.take_due(), readings.wanted(), readings.shown()), (None, None, None));
    }

    #[test]
    fn a_host_that_says_nothing_is_not_shown() {
        let mut readings = readings();
        let nothing = HostState { at_unix_ns: 70, is_new: true, ..HostState::default() };
        readings.answer(SYSTEM, &nothing, 9);
        assert_eq!(readings.shown(), None);
    }
}
