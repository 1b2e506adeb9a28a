//! Benchmarks that need the kernel:
//! `sampler-bench hooks|exits|requests|devices|agent|host|interrupts|walk|start`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("hooks") => sampler_tests::bench::hooks::run(),
        Some("exits") => sampler_tests::bench::exits::run_alone(),
        Some("requests") => sampler_tests::bench::requests::run_alone(),
        Some("devices") => sampler_tests::bench::devices::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("host") => sampler_tests::bench::host::run(),
        Some("interrupts") => sampler_tests::bench::interrupts::run(),
        Some("agent") => sampler_tests::bench::agent::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("walk") => sampler_tests::bench::walk::run(std::env::args().nth(2).as_deref()),
        Some("start") => sampler_tests::bench::start::run(),
        _ => {
            eprintln!("usage: sampler-bench hooks|exits|requests|devices|agent|host|interrupts|walk|start");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sampler-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
