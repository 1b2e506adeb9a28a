//! What the threads of this process cost.

use std::{fs, path::Path};

use super::document::ThreadCost;

/// Threads that are listed. The unit lets the service have as many.
const MOST: usize = 256;

/// Each thread of this process with its CPU time, and how many are not listed. One that ends meanwhile is
/// left out.
pub(super) fn read() -> (Vec<ThreadCost>, u64) {
    list(Path::new("/proc/self/task"), MOST)
}

fn list(directory: &Path, most: usize) -> (Vec<ThreadCost>, u64) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let tids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut tids: Vec<u32> = tids.collect();
    tids.sort_unstable();
    let left_out = tids.len().saturating_sub(most) as u64;
    let listed = tids.into_iter().take(most);
    (listed.filter_map(|tid| cost(&directory.join(tid.to_string()), tid)).collect(), left_out)
}

/// By `comm` and `schedstat`, whose first number is the CPU time in ns.
fn cost(thread: &Path, tid: u32) -> Option<ThreadCost> {
    let text = |file: &str| fs::read_to_string(thread.join(file)).ok();
    let cpu_ns = text("schedstat")?.split_ascii_whitespace().next()?.parse().ok()?;
    Some(ThreadCost { tid, name: text("comm")?.trim_end_matches('\n').to_owned(), cpu_ns })
}

#[cfg(test)]
mod tests {
    use std::{
        hint,
        sync::mpsc::{TryRecvError, channel},
        thread::Builder,
        time::{Duration, Instant},
    };

    use super::*;

    fn cpu_of(name: &str) -> Option<u64> {
        read().0.iter().find(|thread| thread.name == name).map(|thread| thread.cpu_ns)
    }

    #[test]
    fn a_thread_that_works_costs_more_and_one_that_has_ended_is_gone() {
        let (stop, stopped) = channel::<()>();
        let work = move || {
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                hint::spin_loop();
            }
        };
        let worker = Builder::new().name("costs-much".into()).spawn(work).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let until = |what: &str, holds: &dyn Fn() -> bool| {
            while !holds() {
                assert!(Instant::now() < end, "{what}");
            }
        };
        until("it costs something", &|| cpu_of("costs-much").is_some_and(|ns| ns > 1_000_000));
        let before = cpu_of("costs-much").unwrap();
        until("it costs more", &|| cpu_of("costs-much").is_some_and(|ns| ns > before + 1_000_000));
        drop(stop);
        worker.join().unwrap();
        until("it is gone", &|| cpu_of("costs-much").is_none());
    }

    #[test]
    fn threads_beyond_the_bound_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        for tid in [30, 4, 100] {
            let thread = directory.path().join(tid.to_string());
            fs::create_dir(&thread).unwrap();
            fs::write(thread.join("comm"), format!("t {tid}\n")).unwrap();
            fs::write(thread.join("schedstat"), format!("{tid}00 7 1\n")).unwrap();
        }
        // One that has just ended.
        fs::create_dir(directory.path().join("5")).unwrap();
        let (listed, left_out) = list(directory.path(), 3);
        let thread = |tid, cpu_ns| ThreadCost { tid, name: format!("t {tid}"), cpu_ns };
        assert_eq!((listed, left_out), (vec![thread(4, 400), thread(30, 3000)], 1));
        assert_eq!(list(&directory.path().join("none"), 3), (Vec::new(), 0));
    }
}
