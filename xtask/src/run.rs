//! `cargo xtask run`: builds, then shows the live table.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    setup::{self, Purpose},
    shell,
    workspace::Workspace,
};

/// Exit status by which the demo says that this machine has no /dev/kvm.
const NO_KVM: i32 = 3;
/// The demo's four guests start in a fraction of a second; a busy machine gets this much.
const DEMO_START_LIMIT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Start the demo guests even when the host has guests.
    #[arg(long, conflicts_with = "no_demo")]
    demo: bool,
    /// Start no demo guests, also when the host has none.
    #[arg(long)]
    no_demo: bool,
    /// Handed to `hvsampler run --table`.
    #[arg(last = true)]
    options: Vec<String>,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build])?;
    build::binaries(workspace, true)?;
    if args.demo || (!args.no_demo && !has_guests(workspace)?) {
        if !args.demo {
            println!("run: this host has no guests, so the demo starts four; --no-demo prevents it");
        }
        start_demo(workspace)?;
    }
    // The sampler takes our place: it gets the terminal's signals itself, and its end is the
    // parent's death that ends the demo.
    let mut sampler = sampler(workspace)?;
    sampler.args(["run", "--table"]).args(live(&args.options)).args(&args.options);
    let error = sampler.exec();
    Err(error).with_context(|| format!("starting `{}`", shell::display(&sampler)))
}

/// Somebody who watches wants a table now and often; what they say themselves holds. A service waits longer.
fn live(options: &[String]) -> Vec<&'static str> {
    let given = |flag: &str| options.iter().any(|option| option.split('=').next() == Some(flag));
    [["--interval", "2s"], ["--start-delay", "0s"]]
        .into_iter()
        .filter(|[flag, _]| !given(flag))
        .flatten()
        .collect()
}

/// The sampler with the privileges it needs.
fn sampler(workspace: &Workspace) -> Result<Command> {
    let binary = workspace.release_binary("hvsampler");
    if shell::is_root() {
        return Ok(workspace.command(binary));
    }
    if shell::which("sudo").is_none() {
        bail!("the sampler needs root and there is no sudo; run this command as root");
    }
    let mut command = workspace.command("sudo");
    // An endpoint in the environment is how the user says where to export to.
    command.arg("--preserve-env").arg(binary);
    Ok(command)
}

fn has_guests(workspace: &Workspace) -> Result<bool> {
    let mut list = sampler(workspace)?;
    let answer = shell::read(list.args(["list", "--format", "json"]))?;
    lists_guests(&answer)
}

fn lists_guests(answer: &str) -> Result<bool> {
    let list: serde_json::Value = serde_json::from_str(answer).context("reading `hvsampler list`")?;
    let vms = list["vms"].as_array().context("`hvsampler list` printed no array of vms")?;
    Ok(!vms.is_empty())
}

/// Starts the demo's guests and waits until they run. They end when this process does.
fn start_demo(workspace: &Workspace) -> Result<()> {
    let log = workspace.target.join("demo-guests.log");
    let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let mut command = workspace.command(workspace.release_binary("demo-guests"));
    command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
    let mut demo = command.spawn().context("starting the demo guests")?;
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let begun = Instant::now();
    while !said().contains("demo guests ready") {
        if let Some(reason) = why_ended(&mut demo)? {
            bail!("the demo guests {reason}: {}", said().trim());
        }
        if begun.elapsed() > DEMO_START_LIMIT {
            demo.kill()?;
            bail!("the demo guests did not get ready in {} s: {}", DEMO_START_LIMIT.as_secs(), said().trim());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn why_ended(demo: &mut Child) -> Result<Option<String>> {
    Ok(demo.try_wait()?.map(|status| match status.code() {
        Some(NO_KVM) => "need /dev/kvm; load kvm_intel or kvm_amd, or pass --no-demo".to_owned(),
        _ => format!("ended at once ({status})"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_vms_is_an_error_and_not_an_empty_host() {
        assert!(lists_guests(r#"{"vms":[{"id":"a"}]}"#).unwrap());
        assert!(!lists_guests(r#"{"vms":[]}"#).unwrap());
        lists_guests(r#"{"guests":[]}"#).unwrap_err();
        lists_guests("no privileges").unwrap_err();
    }
}
