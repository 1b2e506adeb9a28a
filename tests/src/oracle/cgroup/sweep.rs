//! Groups that tests left: a test whose processes are killed takes its groups with it no more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::super::error::{OracleError, read};
use super::hierarchy::{Controller, Hierarchy};

/// What the names of our groups begin with; the id of the process that made the group follows, and a number.
pub(super) const PREFIX: &str = "hvsampler-tests-";

/// Removes the groups that tests of this host made and left: those with our name whose maker is gone, if
/// nobody is in them. Returns them.
///
/// # Errors
/// When the hierarchy cannot be read, or a group without any process cannot be removed.
pub fn sweep() -> Result<Vec<PathBuf>, OracleError> {
    let is_there = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
    let mut swept = Vec::new();
    let controllers = [Controller::Cpu, Controller::Io, Controller::Memory].map(Hierarchy::find);
    for hierarchy in controllers.into_iter().chain([Hierarchy::unified()]) {
        match hierarchy {
            Ok(hierarchy) => swept.extend(sweep_in(&hierarchy.root, &is_there)?),
            Err(OracleError::NoController { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

fn sweep_in(parent: &Path, is_there: &dyn Fn(u32) -> bool) -> Result<Vec<PathBuf>, OracleError> {
    let mut swept = Vec::new();
    for path in left_in(parent, is_there)? {
        swept.extend(sweep_in(&path, is_there)?);
        if remove(&path)? {
            swept.push(path);
        }
    }
    Ok(swept)
}

/// Groups with our name whose maker is gone.
fn left_in(parent: &Path, is_there: &dyn Fn(u32) -> bool) -> Result<Vec<PathBuf>, OracleError> {
    let failed = |source| OracleError::Read { path: parent.to_path_buf(), source };
    let mut left = Vec::new();
    for entry in fs::read_dir(parent).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && maker(&entry.file_name().to_string_lossy()).is_some_and(|pid| !is_there(pid)) {
            left.push(entry.path());
        }
    }
    Ok(left)
}

fn maker(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Whether a group is gone. One with a process in it stays, and so does one with a group of somebody else.
fn remove(path: &Path) -> Result<bool, OracleError> {
    // A process that was just killed keeps its group busy until the kernel has let go of it.
    const ATTEMPTS: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..ATTEMPTS {
        if is_empty(path)? {
            match fs::remove_dir(path) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                    ) => {}
                Err(source) => {
                    return Err(OracleError::Change { path: path.to_path_buf(), action: "removed", source });
                }
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(false)
}

fn is_empty(path: &Path) -> Result<bool, OracleError> {
    match read(&path.join("cgroup.procs")) {
        Ok(processes) => Ok(processes.trim().is_empty()),
        Err(error) if error.is_gone() => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: u32 = 7;
    const ALIVE: u32 = 8;

    fn groups(root: &Path) -> Vec<String> {
        let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// In a folder that is no file system of groups: the kernel's own rules are the suite's to test.
    #[test]
    fn groups_of_those_who_are_gone_are_removed_and_no_others() {
        let root = std::env::temp_dir().join(format!("hvsampler-sweep-{}", std::process::id()));
        let group = |name: &str| fs::create_dir_all(root.join(name)).unwrap();
        group("hvsampler-tests-7-0/hvsampler-tests-7-1");
        group("hvsampler-tests-8-0");
        group("hvsampler-tests-7-x");
        group("hvsampler-tests-7");
        group("other-7-0");
        group("hvsampler-tests-7-2");
        fs::write(root.join("hvsampler-tests-7-2/cgroup.procs"), "99\n").unwrap();
        let swept = sweep_in(&root, &|pid| {
            assert!([GONE, ALIVE].contains(&pid));
            pid == ALIVE
        });
        let outer = root.join("hvsampler-tests-7-0");
        assert_eq!(swept.unwrap(), [outer.join("hvsampler-tests-7-1"), outer]);
        let stay = [
            "hvsampler-tests-7",
            "hvsampler-tests-7-2",
            "hvsampler-tests-7-x",
            "hvsampler-tests-8-0",
            "other-7-0",
        ];
        assert_eq!(groups(&root), stay);
        fs::remove_dir_all(&root).unwrap();
    }
}
