//! The running service, and what is left to its threads.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::threads::{self, BPF, DAC_READ_SEARCH, Left, NET_ADMIN, SYS_ADMIN, SYS_PTRACE, Thread};
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::Tap;
use crate::runner::{Context, Outcome};
use crate::suite::delivery::Daemon;
use crate::vmm::Load;

/// What serving takes where other network namespaces are entered.
const ALL: u64 = BPF | SYS_PTRACE | DAC_READ_SEARCH | SYS_ADMIN | NET_ADMIN;
const NOBODY: u32 = 65534;
/// The first id that systemd gives a unit with `DynamicUser=`.
const DYNAMIC: u32 = 61184;
const UNIT: &str = include_str!("../../../../xtask/packaging/hvsampler.service");
/// What a file has that only its owner may read, and the receiver is to get.
const SECRET: &str = "Bearer of-a-file-for-root-alone";

/// How the service is started, and what becomes of it.
struct Case {
    /// The lines of `[service]`.
    settings: &'static str,
    /// Who starts it; with the capabilities that the unit has, where that is not root.
    user: u32,
    left: Option<Left>,
    /// Whether interfaces in other network namespaces are seen.
    enters_namespaces: bool,
}

pub(super) fn as_root(context: &Context) -> anyhow::Result<Outcome> {
    let left = Left { capabilities: ALL, bounding: Some(ALL), user: 0 };
    serve(context, &Case { settings: "", user: 0, left: Some(left), enters_namespaces: true })
}

pub(super) fn as_another_user(context: &Context) -> anyhow::Result<Outcome> {
    let left = Left { capabilities: ALL, bounding: Some(ALL), user: NOBODY };
    let settings = "user = 'nobody'";
    serve(context, &Case { settings, user: 0, left: Some(left), enters_namespaces: true })
}

pub(super) fn as_the_unit_starts_it(context: &Context) -> anyhow::Result<Outcome> {
    let left = Left { capabilities: ALL, bounding: None, user: DYNAMIC };
    serve(context, &Case { settings: "", user: DYNAMIC, left: Some(left), enters_namespaces: true })
}

pub(super) fn without_network_namespaces(context: &Context) -> anyhow::Result<Outcome> {
    let capabilities = ALL & !(SYS_ADMIN | NET_ADMIN);
    let left = Left { capabilities, bounding: Some(capabilities), user: 0 };
    let settings = "network_namespaces = false";
    serve(context, &Case { settings, user: 0, left: Some(left), enters_namespaces: false })
}

pub(super) fn without_a_sandbox(context: &Context) -> anyhow::Result<Outcome> {
    serve(context, &Case { settings: "sandbox = 'off'", user: 0, left: None, enters_namespaces: true })
}

/// A service that starts on a host without the guests that follow. Whatever is done after the programs are
/// loaded is done here: KVM's hooks come, go and come again, network namespaces are entered, the
/// configuration and a secret are read, a collector is found.
fn serve(context: &Context, case: &Case) -> anyhow::Result<Outcome> {
    let (url, received) = collector()?;
    let files = Files::make(context.directory(), case.user)?;
    files.write_config(case.settings, "1s", "disabled = true")?;
    let mut service = Daemon::start("hvsampler", command(context, &files, case.user)?, context.directory())?;
    service.wait_until("a first snapshot is taken", |service| Ok(last(service)?.is_some()))?;
    let first = sees(context, &mut service, "hvs-first", case.enters_namespaces)?;
    first.end(Ending::Killed)?;
    service.wait_until("the first guest is gone", |service| Ok(guest(service, "hvs-first")?.is_none()))?;
    let second = sees(context, &mut service, "hvs-second", case.enters_namespaces)?;
    files.write_config(case.settings, "500ms", &files.export(&url))?;
    service.signal(Signal::HUP)?;
    let is_read = |service: &Daemon| Ok(service.log().contains("configuration read again"));
    service.wait_until("the configuration is read", is_read)?;
    let has_secret = |_: &Daemon| Ok(received.try_iter().any(|request| request.contains(SECRET)));
    service.wait_until("a collector gets what a file for root alone has", has_secret)?;
    let pid = service.pid();
    let judged = match &case.left {
        Some(left) => format!("{} threads have given up the rest", left.to_each_thread_of(pid)?),
        None => keeps_all(pid)?,
    };
    threads::none_listens(pid)?;
    answers(context, &files, pid)?;
    second.end(Ending::Killed)?;
    let log = service.stop()?;
    ensure!(!log.contains("not given up") && !log.contains(" ERROR "), "{log}");
    Ok(Outcome::Passed(judged))
}

/// Root asks, and is answered by a service that may make no file any more.
fn answers(context: &Context, files: &Files<'_>, pid: u32) -> anyhow::Result<()> {
    let mut command = Command::new(context.binary("hvsampler")?);
    let asked =
        command.args(["status", "--json", "--socket"]).arg(files.directory.join("run/status")).output()?;
    ensure!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let answer: Value = serde_json::from_slice(&asked.stdout)?;
    ensure!(answer["pid"] == pid, "{answer}");
    Ok(())
}

fn keeps_all(pid: u32) -> anyhow::Result<String> {
    let own = Thread::all(std::process::id())?;
    for thread in Thread::all(pid)? {
        let is_same = thread.given() == own.first().context("no thread of our own")?.given();
        ensure!(is_same, "{:?} is not what it was started with", thread.given());
    }
    Ok("each thread has all that the service was started with".to_owned())
}

/// Starts a guest with an interface in a network namespace of its own, and waits until all of it is observed.
fn sees(
    context: &Context,
    service: &mut Daemon,
    name: &'static str,
    interface: bool,
) -> anyhow::Result<Guest> {
    let guest = {
        // The guest inherits the interface, which nobody else is to hold.
        let _tap = Tap::create(name)?;
        Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new(name, 1, Load::Io))?
    };
    service.wait_until("all of a guest is observed", |service| {
        let Some(seen) = self::guest(service, name)? else { return Ok(false) };
        // A KVM that reports no entries into guests leaves their time in one state. That its hooks are
        // attached says the level.
        let times = &seen["vcpus"][0]["metrics"]["hypervisor.vcpu.time"];
        let on_cpu = times["guest"].as_u64().or_else(|| times["run"].as_u64());
        let is_entered = seen["interfaces"][0]["attributes"]["network.interface.name"] == name;
        let is_counted = interface == is_entered && (interface || unread(service)? > 0);
        Ok(seen["level"] == "full" && on_cpu.is_some_and(|ns| ns > 0) && is_counted)
    })?;
    Ok(guest)
}

/// The guest of this name in the last snapshot.
fn guest(service: &Daemon, name: &str) -> anyhow::Result<Option<Value>> {
    let Some(mut snapshot) = last(service)? else { return Ok(None) };
    let vms = snapshot["vms"].as_array_mut().context("no vms in a snapshot")?;
    Ok(vms.iter_mut().find(|vm| vm["attributes"]["hypervisor.vm.name"] == name).map(Value::take))
}

/// Interfaces that could not be looked at.
fn unread(service: &Daemon) -> anyhow::Result<u64> {
    let snapshot = last(service)?.context("no snapshot")?;
    snapshot["sampler"]["interfaces_unread"].as_u64().context("no sampler.interfaces_unread")
}

/// The last whole line that was printed.
fn last(service: &Daemon) -> anyhow::Result<Option<Value>> {
    let output = service.output()?;
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    Ok(whole.lines().next_back().map(serde_json::from_str).transpose()?)
}

/// The service as root starts it, or as the unit does: as another user, with the unit's capabilities.
fn command(context: &Context, files: &Files<'_>, user: u32) -> anyhow::Result<Command> {
    let binary = context.binary("hvsampler")?;
    let mut command = if user == 0 {
        Command::new(binary)
    } else {
        let names = UNIT.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
        let names = names.context("the unit gives no capabilities")?.to_lowercase();
        let sets: String =
            names.split(' ').map(|name| format!(",+{}", name.trim_start_matches("cap_"))).collect();
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
        for set in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
            command.arg(format!("{set}=-all{sets}"));
        }
        command.arg("--no-new-privs").arg(binary);
        command
    };
    command.args(["run", "--json", "--config"]).arg(files.directory.join("config.toml"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_")) {
        command.env_remove(name);
    }
    Ok(command)
}

/// What the service reads, and its lock.
struct Files<'a> {
    directory: &'a Path,
}

impl<'a> Files<'a> {
    /// The lock's directory is the user's, as systemd makes it; the rest is for root alone.
    fn make(directory: &'a Path, user: u32) -> anyhow::Result<Self> {
        let run = directory.join("run");
        // Root makes it where it is missing.
        if user != 0 {
            fs::create_dir(&run)?;
            chown(&run, Some(user), Some(user))?;
        }
        let files = Self { directory };
        fs::write(files.directory.join("secret"), SECRET)?;
        files.for_root_alone("secret")?;
        Ok(files)
    }

    fn for_root_alone(&self, name: &str) -> anyhow::Result<()> {
        Ok(fs::set_permissions(self.directory.join(name), fs::Permissions::from_mode(0o600))?)
    }

    fn export(&self, url: &str) -> String {
        let secret = self.directory.join("secret");
        format!(
            "endpoint = '{url}'\ncompression = 'none'\nheaders = {{ authorization = {{ file = '{}' }} }}",
            secret.display()
        )
    }

    fn write_config(&self, service: &str, interval: &str, export: &str) -> anyhow::Result<()> {
        let run = self.directory.join("run");
        let text = format!(
            "interval = '{interval}'\nstart_delay = '0s'\nslow_interval = '1s'\n\
             lock_file = '{0}/lock'\nstatus_socket = '{0}/status'\n\
             max_exits_per_vcpu = 1000000000\n[service]\n{service}\n[export]\n{export}\n",
            run.display()
        );
        fs::write(self.directory.join("config.toml"), text)?;
        self.for_root_alone("config.toml")
    }
}

/// A receiver on the loopback device that acknowledges everything. Returns its URL, and the heads of
/// requests.
fn collector() -> anyhow::Result<(String, Receiver<String>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    let (heads, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let heads = heads.clone();
            thread::spawn(move || acknowledge(&stream, &heads));
        }
    });
    Ok((url, received))
}

/// Until the connection is closed.
fn acknowledge(stream: &TcpStream, heads: &Sender<String>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
            head += &line;
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        let mut writer = stream;
        writer
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
            )
            .ok()?;
        heads.send(head).ok()?;
    }
}
