//! What a process says of itself, its program and its command line, and where others have put it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use super::{ProcError, ProcFs, TICK_NS, vanished};

/// Bytes of an argument that are kept. Names are shorter, and what is longer (data for cloud-init or
/// `fw_cfg`) says nothing of the guest.
pub const MAX_ARG: usize = 8_192;

/// Arguments that are kept. QEMU's are a few hundred; a process may have millions of empty ones.
const MAX_ARGS: usize = 16_384;

/// Bytes of a command line that are read. The kernel starts no program with more than 6 MiB of arguments and
/// environment (`bprm_stack_limits()` in `fs/exec.c`, 2.6.23 to 7.2); a process may show more by `prctl`.
const MAX_CMDLINE: u64 = 8 << 20;

/// What the kernel adds to the link of a program that was replaced or removed since it was started, as every
/// VMM's is after an upgrade.
const DELETED: &[u8] = b" (deleted)";

/// Control groups that are kept: one for each hierarchy, of which Linux has some fourteen.
const MAX_CGROUPS: usize = 32;

/// Bytes of a control group's path that are kept: those of containers are a few hundred.
const MAX_CGROUP: usize = 4_096;

/// What a process says of itself; all of it but its id and its control groups is under the control of whoever
/// started it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Its id.
    pub pid: u32,
    /// File name of the program, where this process may know it.
    pub exe: Option<Vec<u8>>,
    /// Arguments, the first being what the program was called as. Any bytes but NUL.
    pub args: Vec<Vec<u8>>,
    /// Arguments of which no more than the first [`MAX_ARG`] bytes were kept, or nothing.
    pub cut: usize,
    /// Paths of its control groups, each once: version 1 has several hierarchies, and version 2 has one.
    pub cgroups: Vec<String>,
}

impl ProcFs {
    /// Reads the program and command line of the process that has this pid and was created at this time,
    /// `CLOCK_BOOTTIME` in ns, exact or rounded down to [`TICK_NS`].
    ///
    /// This may block for as long as the process holds its memory map locked, which for a hung one is
    /// for ever: call it on a thread that nothing waits for.
    ///
    /// # Errors
    /// [`ProcError::Gone`] where the process ended or its pid is another process's now,
    /// [`ProcError::Read`] where it cannot be read.
    pub fn facts(&self, pid: u32, start_boottime_ns: u64) -> Result<ProcessFacts, ProcError> {
        let dir = self.process(pid);
        let mut said = Said::read(&dir).map_err(|source| match vanished(&source) {
            true => ProcError::Gone { pid },
            false => ProcError::Read { path: dir.join("cmdline"), source },
        })?;
        if said.is_nothing() {
            // Its first thread has ended, and lives on through the others: the memory is theirs.
            let others = self.other_threads(pid).into_iter();
            let mut others = others.filter_map(|dir| Said::read(&dir).ok().filter(|said| !said.is_nothing()));
            said = others.next().unwrap_or(said);
        }
        // The pid may have changed hands between the scan and here; what was read counts only if it did not.
        if self.start_boottime_ns(pid)? / TICK_NS != start_boottime_ns / TICK_NS {
            return Err(ProcError::Gone { pid });
        }
        let (args, cut) = split_cmdline(&said.cmdline);
        Ok(ProcessFacts { pid, exe: said.exe, args, cut, cgroups: said.cgroups })
    }
}

/// What the files of one thread hold.
struct Said {
    cmdline: Vec<u8>,
    exe: Option<Vec<u8>>,
    cgroups: Vec<String>,
}

impl Said {
    fn read(dir: &Path) -> io::Result<Self> {
        let mut cmdline = Vec::new();
        File::open(dir.join("cmdline"))?.take(MAX_CMDLINE).read_to_end(&mut cmdline)?;
        let exe = fs::read_link(dir.join("exe")).ok().and_then(|link| link.file_name().map(program_name));
        // Kernels without control groups have no such file.
        let mut cgroups = Vec::new();
        if let Ok(file) = File::open(dir.join("cgroup")) {
            let _ = file.take((MAX_CGROUPS * MAX_CGROUP) as u64).read_to_end(&mut cgroups);
        }
        Ok(Self { cmdline, exe, cgroups: split_cgroups(&cgroups) })
    }

    const fn is_nothing(&self) -> bool {
        self.cmdline.is_empty() && self.exe.is_none()
    }
}

fn program_name(link: &OsStr) -> Vec<u8> {
    let name = link.as_bytes();
    name.strip_suffix(DELETED).unwrap_or(name).to_vec()
}

fn split_cmdline(cmdline: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let cmdline = cmdline.strip_suffix(&[0]).unwrap_or(cmdline);
    if cmdline.is_empty() {
        return (Vec::new(), 0);
    }
    let args = || cmdline.split(|&byte| byte == 0);
    let cut = args().enumerate().filter(|(n, arg)| *n >= MAX_ARGS || arg.len() > MAX_ARG).count();
    let kept = args().take(MAX_ARGS).map(|arg| arg[..arg.len().min(MAX_ARG)].to_vec());
    (kept.collect(), cut)
}

/// Lines of `hierarchy:controllers:path`. Of a group that was removed the kernel says so behind its path.
fn split_cgroups(lines: &[u8]) -> Vec<String> {
    let mut cgroups: Vec<String> = Vec::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Some(path) = line.splitn(3, |&byte| byte == b':').nth(2) else { continue };
        let path = String::from_utf8_lossy(path.strip_suffix(DELETED).unwrap_or(path));
        let is_kept = cgroups.len() < MAX_CGROUPS && path.len() <= MAX_CGROUP;
        if is_kept && !cgroups.iter().any(|known| *known == path) {
            cgroups.push(path.into_owned());
        }
    }
    cgroups
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const START: u64 = 5 * TICK_NS;

    fn fake(cmdline: &[u8], exe: &str) -> (tempfile::TempDir, ProcFs) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("9");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cmdline"), cmdline).unwrap();
        fs::write(dir.join("stat"), "9 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0").unwrap();
        symlink(exe, dir.join("exe")).unwrap();
        let proc = ProcFs::at(root.path());
        (root, proc)
    }

    #[test]
    fn arguments_keep_their_bytes() {
        let (_root, proc) = fake(b"qemu\0-name\0a\nb\xff\0\0end\0", "/usr/bin/qemu-system-x86_64 (deleted)");
        let facts = proc.facts(9, START).unwrap();
        assert_eq!(facts.exe.as_deref(), Some(&b"qemu-system-x86_64"[..]));
        assert_eq!(facts.args, [&b"qemu"[..], b"-name", b"a\nb\xff", b"", b"end"]);
        assert_eq!(facts.cut, 0);
    }

    #[test]
    fn a_long_argument_hides_none_behind_it() {
        let mut cmdline = b"qemu\0-fw_cfg\0name=opt/x,string=".to_vec();
        cmdline.resize(300_000, b'x');
        cmdline.extend_from_slice(b"\0-name\0guest\0");
        let (_root, proc) = fake(&cmdline, "/bin/x");
        let facts = proc.facts(9, START).unwrap();
        assert_eq!(facts.args[3..], [&b"-name"[..], b"guest"]);
        assert_eq!((facts.args[2].len(), facts.cut), (MAX_ARG, 1));
    }

    #[test]
    fn an_endless_command_line_is_read_no_further_than_the_kernel_allows() {
        let (_root, proc) = fake(&vec![b'x'; MAX_CMDLINE as usize + 10], "/bin/x");
        let facts = proc.facts(9, START).unwrap();
        assert_eq!((facts.args.len(), facts.args[0].len(), facts.cut), (1, MAX_ARG, 1));
    }

    #[test]
    fn millions_of_empty_arguments_take_no_memory() {
        let (_root, proc) = fake(&vec![0; 3_000_000], "/bin/x");
        let facts = proc.facts(9, START).unwrap();
        assert_eq!((facts.args.len(), facts.cut), (MAX_ARGS, 3_000_000 - MAX_ARGS));
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_asked_through_another() {
        let (root, proc) = fake(b"", "/bin/x");
        let dir = root.path().join("9");
        fs::remove_file(dir.join("exe")).unwrap();
        for tid in ["9", "11"] {
            fs::create_dir_all(dir.join("task").join(tid)).unwrap();
        }
        fs::write(dir.join("task/9/cmdline"), "").unwrap();
        fs::write(dir.join("task/11/cmdline"), "qemu\0-name\0web\0").unwrap();
        symlink("/usr/bin/qemu-system-x86_64", dir.join("task/11/exe")).unwrap();
        let facts = proc.facts(9, START).unwrap();
        assert_eq!(facts.exe.as_deref(), Some(&b"qemu-system-x86_64"[..]));
        assert_eq!(facts.args[1..], [&b"-name"[..], b"web"]);
    }

    #[test]
    fn control_groups_are_found_in_both_versions() {
        let (root, proc) = fake(b"qemu\0", "/bin/x");
        assert_eq!(proc.facts(9, START).unwrap().cgroups.len(), 0);
        let lines = "12:cpuset:/a/vcpu0\n5:cpu,cpuacct:/a:b (deleted)\n1:name=systemd:/a/vcpu0\n0::/c\n\nx\n";
        fs::write(root.path().join("9/cgroup"), lines).unwrap();
        let facts = proc.facts(9, START).unwrap();
        assert_eq!((facts.pid, facts.cgroups), (9, vec!["/a/vcpu0".into(), "/a:b".into(), "/c".into()]));
        let endless: String = (0..100).map(|n| format!("{n}::/{n}{}\n", "x".repeat(n * 100))).collect();
        assert_eq!(split_cgroups(endless.as_bytes()).len(), MAX_CGROUPS);
    }

    #[test]
    fn a_pid_in_other_hands_is_gone() {
        let (_root, proc) = fake(b"qemu\0", "/bin/x");
        assert!(proc.facts(9, START + TICK_NS - 1).is_ok());
        let error = proc.facts(9, START + TICK_NS).unwrap_err();
        assert!(matches!(error, ProcError::Gone { pid: 9 }), "{error}");
    }

    #[test]
    fn an_empty_command_line_has_no_arguments() {
        let (_root, proc) = fake(b"", "/bin/x");
        assert_eq!(proc.facts(9, START).unwrap().args.len(), 0);
    }
}
