//! Made-up hosts for the tests of platforms.

use std::{fs, path::PathBuf, process::Command};

use super::{Files, GuestIdentity, ProcessFacts, identify};
use crate::{kernel::Root, model::Fact};

/// A host with one process and some files.
pub(super) struct Host {
    root: tempfile::TempDir,
    pub(super) facts: ProcessFacts,
}

impl Host {
    pub(super) fn new(pid: u32, exe: &str, args: &[&str]) -> Self {
        let facts = ProcessFacts { pid, exe: Some(exe.as_bytes().to_vec()), ..ProcessFacts::default() };
        Self { root: tempfile::tempdir().unwrap(), facts }.args(args)
    }

    pub(super) fn args(mut self, args: &[&str]) -> Self {
        self.facts.args = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        self
    }

    pub(super) fn cgroup(mut self, path: &str) -> Self {
        self.facts.cgroups.push(path.to_owned());
        self
    }

    pub(super) fn without_cgroups(mut self) -> Self {
        self.facts.cgroups.clear();
        self
    }

    pub(super) fn dir(self, path: &str) -> Self {
        fs::create_dir_all(self.root.path().join(path)).unwrap();
        self
    }

    pub(super) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.parent(path), content).unwrap();
        self
    }

    pub(super) fn fifo(self, path: &str) -> Self {
        let path = self.parent(path);
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        self
    }

    fn parent(&self, path: &str) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(super) fn identify(&self) -> GuestIdentity {
        identify(&self.facts, &Files::below(Root::at(self.root.path())))
    }
}

/// Holds all that was found, but for the program, against keys, values and places.
#[track_caller]
pub(super) fn assert_found(identity: &GuestIdentity, expected: &[(&str, &str, &str)]) {
    let found = identity.iter().filter(|(row, _)| row.fact != Fact::Program);
    let found: Vec<_> = found.map(|(row, found)| (row.key, &*found.value, found.from)).collect();
    assert_eq!(found, expected);
}
