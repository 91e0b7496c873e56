//! Frames as bytes: header views, packets, flow keys, checksums, addresses and time.
