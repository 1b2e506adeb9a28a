//! `/proc/PID/task/TID/schedstat`: what the scheduler has credited a thread with. The kernel takes no lock
//! for it.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use super::{ProcError, ProcFs, vanished};

/// Far more than three numbers take.
const MAX_TEXT: usize = 96;

/// A thread's counts since its creation. None of them ever falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedstat {
    /// CPU time that is credited, ns (`se.sum_exec_runtime`).
    pub run_ns: u64,
    /// Run delay that is credited, ns (`sched_info.run_delay`).
    pub run_delay_ns: u64,
    /// Times that it was given a CPU (`sched_info.pcount`).
    pub timeslices: u64,
}

/// The file of one thread, kept open: it stays that thread's, also where its id is used again.
#[derive(Debug)]
pub struct SchedstatFile {
    file: File,
    pid: u32,
    path: PathBuf,
}

impl ProcFs {
    /// Opens a thread's counts.
    ///
    /// # Errors
    /// [`ProcError::Gone`] where there is no such thread, [`ProcError::Read`] where it cannot be opened.
    pub fn schedstat(&self, pid: u32, tid: u32) -> Result<SchedstatFile, ProcError> {
        let path = self.process(pid).join("task").join(tid.to_string()).join("schedstat");
        match File::open(&path) {
            Ok(file) => Ok(SchedstatFile { file, pid, path }),
            Err(error) if vanished(&error) => Err(ProcError::Gone { pid }),
            Err(source) => Err(ProcError::Read { path, source }),
        }
    }
}

impl SchedstatFile {
    /// The counts as they are now.
    ///
    /// # Errors
    /// [`ProcError::Gone`] where the thread has ended, [`ProcError::Malformed`] where the text is not three
    /// numbers.
    pub fn read(&self) -> Result<Schedstat, ProcError> {
        let mut text = [0; MAX_TEXT];
        let length = self.file.read_at(&mut text, 0).map_err(|source| match vanished(&source) {
            true => ProcError::Gone { pid: self.pid },
            false => ProcError::Read { path: self.path.clone(), source },
        })?;
        parse(&text[..length]).ok_or_else(|| ProcError::Malformed { path: self.path.clone() })
    }
}

fn parse(text: &[u8]) -> Option<Schedstat> {
    let mut numbers = str::from_utf8(text).ok()?.split_ascii_whitespace().map(|number| number.parse().ok());
    let [run_ns, run_delay_ns, timeslices] = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(Schedstat { run_ns, run_delay_ns, timeslices })
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread, time::Duration};

    use super::*;

    #[test]
    fn three_numbers_are_read_and_nothing_else() {
        let counts = Schedstat { run_ns: 1_474_599_482, run_delay_ns: u64::MAX, timeslices: 186 };
        assert_eq!(parse(b"1474599482 18446744073709551615 186\n"), Some(counts));
        for text in ["", "1 2\n", "1 2 3 4\n", "1 -2 3\n", "a b c\n", "1 2 18446744073709551616\n"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn an_open_file_stays_the_thread_s_until_it_ends() {
        let ((said, tid), (end, ended)) = (channel(), channel::<()>());
        let thread = thread::spawn(move || {
            // SAFETY: the call takes nothing and cannot fail.
            said.send(unsafe { libc::gettid() }).unwrap();
            assert!(ended.recv().is_err());
        });
        let tid = tid.recv().unwrap().unsigned_abs();
        let file = ProcFs::system().schedstat(std::process::id(), tid).unwrap();
        assert!(file.read().unwrap().timeslices > 0);
        drop(end);
        thread.join().unwrap();
        // Whoever joins is woken before the kernel has taken the thread's entry away.
        while file.read().is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(matches!(file.read(), Err(ProcError::Gone { .. })));
        let gone = ProcFs::system().schedstat(std::process::id(), tid);
        assert!(matches!(gone, Err(ProcError::Gone { .. })));
    }
}
