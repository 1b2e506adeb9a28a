//! `/proc/PID/task`: a process's threads. Any of them may end between two looks.

use std::fs;
use std::io;
use std::path::Path;

use super::error::{OracleError, read};

/// Threads of a process with their names. One that ends meanwhile is left out.
///
/// # Errors
/// When the process is gone ([`OracleError::is_gone`]): there is always one thread at least.
pub fn threads(pid: u32) -> Result<Vec<(u32, String)>, OracleError> {
    let folder = Path::new("/proc").join(pid.to_string()).join("task");
    let failed = |source| OracleError::Read { path: folder.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(tid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        if let Some(name) = if_there(read(&path.join("comm")))? {
            found.push((tid, name.trim_end_matches('\n').to_owned()));
        }
    }
    if found.is_empty() { Err(failed(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

/// What was read of a thread or process; `None` of one that is gone. Any other error stays one.
///
/// # Errors
/// The others.
pub fn if_there<T>(answer: Result<T, OracleError>) -> Result<Option<T>, OracleError> {
    match answer {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::oracle::Schedstat;

    #[test]
    fn threads_that_end_meanwhile_are_no_error_and_the_others_are_found() {
        let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let lives: Vec<_> = (0..16).map(|_| thread::spawn(|| {})).collect();
                    lives.into_iter().for_each(|life| life.join().unwrap());
                }
            });
            let looks = (0..2000).try_for_each(|_| {
                let found = threads(std::process::id())?;
                assert!(found.iter().any(|(tid, _)| *tid == own), "{found:?}");
                found.iter().try_for_each(|(tid, _)| {
                    if_there(Schedstat::of(std::process::id(), *tid)).map(|_counts| ())
                })
            });
            over.store(true, Ordering::Relaxed);
            looks.unwrap();
        });
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_and_so_is_what_is_not_understood() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(threads(pid).unwrap_err().is_gone());
        let strange = OracleError::format(Path::new("/x"), "nothing", "");
        assert!(if_there::<()>(Err(strange)).is_err());
    }
}
