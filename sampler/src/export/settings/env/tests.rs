use std::{collections::HashMap, ffi::OsString};

use super::*;

/// What was said of the variables.
struct Said {
    warnings: Vec<String>,
    problems: Vec<SettingError>,
}

fn apply_to(settings: &mut ExportSettings, variables: &[(&str, &str)]) -> Said {
    let values: HashMap<_, _> = variables.iter().copied().collect();
    let get = |name: &str| values.get(name).map(OsString::from);
    let mut variables = Variables::new(&get);
    settings.apply_env(&mut variables);
    Said {
        warnings: variables.warnings.iter().map(ToString::to_string).collect(),
        problems: variables.problems,
    }
}

/// The settings, and what is not used.
fn applied_with_warnings(variables: &[(&str, &str)]) -> (ExportSettings, Vec<String>) {
    let mut settings = ExportSettings::default();
    let Said { warnings, problems } = apply_to(&mut settings, variables);
    assert!(problems.is_empty(), "{problems:?}");
    (settings, warnings)
}

#[track_caller]
fn applied(variables: &[(&str, &str)]) -> ExportSettings {
    let (settings, warnings) = applied_with_warnings(variables);
    assert!(warnings.is_empty(), "{warnings:?}");
    settings
}

fn problem(name: &str, value: &str) -> SettingError {
    let mut settings = ExportSettings::default();
    let Said { mut problems, .. } = apply_to(&mut settings, &[(name, value)]);
    assert_eq!((problems.len(), &settings), (1, &ExportSettings::default()));
    problems.remove(0)
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn headers(headers: &[(&str, &str)]) -> Headers {
    Headers(headers.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect())
}

#[test]
fn nothing_set_changes_nothing() {
    assert_eq!(applied(&[]), ExportSettings::default());
}

#[test]
fn empty_is_unset() {
    let names = [
        "ENDPOINT",
        "METRICS_ENDPOINT",
        "PROTOCOL",
        "HEADERS",
        "COMPRESSION",
        "TIMEOUT",
        "INSECURE",
        "CERTIFICATE",
        "CLIENT_KEY",
        "CLIENT_CERTIFICATE",
    ];
    let names: Vec<_> = names.iter().map(|suffix| format!("OTEL_EXPORTER_OTLP_{suffix}")).collect();
    let mut variables: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    variables.extend([
        ("OTEL_SERVICE_NAME", " "),
        ("OTEL_RESOURCE_ATTRIBUTES", ""),
        ("OTEL_SDK_DISABLED", ""),
        ("OTEL_METRICS_EXPORTER", ""),
    ]);
    assert_eq!(applied(&variables), ExportSettings::default());
}

#[test]
fn an_empty_specific_variable_does_not_hide_the_general_one() {
    let settings = applied(&[
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", ""),
    ]);
    assert_eq!(settings.timeout, Duration::from_millis(1500));
    assert_eq!(settings.target().unwrap().uri, "http://h:4318/v1/metrics");
}

#[test]
fn the_variable_for_metrics_beats_the_general_one() {
    let settings = applied(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://metrics:2/in"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=general"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "b=metrics"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
        ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/general"),
        ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/metrics"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/cert"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
    ]);
    assert_eq!(settings.target().unwrap().uri, "https://metrics:2/in");
    assert_eq!(settings.protocol, Protocol::HttpProtobuf);
    assert_eq!(settings.headers, headers(&[("b", "metrics")]));
    assert_eq!(settings.compression, Compression::None);
    assert_eq!(settings.timeout, Duration::from_millis(2));
    assert!(settings.tls.insecure);
    assert_eq!(settings.tls.ca_certificate.as_deref(), Some("/metrics".as_ref()));
    assert_eq!(settings.tls.client_certificate.as_deref(), Some("/cert".as_ref()));
    assert_eq!(settings.tls.client_key.as_deref(), Some("/key".as_ref()));
    settings.validate().unwrap();
}

#[test]
fn the_environment_beats_the_file() {
    let mut settings: ExportSettings = toml::from_str(
        r#"
        metrics_endpoint = "http://file:1/exact"
        headers = { from = "file", secret = "file" }
        service_name = "file"
        resource_attributes = { "service.name" = "file", kept = "file", changed = "file" }
        "#,
    )
    .unwrap();
    let said = apply_to(
        &mut settings,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "from=env"),
            ("OTEL_SERVICE_NAME", "env"),
            ("OTEL_RESOURCE_ATTRIBUTES", "changed=env,added=env"),
        ],
    );
    assert!(said.warnings.is_empty() && said.problems.is_empty());
    assert_eq!(settings.target().unwrap().uri, "http://env:2/v1/metrics");
    assert_eq!(settings.headers, headers(&[("from", "env")]), "one option, replaced as a whole");
    assert_eq!(settings.service_name, "env");
    assert_eq!(
        settings.resource_attributes,
        pairs(&[("kept", "file"), ("changed", "env"), ("added", "env")])
    );
}

#[test]
fn the_service_name_variable_beats_the_resource_attribute() {
    let settings = applied(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,x=y"), ("OTEL_SERVICE_NAME", "b")]);
    assert_eq!(settings.service_name, "b");
    assert_eq!(settings.resource_attributes, pairs(&[("x", "y")]));
}

#[test]
fn lists_are_percent_decoded_and_trimmed() {
    let settings = applied(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20dTpw%3D%3D , x-empty=, ,x-eq=a=b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "dc=M%C3%BCnchen,list=a%2Cb"),
    ]);
    assert_eq!(
        settings.headers,
        headers(&[("authorization", "Basic dTpw=="), ("x-empty", ""), ("x-eq", "a=b")])
    );
    assert_eq!(settings.resource_attributes, pairs(&[("dc", "München"), ("list", "a,b")]));
}

#[test]
fn grpc_without_a_scheme_follows_insecure() {
    for (insecure, expected) in [("true", "http"), ("TRUE", "http"), ("false", "https")] {
        let settings = applied(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_INSECURE", insecure),
        ]);
        assert_eq!(settings.target().unwrap().uri.scheme_str(), Some(expected));
    }
}

#[test]
fn exporter_and_sdk_switches() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1");
    assert!(applied(&[endpoint]).is_enabled());
    assert!(!applied(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).is_enabled());
    assert!(!applied(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]).is_enabled());
    assert!(!applied(&[("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_SDK_DISABLED", "True")]).is_enabled());
    assert!(applied(&[endpoint, ("OTEL_SDK_DISABLED", "false")]).is_enabled());

    let by_default = applied(&[("OTEL_METRICS_EXPORTER", "otlp")]);
    assert_eq!(by_default.target().unwrap().uri, "http://localhost:4318/v1/metrics");
    let grpc = applied(&[("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert_eq!(grpc.target().unwrap().uri.port_u16(), Some(4317));
}

#[test]
fn what_cannot_be_used_is_named_and_changes_nothing() {
    for (name, value, said) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "is none of grpc, http/protobuf: export.protocol stays"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "udp", "export.protocol stays \"http/protobuf\""),
        (
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "deflate",
            "is none of none, gzip, zstd: export.compression stays \"auto\"",
        ),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "auto", "export.compression stays \"auto\""),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds above 0: export.timeout stays \"10s\""),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0", "export.timeout stays \"10s\""),
        ("OTEL_EXPORTER_OTLP_INSECURE", "yes", "is neither true nor false: it counts as false"),
        ("OTEL_SDK_DISABLED", "1", "is neither true nor false: it counts as false"),
        ("OTEL_METRICS_EXPORTER", "console", "is no exporter of the sampler"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "cumulativetodelta"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "explicit_bucket_histogram",
            "distributions stay base2_exponential_bucket_histogram",
        ),
    ] {
        let (settings, warnings) = applied_with_warnings(&[(name, value)]);
        assert_eq!(settings, ExportSettings::default(), "{name}");
        let [warning] = &warnings[..] else { panic!("{name}: {warnings:?}") };
        assert!(warning.starts_with(&format!("{name}={value:?} ")) && warning.contains(said), "{warning}");
    }
}

#[test]
fn an_sdk_that_is_disabled_by_1_is_not() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1");
    assert!(applied_with_warnings(&[endpoint, ("OTEL_SDK_DISABLED", "1")]).0.is_enabled());
}

#[test]
fn what_cannot_be_used_hides_nothing_that_can() {
    let (settings, warnings) = applied_with_warnings(&[
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_METRICS_EXPORTER", "console, otlp"),
    ]);
    assert_eq!(settings.protocol, Protocol::Grpc);
    assert!(settings.is_enabled(), "one of the exporters is ours");
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].ends_with(": export.protocol stays \"grpc\""), "{warnings:?}");
    assert!(warnings[1].starts_with("OTEL_METRICS_EXPORTER=\"console\" "), "{warnings:?}");
}

#[test]
fn case_does_not_matter_where_a_value_is_one_of_some() {
    let settings = applied(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE"),
        ("OTEL_METRICS_EXPORTER", "OTLP"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "BASE2_EXPONENTIAL_BUCKET_HISTOGRAM"),
    ]);
    assert_eq!(settings.protocol, Protocol::Grpc);
    assert_eq!(settings.compression, Compression::Gzip);
    assert!(settings.tls.insecure && settings.is_enabled());
}

#[test]
fn resource_attributes_that_cannot_be_read_are_left_out_as_a_whole() {
    let (settings, warnings) = applied_with_warnings(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b,token")]);
    assert_eq!(settings, ExportSettings::default());
    let said = &warnings[0];
    assert!(
        said.starts_with("OTEL_RESOURCE_ATTRIBUTES entry 2 has no \"=\": all of it is left out"),
        "{said}"
    );
    assert!(!said.contains("token"), "it may be a secret: {said}");
}

/// What would send elsewhere, or as somebody else.
#[test]
fn endpoints_and_headers_that_cannot_be_used_are_errors() {
    for (name, value, accepted) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "which of the two"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "ftp://h", "which of the two"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "novalue", "key=value"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "=v", "key=value"),
    ] {
        let error = problem(name, value);
        assert_eq!(error.name, name);
        assert!(error.to_string().contains(accepted), "{error}");
    }
}

#[test]
fn compression_may_be_any_that_is_sent() {
    for (value, expected) in
        [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)]
    {
        let settings = applied(&[("OTEL_EXPORTER_OTLP_COMPRESSION", value)]);
        assert_eq!(settings.compression, expected);
    }
}

#[test]
fn errors_do_not_print_credentials() {
    let error = problem("OTEL_EXPORTER_OTLP_HEADERS", "authorization:s3cret").to_string();
    assert!(error.contains("entry 1") && !error.contains("s3cret"), "{error}");
}
