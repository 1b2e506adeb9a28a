//! What is known of a guest: the one table of facts, and a set of them.
//!
//! The series `hypervisor.vm.info`, JSON, `hvsampler list` and the setting `export.vm_attributes` walk the
//! table. A fact more is a row here, and whoever finds it out.

use std::sync::{Arc, LazyLock};

use crate::kept::kept;

/// What one fact is called, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactRow {
    /// Which one it is.
    pub fact: Fact,
    /// Name in settings and in `hvsampler list`.
    pub key: &'static str,
    /// Name of the attribute.
    pub attribute: &'static str,
    /// What it says, in a full sentence.
    pub help: &'static str,
}

macro_rules! facts {
    ($($name:ident = $key:literal, $attribute:literal, $help:literal;)*) => {
        /// Something that may be known of a guest; the discriminant is the index in [`FACTS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Fact { $(#[doc = $help] $name,)* }

        /// One row for each [`Fact`], in the order of its discriminants.
        pub const FACTS: &[FactRow] =
            &[$(FactRow { fact: Fact::$name, key: $key, attribute: $attribute, help: $help },)*];
    };
}

facts! {
    Platform = "platform", "hypervisor.vm.platform", "Who started it; unknown where nobody is known to.";
    Name = "name", "hypervisor.vm.name", "Name that the platform gave the guest, where one is known.";
    Uuid = "uuid", "hypervisor.vm.uuid", "UUID that the platform gave the guest, where one is known.";
    Domain = "domain", "hypervisor.vm.domain.name", "Name of libvirt's domain, where the guest has another.";
    Vmid = "vmid", "hypervisor.vm.vmid", "Number that Proxmox VE gave the guest.";
    Project = "project", "hypervisor.vm.project.name", "Name of the OpenStack project that owns the guest.";
    ProjectId = "project_id", "hypervisor.vm.project.id", "Id of the OpenStack project that owns the guest.";
    Flavor = "flavor", "hypervisor.vm.flavor", "OpenStack's flavour of the guest: its instance type.";
    Namespace = "namespace", "k8s.namespace.name", "Kubernetes namespace of the guest's pod.";
    Pod = "pod", "k8s.pod.name", "Name of the Kubernetes pod that the guest is, or that its VMM runs in.";
    PodUid = "pod_uid", "k8s.pod.uid", "UID of that pod.";
    Sandbox = "sandbox", "hypervisor.vm.sandbox.id", "Id of the Kata Containers sandbox that the guest is.";
    Program = "program", "process.executable.name", "File name of the VMM's program.";
}

impl Fact {
    /// The fact's row.
    #[must_use]
    pub const fn row(self) -> &'static FactRow {
        &FACTS[self as usize]
    }

    /// The fact with this name in settings.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        FACTS.iter().find(|row| row.key == key).map(|row| row.fact)
    }
}

/// Facts of one guest. What is not known is absent, never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    known: [Option<Arc<str>>; FACTS.len()],
    /// What an operator's rules say of it: keys and values, in the order of the keys.
    labels: Arc<[(&'static str, Arc<str>)]>,
}

// Labels follow from settings, which may be others by then.
kept! { Facts { known in FACTS } anew { labels } }

impl Facts {
    /// The platform of a guest of which nobody knows who started it.
    pub const UNKNOWN_PLATFORM: &'static str = "unknown";

    /// All that is known of a guest of which nobody said anything.
    #[must_use]
    pub fn unknown() -> Arc<Self> {
        static UNKNOWN: LazyLock<Arc<Facts>> =
            LazyLock::new(|| Arc::new(Facts::default().with(Fact::Platform, Facts::UNKNOWN_PLATFORM)));
        UNKNOWN.clone()
    }

    /// A fact's value, where it is known.
    #[must_use]
    pub const fn get(&self, fact: Fact) -> Option<&Arc<str>> {
        self.known[fact as usize].as_ref()
    }

    /// These with one more, or with another value of it; an empty value says nothing.
    #[must_use]
    pub fn with(mut self, fact: Fact, value: impl Into<Arc<str>>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.known[fact as usize] = Some(value);
        }
        self
    }

    /// These with labels, in the order of their keys.
    #[must_use]
    pub fn with_labels(mut self, labels: Vec<(&'static str, Arc<str>)>) -> Self {
        self.labels = labels.into();
        self
    }

    /// Keys and values of its labels.
    #[must_use]
    pub fn labels(&self) -> &[(&'static str, Arc<str>)] {
        &self.labels
    }

    /// Rows and values of what is known, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static FactRow, &Arc<str>)> {
        FACTS.iter().zip(&self.known).filter_map(|(row, value)| Some((row, value.as_ref()?)))
    }

    /// These, and what they lack of others. Where these name nobody, those others know the platform better.
    #[must_use]
    pub fn or(mut self, others: &Self) -> Self {
        const PLATFORM: usize = Fact::Platform as usize;
        let others_know =
            others.known[PLATFORM].as_deref().is_some_and(|known| known != Self::UNKNOWN_PLATFORM);
        if self.names_nobody() && others_know {
            self.known[PLATFORM] = None;
        }
        for (own, other) in self.known.iter_mut().zip(&others.known) {
            if own.is_none() {
                own.clone_from(other);
            }
        }
        self
    }

    fn names_nobody(&self) -> bool {
        self.get(Fact::Name).is_none() && self.get(Fact::Uuid).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_each_has_names_of_its_own() {
        for (n, row) in FACTS.iter().enumerate() {
            assert_eq!((row.fact as usize, Fact::of_key(row.key)), (n, Some(row.fact)));
            let same = FACTS.iter().filter(|other| other.attribute == row.attribute || other.key == row.key);
            assert_eq!(same.count(), 1, "{}", row.key);
            assert!(row.help.ends_with('.'), "{}: help is a sentence", row.key);
            // OpenTelemetry forbids a name that is the namespace of another.
            let inside = |other: &FactRow| other.attribute.starts_with(&format!("{}.", row.attribute));
            assert!(!FACTS.iter().any(inside), "{}", row.attribute);
        }
        assert_eq!(Fact::of_key("colour"), None);
    }

    #[test]
    fn what_is_lacking_comes_from_the_others() {
        let known = Facts::default().with(Fact::Platform, "qemu").with(Fact::Name, "web");
        let empty = Facts::default().with(Fact::Platform, Facts::UNKNOWN_PLATFORM).with(Fact::Name, "");
        assert_eq!(empty.or(&known), known);
        let renamed = Facts::default().with(Fact::Platform, "libvirt").with(Fact::Name, "web2");
        assert_eq!(renamed.clone().or(&known), renamed);
        let nameless = Facts::default().with(Fact::Platform, "firecracker");
        assert_eq!(nameless.clone().or(&Facts::unknown()), nameless);
        let more = Facts::default().with(Fact::Platform, "qemu").with(Fact::Uuid, "u").or(&known);
        assert_eq!(more, known.with(Fact::Uuid, "u"));
    }
}
