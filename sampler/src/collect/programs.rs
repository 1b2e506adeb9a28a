//! What the kernel counts of the programs: runs, the time that they take, and runs that it skipped.

use std::{
    collections::HashMap,
    fs::File,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::fs::FileExt,
    },
    sync::Arc,
};

use crate::model::ProgramRuns;

/// Longer than all that the kernel says of a program: some twelve short lines.
const ROOM: usize = 1024;

/// What the kernel says of the descriptors of programs. Each file is opened once, and not at each snapshot:
/// to open one costs more than to read it.
#[derive(Debug, Default)]
pub(super) struct ProgramFiles(HashMap<Arc<str>, (RawFd, File)>);

/// What the kernel has counted of a program; 0 of what it does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) runs: ProgramRuns,
    /// Runs that were skipped because the program ran already.
    pub(super) skipped: u64,
}

impl ProgramFiles {
    /// Of the program of this name; `None` where its file cannot be read.
    pub(super) fn of(&mut self, name: &str, program: BorrowedFd<'_>) -> Option<Counted> {
        let mut room = [0; ROOM];
        let (name, text) = self.read(name, program, &mut room)?;
        let number = |key| number(text, key).unwrap_or(0);
        let runs = ProgramRuns { name, count: number("run_cnt:"), time_ns: number("run_time_ns:") };
        Some(Counted { runs, skipped: number("recursion_misses:") })
    }

    /// The file's text as it is now, whose lines are `key:\tvalue`.
    fn read<'r>(
        &mut self,
        name: &str,
        program: BorrowedFd<'_>,
        room: &'r mut [u8; ROOM],
    ) -> Option<(Arc<str>, &'r str)> {
        let fd = program.as_raw_fd();
        // The file is that of the number, whatever has this number.
        if self.0.get(name).is_none_or(|(of, _)| *of != fd) {
            let file = File::open(format!("/proc/self/fdinfo/{fd}")).ok()?;
            self.0.insert(name.into(), (fd, file));
        }
        let (name, (_, file)) = self.0.get_key_value(name)?;
        // Whoever reads from the begin gets it as it is now.
        let length = file.read_at(room, 0).ok()?;
        Some((Arc::clone(name), std::str::from_utf8(room.get(..length)?).ok()?))
    }
}

fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Seek as _, SeekFrom},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn a_number_is_read_as_it_is_now_and_from_the_file_that_the_program_has_now() {
        let open = || File::open(std::env::current_exe().unwrap()).unwrap();
        let (mut one, mut other) = (open(), open());
        let mut files = ProgramFiles::default();
        let mut position = |file: &File| {
            let mut room = [0; ROOM];
            number(files.read("program", file.as_fd(), &mut room).unwrap().1, "pos:")
        };
        assert_eq!(position(&one), Some(0));
        one.seek(SeekFrom::Start(77)).unwrap();
        assert_eq!(position(&one), Some(77));
        other.seek(SeekFrom::Start(5)).unwrap();
        assert_eq!(position(&other), Some(5), "it was loaded again, with another descriptor");
        let unsaid =
            Counted { runs: ProgramRuns { name: "program".into(), count: 0, time_ns: 0 }, skipped: 0 };
        assert_eq!(files.of("program", other.as_fd()), Some(unsaid), "the kernel does not say");
        assert_eq!(files.0.len(), 1);
    }

    #[test]
    fn what_linux_6_18_says_of_a_program_is_read() {
        const SAID: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t2061\nprog_type:\t17\nprog_jited:\t1\n\
                            prog_tag:\t5eb43d8e3d4b0d33\nmemlock:\t8192\nprog_id:\t57\nrun_time_ns:\t123456\n\
                            run_cnt:\t789\nrecursion_misses:\t2\nverified_insns:\t944\n";
        let numbers = ["run_time_ns:", "run_cnt:", "recursion_misses:", "none:"].map(|key| number(SAID, key));
        assert_eq!(numbers, [Some(123_456), Some(789), Some(2), None]);
    }
}
