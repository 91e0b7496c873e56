//! Calls from the port of a connection that is still tracked.

use conntrack::Direction::{Original, Reply};
use conntrack::Invalid;
use conntrack::State::{Closed, Established, FinWait, LastAck, SynReceived, SynSent, TimeWait};

use crate::Then::{Bad, Go, Reopen};
use crate::{CLOSE, HANDSHAKE, Step, run, run_after};

#[test]
fn after_time_wait_only_a_newer_syn_reopens() {
    run_after(
        &[&HANDSHAKE, &CLOSE],
        &[
            (Original, "S", 1000, 0, 0, Go(TimeWait)),
            (Original, "S", 1001, 0, 0, Go(TimeWait)),
            (Reply, "S", 9001, 0, 0, Go(TimeWait)),
            (Reply, "S", 9002, 0, 0, Reopen),
            (Reply, "SA", 9000, 1001, 0, Go(TimeWait)),
            (Reply, "SA", 9000, 1003, 0, Go(TimeWait)),
            (Reply, "R", 9002, 0, 0, Go(TimeWait)), // RFC 1337: no assassination
            (Original, "S", 1002, 0, 0, Reopen),
            (Original, "S", 70_000, 0, 0, Reopen),
        ],
    );
}

#[test]
fn a_client_that_meets_an_older_connection_of_the_server_gets_through() {
    // RFC 9293 section 3.5.1, figure 9: the server acknowledges what it remembers, the client
    // resets that, and its next SYN is taken.
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Reply, "A", 5000, 777, 0, Go(SynSent)),
        (Original, "R", 778, 0, 0, Bad(Invalid::BadReset)),
        (Original, "R", 777, 0, 0, Go(SynSent)),
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Reply, "SA", 9000, 1001, 0, Go(SynReceived)),
        (Original, "A", 1001, 9001, 0, Go(Established)),
    ]);
}

#[test]
fn a_client_that_crashed_may_connect_again_from_the_same_port() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "S", 40_000, 0, 0, Go(Established)),
            (Reply, "A", 9001, 1001, 0, Go(Established)), // "I know you as 1001"
            (Original, "R", 1001, 0, 0, Go(Closed)),
            (Original, "S", 40_000, 0, 0, Reopen),
        ],
    );
}

#[test]
fn a_server_that_crashed_may_take_a_new_connection_of_the_same_client() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "S", 400, 0, 0, Go(Established)),
            (Reply, "SA", 600, 402, 0, Go(Established)), // not its answer
            (Reply, "SA", 600, 401, 0, Go(SynReceived)),
            (Original, "A", 401, 601, 0, Go(Established)),
            (Original, "FA", 401, 601, 0, Go(FinWait)),
            (Reply, "FA", 601, 402, 0, Go(LastAck)),
            (Original, "A", 402, 602, 0, Go(TimeWait)),
        ],
    );
}

#[test]
fn a_handshake_that_comes_late_once_more_begins_nothing_anew() {
    // The numbers have gone on by more than a window since.
    let moved: Vec<Step> = (0..10)
        .flat_map(|n| {
            let (seq, next) = (1001 + n * 30_000, 1001 + (n + 1) * 30_000);
            [
                (Original, "PA", seq, 9001, 30_000, Go(Established)),
                (Reply, "A", 9001, next, 0, Go(Established)),
            ]
        })
        .collect();
    let late = [
        (Original, "S", 1000, 0, 0, Go(Established)),
        (Reply, "SA", 9000, 1001, 0, Go(Established)),
        (Original, "PA", 301_001, 9001, 30_000, Go(Established)),
        (Reply, "A", 9001, 331_001, 0, Go(Established)),
        // Another number is another matter.
        (Original, "S", 77, 0, 0, Go(Established)),
        (Reply, "SA", 500, 78, 0, Go(SynReceived)),
        (Original, "A", 78, 501, 0, Go(Established)),
        (Original, "S", 77, 0, 0, Go(Established)),
        (Reply, "SA", 500, 78, 0, Go(Established)),
    ];
    run_after(&[&HANDSHAKE, &moved], &late);
}

// case LNX-006: the server answers an earlier call, or refuses all
#[test]
fn whoever_calls_anew_may_reset_an_earlier_call_and_be_refused() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "R", 500_001, 0, 0, Bad(Invalid::OutOfWindow)),
            (Reply, "RA", 800_000, 500_001, 0, Bad(Invalid::OutOfWindow)),
            (Original, "S", 500_000, 0, 0, Go(Established)),
            (Original, "S", 600_000, 0, 0, Go(Established)),
            (Reply, "SA", 400, 500_001, 0, Go(Established)),
            (Original, "R", 500_001, 0, 0, Go(Established)),
            (Reply, "RA", 800_000, 500_001, 0, Bad(Invalid::OutOfWindow)),
            (Reply, "RA", 800_000, 600_001, 0, Go(Established)),
            (Reply, "R", 800_000, 0, 0, Bad(Invalid::OutOfWindow)),
            // It was all made up: the connection lives.
            (Original, "PA", 1001, 9001, 10, Go(Established)),
            (Reply, "PA", 9001, 1011, 10, Go(Established)),
        ],
    );
}

#[test]
fn a_client_may_begin_anew_while_opening() {
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Original, "S", 2000, 0, 0, Go(SynSent)),
        (Reply, "SA", 9000, 1001, 0, Go(SynSent)),
        (Reply, "SA", 9000, 2001, 0, Go(SynReceived)),
    ]);
}
