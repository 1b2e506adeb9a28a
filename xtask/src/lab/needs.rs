//! What the machine must have before the lab can boot: Debian packages, and downloads in the cache.

use std::path::Path;

use anyhow::{Result, bail};

use super::{
    kernel::Kernel,
    tools::{Busybox, Qemu},
};
use crate::{apt, setup::Need, shell, workspace::Workspace};

/// As host-init.sh calls it.
const SYSTEMD: &str = "/lib/systemd/systemd";
/// What hands profiles to the kernel.
const APPARMOR: &str = "/sbin/apparmor_parser";

/// A program and the package that has it.
struct Program {
    name: &'static str,
    package: &'static str,
    why: &'static str,
}

const FOR_LAB: [Program; 1] = [Program {
    name: "qemu-system-x86_64",
    package: "qemu-system-x86",
    why: "runs the guests of the lab, and brings the libraries of the QEMU that the lab boots in",
}];

/// What the lab uses and this machine lacks.
pub(crate) fn needs(workspace: &Workspace) -> Result<Vec<Need<'_>>> {
    Ok(packages().into_iter().chain(downloads(workspace)?).collect())
}

/// systemd, which is the first process of some of the lab's machines, what a package's scripts ask of it, and
/// what reads profiles of AppArmor there.
pub(crate) fn needs_of_systemd<'a>() -> Vec<Need<'a>> {
    let systemd = (!Path::new(SYSTEMD).exists()).then(|| Need {
        what: "Debian package systemd".to_owned(),
        why: "is the first process of the machines in which the package is installed",
        install: Box::new(|| apt::install(&["systemd", "init-system-helpers"])),
    });
    let apparmor = (!Path::new(APPARMOR).exists()).then(|| Need {
        what: "Debian package apparmor".to_owned(),
        why: "reads the service's profile in the machines in which the package is installed",
        install: Box::new(|| apt::install(&["apparmor"])),
    });
    systemd.into_iter().chain(apparmor).collect()
}

/// What the lab cannot take from packages unpacked in the cache.
fn packages<'a>() -> Option<Need<'a>> {
    let missing = missing();
    let why = missing.first()?.why;
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    Some(Need {
        what: format!("Debian packages {}", packages.join(" ")),
        why,
        install: Box::new(move || match cannot_install() {
            Some(reason) => bail!("{reason}"),
            None => apt::install(&packages),
        }),
    })
}

fn downloads(workspace: &Workspace) -> Result<Option<Need<'_>>> {
    Ok((!is_fetched(workspace)?).then(|| Need {
        what: format!("the lab's kernels, QEMU and busybox into {}", workspace.cache.path("lab").display()),
        why: "boots Debian's kernels with a KVM inside (about 515 MB are downloaded, 120 MB kept)",
        install: Box::new(|| fetch(workspace)),
    }))
}

/// Whether the cache holds everything the lab downloads.
fn is_fetched(workspace: &Workspace) -> Result<bool> {
    let kernels = Kernel::named(workspace, &[])?;
    Ok(Busybox::is_fetched(workspace)
        && Qemu::is_fetched(workspace)
        && kernels.iter().all(|kernel| kernel.is_fetched(workspace)))
}

fn fetch(workspace: &Workspace) -> Result<()> {
    let busybox = Busybox::fetch(workspace)?;
    Qemu::choose(workspace)?;
    for kernel in Kernel::named(workspace, &[])? {
        kernel.fetch(workspace, &busybox)?;
    }
    Ok(())
}

/// Why this machine cannot have a lab, by its nature rather than by an accident, with what the
/// user does instead.
pub(crate) fn cannot_install() -> Option<String> {
    let packages: Vec<&str> = missing().iter().map(|program| program.package).collect();
    let list = packages.join(" ");
    if shell::which("apt-get").is_none() {
        Some("the lab takes kernels and QEMU from Debian, and this machine has no apt-get".to_owned())
    } else if !packages.is_empty() && !shell::is_root() {
        Some(format!("needs root; run `sudo apt-get install --no-install-recommends {list}`"))
    } else {
        None
    }
}

fn missing() -> Vec<&'static Program> {
    FOR_LAB.iter().filter(|program| shell::which(program.name).is_none()).collect()
}
