use super::{
    super::{check::CheckStatus, fixture::FakeRoot},
    *,
};
use crate::kernel::btf::fixture::{Builder, member};

/// A kernel with this `spinlock_t`, whose ring buffers have the lock that `ring` makes: that one, or another.
fn kernel(spinlock: fn(&mut Builder) -> u32, ring: fn(&mut Builder, u32) -> u32) -> Builder {
    let mut btf = Builder::new();
    let spinlock = spinlock(&mut btf);
    let (lock, word) = (ring(&mut btf, spinlock), btf.int(8));
    btf.structure("bpf_ringbuf", 64, &[member("mask", word, 0), member("spinlock", lock, 8)]);
    btf
}

fn lock_of(spinlock: fn(&mut Builder) -> u32, ring: fn(&mut Builder, u32) -> u32) -> RingLock {
    RingLock::of(&kernel(spinlock, ring).build())
}

/// `spinlock_t` of all kernels but those of PREEMPT_RT.
fn spins(btf: &mut Builder) -> u32 {
    let raw = raw(btf, 0);
    let held = btf.union("", 4, &[member("rlock", raw, 0)]);
    let lock = btf.structure("spinlock", 4, &[member("", held, 0)]);
    btf.typedef("spinlock_t", lock)
}

/// `spinlock_t` of PREEMPT_RT.
fn sleeps(btf: &mut Builder) -> u32 {
    holding(btf, "rt_mutex_base")
}

/// The same in 5.10.
fn sleeps_5_10(btf: &mut Builder) -> u32 {
    holding(btf, "rt_mutex")
}

fn is_strange(btf: &mut Builder) -> u32 {
    holding(btf, "queue")
}

fn holding(btf: &mut Builder, held: &str) -> u32 {
    let word = btf.int(8);
    let held = btf.structure(held, 32, &[member("owner", word, 24)]);
    let lock = btf.structure("spinlock", 32, &[member("lock", held, 0)]);
    btf.typedef("spinlock_t", lock)
}

fn itself(_: &mut Builder, spinlock: u32) -> u32 {
    spinlock
}

fn raw(btf: &mut Builder, _: u32) -> u32 {
    let lock = word_in(btf, "raw_spinlock");
    btf.typedef("raw_spinlock_t", lock)
}

/// The lock of Linux 6.15 and later.
fn resilient(btf: &mut Builder, _: u32) -> u32 {
    let lock = word_in(btf, "rqspinlock");
    btf.typedef("rqspinlock_t", lock)
}

fn novel(btf: &mut Builder, _: u32) -> u32 {
    word_in(btf, "novel_lock")
}

fn number(btf: &mut Builder, _: u32) -> u32 {
    btf.int(8)
}

fn word_in(btf: &mut Builder, name: &str) -> u32 {
    let word = btf.int(4);
    btf.structure(name, 4, &[member("val", word, 0)])
}

#[test]
fn where_spinlocks_spin_the_ring_s_does_whatever_it_is() {
    assert_eq!(lock_of(spins, itself), RingLock::Spins);
    assert_eq!(lock_of(spins, raw), RingLock::Spins);
    assert_eq!(lock_of(spins, novel), RingLock::Spins);
}

#[test]
fn a_spinlock_that_is_a_mutex_sleeps() {
    assert_eq!(lock_of(sleeps, itself), RingLock::Sleeps);
    assert_eq!(lock_of(sleeps_5_10, itself), RingLock::Sleeps);
}

#[test]
fn a_raw_lock_spins_where_others_sleep() {
    assert_eq!(lock_of(sleeps, raw), RingLock::Spins);
    assert_eq!(lock_of(sleeps, resilient), RingLock::Spins);
}

#[test]
fn what_is_not_understood_is_not_taken_and_named() {
    let why = |lock: RingLock| lock.obstacle().unwrap();
    assert!(why(lock_of(sleeps, novel)).ends_with("(whether its struct novel_lock sleeps is not known)"));
    assert!(why(lock_of(is_strange, itself)).ends_with("(whether its struct spinlock sleeps is not known)"));
    assert!(why(lock_of(sleeps, number)).ends_with("(bpf_ringbuf.spinlock is no structure in this kernel)"));
    let mut ringless = Builder::new();
    sleeps(&mut ringless);
    assert!(why(RingLock::of(&ringless.build())).ends_with("(the kernel has no struct bpf_ringbuf)"));
}

#[test]
fn the_check_says_who_reports() {
    let item = |btf: &Builder| check(&FakeRoot::new().file("sys/kernel/btf/vmlinux", btf.bytes()).root());
    assert_eq!(item(&kernel(spins, itself)).status, CheckStatus::Ok);
    let walks = item(&kernel(sleeps, itself));
    assert_eq!(walks.status, CheckStatus::Warn);
    assert!(walks.detail.contains("walk of each snapshot alone: the lock of this kernel's"), "{walks:?}");
    assert!(walks.fix.unwrap().starts_with("nothing to do"));
    assert!(item(&kernel(sleeps, novel)).fix.unwrap().starts_with("report this kernel"));
    assert_eq!(check(&FakeRoot::new().root()).status, CheckStatus::Warn);
}
