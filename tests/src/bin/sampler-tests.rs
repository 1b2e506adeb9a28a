//! The runner of the tests that need privileges.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Parser;
use sampler_tests::runner::{Need, Selection, Set, Test, run, run_one};
use sampler_tests::suite::TESTS;
use sampler_tests::vmm::Unused;

/// Runs hvsampler's privileged tests: exactness, churn, guests and their loads.
///
/// Prints one line for each test and last `N passed, N failed, N skipped`. Exit status 0 when no test failed;
/// a test that this machine cannot do is skipped with the reason, and skipped tests are no failure. A
/// selection without any test is one.
#[derive(Debug, Clone, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The set to run.
    #[arg(long, value_enum, default_value_t = Set::Native)]
    set: Set,
    /// Run only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Leave this test out; may be given more than once.
    #[arg(long, value_name = "NAME")]
    except: Vec<String>,
    /// List the tests of the set instead of running them.
    #[arg(long)]
    list: bool,
    /// Run one test in this process (the runner calls itself so).
    #[arg(long, value_name = "NAME", hide = true, requires = "directory")]
    run_one: Option<String>,
    /// Directory of the one test.
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    directory: Option<PathBuf>,
    /// The runner that waits for the one test.
    #[arg(long, value_name = "PID", hide = true, default_value_t = 0)]
    parent_pid: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sampler-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let (Some(name), Some(directory)) = (&arguments.run_one, &arguments.directory) {
        let test = TESTS
            .iter()
            .find(|test| test.name == name)
            .with_context(|| format!("there is no test {name}"))?;
        // Without KVM its tests are skipped, each with the reason.
        let may_keep_awake = ![Need::IdleKvm, Need::NoOwnVm].iter().any(|need| test.needs.contains(need));
        let keeps_awake = sampler_tests::host::in_lab() && may_keep_awake;
        let _kvm_stays_awake = if keeps_awake { Unused::create().ok() } else { None };
        run_one(test, directory, arguments.parent_pid)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Arguments { set, filter, except, .. } = arguments.clone();
    let selection = Selection { set, filter, except };
    if selection.of(&TESTS).next().is_none() && selection.except.is_empty() {
        anyhow::bail!("no test is selected, so nothing was tested");
    }
    if arguments.list {
        selection.of(&TESTS).for_each(|test| println!("{}", test.name));
        return Ok(ExitCode::SUCCESS);
    }
    let itself = std::env::current_exe().context("the path of the running binary cannot be read")?;
    let command = |test: &Test, directory: &Path| {
        let mut command = Command::new(&itself);
        command.arg("--run-one").arg(test.name).arg("--directory").arg(directory);
        command.arg("--parent-pid").arg(std::process::id().to_string());
        command
    };
    let tally = run(&TESTS, &selection, &command, &mut std::io::stdout())?;
    Ok(if tally.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
