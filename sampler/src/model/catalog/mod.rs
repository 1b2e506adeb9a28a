//! The catalog: one row for each family of metrics, the only place that knows a name.
//!
//! A family is what receivers call a metric: name, unit, instrument, help. Its points belong to
//! [entities](Entity): the host, a VM, a vCPU, and what a VM has of several, such as its exits of one kind.
//! An entity's series begin and end with it.
//!
//! Each entity has a table of [`Series`]: a family, the attributes beside the entity's own, where the values
//! start, and one function that gives the values. These attributes are closed sets, so each point has a fixed
//! place, and no writer hashes or compares. What is not closed, as the kinds of exits, is an entity of its
//! own.
//!
//! Every writer walks these tables: OTLP, JSON, the reference page, the registry file, and the tests'
//! expectations.

mod attached;
mod control_group;
mod disk;
mod entities;
mod host;
mod kvm;
mod memory;
mod network;
mod placement;
mod start;
mod vcpu;
mod vm;

pub use attached::AttachedEntity;
pub use entities::{
    Attribute, ControlGroupEntity, DiskEntity, Entity, ExitEntity, HostEntity, HostStateEntity, InfoEntity,
    InterfaceEntity, MemoryEntity, NumaEntity, StealByEntity, VcpuEntity, VmEntity, is_number,
};

pub use placement::PlacementEntity;
pub use start::{Start, StartWords};

use super::{Histogram, label::Label, level::Level, snapshot::Vm};

/// What a metric is for its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Name, which no other family has.
    pub name: &'static str,
    /// Unit of the values.
    pub unit: Unit,
    /// How the values behave.
    pub instrument: Instrument,
    /// What is measured, in full sentences.
    pub help: &'static str,
    /// By how much values may be off.
    pub bound: Bound,
    /// Least level of detail at which the family has values.
    pub level: Level,
}

impl Family {
    /// A cumulative count that only rises.
    #[must_use]
    pub const fn counter(name: &'static str, unit: Unit, bound: Bound, help: &'static str) -> Self {
        Self { name, unit, instrument: Instrument::Counter, help, bound, level: Level::Basic }
    }

    /// A distribution of durations.
    #[must_use]
    pub const fn histogram(name: &'static str, bound: Bound, help: &'static str) -> Self {
        Self {
            name,
            unit: Unit::Seconds,
            instrument: Instrument::Histogram,
            help,
            bound,
            level: Level::Basic,
        }
    }

    /// A number of things that there are, which are counted one by one.
    #[must_use]
    pub const fn up_down_counter(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self {
            name,
            unit,
            instrument: Instrument::UpDownCounter,
            help,
            bound: Bound::Exact,
            level: Level::Basic,
        }
    }

    /// A value of the moment, which nothing estimates.
    #[must_use]
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self { name, unit, instrument: Instrument::Gauge, help, bound: Bound::Exact, level: Level::Basic }
    }

    /// The same, with values only where KVM's hooks observe the guest.
    #[must_use]
    pub const fn at_level_sampled(self) -> Self {
        Self { level: Level::Sampled, ..self }
    }
}

/// By how much the values of a family may be off what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Not at all: the kernel's own count, or things that are counted one by one.
    Exact,
    /// Not at all in what ended with the thread's last switch. What goes on is read on a clock that is some
    /// microseconds old.
    AtSwitch,
    /// By what the text says.
    By(&'static str),
}

impl Bound {
    /// For the reference page.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Exact => "none",
            Self::AtSwitch => "exact at a switch",
            Self::By(text) => text,
        }
    }
}

/// Unit of a family's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; the model and JSON have nanoseconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A number of things; the text is its UCUM annotation.
    Count(&'static str),
}

impl Unit {
    /// The unit as UCUM writes it.
    #[must_use]
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Count(annotation) => annotation,
        }
    }
}

/// How a family's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// Cumulative since a start, and never falling.
    Counter,
    /// A number of things that there are: sums of it make sense.
    UpDownCounter,
    /// A value of the moment.
    Gauge,
    /// Cumulative buckets at powers of two of seconds.
    Histogram,
}

impl Instrument {
    /// Whether values never fall, so that their differences say what an interval added.
    #[must_use]
    pub const fn is_monotonic(self) -> bool {
        matches!(self, Self::Counter | Self::Histogram)
    }

    /// Name as the semantic conventions write it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::UpDownCounter => "updowncounter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Which object of a document that nests has an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The document itself: the host.
    Host,
    /// A VM's object.
    Vm,
    /// An object of its own in a list of the VM's, which has this name.
    Part(&'static str),
}

/// An attribute with a closed set of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// Its key.
    pub key: &'static str,
    /// Its values, in the order of the places.
    pub values: &'static [Label],
}

/// The points that a family has of an entity.
pub struct Series<D: 'static> {
    /// The family.
    pub family: Family,
    /// Attributes beside the entity's own. There is a place for each combination of their values; those of
    /// the last attribute are side by side.
    pub attributes: &'static [Dimension],
    /// When the values were zero.
    pub start: Start,
    /// Gives the values.
    pub values: Values<D>,
}

impl<D> Series<D> {
    /// Numbers without attributes beside the entity's own.
    #[must_use]
    pub const fn plain(family: Family, start: Start, values: fn(&D, &mut Places<'_>)) -> Self {
        Self { family, attributes: &[], start, values: Values::Numbers(values) }
    }

    /// Places that the series have.
    #[must_use]
    pub const fn places(&self) -> usize {
        let (mut places, mut at) = (1, 0);
        while at < self.attributes.len() {
            places *= self.attributes[at].values.len();
            at += 1;
        }
        places
    }

    /// The family's help, and what the values of the attributes stand for.
    #[must_use]
    pub fn description(&self) -> String {
        let labels = self.attributes.iter().flat_map(|dimension| dimension.values);
        let helps = labels.filter(|label| !label.help.is_empty());
        let helps = helps.map(|label| format!(" {}: {}", label.key, label.help));
        std::iter::once(self.family.help.to_owned()).chain(helps).collect()
    }

    /// Keys and values of the attributes at a place.
    pub fn labels(&self, place: usize) -> impl Iterator<Item = (&'static str, &'static Label)> + '_ {
        let mut rest = self.places();
        self.attributes.iter().map(move |dimension| {
            rest /= dimension.values.len();
            (dimension.key, &dimension.values[place / rest % dimension.values.len()])
        })
    }
}

/// How values come from an entity.
pub enum Values<D: 'static> {
    /// All numbers at once. What is not known is not set, and so absent.
    Numbers(fn(&D, &mut Places<'_>)),
    /// The distribution at a place, where it is known.
    Histograms(fn(&D, usize) -> Option<&Histogram>),
}

/// Numbers by place; a place that was not set is absent.
#[derive(Debug)]
pub struct Places<'t> {
    values: &'t mut [u64],
    present: u64,
}

impl<'t> Places<'t> {
    /// Places without values, at most 64.
    #[must_use]
    pub const fn new(values: &'t mut [u64]) -> Self {
        Self { values, present: 0 }
    }

    /// Sets the number at a place: a time in nanoseconds, or a count.
    ///
    /// # Panics
    /// When there is no such place.
    #[inline]
    pub fn set(&mut self, place: usize, value: u64) {
        self.values[place] = value;
        self.present |= 1 << place;
    }

    /// The places that were set, as bits.
    #[must_use]
    pub const fn present(&self) -> u64 {
        self.present
    }
}

/// A function that is called with the type of each entity, in the order in which families are listed.
pub trait ForEachEntity {
    /// Called once for each entity.
    fn entity<E: Entity>(&mut self);
}

/// Calls `visitor` with each entity: the one list of them.
pub fn for_each_entity(visitor: &mut impl ForEachEntity) {
    visitor.entity::<VcpuEntity>();
    visitor.entity::<VmEntity>();
    visitor.entity::<ExitEntity>();
    visitor.entity::<StealByEntity>();
    visitor.entity::<MemoryEntity>();
    visitor.entity::<ControlGroupEntity>();
    visitor.entity::<NumaEntity>();
    visitor.entity::<PlacementEntity>();
    visitor.entity::<DiskEntity>();
    visitor.entity::<InterfaceEntity>();
    visitor.entity::<AttachedEntity>();
    visitor.entity::<InfoEntity>();
    visitor.entity::<HostEntity>();
    visitor.entity::<HostStateEntity>();
}

/// Whether an interval adds to anything that an entity has.
#[must_use]
pub fn has_counters<E: Entity>() -> bool {
    E::SERIES.iter().chain(E::DETAILS).any(|series| series.family.instrument.is_monotonic())
}

/// Names of all families, in the order in which they are listed; some have series of several entities.
#[must_use]
pub fn families() -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl ForEachEntity for Names {
        fn entity<E: Entity>(&mut self) {
            self.0.extend(E::SERIES.iter().map(|series| series.family.name));
        }
    }
    let mut names = Names(Vec::new());
    for_each_entity(&mut names);
    names.0
}

/// What a VM's entities share: the VM, which the host has none of.
type Of<'a> = Option<&'a Vm>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Lint {
        families: BTreeMap<&'static str, Family>,
        series: usize,
    }

    impl ForEachEntity for Lint {
        fn entity<E: Entity>(&mut self) {
            let mut places = 0;
            for (n, series) in E::SERIES.iter().chain(E::DETAILS).enumerate() {
                let Family { name, unit, help, instrument, .. } = series.family;
                // The semantic conventions have names for what any host has.
                let is_ours = name.starts_with("hypervisor.") || name.starts_with("system.");
                assert!(is_ours && !name.ends_with("total"), "{name}");
                assert!(
                    name.split(['.', '_'])
                        .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())),
                    "{name}"
                );
                assert!(help.ends_with('.'), "{name}: help is a sentence");
                let bound = series.family.bound.text();
                assert!(!bound.is_empty() && !bound.ends_with('.'), "{name}: the page ends the sentence");
                let ucum = unit.ucum();
                assert!(
                    ["s", "By"].contains(&ucum) || (ucum.starts_with('{') && ucum.ends_with('}')),
                    "{name}: {ucum}"
                );
                let is_histogram = matches!(series.values, Values::Histograms(_));
                assert_eq!(is_histogram, instrument == Instrument::Histogram, "{name}");
                assert_eq!(series.start == Start::None, instrument == Instrument::Gauge, "{name}");
                let before = self.families.insert(name, series.family);
                assert!(before.is_none_or(|before| before == series.family), "{name} has two meanings");
                assert!(series.places() <= 64, "{name}");
                places += if n < E::SERIES.len() { series.places() } else { 0 };
                self.series += 1;
            }
            assert!(places <= 64, "{}: {places} places, and presence is 64 bits", E::NAME);
        }
    }

    #[test]
    fn every_row_is_sound() {
        let mut lint = Lint::default();
        for_each_entity(&mut lint);
        assert!(lint.families.len() > 15 && lint.series > lint.families.len(), "{}", lint.series);
    }

    #[test]
    fn places_are_numbered_with_the_last_attribute_side_by_side() {
        const A: &[Label] = &[Label::plain("a"), Label::plain("b")];
        const X: &[Label] = &[Label::plain("x"), Label::plain("y"), Label::plain("z")];
        let series: Series<u8> = Series {
            family: Family::gauge("hypervisor.test", Unit::Seconds, "Nothing."),
            attributes: &[Dimension { key: "k", values: A }, Dimension { key: "l", values: X }],
            start: Start::None,
            values: Values::Numbers(|_, _| {}),
        };
        assert_eq!(series.places(), 6);
        let at = |place| series.labels(place).map(|(_, label)| label.key).collect::<String>();
        assert_eq!((0..6).map(at).collect::<Vec<_>>(), ["ax", "ay", "az", "bx", "by", "bz"]);
    }
}
