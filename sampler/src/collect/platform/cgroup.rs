//! What the control group of a process says: who put it there.
//!
//! A user may make groups below the one that is theirs, and call them what they like; so may whoever is root
//! in a container. So nothing below `user.slice` is believed, nor what is below the group of a container.

use std::borrow::Cow;

use super::ProcessFacts;

/// What container runtimes call the group of a container, or begin its name with.
const CONTAINERS: [&str; 9] =
    ["lxc", "docker", "libpod", "cri-containerd-", "crio-", "containerd-", "nerdctl-", "podman", "payload"];

/// The components of the process's control groups, in each hierarchy, that a user could not have made.
pub(super) fn components(facts: &ProcessFacts) -> impl Iterator<Item = &str> {
    paths(facts).flat_map(|path| path.split('/')).filter(|part| !part.is_empty())
}

/// The paths, up to the group of a container.
pub(super) fn paths(facts: &ProcessFacts) -> impl Iterator<Item = &str> {
    let is_of_user = |path: &str| path.split('/').any(|part| part == "user.slice");
    facts.cgroups.iter().map(|path| outside(path)).filter(move |path| !is_of_user(path))
}

/// The part of a path that no container has made.
fn outside(path: &str) -> &str {
    let is_container = |part: &str| CONTAINERS.iter().any(|container| part.starts_with(container));
    let mut at = 0;
    for part in path.split('/') {
        if is_container(part) {
            return &path[..at];
        }
        at = (at + part.len() + 1).min(path.len());
    }
    path
}

/// A unit's name as it was before systemd escaped it: `\x2d` is a hyphen.
pub(super) fn unescape(unit: &str) -> Cow<'_, [u8]> {
    if !unit.contains('\\') {
        return Cow::Borrowed(unit.as_bytes());
    }
    let mut plain = Vec::with_capacity(unit.len());
    let mut rest = unit.as_bytes();
    while let [byte, after @ ..] = rest {
        let escaped = rest.strip_prefix(b"\\x").and_then(|digits| {
            let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
            // The standard library takes a sign as well.
            digits
                .bytes()
                .all(|digit| digit.is_ascii_hexdigit())
                .then(|| u8::from_str_radix(digits, 16).ok())?
        });
        plain.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_unescaped() {
        for (unit, plain) in [
            ("plain", &b"plain"[..]),
            ("machine-qemu\\x2d1\\x2dweb.scope", b"machine-qemu-1-web.scope"),
            ("\\xc3\\xa4\\x0a", "ä\n".as_bytes()),
            ("\\x2", b"\\x2"),
            ("\\x+1\\xg0\\y\\", b"\\x+1\\xg0\\y\\"),
            ("\\x5cx2d", b"\\x2d"),
        ] {
            assert_eq!(&*unescape(unit), plain, "{unit}");
        }
    }

    #[test]
    fn what_is_below_a_container_is_not_believed() {
        for (path, outside) in [
            ("/system.slice/x.service", "/system.slice/x.service"),
            ("/lxc/101/ns/qemu.slice/100.scope", "/"),
            ("/lxc.payload.web/qemu.slice/100.scope", "/"),
            ("/kubepods/podX/crio-1.scope/machine-qemu\\x2d1\\x2dweb.scope", "/kubepods/podX/"),
            ("/machine.slice/machine-c.scope/payload/qemu.slice", "/machine.slice/machine-c.scope/"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(super::outside(path), outside, "{path}");
        }
    }

    #[test]
    fn what_a_user_made_is_not_believed() {
        let facts = ProcessFacts {
            cgroups: vec!["/user.slice/user-1000.slice/qemu.slice/100.scope".into(), "/a//b".into()],
            ..ProcessFacts::default()
        };
        assert_eq!(components(&facts).collect::<Vec<_>>(), ["a", "b"]);
    }
}
