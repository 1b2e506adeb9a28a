//! Whether KVM reports entries into the guests that run. No table of the kernel says so: they are sampled
//! for a moment.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    agent::{self, StartOptions},
    config::DEFAULT_NICE,
    kernel::check::CheckItem,
    model::{HostParts, Level, Levels, State, StateTimes},
};

const NAME: &str = "entries into guests";
/// Long enough for a busy vCPU to enter its guest a thousand times.
const MOMENT: Duration = Duration::from_millis(500);

/// Samples the guests for half a second. Nothing is said where none ran.
pub(super) fn check() -> Option<CheckItem> {
    match sample() {
        Ok(states) => judge(&states),
        Err(error) => Some(CheckItem::warn(NAME, format!("not looked at: {error:#}"), "see the rows above")),
    }
}

fn sample() -> Result<Vec<StateTimes>> {
    let levels = Levels { most: Level::Full, max_exits: u64::MAX };
    let host = HostParts::NONE;
    let options = StartOptions { bpf_log_level: 0, interval: MOMENT, levels, host, nice: DEFAULT_NICE };
    let (mut driver, _bpf_log) = agent::start(&options)?;
    let begin = Instant::now();
    driver.read()?;
    driver.attend_until(begin + MOMENT);
    driver.read()?;
    let vcpus = driver.compose().vms.into_iter().flat_map(|vm| vm.vcpus);
    Ok(vcpus.filter_map(|vcpu| Some(vcpu.interval?.states)).collect())
}

/// By the states of each vCPU in that time.
fn judge(vcpus: &[StateTimes]) -> Option<CheckItem> {
    let ns = |states: &StateTimes, state| states.get(state).unwrap_or(0);
    // The VMM's part is known there all the same; at level basic it is not.
    let is_missing = |states: &StateTimes| {
        let is_known = |state| states.get(state).is_some();
        !is_known(State::Guest) && is_known(State::Vmm) && ns(states, State::Run) > 0
    };
    let missing = vcpus.iter().filter(|states| is_missing(states)).count();
    if missing > 0 {
        let detail = format!(
            "KVM reports none: of {missing} vCPUs that ran, time in the guest and in the kernel is one, `run`"
        );
        let fix = "nothing to do: the sampler works without. kvm_amd and kvm_intel report them, other modules may not";
        return Some(CheckItem::warn(NAME, detail, fix));
    }
    let are_seen = vcpus.iter().any(|states| ns(states, State::Guest) > 0);
    are_seen.then(|| CheckItem::ok(NAME, "the guest's time and the kernel's are distinguished"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::check::CheckStatus;

    #[test]
    fn says_what_is_known_and_nothing_of_guests_that_sleep() {
        let status = |states: &[(State, u64)]| {
            let mut times = StateTimes::default();
            states.iter().for_each(|(state, ns)| times.set(*state, *ns));
            judge(&[times]).map(|item| item.status)
        };
        assert_eq!(status(&[(State::Guest, 5), (State::Vmm, 0)]), Some(CheckStatus::Ok));
        assert_eq!(status(&[(State::Run, 5), (State::Vmm, 0)]), Some(CheckStatus::Warn));
        assert_eq!(status(&[(State::Guest, 0), (State::Vmm, 0)]), None);
        assert_eq!(status(&[(State::Run, 5)]), None, "level basic");
    }
}
