use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

fn unused(_: &Context) -> anyhow::Result<Outcome> {
    unreachable!("only its process runs a test")
}

fn test(name: &'static str) -> Test {
    Test { name, sets: &[Set::Native], needs: &[], limit: Duration::from_secs(20), run: unused }
}

fn all() -> Selection {
    Selection { set: Set::Native, filter: None, except: Vec::new() }
}

/// Runs tests whose processes are shell scripts; `$1` is the test's directory. Gives their lines without the
/// times.
fn output(tests: &[Test], selection: &Selection, script: &'static str) -> (String, Tally) {
    let command = |test: &Test, directory: &Path| {
        let mut command = Command::new("sh");
        command.args(["-c", script, test.name]).arg(directory);
        command
    };
    let mut out = Vec::new();
    let tally = run(tests, selection, &command, &mut out).unwrap();
    (untimed(&String::from_utf8(out).unwrap()), tally)
}

/// The lines without the times of the tests, each of which must have one.
fn untimed(text: &str) -> String {
    let strip = |line: &str| {
        if !line.starts_with("test ") {
            return format!("{line}\n");
        }
        let (result, seconds) = line.strip_suffix(" s]").unwrap().rsplit_once(" [").unwrap();
        assert!(seconds.parse::<f64>().unwrap() >= 0.0, "{line}");
        format!("{result}\n")
    };
    text.lines().map(strip).collect()
}

const PASS: &str = r#"printf '{"Passed":"seen"}' > "$1/verdict.json""#;

#[test]
fn each_test_gets_one_line_and_the_sum_comes_last() {
    let (text, tally) = output(&[test("a.one"), test("a.two")], &all(), PASS);
    assert_eq!(text, "test a.one ... ok (seen)\ntest a.two ... ok (seen)\n2 passed, 0 failed, 0 skipped\n");
    assert!(!tally.has_failures());
}

#[test]
fn a_test_under_which_the_machine_failed_runs_again_in_the_lab_alone() {
    const DISTURBED: &str = r#"printf '{"Disturbed":"a guest died"}' > "$1/verdict.json""#;
    let lab = Test { sets: &[Set::Lab, Set::Native], ..test("a") };
    let (text, tally) = output(&[lab], &Selection { set: Set::Lab, ..all() }, DISTURBED);
    assert_eq!(text.matches("runs again").count(), 2, "{text}");
    assert!(text.contains("test a ... FAILED: a guest died"), "{text}");
    assert_eq!(tally.failed, 1);
    let (text, _) = output(&[lab], &all(), DISTURBED);
    assert!(!text.contains("runs again") && text.contains("FAILED: a guest died"), "{text}");
}

#[test]
fn a_test_that_dies_or_says_nothing_has_failed() {
    for (script, line) in [
        ("exit 3", "test a ... FAILED: its process ended with exit status: 3"),
        ("kill -9 $$", "test a ... FAILED: its process ended with signal: 9 (SIGKILL)"),
        ("exit 0", "test a ... FAILED: it left no verdict: No such file or directory (os error 2)"),
    ] {
        let (text, tally) = output(&[test("a")], &all(), script);
        assert_eq!(text, format!("{line}\n0 passed, 1 failed, 0 skipped\n"));
        assert!(tally.has_failures());
    }
}

#[test]
fn a_test_that_hangs_is_killed_with_all_that_it_started() {
    let pids = std::env::temp_dir().join(format!("hvsampler-runner-{}", std::process::id()));
    let hanging = Test { limit: Duration::from_millis(500), ..test("hangs") };
    let command = |_: &Test, _: &Path| {
        let mut command = Command::new("sh");
        command.args(["-c", r#"sleep 1000 & echo $! > "$0"; wait"#]).arg(&pids);
        command
    };
    let mut out = Vec::new();
    run(&[hanging], &all(), &command, &mut out).unwrap();
    let text = untimed(&String::from_utf8(out).unwrap());
    assert!(
        text.starts_with("test hangs ... FAILED: no result after 0 s; its processes were killed\n"),
        "{text}"
    );
    let sleeper = std::fs::read_to_string(&pids).unwrap();
    std::fs::remove_file(&pids).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while is_alive(sleeper.trim()) {
        assert!(Instant::now() < end, "the process that the test started is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = crate::oracle::TaskStat::of_process(pid.parse().unwrap());
    stat.is_ok_and(|stat| stat.state != crate::oracle::TaskState::Ended)
}

#[test]
fn a_need_that_is_missing_skips_the_test_by_name_and_reason() {
    let greedy = Test { needs: &[Need::Cpus(100_000)], ..test("a.greedy") };
    let (text, tally) = output(&[greedy], &all(), PASS);
    assert!(text.starts_with("test a.greedy ... skipped: needs 100000 CPUs, "), "{text}");
    assert_eq!(tally, Tally { skipped: 1, ..Tally::default() });
}

#[test]
fn sets_and_filters_select() {
    let lab = Test { sets: &[Set::Lab, Set::Native], ..test("lab.also") };
    let other = Test { sets: &[Set::Delivery], ..test("delivery.only") };
    let tests = [test("a.one"), lab, other];
    let names = |set, filter: Option<&str>| {
        let selection = Selection { set, filter: filter.map(str::to_owned), except: Vec::new() };
        selection.of(&tests).map(|test| test.name).collect::<Vec<_>>()
    };
    assert_eq!(names(Set::Native, None), ["a.one", "lab.also"]);
    assert_eq!(names(Set::Lab, None), ["lab.also"]);
    assert_eq!(names(Set::Native, Some("one")), ["a.one"]);
    assert_eq!(names(Set::Lab, Some("one")), [""; 0]);
    let rest = Selection { except: vec!["a.one".to_owned()], ..all() };
    assert_eq!(rest.of(&tests).map(|test| test.name).collect::<Vec<_>>(), ["lab.also"]);
}

#[test]
fn verdicts_of_several_lines_become_one() {
    let error = anyhow::anyhow!("first\n\n  second\n").context("above");
    assert_eq!(Verdict::from(Err(error)).to_string(), "FAILED: above: first; second");
    let passed = Verdict::from(Ok(Outcome::Passed("a\nb".to_owned())));
    assert_eq!(passed.to_string(), "ok (a; b)");
    assert_eq!(Verdict::from(Ok(Outcome::Skipped("why".to_owned()))).to_string(), "skipped: why");
}
