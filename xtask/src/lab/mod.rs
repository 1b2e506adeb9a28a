//! `cargo xtask vm`: the lab. Boots each Debian kernel of `tests/lab/kernels` in QEMU, whose
//! emulated AMD virtualisation gives it a real KVM, and runs a command in there.

mod image;
mod initramfs;
mod kernel;
mod machine;
mod modules;
mod needs;
mod tools;

pub(crate) use self::needs::{cannot_install, needs, needs_of_systemd};

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use self::{
    image::Init,
    kernel::{Fetched, Kernel},
    machine::{End, Machine},
    tools::{Busybox, Qemu},
};
use crate::{
    build::{self, RUNNER},
    setup::{self, Purpose},
    stream::RunnerLines,
    tally::Tally,
    workspace::Workspace,
};

/// Every guest inside runs this kernel: it boots as one on every tested kernel.
const GUEST_SERIES: &str = "6.1";
/// How many boots in a row may end with a machine that stands still and no test that has its result.
const RETRIES: u32 = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series out of tests/lab/kernels, such as 6.1; all of them when none is given.
    kernels: Vec<String>,
    /// Wall time for a boot and its command, in seconds.
    #[arg(long, default_value_t = 900)]
    limit: u64,
    /// What to run as root inside, instead of the lab's set of tests.
    #[arg(last = true)]
    command: Vec<String>,
}

/// What runs inside each kernel.
pub(crate) enum Job {
    /// The test runner, whose lines are counted.
    Tests { filter: Option<String> },
    /// The same where systemd is the first process, with the packages of two versions.
    Installed { filter: Option<String>, packages: [PathBuf; 2] },
    /// Any command; its exit status counts as one test.
    Command(Vec<String>),
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::install(needs(workspace)?)?;
    let job = if args.command.is_empty() {
        setup::ensure(workspace, &[Purpose::Build])?;
        build::binaries(workspace, true)?;
        Job::Tests { filter: None }
    } else {
        Job::Command(args.command.clone())
    };
    let tally = run(workspace, &args.kernels, &job, Duration::from_secs(args.limit))?;
    println!("{tally}");
    Ok(tally.exit_code())
}

/// Boots the kernels one after the other: one machine keeps two processors busy.
pub(crate) fn run(workspace: &Workspace, kernels: &[String], job: &Job, limit: Duration) -> Result<Tally> {
    let lab = Lab::prepare(workspace, job, limit)?;
    let mut tally = Tally::default();
    let mut verdicts = Vec::new();
    for kernel in Kernel::named(workspace, kernels)? {
        let kernel = kernel.fetch(workspace, &lab.busybox)?;
        if !job.selects_any(workspace, &kernel)? {
            tally += Tally::skip(&format!("lab.{}", kernel.series), "none of its tests has such a name");
            continue;
        }
        let begun = Instant::now();
        let report = lab.try_kernel(&kernel)?;
        tally += report.tally.within(&kernel.series);
        verdicts.push(format!(
            "lab {} ... {} ({} s, {} boots; {})",
            kernel.release,
            report.verdict,
            begun.elapsed().as_secs(),
            report.boots,
            lab.logs_of(&kernel).display(),
        ));
    }
    for verdict in verdicts {
        println!("{verdict}");
    }
    Ok(tally)
}

impl Job {
    /// Whether there is anything to be run on a kernel. The runner takes a selection of nothing for a
    /// mistake.
    fn selects_any(&self, workspace: &Workspace, kernel: &Fetched) -> Result<bool> {
        match self.set(kernel) {
            Some((set, Some(filter))) => build::selects_any(workspace, set, filter),
            _ => Ok(true),
        }
    }

    /// The runner's set of tests for a kernel, and which of them.
    fn set(&self, kernel: &Fetched) -> Option<(&'static str, Option<&str>)> {
        match self {
            Self::Tests { filter } => {
                Some((if kernel.is_rt() { "lab-rt" } else { "lab" }, filter.as_deref()))
            }
            Self::Installed { filter, .. } => Some(("installed", filter.as_deref())),
            Self::Command(_) => None,
        }
    }

    /// What the machine's first process is.
    const fn init(&self) -> Init {
        match self {
            Self::Installed { .. } => Init::Systemd,
            Self::Tests { .. } | Self::Command(_) => Init::Script,
        }
    }

    /// The command on a kernel.
    fn words(&self, workspace: &Workspace, kernel: &Fetched) -> Result<Vec<String>> {
        if let Self::Command(words) = self {
            return Ok(words.clone());
        }
        let runner = workspace.release_binary(RUNNER);
        let mut words = vec![runner.to_str().context("the path of the test runner is not UTF-8")?.to_owned()];
        if let Some((set, filter)) = self.set(kernel) {
            words.extend(["--set".to_owned(), set.to_owned()]);
            words.extend(filter.iter().flat_map(|filter| ["--filter".to_owned(), (*filter).to_owned()]));
        }
        Ok(words)
    }
}

struct Lab<'a> {
    workspace: &'a Workspace,
    busybox: Busybox,
    qemu: Qemu,
    logs: PathBuf,
    job: &'a Job,
    /// What comes before the command.
    script: String,
    limit: Duration,
}

/// What the boots of a kernel have come to, all of which ended with a machine that stood still.
#[derive(Default)]
struct Progress {
    /// Names of the tests that have their results.
    settled: Vec<String>,
    tally: Tally,
    /// Boots in a row that settled nothing.
    idle: u32,
}

impl Progress {
    /// Takes in what such a boot settled. False when another one is not worth its while: the same test may be
    /// what the machine stands still under.
    fn take(&mut self, lines: &RunnerLines) -> bool {
        let (names, tally) = lines.so_far();
        self.idle = if names.is_empty() { self.idle + 1 } else { 0 };
        self.settled.extend_from_slice(names);
        self.tally += tally.clone();
        self.idle <= RETRIES
    }
}

struct Report {
    tally: Tally,
    verdict: String,
    boots: u32,
}

impl<'a> Lab<'a> {
    fn prepare(workspace: &'a Workspace, job: &'a Job, limit: Duration) -> Result<Self> {
        let busybox = Busybox::fetch(workspace)?;
        let qemu = Qemu::choose(workspace)?;
        println!("lab: {}", qemu.version);
        let logs = workspace.target.join("lab");
        fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
        let guest =
            Kernel::named(workspace, &[GUEST_SERIES.to_owned()])?.remove(0).fetch(workspace, &busybox)?;
        let guest_initrd = logs.join("guest.cpio");
        fs::write(&guest_initrd, image::guest(&guest, &busybox)?)?;
        let (inner, guest_kernel) = (tools::inner_binary()?, guest.image());
        let mut variables = vec![
            ("HVS_LAB", OsStr::new("1")),
            ("HVS_INNER_KERNEL", guest_kernel.as_os_str()),
            ("HVS_INNER_INITRD", guest_initrd.as_os_str()),
            ("HVS_QEMU", inner.as_os_str()),
            ("HVS_WORKSPACE", workspace.root.as_os_str()),
        ];
        if let Job::Installed { packages: [first, next], .. } = job {
            variables.extend([("HVS_DEB_FIRST", first.as_os_str()), ("HVS_DEB_NEXT", next.as_os_str())]);
        }
        let script = script(&variables)?;
        Ok(Self { workspace, busybox, qemu, logs, job, script, limit })
    }

    /// Where logs of a kernel's boots are kept.
    fn logs_of(&self, kernel: &Fetched) -> PathBuf {
        match self.job.init() {
            Init::Script => self.logs.join(&kernel.series),
            Init::Systemd => self.logs.join(format!("{}-installed", kernel.series)),
        }
    }

    /// Boots until all tests are settled, or the machine stands still too often, and says what came out. A
    /// machine that stands still takes the test with it that ran; those before it have their results, and the
    /// next boot goes on after them.
    fn try_kernel(&self, kernel: &Fetched) -> Result<Report> {
        let logs = self.logs_of(kernel);
        fs::create_dir_all(&logs)?;
        let mut progress = Progress::default();
        for boot in 1.. {
            let (end, lines) = self.boot(kernel, &logs, boot, &progress.settled)?;
            if let End::Stall(reason) = &end
                && progress.take(&lines)
            {
                println!(
                    "lab: the machine of {} stood still ({reason}) after {}: boot {}",
                    kernel.release,
                    progress.tally,
                    boot + 1
                );
                continue;
            }
            let (tally, verdict) = self.judge(end, lines, &progress.tally);
            return Ok(Report { tally, verdict, boots: boot });
        }
        bail!("kernel {} was never booted", kernel.release)
    }

    fn boot(
        &self,
        kernel: &Fetched,
        logs: &Path,
        boot: u32,
        settled: &[String],
    ) -> Result<(End, RunnerLines)> {
        let initramfs = logs.join("initramfs.cpio");
        let words = self.job.words(self.workspace, kernel)?;
        let script = self.script.clone() + &invocation(&words, settled);
        fs::write(&initramfs, image::host(kernel, &self.busybox, &script, self.job.init())?)?;
        let machine = Machine {
            qemu: &self.qemu,
            image: &kernel.image(),
            initramfs: &initramfs,
            is_rt: kernel.is_rt(),
            console: logs.join(format!("console.{boot}.log")),
            output: logs.join(format!("output.{boot}.log")),
            complaints: logs.join(format!("qemu.{boot}.log")),
            limit: self.limit,
        };
        let mut lines = RunnerLines::default();
        let end = machine.boot(&mut |line| {
            println!("[{}] {line}", kernel.series);
            lines.push(line);
        })?;
        Ok((end, lines))
    }

    /// What the last boot says, together with what was settled before it.
    fn judge(&self, end: End, lines: RunnerLines, settled: &Tally) -> (Tally, String) {
        let failed =
            |reason: String| (settled.clone() + Tally::failed("lab", &reason), format!("FAILED: {reason}"));
        let status = match end {
            End::Command { status } => status,
            End::Fault(reason) | End::Stall(reason) => return failed(reason),
        };
        match self.job {
            Job::Command(_) if status == 0 => (Tally::passed(), "ok".to_owned()),
            Job::Command(_) => failed(format!("exit status {status}")),
            Job::Tests { .. } | Job::Installed { .. } => {
                match lines.finish(status == 0).map(|tally| settled.clone() + tally) {
                    Ok(tally) => {
                        let word = if tally.counts.failed == 0 { "ok," } else { "FAILED:" };
                        let verdict = format!("{word} {tally}");
                        (tally, verdict)
                    }
                    Err(error) => failed(format!("{error:#}")),
                }
            }
        }
    }
}

fn script(variables: &[(&str, &OsStr)]) -> Result<String> {
    let mut script =
        String::from("export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    for (name, value) in variables {
        let value = value.to_str().with_context(|| format!("the path in {name} is not UTF-8"))?;
        script += &format!("export {name}={}\n", quoted(value));
    }
    script += "cd \"$HVS_WORKSPACE\"\n";
    Ok(script)
}

/// The command as a line of the script, without the tests that are settled.
fn invocation(words: &[String], settled: &[String]) -> String {
    let except = settled.iter().flat_map(|name| ["--except", name]);
    let words = words.iter().map(String::as_str).chain(except);
    format!("exec {}\n", words.map(quoted).collect::<Vec<_>>().join(" "))
}

/// One word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::tally::Counts;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["plain", "two words", "it's", "$HOME `id` \\ \"", "line\nbreak", ""] {
            let command = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn another_boot_is_worth_it_while_tests_are_settled() {
        let lines = |texts: &[&str]| {
            let mut lines = RunnerLines::default();
            texts.iter().for_each(|line| lines.push(line));
            lines
        };
        let mut progress = Progress::default();
        assert!(progress.take(&lines(&["test a ... ok", "test b ... FAILED: no"])));
        assert!(progress.take(&lines(&[])) && progress.take(&lines(&["noise"])));
        assert!(progress.take(&lines(&["test c ... ok"])), "it goes on");
        assert_eq!(progress.settled, ["a", "b", "c"]);
        assert_eq!(progress.tally.counts, Counts { passed: 2, failed: 1, skipped: 0 });
        assert!((0..RETRIES).all(|_| progress.take(&lines(&[]))));
        assert!(!progress.take(&lines(&[])), "the same test again and again");
    }
}
