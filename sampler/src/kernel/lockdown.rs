//! Kernel lockdown, which Secure Boot switches on in many distributions; Linux 5.4 and later.

use std::io;

use super::{Root, check::CheckItem};

/// How far the kernel is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not at all.
    None,
    /// Root may not change the kernel; the sampler does not want to.
    Integrity,
    /// Root may not read the kernel's memory, and `bpf_probe_read_kernel` is refused.
    Confidentiality,
}

/// The mode in force is the bracketed word of `none [integrity] confidentiality`.
fn parse(text: &str) -> Option<Lockdown> {
    let (_, rest) = text.split_once('[')?;
    match rest.split_once(']')?.0 {
        "none" => Some(Lockdown::None),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

/// Does lockdown leave the programs what they read?
#[must_use]
pub fn check(root: &Root) -> CheckItem {
    const NAME: &str = "lockdown";
    let text = match root.text("sys/kernel/security/lockdown") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_absent(root),
        Err(error) => {
            return CheckItem::warn(NAME, format!("not known: {error}"), "run as root");
        }
    };
    match parse(&text) {
        Some(Lockdown::None) => CheckItem::ok(NAME, "none"),
        Some(Lockdown::Integrity) => CheckItem::ok(NAME, "integrity, which leaves BPF its reads"),
        Some(Lockdown::Confidentiality) => CheckItem::fail(
            NAME,
            "confidentiality: the kernel refuses its programs to read its memory",
            "boot with lockdown=integrity",
        ),
        None => CheckItem::warn(NAME, format!("not understood: {text:?}"), "report this kernel"),
    }
}

/// securityfs lists its modules in `lsm`, so that file distinguishes a kernel without lockdown from a
/// missing mount.
fn check_absent(root: &Root) -> CheckItem {
    const NAME: &str = "lockdown";
    match root.path("sys/kernel/security/lsm").exists() {
        true => CheckItem::ok(NAME, "not built into this kernel"),
        false => CheckItem::warn(
            NAME,
            "not known: securityfs is not mounted",
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    #[test]
    fn only_confidentiality_is_in_the_way() {
        for (text, status) in [
            ("[none] integrity confidentiality\n", CheckStatus::Ok),
            ("none [integrity] confidentiality\n", CheckStatus::Ok),
            ("none integrity [confidentiality]\n", CheckStatus::Fail),
            ("none integrity confidentiality\n", CheckStatus::Warn),
            ("[more]\n", CheckStatus::Warn),
        ] {
            let fake = FakeRoot::new().file("sys/kernel/security/lockdown", text);
            assert_eq!(check(&fake.root()).status, status, "{text}");
        }
    }

    #[test]
    fn absent_is_distinguished_from_unknown() {
        let absent = FakeRoot::new().file("sys/kernel/security/lsm", "capability,bpf");
        assert_eq!(check(&absent.root()).status, CheckStatus::Ok);
        assert_eq!(check(&FakeRoot::new().root()).status, CheckStatus::Warn);
    }
}
