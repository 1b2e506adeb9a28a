//! The answer of a service as a page for people.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    duration,
    export::terminal,
    service::status::{Cost, Count, Destination, Programs, Snapshots, Status},
};

/// Columns of a part's name.
const LABEL: usize = 15;
/// Columns of a name that comes from elsewhere.
const NAME: usize = 64;
/// Columns of a text that comes from elsewhere.
const TEXT: usize = 200;

/// Renders the page. Every line ends with a newline; no character of it can do more to a terminal than print.
pub(super) fn render(status: &Status) -> String {
    let mut page = Page(String::new());
    page.head(status);
    page.follows(status);
    match &status.snapshots {
        Some(snapshots) => page.snapshots(snapshots, status.at_unix_ns),
        None => page.part("snapshots", "none yet"),
    }
    page.destinations(&status.destinations, status.at_unix_ns);
    page.lost(status);
    page.cost(&status.cost);
    page.programs(&status.cost.programs);
    page.0
}

struct Page(String);

impl Page {
    /// A line that begins a part.
    fn part(&mut self, name: &str, text: impl AsRef<str>) {
        let _ = writeln!(self.0, "{name:<LABEL$}{}", text.as_ref());
    }

    /// A further line of it.
    fn more(&mut self, text: impl AsRef<str>) {
        self.part("", text);
    }

    /// Lines that have their amounts below each other; the first begins the part. Whether there is one.
    fn amounts(&mut self, name: &str, lines: impl Iterator<Item = (String, String)>) -> bool {
        let mut name = Some(name);
        for (amount, of) in lines {
            self.part(name.take().unwrap_or_default(), format!("{amount:>10}  {of}"));
        }
        name.is_none()
    }

    fn head(&mut self, status: &Status) {
        let [version, host, kernel, level] =
            [&status.version, &status.host.name, &status.host.kernel, &status.level]
                .map(|text| terminal::fit(text, NAME));
        let _ = writeln!(self.0, "hvsampler {version} on {host}, Linux {kernel}, pid {}\n", status.pid);
        let since = moment(status.started_unix_ns);
        self.part("running since", format!("{since}, for {}", seconds(status.uptime_ns)));
        let every = duration::format(Duration::from_nanos(status.interval_ns));
        self.part("level", format!("{level}, every {every}"));
    }

    fn follows(&mut self, status: &Status) {
        let Some(follows) = &status.follows else { return };
        let count =
            |number: u64, thing| terminal::count(usize::try_from(number).unwrap_or(usize::MAX), thing);
        let shown = format!("{} with {}", count(follows.guests, "guest"), count(follows.vcpus, "vCPU"));
        let threads = format!(
            "{} of vCPUs, {}",
            count(follows.vcpu_threads, "thread"),
            count(follows.helper_threads, "helper thread")
        );
        self.part("follows", format!("{shown}; {threads}"));
    }

    fn snapshots(&mut self, snapshots: &Snapshots, now: u64) {
        let Snapshots { last_unix_ns, taken, late, skipped, failed, lateness_ns, last_lateness_ns } =
            *snapshots;
        self.part(
            "snapshots",
            format!("{taken}, the last {} ago", seconds(now.saturating_sub(last_unix_ns))),
        );
        let mean = lateness_ns.checked_div(taken).map(|ns| format!(", {} on average", length(ns)));
        let mean = mean.unwrap_or_default();
        self.more(format!("all read {} after it was due{mean}", length(last_lateness_ns)));
        self.more(format!("{late} late, {skipped} left out, {failed} failed"));
    }

    fn destinations(&mut self, destinations: &[Destination], now: u64) {
        if destinations.is_empty() {
            self.part("export", "none: no endpoint is set");
        }
        for to in destinations {
            self.part("export", terminal::fit(&to.target, TEXT));
            self.more(format!("{} requests with {} points taken", to.requests, to.points));
            let (bytes, limit) = (size(to.queue_bytes), size(to.queue_limit_bytes));
            self.more(format!("{} requests wait, {bytes} of {limit}", to.queue_requests));
            if to.rejected_points > 0 {
                self.more(format!("{} points rejected", to.rejected_points));
            }
            for given_up in to.dropped.iter().filter(|given_up| given_up.requests > 0) {
                let reason = terminal::fit(&given_up.reason, NAME);
                self.more(format!("{} points given up: {reason}", given_up.points));
            }
            if let Some(error) = &to.last_error {
                let ago = seconds(now.saturating_sub(error.at_unix_ns));
                let text = terminal::fit(&error.text, TEXT);
                self.more(format!(
                    "{} attempts failed; the last error {ago} ago: {text}",
                    to.failed_attempts
                ));
            }
        }
    }

    fn lost(&mut self, status: &Status) {
        let Some(lost) = &status.lost else { return };
        let line = |what: &str, Count { name, count }: &Count| {
            (*count > 0).then(|| (count.to_string(), format!("{what}{}", terminal::fit(name, NAME))))
        };
        let counters = lost.counters.iter().filter_map(|counter| line("", counter));
        let sinks = lost.sinks.iter().filter_map(|sink| line("snapshots dropped by ", sink));
        if !self.amounts("lost", counters.chain(sinks)) {
            self.part("lost", "nothing");
        }
    }

    fn cost(&mut self, cost: &Cost) {
        let cpu = cost.cpu_ns.map(|ns| format!("{} of CPU time", length(ns)));
        let memory = cost.resident_bytes.map(|bytes| format!("{} resident", size(bytes)));
        let all: Vec<String> = cpu.into_iter().chain(memory).collect();
        self.part("cost", if all.is_empty() { "not known".to_owned() } else { all.join(", ") });
        let threads = cost.threads.iter();
        let line = |name: &str, tid| format!("{} ({tid})", terminal::fit(name, NAME));
        self.amounts("threads", threads.map(|it| (length(it.cpu_ns), line(&it.name, it.tid))));
        if cost.threads_left_out > 0 {
            self.more(format!("and {} more", cost.threads_left_out));
        }
    }

    fn programs(&mut self, programs: &Programs) {
        let lines = programs.loaded.iter().filter_map(|program| {
            let (runs, time_ns) = (program.runs?, program.time_ns?);
            let each = time_ns.checked_div(runs).map(|ns| format!(", {ns} ns each")).unwrap_or_default();
            Some((length(time_ns), format!("{}: {runs} runs{each}", terminal::fit(&program.name, NAME))))
        });
        let are_shown = self.amounts("programs", lines);
        if let Some(fix) = &programs.fix {
            let (name, now) = if are_shown { ("", " now") } else { ("programs", "") };
            self.part(name, format!("their runs are not counted{now}: {}", terminal::fit(fix, TEXT)));
        }
    }
}

fn moment(unix_ns: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(unix_ns)).to_string()
}

/// A time in whole seconds.
fn seconds(ns: u64) -> String {
    duration::format(Duration::from_secs(ns / 1_000_000_000))
}

/// A time in the unit that shows it best.
fn length(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests;
