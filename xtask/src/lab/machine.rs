//! One boot of a tested kernel in QEMU, under a watchdog.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::tools::Qemu;

/// The machine writes to its console every 5 s; a healthy one is never silent for so long.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Powering off takes a second. Some machines stand still there, after the result is known.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(500);

/// The processor: AMD's, for it is its virtualisation that QEMU emulates.
const CPU: &str = "EPYC,+svm,+npt,-smap";
/// What KVM of PREEMPT_RT wants beside that: a time stamp counter whose pace never changes. That of an
/// emulated processor keeps its pace, and QEMU does not say so unless it is forced to. Then it would also
/// claim what it does not emulate of this model.
const CPU_RT: &str = "+invtsc,x-force-features=on,-xsavec,-misalignsse,-osvw,-topoext,-fxsr-opt,-nrip-save";

/// Size of the disk that keeps what is written; it is a sparse file.
const KEPT: u64 = 64 << 20;

/// Disks of the machine that keep nothing: one that is fast, one that takes 30 ms for each request, and one
/// of which all reads fail. Tests know them by their serial numbers.
const DISKS: [&str; 12] = [
    "-blockdev",
    "driver=null-co,node-name=fast,size=268435456,read-zeroes=on",
    "-device",
    "virtio-blk-pci,drive=fast,serial=hvs-fast",
    "-blockdev",
    "driver=null-co,node-name=slow,size=268435456,read-zeroes=on,latency-ns=30000000",
    "-device",
    "virtio-blk-pci,drive=slow,serial=hvs-slow",
    "-blockdev",
    "driver=blkdebug,node-name=broken,image.driver=null-co,image.size=268435456,image.read-zeroes=on,\
     inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5",
    "-device",
    "virtio-blk-pci,drive=broken,serial=hvs-broken",
];

/// What a boot came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The command ended with this status.
    Command { status: u8 },
    /// The machine failed in a way that may be the doing of what is tested.
    Fault(String),
    /// The emulated machine stood still: the emulator's doing, worth another boot.
    Stall(String),
}

/// What to boot.
pub(super) struct Machine<'a> {
    pub(super) qemu: &'a Qemu,
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Whether the kernel is one of PREEMPT_RT.
    pub(super) is_rt: bool,
    /// Where this boot's console, its command's output and QEMU's own words are kept.
    pub(super) console: PathBuf,
    pub(super) output: PathBuf,
    pub(super) complaints: PathBuf,
    /// Wall time that the command may take, boot included.
    pub(super) limit: Duration,
}

impl Machine<'_> {
    /// Boots, hands each line that the command prints to `see`, and waits for the end.
    pub(super) fn boot(&self, see: &mut dyn FnMut(&str)) -> Result<End> {
        File::create(&self.console).with_context(|| format!("creating {}", self.console.display()))?;
        let complaints = File::create(&self.complaints)
            .with_context(|| format!("creating {}", self.complaints.display()))?;
        let kept = self.console.with_extension("disk");
        let disk = File::create(&kept).and_then(|file| file.set_len(KEPT));
        disk.with_context(|| format!("creating {}", kept.display()))?;
        let mut child = self.command(&kept).stderr(complaints).spawn().context("starting QEMU")?;
        let end = self.watch(&mut child, see);
        // Nothing else ends it when it stands still; when it is gone already this does nothing.
        child.kill()?;
        child.wait()?;
        fs::remove_file(&kept).with_context(|| format!("removing {}", kept.display()))?;
        end
    }

    fn command(&self, kept: &Path) -> Command {
        let mut command = self.qemu.command();
        let cpu = if self.is_rt { format!("{CPU},{CPU_RT}") } else { CPU.to_owned() };
        command
            .args(["-accel", "tcg", "-cpu", &cpu, "-smp", "3", "-m", "3072"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"])
            .args(DISKS)
            .args(["-blockdev", &format!("driver=file,node-name=kept,filename={}", kept.display())])
            .args(["-device", "virtio-blk-pci,drive=kept,serial=hvs-kept"])
            .args(["-append", "console=ttyS0 panic=-1 loglevel=7"])
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args(["-chardev", "stdio,id=output,signal=off", "-serial", "chardev:output"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn watch(&self, child: &mut Child, see: &mut dyn FnMut(&str)) -> Result<End> {
        let lines = reader(child)?;
        let mut output =
            File::create(&self.output).with_context(|| format!("creating {}", self.output.display()))?;
        let begun = Instant::now();
        let mut console = Console::new(&self.console);
        let mut has_begun = false;
        loop {
            match lines.recv_timeout(POLL) {
                Ok(line) => {
                    if let Some(end) = parse_end(&line) {
                        wait_for_power_off(child)?;
                        return Ok(end);
                    }
                    if line == BEGINS {
                        has_begun = true;
                        continue;
                    }
                    // The line that ends the output begins with a line feed of its own.
                    if !line.is_empty() {
                        writeln!(output, "{line}")?;
                        see(&line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(console
                        .verdict(has_begun)
                        .unwrap_or_else(|| End::Stall("it went off without a result".into())));
                }
            }
            if let Some(end) = console.verdict(has_begun) {
                return Ok(end);
            }
            if begun.elapsed() > self.limit {
                return Ok(End::Fault(format!("the command did not end in {} s", self.limit.as_secs())));
            }
        }
    }
}

/// Lines of the command, read by a thread of its own so that the watchdog never waits.
fn reader(child: &mut Child) -> Result<Receiver<String>> {
    let output = child.stdout.take().context("QEMU has no standard output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Ok(lines)
}

/// The line by which it says that the command begins.
const BEGINS: &str = "lab begins";

/// The lines by which the init of the machine says how it went.
fn parse_end(line: &str) -> Option<End> {
    if let Some(status) = line.strip_prefix("lab exit ") {
        return status.parse().ok().map(|status| End::Command { status });
    }
    line.strip_prefix("lab fault: ").map(|reason| End::Fault(reason.to_owned()))
}

fn wait_for_power_off(child: &mut Child) -> Result<()> {
    let begun = Instant::now();
    while child.try_wait()?.is_none() && begun.elapsed() < POWER_OFF_LIMIT {
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The kernel's console, read as it grows.
struct Console<'a> {
    path: &'a Path,
    size: u64,
    grown: Instant,
}

impl<'a> Console<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, size: 0, grown: Instant::now() }
    }

    /// What the console says about the machine, when that is the end of it.
    fn verdict(&mut self, has_begun: bool) -> Option<End> {
        let size = fs::metadata(self.path).map_or(0, |file| file.len());
        if size == self.size {
            let silent = self.grown.elapsed();
            return (silent > SILENCE_LIMIT)
                .then(|| End::Stall(format!("its console was silent for {} s", silent.as_secs())));
        }
        (self.size, self.grown) = (size, Instant::now());
        let said = fs::read(self.path).ok()?;
        judge_console(&String::from_utf8_lossy(&said), has_begun)
    }
}

/// A lock-up is what TCG's nested virtualisation does now and then; a panic or an oops can be the doing of a
/// program that we loaded, and is never tried again. Before the command has begun nothing of ours is there
/// that could, and no program can put a breakpoint into the kernel's own code.
fn judge_console(said: &str, has_begun: bool) -> Option<End> {
    let find = |marks: &[&str]| said.lines().find(|line| marks.iter().any(|mark| line.contains(mark)));
    if let Some(line) =
        find(&["soft lockup", "hard LOCKUP", "rcu_preempt detected stalls", "self-detected stall"])
    {
        return Some(End::Stall(line.trim().to_owned()));
    }
    match breakpoint(said) {
        Breakpoint::None | Breakpoint::OfProgram => {}
        Breakpoint::Unfinished => return None,
        Breakpoint::OfKernel(line) => return Some(End::Stall(line)),
    }
    let line =
        find(&["Kernel panic", "Oops:", "kernel BUG at", "BUG: unable to handle", "BUG: kernel NULL"])?;
    let line = line.trim();
    Some(match has_begun {
        true => End::Fault(line.to_owned()),
        false => End::Stall(format!("before the command: {line}")),
    })
}

/// A breakpoint that the kernel met and knew nothing of.
enum Breakpoint {
    None,
    /// Where it was is not written yet.
    Unfinished,
    /// In a program.
    OfProgram,
    /// In the kernel's own code, with what the kernel says of it. The kernel puts one where it changes an
    /// instruction (`text_poke_bp()`), here that of a static key of the scheduler, and has forgotten it by
    /// the time that another CPU of the emulator's comes by: once in some hundred boots, in `dequeue_entity`
    /// of 6.12.
    OfKernel(String),
}

fn breakpoint(said: &str) -> Breakpoint {
    let mut lines = said.lines().skip_while(|line| !line.contains("Oops: int3"));
    let Some(oops) = lines.next() else { return Breakpoint::None };
    match lines.find(|line| line.contains("RIP: ")) {
        None => Breakpoint::Unfinished,
        Some(at) if at.contains("bpf_prog_") => Breakpoint::OfProgram,
        Some(at) => Breakpoint::OfKernel(format!("{}, {}", oops.trim(), at.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_up_is_tried_again_and_an_oops_is_not() {
        let lockup = "[   61.2] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [qemu-system-x86:412]\n";
        assert!(matches!(judge_console(lockup, true), Some(End::Stall(_))));
        for fatal in
            ["[ 1.0] Kernel panic - not syncing: x", "BUG: unable to handle page fault", "Oops: 0002 [#1]"]
        {
            assert!(matches!(judge_console(fatal, true), Some(End::Fault(_))), "{fatal}");
            let before = Some(End::Stall(format!("before the command: {fatal}")));
            assert_eq!(judge_console(fatal, false), before, "nothing of ours was there");
        }
        assert_eq!(judge_console("lab alive 5.01\n", true), None);
    }

    #[test]
    fn a_breakpoint_of_the_kernel_s_own_is_tried_again() {
        let oops = |at: &str| {
            format!(
                "[ 40.6] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[ 40.6] CPU: 1\n[ 40.6] RIP: 0010:{at}\n"
            )
        };
        assert!(matches!(judge_console(&oops("dequeue_entity+0x101/0x580"), true), Some(End::Stall(_))));
        let ours = oops("bpf_prog_5eb43d8e3d4b0d33_sched_switch_btf+0x1/0x2");
        assert!(matches!(judge_console(&ours, true), Some(End::Fault(_))));
        let unfinished = "[ 40.6] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n";
        assert_eq!(judge_console(unfinished, true), None, "the rest is to come");
    }

    #[test]
    fn only_a_whole_end_line_ends() {
        assert_eq!(parse_end("lab exit 0"), Some(End::Command { status: 0 }));
        assert_eq!(parse_end("lab exit 101"), Some(End::Command { status: 101 }));
        assert_eq!(parse_end("lab exit "), None);
        assert_eq!(parse_end("echo lab exit 0"), None);
        assert_eq!(parse_end("lab fault: no overlay"), Some(End::Fault("no overlay".to_owned())));
    }
}
