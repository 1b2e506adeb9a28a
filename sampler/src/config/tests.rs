use std::{collections::BTreeMap, ffi::OsString, fs, os::unix::ffi::OsStringExt as _};

use super::*;
use crate::export::settings::Protocol;

const EXAMPLE: &str = include_str!("../../../otel-config/hvsampler.toml");

struct Setup {
    dir: tempfile::TempDir,
    env: BTreeMap<&'static str, OsString>,
    flags: Overrides,
}

impl Setup {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.toml"), text).unwrap();
        Self { dir, env: BTreeMap::new(), flags: Overrides::default() }
    }

    fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.insert(name, value.into());
        self
    }

    fn load_with_warnings(&self) -> Result<Loaded, ConfigError> {
        let env = |name: &str| self.env.get(name).cloned();
        Config::load(Some(&self.dir.path().join("config.toml")), &env, &self.flags)
    }

    fn load(&self) -> Result<Config, ConfigError> {
        self.load_with_warnings().map(|loaded| loaded.config)
    }

    fn warnings(&self) -> Vec<String> {
        self.load_with_warnings().unwrap().warnings.iter().map(ToString::to_string).collect()
    }

    /// The error without the path of the directory.
    fn error(&self) -> String {
        let text = self.load().unwrap_err().to_string();
        text.strip_prefix(&format!("{}/", self.dir.path().display())).unwrap_or(&text).to_owned()
    }
}

fn load(text: &str) -> Config {
    Setup::new(text).load().unwrap()
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(load(""), Config::default());
}

#[test]
fn the_example_is_the_defaults() {
    assert_eq!(load(EXAMPLE), Config::default());
}

/// Every table's keys, as the parser itself lists them when it meets one that it does not know.
#[test]
fn the_example_shows_every_key() {
    for (table, inside) in [
        ("", ""),
        ("guests", "guests."),
        ("host", "host."),
        ("service", "service."),
        ("log", "log."),
        ("export", "export."),
        ("export.retry", "export.retry."),
        ("export.tls", "export.tls."),
    ] {
        let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
        let error = Setup::new(&format!("{header}bogus = 1")).error();
        let keys: Vec<_> = error.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() >= 2, "{error}");
        let start = if table.is_empty() { 0 } else { EXAMPLE.find(&header).unwrap() + header.len() };
        let section = EXAMPLE[start..].split("\n[").next().unwrap();
        for key in keys {
            let shown = section
                .lines()
                .any(|line| line.strip_prefix('#').unwrap_or(line).split(" = ").next() == Some(key))
                || EXAMPLE.contains(&format!("[{inside}{key}]"));
            assert!(shown, "{inside}{key} is not in otel-config/hvsampler.toml");
        }
    }
}

#[test]
fn every_key_that_the_example_leaves_out_is_right() {
    let all: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.contains(" = ") && !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = load(&all);
    assert!(config.export.endpoint.is_some() && config.export.tls.client_key.is_some(), "{config:?}");
}

#[test]
fn every_layer_is_over_the_one_before() {
    let mut setup =
        Setup::new("interval = '30s'\n[export]\nendpoint = 'http://file:4318'\n[log]\nlevel = 'error'");
    assert_eq!(setup.load().unwrap().interval, Duration::from_secs(30));
    setup = setup
        .env("OTEL_METRIC_EXPORT_INTERVAL", "2500")
        .env("OTEL_LOG_LEVEL", "DEBUG")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318");
    let config = setup.load().unwrap();
    assert_eq!(config.interval, Duration::from_millis(2500));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.export.endpoint.as_deref(), Some("http://env:4318"));
    setup.flags = Overrides {
        interval: Some(Duration::from_secs(1)),
        start_delay: Some(StartDelay::Fixed(Duration::ZERO)),
        endpoint: Some("http://flag:4317".to_owned()),
        protocol: Some(Protocol::Grpc),
        level: Some(Level::Basic),
        log_level: Some(LogLevel::Warn),
        bpf_log_level: Some(LogLevel::Trace),
    };
    let config = setup.load().unwrap();
    assert_eq!(config.interval, Duration::from_secs(1));
    assert_eq!(config.start_delay, StartDelay::Fixed(Duration::ZERO));
    assert_eq!(config.export.endpoint.as_deref(), Some("http://flag:4317"));
    assert_eq!(config.export.protocol, Protocol::Grpc);
    assert_eq!(config.levels(), Levels { most: Level::Basic, max_exits: 20_000 });
    let (level, bpf_level) = (LogLevel::Warn, LogLevel::Trace);
    assert_eq!(config.log, LogSettings { level, bpf_level, ..LogSettings::default() });
}

#[test]
fn the_endpoint_flag_beats_what_would_silence_it() {
    let mut setup = Setup::new("[export]\nmetrics_endpoint = 'http://file/x'\ndisabled = true");
    setup.flags.endpoint = Some("http://flag:4318".to_owned());
    let export = setup.load().unwrap().export;
    assert!(export.is_enabled());
    assert_eq!(export.target().unwrap().uri.host(), Some("flag"));
}

#[test]
fn attributes_are_in_the_order_of_the_table_and_each_is_once() {
    use crate::{export::settings::VmAttributes, model::Fact};
    let wanted =
        load("export.vm_attributes = ['uuid', 'labels', 'name', 'uuid', 'platform']").export.vm_attributes;
    assert_eq!(wanted, VmAttributes { facts: vec![Fact::Platform, Fact::Name, Fact::Uuid], labels: true });
}

#[test]
fn empty_variables_count_as_unset() {
    let setup = Setup::new("").env("OTEL_METRIC_EXPORT_INTERVAL", "").env("OTEL_LOG_LEVEL", "");
    assert_eq!(setup.load().unwrap(), Config::default());
}

#[test]
fn both_ends_of_the_nice_values_are_accepted() {
    assert_eq!((load("nice = -20").nice, load("nice = 19").nice, load("").nice), (-20, 19, -10));
}

#[test]
fn start_delays_are_drawn_within_the_interval() {
    let interval = Duration::from_secs(10);
    let drawn: Vec<_> = (0..200).map(|_| StartDelay::Random.draw(interval)).collect();
    assert!(drawn.iter().all(|delay| *delay < interval));
    assert!(
        drawn.iter().any(|delay| *delay > interval / 2) && drawn.iter().any(|delay| *delay < interval / 2)
    );
    assert_eq!(load("start_delay = '3s'").start_delay.draw(interval), Duration::from_secs(3));
    assert_eq!(load("start_delay = '0s'").start_delay.draw(interval), Duration::ZERO);
    assert_eq!(load("start_delay = 'random'").start_delay, StartDelay::Random);
}

#[track_caller]
fn assert_error(text: &str, start: &str) {
    let error = Setup::new(text).error();
    assert!(error.starts_with(start), "{error:?} does not start with {start:?}");
}

#[test]
fn errors_name_key_and_line() {
    assert_error("\n\ninterval = '5 parsecs'\n", "config.toml:3: interval: \"5 parsecs\" is not a duration");
    assert_error(
        "interval = '5ms'",
        "config.toml:1: interval: 5ms is too short; the shortest interval is 100ms",
    );
    assert_error("interval = 5", "config.toml:1: interval: has the wrong type; expected a string");
    for nice in ["-21", "20", "4294967286"] {
        let said = format!("config.toml:1: nice: {nice} is no nice value; give -20 (highest priority) to 19");
        assert_error(&format!("nice = {nice}"), &said);
    }
    assert_error("nice = 'high'", "config.toml:1: nice: has the wrong type; expected i64");
    assert_error("discovery_interval = '0s'", "config.toml:1: discovery_interval: is too short");
    assert_error(
        "# c\nintervall = '5s'",
        "config.toml:2: intervall: no such key; expected one of `interval`, ",
    );
    assert_error(
        "[log]\n\nlvl = 'x'",
        "config.toml:3: log.lvl: no such key; expected one of `level`, `modules`, `bpf_level`",
    );
    assert_error(
        "[log]\nlevel = 'loud'",
        "config.toml:2: log.level: unknown variant `loud`, expected one of `off`, ",
    );
    assert_error("start_delay = 'soon'", "config.toml:1: start_delay: neither \"random\" nor a duration: ");
    assert_error("[export.tls]\nca = 'x'", "config.toml:2: export.tls.ca: no such key; ");
    assert_error("export.tls.ca = 'x'", "config.toml:1: export.tls.ca: no such key; ");
    assert_error(
        "[export]\ntls = { insecure = 'x' }",
        "config.toml:2: export.tls.insecure: has the wrong type",
    );
    assert_error("[exports]\na = 1", "config.toml:1: exports: no such key; ");
    assert_error("log = 3", "config.toml:1: log: has the wrong type; ");
    assert_error("interval = '1s'\ninterval = '2s'", "config.toml:2: ");
    assert_error("interval = \n", "config.toml:1: ");
    assert_error("[export]\n\ntimeout = '0s'", "config.toml:3: export.timeout: is zero; ");
    assert_error("[export]\nendpoint = 'ftp://x'", "config.toml:2: export.endpoint: ");
    assert_error(
        "[guests]\n\ndeny = ['name=a', 'colour=b']",
        "config.toml:3: guests.deny: \"colour\" is no fact about a guest; give one of platform, name, ",
    );
    assert_error(
        "guests.allow = ['web']",
        "config.toml:1: guests.allow: \"web\" has no =; write FACT=PATTERN",
    );
    assert_error(
        "[guests]\nonly = []",
        "config.toml:2: guests.only: no such key; expected one of `allow`, `deny`, `labels`",
    );
    assert_error(
        "[export]\nvm_attributes = ['name', 'colour']",
        "config.toml:2: export.vm_attributes: \"colour\" is no fact about a guest; give some of platform, name, ",
    );
    assert_error("export.vm_attributes = 'name'", "config.toml:1: export.vm_attributes: has the wrong type");
    assert_error(
        "[export]\n\nfamilies_off = ['hypervisor.vm.exit.*', 'exits']",
        "config.toml:3: export.families_off: \"exits\" is the name of no metric; give names of docs/metrics.md",
    );
    assert_error("export.tls.client_key = '/k'", "config.toml:1: export.tls: one of ");
}

#[test]
fn errors_name_variable_or_flag() {
    let error = Setup::new("[export]\nendpoint = 'http://fine:4318'")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x")
        .error();
    assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: "), "{error}");
    let mut setup = Setup::new("");
    setup.flags.endpoint = Some("ftp://x".to_owned());
    assert!(setup.error().starts_with("--endpoint: "), "{}", setup.error());
}

#[test]
fn variables_that_cannot_be_used_are_named_and_the_setting_stays() {
    const FILE: &str = "interval = '30s'\nlog.level = 'error'\nexport.protocol = 'grpc'";
    for (name, value, said) in [
        (
            "OTEL_METRIC_EXPORT_INTERVAL",
            "soon",
            "=\"soon\" is no whole number of milliseconds: interval stays \"30s\"",
        ),
        (
            "OTEL_METRIC_EXPORT_INTERVAL",
            "99",
            "=\"99\" cannot be: 99ms is too short; the shortest interval is 100ms: interval stays \"30s\"",
        ),
        (
            "OTEL_LOG_LEVEL",
            "loud",
            "=\"loud\" is none of none, error, warn, info, debug, trace, off, warning: log.level stays \"error\"",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "udp",
            "=\"udp\" is none of grpc, http/protobuf: export.protocol stays \"grpc\"",
        ),
    ] {
        let setup = Setup::new(FILE).env(name, value);
        assert_eq!(setup.warnings(), [format!("{name}{said}")]);
        assert_eq!(setup.load().unwrap(), load(FILE));
    }
}

#[test]
fn a_configuration_file_of_opentelemetry_is_named_as_not_supported() {
    for name in ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"] {
        let warnings = Setup::new("").env(name, "/etc/otel.yaml").warnings();
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let begin = format!("{name}=\"/etc/otel.yaml\" names a file of a form that is not supported: /");
        assert!(warning.starts_with(&begin) && warning.contains("config.toml and "), "{warning}");
    }
}

#[test]
fn a_variable_that_is_not_utf_8_is_an_error() {
    for name in ["OTEL_LOG_LEVEL", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "OTEL_CONFIG_FILE"] {
        let error = Setup::new("").env(name, OsString::from_vec(vec![b'x', 0xff])).error();
        assert_eq!(error, format!("{name}: is not UTF-8; set it to text, or unset it"));
    }
}

/// What is set for all services of a host must not stop this one.
#[test]
fn a_host_full_of_variables_stops_nothing() {
    let setup = Setup::new("export.endpoint = 'http://file:4318'")
        .env("OTEL_SDK_DISABLED", "1")
        .env("OTEL_METRICS_EXPORTER", "console")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP")
        .env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
        .env("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "explicit_bucket_histogram");
    assert_eq!(setup.warnings().len(), 5, "all but GZIP: {:?}", setup.warnings());
    let export = setup.load().unwrap().export;
    assert!(export.is_enabled() && export.protocol == Protocol::HttpProtobuf);
}

#[test]
fn no_error_shows_a_header() {
    for text in [
        "[export]\nheaders = 'authorization=s3cret'",
        "[export]\nheaders = ['s3cret']",
        "[export.headers]\nauthorization = ['s3cret']",
        "[export.headers]\nauthorization = { s3cret = 's3cret' }",
        "[export.headers]\nauthorization = 's3cret\n'",
        "[export.headers]\nauthorization = 's3cret' x",
        "[export.headers]\nauthorization = \"s3cret\\n\"",
        "[export.headers]\nauthorization = 's3cret'\nauthorization = 's3cret'",
        "export = 's3cret'",
    ] {
        let setup = Setup::new(text);
        let error = setup.load().unwrap_err();
        for shown in [format!("{error}"), format!("{error:?}"), format!("{:#}", anyhow::Error::from(error))] {
            assert!(!shown.contains("s3cret"), "{text:?}: {shown}");
        }
    }
    let setup = Setup::new("").env("OTEL_EXPORTER_OTLP_HEADERS", "authorization s3cret");
    assert!(!setup.error().contains("s3cret"), "{}", setup.error());
}

/// What names a key that the settings do not have would show no origin.
#[test]
fn every_key_that_a_variable_or_a_flag_sets_exists() {
    let on = [
        ("OTEL_METRIC_EXPORT_INTERVAL", "2500"),
        ("OTEL_LOG_LEVEL", "debug"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_SERVICE_NAME", "hv"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a.b=c"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/cert"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
    ];
    let mut setup = Setup::new("export.metrics_endpoint = 'http://file'");
    setup = on.iter().fold(setup, |setup, &(name, value)| setup.env(name, value));
    let flags = Overrides {
        interval: Some(Duration::from_secs(1)),
        start_delay: Some(StartDelay::Random),
        endpoint: None,
        protocol: Some(Protocol::Grpc),
        level: Some(Level::Basic),
        log_level: Some(LogLevel::Warn),
        bpf_log_level: Some(LogLevel::Trace),
    };
    let exact = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://h:4318");
    for (more, flags) in [
        (None, Overrides::default()),
        (Some(exact), Overrides::default()),
        (None, flags),
        (None, Overrides { endpoint: Some("http://flag:1".to_owned()), ..Overrides::default() }),
    ] {
        let env = |name: &str| match more {
            Some((exact, value)) if name == exact => Some(value.into()),
            _ => setup.env.get(name).cloned(),
        };
        let examined = Config::examine(Some(&setup.dir.path().join("config.toml")), &env, &flags);
        let shown = toml::Value::try_from(&examined.config).unwrap();
        let exists = |key: &[String]| key.iter().try_fold(&shown, |table, part| table.get(part)).is_some();
        let set = examined.origins.keys().filter(|key| key.as_slice() != ["export", "metrics_endpoint"]);
        let keys: Vec<_> = set.collect();
        assert!(keys.len() >= on.len() - 2, "{keys:?}");
        assert!(keys.iter().all(|key| exists(key)), "{keys:?}");
    }
}

#[test]
fn a_named_file_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let error = Config::load(Some(&path), &|_| None, &Overrides::default()).unwrap_err();
    assert!(error.to_string().ends_with("none.toml: the configuration cannot be read"), "{error}");
    assert!(file::ConfigFile::read_if_present(&path).unwrap().is_none());
}
