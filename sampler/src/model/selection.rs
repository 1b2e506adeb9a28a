//! Which guests are shown: what an operator allows and denies.

use serde::{Deserialize, Serialize};

use super::{Facts, GuestPattern, LabelRules, Snapshot};

/// Which guests are shown, and what is said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestSelection {
    /// Only those; all where it is empty.
    pub allow: Vec<GuestPattern>,
    /// But not those.
    pub deny: Vec<GuestPattern>,
    /// Labels that guests get.
    pub labels: LabelRules,
}

impl GuestSelection {
    /// Whether a guest is shown. One of which a fact is not known is neither allowed nor denied by it.
    #[must_use]
    pub fn has(&self, id: &str, facts: &Facts) -> bool {
        let is_in = |patterns: &[GuestPattern]| patterns.iter().any(|pattern| pattern.matches(id, facts));
        (self.allow.is_empty() || is_in(&self.allow)) && !is_in(&self.deny)
    }

    /// Takes the guests out of a snapshot that are not shown, and counts them.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        if self.allow.is_empty() && self.deny.is_empty() {
            return;
        }
        let all = snapshot.vms.len();
        snapshot.vms.retain(|vm| self.has(&vm.id, &vm.facts));
        snapshot.ended.retain(|ended| self.has(&ended.vm_id, &ended.vm_facts));
        snapshot.sampler.vms_left_out = (all - snapshot.vms.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fact, Vm};

    fn patterns(texts: &[&str]) -> Vec<GuestPattern> {
        texts.iter().map(|text| GuestPattern::try_from((*text).to_owned()).unwrap()).collect()
    }

    #[test]
    fn what_is_allowed_and_not_denied_is_shown() {
        let facts = Facts::default().with(Fact::Name, "web-1").with(Fact::Platform, "qemu");
        let has = |allow: &[&str], deny: &[&str]| {
            GuestSelection { allow: patterns(allow), deny: patterns(deny), ..GuestSelection::default() }
                .has("id-7", &facts)
        };
        assert!(has(&[], &[]) && has(&["name=web-*"], &[]) && has(&["name=db", "id=id-7"], &["uuid=*"]));
        assert!(!has(&["name=db"], &[]) && !has(&[], &["platform=qemu"]) && !has(&["name=web-1"], &["id=*"]));
        assert!(!has(&["project=*"], &[]), "what is not known is not allowed");
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let vm = |name: &str| Vm { facts: Facts::default().with(Fact::Name, name).into(), ..Vm::default() };
        let mut snapshot = Snapshot { vms: vec![vm("web"), vm("db"), vm("ci")], ..Snapshot::default() };
        GuestSelection { deny: patterns(&["name=db", "name=c*"]), ..GuestSelection::default() }
            .apply(&mut snapshot);
        assert_eq!((snapshot.vms.len(), snapshot.sampler.vms_left_out), (1, 2));
    }
}
