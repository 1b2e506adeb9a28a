//! JSON for programs: versioned documents, each described by a JSON Schema in `schema/`.
//!
//! | module | what it has |
//! |---|---|
//! | `snapshot` | the document of a snapshot: objects that nest, and what in them is no metric |
//! | `object` | the object of one entity, and lists of them |
//! | `metrics` | the metrics of an object, by a walk over the catalog, and what an interval added to them |
//! | `schema` | its schema, by the same walk |
//! | `plain` | any document on one line that a terminal may print |

mod metrics;
mod object;
mod plain;
mod schema;
mod snapshot;

use std::sync::Arc;

use serde::Serialize;

pub(crate) use plain::render;
pub use schema::schema;

use self::snapshot::Document;
use crate::model::{Host, Snapshot};

/// Value of `schema` in the document of a snapshot, which `schema/snapshot-1.schema.json` describes.
pub const SNAPSHOT_SCHEMA: &str = "hvsampler.snapshot/1";

/// Writes snapshots, one a line. Each line has what was added since the one before, which is why that is
/// kept.
#[derive(Debug, Default)]
pub struct Lines {
    before: Option<Arc<Snapshot>>,
    line: Vec<u8>,
}

impl Lines {
    /// What is written first has what was added since this snapshot.
    #[must_use]
    pub const fn since(before: Arc<Snapshot>) -> Self {
        Self { before: Some(before), line: Vec::new() }
    }

    /// The line of a snapshot; it ends with a newline.
    ///
    /// # Errors
    /// None that the model can cause.
    pub fn next(&mut self, snapshot: Arc<Snapshot>) -> serde_json::Result<&[u8]> {
        plain::render_to(&Document::new(&snapshot, self.before.as_deref()), &mut self.line)?;
        self.before = Some(snapshot);
        Ok(&self.line)
    }
}

/// A host in every document.
#[derive(Serialize)]
pub(crate) struct HostJson<'a> {
    id: Option<&'a str>,
    name: &'a str,
    kernel: &'a str,
    arch: &'a str,
    cpus: u32,
}

impl<'a> HostJson<'a> {
    pub(crate) fn of(host: &'a Host) -> Self {
        Self {
            id: host.id.as_deref(),
            name: &host.name,
            kernel: &host.kernel,
            arch: &host.arch,
            cpus: host.cpus,
        }
    }
}
