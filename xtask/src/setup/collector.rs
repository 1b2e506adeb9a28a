//! The official OpenTelemetry Collector out of Go modules, and Debian's Prometheus behind it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Need;
use crate::{apt::Suite, cache::Cache, shell, workspace::Workspace};

const MANIFEST: &str = "otel-config/builder.yaml";
const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder";
/// Its Prometheus (2.42) takes remote writes and needs nothing but libc.
const PROMETHEUS_SUITE: &str = "bookworm";

/// The receiving side of the delivery tests.
pub(crate) struct Backends {
    pub(crate) collector: PathBuf,
    pub(crate) prometheus: PathBuf,
}

impl Backends {
    /// Where the programs are once installed.
    pub(crate) fn of(workspace: &Workspace) -> Result<Self> {
        Ok(Self {
            collector: collector_folder(workspace)?.join("otelcol"),
            prometheus: prometheus_folder(workspace).join("prometheus"),
        })
    }
}

pub(super) fn needs(workspace: &Workspace) -> Result<Vec<Need<'_>>> {
    let mut needs = Vec::new();
    let folder = collector_folder(workspace)?;
    if !Cache::holds(&folder) {
        needs.push(Need {
            what: format!("OpenTelemetry Collector {} into {}", workspace.pins.collector, folder.display()),
            why: "receives what the sampler sends in the delivery tests (built from Go modules in 2 to 5 minutes)",
            install: Box::new(move || Cache::filled(&folder, |staging| build(workspace, staging))),
        });
    }
    let folder = prometheus_folder(workspace);
    if !Cache::holds(&folder) {
        needs.push(Need {
            what: format!("Debian's Prometheus into {}", folder.display()),
            why: "is asked for a starved vCPU in the delivery tests; it does not become a service",
            install: Box::new(move || {
                Cache::filled(&folder, |staging| unpack_prometheus(workspace, staging))
            }),
        });
    }
    Ok(needs)
}

/// Why this machine cannot have them, with what the user does about it.
pub(super) fn cannot_install() -> Option<String> {
    if shell::which("go").is_none() {
        Some("the collector is built by Go, which is missing; install it from https://go.dev/dl".to_owned())
    } else if shell::which("apt-get").is_none() {
        Some("Prometheus is taken from Debian, and this machine has no apt-get".to_owned())
    } else {
        None
    }
}

/// A changed manifest is another collector.
fn collector_folder(workspace: &Workspace) -> Result<PathBuf> {
    let manifest = workspace.root.join(MANIFEST);
    let digest = shell::read(workspace.command("sha256sum").arg("--").arg(&manifest))?;
    let digest = digest.get(..12).with_context(|| format!("taking the digest of {}", manifest.display()))?;
    Ok(workspace.cache.path(format!("collector/{}-{digest}", workspace.pins.collector)))
}

fn prometheus_folder(workspace: &Workspace) -> PathBuf {
    workspace.cache.path(format!("prometheus-{PROMETHEUS_SUITE}"))
}

fn build(workspace: &Workspace, staging: &Path) -> Result<()> {
    let version = &workspace.pins.collector;
    let go = shell::which("go").context("go has gone")?;
    // The builder calls go by name, which may be in no more than its default place.
    let folder = go.parent().context("go without a folder")?.to_path_buf();
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder].into_iter().chain(env::split_paths(&inherited)))?;
    let mut install = workspace.command(&go);
    shell::quiet(install.arg("install").arg(format!("{BUILDER}@v{version}")).env("GOBIN", staging))
        .context("the collector's builder cannot be had; check the network and GOPROXY")?;
    let mut builder = workspace.command(staging.join("builder"));
    builder.arg("--config").arg(workspace.root.join(MANIFEST)).current_dir(staging);
    shell::quiet(builder.env("PATH", path).env("CGO_ENABLED", "0"))
        .context("the collector cannot be built; check the network and GOPROXY")?;
    let sources = staging.join("sources");
    fs::rename(staging.join("otelcol"), &sources)?;
    fs::rename(sources.join("otelcol"), staging.join("otelcol"))?;
    fs::remove_dir_all(sources)?;
    Ok(fs::remove_file(staging.join("builder"))?)
}

fn unpack_prometheus(workspace: &Workspace, staging: &Path) -> Result<()> {
    let tree = staging.join("tree");
    Suite::open(workspace, PROMETHEUS_SUITE)?.unpack(&["prometheus".to_owned()], &tree)?;
    fs::copy(tree.join("usr/bin/prometheus"), staging.join("prometheus"))
        .context("the package holds no prometheus")?;
    Ok(fs::remove_dir_all(tree)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_of_the_manifest_has_the_pinned_version() {
        let workspace = Workspace::open().unwrap();
        let manifest = fs::read_to_string(workspace.root.join(MANIFEST)).unwrap();
        let pin = &workspace.pins.collector;
        assert!(manifest.contains(&format!("  version: {pin}\n")), "dist.version is not {pin}");
        let modules: Vec<&str> = manifest.lines().filter(|line| line.contains("gomod:")).collect();
        assert!(!modules.is_empty());
        for module in modules {
            assert!(module.ends_with(&format!(" v{pin}")), "{module}: not v{pin}");
        }
    }
}
