use std::{
    ffi::OsString,
    fs::File,
    io::{self, IoSliceMut, Read as _, Seek as _, SeekFrom, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixDatagram},
    },
    time::{Duration, Instant},
};

use aya::maps::IterableMap as _;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::*;
use crate::{
    kernel::{
        bpf::{self, Info, fixture},
        descriptors::Token,
    },
    service::Supervision,
};

/// The manager's end.
struct Listener {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Listener {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, directory }
    }

    /// What the service knows of it, which keeps so many descriptors.
    fn manager(&self, keeps: Option<&str>) -> Manager {
        let path = self.directory.path().join("notify");
        let env = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
            "FDSTORE" => keeps.map(OsString::from),
            _ => None,
        };
        Manager::of(&Supervision::of(&env, std::process::id()))
    }

    /// The next message with what came beside it; `None` where there is no more.
    fn next(&self) -> Option<(String, Vec<OwnedFd>)> {
        let (mut text, mut room) = ([0; 4096], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))]);
        let mut beside = RecvAncillaryBuffer::new(&mut room);
        let parts = &mut [IoSliceMut::new(&mut text)];
        let length = match recvmsg(&self.socket, parts, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received.bytes,
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        };
        let rights = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = rights.flatten().collect();
        Some((String::from_utf8(text[..length].to_vec()).unwrap(), descriptors))
    }

    /// All messages that wait.
    fn texts(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).map(|(text, _)| text).collect()
    }
}

fn name(part: Part) -> Name {
    Name { set: Token::from_number(0x1f), part }
}

fn map(name_of_map: &str) -> Name {
    name(Part::Map(name_of_map.to_owned()))
}

#[tokio::test]
async fn the_file_that_is_kept_is_the_one_that_was_sent() {
    let listener = Listener::new();
    let mut sent = tempfile::tempfile().unwrap();
    let place = (sent.metadata().unwrap().dev(), sent.metadata().unwrap().ino());
    sent.write_all(b"counts").unwrap();
    sent.seek(SeekFrom::Start(2)).unwrap();
    assert!(listener.manager(None).keep(&[(map("PIDS"), sent.as_fd())]).await);
    // As a process does that is killed then.
    drop(sent);
    let (text, mut descriptors) = listener.next().unwrap();
    assert_eq!(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=hvs-1f-m-PIDS");
    let mut kept = File::from(descriptors.pop().unwrap());
    assert!(descriptors.is_empty());
    assert_eq!((kept.metadata().unwrap().dev(), kept.metadata().unwrap().ino()), place);
    let mut rest = String::new();
    kept.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "unts", "it was not opened anew");
}

#[tokio::test]
async fn a_map_that_is_kept_is_the_same_map() {
    let Some(map_of_ours) = fixture::map() else { return };
    let listener = Listener::new();
    let expected = Info::Map(fixture::info(&map_of_ours));
    assert!(listener.manager(None).keep(&[(map("MAP"), map_of_ours.map().fd().as_fd())]).await);
    drop(map_of_ours);
    let (_, descriptors) = listener.next().unwrap();
    assert_eq!(bpf::info(descriptors[0].as_fd()).unwrap(), expected);
}

#[tokio::test]
async fn the_manifest_is_the_last() {
    let listener = Listener::new();
    let file = tempfile::tempfile().unwrap();
    let parts = [Part::StateA, Part::Manifest, Part::Segment(3)].map(|part| (name(part), file.as_fd()));
    assert!(listener.manager(None).keep(&parts).await);
    let names = ["state-a", "s-03", "manifest"];
    let expected = names.map(|name| format!("FDSTORE=1\nFDPOLL=0\nFDNAME=hvs-1f-{name}"));
    assert_eq!(listener.texts(), expected);
}

#[tokio::test]
async fn what_is_not_needed_any_more_is_forgotten_by_name() {
    let listener = Listener::new();
    let manager = listener.manager(None);
    let link = name(Part::Link("kvm_exit".to_owned())).to_string();
    assert!(manager.forget([link.as_str(), "hvs-1-x-NEW"]).await);
    let (text, descriptors) = listener.next().unwrap();
    assert_eq!((text.as_str(), descriptors.len()), ("FDSTOREREMOVE=1\nFDNAME=hvs-1f-l-kvm_exit", 0));
    assert_eq!(listener.texts(), ["FDSTOREREMOVE=1\nFDNAME=hvs-1-x-NEW"]);
}

#[tokio::test]
async fn a_manager_that_has_no_room_is_asked_once_and_gets_no_manifest() {
    let listener = Listener::new();
    let manager = listener.manager(None);
    let file = tempfile::tempfile().unwrap();
    let one = [(map("PIDS"), file.as_fd())];
    // As many as its queue takes, which is a setting of the kernel's.
    while manager.keep(&one).await {}
    let began = Instant::now();
    let all =
        [(map("PIDS"), file.as_fd()), (map("VMMS"), file.as_fd()), (name(Part::Manifest), file.as_fd())];
    assert!(!manager.keep(&all).await);
    assert!(!manager.forget(["hvs-1-manifest", "hvs-2-manifest"]).await);
    // Each message would cost a second.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let texts = listener.texts();
    assert!(texts.iter().all(|text| text.ends_with("-m-PIDS")), "{texts:?}");
    assert!(manager.keep(&all).await, "it reads again");
}

#[tokio::test]
async fn room_is_known_where_there_is_a_manager_that_says_so() {
    let listener = Listener::new();
    let can_keep = |keeps| [1, 256, 257].map(|count| listener.manager(keeps).can_keep(count));
    assert_eq!(can_keep(Some("256")), [true, true, false]);
    assert_eq!(can_keep(Some("0")), [false; 3]);
    assert_eq!(can_keep(None), [true; 3]);
    let nobody = Manager::of(&Supervision::default());
    assert!(!nobody.can_keep(1));
    assert!(!nobody.keep(&[(map("PIDS"), io::stderr().as_fd())]).await);
}
