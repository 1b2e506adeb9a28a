//! Threads of VMMs that run no vCPU, and kernel threads that may work for one: what a walk finds of them.
//!
//! They have no slots. Each walk lists those that it finds anew, from the first record on, so nothing has to
//! be given out or taken back; who is who follows from thread id and start time.

/// Helper threads that one walk can list; what it finds beyond is counted.
pub const MAX_HELPERS: u32 = 8192;
/// Process ids in one entry of the table of VMMs' processes.
pub const VMMS_PER_WORD: u32 = u64::BITS;
/// `PF_KTHREAD` of a thread's flags: the kernel made it, and nobody else can name it. The same from 2.6 to
/// 7.2.
pub const PF_KTHREAD: u32 = 0x0020_0000;
/// How the workers of vhost are called; the id of the thread that asked for one follows in decimal.
pub const VHOST_PREFIX: &[u8] = b"vhost-";

/// One helper thread as a walk found it. Written by the walk alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HelperRecord {
    /// Number of the walk that wrote this.
    pub generation: u64,
    /// `CLOCK_BOOTTIME` at the thread's creation, ns: with `tid` it identifies the thread.
    pub start_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` at the creation of its process, ns: with `tgid` it identifies the process.
    pub leader_start_boottime_ns: u64,
    /// CPU time as the kernel counts it, ns.
    pub run_ns: u64,
    /// Run delay as the kernel counts it, ns.
    pub run_delay_ns: u64,
    /// CPU time since the kernel last brought its count up to date, ns; 0 off the CPU.
    pub running_ns: u64,
    /// Length of the wait that is going on, ns: not yet in the kernel's run delay; 0 when the thread does not
    /// wait.
    pub waiting_ns: u64,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// 1 for a kernel thread.
    pub kernel: u32,
    /// 1 when the times were read; 0 of a thread that switched at each attempt to read it: the times say
    /// nothing then.
    pub read: u32,
    /// Name of the thread, not terminated when it fills the array.
    pub comm: [u8; 16],
}

/// Whether a thread may be a worker of vhost, by the first eight bytes of its name as a number. A single load
/// for the programs.
#[must_use]
#[inline(always)]
pub const fn may_be_vhost(name: u64) -> bool {
    const LEN: usize = VHOST_PREFIX.len();
    let mut prefix = [0; 8];
    let mut at = 0;
    while at < LEN {
        prefix[at] = VHOST_PREFIX[at];
        at += 1;
    }
    let bits = 64 - 8 * LEN as u32;
    name << bits == u64::from_le_bytes(prefix) << bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_s_first_bytes_show_vhost() {
        let is_vhost = |name: &[u8; 8]| may_be_vhost(u64::from_le_bytes(*name));
        assert!(is_vhost(b"vhost-1\0") && is_vhost(b"vhost-\0\0") && is_vhost(b"vhost-12"));
        assert!(
            !is_vhost(b"vhost_12")
                && !is_vhost(b"vhos\0\0\0\0")
                && !is_vhost(b"xvhost-1")
                && !is_vhost(b"\0\0\0\0\0\0\0\0")
        );
    }
}
