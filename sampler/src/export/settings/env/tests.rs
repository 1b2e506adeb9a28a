use std::collections::HashMap;

use super::*;

fn apply_to(settings: &mut ExportSettings, variables: &[(&str, &str)]) -> Result<(), SettingError> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    settings.apply_env(&|name| variables.get(name).map(ToString::to_string))
}

fn applied(variables: &[(&str, &str)]) -> Result<ExportSettings, SettingError> {
    let mut settings = ExportSettings::default();
    apply_to(&mut settings, variables).map(|()| settings)
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn nothing_set_changes_nothing() {
    assert_eq!(applied(&[]).unwrap(), ExportSettings::default());
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
    assert_eq!(applied(&variables).unwrap(), ExportSettings::default());
}

#[test]
fn an_empty_specific_variable_does_not_hide_the_general_one() {
    let settings = applied(&[
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", ""),
    ])
    .unwrap();
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
    ])
    .unwrap();
    assert_eq!(settings.target().unwrap().uri, "https://metrics:2/in");
    assert_eq!(settings.protocol, Protocol::HttpProtobuf);
    assert_eq!(settings.headers.0, pairs(&[("b", "metrics")]));
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
    apply_to(
        &mut settings,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "from=env"),
            ("OTEL_SERVICE_NAME", "env"),
            ("OTEL_RESOURCE_ATTRIBUTES", "changed=env,added=env"),
        ],
    )
    .unwrap();
    assert_eq!(settings.target().unwrap().uri, "http://env:2/v1/metrics");
    assert_eq!(settings.headers.0, pairs(&[("from", "env")]), "one option, replaced as a whole");
    assert_eq!(settings.service_name, "env");
    assert_eq!(
        settings.resource_attributes,
        pairs(&[("kept", "file"), ("changed", "env"), ("added", "env")])
    );
}

#[test]
fn the_service_name_variable_beats_the_resource_attribute() {
    let settings =
        applied(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,x=y"), ("OTEL_SERVICE_NAME", "b")]).unwrap();
    assert_eq!(settings.service_name, "b");
    assert_eq!(settings.resource_attributes, pairs(&[("x", "y")]));
}

#[test]
fn lists_are_percent_decoded_and_trimmed() {
    let settings = applied(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20dTpw%3D%3D , x-empty=, ,x-eq=a=b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "dc=M%C3%BCnchen,list=a%2Cb"),
    ])
    .unwrap();
    assert_eq!(
        settings.headers.0,
        pairs(&[("authorization", "Basic dTpw=="), ("x-empty", ""), ("x-eq", "a=b")])
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
        ])
        .unwrap();
        assert_eq!(settings.target().unwrap().uri.scheme_str(), Some(expected));
    }
}

#[test]
fn exporter_and_sdk_switches() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1");
    assert!(applied(&[endpoint]).unwrap().is_enabled());
    assert!(!applied(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).unwrap().is_enabled());
    assert!(!applied(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]).unwrap().is_enabled());
    assert!(
        !applied(&[("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_SDK_DISABLED", "True")]).unwrap().is_enabled()
    );
    assert!(applied(&[endpoint, ("OTEL_SDK_DISABLED", "false")]).unwrap().is_enabled());

    let by_default = applied(&[("OTEL_METRICS_EXPORTER", "otlp")]).unwrap();
    assert_eq!(by_default.target().unwrap().uri, "http://localhost:4318/v1/metrics");
    let grpc =
        applied(&[("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap();
    assert_eq!(grpc.target().unwrap().uri.port_u16(), Some(4317));
}

#[test]
fn errors_name_the_variable_and_what_it_accepts() {
    for (name, value, accepted) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc, http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "GRPC", "grpc, http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate", "none, gzip, zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "yes", "true, false"),
        ("OTEL_SDK_DISABLED", "1", "true, false"),
        ("OTEL_METRICS_EXPORTER", "console", "otlp, none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "which of the two"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "ftp://h", "which of the two"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "novalue", "key=value"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "=v", "key=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%FF", "key=value"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "cumulativetodelta"),
    ] {
        let error = applied(&[(name, value)]).unwrap_err();
        assert_eq!(error.name, name);
        assert!(error.to_string().contains(accepted), "{error}");
    }
}

#[test]
fn compression_may_be_any_that_is_sent() {
    for (value, expected) in
        [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)]
    {
        let settings = applied(&[("OTEL_EXPORTER_OTLP_COMPRESSION", value)]).unwrap();
        assert_eq!(settings.compression, expected);
    }
}

#[test]
fn temporality_may_be_what_it_is() {
    for value in ["Cumulative", "lowmemory", ""] {
        applied(&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", value)]).unwrap();
    }
}

#[test]
fn errors_do_not_print_credentials() {
    let error = applied(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization:s3cret")]).unwrap_err().to_string();
    assert!(error.contains("entry 1") && !error.contains("s3cret"), "{error}");
}
