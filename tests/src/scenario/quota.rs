//! A CPU quota that changes.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Disturbance, Scale, Scenario, ScenarioError, threads};
use crate::exactness::{Moves, Thread};
use crate::guest::Guests;
use crate::oracle::{CpuGroup, CpuQuota, Hierarchy};

const PAUSE: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_millis(10);
/// Time without a quota.
const WITHOUT: Duration = Duration::from_millis(2);

/// Guests that share a cgroup with a CPU quota, which is changed and now and then taken away for a moment.
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
        // From their first moment on: see below what guests without a quota do to others.
        group.set_quota(Some(tenths(9)))?;
        let guests =
            scale.start_with("quota", true, |pid| Ok::<_, ScenarioError>(group.add_process(pid)?))?;
        let changed = Arc::clone(&group);
        // Below one CPU, in real time, and never for long without any: under Linux 6.18 guests that want all
        // CPUs were seen to keep all others from them for minutes, kernel threads too. A thread that waits
        // there with the next quota would let them, and so would one that is asked to end.
        let disturbance = Disturbance::in_real_time("changing a quota", PAUSE, move |random| {
            let set = |quota| changed.set_quota(quota).map_err(|error| error.to_string());
            if random.u8(0..4) == 0 {
                set(None)?;
                thread::sleep(WITHOUT);
            }
            // From three tenths of a CPU to nine.
            set(Some(tenths(random.u32(3..=9))))
        })?;
        Ok(Self { guests, disturbance, group })
    }
}

/// A quota of so many tenths of a CPU.
fn tenths(tenths: u32) -> CpuQuota {
    CpuQuota { quota: PERIOD * tenths / 10, period: PERIOD }
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
