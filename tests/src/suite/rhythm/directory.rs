//! A platform's directory on a file system that does not answer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use hvsampler::agent::Schedule;
use hvsampler::model::Fact;

use super::super::agent::{Agent, schedule};
use super::super::sampler;
use super::{is_named, of_process, watch};
use crate::guest::{Guest, GuestConfig};
use crate::host::{Storage, mount_memory, own_mounts};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// So long that a busy machine, too, skips none.
const INTERVAL: Duration = Duration::from_secs(2);
/// All guests are asked about again this often.
const ASKED: Duration = Duration::from_secs(1);
const SNAPSHOTS: u64 = 4;
/// Where libvirt keeps what it knows of domains that run.
const DIRECTORY: &str = "/run/libvirt/qemu";

/// A guest that looks like one of libvirt's is asked about again and again while libvirt's files do not
/// answer. It has the name of its command line, and all else goes on. Once they answer it has what they say.
pub(super) fn of_libvirt(context: &Context) -> anyhow::Result<Outcome> {
    own_mounts()?;
    mount_memory(Path::new("/run"))?;
    fs::create_dir_all(DIRECTORY)?;
    let hangs = Storage::mute(Path::new(DIRECTORY))?;
    let (binary, qemu) = (context.binary("tiny-vmm")?, context.directory().join("qemu-system-x86_64"));
    symlink(&binary, &qemu)?;
    let of_libvirt = Guest::start(&qemu, &GuestConfig::new("web", 1, Load::Busy))?;
    let other = Guest::start(&binary, &GuestConfig::new("other", 1, Load::Busy))?;
    let schedule = Schedule { discovery_interval: ASKED, ..schedule(INTERVAL) };
    let agent = Agent::start(sampler::start()?, schedule)?;
    let names = [(of_libvirt.pid(), "web"), (other.pid(), "other")];
    agent.until("both guests have names, and a file does not answer", |snapshot| {
        snapshot.sampler.files_unanswered > 0
            && names.iter().all(|(pid, name)| is_named(snapshot, *pid, name))
    })?;
    let mut unanswered = Vec::new();
    let kept = watch(&agent, SNAPSHOTS, |snapshot| {
        let is_there = names.iter().all(|(pid, name)| is_named(snapshot, *pid, name));
        ensure!(is_there, "a guest is missing, or its name");
        unanswered.push(snapshot.sampler.files_unanswered);
        Ok(())
    })?;
    let (before, after) = (unanswered[0], unanswered[unanswered.len() - 1]);
    ensure!(before < after, "the directory was asked no more: {unanswered:?}");
    // Who waits gets an error, and the directory below is there again.
    drop(hangs);
    let status =
        format!("<domstatus pid='{}'><domain><name>web</name></domain></domstatus>", of_libvirt.pid());
    fs::write(Path::new(DIRECTORY).join("web.xml"), status)?;
    agent.until("libvirt's guest is known as that", |snapshot| {
        let platform = of_process(snapshot, of_libvirt.pid()).and_then(|vm| vm.facts.get(Fact::Platform));
        platform.is_some_and(|platform| &**platform == "libvirt")
    })?;
    agent.stop()?;
    Ok(Outcome::Passed(format!("{after} questions to libvirt's files had no answer; {kept}")))
}
