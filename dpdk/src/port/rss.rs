//! How a device spreads flows over its receive queues.

use dpdk_sys as sys;

use super::{EthPort, PortConfig, RSS_KEY_LEN, RssTable};
use crate::device::DeviceInfo;
use crate::error::Error;
use crate::offload::Rss;

/// The longest key a device may have, and the longest table.
const KEY_MAX: usize = u8::MAX as usize;
const TABLE_MAX: usize = TABLE_MAX_C as usize;
const TABLE_MAX_C: u32 = 4096;

/// The key as the device takes it: of its length. What is behind the 40 octets hashes nothing. `None`
/// for a device that hashes nothing, or has another kind of key.
pub(super) fn device_key(config: &PortConfig, info: &DeviceInfo, rss_hf: u64) -> Option<Vec<u8>> {
    let table = config.rss_table.as_ref().filter(|_| rss_hf != 0)?;
    let len = usize::from(info.rss_key_len);
    (len >= RSS_KEY_LEN).then(|| {
        let mut key = table.key.to_vec();
        key.resize(len, 0);
        key
    })
}

impl EthPort {
    /// Whether TCP and UDP packets come in by the queue that [`PortConfig::rss_table`] leads them to:
    /// the device hashes addresses and ports, and was seen to have the key and the table.
    pub fn spreads_as_told(&self) -> bool {
        self.spreads_as_told
    }

    /// Tells the started device its table, and sees what became of it and of the key.
    pub(super) fn spread_as_told(&mut self) {
        self.spreads_as_told = false;
        let Some(table) = self.config().rss_table.clone() else {
            return;
        };
        if self.rss() == Rss::None || !table.queues.len().is_power_of_two() {
            return;
        }
        let id = self.id();
        let count = u32::try_from(table.queues.len()).unwrap_or(0);
        let told = self.best_effort("setting the table of queues", || {
            // SAFETY: the port exists; `count` integers in.
            unsafe { sys::shim_reta_set(id, table.queues.as_ptr(), count) }
        });
        if let Err(error) = told {
            tracing::debug!(%error, "the device spreads flows in its own way");
            return;
        }
        let mut has_key = self.has_key(&table);
        if !has_key {
            // Some drivers take a key only now, and do not say how long theirs is.
            let rss_hf = self.rss().on_device(self.info().rss_capa).1;
            let key = device_key(self.config(), self.info(), rss_hf);
            let key = key.unwrap_or_else(|| table.key.to_vec());
            let len = u8::try_from(key.len()).unwrap_or(u8::MAX);
            let told = self.best_effort("setting the key of the hash", || {
                // SAFETY: the port exists; the key has `len` octets, and at least as many as any
                // driver reads that does not say how many.
                unsafe { sys::shim_rss_update(id, rss_hf, key.as_ptr(), len) }
            });
            has_key = told.is_ok() && self.has_key(&table);
        }
        let has_table = self.has_table(&table);
        let capable = self.info().rss_capa;
        let hashes_ports =
            self.rss() == Rss::FiveTuple && capable & sys::SHIM_RSS_TUPLES == sys::SHIM_RSS_TUPLES;
        tracing::debug!(
            port = %self.device().spec(), has_key, has_table, hashes_ports, "spreading of flows"
        );
        self.spreads_as_told = has_key && has_table && hashes_ports;
    }

    fn has_key(&self, table: &RssTable) -> bool {
        let mut key = [0u8; KEY_MAX];
        // SAFETY: the port exists; the length is that of the buffer.
        let read = unsafe { sys::shim_rss_key(self.id(), key.as_mut_ptr(), u8::MAX) };
        read == 0 && key.starts_with(&table.key)
    }

    fn has_table(&self, table: &RssTable) -> bool {
        let mut queues = [0u16; TABLE_MAX];
        // SAFETY: the port exists; the length is that of the buffer.
        let places = unsafe { sys::shim_reta_get(self.id(), queues.as_mut_ptr(), TABLE_MAX_C) };
        let places = usize::try_from(places).unwrap_or(0);
        let Some(queues) = queues.get(..places) else {
            return false;
        };
        let told = |hash: usize| table.queues.get(hash % table.queues.len());
        places.is_power_of_two()
            && (0..places.max(table.queues.len()))
                .all(|hash| told(hash) == queues.get(hash % places))
    }

    /// Has the device hash something else from now on, as far as it can. Returns what it hashes then.
    ///
    /// # Errors
    /// [`Error::Port`] when the device refuses.
    pub fn set_rss(&mut self, rss: Rss) -> Result<Rss, Error> {
        if self.config().rx_queues < 2 || self.rss() == Rss::None {
            return Ok(Rss::None);
        }
        let (on_device, rss_hf) = rss.on_device(self.info().rss_capa);
        if on_device == self.rss() {
            return Ok(on_device);
        }
        let id = self.id();
        self.device().call("changing what is hashed", || {
            // SAFETY: the port exists; there is no key to read.
            unsafe { sys::shim_rss_update(id, rss_hf, std::ptr::null(), 0) }
        })?;
        self.rss = on_device;
        self.spread_as_told();
        Ok(on_device)
    }
}
