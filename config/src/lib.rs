//! The custom resources, their validation, and the watch-event protocol of the config socket.
