//! Whether the kernel describes its own types.

use std::{fs::File, io::Read as _};

use super::{Root, check::CheckItem};

/// First bytes of BTF, in the byte order of the machine.
const BTF_MAGIC: u16 = 0xeb9f;

/// Does the kernel carry the description of its own types that offsets are taken from?
#[must_use]
pub fn check(root: &Root) -> CheckItem {
    const NAME: &str = "kernel types";
    const FIX: &str = "run a kernel that was built with CONFIG_DEBUG_INFO_BTF=y";
    let path = "sys/kernel/btf/vmlinux";
    let mut magic = [0; 2];
    match File::open(root.path(path)).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if u16::from_ne_bytes(magic) == BTF_MAGIC => CheckItem::ok(NAME, format!("/{path}")),
        Ok(()) => CheckItem::fail(NAME, format!("/{path} is not BTF"), FIX),
        Err(error) => CheckItem::fail(NAME, format!("/{path}: {error}"), FIX),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    #[test]
    fn btf_is_known_by_its_magic() {
        let with = |bytes: &[u8]| check(&FakeRoot::new().file("sys/kernel/btf/vmlinux", bytes).root());
        assert_eq!(with(&BTF_MAGIC.to_ne_bytes()).status, CheckStatus::Ok);
        assert_eq!(with(b"xx").detail, "/sys/kernel/btf/vmlinux is not BTF");
        assert_eq!(with(b"").status, CheckStatus::Fail);
        assert_eq!(check(&FakeRoot::new().root()).status, CheckStatus::Fail);
    }
}
