//! How often the kernel skipped a program because it ran already.

use std::{
    collections::HashMap,
    fs::File,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::fs::FileExt,
    },
};

/// Longer than all that the kernel says of a program: some twelve short lines.
const ROOM: usize = 1024;

/// What the kernel says of the descriptors of programs. Each file is opened once, and not at each snapshot:
/// to open one costs more than to read it.
#[derive(Debug, Default)]
pub(super) struct Misses(HashMap<String, (RawFd, File)>);

impl Misses {
    /// Of the program of this name; 0 where the kernel does not say.
    pub(super) fn of(&mut self, name: &str, program: BorrowedFd<'_>) -> u64 {
        self.line(name, program, "recursion_misses:").unwrap_or(0)
    }

    /// The number in a line of the file, which are `name:\tvalue`.
    fn line(&mut self, name: &str, program: BorrowedFd<'_>, key: &str) -> Option<u64> {
        let fd = program.as_raw_fd();
        // The file is that of the number, whatever has this number.
        if self.0.get(name).is_none_or(|(of, _)| *of != fd) {
            let file = File::open(format!("/proc/self/fdinfo/{fd}")).ok()?;
            self.0.insert(name.to_owned(), (fd, file));
        }
        let mut room = [0; ROOM];
        // Whoever reads from the begin gets it as it is now.
        let length = self.0.get(name)?.1.read_at(&mut room, 0).ok()?;
        let text = std::str::from_utf8(room.get(..length)?).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    }
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
        let mut misses = Misses::default();
        let mut position = |file: &File| misses.line("program", file.as_fd(), "pos:");
        assert_eq!(position(&one), Some(0));
        one.seek(SeekFrom::Start(77)).unwrap();
        assert_eq!(position(&one), Some(77));
        other.seek(SeekFrom::Start(5)).unwrap();
        assert_eq!(position(&other), Some(5), "it was loaded again, with another descriptor");
        assert_eq!(misses.of("program", other.as_fd()), 0, "the kernel does not say");
        assert_eq!(misses.0.len(), 1);
    }
}
