//! Answers to the source's questions, from `/proc` and from what platforms keep in files. They may take as
//! long as a VMM hangs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::identity::KvmGuest;
use crate::{
    collect::{
        attached::{self, FoundDevices},
        devices::disk_name,
        host::HostFiles,
        network::{FoundInterfaces, Network},
        platform::{self, Files, Seen},
        procfs::{GroupMounts, GuestGroup, ProcFs, ProcessMemory},
    },
    kernel::{Root, clock::Clock},
    model::{Attached, Memory, VmKey},
    source::{Answer, GuestFacts, Question, TaskFacts, unit_of},
};

/// What is not asked about for so long has ended. Guests that live are asked about some times a minute.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// Time after which it is looked again where control groups are mounted.
const MOUNTS: Duration = Duration::from_secs(60);

/// What those who answer share.
pub(super) struct Answers {
    proc: ProcFs,
    files: Files,
    host: HostFiles,
    /// Where control groups are mounted, and when that was looked at.
    mounts: Mutex<Option<(Instant, Arc<GroupMounts>)>>,
    pub(super) network: Network,
    seen: Mutex<HashMap<VmKey, SeenOf>>,
}

/// What the last answer about a guest came from.
struct SeenOf {
    /// When it was asked about last.
    asked: Instant,
    files: Vec<Seen>,
    /// Its devices that other processes serve, by its command line.
    elsewhere: Vec<Attached>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            proc: ProcFs::system(),
            files: Files::below(Root::system()),
            host: HostFiles::below(&Root::system()),
            mounts: Mutex::default(),
            network: Network::default(),
            seen: Mutex::default(),
        }
    }
}

impl Answers {
    /// Reads that were given up because a file system did not answer.
    pub(super) fn files_unanswered(&self) -> u64 {
        self.files.unanswered()
    }

    /// Answers a question.
    pub(super) fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Guest(vm) => Answer::Guest(vm, self.guest(vm)),
            Question::Changes(vm) => Answer::Changes(vm, self.has_changed(vm)),
            Question::Memory(vm) => Answer::Memory(vm, self.memory(vm)),
            Question::Group(vm) => Answer::Group(vm, self.group(vm)),
            Question::IoGroup(vm, inode) => {
                Answer::IoGroup(vm, inode, self.proc.has_own_io_group(KvmGuest::of(vm).pid, inode))
            }
            Question::Devices(vm) => Answer::Devices(vm, self.devices(vm)),
            Question::Links => Answer::Links(self.network.counts()),
            Question::Disk(device) => {
                Answer::Disk(device, disk_name(&Root::system().path(""), device.major, device.minor))
            }
            Question::Host(parts) => Answer::Host(parts, Box::new(self.host.read(parts))),
            Question::Process(pid) => Answer::Process(pid, self.process(pid)),
        }
    }

    /// `None` of a process that has ended meanwhile, as most that are asked about late have.
    fn process(&self, pid: u32) -> Option<TaskFacts> {
        let name = self.proc.task_name(pid).ok()?;
        Some(TaskFacts { comm: name.comm, unit: name.cgroup.as_deref().and_then(unit_of) })
    }

    fn guest(&self, vm: VmKey) -> Option<GuestFacts> {
        let KvmGuest { pid, start_boottime_ns, .. } = KvmGuest::of(vm);
        let facts = match self.proc.facts(pid, start_boottime_ns) {
            Ok(facts) => facts,
            Err(error) => {
                tracing::debug!(%error, pid, "a guest's process does not say who it is");
                return None;
            }
        };
        let mut identity = platform::identify(&facts, &self.files);
        if let Some(trouble) = identity.trouble() {
            tracing::debug!(trouble, pid, "not all that the platform has of a guest could be read");
        }
        tracing::debug!(pid, facts = %identity.said(), "who a guest is");
        let now = Instant::now();
        self.seen(|seen| {
            seen.retain(|_, seen| now.duration_since(seen.asked) < FORGOTTEN);
            let elsewhere = attached::served_elsewhere(&facts.args);
            seen.insert(vm, SeenOf { asked: now, files: identity.take_seen(), elsewhere });
        });
        Some(GuestFacts { facts: identity.facts(), is_partial: identity.is_partial() })
    }

    fn memory(&self, vm: VmKey) -> Option<Memory> {
        let KvmGuest { pid, start_boottime_ns, .. } = KvmGuest::of(vm);
        match self.proc.memory(pid, start_boottime_ns) {
            Ok(ProcessMemory { anonymous, file, shared, huge, swapped }) => Some(Memory {
                at_unix_ns: Clock::now_unix_ns(),
                resident: [anonymous, file, shared, huge],
                swapped,
                is_new: true,
            }),
            Err(error) => {
                tracing::debug!(%error, pid, "the memory of a guest's process is not known");
                None
            }
        }
    }

    fn group(&self, vm: VmKey) -> Option<(GuestGroup, u64)> {
        let KvmGuest { pid, start_boottime_ns, .. } = KvmGuest::of(vm);
        let found = self.proc.guest_group(pid, &self.group_mounts())?;
        let at_unix_ns = Clock::now_unix_ns();
        // It may be that of the process that has its id now.
        self.proc.is_process(pid, start_boottime_ns).then_some((found, at_unix_ns))
    }

    /// Hosts with many containers have thousands of mounts: they are not read for each guest.
    fn group_mounts(&self) -> Arc<GroupMounts> {
        let mut known = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, mounts)) = known.as_ref().filter(|(looked, _)| looked.elapsed() < MOUNTS) {
            return Arc::clone(mounts);
        }
        let mounts = Arc::new(self.proc.group_mounts());
        *known = Some((Instant::now(), Arc::clone(&mounts)));
        mounts
    }

    fn devices(&self, vm: VmKey) -> Option<(FoundDevices, Option<FoundInterfaces>)> {
        let KvmGuest { pid, start_boottime_ns, .. } = KvmGuest::of(vm);
        let files = self.proc.open_files(pid).ok()?;
        let interfaces = self.network.interfaces(pid, &files);
        let mut devices = self.proc.attached(pid, &files, &Root::system().path("sys"));
        let elsewhere = self.seen(|seen| seen.get(&vm).map(|seen| seen.elsewhere.clone()));
        let is_partial = elsewhere.is_none();
        devices.extend(elsewhere.unwrap_or_default());
        // They may be those of the process that has its id now.
        let is_same = self.proc.is_process(pid, start_boottime_ns);
        is_same.then(|| (FoundDevices { is_partial, ..FoundDevices::of(devices) }, interfaces))
    }

    /// Of a guest that nobody answered for there is nothing that could change.
    fn has_changed(&self, vm: VmKey) -> bool {
        let seen = self.seen(|seen| {
            let seen = seen.get_mut(&vm)?;
            seen.asked = Instant::now();
            Some(seen.files.clone())
        });
        seen.is_some_and(|seen| self.files.have_changed(&seen))
    }

    /// Held for as long as a look-up takes: no file is asked meanwhile.
    fn seen<T>(&self, with: impl FnOnce(&mut HashMap<VmKey, SeenOf>) -> T) -> T {
        with(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::*;
    use crate::model::Fact;

    /// A made-up host on which QEMU runs as process 9.
    fn host() -> (tempfile::TempDir, Answers, VmKey) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("proc/9");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(root.path().join("run/libvirt/qemu")).unwrap();
        fs::write(dir.join("cmdline"), "qemu-system-x86_64\0-name\0guest=i-1\0").unwrap();
        fs::write(dir.join("stat"), "9 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0").unwrap();
        fs::write(dir.join("cgroup"), "0::/machine.slice/machine-qemu\\x2d1\\x2di\\x2d1.scope/libvirt\n")
            .unwrap();
        let answers = Answers {
            proc: ProcFs::at(root.path().join("proc")),
            files: Files::below(Root::at(root.path())),
            host: HostFiles::below(&Root::at(root.path())),
            mounts: Mutex::default(),
            network: Network::default(),
            seen: Mutex::default(),
        };
        (root, answers, KvmGuest { pid: 9, start_boottime_ns: 50_000_000, nth: 0 }.key())
    }

    fn status(name: &str) -> String {
        format!(
            "<domstatus pid='9'><domain><name>i-1</name><metadata><nova:instance><nova:name>{name}\
             </nova:name></nova:instance></metadata></domain></domstatus>"
        )
    }

    #[test]
    fn a_rename_is_a_change_and_is_answered_then() {
        let (root, answers, vm) = host();
        let write = |name: &str| {
            let path = root.path().join("run/libvirt/qemu/i-1.xml");
            fs::write(path.with_extension("new"), status(name)).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        };
        let name = |facts: &GuestFacts| facts.facts.get(Fact::Name).map(ToString::to_string);
        let ask = || answers.guest(vm).unwrap();
        assert!(!answers.has_changed(vm), "nobody has asked yet");
        let first = ask();
        assert!(first.is_partial && name(&first).as_deref() == Some("i-1"), "before libvirt has written it");
        assert!(!answers.has_changed(vm));
        for renamed in ["web", "web2"] {
            write(renamed);
            assert!(answers.has_changed(vm) && answers.has_changed(vm), "until it is asked");
            let facts = ask();
            assert!(!facts.is_partial && name(&facts).as_deref() == Some(renamed), "{facts:?}");
            assert!(!answers.has_changed(vm));
        }
    }

    #[test]
    fn the_control_group_of_a_process_that_has_the_id_now_is_not_the_guest_s() {
        let (root, answers, vm) = host();
        let own = root.path().join("proc").join(process::id().to_string());
        fs::create_dir_all(&own).unwrap();
        let mount = root.path().join("groups");
        let line = format!("33 24 0:28 / {} rw - cgroup2 cgroup2 rw\n", mount.display());
        fs::write(own.join("mountinfo"), line).unwrap();
        let group = mount.join("machine.slice/machine-qemu\\x2d1\\x2di\\x2d1.scope/libvirt");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.events"), "oom_kill 3\n").unwrap();
        let (found, at_unix_ns) = answers.group(vm).unwrap();
        assert!(found.events.contains(&Some(3)) && at_unix_ns > 0, "{found:?}");
        let earlier = KvmGuest { start_boottime_ns: 20_000_000, ..KvmGuest::of(vm) }.key();
        assert_eq!(answers.group(earlier), None);
    }

    #[test]
    fn a_guest_that_ended_is_forgotten() {
        let (_root, answers, vm) = host();
        let long_ago = Instant::now().checked_sub(FORGOTTEN);
        answers.seen(|seen| {
            let asked = long_ago.unwrap_or_else(Instant::now);
            seen.insert(VmKey::new([1, 1]), SeenOf { asked, files: Vec::new(), elsewhere: Vec::new() })
        });
        answers.guest(vm).unwrap();
        let expected = if long_ago.is_some() { 1 } else { 2 };
        assert_eq!(answers.seen(|seen| seen.len()), expected);
    }

    #[test]
    fn a_process_of_this_host_has_a_name() {
        let answers = Answers::default();
        let Answer::Process(_, Some(name)) = answers.answer(Question::Process(process::id())) else {
            panic!()
        };
        assert!(!name.comm.is_empty());
    }
}
