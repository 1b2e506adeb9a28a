//! What an interval came to, as rates: for a vCPU, a guest, the host. Whoever shows or judges snapshots takes
//! them from here.

pub use super::device_rates::{DiskRates, InterfaceRates, IoRates};
use super::{
    Histogram,
    attribution::{Occupant, OccupantKind},
    counted::{Counter, Distribution, KvmStat},
    distribution,
    snapshot::{Snapshot, Vcpu, Vm},
    state::{STATES, State},
};

/// What an interval came to for one vCPU, or for several together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Percent of one vCPU's wall time by state, averaged over the vCPUs that know the state.
    percent: [Option<f64>; STATES.len()],
    /// Preemptions in a second, added up over vCPUs.
    pub preemptions: f64,
    /// Exits in a second, added up over the vCPUs of which KVM's counts were read.
    pub exits: Option<f64>,
    /// Waits for a CPU in the interval, of all vCPUs together.
    pub waits: Histogram,
    /// Percent of the interval in which some vCPUs of a guest ran while others waited; a guest alone has it.
    pub co_stop: Option<f64>,
}

impl Rates {
    /// `None` before a vCPU's second reading.
    #[must_use]
    pub fn of_vcpu(vcpu: &Vcpu) -> Option<Self> {
        let interval = vcpu.interval.as_ref().filter(|interval| interval.wall_ns > 0)?;
        let wall = interval.wall_ns as f64;
        let seconds = wall / 1e9;
        let mut rates = Self {
            percent: [None; STATES.len()],
            preemptions: interval.counters[Counter::InvoluntarySwitches as usize] as f64 / seconds,
            exits: interval.kvm.and_then(|kvm| kvm.get(KvmStat::Exits)).map(|exits| exits as f64 / seconds),
            waits: *vcpu.distributions_added().get(Distribution::Steal),
            co_stop: None,
        };
        for (state, ns) in interval.states.iter() {
            rates.percent[state as usize] = Some(ns as f64 * 100.0 / wall);
        }
        Some(rates)
    }

    /// `None` where no vCPU of the guest has an interval.
    #[must_use]
    pub fn of_vm(vm: &Vm) -> Option<Self> {
        let mut rates = Self::together(&vm.vcpus)?;
        let wall = vm.vcpus.iter().filter_map(|vcpu| vcpu.interval).map(|interval| interval.wall_ns).max();
        // The ticks of an interval may be longer than it by one.
        let percent = |(ns, wall): (u64, u64)| (ns as f64 * 100.0 / wall as f64).min(100.0);
        rates.co_stop = vm.co_stop.interval_ns.zip(wall).map(percent);
        Some(rates)
    }

    /// All vCPUs of the host together; `None` where none has an interval.
    #[must_use]
    pub fn of_host(snapshot: &Snapshot) -> Option<Self> {
        Self::together(snapshot.vms.iter().flat_map(|vm| &vm.vcpus))
    }

    fn together<'a>(vcpus: impl IntoIterator<Item = &'a Vcpu>) -> Option<Self> {
        let mut sum = Self::default();
        let (mut vcpus_rated, mut known) = (0_u32, [0_u32; STATES.len()]);
        for vcpu in vcpus.into_iter().filter_map(Self::of_vcpu) {
            vcpus_rated += 1;
            sum.preemptions += vcpu.preemptions;
            sum.exits = [sum.exits, vcpu.exits].into_iter().flatten().reduce(|sum, exits| sum + exits);
            sum.waits = distribution::plus(&sum.waits, &vcpu.waits);
            for (state, percent) in vcpu.percent.into_iter().enumerate() {
                if let Some(percent) = percent {
                    known[state] += 1;
                    *sum.percent[state].get_or_insert(0.0) += percent;
                }
            }
        }
        for (state, percent) in sum.percent.iter_mut().enumerate() {
            // What a vCPU does not know of its CPU time it has in another of these states.
            let of = if State::ALL[state].is_on_cpu() { vcpus_rated } else { known[state] };
            *percent = percent.map(|percent| percent / f64::from(of));
        }
        (vcpus_rated > 0).then_some(sum)
    }

    /// Percent of one vCPU's wall time in a state; `None` where no vCPU knows the state.
    #[must_use]
    pub const fn percent(&self, state: State) -> Option<f64> {
        self.percent[state as usize]
    }

    /// Percent of the wall time that was denied: by others, and by quotas.
    #[must_use]
    pub fn denied(&self) -> f64 {
        [State::Steal, State::Throttled].into_iter().filter_map(|state| self.percent(state)).sum()
    }
}

/// A guest and its rates.
#[derive(Clone, Copy, Debug)]
pub struct Rated<'a> {
    /// The guest.
    pub vm: &'a Vm,
    /// Absent before the second reading.
    pub rates: Option<Rates>,
}

/// The guests, the one that was denied most first. Guests that were denied alike keep the model's order, so
/// that they do not jump about between snapshots.
#[must_use]
pub fn by_denied(snapshot: &Snapshot) -> Vec<Rated<'_>> {
    let mut rated: Vec<_> = snapshot.vms.iter().map(|vm| Rated { vm, rates: Rates::of_vm(vm) }).collect();
    let denied = |rated: &Rated<'_>| rated.rates.map_or(0.0, |rates| rates.denied());
    rated.sort_by(|a, b| denied(b).total_cmp(&denied(a)));
    rated
}

/// Who took most of a guest's time in the interval.
#[derive(Clone, Copy, Debug)]
pub struct WorstOccupant<'a> {
    /// Who it is.
    pub who: &'a Occupant,
    /// The guest itself: its vCPUs waited for each other.
    pub is_itself: bool,
    /// Percent of the time that the guest waited.
    pub percent: f64,
}

impl<'a> WorstOccupant<'a> {
    /// `None` where nothing was taken, and where there is no interval.
    #[must_use]
    pub fn of(vm: &'a Vm) -> Option<Self> {
        let shares = vm.shares.as_deref()?;
        let worst = shares.first()?;
        let all: u64 = shares.iter().map(|share| share.ns).sum();
        let who = &worst.occupant;
        Some(Self {
            who,
            is_itself: who.kind == OccupantKind::Vm && who.id.as_ref() == Some(&vm.id),
            percent: worst.ns as f64 * 100.0 / all.max(1) as f64,
        })
    }
}

#[cfg(test)]
mod tests;
