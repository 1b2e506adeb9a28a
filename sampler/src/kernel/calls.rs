//! System calls that something refuses to this process: a unit with its own idea of them, a container, a
//! security module. Capabilities do not show that, so they are tried, in ways that change nothing.

use std::{fs::File, io, os::fd::AsFd as _};

use rustix::{
    io::Errno,
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{
    Root,
    capability::{Capabilities, Capability},
    check::CheckItem,
};

/// Asks a tap for its name; `linux/if_tun.h`.
pub const TUNGETIFF: u64 = 0x8004_54d2;
/// Asks a tap for the network namespace of its interface; since Linux 5.2.
pub const TUNGETDEVNETNS: u64 = 0x54e3;

/// May this process enter other network namespaces?
#[must_use]
pub fn check_namespaces(root: &Root) -> CheckItem {
    namespaces(root, enter_own())
}

fn namespaces(root: &Root, tried: io::Result<()>) -> CheckItem {
    const NAME: &str = "network namespaces";
    const LOST: &str = "interfaces of guests in other network namespaces are not counted";
    let Some(capabilities) = Capabilities::read(root) else {
        return CheckItem::warn(NAME, "/proc/self/status does not show the capabilities", "mount /proc");
    };
    let missing = capabilities.missing_for_namespaces();
    if let [first, ..] = missing[..] {
        let names: Vec<_> = missing.iter().map(|capability| capability.name()).collect();
        let names = names.join(" ");
        let why = match first {
            Capability::SysAdmin => "to enter them",
            _ => "to ask a tap where it is",
        };
        return CheckItem::warn(
            NAME,
            format!("missing: {names}, {why}; {LOST}"),
            format!("run as root with {names}, or give the service AmbientCapabilities={names}"),
        );
    }
    match tried {
        Ok(()) => CheckItem::ok(NAME, "can be entered"),
        Err(error) => CheckItem::warn(
            NAME,
            format!("setns is refused ({error}); {LOST}"),
            "let the unit have RestrictNamespaces=net, or a container's filter setns",
        ),
    }
}

/// May this process have copies of other processes' descriptors?
#[must_use]
pub fn check_descriptors(_: &Root) -> CheckItem {
    descriptors(copy_own())
}

fn descriptors(tried: io::Result<()>) -> CheckItem {
    const NAME: &str = "descriptors of VMMs";
    match tried {
        Ok(()) => CheckItem::ok(NAME, "can be asked which interfaces they are"),
        Err(error) => CheckItem::warn(
            NAME,
            format!("pidfd_getfd is refused ({error}); interfaces of guests are not counted"),
            "let the unit have SystemCallFilter=pidfd_getfd, or a container's filter pidfd_getfd; \
             Linux 5.6 and later have it",
        ),
    }
}

/// Enters the namespace that the calling thread is in.
fn enter_own() -> io::Result<()> {
    let own = File::open("/proc/thread-self/ns/net")?;
    Ok(move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Copies a descriptor of this process.
fn copy_own() -> io::Result<()> {
    let file = File::open("/proc/self/status")?;
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    match pidfd_getfd(own.as_fd(), std::os::fd::AsRawFd::as_raw_fd(&file), PidfdGetfdFlags::empty()) {
        Ok(_copy) => Ok(()),
        Err(Errno::NOSYS) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    fn root(effective: u64) -> FakeRoot {
        FakeRoot::new()
            .file("proc/self/status", format!("CapEff:\t{effective:016x}\n"))
            .file("proc/sys/kernel/cap_last_cap", "40")
    }

    fn refused() -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    #[test]
    fn a_missing_capability_is_named_and_a_filter_too() {
        const BOTH: u64 = 1 << 21 | 1 << 12;
        let item = namespaces(&root(1 << 12).root(), refused());
        assert!(item.detail.starts_with("missing: CAP_SYS_ADMIN, to enter"), "{}", item.detail);
        let item = namespaces(&root(1 << 21).root(), Ok(()));
        assert!(item.detail.starts_with("missing: CAP_NET_ADMIN, to ask"), "{}", item.detail);
        let item = namespaces(&root(BOTH).root(), refused());
        assert!(item.status == CheckStatus::Warn && item.fix.unwrap().contains("RestrictNamespaces=net"));
        assert_eq!(namespaces(&root(BOTH).root(), Ok(())).status, CheckStatus::Ok);
    }

    #[test]
    fn a_filter_that_keeps_descriptors_away_is_named() {
        assert_eq!(descriptors(Ok(())).status, CheckStatus::Ok);
        let item = descriptors(refused());
        assert!(item.status == CheckStatus::Warn && item.fix.unwrap().contains("pidfd_getfd"));
    }

    #[test]
    fn what_is_tried_changes_nothing() {
        let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let _ = enter_own();
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
    }
}
