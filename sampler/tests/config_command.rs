//! `hvsampler config` as an operator calls it: the process's own variables, and the exit status.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStringExt as _,
    process::Command,
};

/// Exit status, standard output and standard error.
type Ended = (i32, String, String);

fn hvsampler(text: &str, args: &[&str], variables: &[(&str, &OsStr)]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hvsampler"));
    command.args(args).arg("--config").arg(&file).env_clear().envs(variables.iter().copied());
    let output = command.output().unwrap();
    let said =
        |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(dir.path().to_str().unwrap(), "DIR");
    (output.status.code().unwrap(), said(output.stdout), said(output.stderr))
}

#[test]
fn a_configuration_that_can_be_used_is_0_with_warnings_too() {
    assert_eq!(
        hvsampler("", &["config", "check"], &[]),
        (0, "The configuration can be used.\n".to_owned(), String::new())
    );
    let (status, out, _) = hvsampler("", &["config", "check"], &[("OTEL_SDK_DISABLED", "1".as_ref())]);
    let warning = "warn  OTEL_SDK_DISABLED=\"1\" is neither true nor false: it counts as false\n";
    assert_eq!((status, out), (0, format!("{warning}The configuration can be used.\n")));
}

#[test]
fn one_that_cannot_be_used_is_1() {
    let (status, out, _) = hvsampler("nice = 99", &["config", "check"], &[]);
    assert!(status == 1 && out.starts_with("FAIL  DIR/config.toml:1: nice: 99 is no nice value"), "{out}");
    let latin_1 = OsString::from_vec(b"caf\xe9".to_vec());
    for command in [&["config", "check"][..], &["config", "print"], &["run"]] {
        let (status, out, err) = hvsampler("", command, &[("OTEL_SERVICE_NAME", &latin_1)]);
        let said = format!("{out}{err}");
        assert!(status == 1 && said.contains("OTEL_SERVICE_NAME: is not UTF-8"), "{command:?}: {said}");
    }
}

#[test]
fn levels_of_modules_are_of_modules_that_there_are() {
    let fine = "log.modules = { \"source::kvm\" = \"debug\", export = \"off\" }";
    let (status, out, _) = hvsampler(fine, &["config", "print"], &[]);
    let line = "\"source::kvm\" = \"debug\"  # DIR/config.toml:1";
    assert!(status == 0 && out.lines().any(|it| it == line), "{out}");
    let (status, out, _) = hvsampler("[log]\nmodules.hyper = \"debug\"", &["config", "check"], &[]);
    let begin = "FAIL  DIR/config.toml:2: log.modules";
    assert!(status == 1 && out.starts_with(begin) && out.contains("\"hyper\" is no module; give"), "{out}");
}

#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(hvsampler("", &["config", "check", "--interval", "5"], &[]).0, 2);
    assert_eq!(hvsampler("", &["config", "look"], &[]).0, 2);
}

#[test]
fn what_is_printed_has_the_layers_of_this_process() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318".as_ref());
    let args = ["config", "print", "--interval", "1s"];
    let (status, out, err) = hvsampler("nice = 3", &args, &[endpoint]);
    assert_eq!((status, err.as_str()), (0, ""));
    for line in [
        "interval = \"1s\"  # --interval",
        "nice = 3  # DIR/config.toml:1",
        "audit = true  # default",
        "endpoint = \"http://env:4318\"  # OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        assert!(out.lines().any(|it| it == line), "{line:?} is not in\n{out}");
    }
}
