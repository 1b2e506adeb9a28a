//! What a point costs: the encoder against prost on the same points in the same run; and a line of JSON.
//!
//! `cargo bench -p hvsampler --bench encode`. Prints and judges nothing: times belong to a machine.
#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and stops")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use hvsampler::{
    export::{
        client::{Encoding, Framer},
        json::Lines,
        otlp::{Encoder, Request},
        resource::Resource,
        settings::{ExportSettings, Protocol},
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
        "| vCPUs | points | bytes/point | encoder ns/point | prost, encode only | prost, build and encode \
         | gzip 1 ns/point | zstd 1 ns/point | gzip 1 bytes/point | zstd 1 bytes/point |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (vms, vcpus) in [(5, 4), (50, 8), (200, 8), (1250, 8)] {
        row(vms, vcpus);
    }
    println!("\n| vCPUs | JSON bytes/line | JSON ms/line |\n|---|---|---|");
    for (vms, vcpus) in [(5, 4), (50, 8), (200, 8)] {
        json_row(vms, vcpus);
    }
}

/// Each line with what was added since the one before.
fn json_row(vms: u32, vcpus: u32) {
    let snapshot = Arc::new(support::snapshot_of(vms, vcpus));
    let mut lines = Lines::since(Arc::clone(&snapshot));
    let mut bytes = 0;
    let times = (0..ROUNDS).map(|_| {
        timed(|| {
            bytes = lines.next(Arc::clone(black_box(&snapshot))).expect("the model is fit for JSON").len();
        })
    });
    let ms = median(times.collect()).as_secs_f64() * 1e3;
    println!("| {} | {bytes} | {ms:.2} |", vms * vcpus);
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

    let mut framer = Framer::new(Protocol::HttpProtobuf);
    let mut framed_bytes = |encoding| {
        let framed = bodies.iter().map(|body| framer.frame(body, encoding).bytes().len());
        framed.sum::<usize>() as f64 / points as f64
    };
    let [gzip_bytes, zstd_bytes] = [Encoding::Gzip, Encoding::Zstd].map(&mut framed_bytes);

    // All five in each round, so that a change of the machine's mood meets all five.
    let mut times: [Vec<Duration>; 5] = Default::default();
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
        for (times, encoding) in times[3..].iter_mut().zip([Encoding::Gzip, Encoding::Zstd]) {
            times.push(timed(|| {
                for body in &bodies {
                    black_box(framer.frame(body, encoding));
                }
            }));
        }
    }
    let [encoder, encode, build, gzip, zstd] =
        times.map(|times| median(times).as_nanos() as f64 / points as f64);
    println!(
        "| {} | {points} | {:.1} | {encoder:.1} | {encode:.1} | {build:.1} \
         | {gzip:.1} | {zstd:.1} | {gzip_bytes:.1} | {zstd_bytes:.1} |",
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

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
