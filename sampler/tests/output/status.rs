//! What a service says of itself, held against its schema.

use hvsampler::{
    export::pipeline::DropReason,
    model::Level,
    service::status::{
        Cost, Count, Destination, Follows, GivenUp, LastError, Lost, ProgramCost, Programs, SCHEMA,
        Snapshots, Status, StatusHost, ThreadCost,
    },
};
use proptest::{collection, option, prelude::*};
use serde_json::json;

use super::{
    arbitrary,
    documents::{STATUS, assert_valid, parse, strict},
};

fn counts() -> impl Strategy<Value = Vec<Count>> {
    let count = (arbitrary::text(), any::<u64>()).prop_map(|(name, count)| Count { name, count });
    collection::vec(count, 0..3)
}

prop_compose! {
    fn destination()(
        target in arbitrary::text(),
        numbers in any::<[u64; 7]>(),
        reasons in collection::vec(0..DropReason::ALL.len(), 0..3),
        last_error in option::of((any::<u64>(), arbitrary::text())),
    ) -> Destination {
        let [queue_requests, queue_bytes, queue_limit_bytes, requests, points, rejected_points, failed] =
            numbers;
        let given_up = |reason: usize| {
            GivenUp { reason: DropReason::ALL[reason].key().to_owned(), requests, points }
        };
        Destination {
            target,
            queue_requests,
            queue_bytes,
            queue_limit_bytes,
            requests,
            points,
            rejected_points,
            failed_attempts: failed,
            dropped: reasons.into_iter().map(given_up).collect(),
            last_error: last_error.map(|(at_unix_ns, text)| LastError { at_unix_ns, text }),
        }
    }
}

prop_compose! {
    fn cost()(
        cpu_ns in option::of(any::<u64>()),
        threads in collection::vec((any::<u32>(), arbitrary::text(), any::<u64>()), 0..3),
        counting in option::of(any::<bool>()),
        fix in option::of(arbitrary::text()),
        loaded in collection::vec((arbitrary::text(), option::of(any::<u64>())), 0..3),
    ) -> Cost {
        let threads = threads.into_iter().map(|(tid, name, cpu_ns)| ThreadCost { tid, name, cpu_ns });
        let loaded = loaded.into_iter().map(|(name, runs)| ProgramCost { name, runs, time_ns: runs });
        Cost {
            cpu_ns,
            resident_bytes: cpu_ns,
            threads: threads.collect(),
            threads_left_out: 1,
            programs: Programs { counting, fix, loaded: loaded.collect() },
        }
    }
}

prop_compose! {
    fn status()(
        [version, name, kernel] in [arbitrary::text(), arbitrary::text(), arbitrary::text()],
        pid in any::<u32>(),
        [started_unix_ns, uptime_ns, at_unix_ns, interval_ns] in any::<[u64; 4]>(),
        level in 0..Level::ALL.len(),
        seen in any::<Option<[u64; 4]>>(),
        destinations in collection::vec(destination(), 0..3),
        cost in cost(),
        lost in option::of((counts(), counts())),
    ) -> Status {
        Status {
            schema: SCHEMA.to_owned(),
            version,
            pid,
            started_unix_ns,
            uptime_ns,
            at_unix_ns,
            host: StatusHost { name, kernel },
            level: Level::ALL[level].key().to_owned(),
            interval_ns,
            follows: seen.map(|[guests, vcpus, vcpu_threads, helper_threads]| {
                Follows { guests, vcpus, vcpu_threads, helper_threads }
            }),
            snapshots: seen.map(|[last_unix_ns, taken, late, lateness_ns]| Snapshots {
                last_unix_ns,
                taken,
                late,
                skipped: late,
                failed: late,
                lateness_ns,
                last_lateness_ns: lateness_ns,
            }),
            destinations,
            cost,
            lost: lost.map(|(counters, sinks)| Lost { counters, sinks }),
        }
    }
}

#[test]
fn any_status_is_described_and_read_back() {
    let validator = strict(parse(STATUS));
    proptest!(|(status in status())| {
        let text = serde_json::to_string(&status).unwrap();
        assert_valid(&validator, &parse(&text));
        prop_assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    });
}

/// The schema has values of its own writing.
#[test]
fn reasons_and_levels_are_those_that_there_are() {
    let schema = parse(STATUS);
    let reasons = DropReason::ALL.map(DropReason::key);
    assert_eq!(schema["$defs"]["dropped"]["properties"]["reason"]["enum"], json!(reasons));
    let mut levels = Level::ALL.map(Level::key);
    levels.reverse();
    assert_eq!(schema["properties"]["level"]["enum"], json!(levels));
}
