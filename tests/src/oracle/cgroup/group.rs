//! Groups of our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::super::error::{OracleError, read, write};
use super::hierarchy::Hierarchy;
use super::sweep::PREFIX;

/// CPU time that a group may use in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// CPU time of all its threads together; at least a millisecond.
    pub quota: Duration,
    /// Length of the period, a millisecond to a second.
    pub period: Duration,
}

/// How a group was throttled, cumulative since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods that began while the group had something to run.
    pub periods: u64,
    /// Periods in which its quota ran out.
    pub throttled_periods: u64,
    /// Time that it was held back, ns, summed over CPUs. Version 2 counts it in microseconds.
    pub throttled_ns: u64,
}

/// A cgroup that lives as long as this value. What is still in it then moves to the hierarchy's root.
#[derive(Debug)]
pub struct Group {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl Group {
    /// Makes an empty group.
    ///
    /// # Errors
    /// When the caller may not.
    pub fn create(hierarchy: Hierarchy) -> Result<Self, OracleError> {
        hierarchy.enable_in(&hierarchy.root)?;
        let root = hierarchy.root.clone();
        Self::make(hierarchy, &root)
    }

    fn make(hierarchy: Hierarchy, parent: &Path) -> Result<Self, OracleError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { hierarchy, path }),
            Err(source) => Err(OracleError::Change { path, action: "made", source }),
        }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is one of version 2.
    #[must_use]
    pub const fn is_unified(&self) -> bool {
        self.hierarchy.unified
    }

    /// Moves a process with all its threads into the group.
    ///
    /// # Errors
    /// When the process is gone ([`OracleError::is_gone`]).
    pub fn add_process(&self, pid: u32) -> Result<(), OracleError> {
        write(&self.path.join("cgroup.procs"), &pid.to_string())
    }

    fn remove(&self) -> Result<(), OracleError> {
        let members = read(&self.path.join("cgroup.procs"))?;
        for pid in members.lines() {
            match write(&self.hierarchy.root.join("cgroup.procs"), pid) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
        }
        fs::remove_dir(&self.path).map_err(|source| OracleError::Change {
            path: self.path.clone(),
            action: "removed",
            source,
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that is just ending keeps its group busy until the kernel has let go of it.
        const ATTEMPTS: u32 = 100;
        let mut outcome = self.remove();
        for _ in 1..ATTEMPTS {
            if outcome.is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
            outcome = self.remove();
        }
        if let Err(error) = outcome {
            eprintln!("a cgroup is left over: {error}");
        }
    }
}

/// A group with a quota of CPU time.
#[derive(Debug)]
pub struct CpuGroup(Group);

impl CpuGroup {
    /// Makes an empty group in a hierarchy with the cpu controller.
    ///
    /// # Errors
    /// When the caller may not.
    pub fn create(hierarchy: Hierarchy) -> Result<Self, OracleError> {
        Group::create(hierarchy).map(Self)
    }

    /// Makes an empty group inside this one, which then must have no process itself and outlive it.
    ///
    /// # Errors
    /// When the caller may not.
    pub fn create_inside(&self) -> Result<Self, OracleError> {
        let Group { hierarchy, path } = &self.0;
        hierarchy.enable_in(path)?;
        Group::make(hierarchy.clone(), path).map(Self)
    }

    /// Gives the group a quota, or takes it away with `None`.
    ///
    /// # Errors
    /// When the kernel refuses the lengths.
    pub fn set_quota(&self, quota: Option<CpuQuota>) -> Result<(), OracleError> {
        for (file, text) in quota_files(self.0.is_unified(), quota) {
            write(&self.0.path.join(file), &text)?;
        }
        Ok(())
    }

    /// As [`Group::add_process`].
    ///
    /// # Errors
    /// As there.
    pub fn add_process(&self, pid: u32) -> Result<(), OracleError> {
        self.0.add_process(pid)
    }

    /// Reads how the group was throttled.
    ///
    /// # Errors
    /// When `cpu.stat` cannot be read or understood.
    pub fn throttling(&self) -> Result<Throttling, OracleError> {
        let path = self.0.path.join("cpu.stat");
        Throttling::parse(&path, &read(&path)?)
    }
}

fn quota_files(unified: bool, quota: Option<CpuQuota>) -> Vec<(&'static str, String)> {
    let micros = |length: Duration| length.as_micros().to_string();
    match (unified, quota) {
        (true, Some(CpuQuota { quota, period })) => {
            vec![("cpu.max", format!("{} {}", micros(quota), micros(period)))]
        }
        (true, None) => vec![("cpu.max", "max".to_owned())],
        (false, Some(CpuQuota { quota, period })) => {
            vec![("cpu.cfs_period_us", micros(period)), ("cpu.cfs_quota_us", micros(quota))]
        }
        (false, None) => vec![("cpu.cfs_quota_us", "-1".to_owned())],
    }
}

impl Throttling {
    fn parse(path: &Path, text: &str) -> Result<Self, OracleError> {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
        };
        let needed =
            |key| value(key).ok_or_else(|| OracleError::format(path, "expected counts of throttling", text));
        let throttled_ns = match value("throttled_time") {
            Some(nanoseconds) => nanoseconds,
            None => needed("throttled_usec")?.saturating_mul(1000),
        };
        Ok(Self { periods: needed("nr_periods")?, throttled_periods: needed("nr_throttled")?, throttled_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Throttling = Throttling { periods: 50, throttled_periods: 7, throttled_ns: 123_456_000 };

    #[test]
    fn both_versions_of_cpu_stat_are_read() {
        let first = "nr_periods 50\nnr_throttled 7\nthrottled_time 123456000\nnr_bursts 0\nburst_time 0\n";
        let second = "usage_usec 9\nuser_usec 8\nsystem_usec 1\nnr_periods 50\nnr_throttled 7\nthrottled_usec 123456\n";
        for text in [first, second] {
            assert_eq!(Throttling::parse(Path::new("cpu.stat"), text).unwrap(), EXPECTED);
        }
    }

    #[test]
    fn a_group_without_the_controller_is_an_error_that_names_the_file() {
        let text = "usage_usec 9\nuser_usec 8\nsystem_usec 1\n";
        let error = Throttling::parse(Path::new("/x/cpu.stat"), text).unwrap_err();
        assert!(error.to_string().starts_with("/x/cpu.stat is not understood"), "{error}");
    }

    #[test]
    fn quotas_are_written_as_each_version_wants() {
        let quota = CpuQuota { quota: Duration::from_millis(20), period: Duration::from_millis(50) };
        assert_eq!(quota_files(true, Some(quota)), [("cpu.max", "20000 50000".to_owned())]);
        assert_eq!(quota_files(true, None), [("cpu.max", "max".to_owned())]);
        let expected = [("cpu.cfs_period_us", "50000".to_owned()), ("cpu.cfs_quota_us", "20000".to_owned())];
        assert_eq!(quota_files(false, Some(quota)), expected);
        assert_eq!(quota_files(false, None), [("cpu.cfs_quota_us", "-1".to_owned())]);
    }
}
