//! Which processes are KVM guests: those that hold a descriptor of a vCPU.

use std::{fs, io, path::Path};

use super::{ProcError, ProcFs, TICK_NS, vanished};

/// Descriptors looked at in one process. A guest holds its vCPUs among its first few hundred; the bound is
/// there for a process that opens descriptors to make the scan slow.
pub const MAX_FDS: usize = 65_536;

/// What the kernel calls a descriptor of a vCPU, before the vCPU's number. A file cannot pretend to be one:
/// its link is an absolute path.
const VCPU_LINK: &str = "anon_inode:kvm-vcpu:";

/// A process that runs a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestProcess {
    /// Process id in the pid namespace of the /proc that was read.
    pub pid: u32,
    /// `CLOCK_BOOTTIME` when the process was created, ns, rounded down to [`TICK_NS`].
    pub start_boottime_ns: u64,
    /// Numbers of its vCPUs as the VMM chose them, ascending, each once.
    pub vcpu_ids: Vec<u32>,
}

impl GuestProcess {
    /// Whether a process with this pid and this exact creation time, `CLOCK_BOOTTIME` in ns, is this one.
    #[must_use]
    pub fn is(&self, pid: u32, start_boottime_ns: u64) -> bool {
        self.pid == pid && self.start_boottime_ns / TICK_NS == start_boottime_ns / TICK_NS
    }
}

/// What one pass over all processes found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The guests, ordered by pid.
    pub guests: Vec<GuestProcess>,
    /// Processes seen.
    pub processes: u64,
    /// Processes whose descriptors this process may not see: guests may hide among them.
    pub denied: u64,
    /// Processes that ended while they were looked at.
    pub vanished: u64,
    /// Processes with more than [`MAX_FDS`] descriptors, of which the rest was not looked at.
    pub truncated: u64,
    /// Processes that could not be read for another reason.
    pub failed: u64,
}

impl ProcFs {
    /// Finds the guests among all processes. Reads directories and links only, so no process can hold it up.
    ///
    /// A process that has a VM but no vCPU is no guest: QEMU makes such a VM when libvirt asks what it can
    /// do.
    ///
    /// # Errors
    /// [`ProcError::List`] where the proc file system cannot be listed. What goes wrong with a single process
    /// is counted in the answer.
    pub fn scan(&self) -> Result<Scan, ProcError> {
        let list = |source| ProcError::List { path: self.root().to_owned(), source };
        let mut scan = Scan::default();
        for entry in fs::read_dir(self.root()).map_err(list)? {
            let entry = entry.map_err(list)?;
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                scan.add(self, pid);
            }
        }
        scan.guests.sort_unstable_by_key(|guest| guest.pid);
        Ok(scan)
    }
}

impl Scan {
    fn add(&mut self, proc: &ProcFs, pid: u32) {
        self.processes += 1;
        let vcpus = match vcpu_ids(&proc.process(pid).join("fd")) {
            // Its first thread has ended, or it has no descriptors, as kernel threads have none.
            Ok(vcpus) if vcpus.are_none() => {
                let others = proc.other_threads(pid).into_iter();
                let mut others = others.filter_map(|thread| vcpu_ids(&thread.join("fd")).ok());
                others.find(|others| !others.are_none()).unwrap_or(vcpus)
            }
            Ok(vcpus) => vcpus,
            Err(error) if vanished(&error) => return self.vanished += 1,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return self.denied += 1,
            Err(_) => return self.failed += 1,
        };
        self.truncated += u64::from(vcpus.truncated);
        if vcpus.ids.is_empty() {
            return;
        }
        match proc.start_boottime_ns(pid) {
            Ok(start_boottime_ns) => {
                self.guests.push(GuestProcess { pid, start_boottime_ns, vcpu_ids: vcpus.ids });
            }
            Err(ProcError::Gone { .. }) => self.vanished += 1,
            Err(_) => self.failed += 1,
        }
    }
}

struct VcpuIds {
    ids: Vec<u32>,
    /// Descriptors of all kinds that were looked at.
    descriptors: usize,
    truncated: bool,
}

impl VcpuIds {
    const fn are_none(&self) -> bool {
        self.descriptors == 0
    }
}

fn vcpu_ids(fd_dir: &Path) -> io::Result<VcpuIds> {
    let (mut ids, mut descriptors) = (Vec::new(), 0);
    let mut entries = fs::read_dir(fd_dir)?;
    for entry in entries.by_ref().take(MAX_FDS) {
        descriptors += 1;
        match fs::read_link(entry?.path()) {
            Ok(target) => ids.extend(target.to_str().and_then(parse_vcpu_link)),
            // A descriptor that was closed since the directory was read.
            Err(error) if vanished(&error) => {}
            Err(error) => return Err(error),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(VcpuIds { ids, descriptors, truncated: entries.next().is_some() })
}

fn parse_vcpu_link(target: &str) -> Option<u32> {
    target.strip_prefix(VCPU_LINK)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct FakeProc(tempfile::TempDir);

    impl FakeProc {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn process(&self, pid: &str, comm: &str, fds: &[&str]) {
            let dir = self.0.path().join(pid);
            fs::create_dir_all(dir.join("fd")).unwrap();
            for (number, target) in fds.iter().enumerate() {
                symlink(target, dir.join("fd").join(number.to_string())).unwrap();
            }
            let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4200 0 0");
            fs::write(dir.join("stat"), stat).unwrap();
        }

        fn scan(&self) -> Scan {
            ProcFs::at(self.0.path()).scan().unwrap()
        }
    }

    #[test]
    fn finds_vcpus_by_their_descriptors() {
        let proc = FakeProc::new();
        proc.process("12", "sh", &["/dev/null", "pipe:[1]"]);
        proc.process(
            "30",
            "a) b\n(c",
            &[
                "anon_inode:kvm-vm",
                "anon_inode:kvm-vcpu:10",
                "anon_inode:kvm-vcpu:2",
                "anon_inode:kvm-vcpu:2",
            ],
        );
        proc.process("4", "qemu", &["anon_inode:kvm-vcpu:0"]);
        fs::create_dir_all(proc.0.path().join("sys/fd")).unwrap();
        let scan = proc.scan();
        assert_eq!(
            scan.guests,
            [
                GuestProcess { pid: 4, start_boottime_ns: 42_000_000_000, vcpu_ids: vec![0] },
                GuestProcess { pid: 30, start_boottime_ns: 42_000_000_000, vcpu_ids: vec![2, 10] },
            ]
        );
        assert_eq!((scan.processes, scan.denied, scan.vanished, scan.failed), (3, 0, 0, 0));
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_found_through_another() {
        let proc = FakeProc::new();
        proc.process("40", "vmm", &[]);
        let thread = proc.0.path().join("40/task/41/fd");
        fs::create_dir_all(&thread).unwrap();
        fs::create_dir_all(proc.0.path().join("40/task/40/fd")).unwrap();
        symlink("anon_inode:kvm-vcpu:3", thread.join("7")).unwrap();
        let scan = proc.scan();
        assert_eq!(scan.guests.iter().map(|guest| guest.pid).collect::<Vec<_>>(), [40]);
        assert_eq!(scan.guests[0].vcpu_ids, [3]);
    }

    #[test]
    fn what_is_no_vcpu_is_no_guest() {
        let proc = FakeProc::new();
        proc.process(
            "5",
            "probe",
            &[
                "anon_inode:kvm-vm",
                "anon_inode:kvm-vcpu:",
                "anon_inode:kvm-vcpu:-1",
                "anon_inode:kvm-vcpu:99999999999",
                "/tmp/anon_inode:kvm-vcpu:1",
                "anon_inode:kvm-vcpu-stats:1",
            ],
        );
        assert_eq!(proc.scan().guests, []);
    }

    #[test]
    fn a_process_that_ends_meanwhile_is_counted_and_skipped() {
        let proc = FakeProc::new();
        fs::create_dir(proc.0.path().join("77")).unwrap();
        proc.process("78", "x", &["anon_inode:kvm-vcpu:0"]);
        fs::remove_file(proc.0.path().join("78/stat")).unwrap();
        let scan = proc.scan();
        assert_eq!((scan.guests.len(), scan.processes, scan.vanished), (0, 2, 2));
    }

    #[test]
    fn a_broken_process_does_not_stop_the_scan() {
        let proc = FakeProc::new();
        proc.process("6", "x", &["anon_inode:kvm-vcpu:0"]);
        fs::write(proc.0.path().join("6/stat"), "garbage").unwrap();
        proc.process("7", "x", &["anon_inode:kvm-vcpu:0"]);
        let scan = proc.scan();
        assert_eq!((scan.guests.len(), scan.failed), (1, 1));
    }

    #[test]
    fn a_missing_proc_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = ProcFs::at(dir.path().join("none")).scan().unwrap_err();
        assert!(error.to_string().contains("none: cannot list processes"), "{error}");
    }

    #[test]
    fn identity_is_compared_at_the_resolution_of_proc() {
        let guest = GuestProcess { pid: 9, start_boottime_ns: 50_000_000, vcpu_ids: vec![] };
        assert!(guest.is(9, 59_999_999));
        assert!(!guest.is(9, 60_000_000));
        assert!(!guest.is(8, 50_000_000));
    }
}
