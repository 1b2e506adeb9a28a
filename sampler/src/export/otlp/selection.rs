//! What of snapshots is sent, and what points have beside it.

use crate::{
    export::settings::{ExportSettings, Histograms, VmAttributes},
    model::{
        Pattern,
        catalog::{Family, Instrument},
    },
};

/// What of snapshots is sent, and what points have beside it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// In which form distributions are sent.
    pub histograms: Histograms,
    /// What all points of a guest have. A change of one of them ends the guest's series, and others begin.
    pub vm_attributes: VmAttributes,
    /// Names of families that are not sent.
    pub families_off: Vec<Pattern>,
}

impl Selection {
    /// What the settings say.
    #[must_use]
    pub fn of(settings: &ExportSettings) -> Self {
        Self {
            histograms: settings.histograms,
            vm_attributes: settings.vm_attributes.clone(),
            families_off: settings.families_off.clone(),
        }
    }

    /// Whether a family is sent.
    #[must_use]
    pub fn has(&self, family: &Family) -> bool {
        let is_off = self.families_off.iter().any(|pattern| pattern.matches(family.name));
        !is_off && (family.instrument != Instrument::Histogram || self.histograms != Histograms::None)
    }
}
