//! The versions in `[workspace.metadata.pins]` of the root manifest, the only place that has them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Toolchains and tools by version.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    /// Stable Rust of everything that runs on the host.
    pub(crate) rust: String,
    /// Nightly Rust of the eBPF programs.
    pub(crate) nightly: String,
    pub(crate) bpf_linker: String,
    pub(crate) cargo_deny: String,
    /// OpenTelemetry Collector, without the leading `v`.
    pub(crate) collector: String,
}

impl Pins {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(manifest: &str) -> Result<Self> {
        let table: toml::Table = manifest.parse()?;
        let pins = table
            .get("workspace")
            .and_then(|workspace| workspace.get("metadata")?.get("pins"))
            .context("no [workspace.metadata.pins]")?;
        let pin = |name: &str| -> Result<String> {
            let value = pins.get(name).and_then(toml::Value::as_str);
            Ok(value.with_context(|| format!("workspace.metadata.pins.{name} is not a string"))?.to_owned())
        };
        Ok(Self {
            rust: pin("rust")?,
            nightly: pin("nightly")?,
            bpf_linker: pin("bpf-linker")?,
            cargo_deny: pin("cargo-deny")?,
            collector: pin("collector")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_pin_is_named() {
        let manifest = "[workspace.metadata.pins]\nrust = '1.0'\nnightly = 'n'\nbpf-linker = 2\n";
        let error = Pins::parse(manifest).unwrap_err();
        assert_eq!(error.to_string(), "workspace.metadata.pins.bpf-linker is not a string");
    }

    #[test]
    fn the_manifest_of_this_workspace_has_every_pin() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let pins = Pins::read(&root).unwrap();
        assert!(pins.nightly.starts_with("nightly-"), "{pins:?}: the nightly must not float");
    }
}
