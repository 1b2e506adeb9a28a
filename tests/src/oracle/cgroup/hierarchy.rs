//! Finding the hierarchy that has the cpu controller.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{
    error::{OracleError, read, write},
    mount::OwnMount,
};

const MOUNTS: &str = "/proc/self/mounts";

/// A mounted cgroup hierarchy with the cpu controller.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub(super) root: PathBuf,
    pub(super) unified: bool,
    // Unmounts when the last is dropped, where it was mounted by us.
    _mounted: Option<Arc<OwnMount>>,
}

impl Hierarchy {
    /// Finds the hierarchy that this system uses.
    ///
    /// # Errors
    /// [`OracleError::NoCpuController`] when none has the cpu controller.
    pub fn find() -> Result<Self, OracleError> {
        let candidates = parse_mounts(&read(Path::new(MOUNTS))?);
        for (root, unified) in candidates {
            if !unified || has_cpu_controller(&root) {
                return Ok(Self { root, unified, _mounted: None });
            }
        }
        Err(OracleError::NoCpuController)
    }

    /// Finds the hierarchy, or mounts cgroup2 on a directory of ours: a lab kernel may boot without any.
    ///
    /// # Errors
    /// When there is none and mounting does not give one with the cpu controller.
    pub fn find_or_mount(directory: &Path) -> Result<Self, OracleError> {
        match Self::find() {
            Err(OracleError::NoCpuController) => Self::mount(directory),
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
        if !has_cpu_controller(directory) {
            return Err(OracleError::NoCpuController);
        }
        Ok(Self { root: directory.to_path_buf(), unified: true, _mounted: Some(Arc::new(mounted)) })
    }

    /// Lets groups under the root have quotas: version 2 wants that said, version 1 does not.
    pub(super) fn enable_cpu(&self) -> Result<(), OracleError> {
        if self.unified { write(&self.root.join("cgroup.subtree_control"), "+cpu") } else { Ok(()) }
    }
}

fn has_cpu_controller(root: &Path) -> bool {
    let controllers = read(&root.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_ascii_whitespace().any(|controller| controller == "cpu")
}

/// Mount points that may have the controller, and whether they are of version 2.
fn parse_mounts(text: &str) -> Vec<(PathBuf, bool)> {
    let candidate = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (root, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let has_cpu = options.split(',').any(|option| option == "cpu");
        match kind {
            "cgroup2" => Some((PathBuf::from(root), true)),
            "cgroup" if has_cpu => Some((PathBuf::from(root), false)),
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
        assert_eq!(parse_mounts(hybrid), expected);
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(parse_mounts(unified), [(PathBuf::from("/sys/fs/cgroup"), true)]);
    }

    #[test]
    fn other_mounts_are_no_hierarchies() {
        assert_eq!(parse_mounts("proc /proc proc rw 0 0\ncgroup /x cgroup rw,cpuset 0 0\nshort\n"), []);
    }
}
