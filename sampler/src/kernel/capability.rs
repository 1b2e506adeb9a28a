//! What this process may do, by capabilities(7).

use super::{Root, check::CheckItem, namespace};

/// A capability that the sampler has a use for; the discriminant is its number in the kernel's ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Capability {
    /// Opens other users' directories in /proc.
    DacReadSearch = 2,
    /// Asks a tap in which network namespace it is.
    NetAdmin = 12,
    /// Reads other users' links in /proc.
    SysPtrace = 19,
    /// Enters network namespaces, and much else: BPF included where [`Capability::Bpf`] does not exist.
    SysAdmin = 21,
    /// Raises resource limits.
    SysResource = 24,
    /// Attaches tracing programs; Linux 5.8 and later.
    Perfmon = 38,
    /// Loads programs and makes maps; Linux 5.8 and later.
    Bpf = 39,
}

impl Capability {
    /// The name that capabilities(7) and unit files use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// The capabilities that are in effect, and which of them the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    effective: u64,
    last: u32,
}

impl Capabilities {
    /// Those of this process; `None` where /proc does not show them.
    #[must_use]
    pub fn read(root: &Root) -> Option<Self> {
        let status = root.text("proc/self/status").ok()?;
        let last = root.text("proc/sys/kernel/cap_last_cap").ok()?.parse().ok()?;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        Some(Self { effective: u64::from_str_radix(effective.trim(), 16).ok()?, last })
    }

    /// Whether a capability is in effect.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.effective & (1 << capability as u32) != 0
    }

    /// Whether the kernel can give `CAP_BPF` apart from `CAP_SYS_ADMIN`.
    const fn splits_bpf(self) -> bool {
        self.last >= Capability::Bpf as u32
    }

    /// What is missing to load and attach the programs.
    #[must_use]
    pub fn missing_for_bpf(self) -> Vec<Capability> {
        if self.has(Capability::SysAdmin) {
            return Vec::new();
        }
        match self.splits_bpf() {
            true => self.missing(&[Capability::Bpf, Capability::Perfmon]),
            false => vec![Capability::SysAdmin],
        }
    }

    /// What is missing to find the guests of other users in /proc.
    #[must_use]
    pub fn missing_for_discovery(self) -> Vec<Capability> {
        self.missing(&[Capability::SysPtrace, Capability::DacReadSearch])
    }

    /// What is missing to read interfaces in other network namespaces than this process's.
    #[must_use]
    pub fn missing_for_namespaces(self) -> Vec<Capability> {
        self.missing(&[Capability::SysAdmin, Capability::NetAdmin])
    }

    fn missing(self, needed: &[Capability]) -> Vec<Capability> {
        needed.iter().copied().filter(|&capability| !self.has(capability)).collect()
    }
}

/// May this process load and attach the programs?
#[must_use]
pub fn check_bpf(root: &Root) -> CheckItem {
    const NAME: &str = "privileges for BPF";
    let Some(capabilities) = Capabilities::read(root) else {
        return CheckItem::warn(NAME, "/proc/self/status does not show them", "mount /proc");
    };
    let missing = capabilities.missing_for_bpf();
    if !missing.is_empty() {
        return CheckItem::fail(
            NAME,
            format!("missing: {}", names(&missing)),
            format!("run as root with {0}, or give the service AmbientCapabilities={0}", names(&missing)),
        );
    }
    if !namespace::is_initial_user(root) {
        return CheckItem::fail(
            NAME,
            "capabilities of a user namespace: the kernel asks for those of the host",
            "run in the host's user namespace",
        );
    }
    let how = match capabilities.has(Capability::SysAdmin) {
        true => "CAP_SYS_ADMIN",
        false => "CAP_BPF and CAP_PERFMON",
    };
    CheckItem::ok(NAME, how)
}

/// May this process see the descriptors of other users' processes?
#[must_use]
pub fn check_discovery(root: &Root) -> CheckItem {
    const NAME: &str = "privileges for discovery";
    let Some(capabilities) = Capabilities::read(root) else {
        return CheckItem::warn(NAME, "/proc/self/status does not show them", "mount /proc");
    };
    let missing = capabilities.missing_for_discovery();
    if missing.is_empty() {
        return CheckItem::ok(NAME, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
    }
    CheckItem::warn(
        NAME,
        format!("missing: {}; guests that other users run are not found in /proc", names(&missing)),
        discovery_fix(root),
    )
}

/// What to do where processes may not be looked into.
#[must_use]
pub fn discovery_fix(root: &Root) -> String {
    let missing = Capabilities::read(root).map(Capabilities::missing_for_discovery).unwrap_or_default();
    match missing.is_empty() {
        false => {
            format!("run as root with {0}, or give the service AmbientCapabilities={0}", names(&missing))
        }
        true => "where a guest is missing, let this process through the security module that keeps it out"
            .to_owned(),
    }
}

fn names(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|capability| capability.name()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    fn fake(effective: u64, last: u32, user_namespace: &str) -> FakeRoot {
        FakeRoot::new()
            .file(
                "proc/self/status",
                format!("Name:\tx\nCapPrm:\tffff\nCapEff:\t{effective:016x}\nCapBnd:\t0\n"),
            )
            .file("proc/sys/kernel/cap_last_cap", format!("{last}\n"))
            .link("proc/self/ns/user", user_namespace)
    }

    fn bits(capabilities: &[Capability]) -> u64 {
        capabilities.iter().map(|&capability| 1_u64 << capability as u32).sum()
    }

    const HOST: &str = "user:[4026531837]";

    #[test]
    fn the_exact_capability_that_is_missing_is_named() {
        let item = check_bpf(&fake(bits(&[Capability::Perfmon]), 40, HOST).root());
        assert_eq!((item.status, item.detail.as_str()), (CheckStatus::Fail, "missing: CAP_BPF"));
        let item = check_bpf(&fake(0, 40, HOST).root());
        assert_eq!(item.detail, "missing: CAP_BPF CAP_PERFMON");
        assert_eq!(
            item.fix.as_deref(),
            Some(
                "run as root with CAP_BPF CAP_PERFMON, or give the service AmbientCapabilities=CAP_BPF CAP_PERFMON"
            )
        );
        let item = check_discovery(&fake(bits(&[Capability::SysPtrace]), 40, HOST).root());
        assert_eq!(item.status, CheckStatus::Warn);
        assert!(item.detail.starts_with("missing: CAP_DAC_READ_SEARCH;"), "{}", item.detail);
    }

    #[test]
    fn a_kernel_without_cap_bpf_asks_for_cap_sys_admin() {
        let item = check_bpf(&fake(bits(&[Capability::SysResource]), 37, HOST).root());
        assert_eq!(item.detail, "missing: CAP_SYS_ADMIN");
    }

    #[test]
    fn either_way_of_having_bpf_will_do() {
        for (capabilities, detail) in [
            (&[Capability::SysAdmin][..], "CAP_SYS_ADMIN"),
            (&[Capability::Bpf, Capability::Perfmon][..], "CAP_BPF and CAP_PERFMON"),
        ] {
            let item = check_bpf(&fake(bits(capabilities), 40, HOST).root());
            assert_eq!((item.status, item.detail.as_str()), (CheckStatus::Ok, detail));
        }
    }

    #[test]
    fn root_of_a_container_is_not_root_of_the_host() {
        let item = check_bpf(&fake(u64::MAX, 40, "user:[4026532999]").root());
        assert_eq!(item.status, CheckStatus::Fail);
    }
}
