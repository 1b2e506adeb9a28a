//! Answers of the kernel's, and what is none.

use super::{
    HEADER, LinkCounts, NLMSG_DONE, NLMSG_ERROR, RTM_NEWSTATS, read,
    tests::{all, message, stats},
};
use crate::fuzzing::{Memory, Target, cuts};

const MESSAGES: Target =
    Target { name: "netlink", words: &["\u{7}\0\0\0", "\\\0"], inputs: 30_000, memory: Memory::SMALL };

/// Number of the question.
const NUMBER: u32 = 7;

/// All that is found before the end, or before what is wrong.
fn found(bytes: &[u8]) -> Vec<(u32, LinkCounts)> {
    let mut links = Vec::new();
    let _ = read(bytes, NUMBER, &mut |index, counts| links.push((index, counts)));
    links
}

#[test]
fn netlink() {
    let answer = [
        message(RTM_NEWSTATS, NUMBER, &stats(1, 900)),
        message(RTM_NEWSTATS, NUMBER - 1, &stats(2, 900)),
        message(RTM_NEWSTATS, NUMBER, &stats(3, u64::MAX - 9)),
        message(NLMSG_DONE, NUMBER, &0_i32.to_ne_bytes()),
    ]
    .concat();
    let refusal = message(NLMSG_ERROR, NUMBER, &i32::MIN.to_ne_bytes());
    MESSAGES.check(&[answer, refusal], |input| {
        let links = found(input);
        assert!(links.len() <= input.len() / HEADER, "{} interfaces", links.len());
        for cut in cuts(input) {
            let before = found(cut);
            assert_eq!(before, links[..before.len().min(links.len())], "what is cut off is no count");
        }
        let _ = all(input, NUMBER).map_err(|error| error.to_string());
    });
}
