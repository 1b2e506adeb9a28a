//! Who may ask: root, the user that the service runs as, and members of its group.
//!
//! The mode of the socket's file says so already. It is decided here once more, by what the kernel noted of
//! who connected: an administrator, or a directory with an ACL, may have given the file away.

use std::{
    fs::Metadata,
    io,
    mem::size_of_val,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
};

use tokio::net::UnixStream;

/// Groups of a process for which there is room at first; most have fewer.
const ROOM: usize = 64;
/// Groups that a process may have: `NGROUPS_MAX`.
const MOST_GROUPS: usize = 65_536;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    /// Its group, and those that it is in beside that.
    pub(super) groups: Vec<u32>,
}

impl Peer {
    /// By what the kernel noted when it connected.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let noted = stream.peer_cred()?;
        let mut groups = more_groups(stream.as_fd());
        groups.push(noted.gid());
        Ok(Self { uid: noted.uid(), groups })
    }
}

/// Whom the socket's file belongs to: the user and the group of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    pub(super) fn of(file: &Metadata) -> Self {
        Self { uid: file.uid(), gid: file.gid() }
    }

    /// Whether it gets an answer.
    pub(super) fn admits(&self, peer: &Peer) -> bool {
        peer.uid == 0 || peer.uid == self.uid || peer.groups.contains(&self.gid)
    }
}

/// The groups that a process was in beside its own when it connected (`SO_PEERGROUPS`, Linux 4.13). None
/// where the kernel does not say: then its own counts alone.
fn more_groups(socket: BorrowedFd<'_>) -> Vec<u32> {
    let mut groups = vec![0_u32; ROOM];
    // Twice: the first answer may be how much room it takes.
    for _ in 0..2 {
        let mut bytes = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the pointers are valid for writes of so many bytes and of one length, and the kernel writes
        // no more than that.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = (bytes as usize / size_of::<u32>()).min(MOST_GROUPS);
        if answer == 0 {
            groups.truncate(count);
            return groups;
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::ERANGE) {
            break;
        }
        groups.resize(count, 0);
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Owner = Owner { uid: 990, gid: 980 };

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        Peer { uid, groups: groups.to_vec() }
    }

    #[test]
    fn root_the_service_s_user_and_its_group_are_admitted_and_nobody_else() {
        for admitted in [peer(0, &[0]), peer(990, &[5]), peer(1000, &[980]), peer(1000, &[1000, 27, 980])] {
            assert!(SERVICE.admits(&admitted), "{admitted:?}");
        }
        // A number that is the user's is none of a group.
        for stranger in [peer(1000, &[1000, 27]), peer(980, &[990]), peer(65_534, &[65_534]), peer(1, &[])] {
            assert!(!SERVICE.admits(&stranger), "{stranger:?}");
        }
    }

    #[test]
    fn the_group_of_a_service_of_root_is_root_s() {
        let service = Owner { uid: 0, gid: 0 };
        assert!(service.admits(&peer(1000, &[1000, 0])) && !service.admits(&peer(1000, &[1000])));
    }

    #[tokio::test]
    async fn the_kernel_says_who_connected() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        let this = std::fs::metadata("/proc/self").unwrap();
        assert_eq!(peer.uid, this.uid());
        assert!(peer.groups.contains(&this.gid()), "{peer:?}");
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        for group in line.split_ascii_whitespace().map(|group| group.parse::<u32>().unwrap()) {
            assert!(peer.groups.contains(&group), "{group} is not in {peer:?}");
        }
    }
}
