//! `hvsampler check`: what this host can do.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::entries;
use crate::{
    agent,
    cli::Format,
    collect::procfs::{ProcFs, Scan},
    config::Examined,
    export::{
        json::{self, HostJson},
        terminal,
    },
    kernel::{
        Root, calls, capability,
        check::{CheckItem, CheckStatus, all_needed},
        host, kvm, limits, lockdown, memlock, namespace, proc_mount, ring, vmlinux,
    },
    load::{self, Probe, When},
    model::Host,
};

/// Value of `schema` in the JSON form.
pub const SCHEMA: &str = "hvsampler.check/1";

/// Everything that is looked at without loading a program, in the order it is shown.
const CHECKS: &[fn(&Root) -> CheckItem] = &[
    proc_mount::check,
    vmlinux::check,
    ring::check,
    capability::check_bpf,
    capability::check_discovery,
    calls::check_namespaces,
    calls::check_descriptors,
    lockdown::check,
    memlock::check,
    namespace::check_pid,
    namespace::check_cgroup,
    namespace::check_time,
    kvm::check,
    check_guests,
];

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The host.
    pub host: Host,
    /// One row for each check.
    pub items: Vec<CheckItem>,
}

impl Report {
    /// Makes all checks that need no program loaded.
    ///
    /// # Errors
    /// The host has no /proc or /sys.
    pub fn of(root: &Root) -> Result<Self> {
        let items: Vec<CheckItem> = CHECKS.iter().map(|check| check(root)).collect();
        let host = match host::read(root) {
            Ok(host) => host,
            // Where a row says what hides the host, that is the report.
            Err(_) if !all_needed(&items) => Host::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { host, items })
    }

    /// Loads and attaches each hook and takes it away again: one row for each. Where something that the
    /// programs need is missing already, nothing is tried. Guests that run are sampled for a moment.
    #[must_use]
    pub fn with_hooks(mut self, root: &Root) -> Self {
        if self.can_work() {
            limits::lift_memlock();
            self.items.extend(hooks(kvm::is_loaded(root)));
        }
        if self.can_work() && kvm::is_loaded(root) {
            self.items.extend(entries::check());
        }
        self
    }

    /// Adds what there is to say of the configuration, one row for each piece.
    #[must_use]
    pub fn with_configuration(mut self, examined: &Examined) -> Self {
        self.items.extend(super::config::rows(examined));
        self
    }

    /// Whether nothing that the sampler needs is missing.
    #[must_use]
    pub fn can_work(&self) -> bool {
        all_needed(&self.items)
    }

    /// Renders the report; every line ends with a newline.
    ///
    /// # Errors
    /// None that a report can cause.
    pub fn render(&self, format: Format) -> serde_json::Result<String> {
        match format {
            Format::Text => Ok(self.text()),
            Format::Json => json::render(&Json {
                schema: SCHEMA,
                host: HostJson::of(&self.host),
                can_work: self.can_work(),
                items: &self.items,
            }),
        }
    }

    fn text(&self) -> String {
        let host = &self.host;
        let name = terminal::fit(&host.name, 64);
        let kernel = terminal::fit(&host.kernel, 64);
        let cpus = terminal::count(host.cpus as usize, "CPU");
        let mut text = format!("{name}: Linux {kernel}, {}, {cpus}\n\n", host.arch);
        let width = self.items.iter().map(|item| terminal::columns_of(&item.name)).max().unwrap_or(0);
        for item in &self.items {
            let status = match item.status {
                CheckStatus::Ok => "ok",
                CheckStatus::Warn => "warn",
                CheckStatus::Fail => "FAIL",
            };
            let _ =
                writeln!(text, "{status:<4}  {:<width$}  {}", item.name, terminal::printable(&item.detail));
            if let Some(fix) = &item.fix {
                let _ = writeln!(text, "{:<4}  {:<width$}  fix: {}", "", "", terminal::printable(fix));
            }
        }
        text.push_str(match self.can_work() {
            true => "\nThe sampler can work here.\n",
            false => "\nThe sampler cannot work here until what FAILs is fixed.\n",
        });
        text
    }
}

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    host: HostJson<'a>,
    can_work: bool,
    items: &'a [CheckItem],
}

fn hooks(kvm_is_loaded: bool) -> Vec<CheckItem> {
    const UNKNOWN_KERNEL: &str = "run a kernel that the README lists, or report this one with its BTF";
    match load::probe(agent::options(0)) {
        Ok(probes) => {
            let reasons = probes.iter().find_map(reasons);
            probes.into_iter().map(|probe| hook(probe, kvm_is_loaded)).chain(reasons).collect()
        }
        Err(error) => vec![CheckItem::fail("eBPF programs", error.to_string(), UNKNOWN_KERNEL)],
    }
}

fn hook(probe: Probe, kvm_is_loaded: bool) -> CheckItem {
    let name = format!("hook {}", probe.hook.name);
    match probe.result {
        Ok(way) => CheckItem::ok(name, format!("{}: {}", way.label(), probe.hook.gives)),
        // The tracepoints are the module's. The service waits for it, so that this says nothing of the
        // kernel.
        Err(_) if probe.hook.when == When::Guests && !kvm_is_loaded => CheckItem::warn(
            name,
            format!("kvm is not loaded: attached with the first guest, for {}", probe.hook.gives),
            "nothing to do: the sampler waits for it. Load kvm_amd or kvm_intel to have this checked",
        ),
        Err(reasons) if probe.hook.needed => CheckItem::fail(
            name,
            format!("{reasons}; without it there is no {}", probe.hook.gives),
            "report this kernel with its BTF",
        ),
        Err(reasons) => CheckItem::warn(
            name,
            format!("{reasons}; without it there is no {}", probe.hook.gives),
            "nothing to do: the sampler works without it",
        ),
    }
}

/// Whether the hook on exits reports why; nothing where there is none.
fn reasons(probe: &Probe) -> Option<CheckItem> {
    const NAME: &str = "reasons of exits";
    let way = *probe.result.as_ref().ok()?;
    (probe.hook.name == load::KVM_EXIT).then(|| match load::has_exit_reasons(way) {
        Ok(true) => CheckItem::ok(NAME, "why guests exit"),
        Ok(false) => CheckItem::warn(
            NAME,
            "the kernel neither passes them nor publishes where its module for this processor keeps them: all exits are \"other\"",
            "load kvm_amd or kvm_intel; if they are, a kernel with CONFIG_DEBUG_INFO_BTF_MODULES",
        ),
        Err(error) => CheckItem::warn(NAME, error.to_string(), "report this kernel with its BTF"),
    })
}

fn check_guests(root: &Root) -> CheckItem {
    const NAME: &str = "guests";
    match ProcFs::at(root.path("proc")).scan() {
        Ok(scan) => guests(NAME, &scan, capability::discovery_fix(root)),
        Err(error) => CheckItem::warn(NAME, error.to_string(), "mount /proc"),
    }
}

fn guests(name: &'static str, scan: &Scan, fix: String) -> CheckItem {
    let vcpus: usize = scan.guests.iter().map(|guest| guest.vcpu_ids.len()).sum();
    let (guests, vcpus) = (terminal::count(scan.guests.len(), "guest"), terminal::count(vcpus, "vCPU"));
    let found = format!("{guests} with {vcpus} among {} processes", scan.processes);
    if scan.denied == 0 {
        return CheckItem::ok(name, found);
    }
    CheckItem::warn(name, format!("{found}, {} of which may not be looked into", scan.denied), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Overrides},
        load::{HOOKS, HookError},
    };

    fn report(items: Vec<CheckItem>) -> Report {
        let host = Host {
            id: None,
            name: "h\x1b[31m".to_owned(),
            kernel: "6.1.0".to_owned(),
            arch: "amd64".to_owned(),
            cpus: 4,
            ..Host::default()
        };
        Report { host, items }
    }

    #[test]
    fn only_failures_keep_the_sampler_from_work() {
        let rows = vec![CheckItem::ok("a", "x"), CheckItem::warn("b", "y", "z")];
        assert!(report(rows.clone()).can_work());
        let failed = report(rows.into_iter().chain([CheckItem::fail("c", "d", "e")]).collect());
        assert!(!failed.can_work());
        assert!(failed.render(Format::Json).unwrap().contains("\"can_work\":false"));
    }

    #[test]
    fn text_lines_up_and_is_safe() {
        let rows =
            vec![CheckItem::ok("short", "fine"), CheckItem::fail("much longer", "bad\nnews", "do this")];
        assert_eq!(
            report(rows).render(Format::Text).unwrap(),
            "h\\u{1b}[31m: Linux 6.1.0, amd64, 4 CPUs\n\n\
             ok    short        fine\n\
             FAIL  much longer  bad\\nnews\n\
             \u{20}                  fix: do this\n\n\
             The sampler cannot work here until what FAILs is fixed.\n"
        );
    }

    #[test]
    fn a_hook_of_kvm_s_waits_for_its_module_and_fails_beside_it() {
        let refused = |when| {
            let hook = HOOKS.iter().find(|hook| hook.when == when && hook.needed).unwrap();
            Probe { hook, result: Err(HookError::Ways(Vec::new())) }
        };
        let status = |when, kvm_is_loaded| hook(refused(when), kvm_is_loaded).status;
        assert_eq!(status(When::Guests, false), CheckStatus::Warn);
        assert_eq!(status(When::Guests, true), CheckStatus::Fail);
        assert_eq!(status(When::Start, false), CheckStatus::Fail);
        assert!(hook(refused(When::Guests), false).detail.starts_with("kvm is not loaded"));
    }

    #[test]
    fn the_configuration_has_its_rows() {
        let fine = report(Vec::new()).with_configuration(&Examined::default());
        assert_eq!(fine.items, [CheckItem::ok("configuration", "can be used")]);
        let get = |name: &str| (name == "OTEL_LOG_LEVEL").then(|| "loud".into());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "").unwrap();
        let read = || Config::examine(Some(&path), &get, &Overrides::default());
        let warned = report(Vec::new()).with_configuration(&read());
        assert!(warned.can_work() && warned.items.len() == 1, "{:?}", warned.items);
        assert!(warned.items[0].detail.starts_with("OTEL_LOG_LEVEL=\"loud\" is none of "));
        std::fs::write(&path, "intervall = '1s'").unwrap();
        let failed = report(Vec::new()).with_configuration(&read());
        assert!(!failed.can_work() && failed.items.len() == 2, "{:?}", failed.items);
        assert!(failed.items[0].detail.contains("config.toml:1: intervall: no such key"));
    }

    #[test]
    fn processes_that_may_not_be_seen_are_a_warning() {
        let scan = Scan { processes: 9, denied: 3, ..Scan::default() };
        let item = guests("guests", &scan, "do this".to_owned());
        assert_eq!(item.status, CheckStatus::Warn);
        assert!(item.detail.contains("3 of which may not be looked into"), "{}", item.detail);
    }
}
