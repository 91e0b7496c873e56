//! The flow table, protocol state, timers, and the translation of a tracked packet.
