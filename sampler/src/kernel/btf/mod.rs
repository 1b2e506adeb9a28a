//! A reader of the kernel's BTF: structures, members, tracepoint prototypes.
//!
//! aya reads BTF to load programs but gives no access to members, and rustc emits no CO-RE relocations; so
//! the offsets of the kernel members that the programs read come from here. The format is described in the
//! kernel's `Documentation/bpf/btf.rst`. Input is untrusted: any malformed length is an error, never a panic.

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod fuzz;
mod parse;
mod query;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

pub use parse::Btf;
pub use query::{Field, Parameter};

/// Where the running kernel publishes its own types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Where all of it publishes its types: the kernel in `vmlinux`, each module by its name.
pub const PUBLISHED: &str = "/sys/kernel/btf";

/// Why BTF could not be read or did not have what was looked for.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error(
        "{path}: {source}; the kernel needs CONFIG_DEBUG_INFO_BTF=y (all kernels since 5.10 of the large distributions have it)"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not BTF.
    #[error("malformed BTF: {0}")]
    Malformed(&'static str),
    /// No such structure.
    #[error("the kernel has no struct {0}")]
    NoStruct(String),
    /// No such member.
    #[error("struct {container} of this kernel has no member {path}")]
    NoMember {
        /// The structure.
        container: String,
        /// Path of the member.
        path: String,
    },
    /// The member is a number, a pointer or the like.
    #[error("{container}.{path} is no structure in this kernel")]
    NoStructure {
        /// The structure that has it.
        container: String,
        /// Path of the member.
        path: String,
    },
    /// The member is a bit field, which a plain load cannot read.
    #[error("{container}.{path} is a bit field in this kernel")]
    BitField {
        /// The structure.
        container: String,
        /// Path of the member.
        path: String,
    },
    /// No such tracepoint in BTF.
    #[error("the kernel has no tracepoint {0}")]
    NoTracepoint(String),
}

impl Btf {
    /// Reads a BTF file.
    ///
    /// # Errors
    /// When the file cannot be read or is not BTF.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let data =
            fs::read(path).map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(data)
    }

    /// The kernel's types with those of a module that publishes them in this file, where there is one. A
    /// second module is added to the kernel's alone: it counts on from there as well.
    ///
    /// # Errors
    /// When what it publishes is not BTF.
    pub fn with_module(&self, file: &Path) -> Result<Option<Self>, BtfError> {
        match fs::read(file) {
            Ok(section) => self.extended(&section).map(Some),
            Err(_) => Ok(None),
        }
    }
}
