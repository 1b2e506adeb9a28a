//! The guests' code: one read-only page, shared by all guests of this process.
//!
//! Each program begins with an `out`, which leaves the guest once: that shows the VMM that the vCPU has run.
//! The VMM sets DX to [`PORT`] before the first instruction; no program touches memory or other registers
//! than EAX.

use std::io;

use super::load::Load;

/// The I/O port that the programs talk to: one that no in-kernel device answers.
pub(super) const PORT: u16 = 0x0600;
/// Guest-physical address of the page.
pub(super) const LOAD_ADDRESS: u64 = 0x1000;
/// Size of the page, bytes.
pub(super) const IMAGE_SIZE: usize = 4096;

/// `out dx, al` then `jmp $`: never leaves the guest again by itself.
const BUSY: [u8; 3] = [
    0xEE, // out dx, al
    0xEB, 0xFE, // jmp $
];

/// Asks the VMM for a number of turns, burns them, asks again.
const BURN: [u8; 9] = [
    0xEE, // out dx, al
    // again:
    0x66, 0xED, // in eax, dx
    // burn:
    0x66, 0x48, // dec eax
    0x75, 0xFC, // jnz burn
    0xEB, 0xF8, // jmp again
];

/// Halts, and halts again when something wakes it.
const HALT: [u8; 4] = [
    0xEE, // out dx, al
    // again:
    0xF4, // hlt
    0xEB, 0xFD, // jmp again
];

/// Leaves the guest for every byte it writes.
const IO: [u8; 3] = [
    // again:
    0xEE, // out dx, al
    0xEB, 0xFD, // jmp again
];

const BUSY_AT: usize = 0x00;
const BURN_AT: usize = 0x10;
const HALT_AT: usize = 0x20;
const IO_AT: usize = 0x30;

#[repr(C, align(4096))]
struct Image([u8; IMAGE_SIZE]);

static IMAGE: Image = Image(assembled());

const fn assembled() -> [u8; IMAGE_SIZE] {
    // `int3`, for which there is no handler: a vCPU that strays from its program leaves the guest by an
    // error, and does not halt as if its program said so.
    let mut image = [0xCC; IMAGE_SIZE];
    image = placed(image, BUSY_AT, &BUSY);
    image = placed(image, BURN_AT, &BURN);
    image = placed(image, HALT_AT, &HALT);
    placed(image, IO_AT, &IO)
}

const fn placed(mut image: [u8; IMAGE_SIZE], at: usize, code: &[u8]) -> [u8; IMAGE_SIZE] {
    let mut index = 0;
    while index < code.len() {
        image[at + index] = code[index];
        index += 1;
    }
    image
}

/// The page in this process: it lives for ever and is never written.
pub(super) fn image() -> &'static [u8; IMAGE_SIZE] {
    &IMAGE.0
}

/// Takes the page out of this process's memory, but not out of the page cache: each guest whose vCPU goes on
/// faults it in again.
///
/// # Errors
/// When the kernel refuses.
pub fn take_page_away() -> io::Result<()> {
    let page = (&raw const IMAGE).cast_mut().cast();
    // SAFETY: the page is of the program's file and nobody writes it, so it comes back as it was.
    Ok(unsafe { rustix::mm::madvise(page, IMAGE_SIZE, rustix::mm::Advice::LinuxDontNeed) }?)
}

/// Guest address of a load's first instruction.
pub(super) fn entry(load: &Load) -> u64 {
    let offset = match load {
        Load::Busy => BUSY_AT,
        Load::Half { .. } | Load::Mix { .. } => BURN_AT,
        Load::Halt => HALT_AT,
        Load::Io => IO_AT,
    };
    LOAD_ADDRESS + offset as u64
}
