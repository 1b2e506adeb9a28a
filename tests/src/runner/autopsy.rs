//! What a test was doing when its time was over: without it a test that hangs once in fifty runs is never
//! understood.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Threads that are described at most.
const THREADS: usize = 200;

/// One line for each thread of a process group: who it is, its state, and where in the kernel it sleeps.
pub(super) fn describe(group: u32) -> String {
    let mut text = String::new();
    let tasks =
        members(group).into_iter().flat_map(|pid| numbers(&Path::new("/proc").join(&pid).join("task")));
    for tid in tasks.take(THREADS) {
        let _ = writeln!(text, "  {}", thread(&tid));
    }
    text
}

fn members(group: u32) -> Vec<String> {
    let is_member =
        |pid: &String| stat(pid).is_some_and(|(_, fields)| fields.get(2) == Some(&group.to_string()));
    numbers(Path::new("/proc")).into_iter().filter(is_member).collect()
}

fn numbers(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// The name of a thread, and what `/proc/ID/stat` has after it: state, parent, process group and so on.
fn stat(id: &str) -> Option<(String, Vec<String>)> {
    let text = fs::read_to_string(Path::new("/proc").join(id).join("stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    Some((name, tail.split_whitespace().map(str::to_owned).collect()))
}

fn thread(tid: &str) -> String {
    let Some((name, fields)) = stat(tid) else { return format!("thread {tid} is gone") };
    let read = |file: &str| fs::read_to_string(Path::new("/proc").join(tid).join(file)).unwrap_or_default();
    let state = fields.first().map_or("?", String::as_str);
    let (wchan, schedstat) = (read("wchan"), read("schedstat"));
    let stack: Vec<_> = read("stack").lines().take(6).map(|line| line.trim().to_owned()).collect();
    format!("thread {tid} ({name}) {state} in {wchan}, schedstat {}, {}", schedstat.trim(), stack.join(" < "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described_with_its_threads() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs();
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let text = describe(group);
        assert!(text.contains(&format!("thread {own} (")), "{text}");
    }
}
