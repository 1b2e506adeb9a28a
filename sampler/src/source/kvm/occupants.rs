//! Who took the time of each VM, by name.

use super::{
    Kvm,
    accounts::{Departed, Slots},
    attribution::names::{KnownVm, by_pid, name},
    identity::KvmGuest,
};
use crate::model::Fact;

impl Kvm {
    /// Asks for the names of those that have taken time.
    pub(super) fn want_names(&mut self) {
        self.names.next_round();
        let vms = by_pid(known_vms(&self.slots));
        let names = &mut self.names;
        for (_, vm) in self.slots.vms() {
            vm.account.attribution.charged().for_each(|raw| names.want(raw, &vms));
        }
    }

    /// Says of each VM who took its time.
    pub(super) fn share_out(&mut self, departed: &[Departed]) {
        let live = known_vms(&self.slots);
        let gone = departed.iter().filter(|departed| departed.vm_gone).map(|departed| KnownVm {
            key: departed.thread.vm,
            id: departed.vm_id.clone(),
            name: None,
            ended: true,
        });
        let vms = by_pid(live.chain(gone));
        let names = &mut self.names;
        for (key, vm) in self.slots.vms_mut() {
            let attribution = &mut vm.account.attribution;
            let lives = |key: KvmGuest| vms.get(&key.pid).is_some_and(|vm| vm.key == key && !vm.ended);
            attribution.share_out(|raw| name(raw, key, &vms, names), lives, self.at_unix_ns);
        }
    }
}

fn known_vms(slots: &Slots) -> impl Iterator<Item = KnownVm> + '_ {
    slots.vms().map(|(key, vm)| {
        let name = vm.facts.as_ref().and_then(|facts| facts.get(Fact::Name).cloned());
        KnownVm { key: *key, id: vm.id.clone(), name, ended: false }
    })
}
