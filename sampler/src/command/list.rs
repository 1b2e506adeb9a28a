//! `hvsampler list`: the guests of this host and where each fact about them comes from.

mod devices;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    cli::Format,
    collect::{
        attached::FoundDevices,
        platform::{self, Files, GuestIdentity, Sourced},
        procfs::{GuestProcess, MAX_ARG, ProcError, ProcFs, ProcessFacts, Scan},
    },
    export::{
        json::{self, HostJson},
        terminal,
    },
    kernel::{Root, host},
    model::{FACTS, Fact, FactRow, Facts, Host},
};

/// Value of `schema` in the JSON form.
pub const SCHEMA: &str = "hvsampler.list/1";

/// Time that a guest's process has to hand out its command line, and its platform to say the rest. A process
/// that hangs may never do; a file system that hangs takes half of it, once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where vCPUs are from.
const VCPUS_FROM: &str = "/proc/PID/fd";

/// Columns that a name may take in text.
const NAME_COLUMNS: usize = 128;

/// A guest with what is known of it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The process that runs it.
    pub process: GuestProcess,
    /// Who it is; or why that is not known.
    pub identity: Result<GuestIdentity, String>,
    /// Arguments of its command line that were not read to their end.
    pub cut: usize,
    /// Its devices; or why they are not known.
    pub devices: Result<FoundDevices, String>,
}

/// The guests of a host.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The host.
    pub host: Host,
    /// The guests, ordered by pid.
    pub guests: Vec<Listed>,
    /// What the search met.
    pub scan: Scan,
}

impl Listing {
    /// Finds the guests and asks who they are.
    ///
    /// # Errors
    /// /proc or /sys is not mounted.
    pub fn of(root: &Root) -> Result<Self> {
        let proc = ProcFs::at(root.path("proc"));
        let files = Arc::new(Files::below(root.clone()));
        let host = host::read(root)?;
        let mut scan = proc.scan()?;
        let mut guests = Vec::new();
        let found = std::mem::take(&mut scan.guests);
        let owners = devices::Owners::of(&proc, &found);
        for process in found {
            let (identity, cut, args) = match identity(&proc, &process, &files) {
                Err(Unknown::Gone) => {
                    scan.vanished += 1;
                    continue;
                }
                Err(Unknown::Reason(reason)) => (Err(reason), 0, Vec::new()),
                Ok((identity, facts)) => (Ok(identity), facts.cut, facts.args),
            };
            match devices::of(&proc, process.pid, args, root.path("sys"), owners.is_alone(process.pid)) {
                Err(Unknown::Gone) => scan.vanished += 1,
                Err(Unknown::Reason(reason)) => {
                    guests.push(Listed { process, identity, cut, devices: Err(reason) });
                }
                Ok(devices) => guests.push(Listed { process, identity, cut, devices: Ok(devices) }),
            }
        }
        Ok(Self { host, guests, scan })
    }

    /// Renders the list; every line ends with a newline.
    ///
    /// # Errors
    /// None that a list can cause.
    pub fn render(&self, format: Format) -> serde_json::Result<String> {
        match format {
            Format::Text => Ok(self.text()),
            Format::Json => json::render(&Json {
                schema: SCHEMA,
                host: HostJson::of(&self.host),
                vms: self.guests.iter().map(VmJson::of).collect(),
                scan: ScanJson::of(&self.scan),
            }),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for guest in &self.guests {
            guest.write(&mut text);
        }
        if self.guests.is_empty() {
            text.push_str("No KVM guest runs on this host, as far as this process may see.\n");
        }
        for (count, what) in [
            (self.scan.denied, "may not be looked into; `hvsampler check` says why"),
            (self.scan.truncated, "have more descriptors than are looked at"),
            (self.scan.failed, "could not be read"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{count} of {} processes {what}.", self.scan.processes);
            }
        }
        text
    }
}

enum Unknown {
    Gone,
    Reason(String),
}

fn identity(
    proc: &ProcFs,
    process: &GuestProcess,
    files: &Arc<Files>,
) -> Result<(GuestIdentity, ProcessFacts), Unknown> {
    let (proc, pid, start) = (proc.clone(), process.pid, process.start_boottime_ns);
    let files = Arc::clone(files);
    let identify = move || {
        let facts = proc.facts(pid, start)?;
        Ok((platform::identify(&facts, &files), facts))
    };
    match patiently(format!("identify-{pid}"), identify) {
        Ok(Ok(known)) => Ok(known),
        Ok(Err(ProcError::Gone { .. })) => Err(Unknown::Gone),
        Ok(Err(error)) => Err(Unknown::Reason(error.to_string())),
        Err(reason) => Err(Unknown::Reason(reason)),
    }
}

/// Asks on a thread of its own: one guest that hangs must not keep the others from being listed. The thread
/// is left behind if it does, and ends with this process.
fn patiently<T: Send + 'static>(name: String, ask: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (answer, wait) = mpsc::channel();
    let ask = move || {
        let _ = answer.send(ask());
    };
    thread::Builder::new().name(name).spawn(ask).map_err(|error| error.to_string())?;
    wait.recv_timeout(PATIENCE).map_err(|_| "its process does not answer: it may hang".to_owned())
}

/// What every guest should have: where one is missing the list says so.
const EXPECTED: [Fact; 2] = [Fact::Name, Fact::Uuid];

impl Listed {
    /// Why a fact is missing that a command line may have.
    fn missing(&self) -> String {
        const ABSENT: &str = "not known";
        match self.cut {
            0 => ABSENT.to_owned(),
            1 => format!("{ABSENT}; of one argument the first {MAX_ARG} bytes at most were looked at"),
            cut => format!("{ABSENT}; of {cut} arguments the first {MAX_ARG} bytes at most were looked at"),
        }
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "pid {}", self.process.pid);
        let mut fact = |what: &str, value: &str, from: &str| {
            let _ = writeln!(text, "  {what:<11} {}  ({from})", terminal::fit(value, NAME_COLUMNS));
        };
        match &self.identity {
            Ok(identity) => {
                for FactRow { fact: which, key, .. } in FACTS {
                    match identity.get(*which) {
                        Some(Sourced { value, from }) => fact(key, value, from),
                        None if EXPECTED.contains(which) => fact(key, "-", &self.missing()),
                        None => {}
                    }
                }
                if let Some(trouble) = identity.trouble() {
                    fact("trouble", "-", &terminal::printable(trouble));
                }
            }
            Err(reason) => fact("identity", "-", &terminal::printable(reason)),
        }
        fact("vcpus", &ranges(&self.process.vcpu_ids), VCPUS_FROM);
        match &self.devices {
            Ok(devices) => devices::write_all(devices, &mut fact),
            Err(reason) => fact("devices", "-", &terminal::printable(reason)),
        }
    }
}

/// Ascending numbers, shortened: `0-3,8`.
fn ranges(ids: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &id in ids {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    host: HostJson<'a>,
    vms: Vec<VmJson<'a>>,
    scan: ScanJson,
}

#[derive(Serialize)]
struct VmJson<'a> {
    pid: u32,
    start_boottime_ns: u64,
    name: Option<&'a str>,
    uuid: Option<&'a str>,
    platform: &'a str,
    vcpus: Vec<VcpuJson>,
    facts: BTreeMap<&'static str, FactJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<Vec<devices::DeviceJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices_left_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// A fact, and where it is from.
#[derive(Serialize)]
struct FactJson<'a> {
    value: &'a str,
    from: &'static str,
}

#[derive(Serialize)]
struct VcpuJson {
    index: u32,
}

#[derive(Serialize)]
struct ScanJson {
    processes: u64,
    denied: u64,
    vanished: u64,
    truncated: u64,
    failed: u64,
}

impl<'a> VmJson<'a> {
    fn of(guest: &'a Listed) -> Self {
        let identity = guest.identity.as_ref().ok();
        let value = |fact| identity.and_then(|identity| identity.get(fact)).map(|found| &*found.value);
        let facts = identity.into_iter().flat_map(GuestIdentity::iter);
        let facts = facts.map(|(row, Sourced { value, from })| (row.attribute, FactJson { value, from }));
        let trouble = identity.and_then(GuestIdentity::trouble);
        let devices = guest.devices.as_ref().ok();
        Self {
            pid: guest.process.pid,
            start_boottime_ns: guest.process.start_boottime_ns,
            name: value(Fact::Name),
            uuid: value(Fact::Uuid),
            platform: value(Fact::Platform).unwrap_or(Facts::UNKNOWN_PLATFORM),
            vcpus: guest.process.vcpu_ids.iter().map(|&index| VcpuJson { index }).collect(),
            facts: facts.collect(),
            devices: devices.map(|devices| devices.all.iter().map(devices::DeviceJson::of).collect()),
            devices_left_out: devices.map(|devices| devices.left_out),
            problem: trouble.or(guest.identity.as_ref().err().map(String::as_str)).or(guest
                .devices
                .as_ref()
                .err()
                .map(String::as_str)),
        }
    }
}

impl ScanJson {
    fn of(scan: &Scan) -> Self {
        Self {
            processes: scan.processes,
            denied: scan.denied,
            vanished: scan.vanished,
            truncated: scan.truncated,
            failed: scan.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shortened_to_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0]), "0");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[u32::MAX - 1, u32::MAX]), "4294967294-4294967295");
    }
}
