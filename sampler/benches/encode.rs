//! What a point costs: the encoder against prost on the same points in the same run.
//!
//! `cargo bench -p hvsampler --bench encode`. Prints and judges nothing: times belong to a machine.
#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and stops")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    hint::black_box,
    io::Write as _,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use hvsampler::{
    export::{
        otlp::{Encoder, Request},
        resource::Resource,
        settings::ExportSettings,
    },
    model::Host,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;

/// Rounds of each size; the median is printed.
const ROUNDS: usize = 31;

fn main() {
    println!("{}, Linux {}", cpu(), release());
    println!(
        "| vCPUs | points | bytes/point | encoder ns/point | prost, encode only | prost, build and encode | gzip 1 ns/point |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (vms, vcpus) in [(5, 4), (50, 8), (200, 8), (1250, 8)] {
        row(vms, vcpus);
    }
}

fn row(vms: u32, vcpus: u32) {
    let snapshot = support::snapshot_of(vms, vcpus);
    let mut encoder = Encoder::new(&Resource::new(&ExportSettings::default(), &Host::default()), 1);
    let mut requests: Vec<Request> = Vec::with_capacity(16);
    encoder.encode(&snapshot, &mut requests);
    let points: u64 = requests.iter().map(|request| request.points).sum();
    let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
    let messages: Vec<ExportMetricsServiceRequest> = requests
        .iter()
        .map(|request| ExportMetricsServiceRequest::decode(request.body.clone()).expect("valid protobuf"))
        .collect();
    let bodies: Vec<Vec<u8>> = requests.iter().map(|request| request.body.to_vec()).collect();
    requests.clear();

    // All four in each round, so that a change of the machine's mood meets all four.
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(timed(|| {
            encoder.encode(black_box(&snapshot), &mut requests);
            requests.clear();
        }));
        times[1].push(timed(|| {
            for message in &messages {
                black_box(message.encode_to_vec());
            }
        }));
        times[2].push(timed(|| {
            for message in &messages {
                // A clone makes every structure and string anew, which is what building the message costs.
                black_box(message.clone().encode_to_vec());
            }
        }));
        times[3].push(timed(|| {
            for body in &bodies {
                black_box(gzip(body));
            }
        }));
    }
    let [encoder, encode, build, gzip] = times.map(|times| median(times).as_nanos() as f64 / points as f64);
    println!(
        "| {} | {points} | {:.1} | {encoder:.1} | {encode:.1} | {build:.1} | {gzip:.1} |",
        vms * vcpus,
        bytes as f64 / points as f64
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
