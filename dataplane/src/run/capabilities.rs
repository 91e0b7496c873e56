//! Making use of the capabilities that the container or a file gave.
//!
//! A process that is not root gets capabilities by those of its file, within what its container allows. If the
//! file made them effective, the kernel would refuse to start it wherever one of them is not allowed; so
//! the file only permits them, and they are raised here.

use caps::{CapSet, CapsHashSet};

/// Makes everything effective that is permitted. What is missing is told by whoever needs it.
pub fn raise() {
    let Ok(permitted) = caps::read(None, CapSet::Permitted) else {
        return;
    };
    let raised = caps::read(None, CapSet::Effective)
        .is_ok_and(|effective: CapsHashSet| effective.is_superset(&permitted));
    if !raised && let Err(error) = caps::set(None, CapSet::Effective, &permitted) {
        // Before logging is set up: whoever misses a capability will name it.
        let _ = error;
    }
}
