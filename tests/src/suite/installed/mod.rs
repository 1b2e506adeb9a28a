//! The package on a machine whose first process is systemd: installed, started, killed, hung, reloaded,
//! upgraded, failing for good, and removed.
//!
//! The lab boots such a machine, and dpkg and systemd are its own. Tests lean on none before them: each has
//! the service as it was packaged.

mod lines;
mod package;
mod systemd;
mod thread;

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::load::HOOKS;

use self::package::{CONFIG, FAILURE_ENV, Version};
use self::systemd::{UNIT, journal, number, property, said, systemctl, wait_until};
use self::thread::Held;
use crate::guest::{Guest, GuestConfig};
use crate::runner::{Context, Need, Outcome, Set, Test};
use crate::vmm::Load;

/// Time for one of these tests.
const LIMIT: Duration = Duration::from_secs(300);
/// The message that says that a service stays down.
const STAYS_DOWN: &str = "MESSAGE_ID=8d7dbbb29b0b4a11911850a54f2c0c17";
/// Ids that systemd gives to units with `DynamicUser=`.
const DYNAMIC: RangeInclusive<u32> = 61184..=65519;
/// A key that no configuration has.
const NONSENSE: &str = "nonsense = 1";

const fn test(name: &'static str, run: fn(&Context) -> anyhow::Result<Outcome>) -> Test {
    Test { name, sets: &[Set::Installed], needs: &[Need::Kvm, Need::Bpf, Need::Systemd], limit: LIMIT, run }
}

/// The tests of it.
pub(super) const TESTS: &[Test] = &[
    test("installed.starts", starts),
    test("installed.is-killed", is_killed),
    test("installed.hangs", hangs),
    test("installed.reloads", reloads),
    test("installed.is-upgraded", is_upgraded),
    test("installed.stays-down", stays_down),
    test("installed.is-removed", is_removed),
];

fn guest(context: &Context) -> anyhow::Result<Guest> {
    Ok(Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("watched", 1, Load::Busy))?)
}

fn is_active() -> anyhow::Result<bool> {
    Ok(property("ActiveState")? == "active")
}

/// The package starts the service, which is ready once it samples, and sees a guest. It complains of nothing.
fn starts(context: &Context) -> anyhow::Result<Outcome> {
    package::fresh(None)?;
    ensure!(is_active()?, "it is {}", property("ActiveState")?);
    ensure!(said("systemctl", &["is-enabled", UNIT])?.trim() == "enabled", "it is not enabled");
    ensure!(number("NRestarts")? == 0, "it was restarted");
    let [started, ready] =
        [number("ExecMainStartTimestampMonotonic")?, number("ActiveEnterTimestampMonotonic")?];
    let _guest = guest(context)?;
    wait_until("the guest is seen", || Ok(journal()?.contains("guest appeared")))?;
    let status = said("hvsampler", &["status"])?;
    ensure!(status.contains("1 guest with 1 vCPU"), "it answers {status}");
    let user = user_of(number("MainPID")?)?;
    ensure!(DYNAMIC.contains(&user), "it is user {user}");
    let journal = journal()?;
    ensure!(!journal.contains("ERROR"), "it complains: {journal}");
    journal.lines().filter(|line| line.contains("WARN")).for_each(|line| context.detail(line.trim()));
    Ok(Outcome::Passed(format!(
        "ready {:.1} s after it was started, with {:.1} MiB; it says {:?}",
        ready.saturating_sub(started) as f64 / 1e6,
        number("MemoryCurrent").unwrap_or(0) as f64 / f64::from(1 << 20),
        property("StatusText")?
    )))
}

/// The user that a process is.
fn user_of(pid: u64) -> anyhow::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).context("it has no user")?.parse()?)
}

/// A service that is killed starts again, and what the kernel counts of a guest goes on.
fn is_killed(context: &Context) -> anyhow::Result<Outcome> {
    package::fresh(Some(lines::PRINTED))?;
    let guest = guest(context)?;
    let seen =
        |more: usize| wait_until("the guest is seen", || Ok(lines::of_guest(guest.pid())?.len() >= more));
    seen(2)?;
    let (before, restarts) = (lines::of_guest(guest.pid())?.len(), number("NRestarts")?);
    systemctl(&["kill", "--kill-who=main", "--signal=KILL", UNIT])?;
    wait_until("it was started again", || Ok(number("NRestarts")? > restarts && is_active()?))?;
    seen(before + 2)?;
    let gap = lines::longest_gap(&lines::of_guest(guest.pid())?)?;
    Ok(Outcome::Passed(format!("the longest time without a snapshot of the guest is {gap:.1} s")))
}

/// A sampling thread that stands still has the service started again: the watchdog is tied to it alone.
fn hangs(context: &Context) -> anyhow::Result<Outcome> {
    package::fresh(Some("[Service]\nWatchdogSec=5s\nTimeoutAbortSec=5s\nRestartSec=1s\n"))?;
    let _guest = guest(context)?;
    // It lives on as long as its thread does.
    sleep(Duration::from_secs(7));
    ensure!(number("NRestarts")? == 0 && is_active()?, "the watchdog ends a service that samples");
    let held = Held::of(number("MainPID")?, "sampling")?;
    let ended = wait_until("the watchdog acts", || Ok(journal()?.contains("Watchdog timeout")))?;
    held.wait()?;
    wait_until("it was started again", || Ok(number("NRestarts")? == 1 && is_active()?))?;
    Ok(Outcome::Passed(format!("{:.1} s after its thread stood still it was ended", ended.as_secs_f64())))
}

/// A broken configuration is refused at a reload, and the service goes on with the one before.
fn reloads(context: &Context) -> anyhow::Result<Outcome> {
    package::fresh(Some(lines::PRINTED))?;
    let guest = guest(context)?;
    wait_until("the guest is seen", || Ok(!lines::of_guest(guest.pid())?.is_empty()))?;
    let pid = number("MainPID")?;
    let before = package::add_to_config(NONSENSE)?;
    systemctl(&["reload", UNIT])?;
    wait_until("it is refused", || Ok(journal()?.contains("the configuration stays as it is")))?;
    ensure!(journal()?.contains("nonsense"), "the key is not named");
    let seen = lines::of_guest(guest.pid())?.len();
    wait_until("it goes on", || Ok(lines::of_guest(guest.pid())?.len() > seen + 1))?;
    fs::write(CONFIG, before)?;
    systemctl(&["reload", UNIT])?;
    wait_until("it is read again", || Ok(journal()?.contains("configuration read again")))?;
    ensure!(number("MainPID")? == pid && number("NRestarts")? == 0, "it was started again");
    Ok(Outcome::Passed("refused with its key, and read again once it was right".to_owned()))
}

/// An upgrade starts the service anew, keeps the configuration, and a guest's counts go on.
fn is_upgraded(context: &Context) -> anyhow::Result<Outcome> {
    package::fresh(Some(lines::PRINTED))?;
    let before = package::add_to_config("# mine")?;
    let guest = guest(context)?;
    wait_until("the guest is seen", || Ok(lines::of_guest(guest.pid())?.len() >= 2))?;
    let (seen, pid) = (lines::of_guest(guest.pid())?.len(), number("MainPID")?);
    Version::Next.install()?;
    ensure!(is_active()? && number("MainPID")? != pid, "it was not started anew");
    ensure!(fs::read_to_string(CONFIG)? == format!("# mine\n{before}"), "the configuration was not kept");
    wait_until("the guest is seen again", || Ok(lines::of_guest(guest.pid())?.len() >= seen + 2))?;
    let gap = lines::longest_gap(&lines::of_guest(guest.pid())?)?;
    Ok(Outcome::Passed(format!(
        "{}; the longest time without a snapshot of the guest is {gap:.1} s",
        package::version()?
    )))
}

/// A service that fails again and again stays down, and an administrator hears of it once.
fn stays_down(_: &Context) -> anyhow::Result<Outcome> {
    const HEARD: &str = "/run/hvs-heard";
    package::fresh(Some("[Service]\nRestartSec=100ms\n"))?;
    fs::write(FAILURE_ENV, format!("ON_FAILURE=\"echo $UNIT >> {HEARD}\"\n"))?;
    let before = package::add_to_config(NONSENSE)?;
    ensure!(systemctl(&["restart", UNIT]).is_err(), "it starts with a broken configuration");
    wait_until("it stays down", || Ok(property("Result")? == "start-limit-hit" || heard(HEARD)))?;
    wait_until("somebody hears of it", || Ok(heard(HEARD)))?;
    let messages = said("journalctl", &["--boot", "--no-pager", "--output=cat", STAYS_DOWN])?;
    ensure!(messages.contains("has failed repeatedly and stays down"), "the journal says {messages:?}");
    ensure!(fs::read_to_string(HEARD)? == format!("{UNIT}\n"), "{}", fs::read_to_string(HEARD)?);
    fs::write(CONFIG, before)?;
    systemctl(&["reset-failed", UNIT])?;
    systemctl(&["start", UNIT])?;
    ensure!(is_active()?, "it does not start again");
    Ok(Outcome::Passed(messages.trim().to_owned()))
}

fn heard(file: &str) -> bool {
    Path::new(file).exists()
}

/// It stops in time, leaves no program loaded, and the package leaves nothing behind.
fn is_removed(context: &Context) -> anyhow::Result<Outcome> {
    package::fresh(None)?;
    let _guest = guest(context)?;
    ensure!(!loaded()?.is_empty(), "no program of the service's is loaded while it runs");
    let pid = number("MainPID")?;
    let begun = std::time::Instant::now();
    systemctl(&["stop", UNIT])?;
    let stopped = begun.elapsed();
    ensure!(property("Result")? == "success", "it ended with {}", property("Result")?);
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "its process lives on");
    are_gone()?;
    systemctl(&["start", UNIT])?;
    package::remove()?;
    ensure!(property("LoadState")? != "loaded", "the unit is {}", property("LoadState")?);
    ensure!(Path::new(CONFIG).exists(), "the configuration was not kept");
    are_gone()?;
    package::purge()?;
    ensure!(!Path::new(CONFIG).exists(), "the configuration is left");
    ensure!(package::version().is_err(), "dpkg still has it");
    Ok(Outcome::Passed(format!("stopped in {:.1} s", stopped.as_secs_f64())))
}

/// The kernel lets programs go some time after their last user has.
fn are_gone() -> anyhow::Result<()> {
    wait_until("no program is left", || Ok(loaded()?.is_empty())).map(drop)
}

/// Programs of the sampler's that the kernel has. It knows the first fifteen bytes of a name.
fn loaded() -> anyhow::Result<BTreeSet<String>> {
    const LENGTH: usize = 15;
    let ways = HOOKS.iter().flat_map(|hook| hook.ways);
    let ours: BTreeSet<_> = ways.map(|way| &way.program()[..way.program().len().min(LENGTH)]).collect();
    let mut names = BTreeSet::new();
    for program in aya::programs::loaded_programs() {
        // One may end while they are listed.
        let Ok(program) = program else { continue };
        let name = program.name_as_str().context("a program without a name")?;
        if ours.contains(name) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}
