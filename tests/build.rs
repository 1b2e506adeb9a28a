//! Builds the eBPF programs once more, with those that tests and benchmarks alone load: the product's object
//! has none of them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = root.join("Cargo.toml");
    println!("cargo:rerun-if-changed={}", manifest.display());
    let text = fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
    let table: toml::Table = text.parse().context("parsing the workspace manifest")?;
    let nightly = table["workspace"]["metadata"]["pins"]["nightly"]
        .as_str()
        .context("workspace.metadata.pins.nightly is not a string")?;
    let programs = root.join("sampler-ebpf");
    let programs = Package {
        name: "sampler-ebpf",
        root_dir: programs.to_str().context("the path of the workspace is not UTF-8")?,
        no_default_features: false,
        features: &["bench-programs"],
    };
    aya_build::build_ebpf([programs], Toolchain::Custom(nightly))
        .context("building the programs of the benchmarks")
}
