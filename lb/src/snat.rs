//! Which source ports a worker may translate to.
//!
//! A port is leased exactly while the reply tuple that it is part of is in the worker's flow table:
//! the table is the lease, so there is none to leak. What is decided here is only which ports a
//! worker may try, in which order, and how many; the caller asks its table whether a tuple is free.
//!
//! Which worker the replies to a port come to is decided by [`toeplitz`](crate::toeplitz): several
//! workers draw from the whole range, and each takes a port whose replies hash to it (see
//! [`PortStripe::candidates_that`]). A range may also be divided by `port % workers`, for who has no
//! such hash; `tmm run` does not. As only the tuple with the
//! server's address and port has to be unique, one port serves many servers at once.

use net::L4Port;
use thiserror::Error;

/// The most ports tried for one flow. With nine tenths of the stripe taken towards one server,
/// a flow in a thousand fails; the tries are bounded, or a scan of a full stripe would stall the
/// worker.
pub const MAX_TRIES: u32 = 64;

/// The most ports looked at for one flow when only some of them are fit to be tried: enough for one
/// in 64 to give a good choice.
pub const MAX_SCANNED: u32 = 4096;

/// Why there is no stripe for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StripeError {
    /// The worker's number is not below the number of workers.
    #[error("worker {worker} of {workers} does not exist")]
    NoSuchWorker {
        /// Its number.
        worker: u16,
        /// How many there are.
        workers: u16,
    },
    /// No port of the range falls to the worker.
    #[error("ports {first}-{last} are too few for {workers} workers")]
    TooFewPorts {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
        /// How many workers there are.
        workers: u16,
    },
}

/// The source ports that one worker may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortStripe {
    worker: u16,
    workers: u16,
    first: u16,
    last: u16,
    /// The lowest port of the stripe.
    lowest: u16,
    /// How many ports the stripe has.
    len: u32,
    /// Coprime to `len`: steps of it visit the whole stripe.
    step: u32,
}

impl PortStripe {
    /// The stripe of worker number `worker` (from 0) of `workers` in the ports `first..=last`, often
    /// 1024 and 65535.
    pub fn new(worker: u16, workers: u16, first: u16, last: u16) -> Result<Self, StripeError> {
        if worker >= workers {
            return Err(StripeError::NoSuchWorker { worker, workers });
        }
        let too_few = StripeError::TooFewPorts {
            first,
            last,
            workers,
        };
        let (modulus, residue) = (u32::from(workers), u32::from(worker));
        let above = (residue + modulus - u32::from(first) % modulus) % modulus;
        let lowest = u16::try_from(u32::from(first) + above).map_err(|_| too_few)?;
        let span = last.checked_sub(lowest).ok_or(too_few)?;
        let len = u32::from(span) / modulus + 1;
        Ok(Self {
            worker,
            workers,
            first,
            last,
            lowest,
            len,
            step: coprime_step(len),
        })
    }

    /// The stripe of a worker that is alone: ports 1024 to 65535.
    pub fn whole() -> Self {
        let len = 65_535 - 1024 + 1;
        Self {
            worker: 0,
            workers: 1,
            first: 1024,
            last: 65_535,
            lowest: 1024,
            len,
            step: coprime_step(len),
        }
    }

    /// The worker this is the stripe of.
    pub const fn worker(&self) -> u16 {
        self.worker
    }

    /// How many ports the stripe has: at least 1, at most 65,536.
    #[expect(clippy::len_without_is_empty, reason = "a stripe is never empty")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// The worker whose stripe `port` lies in; `None` outside the range of all stripes.
    #[inline]
    pub const fn owner(&self, port: L4Port) -> Option<u16> {
        if port.0 >= self.first && port.0 <= self.last {
            Some(port.0 % self.workers)
        } else {
            None
        }
    }

    /// Whether this worker may use `port`.
    #[inline]
    pub fn contains(&self, port: L4Port) -> bool {
        // Who is alone need not divide.
        port.0 >= self.first
            && port.0 <= self.last
            && (self.workers == 1 || port.0 % self.workers == self.worker)
    }

    /// As [`candidates`](Self::candidates), but only ports that `fits` accepts: those whose replies
    /// come back to this worker, say. Up to [`MAX_SCANNED`] ports are shown to it.
    #[inline]
    pub fn candidates_that(
        &self,
        preferred: L4Port,
        start: u32,
        fits: impl FnMut(&L4Port) -> bool,
    ) -> impl Iterator<Item = L4Port> {
        let all = Candidates {
            tries: MAX_SCANNED.min(self.len),
            ..self.candidates(preferred, start)
        };
        all.filter(fits).take(MAX_TRIES as usize)
    }

    /// The ports to try for a flow, no port twice, at most [`MAX_TRIES`]: the client's own if it
    /// lies in the stripe, then ports all over the stripe from a place that `start`, a random
    /// number, gives (RFC 6056 section 3.3: a port should not be guessable).
    #[inline]
    pub fn candidates(&self, preferred: L4Port, start: u32) -> Candidates {
        let kept = self.contains(preferred).then_some(preferred.0);
        Candidates {
            stripe: *self,
            kept,
            at: start,
            tries: MAX_TRIES.min(self.len),
            begun: false,
        }
    }
}

/// The ports to try for one flow; see [`PortStripe::candidates`].
#[derive(Clone, Debug)]
pub struct Candidates {
    stripe: PortStripe,
    /// The client's own port, if it lies in the stripe.
    kept: Option<u16>,
    /// The place in the stripe of the next one; of the first, any number that leads to it.
    at: u32,
    tries: u32,
    begun: bool,
}

impl Iterator for Candidates {
    type Item = L4Port;

    #[inline]
    fn next(&mut self) -> Option<L4Port> {
        self.tries = self.tries.checked_sub(1)?;
        if !self.begun {
            self.begun = true;
            if let Some(port) = self.kept {
                return Some(L4Port(port));
            }
        }
        if self.at >= self.stripe.len {
            self.at %= self.stripe.len;
        }
        loop {
            let offset = self.at * u32::from(self.stripe.workers);
            self.at += self.stripe.step;
            if self.at >= self.stripe.len {
                self.at -= self.stripe.len;
            }
            let port = u16::try_from(u32::from(self.stripe.lowest) + offset).ok()?;
            // Met once at most: the client's own port has been given already.
            if Some(port) != self.kept {
                return Some(L4Port(port));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.tries as usize, Some(self.tries as usize))
    }
}

impl ExactSizeIterator for Candidates {}

/// A number coprime to `len` near the golden section of it: multiples of it are spread evenly
/// however many are taken.
fn coprime_step(len: u32) -> u32 {
    // 40,503 / 65,536; `len` is at most 65,536, so the product fits.
    let golden = (len * 40_503) >> 16;
    (golden.max(1)..=len)
        .find(|step| gcd(*step, len) == 1)
        .unwrap_or(1)
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
