//! What passes a guest's network interfaces is what the kernel counts.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::{Attached, AttachedKind, Direction, Interface};
use hvsampler::source::{Kvm, Question, Source as _};

use super::super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::super::sampler;
use super::super::states::threads_of;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::{LinkStats, Tap};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// Time for one with a Linux guest.
pub(super) const LIMIT_LINUX: Duration = Duration::from_secs(240);
const SENT: usize = 30;
const RECEIVED: usize = 20;

/// A guest whose tap is in another network namespace than its VMM: the numbers are the kernel's, in the
/// guest's direction. With another name it is another interface.
pub(super) fn as_the_kernel_counts(context: &Context) -> anyhow::Result<Outcome> {
    let mut tap = Tap::create("hvs-one")?;
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("net", 1, Load::Halt))?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads_of(&guest))?;
    let before = tap.stats()?;
    let first = read(&mut source, guest.pid())?.context("the guest has no interface")?;
    ensure!(first.counts == Default::default() && first.since_unix_ns > 0, "{first:?}");
    ensure!(&*first.name == "hvs-one", "{first:?}");
    tap.transmit(SENT)?;
    tap.receive(RECEIVED)?;
    let shown = read(&mut source, guest.pid())?.context("the interface is gone")?;
    let after = tap.stats()?;
    ensure!(shown.since_unix_ns == first.since_unix_ns && shown.is_new, "{shown:?} after {first:?}");
    agrees(&shown, &before, &after)?;
    let packets = shown.counts.packets;
    ensure!(
        packets[Direction::Transmit as usize] == SENT as u64
            && packets[Direction::Receive as usize] >= RECEIVED as u64,
        "{SENT} packets were sent and {RECEIVED} received, by us {packets:?}"
    );
    tap.rename("hvs-two")?;
    let renamed = read(&mut source, guest.pid())?.context("the interface is gone")?;
    ensure!(&*renamed.name == "hvs-two" && renamed.since_unix_ns > shown.since_unix_ns, "{renamed:?}");
    ensure!(renamed.counts == Default::default(), "{renamed:?}");
    guest.end(Ending::Killed)?;
    Ok(Outcome::Passed(format!("the guest has sent {} packets and received {}", packets[1], packets[0])))
}

/// Of two guests on one bridge each has sent what the other has received.
pub(super) fn of_two_guests(context: &Context) -> anyhow::Result<Outcome> {
    const SENT: [usize; 2] = [30, 12];
    let binary = context.binary("tiny-vmm")?;
    let start = |name| Guest::start(&binary, &GuestConfig::new(name, 1, Load::Halt));
    let mut one = Tap::create("hvs-one")?;
    let guest_of_one = start("one")?;
    let mut other = one.beside("hvs-other")?;
    let guest_of_other = start("other")?;
    if !one.bridge(&other)? {
        return Ok(Outcome::Skipped("this kernel has no bridges".to_owned()));
    }
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[threads_of(&guest_of_one), threads_of(&guest_of_other)].concat())?;
    let pids = [guest_of_one.pid(), guest_of_other.pid()];
    for pid in pids {
        read(&mut source, pid)?.context("a guest has no interface")?;
    }
    let before = [one.stats()?, other.stats()?];
    one.transmit(SENT[0])?;
    other.transmit(SENT[1])?;
    one.take(SENT[1])?;
    other.take(SENT[0])?;
    let after = [one.stats()?, other.stats()?];
    let mut packets = Vec::new();
    for (n, pid) in pids.into_iter().enumerate() {
        let shown = read(&mut source, pid)?.context("an interface is gone")?;
        agrees(&shown, &before[n], &after[n])?;
        packets.push(shown.counts.packets);
    }
    let [sent, received] = [Direction::Transmit, Direction::Receive]
        .map(|direction| [0, 1].map(|n: usize| packets[n][direction as usize]));
    let expected = SENT.map(|packets| packets as u64);
    ensure!(sent == expected, "{SENT:?} were sent, by us {sent:?}");
    // The bridge sends some of its own.
    let all = received[0] >= expected[1] && received[1] >= expected[0];
    ensure!(all, "{SENT:?} were sent, received are {received:?}");
    Ok(Outcome::Passed(format!("they have sent {sent:?} packets and received {received:?}")))
}

/// A Linux guest with vhost-net that sends packets.
pub(super) fn of_a_linux_guest(_: &Context) -> anyhow::Result<Outcome> {
    let config = LinuxGuestConfig {
        name: "sends".into(),
        uuid: None,
        vcpus: 1,
        does: "load=halt net=on stat=0 for=100000",
        devices: &[
            "-netdev",
            "tap,id=net0,ifname=hvs-guest,vhost=on,script=no,downscript=no",
            "-device",
            "virtio-net-pci,netdev=net0",
        ],
    };
    let stats =
        || -> anyhow::Result<LinkStats> { LinkStats::of(&fs::read_to_string("/proc/net/dev")?, "hvs-guest") };
    let guest = LinuxGuest::start(&[config])?.pop().context("no guest")?;
    super::disks::is_listed(
        guest.pid(),
        &Attached {
            kind: AttachedKind::Network,
            path: "hvs-guest".into(),
            seen_at: vec!["hvs-guest".into()],
            unseen: None,
        },
    )?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &guest.threads())?;
    // vhost's worker goes on for a moment where the guest stands still.
    let rest = |source: &mut Kvm| -> anyhow::Result<(Interface, LinkStats)> {
        guest.set_stopped(true)?;
        thread::sleep(Duration::from_millis(300));
        let shown = read(source, guest.pid())?.context("the guest has no interface")?;
        Ok((shown, stats()?))
    };
    let (_, before) = rest(&mut source)?;
    guest.set_stopped(false)?;
    thread::sleep(Duration::from_secs(3));
    let (shown, after) = rest(&mut source)?;
    agrees(&shown, &before, &after)?;
    let packets = shown.counts.packets;
    ensure!(packets[Direction::Transmit as usize] > 0, "the guest sends nothing: {shown:?}");
    guest.set_stopped(false)?;
    Ok(Outcome::Passed(format!("the guest has sent {} packets and received {}", packets[1], packets[0])))
}

/// What is shown is what was added to the kernel's counts.
fn agrees(shown: &Interface, before: &LinkStats, after: &LinkStats) -> anyhow::Result<()> {
    let of = |direction: Direction| {
        let counts = &shown.counts;
        [counts.bytes, counts.packets, counts.errors, counts.dropped].map(|counts| counts[direction as usize])
    };
    let added = |after: [u64; 4], before: [u64; 4]| std::array::from_fn(|n| after[n] - before[n]);
    let (into, out): ([u64; 4], [u64; 4]) =
        (added(after.sent, before.sent), added(after.received, before.received));
    ensure!(
        of(Direction::Receive) == into,
        "into the guest {:?}, the kernel has {into:?}",
        of(Direction::Receive)
    );
    ensure!(
        of(Direction::Transmit) == out,
        "out of it {:?}, the kernel has {out:?}",
        of(Direction::Transmit)
    );
    Ok(())
}

/// The interface of a guest as it is now, where it has one.
fn read(source: &mut Kvm, pid: u32) -> anyhow::Result<Option<Interface>> {
    let ask = source.answerer();
    for vm in source.vms() {
        source.answer(ask(Question::Devices(vm)));
    }
    // The first reading wants to know what the kernel counts.
    source.snapshot()?;
    source.questions().into_iter().for_each(|question| source.answer(ask(question)));
    let snapshot = source.snapshot()?;
    let vm =
        snapshot.vms.into_iter().find(|vm| vm.origin.pid() == Some(pid)).context("the guest is missing")?;
    ensure!(vm.interfaces.len() <= 1, "several interfaces: {:?}", vm.interfaces);
    Ok(vm.interfaces.into_iter().next())
}
