//! The encoder allocates when a stream begins or ends, and never for a point.

mod support;

use allocation_counter::measure;
use hvsampler::{
    export::{otlp::Encoder, resource::Resource, settings::ExportSettings},
    model::Host,
};

#[test]
fn the_steady_state_allocates_nothing() {
    let mut encoder = Encoder::new(&Resource::new(&ExportSettings::default(), &Host::default()), 1);
    let mut snapshot = support::snapshot_of(50, 8);
    let mut requests = Vec::with_capacity(16);
    // The first snapshot makes the streams; the second finds the buffer shared and sets it up for reuse.
    for _ in 0..2 {
        encoder.encode(&snapshot, &mut requests);
        requests.clear();
    }
    for round in 0..10 {
        snapshot.at_unix_ns += 1_000_000_000;
        for vcpu in snapshot.vms.iter_mut().flat_map(|vm| &mut vm.vcpus) {
            vcpu.counters.iter_mut().for_each(|counter| *counter += 1);
        }
        let mut points = 0;
        let allocations = measure(|| {
            encoder.encode(&snapshot, &mut requests);
            points = requests.iter().map(|request| request.points).sum();
            requests.clear();
        });
        assert!(points > 50 * 8 * 5, "{points} points");
        assert_eq!(allocations.count_total, 0, "round {round}: {allocations:?} for {points} points");
    }
}
