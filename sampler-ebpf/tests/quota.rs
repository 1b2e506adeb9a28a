//! The part of a wait for which a deadline thread had used up its runtime.

use sampler_ebpf::quota::until_period;

#[test]
fn a_deadline_thread_is_held_back_until_its_period_ends() {
    // The wait goes on, ended with the period, or began with a wake-up within it.
    assert_eq!(until_period(100, 500, 300), 200);
    assert_eq!(until_period(100, 500, 700), 400);
    assert_eq!(until_period(450, 500, 700), 50);
    // It slept beyond the period.
    assert_eq!(until_period(600, 500, 700), 0);
    assert_eq!(until_period(100, 0, 700), 0);
}
