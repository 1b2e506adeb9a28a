//! Another user for a process that was started as root.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, chown},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::{
    process::{Gid, Uid, getuid},
    thread::{
        CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::kernel::directory::make_directory_of;

/// Where lock and socket are by default.
const OWN: &str = "/run/hvsampler";

/// What the calls below ask for.
const HOW: &str = "start the service as root, with CAP_SETUID and CAP_SETGID";

/// Has the process be this user's, in that user's own group alone; it keeps its capabilities. These calls are
/// of the calling thread, which is the only one.
///
/// # Errors
/// There is no such user, or this process may not become it.
pub(super) fn change_to(name: &str) -> Result<()> {
    let (user, group) = look_up(name)?;
    if getuid() == user {
        return Ok(());
    }
    set_keep_capabilities(true)?;
    set_thread_groups(&[group]).context(HOW)?;
    set_thread_res_gid(group, group, group).context(HOW)?;
    set_thread_res_uid(user, user, user).context(HOW)?;
    set_keep_capabilities(false)?;
    // They are permitted still, and in effect no more.
    let kept = capabilities(None)?;
    Ok(set_capabilities(None, CapabilitySets { effective: kept.permitted, ..kept })?)
}

/// Lets a user, root where none is named, write where these files are to be. Directories that are missing are
/// made. One that is there is left as it is, unless it is the sampler's own: a service may have been started as
/// somebody else since the host was booted.
///
/// # Errors
/// There is no such user, or what the kernel said.
pub(super) fn make_directories(name: Option<&str>, files: &[&Path]) -> Result<()> {
    let (user, group) = name.map_or(Ok((Uid::ROOT, Gid::ROOT)), look_up)?;
    for file in files {
        let made = make_directory_of(file).with_context(|| file.display().to_string())?;
        let own = file.parent().filter(|directory| *directory == Path::new(OWN));
        if let Some(directory) = made.or(own) {
            let (user, group) = (Some(user.as_raw()), Some(group.as_raw()));
            chown(directory, user, group).with_context(|| directory.display().to_string())?;
        }
    }
    Ok(())
}

/// Removes a socket that another user has left behind, which this one could neither try nor remove. Whoever has
/// the lock of instances is alone.
///
/// # Errors
/// There is no such user, or what the kernel said.
pub(super) fn remove_socket_of_others(name: Option<&str>, file: &Path) -> Result<()> {
    let (user, _) = name.map_or(Ok((Uid::ROOT, Gid::ROOT)), look_up)?;
    let Ok(found) = fs::symlink_metadata(file) else { return Ok(()) };
    if found.file_type().is_socket() && found.uid() != user.as_raw() {
        fs::remove_file(file).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// A user by name, or by number, which needs no list of users: the group has the same number.
fn look_up(name: &str) -> Result<(Uid, Gid)> {
    if let Ok(number) = name.parse() {
        return Ok((Uid::from_raw(number), Gid::from_raw(number)));
    }
    let name = CString::new(name).context("has a zero byte")?;
    // SAFETY: the name ends with a zero.
    let entry = unsafe { libc::getpwnam(name.as_ptr()) };
    // SAFETY: it is null, or static memory of libc's, which the only thread reads before it asks again.
    let entry = unsafe { entry.as_ref() };
    let entry = entry.context("there is no such user; make one with useradd --system")?;
    Ok((Uid::from_raw(entry.pw_uid), Gid::from_raw(entry.pw_gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_there_is_not_is_said_to_be_missing() {
        let error = change_to("no-such-user-of-hvsampler").unwrap_err().to_string();
        assert!(error.contains("useradd"), "{error}");
    }

    #[test]
    fn a_number_is_a_user_that_nobody_has_to_list() {
        assert_eq!(look_up("65532").unwrap(), (Uid::from_raw(65_532), Gid::from_raw(65_532)));
        assert!(look_up("-1").is_err());
    }
}
