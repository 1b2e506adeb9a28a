//! `RLIMIT_MEMLOCK`, against which kernels before 5.11 count the memory of maps.

use super::{
    Root,
    capability::{Capabilities, Capability},
    check::CheckItem,
};

/// From this release on maps count against the memory cgroup. Distributions carry the change back, so an
/// older release only makes the limit worth a look; whether maps can be made shows when they are.
const COUNTED_BY_CGROUP: (u32, u32) = (5, 11);

/// Bytes that the maps of a host with 64 CPUs and up to 760 vCPUs take: 18 MiB, and 66 KiB for each CPU
/// (docs/cost.md).
const NEEDED: u64 = 24 << 20;

/// Is there room for the maps?
#[must_use]
pub fn check(root: &Root) -> CheckItem {
    const NAME: &str = "locked memory";
    let release = root.text("proc/sys/kernel/osrelease").ok().and_then(|text| parse_release(&text));
    if release.is_some_and(|release| release >= COUNTED_BY_CGROUP) {
        return CheckItem::ok(NAME, "maps count against the memory cgroup");
    }
    let Some(limit) = root.text("proc/self/limits").ok().and_then(|limits| parse_limit(&limits)) else {
        return CheckItem::warn(NAME, "/proc/self/limits does not show the limit", "mount /proc");
    };
    let may_raise =
        Capabilities::read(root).is_some_and(|capabilities| capabilities.has(Capability::SysResource));
    match limit {
        None => CheckItem::ok(NAME, "unlimited"),
        Some(bytes) if bytes >= NEEDED => CheckItem::ok(NAME, format!("{} MiB", bytes >> 20)),
        Some(_) if may_raise => CheckItem::ok(NAME, "CAP_SYS_RESOURCE raises the limit"),
        Some(bytes) => CheckItem::warn(
            NAME,
            format!("{} KiB, and this kernel may count maps against it", bytes >> 10),
            "give the service LimitMEMLOCK=infinity, or run `ulimit -l unlimited` first",
        ),
    }
}

fn parse_release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The soft limit; the inner `None` is no limit.
#[expect(clippy::option_option, reason = "no limit and no answer are different things")]
fn parse_limit(limits: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        bytes => bytes.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    fn status(release: &str, soft: &str, effective: u64) -> CheckStatus {
        let fake = FakeRoot::new()
            .file("proc/sys/kernel/osrelease", release)
            .file("proc/sys/kernel/cap_last_cap", "40")
            .file("proc/self/status", format!("CapEff:\t{effective:016x}\n"))
            .file(
                "proc/self/limits",
                format!(
                    "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max locked memory         {soft:<20} 65536                bytes     \n"
                ),
            );
        check(&fake.root()).status
    }

    #[test]
    fn the_limit_matters_before_5_11() {
        assert_eq!(status("5.10.0-30-amd64", "65536", 0), CheckStatus::Warn);
        assert_eq!(status("5.10.0-30-amd64", "unlimited", 0), CheckStatus::Ok);
        assert_eq!(status("5.10.0-30-amd64", "33554432", 0), CheckStatus::Ok);
        assert_eq!(status("5.10.0-30-amd64", "65536", 1 << 24), CheckStatus::Ok);
        assert_eq!(status("5.11.0", "65536", 0), CheckStatus::Ok);
        assert_eq!(status("6.1.0-56-amd64", "65536", 0), CheckStatus::Ok);
        assert_eq!(status("odd", "65536", 0), CheckStatus::Warn);
        assert_eq!(status("5.4", "none", 0), CheckStatus::Warn);
    }
}
