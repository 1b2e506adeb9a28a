//! A CPU quota that changes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Disturbance, Scale, Scenario, ScenarioError, threads};
use crate::exactness::{Moves, Thread};
use crate::guest::Guests;
use crate::oracle::{CpuGroup, CpuQuota, Hierarchy};

const PAUSE: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_millis(10);

/// Guests that share a cgroup with a CPU quota, which is changed and now and then taken away.
#[derive(Debug)]
pub struct Quota {
    disturbance: Disturbance,
    // Before the group: a group can go when nobody is in it.
    guests: Guests,
    group: Arc<CpuGroup>,
}

impl Quota {
    /// Starts the guests under a quota. `directory` is where cgroup2 is mounted if it is nowhere.
    ///
    /// # Errors
    /// When a guest does not start or the group cannot be made.
    pub fn start(scale: &Scale<'_>, directory: &Path) -> Result<Self, ScenarioError> {
        let group = Arc::new(CpuGroup::create(Hierarchy::find_or_mount(directory)?)?);
        let guests = scale.start("quota", true)?;
        for guest in guests.iter() {
            group.add_process(guest.pid())?;
        }
        let changed = Arc::clone(&group);
        let disturbance = Disturbance::start("changing a quota", PAUSE, move |random| {
            // From four tenths of a CPU to all of two; one time in four none at all.
            let quota = CpuQuota { quota: PERIOD * random.u32(4..20) / 10, period: PERIOD };
            let quota = (random.u8(0..4) != 0).then_some(quota);
            changed.set_quota(quota).map_err(|error| error.to_string())
        })?;
        Ok(Self { guests, disturbance, group })
    }
}

impl Scenario for Quota {
    fn threads(&self) -> Vec<Thread> {
        threads(&self.guests)
    }

    fn moves(&self) -> Moves {
        Moves::Impossible
    }

    fn finish(self) -> Result<String, ScenarioError> {
        let changes = self.disturbance.finish()?;
        let throttling = self.group.throttling()?;
        if throttling.throttled_periods == 0 {
            return Err(ScenarioError::Idle("the quota never ran out".to_owned()));
        }
        let seconds = throttling.throttled_ns as f64 / 1e9;
        Ok(format!(
            "{changes} quotas, throttled in {} periods for {seconds:.1} s",
            throttling.throttled_periods
        ))
    }
}
