//! What tests cannot do without.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::host::{CpuList, in_lab};
use crate::oracle::{Controller, Hierarchy};
use crate::vmm;

/// Where the lab's machine has the files of KVM's modules.
pub const LAB_MODULES: &str = "/run/lab-modules";

/// Something that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The superuser.
    Root,
    /// `/dev/kvm`.
    Kvm,
    /// KVM's modules, which can be unloaded, with the files to load them again.
    IdleKvm,
    /// No VM of the runner's own, as it has one in the lab: the test takes those of its process for its own.
    NoOwnVm,
    /// Loading eBPF programs: the superuser and the kernel's own BTF.
    Bpf,
    /// A cgroup hierarchy with the cpu controller; a lab kernel can mount one.
    CpuQuota,
    /// A cgroup hierarchy with the io controller, and a disk: the lab's, or a loop device.
    Disk,
    /// A cgroup hierarchy with the memory controller, and one of version 2.
    MemoryGroups,
    /// The lab's disks.
    LabDisks,
    /// systemd as the first process, in a machine of the lab: what is installed there is gone with it.
    Systemd,
    /// AppArmor in the kernel, and its tools.
    AppArmor,
    /// At least so many CPUs.
    Cpus(usize),
    /// QEMU: named by `HVS_QEMU`, or `qemu-system-x86_64` on the path.
    Qemu,
    /// File systems in user space.
    Fuse,
    /// Block devices in compressed memory, which work on bios.
    Zram,
    /// `/dev/net/tun`.
    Tun,
    /// `/dev/vhost-net` and `/dev/net/tun`.
    VhostNet,
    /// The lab's Linux guest: its kernel and initial file system, named by `HVS_INNER_KERNEL` and
    /// `HVS_INNER_INITRD`.
    InnerGuest,
    /// The official OpenTelemetry Collector and its configuration, named by `HVS_COLLECTOR` and
    /// `HVS_COLLECTOR_CONFIG`.
    Collector,
    /// Prometheus, named by `HVS_PROMETHEUS`.
    Prometheus,
}

impl Need {
    /// Why it is not there, or `None` where it is.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!is_root()).then(|| "needs root".to_owned()),
            Self::Kvm => vmm::available().err().map(|error| error.to_string()),
            Self::IdleKvm => {
                ["/sys/module/kvm_amd/refcnt", LAB_MODULES].iter().find_map(|path| absent(Path::new(path)))
            }
            Self::NoOwnVm => None,
            Self::Bpf => Self::Root.missing().or_else(|| absent(Path::new("/sys/kernel/btf/vmlinux"))),
            Self::CpuQuota => Self::Root.missing().or_else(missing_quota),
            Self::Disk => Self::Root.missing().or_else(missing_disk),
            Self::MemoryGroups => Self::Root.missing().or_else(missing_memory_groups),
            Self::LabDisks => (!in_lab()).then(|| "the lab's disks are elsewhere".to_owned()),
            Self::Systemd => missing_systemd(),
            Self::AppArmor => {
                ["/sys/kernel/security/apparmor/profiles", "/sbin/apparmor_parser", "/usr/bin/aa-exec"]
                    .iter()
                    .find_map(|path| absent(Path::new(path)))
            }
            Self::Cpus(needed) => missing_cpus(needed),
            Self::Qemu => missing_qemu(),
            Self::Fuse => Self::Root.missing().or_else(|| absent(Path::new("/dev/fuse"))),
            Self::Zram => Self::Root.missing().or_else(|| absent(Path::new("/sys/class/zram-control"))),
            Self::Tun => Self::Root.missing().or_else(|| absent(Path::new("/dev/net/tun"))),
            Self::VhostNet => {
                ["/dev/vhost-net", "/dev/net/tun"].iter().find_map(|path| absent(Path::new(path)))
            }
            Self::InnerGuest => {
                ["HVS_INNER_KERNEL", "HVS_INNER_INITRD"].into_iter().find_map(missing_file_of_variable)
            }
            Self::Collector => {
                ["HVS_COLLECTOR", "HVS_COLLECTOR_CONFIG"].into_iter().find_map(missing_file_of_variable)
            }
            Self::Prometheus => missing_file_of_variable("HVS_PROMETHEUS"),
        }
    }
}

/// The file that an environment variable names; for tests whose [`Need`] it is.
///
/// # Errors
/// When the variable is not set.
pub fn required_file(variable: &str) -> anyhow::Result<PathBuf> {
    file_of_variable(variable).with_context(|| format!("{variable} is not set"))
}

/// The environment variable's file.
pub(super) fn file_of_variable(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn absent(path: &Path) -> Option<String> {
    (!path.exists()).then(|| format!("{} is missing", path.display()))
}

fn missing_quota() -> Option<String> {
    if in_lab() { None } else { missing_controller(Controller::Cpu) }
}

fn missing_controller(controller: Controller) -> Option<String> {
    Hierarchy::find(controller).err().map(|error| error.to_string())
}

fn missing_memory_groups() -> Option<String> {
    missing_controller(Controller::Memory)
        .or_else(|| Hierarchy::unified().err().map(|error| error.to_string()))
}

fn missing_disk() -> Option<String> {
    let has_none = || absent(Path::new("/dev/loop-control")).or_else(|| missing_program("losetup"));
    let has_none = if in_lab() { None } else { has_none() };
    has_none.or_else(|| missing_controller(Controller::Io))
}

fn missing_systemd() -> Option<String> {
    if !in_lab() {
        return Some("the lab's machine is elsewhere".to_owned());
    }
    absent(Path::new("/run/systemd/system"))
}

fn missing_cpus(needed: usize) -> Option<String> {
    let allowed = CpuList::allowed().map_or(0, |cpus| cpus.numbers().len());
    (allowed < needed).then(|| format!("needs {needed} CPUs, {allowed} may be used"))
}

fn missing_qemu() -> Option<String> {
    if file_of_variable("HVS_QEMU").is_some() {
        return missing_file_of_variable("HVS_QEMU");
    }
    missing_program("qemu-system-x86_64")
}

fn missing_program(name: &str) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|directory| directory.join(name).is_file());
    (!found).then(|| format!("{name} is not installed"))
}

fn missing_file_of_variable(variable: &str) -> Option<String> {
    match file_of_variable(variable) {
        None => Some(format!("{variable} is not set")),
        Some(path) if path.as_os_str() == OsStr::new("") => Some(format!("{variable} is empty")),
        Some(path) => absent(&path),
    }
}
