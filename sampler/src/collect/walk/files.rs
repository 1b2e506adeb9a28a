//! The look at the descriptors of vCPUs.

use std::{collections::BTreeSet, fs};

use sampler_ebpf::abi::{VcpuFile, VcpuFiles};

use super::{Program, Reach, WalkError, Whose};
use crate::{
    collect::mmap::{MapError, Mapped},
    kernel::Root,
    load::Object,
};

/// Name of the program that visits descriptors.
const FILES: &str = "list_vcpus";

/// What a look found.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Descriptors of vCPUs. A vCPU that has several is there as often.
    pub files: Vec<VcpuFile>,
    /// Whose descriptors were visited. A process that lives and showed none is not among them: that it has
    /// none is not known.
    pub reach: Reach,
    /// All that there are; not where some found no room.
    pub is_complete: bool,
}

/// What looks are run with.
pub(in crate::collect) struct VcpuList {
    records: Mapped<VcpuFile>,
    counts: Mapped<VcpuFiles>,
}

impl VcpuList {
    pub(in crate::collect) fn open(object: &Object) -> Result<Self, MapError> {
        Ok(Self {
            records: Mapped::open(object, "VCPU_FILES")?,
            counts: Mapped::open(object, "VCPU_FILE_COUNTS")?,
        })
    }

    pub(in crate::collect) fn counts(&self) -> VcpuFiles {
        self.counts.read(0)
    }

    /// Looks at the descriptors of these, or of the whole host. `None` where the kernel has not taken the
    /// program.
    pub(in crate::collect) fn look(
        &mut self,
        object: &Object,
        reach: Reach,
    ) -> Result<Option<Listed>, WalkError> {
        let Ok(program) = Program::of(object, FILES) else { return Ok(None) };
        let before = self.counts();
        self.counts.write(0, VcpuFiles { listed: 0, ..before });
        let mut is_first = true;
        let mut visit = |whose| {
            let visited = self.counts().visited;
            program.visit(whose, std::mem::take(&mut is_first))?;
            Ok(self.counts().visited > visited)
        };
        let reach = match reach {
            Reach::Host => visit(Whose::Host).map(|_| Reach::Host)?,
            Reach::Processes(processes) => {
                let mut answered = BTreeSet::new();
                for pid in processes {
                    if visit(Whose::Process(pid))? || !lives(pid) {
                        answered.insert(pid);
                    }
                }
                Reach::Processes(answered)
            }
        };
        let after = self.counts();
        let listed = usize::try_from(after.listed).unwrap_or(usize::MAX).min(self.records.len());
        let files = (0..listed).map(|index| self.records.read(index)).collect();
        Ok(Some(Listed { files, reach, is_complete: after.dropped == before.dropped }))
    }
}

/// Whether there is a process of this id, be it that nobody has waited for its end.
fn lives(pid: u32) -> bool {
    fs::exists(Root::system().path(format!("proc/{pid}"))).unwrap_or(true)
}
