//! What the fuzz targets check. The workspace's tests compile these files too, and replay every
//! finding under `tests/regressions/<target>/` by name.

pub mod config_documents;
pub mod frames;
#[path = "../../net/tests/frames/opinions.rs"]
mod opinions;
pub mod pipeline_history;
pub mod pipeline_packets;
