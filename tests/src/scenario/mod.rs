//! Scenarios: what comes in, and all that follows from it, as text.
//!
//! A scenario is a file of commands, each followed by indented lines that say everything tmm did
//! because of it: every frame that left and every counter that changed. What is not said did not
//! happen. The commands are played to a whole tmm in memory; the test fails where the lines differ.
//!
//! ```text
//! > 1.1 100 client>tmm1 tcp 192.0.2.7:40000>203.0.113.10:80 S seq=100
//!   = forwarded opened by 1.2
//!   1.2 200 tmm2>b1 tcp 192.0.2.7:40000>198.51.100.11:8080 S seq=100 ttl=63
//!   + port 1.1 rx 1/58
//!   + port 1.2 tx 1/58
//!   + flows 1, flows_opened_total 1, forwarded.opened 1
//! ```
//!
//! | command | means |
//! |---|---|
//! | `rig flows=4 replica=1 ports=3 stripe=1024-1025 seed=2` | how tmm is started; before all others |
//! | `rig straight=no` | every packet goes the long way |
//! | `rig icmp=1` | ICMP errors of our own a second, at most |
//! | `rig workers=4 nic=turns` | several workers, and how ports spread frames over them: `tuple`, `source`, `destination`, `turns`, `one-queue` |
//! | `use FILE` | plays the commands of `FILE.scn` beside this one, unseen |
//! | `apply OBJECT`, `delete OBJECT` | see [`objects`](object); taken with the next frame or wait |
//! | `publish` | takes what was applied |
//! | `> FRAME` | a frame arrives |
//! | `>> FRAME` | a frame arrives, but nothing happens before the next `>` or `go` |
//! | `wait 1.5s` | time passes |
//! | `station NAME PORT TAGS ADDRESS…` | answers ARP and neighbour discovery by itself from now on |
//! | `gone NAME` | no longer does |
//! | `txroom PORT N` | the port takes N more frames; `txroom PORT` any number |
//! | `join PORT PORT…` | these ports are in one segment from now on: what is sent to all is heard at all of them |
//! | `link PORT up`, `link PORT down` | what the device says of its link |
//! | `drain 30s`, `drained` | tmm is to stop when its flows have ended; how far that is |
//! | `flows`, `neighbors`, `segments`, `states`, `health`, `snat` | shows the flow table, the neighbours, which ports are in one segment, how far objects have come, what probes are told, SNAT pools |
//!
//! Fragments: `udp … len=3000 frag=0+1480 fid=7` is part of what stands before, `piece` a later one by itself
//! (see `fragments.rs`); `nodf` is a whole IPv4 packet that may be cut.
//! An SCTP packet is written `sctp SOURCE>DESTINATION tag=9 COOKIE-ECHO:data=0505 DATA:len=20`: its
//! verification tag, then its chunks, each with what follows its length: for INIT and INIT-ACK `init=` the
//! initiate tag. A chunk with `:T` has the T bit; `:cut` announces more than there is. `badsum` and `nosum`
//! as for UDP.
//!
//! Frames have one notation in both directions: port, tags (`-` none, `100`, `s300.100` in a service
//! tag, `~100` taken out by the device), stations, packet. What an ICMP error quotes is a packet, too, the last
//! `cut=` octets of which may be missing:
//!
//! ```text
//! > 1.2 200 gw>tmm2 icmp 10.0.0.1>192.0.2.7 type=3 code=4 mtu=1400 quotes tcp 192.0.2.7:40000>198.51.100.11:80 . ack=1 len=1400
//! ```
//!
//! TCP options are `opt=` and their octets in hexadecimal: `opt=020405b4` is an MSS of 1460, `opt=01030307` a window scale of 7.
#![allow(
    clippy::indexing_slicing,
    clippy::format_push_string,
    reason = "a wrong scenario fails its test"
)]

mod decode;
mod fragments;
mod names;
mod objects;
mod play;
mod report;
mod sctp;
mod truth;
mod wire;

pub use decode::frame as describe;
pub use objects::object;
pub use play::{Played, Stage, play};
pub use truth::falsehood;
pub use wire::frame;

/// `len` octets that tell their place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(len).collect()
}
