use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    os::fd::{AsRawFd as _, IntoRawFd as _},
    process::Command,
};

use rustix::io::fcntl_getfd;

use super::*;

const PID: u32 = 4711;

fn names(variables: &[(&str, &str)]) -> Vec<String> {
    let env = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| OsString::from(value))
    };
    announced(&env, PID)
}

/// Files that were left open when this program began, from this number on. Each test has numbers of its own.
fn left_open(first: RawFd, texts: &[&str]) {
    for (number, text) in (first..).zip(texts) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        // SAFETY: no memory is passed. The number is one that nothing has yet, which is looked at.
        let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, number) };
        assert_eq!(copy, number, "another test has this number");
    }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn content(fd: &OwnedFd) -> String {
    let mut text = String::new();
    let mut file = File::from(fd.try_clone().unwrap());
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn map(name: &str) -> Part {
    Part::Map(name.to_owned())
}

#[test]
fn descriptors_of_another_process_are_none() {
    let fds = ("LISTEN_FDS", "1");
    assert_eq!(names(&[]), [""; 0]);
    assert_eq!(names(&[fds]), [""; 0]);
    for other in ["4712", "", "me", "-4711", "4294971007"] {
        assert_eq!(names(&[("LISTEN_PID", other), fds]), [""; 0], "{other}");
    }
    assert_eq!(names(&[("LISTEN_PID", "4711"), fds]), [""]);
}

#[test]
fn a_number_that_is_none_is_nothing_and_a_huge_one_is_bounded() {
    let pid = ("LISTEN_PID", "4711");
    let count = |text: &str| names(&[pid, ("LISTEN_FDS", text), ("LISTEN_FDNAMES", "a:b")]).len();
    for none in ["", "-1", "0", "many", "1.5", "99999999999999999999"] {
        assert_eq!(count(none), 0, "{none}");
    }
    assert_eq!((count("2"), count("4294967295")), (2, MOST));
}

#[test]
fn names_that_are_missing_are_nobodys_and_those_left_over_are_of_nothing() {
    let pid = ("LISTEN_PID", "4711");
    let of = |fds: &str, texts: &str| names(&[pid, ("LISTEN_FDS", fds), ("LISTEN_FDNAMES", texts)]);
    assert_eq!(of("3", "a:b"), ["a", "b", ""]);
    assert_eq!(of("1", "a:b"), ["a"]);
    assert_eq!(of("2", ""), ["", ""]);
    assert_eq!(of("2", ":"), ["", ""]);
}

#[test]
fn what_came_is_taken_by_set_and_closed_in_programs_that_are_started() {
    left_open(700, &["pids", "old", "manifest"]);
    let mut inherited = Inherited::from(700, &texts(&["hvs-2-m-PIDS", "hvs-1-m-PIDS", "hvs-2-manifest"]));
    assert_eq!(inherited.names().collect::<Vec<_>>(), ["hvs-1-m-PIDS", "hvs-2-m-PIDS", "hvs-2-manifest"]);
    let (token, parts) = inherited.take_newest().unwrap();
    assert_eq!(token, Token::from_number(2));
    assert_eq!(parts.keys().collect::<Vec<_>>(), [&map("PIDS"), &Part::Manifest]);
    assert_eq!(
        (content(&parts[&map("PIDS")]), content(&parts[&Part::Manifest])),
        ("pids".into(), "manifest".into())
    );
    for fd in parts.values() {
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    }
    assert!(inherited.take_newest().is_none(), "the other has no manifest");
    assert!(is_open(701));
    drop(inherited);
    assert!(!is_open(701));
    drop(parts);
    assert!(!is_open(700) && !is_open(702));
}

#[test]
fn the_newest_set_with_a_manifest_is_the_one() {
    left_open(720, &["a", "b", "c"]);
    let mut inherited = Inherited::from(720, &texts(&["hvs-a-manifest", "hvs-9-manifest", "hvs-b-m-PIDS"]));
    let mut newest = || Some(inherited.take_newest()?.0.number());
    assert_eq!([newest(), newest(), newest()], [Some(0xa), Some(9), None]);
}

#[test]
fn what_is_not_of_a_set_is_closed() {
    left_open(740, &["stored", "nameless", "of a later version"]);
    let inherited = Inherited::from(740, &texts(&["stored", "", "hvs-1-x-NEW"]));
    assert!(inherited.sets.is_empty());
    // The manager has to let go of what a later version gave it.
    assert_eq!(inherited.names().collect::<Vec<_>>(), ["hvs-1-x-NEW"]);
    assert!((740..743).all(|fd| !is_open(fd)));
}

#[test]
fn of_two_with_one_name_neither_is_taken() {
    left_open(760, &["one", "other", "one more", "manifest"]);
    let name = "hvs-1-l-kvm_exit";
    let inherited = Inherited::from(760, &texts(&[name, name, name, "hvs-1-manifest"]));
    let parts = &inherited.sets[&Token::from_number(1)];
    assert_eq!(parts.keys().collect::<Vec<_>>(), [&Part::Manifest]);
    assert_eq!(inherited.names().collect::<Vec<_>>(), [name, "hvs-1-manifest"]);
    assert!((760..763).all(|fd| !is_open(fd)));
}

#[test]
fn a_number_that_is_not_open_is_left_out() {
    left_open(780, &["one"]);
    let inherited = Inherited::from(780, &texts(&["hvs-1-m-ONE", "hvs-1-m-NONE"]));
    assert_eq!(inherited.sets[&Token::from_number(1)].keys().collect::<Vec<_>>(), [&map("ONE")]);
    assert_eq!(inherited.names().collect::<Vec<_>>(), ["hvs-1-m-ONE"]);
}

#[test]
fn what_this_process_has_opened_is_not_taken() {
    let file = tempfile::tempfile().unwrap();
    let number = file.as_raw_fd();
    let inherited = Inherited::from(number, &texts(&["hvs-1-m-PIDS"]));
    assert!(inherited.sets.is_empty() && inherited.names.is_empty());
    drop(inherited);
    assert_eq!(file.into_raw_fd(), number);
    assert!(is_open(number));
    // SAFETY: it was let go a moment ago, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
}

#[test]
fn the_second_to_take_finds_nothing() {
    left_open(800, &["one"]);
    let names = texts(&["hvs-1-m-ONE"]);
    let first = Inherited::from(800, &names);
    assert!(Inherited::from(800, &names).sets.is_empty());
    assert_eq!(content(&first.sets[&Token::from_number(1)][&map("ONE")]), "one");
}

/// This program again, with two descriptors that a shell left open for it.
#[test]
fn a_process_takes_what_it_was_started_with() {
    const CHILD: &str = "HVS_TEST_INHERITED";
    const NAME: &str = "service::systemd::inherited::tests::a_process_takes_what_it_was_started_with";
    if std::env::var_os(CHILD).is_some() {
        let mut inherited = Inherited::take(&|name| std::env::var_os(name), std::process::id());
        let (_, parts) = inherited.take_newest().expect("nothing came");
        assert_eq!(content(&parts[&map("PIDS")]), "pids");
        assert_eq!(content(&parts[&Part::Manifest]), "manifest");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for text in ["pids", "manifest"] {
        std::fs::write(directory.path().join(text), text).unwrap();
    }
    let script = "LISTEN_PID=$$; export LISTEN_PID; exec \"$@\" 3<pids 4<manifest";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .current_dir(directory.path())
        .envs([(CHILD, "1"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "hvs-1-m-PIDS:hvs-1-manifest")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}
