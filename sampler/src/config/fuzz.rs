//! Files and variables of operators, and of those who set variables for a whole host.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, path::Path};

use super::{Config, Examined, Overrides};
use crate::{
    export::settings::HIDDEN,
    fuzzing::{Memory, Target, parts},
};

const CONFIG: Target = Target {
    name: "config",
    words: &[
        "\n====\n",
        "[export]\n",
        "[export.headers]\n",
        "[[guests.labels]]\n",
        "[guests]\nallow = ['name=",
        "interval = '",
        "endpoint = 'http://",
        "headers = { a = { file = '/none' } }\n",
        "resource_attributes = { a = '",
        "timeout = \"10s\"\n",
        "start_delay = 'random'\n",
        "level = 'basic'\n",
        "a.b.c.d.e.f = 1\n",
        "\"\"\"",
        "\\u0000",
        "OTEL_EXPORTER_OTLP_ENDPOINT=",
        "OTEL_EXPORTER_OTLP_HEADERS=",
        "OTEL_RESOURCE_ATTRIBUTES=",
        "OTEL_METRIC_EXPORT_INTERVAL=",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc\n",
        "OTEL_SDK_DISABLED=true\n",
        "%20",
        "*",
    ],
    inputs: 1_000,
    // The parser's tree of a table with a value in each few bytes, three times: what is left of it where a
    // key is wrong is read again.
    memory: Memory { fixed: 1 << 20, each: 1_024 },
};

/// A file; lines of variables.
fn examined(path: &Path, input: &[u8]) -> Examined {
    let [file, variables] = parts(input);
    fs::write(path, file).unwrap();
    let get = |name: &str| {
        let mut lines = variables.split(|byte| *byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(OsString::from_vec(value.to_vec()))
    };
    Config::examine(Some(path), &get, &Overrides::default())
}

#[test]
fn config() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let example = include_bytes!("../../../otel-config/hvsampler.toml").to_vec();
    CONFIG.check(&[example], |input| {
        let examined = examined(&path, input);
        for problem in &examined.problems {
            assert!(!problem.to_string().is_empty());
        }
        if !examined.problems.is_empty() {
            return;
        }
        let _ = examined.config.export.target();
        let printed = examined.print().unwrap();
        // What is not shown cannot be read again.
        if printed.contains(HIDDEN) {
            return;
        }
        fs::write(&path, &printed).unwrap();
        let again = Config::examine(Some(&path), &|_| None, &Overrides::default());
        assert!(again.problems.is_empty(), "{:?}\n{printed}", again.problems);
        assert_eq!(again.config, examined.config, "{printed}");
    });
}
