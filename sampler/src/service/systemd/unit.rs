//! The unit that the packages install fits the service.

use std::path::Path;

use sampler_ebpf::abi::SEGMENTS;

use crate::{
    config::{Config, DEFAULT_NICE},
    duration,
    kernel::capability::Capability,
    load::{Attach, HOOKS},
    service::SLACK,
};

const UNIT: &str = include_str!("../../../../xtask/packaging/hvsampler.service");
const FAILURE: &str = include_str!("../../../../xtask/packaging/hvsampler-failure@.service");
const MAPS: &str = include_str!("../../../../sampler-ebpf/src/maps.rs");

#[track_caller]
fn value(name: &str) -> &'static str {
    let mut values = UNIT.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("the unit has no {name}"));
    assert_eq!(values.next(), None, "{name} stands twice");
    value
}

#[test]
fn the_manager_waits_for_what_the_service_says() {
    assert_eq!((value("Type"), value("Restart")), ("notify", "on-failure"));
    assert!(duration::parse(value("WatchdogSec")).unwrap() >= SLACK);
    let stop = Config::default().shutdown_deadline + SLACK;
    assert!(duration::parse(value("TimeoutStopSec")).unwrap() >= stop);
}

#[test]
fn its_directory_is_that_of_the_lock_and_of_the_socket() {
    let Config { lock_file, status_socket, .. } = Config::default();
    let directory = Path::new("/run").join(value("RuntimeDirectory"));
    for file in [lock_file, status_socket] {
        assert_eq!(file.parent(), Some(directory.as_path()), "{}", file.display());
    }
}

#[test]
fn the_lock_outlives_a_restart() {
    assert_eq!(value("RuntimeDirectoryPreserve"), "restart");
}

#[test]
fn the_manager_has_room_for_all_that_may_be_kept() {
    // Variables are maps by section: those that are frozen, those that are not, and those with a section of
    // their own.
    let maps = ["#[map]", "#[btf_map]", "link_section"].map(|mark| MAPS.matches(mark).count());
    let log = 1;
    let maps = maps.iter().sum::<usize>() + 2 + log;
    let ways: Vec<&Attach> = HOOKS.iter().flat_map(|hook| hook.ways).collect();
    let iterators = ways.iter().filter(|way| matches!(way, Attach::Iterator { .. })).count();
    let links = HOOKS.len() - iterators;
    let manifest_and_states = 3;
    let all = maps + ways.len() + links + SEGMENTS as usize + manifest_and_states;
    // There may be another set, of a process that was killed before it could have it forgotten.
    let kept: usize = value("FileDescriptorStoreMax").parse().unwrap();
    assert!(2 * all <= kept, "{all} descriptors, twice, and room for {kept}");
}

#[test]
fn it_has_what_check_asks_for() {
    let given: Vec<&str> = value("CapabilityBoundingSet").split(' ').collect();
    for needed in [
        Capability::Bpf,
        Capability::Perfmon,
        Capability::SysAdmin,
        Capability::SysPtrace,
        Capability::DacReadSearch,
        Capability::NetAdmin,
    ] {
        assert!(given.contains(&needed.name()), "{} is not in {given:?}", needed.name());
    }
    // What is not root has those in effect that are ambient.
    assert_eq!(value("AmbientCapabilities"), value("CapabilityBoundingSet"));
    assert_eq!(value("DynamicUser"), "yes");
    // In place of CAP_SYS_RESOURCE and CAP_SYS_NICE.
    assert_eq!(value("LimitMEMLOCK"), "infinity");
    assert!(value("LimitNICE").parse::<i32>().unwrap() <= DEFAULT_NICE);
}

#[test]
fn repeated_failure_starts_the_unit_that_says_so() {
    assert_eq!(value("OnFailure"), "hvsampler-failure@%n.service");
    let id = FAILURE.lines().find_map(|line| line.split_once(" MESSAGE_ID=")?.1.split(' ').next());
    let id = id.expect("the message has no id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(FAILURE.matches(id).count(), 2, "what an administrator searches for is what is written");
}

#[test]
fn a_limit_of_starts_can_be_reached() {
    let burst: u32 = value("StartLimitBurst").parse().unwrap();
    let times = ["StartLimitIntervalSec", "RestartSec", "WatchdogSec", "TimeoutStartSec", "TimeoutStopSec"];
    let [interval, restart, watchdog, start, stop] = times.map(|name| duration::parse(value(name)).unwrap());
    // The first snapshot comes within an interval of the start.
    assert!((restart + watchdog + Config::default().interval) * burst < interval);
    // One that hangs is ended, and that may hang as well.
    assert!((restart + start + stop) * burst < interval);
}
