//! The kernels of the lab: one line each in `tests/lab/kernels`, their files in the cache.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{modules, tools::Busybox};
use crate::{apt::Suite, cache::Cache, workspace::Workspace};

const TABLE: &str = "tests/lab/kernels";
/// What ends the name of a kernel of PREEMPT_RT on the command line, and of Debian's package.
const RT: &str = "rt";

/// Modules of the machine whose kernel is tested: the build machine's root file system over 9p,
/// KVM by AMD's nested virtualisation, and what real guests' devices need.
const HOST_MODULES: [&str; 9] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "kvm_amd",
    "tun",
    "vhost_net",
    "virtio_blk",
    "virtio_net",
];
/// Modules of a guest inside.
const GUEST_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_net"];

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// `6.1`, or `6.12-rt`: the name on the command line.
    pub(crate) series: String,
    suite: String,
}

/// A kernel's files in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) series: String,
    /// What `uname -r` says there.
    pub(crate) release: String,
    folder: PathBuf,
}

impl Fetched {
    /// Whether it is one of PREEMPT_RT.
    pub(super) fn is_rt(&self) -> bool {
        split(&self.series).1 == Some(RT)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Modules of the tested machine, in loading order.
    pub(crate) fn host_modules(&self) -> Result<Vec<PathBuf>> {
        self.modules("host")
    }

    /// Modules of a guest, in loading order.
    pub(crate) fn guest_modules(&self) -> Result<Vec<PathBuf>> {
        self.modules("guest")
    }

    fn modules(&self, list: &str) -> Result<Vec<PathBuf>> {
        let path = self.folder.join(list);
        let names = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(names.lines().map(|name| self.folder.join("modules").join(name)).collect())
    }
}

impl Kernel {
    /// The kernels named, or all when none is.
    pub(crate) fn named(workspace: &Workspace, names: &[String]) -> Result<Vec<Self>> {
        let path = workspace.root.join(TABLE);
        let table = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let all = parse(&table).with_context(|| format!("in {TABLE}"))?;
        if names.is_empty() {
            return Ok(all);
        }
        let known = || all.iter().map(|kernel| kernel.series.as_str()).collect::<Vec<_>>().join(", ");
        let find = |name: &String| {
            let found = all.iter().find(|kernel| kernel.series == *name).cloned();
            found.with_context(|| format!("no kernel {name} in {TABLE}, which has {}", known()))
        };
        names.iter().map(find).collect()
    }

    fn folder(&self, workspace: &Workspace) -> PathBuf {
        workspace.cache.path(format!("lab/linux-{}-{}", self.series, self.suite))
    }

    pub(crate) fn is_fetched(&self, workspace: &Workspace) -> bool {
        Cache::holds(&self.folder(workspace))
    }

    /// Downloads what is missing and checks what is there.
    pub(crate) fn fetch(&self, workspace: &Workspace, busybox: &Busybox) -> Result<Fetched> {
        let folder = self.folder(workspace);
        Cache::filled(&folder, |staging| self.fill(workspace, busybox, staging))
            .with_context(|| format!("fetching kernel {}", self.series))?;
        let release = fs::read_to_string(folder.join("release"))?;
        Ok(Fetched { series: self.series.clone(), release, folder })
    }

    fn fill(&self, workspace: &Workspace, busybox: &Busybox, staging: &Path) -> Result<()> {
        let suite = Suite::open(workspace, &self.suite)?;
        let tree = staging.join("tree");
        let (version, flavour) = split(&self.series);
        suite.unpack(&kernel_packages(&suite, &package(flavour))?, &tree)?;
        let (release, installed) = installed_modules(&tree)?;
        if !release.starts_with(&format!("{version}.")) {
            bail!("Debian's {} has kernel {release}, not {}; correct {TABLE}", self.suite, self.series);
        }
        let image = ["boot", "usr/lib/modules"]
            .map(|folder| tree.join(folder))
            .into_iter()
            .flat_map(|folder| {
                [folder.join(format!("vmlinuz-{release}")), folder.join(&release).join("vmlinuz")]
            })
            .find(|path| path.exists())
            .with_context(|| format!("the packages of kernel {release} hold no image"))?;
        fs::copy(image, staging.join("vmlinuz"))?;
        let available = modules::Available::scan(&installed, busybox)?;
        let mut closure = BTreeMap::new();
        for (list, wanted) in [("host", &HOST_MODULES[..]), ("guest", &GUEST_MODULES[..])] {
            let ordered = available.closure(wanted, &mut closure)?;
            fs::write(staging.join(list), ordered.join("\n") + "\n")?;
        }
        fs::create_dir(staging.join("modules"))?;
        for (file, content) in closure {
            fs::write(staging.join("modules").join(file), content)?;
        }
        fs::write(staging.join("release"), release)?;
        fs::remove_dir_all(tree)?;
        Ok(())
    }
}

/// Version and flavour of a series.
fn split(series: &str) -> (&str, Option<&str>) {
    series.split_once('-').map_or((series, None), |(version, flavour)| (version, Some(flavour)))
}

/// The package that stands for a suite's kernel of the day.
fn package(flavour: Option<&str>) -> String {
    let flavour = flavour.map(|flavour| format!("{flavour}-")).unwrap_or_default();
    format!("linux-image-{flavour}amd64")
}

/// The package that the suite's kernel really is, with those that newer suites split off it.
fn kernel_packages(suite: &Suite, package: &str) -> Result<Vec<String>> {
    let depends = suite.depends(package)?;
    let (image, release) = depends
        .iter()
        .find_map(|name| Some((name, name.strip_prefix("linux-image-")?)))
        .with_context(|| format!("{package} depends on no kernel"))?;
    let mut packages = suite.depends(image)?;
    packages.retain(|name| name.ends_with(&format!("-{release}")));
    packages.push(image.clone());
    Ok(packages)
}

fn installed_modules(tree: &Path) -> Result<(String, PathBuf)> {
    for modules in ["lib/modules", "usr/lib/modules"].map(|folder| tree.join(folder)) {
        let Ok(mut releases) = fs::read_dir(&modules) else { continue };
        if let Some(release) = releases.next() {
            let release = release?;
            return Ok((release.file_name().to_string_lossy().into_owned(), release.path()));
        }
    }
    bail!("the kernel's packages hold no modules")
}

fn parse(table: &str) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for (number, line) in (1..).zip(table.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(series) = words.next() else { continue };
        let suite = words.next().with_context(|| format!("line {number} names no suite"))?;
        kernels.push(Kernel { series: series.to_owned(), suite: suite.to_owned() });
    }
    if kernels.is_empty() {
        bail!("no kernel");
    }
    Ok(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_a_line() {
        let kernels = parse("# head\n\n6.1 bookworm  why # more\n").unwrap();
        assert_eq!(kernels, [Kernel { series: "6.1".to_owned(), suite: "bookworm".to_owned() }]);
        assert_eq!(parse("\n6.1\n").unwrap_err().to_string(), "line 2 names no suite");
        parse("# nothing\n").unwrap_err();
    }

    #[test]
    fn a_flavour_is_a_package_of_its_own() {
        let of = |series| {
            let (version, flavour) = split(series);
            (version, package(flavour))
        };
        assert_eq!(of("6.12"), ("6.12", "linux-image-amd64".to_owned()));
        assert_eq!(of("6.12-rt"), ("6.12", "linux-image-rt-amd64".to_owned()));
    }
}
