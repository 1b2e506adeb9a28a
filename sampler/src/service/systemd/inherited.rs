//! Descriptors that the service manager gave to this process: those that an earlier one let it keep
//! (sd_listen_fds(3)).

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::kernel::descriptors::{Name, PREFIX, Part, Token};

/// The number of the first (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// How many are looked at. The unit lets 256 be kept.
const MOST: usize = 4096;

/// The parts of sets that came, by set.
#[derive(Debug, Default)]
pub struct Inherited {
    sets: BTreeMap<Token, BTreeMap<Part, OwnedFd>>,
    names: BTreeSet<String>,
}

impl Inherited {
    /// Takes those that `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` of this process, `pid`, say are
    /// there. What has a name that is not of a set is closed.
    ///
    /// The variables may be anybody's. So nothing is taken that this process has opened itself; but as that is
    /// known by a flag that all but a few careless libraries set, it is to be asked before anything is open.
    #[must_use]
    pub fn take(env: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        Self::from(FIRST, &announced(env, pid))
    }

    /// The newest set that is whole as far as its sender knew: the manifest was sent last. Older ones stay.
    pub fn take_newest(&mut self) -> Option<(Token, BTreeMap<Part, OwnedFd>)> {
        let is_whole = |(_, parts): &(&Token, &BTreeMap<Part, OwnedFd>)| parts.contains_key(&Part::Manifest);
        let token = *self.sets.iter().rfind(is_whole)?.0;
        self.sets.remove_entry(&token)
    }

    /// The names of ours of all that came, whatever became of it: the manager keeps these until they are
    /// removed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Those with these names, the first of which has this number.
    fn from(first: RawFd, announced: &[String]) -> Self {
        let mut inherited = Self::default();
        let mut twice = Vec::new();
        for (fd, text) in (first..).zip(announced) {
            let Ok(fd) = own(fd) else { continue };
            if text.starts_with(PREFIX) {
                inherited.names.insert(text.clone());
            }
            let Some(Name { set, part }) = Name::parse(text) else { continue };
            if inherited.sets.entry(set).or_default().insert(part.clone(), fd).is_some() {
                twice.push((set, part));
            }
        }
        // Which of two is the right one is not known here.
        for (set, part) in twice {
            inherited.sets.entry(set).or_default().remove(&part);
        }
        inherited
    }
}

/// The names of what is there by the variables, in the order of its numbers; without names all are nobody's.
fn announced(env: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Vec<String> {
    let number = |name: &str| env(name)?.to_str()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(pid) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").map_or(0, |count| MOST.min(count as usize));
    let names = env("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.to_string_lossy();
    names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new())).take(count).collect()
}

/// Owns a descriptor that came with the start of this program. What was opened since is refused: it has the
/// flag by which it would not have come.
fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed, and a number that is not open is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::other("this process has opened it"));
    }
    // SAFETY: it is open, and nobody here knows of it: it came with the start, and what is taken has the flag.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&owned, FdFlags::CLOEXEC)?;
    Ok(owned)
}

#[cfg(test)]
mod tests;
