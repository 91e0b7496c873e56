//! What becomes of ports once they run: their links, their health, their end.

use std::time::Instant;

use dpdk::{EthPort, PortSpec};
use net::PortId;
use tracing::{info, warn};

use super::{Filter, Ports};
use crate::run::ward::{Change, Ward};
use crate::worker::Shared;

impl Ports {
    /// The links that have gone up or down since it was last asked.
    pub fn changed_links(&mut self) -> Vec<(PortId, bool)> {
        let mut changed = Vec::new();
        // It would be waited for.
        if self.wards.iter().any(Ward::is_away) {
            return changed;
        }
        let seen = self.infos.iter().zip(&mut self.links);
        for (ward, (info, seen)) in self.wards.iter().zip(seen) {
            let Some(port) = ward.device() else {
                continue;
            };
            let Ok(link) = port.link() else { continue };
            if *seen != Some(link.up) {
                if link.up {
                    info!(port = %info.id, speed_mbps = link.speed_mbps, "link up");
                } else {
                    warn!(port = %info.id, "link down");
                }
                *seen = Some(link.up);
                changed.push((info.id, link.up));
            }
        }
        changed
    }

    /// Looks after the devices: hears what they tell, asks the silent ones if `examine`, and goes on with
    /// restarts. Never waits for those. Gives the ports that are down from now on, and whether the links are
    /// to be looked at.
    pub fn tend(&mut self, workers: &[Shared], examine: bool) -> (Vec<(PortId, bool)>, bool) {
        let now = Instant::now();
        let (mut changed, mut look) = (Vec::new(), false);
        let away = self.wards.iter().any(Ward::is_away);
        let ports = self.wards.iter_mut().zip(&mut self.filters);
        for ((ward, filter), (info, link)) in ports.zip(self.infos.iter().zip(&mut self.links)) {
            let mut changes = [Change::default(), ward.tend(workers, now)];
            if examine && !away {
                changes[0] = ward.examine(now);
            }
            for change in changes {
                look |= change.look;
                if change.fresh {
                    *filter = Filter::default();
                    self.followed = None;
                }
                if change.down && *link != Some(false) {
                    *link = Some(false);
                    changed.push((info.id, false));
                }
            }
        }
        (changed, look)
    }

    /// Stops and closes the ports, and says if a buffer is missing.
    pub fn close(self) {
        let Self {
            wards, pool, eal, ..
        } = self;
        let devices: Vec<EthPort> = wards.into_iter().filter_map(Ward::into_device).collect();
        let lost: u32 = devices.iter().map(lost_mbufs).sum();
        for mut port in devices {
            if let Err(error) = port.stop() {
                warn!(%error, "port not stopped");
            }
        }
        let missing = pool.in_use();
        if missing == 0 {
            info!("every buffer is back in its pool");
        } else if missing <= lost {
            info!(
                lent = missing,
                "every buffer is back in its pool but those lent to the kernel, which the driver \
                 net_af_xdp does not take back"
            );
        } else {
            warn!(missing, "buffers are missing from the pool");
        }
        drop(pool);
        drop(eal);
    }
}

/// Buffers a port may keep when it closes, which is a shortcoming of one driver.
fn lost_mbufs(port: &EthPort) -> u32 {
    let spec = port.device().spec();
    match spec {
        // The fill ring is lent out whole before the first frame, and as much again on the way.
        PortSpec::AfXdp(_) => {
            let config = port.config();
            2 * spec.held_mbufs(config.rx_queues, config.rx_desc, config.tx_desc)
        }
        _ => 0,
    }
}
