//! What holds the house together, judged by reading its files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use super::{
    circles,
    directions::{self, EXCEPTIONS, ROOMS},
    files::{self, File},
    graph::Graph,
    length,
    pure::{self, PURE},
    words, wrap,
};
use crate::workspace::Workspace;

/// The crates: the name in a path, and the folder.
const CRATES: [(&str, &str); 4] =
    [SAMPLER, ("sampler_ebpf", "sampler-ebpf"), ("sampler_tests", "tests"), ("xtask", "xtask")];
const SAMPLER: (&str, &str) = ("hvsampler", "sampler");

/// Nothing in the sampler imports to its left, and what is pure asks nothing of the system.
pub(super) fn directions(workspace: &Workspace) -> Result<()> {
    let graph = graph(workspace, SAMPLER)?;
    directions::check_rows(&graph, &ROOMS)?;
    directions::check(&graph, &ROOMS, &EXCEPTIONS)?;
    pure::check(&graph, &PURE)
}

/// No circle between the modules of a crate.
pub(super) fn circles(workspace: &Workspace) -> Result<()> {
    CRATES.into_iter().try_for_each(|(library, folder)| {
        circles::check(library, &graph(workspace, (library, folder))?, &circles::KNOWN)
    })
}

/// Files and lines of a length that one reads.
pub(super) fn length(workspace: &Workspace) -> Result<()> {
    length::check(&sources(workspace)?)
}

/// One word for one thing.
pub(super) fn words(workspace: &Workspace) -> Result<()> {
    words::check(&sources(workspace)?)
}

/// Wraps the comments whose lines are held.
pub(super) fn wrap(workspace: &Workspace) -> Result<()> {
    for file in sources(workspace)?.iter().filter(|file| file.is_in(&length::HELD)) {
        let wrapped = wrap::rewrap(file.extension(), &file.text, length::LINE_LIMIT);
        if wrapped != file.text {
            fs::write(workspace.root.join(&file.path), wrapped)?;
        }
    }
    Ok(())
}

fn sources(workspace: &Workspace) -> Result<Vec<File>> {
    files::with_extension(&workspace.root, &length::EXTENSIONS)
}

fn graph(workspace: &Workspace, (library, folder): (&str, &str)) -> Result<Graph> {
    let folder = workspace.root.join(folder).join("src");
    let roots = ["lib.rs", "main.rs"].map(PathBuf::from);
    let graph = Graph::of(library, &roots, &|path: &Path| fs::read_to_string(folder.join(path)).ok());
    ensure!(graph.modules.len() > 1, "{library}: no modules under {}", folder.display());
    Ok(graph)
}
