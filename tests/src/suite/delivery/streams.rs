//! What a receiver may rely on in each stream, however often its sender was stopped and started: a value that
//! falls has a later start, a start never goes back, and nothing grows faster than the guest can make it.
//! Pure.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

use super::point::{Attribute, Attributes, Distribution, Kind, Point, PointValue, Series};
use super::received::Batch;

/// What distinguishes a stream from all others: resource, scope, metric and attributes.
type Key<'a> = (&'a Attributes, &'a str, &'a str, &'a Attributes);

/// What the points are judged by.
pub(super) struct Bounds {
    /// vCPUs of the VMs whose rates are judged, by the identity of the VM.
    pub(super) vcpus: BTreeMap<String, u32>,
    /// How much earlier than its point says a value may have been read, ns.
    pub(super) reading_ns: u64,
    /// The same of points that are later, by their time.
    pub(super) late_ns: BTreeMap<u64, u64>,
    /// How far apart two starts may be that are the same moment, measured by two services, ns.
    pub(super) starts_ns: u64,
}

/// What was compared.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Compared {
    pub(super) streams: usize,
    pub(super) points: usize,
    /// Points whose rate was judged, from their start on and from the point before.
    pub(super) rates: usize,
    /// Values that fell, with a later start.
    pub(super) fell: usize,
    /// How far apart starts are that are the same moment, ns.
    pub(super) starts_apart_ns: u64,
}

/// Judges all streams.
///
/// # Errors
/// When a point breaks a rule, or when there was nothing to judge.
pub(super) fn check(batches: &[Batch], bounds: &Bounds) -> anyhow::Result<Compared> {
    let streams = streams(batches);
    let seen = Seen::of(batches);
    let mut compared = Compared { streams: streams.len(), ..Compared::default() };
    for ((_, scope, ..), points) in &streams {
        let most = seen.most(&points[0].series, bounds);
        let mut stream = Stream { bounds, most, compared: &mut compared };
        stream.check(points).with_context(|| format!("{scope}: {}", points[0].series))?;
    }
    let Compared { points, rates, .. } = compared;
    ensure!(points > 0 && rates > 0, "nothing was compared: {points} points, {rates} rates");
    Ok(compared)
}

/// The points of each stream, in the order in which they arrived.
pub(super) fn streams(batches: &[Batch]) -> BTreeMap<Key<'_>, Vec<&Point>> {
    let mut streams: BTreeMap<Key<'_>, Vec<&Point>> = BTreeMap::new();
    for batch in batches {
        for point in &batch.points {
            let Series { metric, attributes, .. } = &point.series;
            streams.entry((&batch.resource, &batch.scope, metric, attributes)).or_default().push(point);
        }
    }
    streams
}

/// How much a value may grow.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Most {
    /// Seconds in a second: threads that can be in it at once.
    threads: u32,
    /// What each of them may have begun before, and has counted when it was over, s.
    begun: f64,
}

/// What the points themselves say of each VM.
#[derive(Default)]
struct Seen<'a> {
    /// The longest duration that a VM's distributions have, s.
    longest: BTreeMap<&'a str, f64>,
    /// Threads that run no vCPU, by the attributes of their count.
    helpers: BTreeMap<&'a Attributes, i64>,
}

impl<'a> Seen<'a> {
    fn of(batches: &'a [Batch]) -> Self {
        let mut seen = Self::default();
        for Point { series, value, .. } in batches.iter().flat_map(|batch| &batch.points) {
            match (value, series.text("hypervisor.vm.id")) {
                (PointValue::Distribution(distribution), Some(vm)) => {
                    let longest = seen.longest.entry(vm).or_default();
                    *longest = longest.max(upper_bound(distribution));
                }
                (PointValue::Int(threads), Some(_)) if series.metric == "hypervisor.vm.helper.count" => {
                    let most = seen.helpers.entry(&series.attributes).or_default();
                    *most = (*threads).max(*most);
                }
                _ => {}
            }
        }
        seen
    }

    /// `None` of what is no time of a guest that is known.
    fn most(&self, series: &Series, bounds: &Bounds) -> Option<Most> {
        let vm = series.text("hypervisor.vm.id").filter(|_| series.unit == "s")?;
        let vcpus = *bounds.vcpus.get(vm)?;
        let all_along = |threads| Most { threads, begun: 0.0 };
        Some(match series.metric.as_str() {
            _ if series.attributes.contains_key("hypervisor.vcpu.id") => all_along(1),
            // All of its vCPUs together make one such time.
            "hypervisor.vm.co_stop.time" => all_along(1),
            "hypervisor.vm.steal.time" => all_along(vcpus),
            "hypervisor.vm.helper.time" => all_along(self.helpers_of(series)),
            // Counted when it is over: a duration of a distribution, a halt, an exit that goes on to the VMM.
            _ => Most { threads: vcpus, begun: self.longest.get(vm).copied().unwrap_or(0.0) },
        })
    }

    fn helpers_of(&self, series: &Series) -> u32 {
        let mut attributes = series.attributes.clone();
        attributes.remove("hypervisor.helper.state");
        self.helpers.get(&attributes).and_then(|threads| u32::try_from(*threads).ok()).unwrap_or(0)
    }
}

/// Of the longest duration, s.
fn upper_bound(distribution: &Distribution) -> f64 {
    let last = distribution.buckets.last_key_value();
    last.map_or(distribution.zero_threshold, |(index, _)| 2_f64.powi(index + 1))
}

/// One stream.
struct Stream<'a> {
    bounds: &'a Bounds,
    most: Option<Most>,
    compared: &'a mut Compared,
}

impl Stream<'_> {
    fn check(&mut self, points: &[&Point]) -> anyhow::Result<()> {
        let mut before: Option<&Point> = None;
        // The point from which the rate is taken. Of a vCPU that switched at each attempt to read it a
        // snapshot has the values of the one before, and the next has what it did since: so where a value
        // stands still once, that is two intervals.
        let mut base: Option<&Point> = None;
        for &point in points {
            self.compared.points += 1;
            self.since_start(point)?;
            let goes_on = match before {
                Some(before) => self.pair(before, point)?,
                None => false,
            };
            if let Some(base) = base.filter(|_| goes_on) {
                self.rate(base, point)?;
            }
            let stands_still = goes_on && before.is_some_and(|before| before.value == point.value);
            if !(stands_still && base == before) {
                base = Some(point);
            }
            before = Some(point);
        }
        Ok(())
    }

    /// Judges a point by the one before. Returns whether it counts on from the same start.
    fn pair(&mut self, before: &Point, point: &Point) -> anyhow::Result<bool> {
        let (then, now) = (before.start_unix_ns, point.start_unix_ns);
        let both = || format!("{before}, then {point}");
        ensure!(point.at_unix_ns > before.at_unix_ns, "time does not go on: {}", both());
        ensure!(now.saturating_add(self.bounds.starts_ns) >= then, "the start goes back: {}", both());
        let is_same = then.abs_diff(now) <= self.bounds.starts_ns;
        if is_same {
            self.compared.starts_apart_ns = self.compared.starts_apart_ns.max(then.abs_diff(now));
        }
        if !is_counter(point) || before.is_end() || point.is_end() {
            return Ok(false);
        }
        if falls(&before.value, &point.value)? {
            ensure!(!is_same, "the value falls without a later start: {}", both());
            let has_ended = now.saturating_add(self.bounds.starts_ns) >= before.at_unix_ns;
            ensure!(has_ended, "it begins anew before the last point: {}", both());
            self.compared.fell += 1;
        }
        Ok(is_same)
    }

    fn since_start(&mut self, point: &Point) -> anyhow::Result<()> {
        let Some(total) = seconds(point).filter(|_| is_counter(point)) else { return Ok(()) };
        let age_ns = point.at_unix_ns.checked_sub(point.start_unix_ns);
        let age_ns = age_ns.with_context(|| format!("it starts after its time: {point}"))?;
        self.judge(total, age_ns, self.bounds.reading_ns, || format!("since its start: {point}"))
    }

    fn rate(&mut self, before: &Point, point: &Point) -> anyhow::Result<()> {
        let (Some(then), Some(now)) = (seconds(before), seconds(point)) else { return Ok(()) };
        let length_ns = point.at_unix_ns.saturating_sub(before.at_unix_ns);
        let late_ns = self.bounds.late_ns.get(&before.at_unix_ns).copied().unwrap_or(0);
        let reading_ns = self.bounds.reading_ns.max(late_ns);
        self.judge(now - then, length_ns, reading_ns, || format!("{before}, then {point}"))
    }

    fn judge(
        &mut self,
        added: f64,
        length_ns: u64,
        reading_ns: u64,
        what: impl Fn() -> String,
    ) -> anyhow::Result<()> {
        let Some(Most { threads, begun }) = self.most else { return Ok(()) };
        // The scheduler's clock and that of the points may go apart by what NTP slews: 500 parts in a
        // million.
        let length_ns = length_ns.saturating_add(length_ns / 2000).saturating_add(reading_ns);
        let most = f64::from(threads) * (length_ns as f64 / 1e9 + begun);
        ensure!(added <= most, "{added:.6} s where {threads} threads can have {most:.6} s, {}", what());
        self.compared.rates += 1;
        Ok(())
    }
}

fn is_counter(point: &Point) -> bool {
    [Kind::COUNTER, Kind::DISTRIBUTION].contains(&point.series.kind)
}

/// Whether anything of a value is less than before.
fn falls(before: &PointValue, now: &PointValue) -> anyhow::Result<bool> {
    Ok(match (before, now) {
        (PointValue::Double(before), PointValue::Double(now)) => now < before,
        (PointValue::Int(before), PointValue::Int(now)) => now < before,
        (PointValue::Distribution(before), PointValue::Distribution(now)) => {
            let count = |index| now.buckets.get(index).copied().unwrap_or(0);
            now.count < before.count
                || now.sum < before.sum
                || now.zero_count < before.zero_count
                || before.buckets.iter().any(|(index, before)| count(index) < *before)
        }
        other => anyhow::bail!("values of two types: {other:?}"),
    })
}

/// A time, where it is one.
fn seconds(point: &Point) -> Option<f64> {
    match &point.value {
        PointValue::Double(seconds) => Some(*seconds),
        PointValue::Distribution(distribution) => Some(distribution.sum),
        PointValue::Int(_) | PointValue::Ended => None,
    }
}

/// The identities that a process's VM has had.
pub(super) fn vms_of(batches: &[Batch], pid: u32) -> Vec<&str> {
    let pid = Attribute::Int(pid.into());
    let points = batches.iter().flat_map(|batch| &batch.points);
    let known = points.filter(|point| {
        point.series.metric == "hypervisor.vm.info"
            && point.series.attributes.get("process.pid") == Some(&pid)
    });
    let mut ids: Vec<&str> = known.filter_map(|point| point.series.text("hypervisor.vm.id")).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const READING_NS: u64 = 50_000_000;
    const STARTS_NS: u64 = 100_000_000;
    const VM: &str = "7-1";

    fn attributes(more: &[(&str, Attribute)]) -> Attributes {
        let all = [("hypervisor.vm.id", Attribute::Text(VM.to_owned()))];
        all.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    /// A counter of seconds at moments: start, time, value.
    fn counter(metric: &str, more: &[(&str, Attribute)], points: &[(u64, u64, f64)]) -> Vec<Point> {
        let series = Series {
            metric: metric.to_owned(),
            attributes: attributes(more),
            unit: "s".to_owned(),
            kind: Kind::COUNTER,
        };
        let point = |&(start, at, value): &(u64, u64, f64)| Point {
            series: series.clone(),
            at_unix_ns: at,
            start_unix_ns: start,
            value: PointValue::Double(value),
        };
        points.iter().map(point).collect()
    }

    fn run(points: &[(u64, u64, f64)]) -> Vec<Point> {
        counter("hypervisor.vcpu.cpu.time", &[("hypervisor.vcpu.id", Attribute::Int(0))], points)
    }

    fn distribution(start: u64, at: u64, buckets: &[(i32, u64)], sum: f64) -> Point {
        let value = Distribution {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum,
            zero_count: 0,
            zero_threshold: 0.0,
            buckets: buckets.iter().copied().collect(),
        };
        let series = Series {
            metric: "hypervisor.vcpu.steal.duration".to_owned(),
            attributes: attributes(&[]),
            unit: "s".to_owned(),
            kind: Kind::DISTRIBUTION,
        };
        let value = PointValue::Distribution(value);
        Point { series, at_unix_ns: at, start_unix_ns: start, value }
    }

    /// Of a VM with two vCPUs.
    fn judged(points: Vec<Point>) -> anyhow::Result<Compared> {
        let batch = Batch {
            resource: Attributes::new(),
            scope: "hvsampler".to_owned(),
            version: String::new(),
            schema_url: String::new(),
            points,
        };
        let vcpus = [(VM.to_owned(), 2)].into();
        let late_ns = [(30 * S, S)].into();
        check(&[batch], &Bounds { vcpus, reading_ns: READING_NS, late_ns, starts_ns: STARTS_NS })
    }

    fn error(points: Vec<Point>) -> String {
        format!("{:#}", judged(points).unwrap_err())
    }

    #[test]
    fn what_goes_on_and_what_begins_anew_with_a_later_start_is_right() {
        let created = [(S, 10 * S, 4.0), (S, 11 * S, 4.9), (S + 1000, 14 * S, 6.0), (S + 1000, 15 * S, 7.0)];
        let compared = judged(run(&created)).unwrap();
        // Each from its start on, and three from the point before.
        let expected = Compared { streams: 1, points: 4, rates: 7, fell: 0, starts_apart_ns: 1000 };
        assert_eq!(compared, expected);
        let anew = [(S, 10 * S, 4.0), (S, 11 * S, 4.9), (12 * S, 14 * S, 1.5), (12 * S, 15 * S, 2.5)];
        let compared = judged(run(&anew)).unwrap();
        assert_eq!(compared, Compared { rates: 6, fell: 1, starts_apart_ns: 0, ..expected });
    }

    #[test]
    fn a_value_that_falls_without_a_later_start_is_caught() {
        let said = error(run(&[(S, 10 * S, 4.0), (S, 11 * S, 3.999_999_999)]));
        assert!(said.contains("the value falls without a later start"), "{said}");
        let said = error(run(&[(S, 10 * S, 4.0), (S + STARTS_NS, 11 * S, 3.0)]));
        assert!(said.contains("the value falls without a later start"), "{said}");
        let said = error(run(&[(S, 10 * S, 4.0), (9 * S, 11 * S, 1.0)]));
        assert!(said.contains("it begins anew before the last point"), "{said}");
    }

    #[test]
    fn a_start_that_goes_back_is_caught() {
        let said = error(run(&[(5 * S, 10 * S, 4.0), (5 * S - STARTS_NS - 1, 11 * S, 4.5)]));
        assert!(said.contains("the start goes back"), "{said}");
        let said = error(run(&[(5 * S, 10 * S, 4.0), (5 * S, 10 * S, 4.0)]));
        assert!(said.contains("time does not go on"), "{said}");
    }

    #[test]
    fn a_rate_that_is_too_high_is_caught() {
        judged(run(&[(S, 10 * S, 4.0), (S, 11 * S, 5.05)])).unwrap();
        let said = error(run(&[(S, 10 * S, 4.0), (S, 11 * S, 5.06)]));
        assert!(said.contains("1.060000 s where 1 threads can have 1.050500 s"), "{said}");
        let said = error(run(&[(9 * S, 10 * S, 1.06), (9 * S, 11 * S, 1.07)]));
        assert!(said.contains("since its start"), "{said}");
        // What was read a second before its point is followed by as much more.
        judged(run(&[(S, 30 * S, 4.0), (S, 31 * S, 6.0)])).unwrap();
        let said = error(run(&[(S, 30 * S, 4.0), (S, 31 * S, 6.01), (S, 32 * S, 7.0)]));
        assert!(said.contains("2.010000 s where 1 threads"), "{said}");
        let of_vm = |value| counter("hypervisor.vm.steal.time", &[], &[(S, 10 * S, 4.0), (S, 11 * S, value)]);
        judged(of_vm(6.0)).unwrap();
        let said = error(of_vm(6.2));
        assert!(said.contains("2 threads"), "{said}");
        let co_stop = counter("hypervisor.vm.co_stop.time", &[], &[(S, 10 * S, 4.0), (S, 11 * S, 6.0)]);
        let said = error(co_stop);
        assert!(said.contains("2.000000 s where 1 threads"), "{said}");
    }

    #[test]
    fn a_snapshot_without_a_reading_leaves_its_time_to_the_next_and_no_more() {
        judged(run(&[(S, 10 * S, 4.0), (S, 11 * S, 4.0), (S, 12 * S, 6.0)])).unwrap();
        let points = [(S, 10 * S, 4.0), (S, 11 * S, 4.0), (S, 12 * S, 4.0), (S, 13 * S, 7.0)];
        let said = error(run(&points));
        assert!(said.contains("3.000000 s where 1 threads"), "{said}");
        let said = error(run(&[(S, 10 * S, 4.0), (S, 11 * S, 4.0), (S, 12 * S, 6.0), (S, 13 * S, 8.0)]));
        assert!(said.contains("2.000000 s where 1 threads"), "{said}");
    }

    #[test]
    fn a_distribution_that_falls_or_has_more_time_than_there_was_is_caught() {
        let first = || distribution(S, 10 * S, &[(-7, 3), (-5, 1)], 0.07);
        judged(vec![first(), distribution(S, 11 * S, &[(-7, 4), (-5, 1)], 0.08)]).unwrap();
        for (buckets, sum) in
            [(&[(-7, 2), (-5, 1)][..], 0.08), (&[(-7, 4)], 0.08), (&[(-7, 3), (-5, 1)], 0.06)]
        {
            let said = error(vec![first(), distribution(S, 11 * S, buckets, sum)]);
            assert!(said.contains("the value falls without a later start"), "{said}");
        }
        // Two vCPUs, of which each may have begun what is counted now as long ago as the longest is long.
        let most = 2.0 * (1.0005 + 0.05 + 1.0 / 16.0);
        judged(vec![first(), distribution(S, 11 * S, &[(-7, 3), (-5, 60)], 0.07 + most - 0.001)]).unwrap();
        let said = error(vec![first(), distribution(S, 11 * S, &[(-7, 3), (-5, 60)], 0.07 + most + 0.001)]);
        assert!(said.contains("2 threads"), "{said}");
    }

    #[test]
    fn helpers_are_as_many_as_their_count_says() {
        let text = |text: &str| Attribute::Text(text.to_owned());
        let kind = ("hypervisor.helper.kind", text("iothread"));
        let mut points =
            counter("hypervisor.vm.helper.count", std::slice::from_ref(&kind), &[(S, 10 * S, 0.0)]);
        points[0].series.kind = Kind::LEVEL;
        points[0].value = PointValue::Int(2);
        let run = [kind, ("hypervisor.helper.state", text("run"))];
        let with = |value| {
            let time = counter("hypervisor.vm.helper.time", &run, &[(S, 10 * S, 4.0), (S, 11 * S, value)]);
            [points.clone(), time].concat()
        };
        judged(with(6.0)).unwrap();
        let said = error(with(6.2));
        assert!(said.contains("2 threads"), "{said}");
    }

    #[test]
    fn nothing_at_all_is_a_failure() {
        assert!(error(Vec::new()).contains("nothing was compared"));
        let mut others = run(&[(S, 10 * S, 4.0), (S, 11 * S, 5.0)]);
        for point in &mut others {
            point.series.attributes.insert("hypervisor.vm.id".to_owned(), Attribute::Text("8-1".to_owned()));
        }
        assert!(error(others).contains("nothing was compared: 2 points, 0 rates"));
    }
}
