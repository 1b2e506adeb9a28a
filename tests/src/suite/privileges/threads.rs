//! What the threads of a service may do, by `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, ensure};

/// Numbers of capabilities.
pub(super) const DAC_READ_SEARCH: u64 = 1 << 2;
pub(super) const NET_ADMIN: u64 = 1 << 12;
pub(super) const SYS_PTRACE: u64 = 1 << 19;
pub(super) const SYS_ADMIN: u64 = 1 << 21;
pub(super) const BPF: u64 = 1 << 39;

const SYS_NICE: u64 = 1 << 23;

/// What the kernel calls the runtime's threads.
const WORKERS: &str = "tokio-rt-worker";

/// A thread's lines of `/proc/PID/task/TID/status`, by their names.
pub(super) struct Thread(BTreeMap<String, String>);

impl Thread {
    /// All threads of a process, as they are now.
    pub(super) fn all(pid: u32) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // It may end meanwhile.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
            let lines = status.lines().filter_map(|line| line.split_once(":\t"));
            all.push(Self(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()));
        }
        Ok(all)
    }

    fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("no {name} in a thread's status"))
    }

    fn set(&self, name: &str) -> anyhow::Result<u64> {
        Ok(u64::from_str_radix(self.text(name)?, 16)?)
    }

    /// What a service that gives nothing up has of what it was started with.
    pub(super) fn given(&self) -> [Option<&str>; 5] {
        ["CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"].map(|name| self.text(name).ok())
    }

    /// Fails unless it has given up all but this: a thread for collectors all but reading files.
    fn has_given_up(&self, left: &Left) -> anyhow::Result<()> {
        let is_worker = self.text("Name")? == WORKERS;
        let capabilities = if is_worker { DAC_READ_SEARCH } else { left.capabilities };
        for (name, expected) in
            [("CapEff", capabilities), ("CapPrm", capabilities), ("CapInh", 0), ("CapAmb", 0)]
        {
            ensure!(self.set(name)? == expected, "{name} is {:x}, not {expected:x}", self.set(name)?);
        }
        let bounding = self.set("CapBnd")?;
        ensure!(left.bounding.is_none_or(|expected| expected == bounding), "CapBnd is {bounding:x}");
        ensure!(self.text("NoNewPrivs")? == "1", "NoNewPrivs is {}", self.text("NoNewPrivs")?);
        ensure!(self.text("Seccomp")? == "2", "Seccomp is {}", self.text("Seccomp")?);
        // Linux 5.9 and later says how many.
        let filters = self.0.get("Seccomp_filters").map(|count| count.parse::<u32>()).transpose()?;
        ensure!(filters.is_none_or(|filters| filters >= 3), "{filters:?} filters");
        let (users, expected) = (self.text("Uid")?, left.user.to_string());
        ensure!(users.split('\t').all(|user| user == expected), "it is of the users {users}");
        Ok(())
    }
}

/// What is left to threads.
pub(super) struct Left {
    pub(super) capabilities: u64,
    /// Of the bounding set, where the service was started with what it takes to change that.
    pub(super) bounding: Option<u64>,
    pub(super) user: u32,
}

impl Left {
    /// Fails unless each thread of the process has this and no more. Returns how many there are.
    pub(super) fn to_each_thread_of(&self, pid: u32) -> anyhow::Result<usize> {
        let threads = Thread::all(pid)?;
        // Where the limit of nice values could not be lifted, the capability stays that does as well; the unit's
        // service was started without it.
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let nice = limits.lines().find_map(|line| line.strip_prefix("Max nice priority"));
        let is_lifted =
            nice.context("no limit of nice values")?.split_ascii_whitespace().next() == Some("40");
        let beside = if is_lifted || self.bounding.is_none() { 0 } else { SYS_NICE };
        let left = Self {
            capabilities: self.capabilities | beside,
            bounding: self.bounding.map(|bounding| bounding | beside),
            ..*self
        };
        for thread in &threads {
            let name = thread.text("Name")?;
            ensure!(name != "loading", "the thread that loads still lives");
            thread.has_given_up(&left).with_context(|| format!("thread {name}"))?;
        }
        let workers = threads.iter().filter(|thread| thread.text("Name").is_ok_and(|name| name == WORKERS));
        ensure!(workers.count() > 0 && threads.len() > 4, "only {} threads", threads.len());
        Ok(threads.len())
    }
}

/// Fails if the process has a socket on which it waits for connections.
pub(super) fn none_listens(pid: u32) -> anyhow::Result<()> {
    const LISTENS: &str = "0A";
    let mut own = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // It may be closed meanwhile.
        let Ok(target) = fs::read_link(descriptor?.path()) else { continue };
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
        own.extend(inode.map(str::to_owned));
    }
    for table in ["tcp", "tcp6"] {
        // A machine may have no IPv6.
        let Ok(sockets) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
        for line in sockets.lines().skip(1) {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let (state, inode) = fields.get(3).zip(fields.get(9)).context("too few fields")?;
            let listens = *state == LISTENS && own.iter().any(|own| own == inode);
            ensure!(!listens, "it waits for connections at {}", fields[1]);
        }
    }
    Ok(())
}
