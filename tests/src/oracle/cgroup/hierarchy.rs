//! Finding the hierarchy that has a controller.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{
    error::{OracleError, read, write},
    mount::OwnMount,
};

const MOUNTS: &str = "/proc/self/mounts";

/// A controller that groups of ours need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Block devices.
    Io,
    /// Memory.
    Memory,
}

impl Controller {
    /// Its name in version 2, and as an option of mounts of version 1.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpu => ("cpu", "cpu"),
            Self::Io => ("io", "blkio"),
            Self::Memory => ("memory", "memory"),
        }
    }
}

/// A mounted cgroup hierarchy with a controller.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub(super) root: PathBuf,
    pub(super) unified: bool,
    /// The controller that groups of it get; none where only what each group has is wanted.
    controller: Option<Controller>,
    // Unmounts when the last is dropped, where it was mounted by us.
    _mounted: Option<Arc<OwnMount>>,
}

impl Hierarchy {
    /// Finds the hierarchy that this system uses.
    ///
    /// # Errors
    /// [`OracleError::NoController`] when none has the controller.
    pub fn find(controller: Controller) -> Result<Self, OracleError> {
        let candidates = parse_mounts(&read(Path::new(MOUNTS))?, controller);
        for (root, unified) in candidates {
            if !unified || has_controller(&root, controller) {
                return Ok(Self { root, unified, controller: Some(controller), _mounted: None });
            }
        }
        Err(missing(controller))
    }

    /// Finds that of version 2, whichever controllers it has: each group of it has pressure.
    ///
    /// # Errors
    /// When none is mounted.
    pub fn unified() -> Result<Self, OracleError> {
        // Version 2 has one hierarchy: whatever is asked for, it is a candidate.
        let candidates = parse_mounts(&read(Path::new(MOUNTS))?, Controller::Memory);
        let unified = candidates.into_iter().find(|(_, unified)| *unified);
        let (root, unified) = unified.ok_or(missing(Controller::Memory))?;
        Ok(Self { root, unified, controller: None, _mounted: None })
    }

    /// Finds that of the cpu controller, or mounts cgroup2 on a directory of ours: a lab kernel may boot
    /// without any.
    ///
    /// # Errors
    /// When there is none and mounting does not give one with the cpu controller.
    pub fn find_or_mount(directory: &Path) -> Result<Self, OracleError> {
        match Self::find(Controller::Cpu) {
            Err(OracleError::NoController { .. }) => Self::mount(directory),
            other => other,
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn mount(directory: &Path) -> Result<Self, OracleError> {
        let mounted = OwnMount::of("cgroup2", directory)?;
        let controller = Controller::Cpu;
        if !has_controller(directory, controller) {
            return Err(missing(controller));
        }
        Ok(Self {
            root: directory.to_path_buf(),
            unified: true,
            controller: Some(controller),
            _mounted: Some(Arc::new(mounted)),
        })
    }

    /// Lets groups under one use the controller: version 2 wants that said, version 1 does not.
    pub(super) fn enable_in(&self, group: &Path) -> Result<(), OracleError> {
        match self.controller {
            Some(controller) if self.unified => {
                let (name, _) = controller.names();
                write(&group.join("cgroup.subtree_control"), &format!("+{name}"))
            }
            _ => Ok(()),
        }
    }
}

const fn missing(controller: Controller) -> OracleError {
    let (name, option) = controller.names();
    OracleError::NoController { name, option }
}

fn has_controller(root: &Path, controller: Controller) -> bool {
    let controllers = read(&root.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_ascii_whitespace().any(|name| name == controller.names().0)
}

/// Mount points that may have the controller, and whether they are of version 2.
fn parse_mounts(text: &str, controller: Controller) -> Vec<(PathBuf, bool)> {
    let candidate = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (root, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let has_it = options.split(',').any(|option| option == controller.names().1);
        match kind {
            "cgroup2" => Some((PathBuf::from(root), true)),
            "cgroup" if has_it => Some((PathBuf::from(root), false)),
            _ => None,
        }
    };
    text.lines().filter_map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_found_where_it_is_mounted() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let expected = [
            (PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"), false),
            (PathBuf::from("/sys/fs/cgroup/unified"), true),
        ];
        assert_eq!(parse_mounts(hybrid, Controller::Cpu), expected);
        assert_eq!(parse_mounts(hybrid, Controller::Io), expected[1..]);
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(parse_mounts(unified, Controller::Io), [(PathBuf::from("/sys/fs/cgroup"), true)]);
    }

    #[test]
    fn other_mounts_are_no_hierarchies() {
        let others = "proc /proc proc rw 0 0\ncgroup /x cgroup rw,cpuset 0 0\nshort\n";
        assert_eq!(parse_mounts(others, Controller::Cpu), []);
    }
}
