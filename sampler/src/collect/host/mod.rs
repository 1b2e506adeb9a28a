//! The host beside its guests: what its files in `/proc` and `/sys` say of it.

mod cpus;
mod memory;
mod nodes;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

pub use nodes::Nodes;

use super::{lines, pressure};
use crate::{
    kernel::{Root, clock::Clock},
    model::{HostParts, HostState, Pressure, Resource, Stalled},
};

/// Bytes that are taken of `/proc/stat`. Its line of interrupts has two or more for each that the host could
/// have; what comes after it is absent where it is longer.
const MOST_OF_STAT: usize = 1 << 20;

/// Bytes of `/proc/meminfo`.
const MOST_OF_MEMINFO: usize = 1 << 16;

/// The files of the host.
#[derive(Debug)]
pub struct HostFiles {
    root: PathBuf,
    /// That there is no pressure was said.
    is_said: AtomicBool,
}

impl HostFiles {
    /// Those below a root.
    #[must_use]
    pub fn below(root: &Root) -> Self {
        Self { root: root.path(""), is_said: AtomicBool::new(false) }
    }

    /// Reads these parts. What cannot be read is absent. When the host was booted is not in it.
    #[must_use]
    pub fn read(&self, parts: HostParts) -> HostState {
        let mut state = HostState::default();
        if parts.pressure {
            state.pressure = self.pressure();
        }
        if parts.system {
            self.system(&mut state);
        }
        HostState { at_unix_ns: Clock::now_unix_ns(), is_new: true, ..state }
    }

    fn pressure(&self) -> Pressure {
        let directory = self.root.join("proc/pressure");
        match pressure::read(|resource| directory.join(resource)) {
            Ok(mut pressure) => {
                // Of a whole host the kernel has no such time: it shows 0, from 5.13 on.
                let some = pressure.get(Resource::Cpu, Stalled::AtLeastOne);
                pressure.set(Resource::Cpu, [some, None]);
                pressure
            }
            Err(error) => {
                if !self.is_said.swap(true, Ordering::Relaxed) {
                    tracing::info!(
                        %error,
                        path = %directory.display(),
                        "the kernel measures no pressure (PSI), which is absent: boot with psi=1 to have it"
                    );
                }
                Pressure::default()
            }
        }
    }

    fn system(&self, state: &mut HostState) {
        if let Some(stat) = self.text("proc/stat", MOST_OF_STAT) {
            (state.cpu_ns, state.threads) = (cpus::times(&stat), cpus::threads(&stat));
        }
        if let Some(meminfo) = self.text("proc/meminfo", MOST_OF_MEMINFO) {
            state.memory = memory::states(&meminfo);
            state.available = lines::kilobytes(&meminfo, "MemAvailable");
        }
        state.huge_pages = memory::huge_pages(&self.root.join("sys/kernel/mm/hugepages"));
    }

    fn text(&self, path: impl AsRef<Path>, most: usize) -> Option<String> {
        let path = self.root.join(path);
        match lines::read(&path, most) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "this of the host is not known");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::{CpuMode, ThreadState};

    const ALL: HostParts = HostParts { pressure: true, system: true };

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostFiles) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = HostFiles::below(&Root::at(root.path()));
        (root, files)
    }

    #[test]
    fn of_cpus_all_standing_still_is_left_out() {
        let (_root, files) = host(&[
            ("proc/pressure/cpu", "some avg10=0.00 total=5\nfull avg10=0.00 total=0\n"),
            ("proc/pressure/irq", "full avg10=0.00 total=3\n"),
        ]);
        assert!(files.read(HostParts::NONE).pressure.is_empty(), "nobody asked for it");
        let pressure = files.read(ALL).pressure;
        assert_eq!(pressure.get(Resource::Cpu, Stalled::AtLeastOne), Some(5_000));
        assert_eq!(pressure.get(Resource::Cpu, Stalled::All), None);
        assert_eq!(pressure.get(Resource::Irq, Stalled::All), Some(3_000));
        assert_eq!(pressure.get(Resource::Irq, Stalled::AtLeastOne), None);
    }

    #[test]
    fn where_there_is_nothing_all_is_absent() {
        let (_root, files) = host(&[]);
        let state = files.read(ALL);
        assert!(state.at_unix_ns > 0 && state.is_new);
        assert_eq!(HostState { at_unix_ns: 0, is_new: false, ..state }, HostState::default());
        assert!(files.is_said.load(Ordering::Relaxed), "that there is no pressure is said");
    }

    #[test]
    fn a_line_of_interrupts_that_is_too_long_hides_what_follows() {
        let interrupts = "0 ".repeat(MOST_OF_STAT / 2);
        let stat = format!("cpu  1 2 3 4 5 6 7 8 0 0\nintr 1 {interrupts}\nprocs_running 3\n");
        let (_root, files) = host(&[("proc/stat", stat.as_str())]);
        let state = files.read(ALL);
        assert_eq!(state.cpu_ns[CpuMode::Steal as usize], Some(80_000_000));
        assert_eq!(state.threads[ThreadState::Runnable as usize], None);
    }

    #[test]
    fn this_host_has_all_of_it() {
        let files = HostFiles::below(&Root::system());
        let state = files.read(ALL);
        assert!(state.cpu_ns.iter().all(Option::is_some), "{:?}", state.cpu_ns);
        assert!(state.threads[ThreadState::Runnable as usize].unwrap() > 0, "this thread runs");
        assert!(state.memory.unwrap().iter().sum::<u64>() > state.available.unwrap());
        let system = HostParts { pressure: false, system: true };
        assert!(files.read(system).pressure.is_empty());
    }
}
