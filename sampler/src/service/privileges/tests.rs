use std::{fs, thread};

use super::*;

/// Does it on a thread that stands for a process's first.
fn alone<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(work).join().unwrap()
}

/// What is needed of what there was.
fn needs(before: CapabilitySet) -> Needs {
    let mut beside = capabilities::NAMESPACES;
    beside.set(capabilities::PRIORITY, !limits::lift_nice());
    Needs::of(before, beside)
}

/// A line of the calling thread's status.
fn status(name: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name}")).to_owned()
}

#[test]
fn what_is_given_up_is_given_up_by_later_threads_as_well() {
    alone(|| {
        let before = own(None).unwrap().permitted;
        let expected = needs(before).serve;
        let confined = confine(&ServiceSettings::default()).unwrap();
        assert!(confined.is_active() && confined.kept().is_empty(), "{:?}", confined.kept());
        let is_confined = move || {
            assert_eq!((status("NoNewPrivs"), status("Seccomp")), ("1".to_owned(), "2".to_owned()));
            let sets = own(None).unwrap();
            assert_eq!((sets.permitted, sets.effective), (expected, expected));
            assert_eq!(sets.inheritable, CapabilitySet::empty());
        };
        is_confined();
        alone(is_confined);
    });
}

#[test]
fn loading_has_what_the_rest_has_not() {
    alone(|| {
        let needs = needs(own(None).unwrap().permitted);
        let mut confined = confine(&ServiceSettings::default()).unwrap();
        // Without the filter, which is for the whole process.
        let loading = confined.loading.take().unwrap();
        assert_eq!(loading.run(|| own(None).unwrap().effective).unwrap(), needs.load);
        assert_eq!(own(None).unwrap().effective, needs.serve);
    });
}

#[test]
fn a_panic_while_loading_is_an_error() {
    let loading = Loading::spawn().unwrap();
    assert!(loading.run(|| panic!("on purpose")).unwrap_err().to_string().contains("panicked"));
}

#[test]
fn threads_for_collectors_may_read_files_and_nothing_else() {
    alone(|| {
        confine(&ServiceSettings::default()).unwrap();
        alone(|| {
            leave_guests_alone();
            let sets = own(None).unwrap();
            assert!(capabilities::FILES.contains(sets.permitted | sets.effective), "{sets:?}");
        });
    });
}

#[test]
fn without_a_sandbox_nothing_is_given_up() {
    alone(|| {
        let before = (own(None).unwrap(), status("Seccomp"));
        let confined =
            confine(&ServiceSettings { sandbox: Sandbox::Off, ..ServiceSettings::default() }).unwrap();
        assert!(!confined.is_active());
        assert_eq!((own(None).unwrap(), status("Seccomp")), before);
        assert_eq!(confined.load(|| 7).unwrap(), 7);
    });
}

#[test]
fn what_could_not_be_given_up_is_kept_to_be_said() {
    let mut confined = Confined::not();
    confined.give_up("one thing", Ok::<(), io::Error>(()));
    confined.give_up("another", Err(io::Error::from_raw_os_error(libc::ENOSYS)));
    assert!(matches!(confined.kept(), [kept] if kept.starts_with("another: ")), "{:?}", confined.kept());
}

#[test]
fn a_user_that_there_is_not_stops_the_start() {
    let settings = ServiceSettings { user: Some("no-such-user".to_owned()), ..ServiceSettings::default() };
    let error = format!("{:#}", alone(move || confine(&settings).unwrap_err()));
    assert!(error.contains("service.user") && error.contains("no-such-user"), "{error}");
}
