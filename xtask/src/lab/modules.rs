//! Kernel modules with their dependencies, unpacked, in loading order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::tools::Busybox;

/// Contents of unpacked modules by file name.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// The modules of one kernel package, by name with underscores.
pub(super) struct Available<'a> {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    busybox: &'a Busybox,
}

impl<'a> Available<'a> {
    /// `installed` is the package's `lib/modules/RELEASE`.
    pub(super) fn scan(installed: &Path, busybox: &'a Busybox) -> Result<Self> {
        let list = fs::read_to_string(installed.join("modules.builtin"))
            .with_context(|| format!("reading the built-in modules in {}", installed.display()))?;
        let builtin = list.lines().filter_map(|line| name_of(Path::new(line))).collect();
        let mut files = BTreeMap::new();
        scan(&installed.join("kernel"), &mut files)?;
        Ok(Self { files, builtin, busybox })
    }

    /// File names of the wanted modules and all they depend on, each after its dependencies;
    /// their contents are added to `contents`.
    pub(super) fn closure(&self, wanted: &[&str], contents: &mut Contents) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(name, &mut order, contents)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<String>, contents: &mut Contents) -> Result<()> {
        let file = format!("{name}.ko");
        if self.builtin.contains(name) || order.contains(&file) {
            return Ok(());
        }
        let path = self.files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
        let content = match contents.remove(&file) {
            Some(content) => content,
            None => self.unpack(path)?,
        };
        for dependency in dependencies(&content) {
            self.visit(&dependency, order, contents)?;
        }
        contents.insert(file.clone(), content);
        order.push(file);
        Ok(())
    }

    fn unpack(&self, path: &Path) -> Result<Vec<u8>> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ko") => fs::read(path).with_context(|| format!("reading {}", path.display())),
            Some("xz") => self.busybox.unxz(path),
            _ => bail!("{} is packed in a way that xtask cannot read", path.display()),
        }
    }
}

fn scan(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            scan(&entry.path(), files)?;
        } else if let Some(name) = name_of(&entry.path()) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// Modules are called with dashes or underscores alike; the kernel itself uses underscores.
fn name_of(path: &Path) -> Option<String> {
    let (stem, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(stem.replace('-', "_"))
}

/// The `depends=` entry among the NUL-terminated strings of a module's `.modinfo` section.
fn dependencies(module: &[u8]) -> Vec<String> {
    module
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .map(|list| String::from_utf8_lossy(list).into_owned())
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module_itself() {
        let module = b"\x7fELF junk depends=no\0license=GPL\0depends=kvm,irq-bypass\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["kvm", "irq_bypass"]);
        assert!(dependencies(b"license=GPL\0depends=\0").is_empty());
    }

    #[test]
    fn a_module_has_one_name_however_its_file_is_called() {
        for file in ["kernel/arch/x86/kvm/kvm-amd.ko", "kvm_amd.ko.xz", "kvm-amd.ko.zst"] {
            assert_eq!(name_of(Path::new(file)).unwrap(), "kvm_amd");
        }
        assert_eq!(name_of(Path::new("modules.order")), None);
    }
}
