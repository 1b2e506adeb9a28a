//! Programs from Debian packages.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Need;
use crate::shell;

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

/// What the lab cannot take from packages unpacked in the cache.
pub(super) fn for_lab<'a>() -> Option<Need<'a>> {
    let missing = missing();
    let why = missing.first()?.why;
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    Some(Need {
        what: format!("Debian packages {}", packages.join(" ")),
        why,
        install: Box::new(move || install(&packages)),
    })
}

/// Why the packages cannot be installed by us, with what the user does instead.
pub(super) fn cannot_install() -> Option<String> {
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

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if let Some(reason) = cannot_install() {
        bail!("{reason}");
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::quiet(apt().arg("update")).context("apt-get cannot reach its mirror")?;
    shell::quiet(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
        .with_context(|| format!("Debian packages {list} cannot be had; check apt's sources"))?;
    Ok(())
}
