//! A line of the guests' table: a guest, or one of its vCPUs.

use super::MAX_NAME_COLUMNS;
use crate::{
    export::terminal,
    model::{
        Vcpu, Vm,
        view::{IoRates, Rated, Rates},
    },
};

/// Whose line it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    Vm(&'a Vm),
    Vcpu(&'a Vcpu),
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) of: Of<'a>,
    pub(super) name: String,
    /// Absent before the second reading.
    pub(super) rates: Option<Rates>,
    pub(super) io: IoRates,
}

impl<'a> Line<'a> {
    pub(super) fn of_vm(Rated { vm, rates }: Rated<'a>, interval_ns: u64) -> Self {
        let names = [vm.name(), vm.uuid()];
        let name = names.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or(&vm.id);
        let name = terminal::fit(name, MAX_NAME_COLUMNS);
        Self { of: Of::Vm(vm), name, rates, io: IoRates::of(vm, interval_ns) }
    }

    pub(super) fn of_vcpu(vcpu: &'a Vcpu) -> Self {
        let name = format!("  vcpu {}", vcpu.index);
        Self { of: Of::Vcpu(vcpu), name, rates: Rates::of_vcpu(vcpu), io: IoRates::default() }
    }

    /// The process of a guest, the thread of a vCPU.
    pub(super) fn id(&self) -> Option<u32> {
        match self.of {
            Of::Vm(vm) => vm.origin.number(),
            Of::Vcpu(vcpu) => vcpu.tid,
        }
    }
}
