//! What KVM itself counts of a VM's vCPUs, as values of two attributes: events, and times.

use super::{Dimension, Places};
use crate::model::{Form, KVM_STATS, KvmCounts, Label};

const EVENTS: usize = how_many(false);
const TIMES: usize = how_many(true);

pub(super) const EVENT: Dimension =
    Dimension { key: "hypervisor.kvm.event", values: &labels::<EVENTS>(false) };
pub(super) const TIME: Dimension =
    Dimension { key: "hypervisor.kvm.time.kind", values: &labels::<TIMES>(true) };

const EVENT_STATS: [usize; EVENTS] = stats(false);
const TIME_STATS: [usize; TIMES] = stats(true);

pub(super) fn events(counts: Option<&KvmCounts>, to: &mut Places<'_>) {
    set(counts, &EVENT_STATS, to);
}

pub(super) fn times(counts: Option<&KvmCounts>, to: &mut Places<'_>) {
    set(counts, &TIME_STATS, to);
}

fn set(counts: Option<&KvmCounts>, stats: &[usize], to: &mut Places<'_>) {
    let Some(counts) = counts else { return };
    for (place, stat) in stats.iter().enumerate() {
        if let Some(count) = counts.at(*stat) {
            to.set(place, count);
        }
    }
}

const fn is_of(stat: usize, times: bool) -> bool {
    matches!(KVM_STATS[stat].form, Form::Time) == times
}

const fn how_many(times: bool) -> usize {
    let (mut stat, mut found) = (0, 0);
    while stat < KVM_STATS.len() {
        found += is_of(stat, times) as usize;
        stat += 1;
    }
    found
}

/// Indices in [`KVM_STATS`].
const fn stats<const N: usize>(times: bool) -> [usize; N] {
    let (mut stat, mut place, mut stats) = (0, 0, [0; N]);
    while place < N {
        if is_of(stat, times) {
            stats[place] = stat;
            place += 1;
        }
        stat += 1;
    }
    stats
}

const fn labels<const N: usize>(times: bool) -> [Label; N] {
    let stats: [usize; N] = stats(times);
    let (mut place, mut labels) = (0, [Label::plain(""); N]);
    while place < N {
        let row = KVM_STATS[stats[place]];
        labels[place] = Label { key: without_unit(row.key), help: row.help };
        place += 1;
    }
    labels
}

/// The family has the unit.
const fn without_unit(key: &'static str) -> &'static str {
    match key.as_bytes() {
        [name @ .., b'_', b'n', b's'] => key.split_at(name.len()).0,
        _ => key,
    }
}
