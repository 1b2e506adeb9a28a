//! What holds the house together, judged by reading its files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use super::{
    circles,
    directions::{self, EXCEPTIONS, ROOMS},
    graph::Graph,
};
use crate::workspace::Workspace;

/// The crates: the name in a path, and the folder.
const CRATES: [(&str, &str); 4] =
    [SAMPLER, ("sampler_ebpf", "sampler-ebpf"), ("sampler_tests", "tests"), ("xtask", "xtask")];
const SAMPLER: (&str, &str) = ("hvsampler", "sampler");

/// Nothing in the sampler imports to its left.
pub(super) fn directions(workspace: &Workspace) -> Result<()> {
    directions::check(&graph(workspace, SAMPLER)?, &ROOMS, &EXCEPTIONS)
}

/// No circle between the modules of a crate.
pub(super) fn circles(workspace: &Workspace) -> Result<()> {
    CRATES.into_iter().try_for_each(|(library, folder)| {
        circles::check(library, &graph(workspace, (library, folder))?, &circles::KNOWN)
    })
}

fn graph(workspace: &Workspace, (library, folder): (&str, &str)) -> Result<Graph> {
    let folder = workspace.root.join(folder).join("src");
    let roots = ["lib.rs", "main.rs"].map(PathBuf::from);
    let graph = Graph::of(library, &roots, &|path: &Path| fs::read_to_string(folder.join(path)).ok());
    ensure!(graph.modules.len() > 1, "{library}: no modules under {}", folder.display());
    Ok(graph)
}
