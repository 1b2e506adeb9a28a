//! Initramfs images: of the machine whose kernel is tested, and of the guests inside it.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{initramfs::Archive, kernel::Fetched, tools::Busybox};

const HOST_INIT: &str = include_str!("host-init.sh");
/// What systemd starts in place of all that this machine would have it start.
const UNITS: [(&str, &str); 3] = [
    ("lab.target", include_str!("systemd/lab.target")),
    ("lab-alive.service", include_str!("systemd/lab-alive.service")),
    ("lab-command.service", include_str!("systemd/lab-command.service")),
];
const GUEST_INIT: &str = include_str!("guest-init.sh");

/// The first process of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// The script that makes the root file system, to its end.
    Script,
    /// systemd, once there is a root file system.
    Systemd,
}

/// The image that boots a tested kernel and runs `command`, a shell script, in the build
/// machine's root file system.
pub(super) fn host(kernel: &Fetched, busybox: &Busybox, command: &str, init: Init) -> Result<Vec<u8>> {
    let mut archive = base(busybox, HOST_INIT, &kernel.host_modules()?)?;
    for folder in ["host", "root", "writable"] {
        archive.directory(folder)?;
    }
    archive.executable("command", command.as_bytes())?;
    if init == Init::Systemd {
        archive.directory("systemd")?;
        UNITS
            .iter()
            .try_for_each(|(name, unit)| archive.data(&format!("systemd/{name}"), unit.as_bytes()))?;
    }
    archive.finish()
}

/// The image of a guest that offers loads; its init documents their names.
pub(super) fn guest(kernel: &Fetched, busybox: &Busybox) -> Result<Vec<u8>> {
    base(busybox, GUEST_INIT, &kernel.guest_modules()?)?.finish()
}

fn base(busybox: &Busybox, init: &str, modules: &[impl AsRef<Path>]) -> Result<Archive> {
    let mut archive = Archive::new();
    for folder in ["bin", "dev", "modules", "proc", "sys"] {
        archive.directory(folder)?;
    }
    archive.file("bin/busybox", &busybox.binary)?;
    archive.executable("init", init.as_bytes())?;
    let mut order = String::new();
    for module in modules {
        let name = module.as_ref().file_name().and_then(|name| name.to_str());
        let name = name.context("a module without a name")?;
        archive.file(&format!("modules/{name}"), module.as_ref())?;
        order.push_str(name);
        order.push('\n');
    }
    archive.data("modules/order", order.as_bytes())?;
    Ok(archive)
}
