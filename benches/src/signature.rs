//! Question: what does the signature of a delivery cost?
//!
//! Both sides create the `webhook-signature` header of Standard Webhooks v1 from an id, a time stamp and a body, with the key
//! decoded outside of the loop. The other side is the reference library for Rust; both return an owned string.

use std::hint::black_box;

use motet_relay::Secret;
use standardwebhooks::Webhook;

use crate::measure::both;
use crate::report::{Case, Cases};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "evt_5f0c9a3be1d7000000000000002a";
const TIMESTAMP: i64 = 1_700_000_000;

pub(crate) fn run(cases: &mut Cases) {
    let ours = Secret::parse(SECRET).expect("a valid secret");
    let rival = Webhook::new(SECRET).expect("a valid secret");
    for (case, size) in [("sign 300 B", 300), ("sign 4 KiB", 4 << 10), ("sign 256 KiB", 256 << 10)] {
        let body = vec![b'x'; size];
        let reference = rival.sign(ID, TIMESTAMP, &body).expect("a signature");
        assert_eq!(ours.sign(ID, TIMESTAMP, &body), reference, "the two sides do not do the same");
        let (ours, rival) = both(
            || {
                black_box(ours.sign(black_box(ID), TIMESTAMP, black_box(&body)));
            },
            || {
                black_box(rival.sign(black_box(ID), TIMESTAMP, black_box(&body)).expect("a signature"));
            },
        );
        cases.push(Case::new(case.to_owned(), "standardwebhooks", ours, rival));
    }
}
