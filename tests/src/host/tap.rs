//! A tap in a network namespace of its own, held by this process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};

/// Of `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// Of `linux/sockios.h`.
const SIOCBRADDBR: libc::c_ulong = 0x89a0;
const SIOCBRADDIF: libc::c_ulong = 0x89a2;
/// Bytes of the packets that are sent.
const PACKET: usize = 100;
/// A protocol that nobody speaks (`ETH_P_802_EX1`, for local experiments), and broadcast.
const PROTOCOL: [u8; 2] = [0x88, 0xb5];
const EVERYBODY: [u8; 6] = [0xff; 6];

/// What the kernel counts of an interface: bytes, packets, errors, dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkStats {
    /// Of what the host got from it.
    pub(crate) received: [u64; 4],
    /// Of what the host gave to it.
    pub(crate) sent: [u64; 4],
}

type Task = Box<dyn FnOnce() + Send>;

/// The tap. Its descriptor is inherited by processes that this one starts, as a VMM gets it from who manages
/// it.
#[derive(Debug)]
pub(crate) struct Tap {
    name: &'static str,
    file: File,
    /// A thread that is in the tap's namespace.
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// Makes it and brings it up.
    pub(crate) fn create(name: &'static str) -> anyhow::Result<Self> {
        let (tasks, queue): (Sender<Task>, Receiver<Task>) = channel();
        let (opened, file) = channel();
        let thread = std::thread::Builder::new().name("netns".into()).spawn(move || {
            let _ = opened.send(enter().and_then(|()| open(name)));
            queue.into_iter().for_each(|task| task());
        })?;
        let file = file.recv().context("the thread in the namespace is gone")?.context("no tap")?;
        Ok(Self { name, file, tasks: Some(tasks), thread: Some(thread) })
    }

    /// Another in the same namespace, which must not live longer than this one. Whoever is started from now
    /// on inherits that one and not this.
    pub(crate) fn beside(&self, name: &'static str) -> anyhow::Result<Self> {
        inherit(&self.file, false)?;
        let file = self.inside(move || open(name))??;
        Ok(Self { name, file, tasks: self.tasks.clone(), thread: None })
    }

    /// Joins both by a bridge of their namespace. False where the kernel has no bridges.
    pub(crate) fn bridge(&self, other: &Self) -> anyhow::Result<bool> {
        let names = [self.name, other.name];
        match self.inside(move || bridge(names))? {
            Ok(()) => Ok(true),
            // Where no module answers to the call it is one that nobody knows.
            Err(error) if error.raw_os_error() == Some(libc::ENOPKG) => Ok(false),
            Err(error) => Err(error).context("no bridge"),
        }
    }

    /// Lets something happen in its namespace.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (sender, result) = channel();
        let tasks = self.tasks.as_ref().context("it ends")?;
        let run: Task = Box::new(move || drop(sender.send(task())));
        tasks.send(run).map_err(|_| anyhow!("the thread in the namespace is gone"))?;
        result.recv().context("what was to happen in the namespace panicked")
    }

    /// What the guest would do: sends packets out of it.
    pub(crate) fn transmit(&mut self, packets: usize) -> io::Result<()> {
        (0..packets).try_for_each(|_| self.file.write_all(&packet()))
    }

    /// Lets the host send packets into it, and takes them as the guest would. There may be others of the
    /// host's own among them.
    pub(crate) fn receive(&mut self, packets: usize) -> anyhow::Result<()> {
        let name = self.name;
        for _ in 0..packets {
            self.inside(move || send(name))??;
            self.take(1)?;
        }
        Ok(())
    }

    /// Takes packets as the guest would: until then the kernel has counted none of them.
    pub(crate) fn take(&mut self, packets: usize) -> io::Result<()> {
        for _ in 0..packets {
            while read(&mut self.file)?.get(12..14) != Some(&PROTOCOL) {}
        }
        Ok(())
    }

    /// Gives it another name.
    pub(crate) fn rename(&mut self, name: &'static str) -> anyhow::Result<()> {
        let before = self.name;
        self.inside(move || rename(before, name))??;
        self.name = name;
        Ok(())
    }

    /// What the kernel counts of it.
    pub(crate) fn stats(&self) -> anyhow::Result<LinkStats> {
        let text = self.inside(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        LinkStats::of(&text, self.name)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl LinkStats {
    /// From `/proc/net/dev`.
    pub(crate) fn of(text: &str, name: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
        let (_, fields) = lines.find(|(found, _)| *found == name).with_context(|| format!("no {name}"))?;
        let fields: Result<Vec<u64>, _> = fields.split_ascii_whitespace().map(str::parse).collect();
        let fields = fields?;
        let four = |at: usize| fields.get(at..at + 4).and_then(|part| part.try_into().ok());
        let (received, sent) = four(0).zip(four(8)).context("too few fields")?;
        Ok(Self { received, sent })
    }
}

fn packet() -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    packet[..6].copy_from_slice(&EVERYBODY);
    packet[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    packet[12..14].copy_from_slice(&PROTOCOL);
    packet
}

/// Moves the calling thread into a new network namespace, in which nobody sends anything by itself.
fn enter() -> io::Result<()> {
    // SAFETY: of this thread alone.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    // IPv6 looks for neighbours and routers. A kernel without it has no such file.
    match fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a bridge with these interfaces.
fn bridge(interfaces: [&str; 2]) -> io::Result<()> {
    const BRIDGE: &str = "hvs-bridge";
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = request(BRIDGE);
    // SAFETY: the kernel reads the name.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCBRADDBR, request.ifr_name.as_ptr()) })?;
    for name in interfaces {
        let mut port = self::request(name);
        // SAFETY: the kernel reads the name and writes the index.
        checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut port) })?;
        request.ifr_ifru = port.ifr_ifru;
        // SAFETY: the kernel reads such a structure.
        checked(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCBRADDIF, &raw mut request) })?;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: as above.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) }).map(drop)
}

fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes such a structure.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads such a structure.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) })?;
    inherit(&file, true)?;
    Ok(file)
}

/// Says whether processes that are started from now on inherit a descriptor.
pub(crate) fn inherit(file: &File, is_inherited: bool) -> io::Result<()> {
    let flags = if is_inherited { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: takes flags.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

/// Taps in one network namespace, which lives as long as they do. No process inherits them.
pub(crate) fn taps(names: Vec<String>) -> anyhow::Result<Vec<File>> {
    let make = move || -> io::Result<Vec<File>> {
        enter()?;
        let tap = |name: &String| open(name).and_then(|tap| inherit(&tap, false).map(|()| tap));
        names.iter().map(tap).collect()
    };
    let made = std::thread::spawn(make).join().map_err(|_| anyhow!("whoever makes taps panicked"))?;
    made.context("no taps")
}

fn rename(from: &str, to: &str) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut down = request(from);
    down.ifr_ifru.ifru_flags = 0;
    // SAFETY: the kernel reads such a structure. Before 6.5 only one that is down may be renamed.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut down) })?;
    let mut renamed = request(from);
    // SAFETY: a member of plain bytes.
    put(unsafe { &mut renamed.ifr_ifru.ifru_newname }, to);
    // SAFETY: as above.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFNAME, &raw mut renamed) }).map(drop)
}

/// Sends a packet into an interface.
fn send(name: &str) -> io::Result<()> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let mut request = request(name);
    // SAFETY: the kernel reads the name and writes the index.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request) })?;
    // SAFETY: all bytes zero are such a structure.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    // SAFETY: the call above has written it.
    to.sll_ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
    let (packet, length) = (packet(), size_of::<libc::sockaddr_ll>() as libc::socklen_t);
    // SAFETY: so many bytes are there, and the address is one of this length.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut room = vec![0; 2048];
    let length = file.read(&mut room)?;
    room.truncate(length);
    Ok(room)
}

fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor, which is nobody else's.
    let fd = checked(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all bytes zero are such a structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    put(&mut request.ifr_name, name);
    request
}

fn put(to: &mut [libc::c_char; libc::IFNAMSIZ], name: &str) {
    for (to, from) in to.iter_mut().zip(name.bytes().chain([0])) {
        *to = from.cast_signed();
    }
}

fn checked(answer: i32) -> io::Result<i32> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
