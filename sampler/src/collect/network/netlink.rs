//! Asking the kernel for the counts of all interfaces of a namespace at once (`RTM_GETSTATS`, 4.7 and later:
//! its answer has the counts and nothing else, a tenth of what `RTM_GETLINK` says).

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    thread,
};

use crate::kernel::clock::Clock;

/// Message types, flags and attributes of `linux/netlink.h`, `linux/rtnetlink.h` and `linux/if_link.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_STATS_LINK_64: u16 = 1;
/// `struct nlmsghdr`, `struct if_stats_msg` and `struct nlattr`.
const HEADER: usize = 16;
const STATS_HEADER: usize = 12;
const ATTRIBUTE: usize = 4;
/// The kernel fills at most 32 KiB of an answer at once.
pub(super) const ROOM: usize = 64 << 10;
/// Time for an answer. The kernel has written it when the question returns.
const PATIENCE_S: libc::time_t = 2;

/// What the kernel counts of an interface, from the host's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Packets that the host got from it.
    pub received_packets: u64,
    /// Packets that the host gave to it.
    pub sent_packets: u64,
    /// Bytes of the former.
    pub received_bytes: u64,
    /// Bytes of the latter.
    pub sent_bytes: u64,
    /// Errors while receiving.
    pub receive_errors: u64,
    /// Errors while sending.
    pub send_errors: u64,
    /// Packets from it that were dropped.
    pub receive_dropped: u64,
    /// Packets to it that were dropped.
    pub send_dropped: u64,
}

impl LinkCounts {
    /// From the begin of `struct rtnl_link_stats64`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |n: usize| Some(u64::from_ne_bytes(bytes.get(n * 8..n * 8 + 8)?.try_into().ok()?));
        Some(Self {
            received_packets: word(0)?,
            sent_packets: word(1)?,
            received_bytes: word(2)?,
            sent_bytes: word(3)?,
            receive_errors: word(4)?,
            send_errors: word(5)?,
            receive_dropped: word(6)?,
            send_dropped: word(7)?,
        })
    }
}

/// A moment by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Unix time, ns.
    pub unix_ns: u64,
    /// `CLOCK_MONOTONIC`, ns: what lengths are taken from.
    pub monotonic_ns: u64,
}

impl Moment {
    fn now() -> Self {
        Self { unix_ns: Clock::now_unix_ns(), monotonic_ns: Clock::now_monotonic_ns() }
    }
}

/// A socket in a network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    number: u32,
}

impl Netlink {
    /// Opens one in the namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self::of(open()?))
    }

    fn of(socket: OwnedFd) -> Self {
        Self { socket, number: 0 }
    }

    /// Opens one in another. On a thread of its own, for no other may find itself there.
    pub(super) fn open_in(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let namespace = namespace.as_raw_fd();
        let socket = thread::scope(|scope| {
            let opened = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
                // SAFETY: moves this thread alone, which ends right after.
                if unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                open()
            })?;
            opened.join().map_err(|_| io::Error::other("the thread that opens a socket panicked"))?
        })?;
        Ok(Self::of(socket))
    }

    /// The index of the interface with this name.
    pub(super) fn index_of(&self, name: &str) -> io::Result<u32> {
        // SAFETY: all bytes zero are such a structure.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: the kernel reads the name, which ends with a zero, and writes the index.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has written this member.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex }.cast_unsigned())
    }

    /// Hands index and counts of every interface to `each`, with when they were read. `room` is of [`ROOM`]
    /// bytes.
    ///
    /// The kernel reads what it sends at once while it takes the question in, once it has its lock, and what
    /// it sends next while it hands out that: so the moment of each part is the end of the call before.
    pub(super) fn dump(
        &mut self,
        room: &mut [u8],
        each: &mut dyn FnMut(u32, LinkCounts, Moment),
    ) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let request = request(self.number);
        // SAFETY: so many bytes are there.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut at = Moment::now();
        loop {
            // SAFETY: there is room for so many bytes.
            let length =
                unsafe { libc::recv(self.socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
            let length = match usize::try_from(length).map_err(|_| io::Error::last_os_error()) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let next = Moment::now();
            let mut put = |index, counts| each(index, counts, at);
            if read(&room[..length.min(room.len())], self.number, &mut put)? {
                return Ok(());
            }
            at = next;
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let patience = libc::timeval { tv_sec: PATIENCE_S, tv_usec: 0 };
    // SAFETY: the option's value is such a structure, of this size.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const patience).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

fn request(number: u32) -> [u8; HEADER + STATS_HEADER] {
    let mut request = [0; HEADER + STATS_HEADER];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &((HEADER + STATS_HEADER) as u32).to_ne_bytes());
    put(4, &RTM_GETSTATS.to_ne_bytes());
    put(6, &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    put(8, &number.to_ne_bytes());
    // Which attributes are wanted, as bits from the first one on.
    put(HEADER + 8, &(1_u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
    request
}

/// Reads what came at once; returns whether that was the end of the answer to the question of this number.
fn read(mut bytes: &[u8], number: u32, each: &mut dyn FnMut(u32, LinkCounts)) -> io::Result<bool> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0).ok_or_else(malformed)? as usize;
        let message = bytes.get(..length).filter(|_| length >= HEADER).ok_or_else(malformed)?;
        let (kind, of) = (u16_at(message, 4), u32_at(message, 8));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The end of an answer that nobody waited for.
        if of != Some(number) {
            continue;
        }
        let content = &message[HEADER..];
        match kind {
            // Its content is 0, or why there is no more.
            Some(NLMSG_DONE) => return refusal(content).map_or(Ok(true), Err),
            Some(NLMSG_ERROR) => {
                return Err(refusal(content).unwrap_or_else(malformed));
            }
            Some(RTM_NEWSTATS) => {
                if let Some((index, counts)) = link(content) {
                    each(index, counts);
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// An error at the begin of a message's content: the negative number of one.
fn refusal(content: &[u8]) -> Option<io::Error> {
    let error = u32_at(content, 0)?.cast_signed();
    (error < 0).then(|| io::Error::from_raw_os_error(error.wrapping_neg()))
}

/// Index and counts of an interface.
fn link(content: &[u8]) -> Option<(u32, LinkCounts)> {
    let index = u32_at(content, 4)?;
    let mut rest = content.get(STATS_HEADER..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let attribute = rest.get(ATTRIBUTE..length)?;
        if kind == IFLA_STATS_LINK_64 {
            return Some((index, LinkCounts::parse(attribute)?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use proptest::prelude::*;

    use super::*;

    pub(super) fn message(kind: u16, number: u32, content: &[u8]) -> Vec<u8> {
        let length = (HEADER + content.len()) as u32;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0_u16.to_ne_bytes());
        bytes.extend(number.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub(super) fn stats(index: u32, first: u64) -> Vec<u8> {
        let mut content = vec![0; 4];
        content.extend(index.to_ne_bytes());
        content.extend(1_u32.to_ne_bytes());
        // Another attribute before it, of a length that is padded.
        content.extend(5_u16.to_ne_bytes());
        content.extend(9_u16.to_ne_bytes());
        content.extend([1, 0, 0, 0]);
        content.extend(((ATTRIBUTE + 10 * 8) as u16).to_ne_bytes());
        content.extend(IFLA_STATS_LINK_64.to_ne_bytes());
        content.extend((0..10).flat_map(|n| (first + n).to_ne_bytes()));
        content
    }

    pub(super) fn all(bytes: &[u8], number: u32) -> io::Result<(bool, Vec<(u32, LinkCounts)>)> {
        let mut links = Vec::new();
        let is_over = read(bytes, number, &mut |index, counts| links.push((index, counts)))?;
        Ok((is_over, links))
    }

    #[test]
    fn counts_are_read_until_the_end_of_the_answer() {
        let bytes = [
            message(RTM_NEWSTATS, 6, &stats(1, 900)),
            message(NLMSG_DONE, 6, &[]),
            message(RTM_NEWSTATS, 7, &stats(3, 10)),
            message(RTM_NEWSTATS, 7, &stats(4, 20)),
        ];
        let (is_over, links) = all(&bytes.concat(), 7).unwrap();
        assert!(!is_over);
        assert_eq!(links.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 4]);
        let expected = LinkCounts {
            received_packets: 10,
            sent_packets: 11,
            received_bytes: 12,
            sent_bytes: 13,
            receive_errors: 14,
            send_errors: 15,
            receive_dropped: 16,
            send_dropped: 17,
        };
        assert_eq!(links[0].1, expected);
        assert!(all(&message(NLMSG_DONE, 7, &[]), 7).unwrap().0);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refused = message(NLMSG_ERROR, 7, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(all(&refused, 7).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let ended = message(NLMSG_DONE, 7, &(-libc::ENOMEM).to_ne_bytes());
        assert_eq!(all(&ended, 7).unwrap_err().raw_os_error(), Some(libc::ENOMEM), "not all are there");
        assert!(all(&message(NLMSG_DONE, 7, &0_i32.to_ne_bytes()), 7).unwrap().0);
    }

    #[test]
    fn the_kernel_answers() {
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.index_of("lo").unwrap();
        for _ in 0..2 {
            let mut found = false;
            let before = Moment::now();
            let mut see =
                |index, _, at: Moment| found |= index == lo && at.monotonic_ns > before.monotonic_ns;
            netlink.dump(&mut [0; ROOM], &mut see).unwrap();
            assert!(found, "what is read is dated when the kernel has read it");
        }
        assert!(netlink.index_of("no-such-device").is_err());
        assert!(netlink.index_of(&"x".repeat(16)).is_err());
        let file = File::open("/dev/null").unwrap();
        assert!(Netlink::open_in(file.as_fd()).is_err(), "that is no namespace");
    }

    proptest! {
        #[test]
        fn no_answer_is_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&bytes, 7);
        }

        #[test]
        fn no_content_is_more_than_no_link(content in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&message(RTM_NEWSTATS, 7, &content), 7);
        }
    }
}
