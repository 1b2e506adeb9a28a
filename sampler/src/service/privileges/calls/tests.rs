use std::{
    fs::{File, OpenOptions},
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    thread,
};

use rustix::thread::set_no_new_privs;

use super::*;

/// Does it on a thread that all filters are for.
fn filtered<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        set_no_new_privs(true).unwrap();
        refuse().unwrap();
        // For this thread alone.
        seccompiler::apply_filter(&what_is_over().unwrap()).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// Makes a call whose arguments nobody could follow.
#[track_caller]
fn error_of(call: c_long) -> i32 {
    error_with(call, [-1; 4])
}

#[track_caller]
fn error_with(call: c_long, [a, b, c, d]: [c_long; 4]) -> i32 {
    // SAFETY: no argument is the address of memory that is there.
    match unsafe { libc::syscall(call, a, b, c, d) } {
        -1 => io::Error::last_os_error().raw_os_error().unwrap(),
        answer => panic!("call {call} is answered {answer}"),
    }
}

fn is_refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

#[test]
fn every_call_of_the_list_is_refused() {
    filtered(|| {
        // With a filter that does not work the others had better not be tried.
        assert_eq!(error_of(libc::SYS_execve), libc::EPERM);
        for &call in NEVER.iter().chain(AT_THE_START).copied().flatten() {
            assert_eq!(error_of(call), libc::EPERM, "{call}");
        }
    });
}

#[test]
fn what_a_filter_cannot_see_does_not_exist() {
    filtered(|| {
        for &call in ABSENT {
            assert_eq!(error_of(call), libc::ENOSYS, "{call}");
        }
        // Nor does what is newer than the list.
        assert_eq!([463, 467, 469, 1000].map(error_of), [libc::ENOSYS; 4]);
        // Numbers of x32 are no way around the list.
        assert_eq!(error_of(0x4000_0000 | libc::SYS_getpid), libc::EPERM);
        assert_eq!(error_of(0x4000_0000 | libc::SYS_execve), libc::EPERM);
    });
}

#[test]
fn files_are_opened_for_reading_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (there, new) = (directory.path().join("there"), directory.path().join("new"));
    std::fs::write(&there, "text").unwrap();
    let open = |path: &Path, how: fn(&mut OpenOptions) -> &mut OpenOptions| {
        how(&mut OpenOptions::new()).open(path).map(drop)
    };
    for how in [
        (|options| options.write(true)) as fn(&mut OpenOptions) -> &mut OpenOptions,
        |options| options.read(true).write(true),
        |options| options.append(true),
        |options| options.write(true).truncate(true),
    ] {
        open(&there, how).unwrap();
        let there = there.clone();
        assert!(filtered(move || is_refused(open(&there, how))));
    }
    std::fs::write(&there, "text").unwrap();
    filtered(move || {
        assert!(is_refused(File::create(&new)) && is_refused(File::create_new(&new)));
        assert!(is_refused(std::fs::remove_file(&there)) && is_refused(std::fs::create_dir(&new)));
        assert!(is_refused(std::fs::rename(&there, &new)) && is_refused(std::fs::hard_link(&there, &new)));
        let flags = c_long::from(libc::O_WRONLY);
        assert_eq!(error_with(libc::SYS_open, [-1, flags, 0, 0]), libc::EPERM);
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "text");
    });
}

#[test]
fn threads_are_started_and_no_processes() {
    assert!(Command::new("/bin/true").status().unwrap().success());
    filtered(|| {
        assert!(is_refused(Command::new("/bin/true").status()));
        assert!(thread::spawn(|| is_refused(Command::new("/bin/true").status())).join().unwrap());
        let vm = c_long::from(libc::CLONE_VM | libc::CLONE_VFORK);
        assert_eq!(error_with(libc::SYS_clone, [vm, 0, 0, 0]), libc::EPERM);
        let apart = c_long::from(libc::CLONE_THREAD | libc::CLONE_NEWNET);
        assert_eq!(error_with(libc::SYS_clone, [apart, 0, 0, 0]), libc::EPERM);
    });
}

#[test]
fn other_processes_get_no_signals_and_keep_their_limits() {
    let parent = c_long::from(std::os::unix::process::parent_id());
    filtered(move || {
        assert_eq!(error_with(libc::SYS_tgkill, [parent, parent, 0, 0]), libc::EPERM);
        assert_eq!(error_with(libc::SYS_prlimit64, [parent, 0, 0, 0]), libc::EPERM);
        // SAFETY: it touches no memory.
        let thread = unsafe { libc::gettid() };
        // SAFETY: signal 0 is none.
        let own = unsafe { libc::syscall(libc::SYS_tgkill, process::id(), thread, 0) };
        assert_eq!(own, 0);
    });
}

#[test]
fn descriptors_are_asked_for_what_serving_takes_alone() {
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    filtered(move || {
        one.set_nonblocking(true).unwrap();
        let number = c_long::from(one.as_raw_fd());
        // Freezing a file system, opening by a handle of XFS, and typing into a terminal.
        for request in [0xc004_5877, 0xc038_586b, libc::TIOCSTI as c_long] {
            assert_eq!(error_with(libc::SYS_ioctl, [number, request, 0, 0]), libc::EPERM, "{request:x}");
        }
        for command in [F_SETOWN, F_SETSIG, F_SETOWN_EX] {
            let arguments = [number, command.cast_signed(), 0, 0];
            assert_eq!(error_with(libc::SYS_fcntl, arguments), libc::EPERM, "{command}");
        }
        assert_eq!(error_with(libc::SYS_setpriority, [0, 1, 0, 0]), libc::EPERM);
    });
}

#[test]
fn sockets_are_those_of_collectors_and_of_interfaces() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = |family, protocol| {
        // SAFETY: makes a descriptor.
        match unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: it was just made.
            made => Ok(unsafe { OwnedFd::from_raw_fd(made) }),
        }
    };
    filtered(move || {
        TcpStream::connect(address).unwrap();
        UnixDatagram::unbound().unwrap();
        socket(libc::AF_NETLINK, libc::NETLINK_ROUTE).unwrap();
        assert!(is_refused(socket(libc::AF_NETLINK, libc::NETLINK_KOBJECT_UEVENT)));
        assert!(is_refused(socket(libc::AF_NETLINK, libc::NETLINK_GENERIC)));
        assert!(is_refused(socket(libc::AF_PACKET, 0)) && is_refused(socket(libc::AF_ALG, 0)));
    });
}

#[test]
fn namespaces_of_the_network_alone_are_entered() {
    filtered(|| {
        let file = File::open("/proc/self/status").unwrap();
        let enter = |kind: c_int| error_with(libc::SYS_setns, [file.as_raw_fd().into(), kind.into(), 0, 0]);
        assert_eq!(enter(libc::CLONE_NEWNS), libc::EPERM);
        assert_eq!(enter(0), libc::EPERM);
        assert_eq!(enter(libc::CLONE_NEWNET), libc::EINVAL, "the kernel says that the file is no namespace");
    });
}

#[test]
fn nothing_is_loaded_once_that_is_over() {
    filtered(|| {
        // Loading a program, pinning and unpinning, attaching, and descriptors of others' programs and maps.
        for command in [5, 6, 7, 8, 13, 14] {
            assert_eq!(error_with(libc::SYS_bpf, [command, -1, -1, 0]), libc::EPERM, "{command}");
        }
    });
}

#[test]
fn until_the_programs_are_loaded_files_may_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made");
    let thread = thread::spawn(move || {
        set_no_new_privs(true).unwrap();
        refuse().unwrap();
        std::fs::write(&path, "text").and_then(|()| std::fs::remove_file(&path))
    });
    thread.join().unwrap().unwrap();
}
