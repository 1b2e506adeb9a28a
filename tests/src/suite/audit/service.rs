//! The running service is asked what came of its audit.

use std::fs;
use std::process::Command;

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::Value;

use crate::guest::{Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::suite::delivery::Daemon;
use crate::vmm::Load;

/// vCPUs that are to be compared before it is asked.
const CHECKS: u64 = 6;

/// `hvsampler run` as an operator starts it, and SIGUSR1.
pub(in crate::suite) fn says_its_last_hour(context: &Context) -> anyhow::Result<Outcome> {
    let _guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("audited", 2, Load::Busy))?;
    let directory = context.directory();
    let config = directory.join("config.toml");
    let at = directory.display();
    let files = format!("lock_file = '{at}/lock'\nstatus_socket = '{at}/status'\n");
    fs::write(&config, format!("interval = '1s'\nstart_delay = '0s'\n{files}"))?;
    let mut command = Command::new(context.binary("hvsampler")?);
    command.args(["run", "--json", "--config"]).arg(&config).env("OTEL_SDK_DISABLED", "true");
    let mut service = Daemon::start("hvsampler", command, directory)?;
    let compared = |daemon: &Daemon| {
        let checks = counted(&daemon.output()?, "audit_checks")?;
        Ok(checks >= CHECKS)
    };
    service.wait_until("vCPUs are compared", compared)?;
    service.signal(Signal::USR1)?;
    let answer = "audit of the last hour: ";
    service.wait_until("the service says what came of it", |daemon| Ok(daemon.log().contains(answer)))?;
    let mismatches = counted(&service.output()?, "audit_mismatches")?;
    let log = service.stop()?;
    let said = log.lines().find_map(|line| line.split_once(answer)).context("no answer")?.1.to_owned();
    anyhow::ensure!(mismatches == 0 && said.contains(" 0 mismatches"), "{mismatches} mismatches: {said}");
    Ok(Outcome::Passed(format!("asked, it says: {said}")))
}

/// A counter of the sampler's in the last whole line that was printed.
fn counted(output: &str, name: &str) -> anyhow::Result<u64> {
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    let Some(last) = whole.lines().next_back() else { return Ok(0) };
    let snapshot: Value = serde_json::from_str(last)?;
    snapshot["sampler"][name].as_u64().with_context(|| format!("no sampler.{name} in a snapshot"))
}
