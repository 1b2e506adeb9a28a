use super::*;
use crate::service::status::{Follows, GivenUp, LastError, Lost, ProgramCost, StatusHost, ThreadCost};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// Of a service that has just been started.
fn fresh() -> Status {
    Status {
        schema: "hvsampler.status/1".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 4711,
        started_unix_ns: START,
        uptime_ns: 0,
        at_unix_ns: START,
        host: StatusHost { name: "node-7".to_owned(), kernel: "6.1.0-56-amd64".to_owned() },
        level: "full".to_owned(),
        interval_ns: 10 * SECOND,
        follows: None,
        snapshots: None,
        destinations: Vec::new(),
        cost: Cost::default(),
        lost: None,
    }
}

fn count(name: &str, count: u64) -> Count {
    Count { name: name.to_owned(), count }
}

fn program(name: &str, runs: Option<u64>) -> ProgramCost {
    ProgramCost { name: name.to_owned(), runs, time_ns: runs.map(|runs| runs * 250) }
}

/// Of one to which everything has happened.
fn eventful() -> Status {
    let snapshots = Snapshots {
        last_unix_ns: START + 7200 * SECOND,
        taken: 720,
        late: 1,
        skipped: 2,
        failed: 3,
        lateness_ns: 720 * 900_000,
        last_lateness_ns: 1_250_000,
    };
    let destination = Destination {
        target: "http://collector:4318/v1/metrics".to_owned(),
        queue_requests: 2,
        queue_bytes: 20_480,
        queue_limit_bytes: 16 << 20,
        requests: 700,
        points: 70_000,
        rejected_points: 4,
        failed_attempts: 5,
        dropped: vec![
            GivenUp { reason: "queue_full".to_owned(), requests: 6, points: 600 },
            GivenUp { reason: "expired".to_owned(), requests: 0, points: 0 },
        ],
        last_error: Some(LastError {
            at_unix_ns: START + 3603 * SECOND,
            text: "connection refused\n\x1b[2J".to_owned(),
        }),
    };
    let thread = |tid, name: &str, cpu_ns| ThreadCost { tid, name: name.to_owned(), cpu_ns };
    Status {
        uptime_ns: 7203 * SECOND,
        at_unix_ns: START + 7203 * SECOND,
        follows: Some(Follows { guests: 12, vcpus: 48, vcpu_threads: 47, helper_threads: 1 }),
        snapshots: Some(snapshots),
        destinations: vec![destination],
        cost: Cost {
            cpu_ns: Some(31 * SECOND),
            resident_bytes: Some(54 << 20),
            threads: vec![thread(4711, "hvsampler", 250_000_000), thread(4720, "sampling", 3 * SECOND)],
            threads_left_out: 7,
            programs: Programs {
                counting: Some(true),
                fix: None,
                loaded: vec![program("kvm_entry", Some(0)), program("sched_switch_btf", Some(4_000_000))],
            },
        },
        lost: Some(Lost {
            counters: vec![
                count("events_lost", 0),
                count("snapshots_late", 1),
                count("log_lines_dropped", 90),
            ],
            sinks: vec![count("self", 0), count("json", 5)],
        }),
        ..fresh()
    }
}

#[test]
fn a_page_of_a_service_to_which_everything_has_happened() {
    let expected = "\
hvsampler 0.1.0 on node-7, Linux 6.1.0-56-amd64, pid 4711

running since  2023-11-14T22:13:20Z, for 2h 3s
level          full, every 10s
follows        12 guests with 48 vCPUs; 47 threads of vCPUs, 1 helper thread
snapshots      720, the last 3s ago
               all read 1.2 ms after it was due, 900.0 us on average
               1 late, 2 left out, 3 failed
export         http://collector:4318/v1/metrics
               700 requests with 70000 points taken
               2 requests wait, 20.0 KiB of 16.0 MiB
               4 points rejected
               600 points given up: queue_full
               5 attempts failed; the last error 1h ago: connection refused\\n\\u{1b}[2J
lost                    1  snapshots_late
                       90  log_lines_dropped
                        5  snapshots dropped by json
cost           31.0 s of CPU time, 54.0 MiB resident
threads          250.0 ms  hvsampler (4711)
                    3.0 s  sampling (4720)
               and 7 more
programs           0.0 us  kvm_entry: 0 runs
                    1.0 s  sched_switch_btf: 4000000 runs, 250 ns each
";
    assert_eq!(render(&eventful()), expected);
}

#[test]
fn what_is_not_known_is_left_out() {
    let expected = "\
hvsampler 0.1.0 on node-7, Linux 6.1.0-56-amd64, pid 4711

running since  2023-11-14T22:13:20Z, for 0s
level          full, every 10s
snapshots      none yet
export         none: no endpoint is set
cost           not known
";
    assert_eq!(render(&fresh()), expected);
}

#[test]
fn programs_that_are_not_counted_have_no_numbers_and_the_way_to_have_them() {
    let mut status = eventful();
    status.cost.programs.fix = Some("do this".to_owned());
    assert!(render(&status).ends_with("their runs are not counted now: do this\n"));
    status.cost.programs.loaded = vec![program("kvm_entry", None)];
    let page = render(&status);
    assert!(page.ends_with("\nprograms       their runs are not counted: do this\n"), "{page}");
    status.lost = Some(Lost { counters: vec![count("events_lost", 0)], sinks: Vec::new() });
    assert!(render(&status).contains("\nlost           nothing\n"));
}
