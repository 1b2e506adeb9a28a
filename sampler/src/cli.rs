//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use crate::{
    config::{self, DEFAULT_STATUS_SOCKET, LogLevel, Overrides, StartDelay},
    duration,
    export::{
        settings::Protocol,
        table::{COLUMNS, Column},
    },
    model::Level,
    service::Output,
};

/// eBPF kernel-side hypervisor sampler: what every vCPU of every guest on this host gets and is denied.
#[derive(Debug, Parser)]
#[command(
    name = "hvsampler",
    version,
    after_help = "Exit status: 0 on success, 1 on failure, 2 when the command line is wrong."
)]
pub struct Cli {
    /// Where the host's root is, in a container: machine-id, name and platforms' files are read below it, and
    /// `/proc` and `/sys` [default: /]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `hvsampler` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: sample for ever, and export to an OpenTelemetry collector.
    ///
    /// Settings come from the configuration file, then from OTEL_* variables, then from flags. SIGHUP reads
    /// them again; SIGTERM and SIGINT take a last snapshot, send what waits and end. Without a guest the
    /// service says so and watches.
    #[command(
        after_help = "Exit status: 0 after SIGTERM or SIGINT; 1 when the configuration cannot be used, another \
                            instance runs or sampling is not possible, and why is said; 2 when the command line is wrong."
    )]
    Run(RunArgs),
    /// Sample one interval, print it, and leave.
    ///
    /// Run time and run delay are the kernel's own counters, broken down by what the CPU time was for
    /// (GUEST%, KERNEL%, VMM%, POLL%; at level basic RUN%), by who had the CPU (STOLEN BY) and by quotas
    /// (THROTTLED%). Shares are of one vCPU's wall time.
    #[command(
        after_help = "Exit status: 0 when the interval is printed, also without any guest; 1 when sampling is not \
                            possible, and why is said; 2 when the command line is wrong."
    )]
    Once(OnceArgs),
    /// Say what this host can do and what is missing.
    ///
    /// Looks at the kernel, its description of its types, the privileges of this process, lockdown and
    /// limits, for guests, and at the configuration. Changes nothing.
    #[command(
        after_help = "Exit status: 0 when the sampler can work here (there may be warnings), 1 when something that \
                            it needs is missing, 2 when the command line is wrong."
    )]
    Check(CheckArgs),
    /// List the KVM guests of this host, with where each fact comes from.
    ///
    /// Below each guest are the devices that its VMM holds: where each is counted, or why it is not.
    ///
    /// Reads /proc and /sys only, so it works without eBPF; guests that other users run are found with
    /// CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
    #[command(
        after_help = "Exit status: 0 when the list is printed, also when it is empty; 1 when /proc cannot be read; \
                            2 when the command line is wrong."
    )]
    List(ListArgs),
    /// Ask the running service how it is: since when it runs, what it follows, costs and has lost.
    ///
    /// It answers on a unix socket (`status_socket` of its configuration): to root, to the user that it runs
    /// as, and to members of its group. What its eBPF programs cost is known while the kernel counts it
    /// (`sysctl kernel.bpf_stats_enabled=1`).
    #[command(
        after_help = "Exit status: 0 when the service has answered; 1 when it has not, and why is said; 2 when the \
                            command line is wrong."
    )]
    Status(StatusArgs),
    /// Look at the configuration: file, OTEL_* variables and flags, as `run` would use them.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write manual pages and completions into a directory, for packages.
    #[command(hide = true)]
    Pages(PagesArgs),
}

/// What `hvsampler config` can do. The flags are those of `run`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with the configuration, and which variables are not used.
    ///
    /// Keys, certificates and files with secrets are read too. Nothing is sent.
    #[command(
        after_help = "Exit status: 0 when the configuration can be used (there may be warnings), 1 when it cannot, 2 \
                            when the command line is wrong."
    )]
    Check(SettingsArgs),
    /// Print the configuration as a file, with where each value comes from in a comment behind it.
    ///
    /// Secrets are not shown: values of headers, what stands before an @ in a URL, and values of its query.
    #[command(
        after_help = "Exit status: 0 when it is printed, 1 when the configuration cannot be used, and why is said; 2 \
                            when the command line is wrong."
    )]
    Print(SettingsArgs),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What is configured.
    #[command(flatten)]
    pub settings: SettingsArgs,

    /// Show each snapshot as a table on standard output
    #[arg(long, conflicts_with = "json")]
    pub table: bool,

    /// What the table shows of a guest, in this order [default: what fits into 120 columns of text]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = column(), requires = "table")]
    pub columns: Vec<&'static Column>,

    /// Print every snapshot as a line of JSON on standard output, by schema/snapshot-1.schema.json
    ///
    /// The lines are what is exported, value for value. Where their reader falls behind by more than 64
    /// snapshots the next ones are skipped; `sampler.snapshots_dropped` counts them.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the configuration: the file, and what goes over it.
#[derive(Clone, Debug, Args)]
pub struct SettingsArgs {
    /// Configuration file [default: /etc/hvsampler/config.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Time between snapshots, at least 100ms
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub interval: Option<Duration>,

    /// URL of an OpenTelemetry collector, for example http://127.0.0.1:4318
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// How OTLP travels to the endpoint
    #[arg(long, value_parser = protocol())]
    pub protocol: Option<Protocol>,

    /// Wait before the first snapshot: "random" within the interval, or a duration
    #[arg(long, value_name = "DELAY", value_parser = StartDelay::parse)]
    pub start_delay: Option<StartDelay>,

    /// The most that is observed of guests: "full", or "basic" without KVM's hooks, which costs less
    ///
    /// At level basic CPU time is not broken down, and exits have no reasons. At level sampled one exit in 16
    /// is timed.
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    pub level: Option<Level>,

    /// Level of the service's own messages
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,

    /// Level of messages from the eBPF programs
    #[arg(long, value_name = "LEVEL")]
    pub bpf_log_level: Option<LogLevel>,
}

impl SettingsArgs {
    /// What goes over the configuration.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            interval: self.interval,
            start_delay: self.start_delay,
            endpoint: self.endpoint.clone(),
            protocol: self.protocol,
            level: self.level,
            log_level: self.log_level,
            bpf_log_level: self.bpf_log_level,
        }
    }
}

impl RunArgs {
    /// What standard output is for.
    #[must_use]
    pub fn output(&self) -> Output {
        match (self.table, self.json) {
            (true, _) => Output::Table(self.columns.clone()),
            (false, true) => Output::Json,
            (false, false) => Output::None,
        }
    }
}

/// Arguments of `once`.
#[derive(Clone, Debug, Args)]
pub struct OnceArgs {
    /// Length of the interval, at least 100ms
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "2s")]
    pub interval: Duration,

    /// What to print: a table for people, or JSON by schema/snapshot-1.schema.json
    #[arg(long, value_enum, default_value_t = OnceFormat::Table)]
    pub format: OnceFormat,

    /// What the table shows of a guest, in this order [default: what fits into 120 columns of text]
    ///
    /// The guest's name is always first. JSON always has everything.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = column())]
    pub columns: Vec<&'static Column>,

    /// A row for each vCPU below its guest (JSON always has them)
    #[arg(long)]
    pub vcpu: bool,

    /// The disks and network interfaces of the guests below them (JSON always has them)
    #[arg(long)]
    pub device: bool,

    /// The most that is observed of guests: "full", or "basic" without KVM's hooks, which costs less
    ///
    /// At level basic CPU time is not broken down, and exits have no reasons. At level sampled one exit in 16
    /// is timed.
    #[arg(long, value_name = "LEVEL", value_parser = level(), default_value = "full")]
    pub level: Level,
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Configuration file [default: /etc/hvsampler/config.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to print: text for people, or JSON by schema/check-1.schema.json
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// What to print: text for people, or JSON by schema/list-1.schema.json
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Print JSON by schema/status-1.schema.json
    #[arg(long)]
    pub json: bool,

    /// The service's socket: its `status_socket`
    #[arg(long, value_name = "PATH", default_value = DEFAULT_STATUS_SOCKET)]
    pub socket: PathBuf,
}

/// Arguments of `pages`.
#[derive(Clone, Debug, Args)]
pub struct PagesArgs {
    /// Where they are written
    pub directory: PathBuf,
}

/// For whom `once` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnceFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// For whom `check` and `list` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn interval(text: &str) -> Result<Duration, String> {
    config::check_interval(duration::parse(text).map_err(|error| error.to_string())?)
}

fn protocol() -> impl clap::builder::TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(["http/protobuf", "grpc"]).map(|text| match text.as_str() {
        "grpc" => Protocol::Grpc,
        _ => Protocol::HttpProtobuf,
    })
}

fn column() -> impl clap::builder::TypedValueParser<Value = &'static Column> {
    PossibleValuesParser::new(COLUMNS.iter().map(|column| column.key))
        .try_map(|key| Column::called(&key).ok_or("there is no such column"))
}

fn level() -> impl clap::builder::TypedValueParser<Value = Level> {
    // The most first: the default.
    let [basic, sampled, full] = Level::ALL.map(Level::key);
    PossibleValuesParser::new([full, sampled, basic])
        .map(|text| Level::ALL.into_iter().find(|level| level.key() == text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, Parser)]
    struct Run {
        #[command(flatten)]
        args: RunArgs,
    }

    #[derive(Debug, Parser)]
    struct Once {
        #[command(flatten)]
        args: OnceArgs,
    }

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
        Run::command().debug_assert();
        Once::command().debug_assert();
    }

    #[test]
    fn run_flags_become_overrides() {
        let run = Run::try_parse_from([
            "run",
            "--config",
            "/c.toml",
            "--interval",
            "500ms",
            "--endpoint",
            "http://c:4317",
            "--protocol",
            "grpc",
            "--start-delay",
            "0s",
            "--level",
            "basic",
            "--log-level",
            "debug",
            "--bpf-log-level",
            "trace",
            "--table",
        ])
        .unwrap();
        assert_eq!(run.args.output(), Output::Table(Vec::new()));
        assert_eq!(run.args.settings.config, Some(PathBuf::from("/c.toml")));
        assert_eq!(
            run.args.settings.overrides(),
            Overrides {
                interval: Some(Duration::from_millis(500)),
                start_delay: Some(StartDelay::Fixed(Duration::ZERO)),
                endpoint: Some("http://c:4317".to_owned()),
                protocol: Some(Protocol::Grpc),
                level: Some(Level::Basic),
                log_level: Some(LogLevel::Debug),
                bpf_log_level: Some(LogLevel::Trace),
            }
        );
        let none = Run::try_parse_from(["run"]).unwrap();
        assert_eq!(none.args.settings.overrides(), Overrides::default());
        assert_eq!(none.args.output(), Output::None);
    }

    #[test]
    fn standard_output_is_for_one_thing() {
        assert_eq!(Run::try_parse_from(["run", "--json"]).unwrap().args.output(), Output::Json);
        let both = Run::try_parse_from(["run", "--json", "--table"]).unwrap_err();
        assert_eq!(both.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    #[test]
    fn wrong_values_say_what_is_accepted() {
        for (flag, value, expected) in [
            ("--interval", "5", "250ms"),
            ("--interval", "1ms", "the shortest interval is 100ms"),
            ("--protocol", "http/json", "[possible values: http/protobuf, grpc]"),
            ("--start-delay", "soon", "neither \"random\" nor a duration"),
            ("--level", "most", "[possible values: full, sampled, basic]"),
            ("--log-level", "loud", "[possible values: off, error, warn, info, debug, trace]"),
        ] {
            let error = Run::try_parse_from(["run", flag, value]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn once_has_its_defaults() {
        let once = Once::try_parse_from(["once"]).unwrap().args;
        assert_eq!(
            (once.interval, once.format, once.vcpu, once.device, once.level),
            (Duration::from_secs(2), OnceFormat::Table, false, false, Level::Full)
        );
        assert_eq!(once.columns, Vec::<&Column>::new());
    }

    #[test]
    fn columns_are_shown_in_the_order_in_which_they_are_named() {
        let keys = |args: Vec<&'static Column>| args.iter().map(|column| column.key).collect::<Vec<_>>();
        let once = Once::try_parse_from(["once", "--columns", "steal,read", "--columns", "pid"]).unwrap();
        assert_eq!(keys(once.args.columns), ["steal", "read", "pid"]);
        let run = Run::try_parse_from(["run", "--table", "--columns", "in,out"]).unwrap();
        let Output::Table(columns) = run.args.output() else { panic!("a table was asked for") };
        assert_eq!(keys(columns), ["in", "out"]);
        let unknown = Once::try_parse_from(["once", "--columns", "cpu"]).unwrap_err();
        assert_eq!(unknown.exit_code(), 2);
        assert!(unknown.to_string().contains("[possible values: pid, vcpus, guest,"), "{unknown}");
        let alone = Run::try_parse_from(["run", "--columns", "in"]).unwrap_err();
        assert_eq!(alone.kind(), clap::error::ErrorKind::MissingRequiredArgument);
    }
}
