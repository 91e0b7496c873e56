//! Configuration from anyone: files and the socket's stream. Whatever comes is answered.

use config::watch::{Hub, Output, Session};
use config::{Limits, document};

/// The input is a file of documents, and also the bytes that a feeder sends; its first octet says in
/// pieces of which length.
pub fn check(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(bytes) {
        let documents = document::read_text("input", text);
        let (store, _) = document::load(&documents, Limits::default());
        // Total, whichever replica this is, and the same each time.
        for replica in [0, 1] {
            let (config, states) = config::resolve(&store, replica);
            let (again, states_again) = config::resolve(&store, replica);
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            assert_eq!(format!("{states:?}"), format!("{states_again:?}"));
            assert!(states.len() <= documents.len());
        }
    }
    let whole = fed(bytes, bytes.len().max(1));
    let pieces = fed(bytes, usize::from(*first).max(1));
    assert_eq!(whole, pieces, "how a stream is cut must not matter");
}

/// What is answered to a stream that comes in pieces of this length.
fn fed(bytes: &[u8], length: usize) -> Vec<String> {
    let mut hub = Hub::new(Limits::default());
    let mut session: Session = hub.open();
    let mut out: Vec<Output> = Vec::new();
    for piece in bytes.chunks(length) {
        session.feed(&mut hub, piece, &mut out);
    }
    session.finish(&mut hub, &mut out);
    hub.close(&session);
    let (_, states) = config::resolve(hub.store(), 0);
    hub.publish(states);
    out.iter().map(|output| format!("{output:?}")).collect()
}
