//! Why the service does not use Landlock.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::ensure;

use super::child::{Stranger, apart, error_of, refused};
use crate::runner::{Context, Outcome};

/// `LANDLOCK_ACCESS_FS_WRITE_FILE`: nothing else than writing is restricted.
const WRITE_FILE: u64 = 1 << 1;

/// A thread of root's that may only not write may not look into processes any more either.
pub(super) fn would_blind_us(_: &Context) -> anyhow::Result<Outcome> {
    let stranger = Stranger::start()?;
    let exe = PathBuf::from(format!("/proc/{}/exe", stranger.0));
    let look = || fs::read_link(&exe).err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
    ensure!(look().is_none(), "{} cannot be read anyhow", exe.display());
    let (restricted, seen) = apart(|| (restrict(), look()))?;
    if let Err(error) = restricted {
        return Ok(Outcome::Skipped(format!("this kernel has no Landlock: {error}")));
    }
    refused("looking into another process", seen)?;
    Ok(Outcome::Passed(
        "a thread that may not write may not see which program another process runs".to_owned(),
    ))
}

fn restrict() -> io::Result<()> {
    let handled = WRITE_FILE;
    // SAFETY: so many bytes are there.
    let rules = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size_of_val(&handled), 0)
    };
    if rules < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes numbers, and is of this thread alone.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: takes numbers; the end of the process closes the rules.
    match error_of(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) }) {
        None => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error)),
    }
}
