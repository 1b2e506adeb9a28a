//! Where the reasons of exits are, and what they mean: both follow from whose KVM runs the guests.

use std::fs;

use sampler_ebpf::abi::{ExitOffsets, ExitRow, SVM_EXITS, VMX_EXITS};

use super::{LoadError, Object, section, types::Types};
use crate::kernel::btf::{Btf, BtfError};

/// The variable of the programs.
const SECTION: &str = ".bss.exits";

/// Where the kernel says which processor this is.
const CPUINFO: &str = "/proc/cpuinfo";

/// A processor's virtualisation, as KVM has a module for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// Intel's VMX.
    Vmx,
    /// AMD's SVM.
    Svm,
}

impl Processor {
    const ALL: [Self; 2] = [Self::Vmx, Self::Svm];

    /// Its flag in the kernel's list. Not which of the two modules is there: where both are built in, both
    /// are.
    const fn flag(self) -> &'static str {
        match self {
            Self::Vmx => "vmx",
            Self::Svm => "svm",
        }
    }

    /// By the text of `/proc/cpuinfo`: the first processor's flags.
    fn of(cpuinfo: &str) -> Option<Self> {
        let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'))?.1;
        Self::ALL.into_iter().find(|processor| flags.split_whitespace().any(|flag| flag == processor.flag()))
    }

    const fn module(self) -> &'static str {
        match self {
            Self::Vmx => "kvm_intel",
            Self::Svm => "kvm_amd",
        }
    }

    /// The reasons of exits that are distinguished.
    #[must_use]
    pub const fn exits(self) -> &'static [ExitRow] {
        match self {
            Self::Vmx => VMX_EXITS,
            Self::Svm => SVM_EXITS,
        }
    }

    /// Members that lead to the reason of an exit, from KVM's own structure for the processor.
    fn add_offsets(self, btf: &Btf, offsets: &mut ExitOffsets) -> Result<(), BtfError> {
        match self {
            Self::Vmx => {
                let full = |path| btf.field("vcpu_vmx", path);
                // struct vcpu_vt came between with TDX, in 6.16.
                let reason = full("exit_reason.full").or_else(|_| full("vt.exit_reason.full"))?;
                offsets.vmx_reason = reason.offset;
            }
            Self::Svm => {
                let vmcb = btf.field("vcpu_svm", "vmcb")?;
                // Its upper half was a member of its own up to 6.18: the lower one has all codes that are
                // known.
                let code = btf.field("vmcb", "control.exit_code")?;
                (offsets.svm_vmcb, offsets.svm_code) = (vmcb.offset, code.offset);
            }
        }
        Ok(())
    }
}

/// Whose KVM runs the guests, and whether it is known where it keeps the reasons of exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) processor: Option<Processor>,
    pub(super) reasons: bool,
}

/// Where reasons are. A kernel that does not publish the types of its modules may pass them instead.
fn find(types: &Types) -> Result<(Option<Processor>, ExitOffsets), BtfError> {
    let mut offsets = ExitOffsets::UNSET;
    let processor = Processor::of(&fs::read_to_string(CPUINFO).unwrap_or_default());
    if let Some(processor) = processor {
        let with_module = types.with_module(processor.module())?;
        if let Err(error) = processor.add_offsets(with_module.as_ref().unwrap_or(types.all()), &mut offsets) {
            tracing::debug!(%error, "where this kernel keeps the reasons of exits is not known");
        }
    }
    Ok((processor, offsets))
}

/// Whether reasons can be found without being passed.
pub(super) fn are_published(types: &Types) -> Result<bool, BtfError> {
    Ok(find(types)?.1 != ExitOffsets::UNSET)
}

/// Publishes to the programs where reasons are.
pub(super) fn publish(object: &mut Object, types: &Types) -> Result<Published, LoadError> {
    let (processor, offsets) = find(types)?;
    let ExitOffsets { vmx_reason, svm_vmcb, svm_code, _pad } = offsets;
    section::publish(object, SECTION, &[vmx_reason, svm_vmcb, svm_code, _pad])?;
    Ok(Published { processor, reasons: offsets != ExitOffsets::UNSET })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_follows_from_its_flags() {
        let text = |flags: &str| format!("processor\t: 0\nflags\t\t: fpu {flags} sse\nbugs\t\t: none\n");
        assert_eq!(Processor::of(&text("vmx")), Some(Processor::Vmx));
        assert_eq!(Processor::of(&text("svm")), Some(Processor::Svm));
        assert_eq!(Processor::of(&text("vmx_not svm2")), None);
        assert_eq!(Processor::of("flags"), None);
    }
}
