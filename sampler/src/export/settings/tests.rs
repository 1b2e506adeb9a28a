use super::*;

#[test]
fn an_empty_table_exports_nothing() {
    let settings: ExportSettings = toml::from_str("").unwrap();
    assert_eq!(settings, ExportSettings::default());
    assert!(!settings.is_enabled());
    settings.validate().unwrap();
}

#[test]
fn every_key_is_read() {
    let settings: ExportSettings = toml::from_str(
        r#"
        endpoint = "https://collector:4317"
        metrics_endpoint = "https://collector:4318/v1/metrics"
        disabled = true
        protocol = "grpc"
        headers = { authorization = "Bearer secret" }
        compression = "none"
        histograms = "none"
        vm_attributes = ["uuid", "name"]
        families_off = ["hypervisor.vm.exit*"]
        timeout = "3s"
        queue_bytes = 1048576
        service_name = "hv"
        host_id = "rack7-node3"
        resource_attributes = { "deployment.environment.name" = "prod" }
        [retry]
        initial_backoff = "100ms"
        max_backoff = "2s"
        max_age = "1m"
        [tls]
        ca_certificate = "/ca.pem"
        client_certificate = "/cert.pem"
        client_key = "/key.pem"
        insecure = true
        "#,
    )
    .unwrap();
    let expected = ExportSettings {
        endpoint: Some("https://collector:4317".into()),
        metrics_endpoint: Some("https://collector:4318/v1/metrics".into()),
        disabled: true,
        protocol: Protocol::Grpc,
        headers: Headers([("authorization".into(), "Bearer secret".into())].into()),
        compression: Compression::None,
        histograms: Histograms::None,
        vm_attributes: VmAttributes { facts: vec![Fact::Name, Fact::Uuid], labels: false },
        families_off: vec![Pattern::new("hypervisor.vm.exit*")],
        timeout: Duration::from_secs(3),
        queue_bytes: 1 << 20,
        retry: RetrySettings {
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            max_age: Duration::from_secs(60),
        },
        tls: TlsSettings {
            ca_certificate: Some("/ca.pem".into()),
            client_certificate: Some("/cert.pem".into()),
            client_key: Some("/key.pem".into()),
            insecure: true,
        },
        service_name: "hv".into(),
        host_id: Some("rack7-node3".into()),
        resource_attributes: [("deployment.environment.name".into(), "prod".into())].into(),
    };
    assert_eq!(settings, expected);
    assert!(!settings.is_enabled(), "disabled beats the endpoints");
}

#[test]
fn unknown_keys_and_values_are_refused() {
    for text in [
        "endpont = 'x'",
        "[retry]\nmax = '1s'",
        "[tls]\nca = 'x'",
        "protocol = 'http/json'",
        "compression = 'zstd:1'",
        "timeout = 10",
    ] {
        assert!(toml::from_str::<ExportSettings>(text).is_err(), "{text}");
    }
}

#[test]
fn compression_lists_what_it_accepts() {
    for (value, expected) in [
        ("auto", Compression::Auto),
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ] {
        let settings: ExportSettings = toml::from_str(&format!("compression = '{value}'")).unwrap();
        assert_eq!(settings.compression, expected);
    }
    let error = toml::from_str::<ExportSettings>("compression = 'brotli'").unwrap_err().to_string();
    assert!(error.contains("`auto`, `none`, `gzip`, `zstd`"), "{error}");
}

#[test]
fn unusable_values_name_their_key() {
    let cases = [
        ("timeout = '0s'", "export.timeout"),
        ("queue_bytes = 0", "export.queue_bytes"),
        ("host_id = ''", "export.host_id"),
        ("[retry]\ninitial_backoff = '0s'", "export.retry.initial_backoff"),
        ("[retry]\nmax_backoff = '10ms'", "export.retry.max_backoff"),
        ("[tls]\nclient_key = '/k'", "export.tls"),
        ("endpoint = 'ftp://x'", "export.endpoint"),
        ("metrics_endpoint = 'x y'", "export.metrics_endpoint"),
        ("headers = { 'a b' = 'c' }", "export.headers"),
    ];
    for (text, name) in cases {
        let error = toml::from_str::<ExportSettings>(text).unwrap().validate().unwrap_err();
        assert_eq!(error.name, name, "{text}: {error}");
    }
}

#[test]
fn debug_output_keeps_header_values_secret() {
    let settings = ExportSettings {
        headers: Headers([("authorization".into(), "Bearer s3cret".into())].into()),
        ..Default::default()
    };
    let debug = format!("{settings:?}");
    assert!(debug.contains("authorization") && !debug.contains("s3cret"), "{debug}");
}
