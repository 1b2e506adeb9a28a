//! The host, as exporters name it.

use std::{io, path::PathBuf};

use super::{Root, namespace};
use crate::model::Host;

/// Where the host's identity is kept: systemd's file, and D-Bus's on hosts without systemd.
const MACHINE_ID: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];

/// Where the operating system says what it is; the first that is there counts, as os-release(5) has it.
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// A file that says what the host is cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read; is {mount} mounted?", path.display())]
pub struct HostError {
    path: PathBuf,
    mount: &'static str,
    source: io::Error,
}

/// Reads what the host is.
///
/// # Errors
/// `/proc` or `/sys` is not mounted, or not what Linux mounts there.
pub fn read(root: &Root) -> Result<Host, HostError> {
    let text = |path: &str, mount| {
        root.text(path).map_err(|source| HostError { path: root.path(path), mount, source })
    };
    let online = "sys/devices/system/cpu/online";
    let cpus = count_cpus(&text(online, "/sys")?).ok_or_else(|| HostError {
        path: root.path(online),
        mount: "/sys",
        source: io::Error::new(io::ErrorKind::InvalidData, "not a list of CPUs such as 0-3,8"),
    })?;
    let os = OS_RELEASE.iter().find_map(|path| root.text(path).ok()).unwrap_or_default();
    Ok(Host {
        os_version: os_release(&os, "VERSION_ID"),
        os_build: os_release(&os, "BUILD_ID"),
        id: MACHINE_ID.iter().find_map(|path| root.text(path).ok().filter(|id| is_machine_id(id))),
        name: match name_on_disk(root) {
            Some(name) => name,
            None => text("proc/sys/kernel/hostname", "/proc")?,
        },
        kernel: text("proc/sys/kernel/osrelease", "/proc")?,
        arch: otel_arch(std::env::consts::ARCH).to_owned(),
        cpus,
        hypervisor: None,
    })
}

/// The name that a host has on its disk, for a process in a container: to that the kernel says the container's
/// name. An image that is named anew at each boot is called `localhost` there.
fn name_on_disk(root: &Root) -> Option<String> {
    if namespace::is_initial_uts(root) {
        return None;
    }
    let text = root.text("etc/hostname").ok()?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next().filter(|name| !name.starts_with("localhost")).map(str::to_owned)
}

/// A fresh image has `uninitialized` there, or nothing.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The value of a key of os-release: one line, which may be quoted as in a shell. Versions have nothing that
/// would have to be escaped.
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = |line: &str| line.trim().strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
    let value = text.lines().filter_map(value).next_back()?;
    let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    let bare = quoted('"').or_else(|| quoted('\'')).unwrap_or(&value);
    Some(bare.to_owned()).filter(|value| !value.is_empty())
}

/// `host.arch` of OpenTelemetry's semantic conventions; what they do not list keeps Rust's name.
fn otel_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc64" => "ppc64",
        "powerpc" => "ppc32",
        other => other,
    }
}

/// Counts the CPUs of a list like `0-3,8`, the form of every CPU list in sysfs.
fn count_cpus(list: &str) -> Option<u32> {
    let mut count = 0_u32;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::FakeRoot, *};

    #[test]
    fn cpu_lists_are_counted() {
        for (list, cpus) in
            [("0", Some(1)), ("0-3", Some(4)), ("0-3,8", Some(5)), ("1,3,5-6", Some(4)), ("", None)]
        {
            assert_eq!(count_cpus(list), cpus, "{list}");
        }
        assert_eq!(count_cpus("3-1"), None);
        assert_eq!(count_cpus("0-4294967295"), None);
    }

    #[test]
    fn this_host_is_what_the_system_says() {
        let host = read(&Root::system()).unwrap();
        let threads = std::thread::available_parallelism().unwrap().get();
        assert!(host.cpus as usize >= threads);
        let uname = std::process::Command::new("uname").arg("-r").output().unwrap();
        assert_eq!(host.kernel.as_bytes(), uname.stdout.trim_ascii());
    }

    #[test]
    fn an_unfinished_machine_id_is_none() {
        let host = |id: &str| {
            let fake = FakeRoot::new()
                .file("etc/machine-id", id)
                .file("proc/sys/kernel/hostname", "h1\n")
                .file("proc/sys/kernel/osrelease", "6.1.0\n")
                .file("sys/devices/system/cpu/online", "0-1\n");
            read(&fake.root()).unwrap()
        };
        assert_eq!(host("uninitialized\n").id, None);
        let known = host("3d1219c7c4c5404aaa1f6d2a48adfda4\n");
        assert_eq!(known.id.as_deref(), Some("3d1219c7c4c5404aaa1f6d2a48adfda4"));
        assert_eq!((known.name.as_str(), known.kernel.as_str(), known.cpus), ("h1", "6.1.0", 2));
    }

    #[test]
    fn a_container_s_host_has_the_name_that_is_on_its_disk() {
        let name = |on_disk: &str| {
            let fake = FakeRoot::new()
                .link("proc/self/ns/uts", "uts:[4026532488]")
                .file("etc/hostname", on_disk)
                .file("proc/sys/kernel/hostname", "container\n")
                .file("proc/sys/kernel/osrelease", "6.1.0\n")
                .file("sys/devices/system/cpu/online", "0\n");
            read(&fake.root()).unwrap().name
        };
        assert_eq!(name("# as hostname(5) lets it\n\n node-7 \n"), "node-7");
        assert_eq!(name("\n"), "container");
        assert_eq!(name("localhost.localdomain\n"), "container");
    }

    #[test]
    fn the_system_s_version_is_not_the_kernel_s() {
        let host = |files: &[(&str, &str)]| {
            let fake = files.iter().fold(FakeRoot::new(), |fake, (path, text)| fake.file(path, text));
            let fake = fake
                .file("proc/sys/kernel/hostname", "h1\n")
                .file("proc/sys/kernel/osrelease", "6.1.0\n")
                .file("sys/devices/system/cpu/online", "0-1\n");
            let host = read(&fake.root()).unwrap();
            assert_eq!(host.kernel, "6.1.0");
            (host.os_version, host.os_build)
        };
        let known = |text: &str| Some(text.to_owned());
        let debian = "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\n";
        assert_eq!(host(&[("etc/os-release", debian)]), (known("12"), None));
        assert_eq!(
            host(&[("usr/lib/os-release", "VERSION_ID=41\nBUILD_ID='7'\n")]),
            (known("41"), known("7"))
        );
        let both = [("etc/os-release", "ID=arch\nBUILD_ID=rolling\n"), ("usr/lib/os-release", debian)];
        assert_eq!(host(&both), (None, known("rolling")), "the first counts");
        assert_eq!(host(&[("etc/os-release", "VERSION_ID=\"\"\nVERSION_IDX=3\n")]), (None, None));
        assert_eq!(host(&[]), (None, None));
    }

    #[test]
    fn a_missing_proc_is_named() {
        let fake = FakeRoot::new().file("sys/devices/system/cpu/online", "0\n");
        let error = read(&fake.root()).unwrap_err().to_string();
        assert!(error.ends_with("proc/sys/kernel/hostname: cannot be read; is /proc mounted?"), "{error}");
    }
}
