//! What any process is called: its command and its control group. Neither can be held up by the process
//! itself; the control group takes a lock of the whole kernel, so this is no question for the sampling path
//! either.

use std::fs;

use super::{ProcError, ProcFs, vanished};

/// Bytes that are taken of a control group's path: those of containers are a few hundred.
const MAX_CGROUP: usize = 4096;

/// What a process is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskName {
    /// Its command, at most 15 bytes for a user process; it chooses them itself.
    pub comm: String,
    /// The path of its control group in the hierarchy that systemd keeps, where it has one.
    pub cgroup: Option<String>,
}

impl ProcFs {
    /// What a process is called now.
    ///
    /// # Errors
    /// [`ProcError::Gone`] where there is no such process, [`ProcError::Read`] where it cannot be read.
    pub fn task_name(&self, pid: u32) -> Result<TaskName, ProcError> {
        let dir = self.process(pid);
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|source| match vanished(&source) {
                true => ProcError::Gone { pid },
                false => ProcError::Read { path, source },
            })
        };
        let comm = read("comm")?;
        let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned();
        // Kernels without control groups have no such file.
        let cgroup = read("cgroup").ok().and_then(|lines| parse_cgroup(&String::from_utf8_lossy(&lines)));
        Ok(TaskName { comm, cgroup })
    }
}

/// Lines of `hierarchy:controllers:path`. The unified hierarchy is number 0; before it systemd kept one by
/// name.
fn parse_cgroup(lines: &str) -> Option<String> {
    let path = |prefix: &str| {
        lines.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.strip_prefix(prefix)
        })
    };
    let found = path("name=systemd:").or_else(|| path(":")).filter(|path| path.len() <= MAX_CGROUP)?;
    (found != "/").then(|| found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_name() {
        let name = ProcFs::system().task_name(std::process::id()).unwrap();
        assert!(!name.comm.is_empty() && !name.comm.ends_with('\n'), "{name:?}");
        let gone = ProcFs::system().task_name(u32::MAX).unwrap_err();
        assert!(matches!(gone, ProcError::Gone { .. }), "{gone}");
    }

    #[test]
    fn the_hierarchy_of_units_is_found() {
        let unified = "0::/system.slice/cron.service\n";
        assert_eq!(parse_cgroup(unified).as_deref(), Some("/system.slice/cron.service"));
        let hybrid = "5:cpu,cpuacct:/a\n1:name=systemd:/system.slice/b.service\n0::/system.slice/c.service\n";
        assert_eq!(parse_cgroup(hybrid).as_deref(), Some("/system.slice/b.service"));
        assert_eq!(parse_cgroup("0::/\n"), None);
        assert_eq!(parse_cgroup("3:cpu:/x\n"), None);
        assert_eq!(parse_cgroup(&format!("0::/{}\n", "x".repeat(MAX_CGROUP))), None);
    }
}
