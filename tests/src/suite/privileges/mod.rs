//! What the service gives up once it has started: that it is gone, and that nothing is lost by it.

mod child;
mod dropped;
mod landlock;
mod running;
mod suffice;
mod threads;

use std::time::Duration;

use super::MINUTE;
use crate::runner::{Need, Set, Test};

/// Time for a test with a running service.
const LIMIT: Duration = Duration::from_secs(240);
const NEEDS: &[Need] = &[Need::Kvm, Need::Bpf, Need::Tun];

/// The tests of it.
pub(super) const TESTS: &[Test] = &[
    Test {
        name: "privileges.what-was-given-up-fails",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Bpf],
        limit: MINUTE,
        run: dropped::all_fails,
    },
    Test {
        name: "privileges.landlock-would-blind-us",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Root],
        limit: MINUTE,
        run: landlock::would_blind_us,
    },
    Test {
        name: "privileges.suffice-on-this-kernel",
        sets: &[Set::Native, Set::Lab],
        needs: NEEDS,
        limit: LIMIT,
        run: suffice::on_this_kernel,
    },
    Test {
        name: "privileges.of-the-service-as-root",
        sets: &[Set::Native],
        needs: NEEDS,
        limit: LIMIT,
        run: running::as_root,
    },
    Test {
        name: "privileges.of-the-service-as-another-user",
        sets: &[Set::Native],
        needs: NEEDS,
        limit: LIMIT,
        run: running::as_another_user,
    },
    Test {
        name: "privileges.as-the-unit-starts-it",
        sets: &[Set::Native],
        needs: NEEDS,
        limit: LIMIT,
        run: running::as_the_unit_starts_it,
    },
    Test {
        name: "privileges.without-network-namespaces",
        sets: &[Set::Native],
        needs: NEEDS,
        limit: LIMIT,
        run: running::without_network_namespaces,
    },
    Test {
        name: "privileges.none-are-given-up",
        sets: &[Set::Native],
        needs: NEEDS,
        limit: LIMIT,
        run: running::without_a_sandbox,
    },
];
