//! What the log says of a start.

use super::*;
use crate::service::logging::tests::captured;

#[test]
fn one_line_says_all_that_matters() {
    let lines = captured(|| {
        let (host, source) = FakeHost::new();
        host.born(1);
        host.born(2);
        let mut config = Config { interval: Duration::from_secs(10), level: Level::Basic, ..config() };
        config.export.endpoint = Some("http://127.0.0.1:9".to_owned());
        config.shutdown_deadline = Duration::ZERO;
        let start = Start {
            reload: || Err(no_config()),
            log: LogControl::none(),
            output: Output::None,
            sinks: Vec::new(),
            supervision: Supervision::default(),
        };
        let never = || async { std::future::pending::<()>().await };
        let steering = Steering { shutdown: async {}, hang_up: never, ask: never };
        let open = |_: &StartOptions| {
            let hooks = vec!["one (tp_btf)".to_owned(), "other (iter)".to_owned()];
            Ok(Opened { source: Box::new(source), vcpus: 2, hooks, bpf_log: BpfLog::default() })
        };
        let source = Opener { hypervisor: "fake", open };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_with(config, start, steering, source)).unwrap();
        // It waits for nobody who might still be asked to take something.
        runtime.shutdown_background();
    });
    let said: Vec<&str> = lines.lines().filter(|line| line.contains(": sampling version=")).collect();
    let [line] = said[..] else { panic!("not one line: {lines}") };
    let kernel = host::read(&Root::system()).unwrap().kernel;
    for what in [
        format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
        format!("kernel={kernel:?}"),
        "level=\"basic\"".to_owned(),
        "hooks=\"one (tp_btf), other (iter)\"".to_owned(),
        "guests=2 vcpus=2".to_owned(),
        "interval=10s".to_owned(),
        "export=\"http://127.0.0.1:9/v1/metrics".to_owned(),
    ] {
        assert!(line.contains(&what), "{what} is not in {line}");
    }
}
