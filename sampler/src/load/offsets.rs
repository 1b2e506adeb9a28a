//! From BTF to the offsets that the programs get.

use sampler_ebpf::abi::{ABSENT, BIT, MEMBERS, Member, MemberRow, Offsets};

use crate::kernel::btf::{Btf, BtfError, Field};

/// Members that say nothing without others.
const TOGETHER: &[(Member, &[Member])] = &[
    (Member::CfsRqThrottledSelfTime, &[Member::CfsRqThrottledSelf]),
    (
        Member::RqCore,
        &[Member::RqForcedIdle, Member::RqForcedIdles, Member::CfsRqForcedIdles, Member::RqRunnable],
    ),
    (Member::TaskDlRuntime, &[Member::TaskDlNext, Member::TaskDlDeadline, Member::TaskDlPeriod]),
    (
        Member::CfsRqThrottledPeltTime,
        &[
            Member::CfsRqThrottledPelt,
            Member::CfsRqThrottleCount,
            Member::RqClockPelt,
            Member::RqLostIdleTime,
        ],
    ),
];

/// A kernel member that is not as the programs need it.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// A needed member is missing.
    #[error("this kernel's layout is not understood: {0}; hvsampler refuses to guess")]
    Missing(#[from] BtfError),
    /// A member has a size that it never had in a known kernel, so it may mean something else.
    #[error(
        "this kernel's layout is not understood: {container}.{path} is {size} bytes, known are {known:?}; hvsampler refuses to guess"
    )]
    Size {
        /// The structure.
        container: &'static str,
        /// Path of the member.
        path: &'static str,
        /// Size in this kernel, bytes.
        size: u32,
        /// Sizes in kernels that are understood.
        known: &'static [u32],
    },
    /// Neither the kernel nor a module that is loaded publishes the type of a vCPU.
    #[error(
        "neither this kernel nor its module kvm publishes struct kvm_vcpu; load kvm_amd or kvm_intel before hvsampler starts, of \
         a kernel with CONFIG_DEBUG_INFO_BTF_MODULES=y"
    )]
    NoVcpu,
    /// Neither name of the thread's state exists.
    #[error(
        "this kernel's layout is not understood: struct task_struct has neither __state nor state; hvsampler refuses to guess"
    )]
    NoState,
}

/// Looks every wanted member up.
///
/// # Errors
/// When a needed member is missing or has an unknown size.
pub fn resolve(btf: &Btf) -> Result<Offsets, ShapeError> {
    let mut offsets = Offsets::UNKNOWN;
    for (row, at) in MEMBERS.iter().zip(&mut offsets.at) {
        let elsewhere = || row.elsewhere.iter().find_map(|path| find(btf, row, path).ok());
        match find(btf, row, row.path).or_else(|error| elsewhere().ok_or(error)) {
            Ok(field) if row.sizes.contains(&field.size) => *at = field.offset,
            Ok(field) => {
                return Err(ShapeError::Size {
                    container: row.container,
                    path: row.path,
                    size: field.size,
                    known: row.sizes,
                });
            }
            Err(error) if row.needed => return Err(error.into()),
            Err(_) => {}
        }
    }
    for (first, others) in TOGETHER {
        if others.iter().any(|other| offsets.at[*other as usize] == ABSENT) {
            offsets.at[*first as usize] = ABSENT;
        }
    }
    let known = |member: Member| offsets.at[member as usize] != ABSENT;
    if known(Member::TaskState) || known(Member::TaskStateOld) {
        Ok(offsets)
    } else {
        Err(ShapeError::NoState)
    }
}

/// A row's member by one of its paths. The offset of a single bit is in bits, and it has no bytes; a member
/// that is no single bit is none of such a row.
fn find(btf: &Btf, row: &MemberRow, path: &str) -> Result<Field, BtfError> {
    if row.sizes == BIT {
        btf.bit(row.container, path).map(|offset| Field { offset, size: 0 })
    } else {
        btf.field(row.container, path)
    }
}

#[cfg(test)]
mod tests;
