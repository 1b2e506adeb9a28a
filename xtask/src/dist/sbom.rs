//! What is inside the binary, as CycloneDX: the crates that cargo resolves, with licences and digests.
//!
//! It is written here: the tools that write one put the moment and a random number into it, so that no two
//! are the same.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Release;
use crate::{shell, workspace::Workspace};

/// Both halves: what runs on the host, and the eBPF programs that are inside the binary.
const HALVES: [&[&str]; 2] = [
    &["--package", "hvsampler", "--target", "x86_64-unknown-linux-gnu"],
    &["--package", "sampler-ebpf", "--features", "programs", "--target", "bpfel-unknown-none"],
];

/// By name and version, the licence.
type Crates = BTreeMap<(String, String), String>;

pub(super) fn of(release: &Release<'_>) -> Result<Vec<u8>> {
    let mut crates = Crates::new();
    for half in HALVES {
        let mut cargo = release.workspace.stable();
        cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--no-dedupe"]);
        crates.extend(parse(&shell::read(cargo.args(["--format", "{p}|{l}"]).args(half))?)?);
    }
    let digests = digests(release.workspace)?;
    let components: Vec<Value> =
        crates.iter().map(|(own, licence)| component(own, licence, &digests)).collect();
    let root = json!({ "type": "application", "name": "hvsampler", "version": release.version });
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": root },
        "components": components,
    });
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

fn component(
    (name, version): &(String, String),
    licence: &str,
    digests: &BTreeMap<(String, String), String>,
) -> Value {
    let mut component = json!({
        "type": "library",
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{name}@{version}"),
        "licenses": [{ "expression": expression(licence) }],
    });
    // Crates of this repository have none.
    if let Some(digest) = digests.get(&(name.clone(), version.clone())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
    }
    component
}

/// Older crates have a slash where SPDX has a word.
fn expression(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

/// Lines such as `anyhow v1.0.104|MIT OR Apache-2.0`.
fn parse(tree: &str) -> Result<Crates> {
    let parse = |line: &str| {
        let (name, licence) = line.rsplit_once('|')?;
        let mut words = name.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
        Some(((name.to_owned(), version.to_owned()), licence.to_owned()))
    };
    let lines = tree.lines().filter(|line| !line.is_empty());
    lines.map(|line| parse(line).with_context(|| format!("`cargo tree` says {line:?}"))).collect()
}

/// SHA-256 of each crate's archive, from the lock file.
fn digests(workspace: &Workspace) -> Result<BTreeMap<(String, String), String>> {
    let text = std::fs::read_to_string(workspace.root.join("Cargo.lock")).context("reading Cargo.lock")?;
    let lock: toml::Table = text.parse().context("parsing Cargo.lock")?;
    let packages =
        lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock has no packages")?;
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let entry =
        |package| Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?));
    Ok(packages.iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_is_a_crate_whatever_follows_its_version() {
        let tree = "hvsampler v0.1.0 (/x/sampler)|MIT OR Apache-2.0\nserde_derive v1.0.2 (proc-macro)|MIT/Apache-2.0\n\n";
        let crates = parse(tree).unwrap();
        let names: Vec<&str> = crates.keys().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["hvsampler", "serde_derive"]);
        assert_eq!(crates[&("serde_derive".to_owned(), "1.0.2".to_owned())], "MIT/Apache-2.0");
        parse("no version|MIT").unwrap_err();
    }

    #[test]
    fn a_crate_of_the_registry_has_its_digest() {
        let workspace = Workspace::open().unwrap();
        let digests = digests(&workspace).unwrap();
        let ((name, version), _) = digests.first_key_value().unwrap();
        let found = component(&(name.clone(), version.clone()), "MIT / X", &digests);
        assert_eq!(found["hashes"][0]["content"].as_str().map(str::len), Some(64));
        assert_eq!(found["licenses"][0]["expression"], "MIT OR X");
        let own = component(&("hvsampler".to_owned(), "0.1.0".to_owned()), "MIT", &digests);
        assert!(own.get("hashes").is_none());
    }
}
