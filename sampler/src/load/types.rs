//! The running kernel's types, for all that is looked up in them: what the loader finds `hvsampler check`
//! finds, and nothing else.

use std::path::{Path, PathBuf};

use sampler_ebpf::abi::Offsets;

use super::{ShapeError, resolve};
use crate::kernel::btf::{Btf, BtfError, PUBLISHED};

/// The module that has the types of vCPUs where the kernel itself does not.
const KVM: &str = "kvm";
/// The type that is missing where that module is not loaded.
const VCPU: &str = "kvm_vcpu";

/// What the kernel and KVM's module publish.
pub(super) struct Types {
    directory: PathBuf,
    kernel: Btf,
    /// Both, where the module is loaded and publishes its own (5.11 and later).
    with_kvm: Option<Btf>,
}

impl Types {
    /// Those of the running kernel.
    pub(super) fn running() -> Result<Self, BtfError> {
        Self::published_in(Path::new(PUBLISHED))
    }

    /// Those that are published in a directory.
    pub(super) fn published_in(directory: &Path) -> Result<Self, BtfError> {
        let kernel = Btf::read(&directory.join("vmlinux"))?;
        let with_kvm = kernel.with_module(&directory.join(KVM))?;
        Ok(Self { directory: directory.to_owned(), kernel, with_kvm })
    }

    /// The kernel's with those of KVM's module, as far as there are some.
    pub(super) fn all(&self) -> &Btf {
        self.with_kvm.as_ref().unwrap_or(&self.kernel)
    }

    /// The kernel's with those of another module, where there are some.
    pub(super) fn with_module(&self, name: &str) -> Result<Option<Btf>, BtfError> {
        self.kernel.with_module(&self.directory.join(name))
    }

    /// Where the members are that the programs read.
    pub(super) fn offsets(&self) -> Result<Offsets, ShapeError> {
        resolve(self.all()).map_err(|error| match error {
            ShapeError::Missing(BtfError::NoStruct(name)) if name == VCPU && self.with_kvm.is_none() => {
                ShapeError::NoVcpu
            }
            other => other,
        })
    }
}
