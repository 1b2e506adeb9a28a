//! What a process says of itself: its program and its command line.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
};

use super::{ProcError, ProcFs, TICK_NS, vanished};

/// Bytes of a command line that are read. libvirt's longest for QEMU are about a third of this.
pub const MAX_CMDLINE: u64 = 65_536;

/// What the kernel adds to the link of a program that was replaced or removed since it was started, as every
/// VMM's is after an upgrade.
const DELETED: &[u8] = b" (deleted)";

/// What a process says of itself; all of it is under the control of whoever started it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// File name of the program, where this process may know it.
    pub exe: Option<Vec<u8>>,
    /// Arguments, the first being what the program was called as. Any bytes but NUL.
    pub args: Vec<Vec<u8>>,
    /// The command line is longer than [`MAX_CMDLINE`]; the argument that was cut is left out.
    pub truncated: bool,
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
        let path = dir.join("cmdline");
        let mut cmdline = Vec::new();
        File::open(&path).and_then(|file| file.take(MAX_CMDLINE + 1).read_to_end(&mut cmdline)).map_err(
            |source: io::Error| match vanished(&source) {
                true => ProcError::Gone { pid },
                false => ProcError::Read { path, source },
            },
        )?;
        let exe = fs::read_link(dir.join("exe")).ok().and_then(|link| link.file_name().map(program_name));
        // The pid may have changed hands between the scan and here; what was read counts only if it did not.
        if self.start_boottime_ns(pid)? / TICK_NS != start_boottime_ns / TICK_NS {
            return Err(ProcError::Gone { pid });
        }
        let (args, truncated) = split_cmdline(cmdline);
        Ok(ProcessFacts { exe, args, truncated })
    }
}

fn program_name(link: &OsStr) -> Vec<u8> {
    let name = link.as_bytes();
    name.strip_suffix(DELETED).unwrap_or(name).to_vec()
}

fn split_cmdline(mut cmdline: Vec<u8>) -> (Vec<Vec<u8>>, bool) {
    let truncated = cmdline.len() as u64 > MAX_CMDLINE;
    if truncated {
        let whole = cmdline.iter().rposition(|&byte| byte == 0).unwrap_or(0);
        cmdline.truncate(whole);
    } else if cmdline.last() == Some(&0) {
        cmdline.pop();
    }
    if cmdline.is_empty() {
        return (Vec::new(), truncated);
    }
    (cmdline.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect(), truncated)
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
        assert!(!facts.truncated);
    }

    #[test]
    fn a_long_command_line_is_cut_between_arguments() {
        let mut cmdline = b"qemu\0-name\0guest\0".to_vec();
        cmdline.resize(MAX_CMDLINE as usize * 2, b'x');
        let (_root, proc) = fake(&cmdline, "/bin/x");
        let facts = proc.facts(9, START).unwrap();
        assert_eq!(facts.args, [&b"qemu"[..], b"-name", b"guest"]);
        assert!(facts.truncated);
    }

    #[test]
    fn one_endless_argument_leaves_none() {
        let (_root, proc) = fake(&vec![b'x'; MAX_CMDLINE as usize * 2], "/bin/x");
        let facts = proc.facts(9, START).unwrap();
        assert_eq!((facts.args.len(), facts.truncated), (0, true));
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
